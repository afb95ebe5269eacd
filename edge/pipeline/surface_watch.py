"""The photometric checksum watched over metres: what misfits everywhere by a little is no defect.

Frames that lie apart, a web of another gloss, the calibration of another machine: each raises the residual of good web.
"""

from collections.abc import Iterator

import numpy as np

from edge.core.clock import utc_now
from edge.core.types import Alarm, Surface

STRETCH_MM, LEARNT_MM = 1000.0, 3000.0
MIN_RESIDUAL, MAX_RESIDUAL = 0.015, 0.04
"""What good web may have in any case, and what none has, whatever the roll began with."""
RISE = 1.5
_EVERY_ROWS, _COLUMNS = 16, 128
"""Looked at are every so many rows, and so many columns of them."""


class SurfaceWatch:
    """Median |residual| over stretches of web; `push` yields `checksum_rises`, once.

    `row_mm`: length of web of a row. What is usual is learnt on the first `LEARNT_MM`; more than `RISE` times that,
    within fixed limits, is an alarm.
    """

    def __init__(self, row_mm: float) -> None:
        self._row_mm = row_mm
        self._sum, self._rows = 0.0, 0
        self._usual: list[float] = []
        self._told = False

    def push(self, surface: Surface) -> Iterator[Alarm]:
        """Look at the next strip; rows without a checksum count for nothing."""
        every_columns = max(1, surface.residual.shape[1] // _COLUMNS)
        residual = surface.residual[_EVERY_ROWS // 2 :: _EVERY_ROWS, ::every_columns]
        residual = residual[np.isfinite(residual)]
        np.abs(residual, out=residual)
        if not residual.size:
            return
        self._sum += float(np.median(residual, overwrite_input=True)) * surface.rows
        self._rows += surface.rows
        if self._rows * self._row_mm < STRETCH_MM:
            return
        level, self._sum, self._rows = self._sum / self._rows, 0.0, 0
        most = self._most()
        if len(self._usual) * STRETCH_MM < LEARNT_MM:
            self._usual.append(level)
        if level > most and not self._told:
            self._told = True
            at_mm = (surface.first_row + surface.rows) * self._row_mm
            yield Alarm(kind="checksum_rises", since=utc_now(), detail=_words(level, most, at_mm))

    def _most(self) -> float:
        if len(self._usual) * STRETCH_MM < LEARNT_MM:
            return MAX_RESIDUAL
        return min(max(RISE * float(np.median(self._usual)), MIN_RESIDUAL), MAX_RESIDUAL)


def _words(level: float, most: float, at_mm: float) -> str:
    return (
        f"the lights contradict each other all over the web: the usual residual is {100 * level:.1f} % where "
        f"{100 * most:.1f} % is borne, over the {STRETCH_MM:g} mm before {at_mm:.0f} mm: is this the calibration of "
        "this machine, has the gloss of the web changed, does the encoder slip?"
    )
