"""Lamps watched while web passes: what one of them loses bends every normal, long before a frame looks dark.

On web that is flat on the whole every light's mean, over its flat field's, is the same number. Where they differ, the
web would come out tilted by what pinv(G) makes of them: a lamp of four that loses 1 % tilts it by 0.2 degrees, two
neighbours by 0.3, and the checksum sees only the first of the two.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.clock import utc_now
from edge.core.light_witness import DARK
from edge.core.types import Alarm, Frame

F64 = NDArray[np.float64]

MAX_LOSS = 0.15
"""Part of their light that all lamps together may lose against the first web of the roll."""
_LEAST_FRAMES = 3
_ALONE = 3.0
"""One lamp is named where its share is off by so much more than the others' on average."""


@dataclass(frozen=True)
class Stretch:
    """Web that is averaged, and how far it may seem tilted: the shorter, the more it may flutter."""

    length_mm: float
    max_tilt_deg: float


STRETCHES = (Stretch(100.0, 3.0), Stretch(10_000.0, 0.2))
"""A lamp that fails, and one that ages. Web that flutters by a millimetre tilts by a degree over 100 mm."""


class LampWatch:
    """Means of frames over stretches of web; `push` yields alarms, each of them once.

    `lamp_drifts`: one lamp against the others; `lamps_drift`: several of them, or the web is tilted; `lamps_dim`: all
    of them. Without a flat field there is nothing to compare with, and nothing is told.
    """

    def __init__(self, calibration: Calibration, stretches: Sequence[Stretch] = STRETCHES) -> None:
        self._told: set[str] = set()
        self._averages: list[_Average] = []
        if calibration.flat is None or calibration.dark is None:
            return
        self._averages = [_Average(stretch, calibration.lights) for stretch in stretches]
        self._dark_levels = calibration.dark.mean(axis=(1, 2), dtype=np.float64)
        self._flat_levels = calibration.flat.mean(axis=(1, 2), dtype=np.float64) - self._dark_levels
        middle = calibration.light_directions[:, :, calibration.width // 2]
        self._inverse = np.linalg.pinv(middle / middle[:, 2:])

    def push(self, frame: Frame) -> Iterator[Alarm]:
        """Take a frame that was found usable."""
        if not self._averages:
            return
        level = (cv2.mean(frame.pixels)[0] - self._dark_levels[frame.light]) / self._flat_levels[frame.light]
        if level < DARK:
            return
        for average in self._averages:
            levels = average.push(frame, level)
            if levels is None:
                continue
            where = f"over the {average.stretch.length_mm:g} mm before {frame.encoder_mm:.0f} mm"
            for what, detail in (*self._unequal(levels, average.stretch.max_tilt_deg), *_dim(levels, average.first)):
                if what not in self._told:
                    self._told.add(what)
                    yield Alarm(kind=what.split()[0], since=utc_now(), detail=f"{detail}, {where}")

    def _unequal(self, levels: F64, max_tilt_deg: float) -> Iterator[tuple[str, str]]:
        """Lamps that have changed against each other: a key that tells it from other troubles, and words."""
        shares = levels / np.median(levels)
        x, y, z = self._inverse @ shares
        tilt_deg = float(np.degrees(np.arctan2(np.hypot(x, y), z)))
        if tilt_deg <= max_tilt_deg:
            return
        off = np.abs(shares - 1)
        worst = int(off.argmax())
        bends = f"flat web comes out tilted by {tilt_deg:.2f} degrees"
        if off[worst] > _ALONE * (off.sum() - off[worst]) / (len(off) - 1):
            change = f"{100 * off[worst]:.1f} % {'less' if shares[worst] < 1 else 'more'}"
            yield (
                f"lamp_drifts {worst}",
                f"the lamp of light {worst} gives {change} than the others since it was calibrated, {bends}: "
                "clean or replace it, then calibrate the flat field",
            )
        else:
            yield "lamps_drift", f"{bends}: two lamps have changed since they were calibrated, or the web is tilted"


class _Average:
    """Mean level of each light over a stretch; `first` is the brightest one's over the first stretch."""

    def __init__(self, stretch: Stretch, lights: int) -> None:
        self.stretch = stretch
        self.first: float | None = None
        self._sums, self._frames = np.zeros(lights), np.zeros(lights, np.int64)
        self._from_mm: float | None = None

    def push(self, frame: Frame, level: float) -> F64 | None:
        """The levels (lights,) where the frame ends a stretch."""
        self._sums[frame.light] += level
        self._frames[frame.light] += 1
        if self._from_mm is None or frame.encoder_mm < self._from_mm:
            self._from_mm = frame.encoder_mm
        if frame.encoder_mm - self._from_mm < self.stretch.length_mm or (self._frames < _LEAST_FRAMES).any():
            return None
        levels: F64 = self._sums / self._frames
        self.first = float(levels.max()) if self.first is None else self.first
        self._from_mm = frame.encoder_mm
        self._sums[:], self._frames[:] = 0, 0
        return levels


def _dim(levels: F64, first: float | None) -> Iterator[tuple[str, str]]:
    """Even the brightest lamp against the first web."""
    loss = 0.0 if first is None else 1 - float(levels.max()) / first
    if loss > MAX_LOSS:
        yield "lamps_dim", f"all lamps give {100 * loss:.0f} % less light than at first, or more, or the web is darker"
