"""The device loop when the GPU fails: what it had in hand is lost and said to be, and it goes on."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.assembly.row_map import RowMap
from edge.core.gpu import GpuError
from edge.core.types import ClassMap, Pixels
from edge.pipeline.device import Decided, DeviceLine

ATTEMPTS = 3
"""Failures in a row, with nothing decided between, after which the GPU is given up."""


class RecoveringLine:
    """A `DeviceLine` that is opened anew whenever the GPU fails.

    Rows that were under way come back as lost; so do those that were to be taken from strobes that only the GPU had,
    and the first `halo` rows behind them, which the network would not see as what they are. `open_line` gives
    back what it opened before. `failures`: how often. Raises GpuError when the GPU fails `ATTEMPTS` times in a row.
    """

    def __init__(self, open_line: Callable[[], DeviceLine], width: int, halo: int) -> None:
        self._open, self._width, self._halo = open_line, width, halo
        self.failures = 0
        self._in_a_row = 0
        self._why = ""
        self._line: DeviceLine | None = open_line()
        self._begin()

    def _begin(self) -> None:
        self._slots: set[int] = set()
        self._origin = 0  # web row of the first one pushed, from where the next three are counted
        self._handed_out = 0
        self._row = 0  # the next to come
        self._failed_at = 0  # the row that was to come when the GPU failed last
        self._lost_to = 0  # below, all is lost

    def upload(self, slot: int, pixels: Pixels) -> None:
        """See `DeviceLine.upload`."""
        try:
            self._opened().upload(slot, pixels)
            self._slots.add(slot)
        except GpuError as error:
            self._slots.discard(slot)
            self._fail(error)

    def push(self, row_map: RowMap, shift: NDArray[np.float64] | None = None) -> list[Decided]:
        """See `DeviceLine.push`."""
        rows = row_map.slot.shape[1]
        here = np.isin(row_map.slot, list(self._slots))
        gone: NDArray[np.bool_] = np.any((row_map.slot >= 0) & ~here, axis=0)
        slot = np.where(gone, -1, row_map.slot).astype(np.int32)
        decided = self._lost()
        if self._row == 0:
            self._origin = row_map.first_row
        if gone.any():
            self._lost_to = self._row + int(np.flatnonzero(gone)[-1]) + 1 + self._halo
        self._row += rows
        known = RowMap(slot, row_map.source_row, row_map.first_row)
        return [*decided, *self._taken(lambda line: line.push(known, shift))]

    def finish(self) -> list[Decided]:
        """See `DeviceLine.finish`."""
        decided = [*self._lost(), *self._taken(lambda line: line.finish())]
        slots = self._slots
        self._begin()
        self._slots = slots
        return decided

    def _taken(self, work: Callable[[DeviceLine], list[Decided]]) -> list[Decided]:
        try:
            decided = work(self._opened())
        except GpuError as error:
            self._fail(error)
            return self._lost()
        if decided:
            self._in_a_row = 0
        return [self._judged(one.class_map) for one in decided]

    def _judged(self, class_map: ClassMap) -> Decided:
        rows = np.arange(self._handed_out, self._handed_out + class_map.rows)
        lost = rows < self._lost_to
        self._handed_out += class_map.rows
        class_map.class_index[lost] = 0
        class_map.score[lost] = 0
        return Decided(class_map, lost, self._why if lost.any() else "")

    def _lost(self) -> list[Decided]:
        """What had been pushed when the GPU failed last, and was not handed out."""
        rows = self._failed_at - self._handed_out
        if rows <= 0:
            return []
        nothing = np.zeros((2, rows, self._width), np.uint8)
        return [self._judged(ClassMap(nothing[0], nothing[1], self._origin + self._handed_out))]

    def _opened(self) -> DeviceLine:
        if self._line is None:
            self._line = self._open()
        return self._line

    def _fail(self, error: GpuError) -> None:
        self.failures += 1
        self._in_a_row += 1
        self._why = f"the GPU was opened anew: {error}"
        self._failed_at, self._lost_to = self._row, self._row + self._halo
        self._line = None
        self._slots.clear()
        if self._in_a_row == ATTEMPTS:
            raise GpuError(f"{error}, {ATTEMPTS} times in a row: given up, see nvidia-smi and dmesg") from error
