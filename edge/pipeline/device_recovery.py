"""The device loop when the GPU fails: what it had in hand is lost and said to be, and it goes on."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import RowMap
from edge.core.gpu import GpuError
from edge.core.types import ClassMap, Pixels, Surface
from edge.pipeline.device import DeviceLine, Done
from edge.pipeline.device_memory import first_rows
from edge.pipeline.passage import Decided, Memory
from edge.surface.solver import not_inspected

ATTEMPTS = 3
"""Failures in a row, with nothing decided between, after which the GPU is given up."""


class _Strip(NamedTuple):
    """One that was pushed and is not through."""

    rows: int
    first_row: int
    memory: Memory | None


class RecoveringLine:
    """A `DeviceLine` that is opened anew whenever the GPU fails.

    Rows that were under way come back as lost, their surfaces as not inspected; so do those that were to be taken from
    strobes that only the GPU had, and the first `halo` rows behind them, which the network would not see as what they
    are. `open_line` gives back what it opened before. `failures`: how often. Raises GpuError when the GPU fails
    `ATTEMPTS` times in a row, and from then on.
    """

    def __init__(self, open_line: Callable[[], DeviceLine], width: int, halo: int) -> None:
        self._open, self._width, self._halo = open_line, width, halo
        self.failures = 0
        self._in_a_row = 0
        self._why = self._given_up = ""
        self._line: DeviceLine | None = open_line()
        self._slots: set[int] = set()
        self._begin()

    def _begin(self) -> None:
        self._under_way: deque[_Strip] = deque()
        self._done: list[Done] = []
        self._lost: list[Decided] = []  # to be told with the next strip that is through
        self._origin = 0  # web row of the first one pushed, from where the next three are counted
        self._handed_out = 0
        self._row = 0  # the next to come
        self._lost_to = 0  # below, all is lost

    def upload(self, slot: int, pixels: Pixels) -> None:
        """See `DeviceLine.upload`."""
        self._check()
        try:
            self._opened().upload(slot, pixels)
            self._slots.add(slot)
        except GpuError as error:
            self._fail(error)

    def push(
        self, row_map: RowMap, shift: NDArray[np.float64] | None = None, memory: Memory | None = None
    ) -> list[Done]:
        """See `DeviceLine.push`."""
        rows = row_map.slot.shape[1]
        here = np.isin(row_map.slot, list(self._slots))
        gone: NDArray[np.bool_] = np.any((row_map.slot >= 0) & ~here, axis=0)
        if self._row == 0:
            self._origin = row_map.first_row
        if gone.any():
            self._lost_to = self._row + int(np.flatnonzero(gone)[-1]) + 1 + self._halo
        self._row += rows
        self._under_way.append(_Strip(rows, row_map.first_row, memory))
        known = RowMap(np.where(gone, -1, row_map.slot).astype(np.int32), row_map.source_row, row_map.first_row)
        return self._taken(lambda line: line.push(known, shift, memory))

    def poll(self) -> list[Done]:
        """See `DeviceLine.poll`."""
        return self._taken(lambda line: line.poll())

    def finish(self, memory: Memory | None = None) -> list[Done]:
        """See `DeviceLine.finish`."""
        self._under_way.append(_Strip(0, self._row, memory))
        done = self._taken(lambda line: line.finish(memory))
        self._begin()
        return done

    def _taken(self, work: Callable[[DeviceLine], list[Done]]) -> list[Done]:
        """What the line gives, or, where it fails, what it has lost, behind what was lost before."""
        self._check()
        try:
            found = work(self._opened())
        except GpuError as error:
            self._fail(error)
            found = []
        for done in found:
            self._under_way.popleft()
            if done.decided:
                self._in_a_row = 0
            self._through(done.surface, [self._judged(one.class_map) for one in done.decided])
        through, self._done = self._done, []
        return through

    def _through(self, surface: Surface | None, decided: list[Decided]) -> None:
        self._done.append(Done(surface, [*self._lost, *decided]))
        self._lost = []

    def _judged(self, class_map: ClassMap) -> Decided:
        rows = np.arange(self._handed_out, self._handed_out + class_map.rows)
        lost = rows < self._lost_to
        self._handed_out += class_map.rows
        class_map.class_index[lost] = 0
        class_map.score[lost] = 0
        return Decided(class_map, lost, self._why if lost.any() else "")

    def _check(self) -> None:
        if self._given_up:
            raise GpuError(self._given_up)

    def _opened(self) -> DeviceLine:
        if self._line is None:
            self._line = self._open()
        return self._line

    def _fail(self, error: GpuError) -> None:
        """All that was pushed and not handed out is lost."""
        self.failures += 1
        self._in_a_row += 1
        self._line = None
        self._slots.clear()
        if self._in_a_row == ATTEMPTS:
            self._given_up = f"{error}, {ATTEMPTS} times in a row: given up, see nvidia-smi and dmesg"
            raise GpuError(self._given_up) from error
        self._why = f"the GPU was opened anew: {error}"
        self._lost_to = self._row + self._halo
        while len(self._under_way) > 1:
            self._through(_unseen(self._under_way.popleft()), [])
        rows = self._row - self._handed_out
        nothing = np.zeros((2, rows, self._width), np.uint8)
        if rows:
            self._lost.append(self._judged(ClassMap(nothing[0], nothing[1], self._origin + self._handed_out)))
        if self._under_way:
            self._through(_unseen(self._under_way.popleft()), [])


def _unseen(strip: _Strip) -> Surface | None:
    """The surface of a strip that was lost."""
    if strip.memory is None or not strip.rows:
        return None
    surface = first_rows(strip.memory.surface, strip.rows, strip.first_row)
    not_inspected(surface, 0, strip.rows)
    return surface
