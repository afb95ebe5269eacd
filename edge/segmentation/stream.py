"""Segmentation strip by strip, equal to the segmentation of the whole web at once."""

import numpy as np

from edge.core.errors import ConfigError
from edge.core.types import ClassMap, Surface
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelInfo
from edge.segmentation.surface_channels import write_channels
from edge.segmentation.windows import padded_length, plan_axis


class Segmenter:
    """Turns surfaces of any number of rows into class maps that together cover the same rows once, in order.

    The network runs on windows of `strip_rows + 2 halo` rows by at most `window_width` columns (the end of a short roll
    has a shape of its own); what it needs of earlier rows is carried over. The web counts as padded to the
    model's grid by repeating its last column and, at the end of the roll, its last row. Class maps lag behind surfaces
    by up to `strip_rows + halo` rows until `finish`. Memory: `2 strip_rows + 2 halo` rows. Raises ConfigError
    where the window leaves nothing between two halos or is off the model's grid.
    """

    def __init__(self, backend: Backend, info: ModelInfo, width: int, strip_rows: int, window_width: int) -> None:
        _check(info, strip_rows, window_width)
        self._backend = backend
        self._info = info
        self._width = width
        self._strip_rows = strip_rows
        self._window_rows = strip_rows + 2 * info.halo
        padded_width = padded_length(width, info.grid)
        self._columns = plan_axis(padded_width, window_width, info.halo, info.grid)
        kept_rows = self._window_rows + strip_rows
        self._planes = np.empty((len(info.channels), kept_rows, padded_width), np.float32)
        self._inspected = np.empty(kept_rows, np.bool_)
        window_shape = (1, len(info.channels), self._window_rows, min(padded_width, window_width))
        self._input = np.empty(window_shape, np.float32)
        self._begin()

    def _begin(self) -> None:
        self._origin: int | None = None  # web row of the first row pushed, from where the next three are counted
        self._top = 0  # row of _planes[:, 0]
        self._filled = 0  # rows received
        self._done = 0  # rows handed out

    def push(self, surface: Surface) -> list[ClassMap]:
        """Take the next rows of web; give what can be decided by now.

        Raises ValueError for rows that do not follow the last ones or are not as wide as the web, ModelError where the
        model cannot be executed.
        """
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
                maps.append(self._decide(start, self._filled, self._filled - self._info.halo))
                self._forget(start)
        return maps

    def finish(self) -> list[ClassMap]:
        """The roll has ended: give the rows still open. What is pushed next begins another roll."""
        maps: list[ClassMap] = []
        if self._done < self._filled:
            stop = padded_length(self._filled, self._info.grid)
            last = self._filled - self._top
            self._planes[:, last : stop - self._top] = self._planes[:, last - 1 : last]
            maps.append(self._decide(max(stop - self._window_rows, 0), stop, self._filled))
        self._begin()
        return maps

    def _window_start(self) -> int:
        return max(self._done - self._info.halo, 0)

    def _store(self, surface: Surface, rows: slice) -> None:
        to = slice(self._filled - self._top, self._filled - self._top + rows.stop - rows.start)
        write_channels(surface, self._info.channels, rows, self._planes[:, to])
        self._inspected[to] = surface.valid[rows].any(axis=1)
        self._filled += rows.stop - rows.start

    def _decide(self, start: int, stop: int, keep_stop: int) -> ClassMap:
        """Run the network on rows [start, stop) and hand out those from the last handed out to `keep_stop`."""
        here = slice(start - self._top, stop - self._top)
        keep = slice(self._done - start, keep_stop - start)
        shape = (keep_stop - self._done, self._width)
        first_row = (self._origin or 0) + self._done
        unseen = ~self._inspected[here][keep]
        if unseen.all():
            self._done = keep_stop
            return ClassMap(class_index=np.zeros(shape, np.uint8), score=np.zeros(shape, np.uint8), first_row=first_row)
        class_index, score = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
        window = self._input if stop - start == self._window_rows else np.empty_like(self._input[:, :, : stop - start])
        for column in self._columns:
            window[0] = self._planes[:, here, column.start : column.stop]
            kept = slice(column.keep_start, min(column.keep_stop, self._width))
            seen = slice(kept.start - column.start, kept.stop - column.start)
            for whole, part in zip((class_index, score), self._backend.infer(window), strict=True):
                whole[:, kept] = part[0, keep, seen]
        class_index[unseen] = 0
        score[unseen] = 0
        self._done = keep_stop
        return ClassMap(class_index=class_index, score=score, first_row=first_row)

    def _forget(self, start: int) -> None:
        """Drop rows above `start`: the last window of the roll may be shifted back as far as that."""
        kept = slice(start - self._top, self._filled - self._top)
        rows = self._filled - start
        self._planes[:, :rows] = self._planes[:, kept]
        self._inspected[:rows] = self._inspected[kept]
        self._top = start


def _check(info: ModelInfo, strip_rows: int, window_width: int) -> None:
    if strip_rows % info.grid or window_width % info.grid:
        raise ConfigError(
            f"assembly.strip_rows {strip_rows} and segmentation.window_width_px {window_width} "
            f"must be multiples of the model's grid, {info.grid}"
        )
    if window_width <= 2 * info.halo:
        raise ConfigError(
            f"segmentation.window_width_px is {window_width}: the model needs more than two halos, {2 * info.halo}"
        )
