"""Segmentation strip by strip, equal to the segmentation of the whole web at once."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from edge.core.errors import ConfigError
from edge.core.types import F32, ClassMap, Surface
from edge.segmentation.backend import Backend
from edge.segmentation.gate import Bools, Gate
from edge.segmentation.model import ModelInfo
from edge.segmentation.network import GoingOn, WindowNetwork
from edge.segmentation.surface_channels import write_channels
from edge.segmentation.windows import CELL, Window, cover_axis, padded_length, plan_axis

GATED_CELLS = (3, 4)
"""Sides of what a window keeps where the network looks only here and there: one or two cells and those around them."""


class Decision(NamedTuple):
    """What the network was shown and what came of it: `planes` (channels, h, w) f32; the `windows` (rows, columns) that
    show it all of them; `keep`: which rows of them `class_map` is of; `unseen` (rows,): those nobody inspected."""

    planes: F32
    windows: list[tuple[Window, Window]]
    keep: slice
    unseen: Bools
    class_map: ClassMap


class Segmenter:
    """Turns surfaces of any number of rows into class maps that together cover the same rows once, in order.

    The network runs on windows of `strip_rows + 2 halo` rows by at most `window_width` columns (the end of a short roll
    has a shape of its own); what it needs of earlier rows is carried over. The web counts as padded to the
    model's grid by repeating its last column and, at the end of the roll, its last row. Class maps lag behind surfaces
    by up to `strip_rows + halo` rows until `finish`. Memory: `2 strip_rows + 2 halo` rows. Raises ConfigError
    where the window leaves nothing between two halos or is off the model's grid.

    Where the backend can, strips that follow each other do not have their halos looked at again, see `GoingOn`.

    With a `gate` (see `open_gate`) the network sees only the cells that it lets through: strip by strip in windows of
    that shape, of three small ones and the large one, of which there is least to compute; each is tried once when the
    segmenter is made, so that it is compiled by then. Pixels in those cells are what they are without the gate; all
    others are background of score 0, counted in `passed_over_px`.

    Class maps lie in memory of their own, or in `out` where it is given: made by `empty_map`, overwritten whenever
    it is given again. Then no more than `strip_rows` rows may be pushed at a time, which make one class map at most.

    `network` is at work; `beside`, where set, is shown every decision on web that was inspected, in memory that is soon
    overwritten.
    """

    def __init__(
        self,
        backend: Backend,
        info: ModelInfo,
        width: int,
        strip_rows: int,
        window_width: int,
        gate: Gate | None = None,
    ) -> None:
        check_windows(info, strip_rows, window_width)
        self.beside: Callable[[Decision], None] | None = None
        self._info = info
        self._width = width
        self._strip_rows = strip_rows
        self._window_rows = strip_rows + 2 * info.halo
        padded_width = padded_length(width, info.grid)
        self._columns = plan_axis(padded_width, window_width, info.halo, info.grid)
        kept_rows = self._window_rows + strip_rows
        self._planes = np.empty((len(info.channels), kept_rows, padded_width), np.float32)
        self._inspected = np.empty(kept_rows, np.bool_)
        self._gate = gate
        self._large = (self._window_rows, min(padded_width, window_width))
        self._small = _small_shapes(info, strip_rows, self._large) if gate is not None else []
        self.network = self._network_of(backend)
        if gate is not None:
            self.network.warm_up()
        self._begin()

    def _begin(self) -> None:
        self._origin: int | None = None  # web row of the first row pushed, from where the next three are counted
        self._top = 0  # row of _planes[:, 0]
        self._filled = 0  # rows received
        self._done = 0  # rows handed out
        if self._gate is not None:
            self._gate.begin()

    def empty_map(self) -> ClassMap:
        """Memory for any class map there can be."""
        return _empty(self._window_rows, self._width)

    @property
    def next_row(self) -> int:
        """The web row that the next class map begins with."""
        return (self._origin or 0) + self._done

    def misfit(self, info: ModelInfo) -> str | None:
        """Why a model cannot take the place of the one at work: None where it can. Windows and stored web stay: it must
        want the same of them, or less."""
        for what in ("classes", "channels"):
            ours, theirs = getattr(self._info, what), getattr(info, what)
            if theirs != ours:
                return f"{what} are {', '.join(theirs)}, those of the model at work {', '.join(ours)}"
        if info.halo > self._info.halo or self._info.grid % info.grid:
            return (
                f"halo {info.halo} and grid {info.grid} do not fit windows for {self._info.halo} and {self._info.grid}"
            )
        if self._gate is not None and info.gate is None:
            return "has learnt no gate, and segmentation.gate is true"
        return None

    def fitted(self, backend: Backend) -> WindowNetwork:
        """A model that has no `misfit`, tried on the windows of this web. From any thread. Raises ModelError."""
        network = self._network_of(backend)
        network.warm_up()
        return network

    def use(self, network: WindowNetwork, info: ModelInfo) -> None:
        """From `next_row` on another model decides; `network` was `fitted`. What it needs of earlier rows is
        stored. Cells that the gate has marked stay marked."""
        self.network = network
        if self._gate is not None and info.gate is not None:
            self._gate.use(info.gate)

    def push(self, surface: Surface, out: ClassMap | None = None) -> list[ClassMap]:
        """Take the next rows of web; give what can be decided by now.

        Raises ValueError for rows that do not follow the last ones, are not as wide as the web or too many for `out`,
        ModelError where the model cannot be executed.
        """
        if out is not None and surface.rows > self._strip_rows:
            raise ValueError(f"{surface.rows} rows at a time, only {self._strip_rows} fit into one class map")
        if self._origin is None:
            self._origin = surface.first_row
        if surface.first_row != self._origin + self._filled or surface.albedo.shape[1] != self._width:
            raise ValueError(
                f"surface of {surface.albedo.shape[1]} columns at row {surface.first_row}, "
                f"expected {self._width} at row {self._origin + self._filled}"
            )
        maps: list[ClassMap] = []
        taken = 0
        while taken < surface.rows:
            start = self._window_start()
            rows = min(surface.rows - taken, start + self._window_rows - self._filled)
            self._store(surface, slice(taken, taken + rows))
            taken += rows
            if self._filled == start + self._window_rows:
                maps.append(self._decide(start, self._filled, self._filled - self._info.halo, out))
                self._forget(start)
        return maps

    def finish(self, out: ClassMap | None = None) -> list[ClassMap]:
        """The roll has ended: give the rows still open. What is pushed next begins another roll."""
        maps: list[ClassMap] = []
        if self._done < self._filled:
            stop = padded_length(self._filled, self._info.grid)
            last = self._filled - self._top
            self._planes[:, last : stop - self._top] = self._planes[:, last - 1 : last]
            maps.append(self._decide(max(stop - self._window_rows, 0), stop, self._filled, out))
        self._begin()
        return maps

    def _network_of(self, backend: Backend) -> WindowNetwork:
        channels = len(self._info.channels)
        going_on = GoingOn.of(backend, channels, self._columns, self._strip_rows, self._info.halo)
        return WindowNetwork(backend, channels, (*self._small, self._large), going_on)

    def _window_start(self) -> int:
        return max(self._done - self._info.halo, 0)

    def _store(self, surface: Surface, rows: slice) -> None:
        to = slice(self._filled - self._top, self._filled - self._top + rows.stop - rows.start)
        write_channels(surface, self._info.channels, rows, self._planes[:, to])
        self._inspected[to] = surface.valid[rows].any(axis=1)
        self._filled += rows.stop - rows.start

    def _decide(self, start: int, stop: int, keep_stop: int, out: ClassMap | None) -> ClassMap:
        """Run the network on rows [start, stop) and hand out those from the last handed out to `keep_stop`."""
        here = slice(start - self._top, stop - self._top)
        keep = slice(self._done - start, keep_stop - start)
        rows = keep_stop - self._done
        memory = _empty(rows, self._width) if out is None else out
        class_map = _first_rows(memory, rows, (self._origin or 0) + self._done)
        unseen = ~self._inspected[here][keep]
        if self._gate is not None:
            self._gate.take(self._planes, self._top, self._inspected, self._filled, is_end=keep_stop == self._filled)
            self._run_gated(self._gate, here, keep, class_map)
        elif not unseen.all():
            self.network.decide_next(self._planes[:, here], self._large_windows(here), keep, class_map)
        class_map.class_index[unseen] = 0
        class_map.score[unseen] = 0
        class_map.passed_over_px[unseen] = 0
        self._done = keep_stop
        if self.beside is not None and not unseen.all():
            self.beside(Decision(self._planes[:, here], self._large_windows(here), keep, unseen, class_map))
        return class_map

    def _run_gated(self, gate: Gate, here: slice, keep: slice, class_map: ClassMap) -> None:
        """Decide what the gate lets through; all else becomes background."""
        first = self._done // CELL
        cells = gate.looked_at(first, -(-(self._done + class_map.rows) // CELL))
        plans = [list(self._small_windows(shape, cells, first, here, keep)) for shape in self._small]
        least, planes = min(plans, key=_area), self._planes[:, here]
        across = sum(column.stop - column.start for column in self._columns)
        if _area(least) < across * self.network.rows_of_next(planes, keep, class_map):
            self.network.decide(planes, least, keep, class_map)
        else:
            self.network.decide_next(planes, self._large_windows(here), keep, class_map)
        for row, looked in enumerate(cells, start=first):
            rows = slice(max(row * CELL - self._done, 0), (row + 1) * CELL - self._done)
            columns = np.repeat(looked, CELL)[: self._width]
            class_map.class_index[rows] *= columns
            class_map.score[rows] *= columns
            class_map.passed_over_px[rows] = self._width - int(columns.sum())

    def _large_windows(self, here: slice) -> list[tuple[Window, Window]]:
        rows = here.stop - here.start
        return [(Window(0, rows, 0, rows), column) for column in self._columns]

    def _small_windows(
        self, shape: tuple[int, int], cells: Bools, first: int, here: slice, keep: slice
    ) -> Iterator[tuple[Window, Window]]:
        """Rows, counted from `here`, and columns of windows over marked cells, `first` the row of the topmost."""
        (high, wide), halo, grid = shape, self._info.halo, self._info.grid
        begin = first * CELL - self._top - here.start  # of the topmost cells
        kept, length = (keep.start, keep.stop), here.stop - here.start
        for rows in cover_axis(np.logical_or.reduce(cells, axis=1), kept, begin, length, high, halo, grid):
            top, bottom = max(rows.keep_start, keep.start), min(rows.keep_stop, keep.stop)
            band = np.logical_or.reduce(cells[(top - begin) // CELL : -(-(bottom - begin) // CELL)])
            for columns in cover_axis(band, (0, self._width), 0, self._planes.shape[2], wide, halo, grid):
                yield rows, columns

    def _forget(self, start: int) -> None:
        """Drop rows above `start`: the last window of the roll may be shifted back as far as that."""
        dropped, rows = start - self._top, self._filled - start
        for row in range(0, rows if dropped else 0, dropped or 1):
            to = slice(row, min(row + dropped, rows))  # pieces do not overlap where they come from: no copy in between
            source = slice(to.start + dropped, to.stop + dropped)
            for plane in self._planes:
                plane[to] = plane[source]
            self._inspected[to] = self._inspected[source]
        self._top = start


def open_gate(info: ModelInfo, width: int, strip_rows: int) -> Gate:
    """The gate for a `Segmenter` of this width and strip. Raises ConfigError where the model has none."""
    return Gate(info, width, 2 * (strip_rows + info.halo))


def _small_shapes(info: ModelInfo, strip_rows: int, largest: tuple[int, int]) -> list[tuple[int, int]]:
    """Rows and columns of windows for a spot, for a larger one, and for what runs along the web."""
    spot, larger = (padded_length(cells * CELL, info.grid) for cells in GATED_CELLS)
    rim, (rows, columns) = 2 * info.halo, largest
    kept = ((spot, spot), (larger, larger), (strip_rows, spot))
    return [(min(high + rim, rows), min(wide + rim, columns)) for high, wide in kept]


def _area(windows: list[tuple[Window, Window]]) -> int:
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows)


def _first_rows(memory: ClassMap, rows: int, first_row: int) -> ClassMap:
    return ClassMap(memory.class_index[:rows], memory.score[:rows], first_row, memory.passed_over_px[:rows])


def _empty(rows: int, width: int) -> ClassMap:
    planes = np.empty((2, rows, width), np.uint8)
    return ClassMap(planes[0], planes[1], 0, np.zeros(rows, np.int32))


def check_windows(info: ModelInfo, strip_rows: int, window_width: int) -> None:
    """Raises ConfigError where windows are off the model's grid or leave nothing between two halos."""
    if strip_rows % info.grid or window_width % info.grid:
        raise ConfigError(
            f"assembly.strip_rows {strip_rows} and segmentation.window_width_px {window_width} "
            f"must be multiples of the model's grid, {info.grid}"
        )
    if window_width <= 2 * info.halo:
        raise ConfigError(
            f"segmentation.window_width_px is {window_width}: the model needs more than two halos, {2 * info.halo}"
        )
