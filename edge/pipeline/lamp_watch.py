"""Lamps watched while web passes: what one of them loses bends every normal, long before a frame looks dark.

On web that is flat on the whole every light's mean, over its flat field's, is the same number. Where they differ, the
web would come out tilted by what pinv(G) makes of them: a lamp of four that loses 1 % tilts it by 0.2 degrees, two
neighbours by 0.3, and the checksum sees only the first of the two.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.blocks import BLOCKS_ACROSS, BLOCKS_ALONG
from edge.core.calibration import Calibration
from edge.core.clock import utc_now
from edge.core.light_witness import DARK
from edge.core.types import Alarm, Frame
from edge.pipeline.lamp_shares import LampShares

F64 = NDArray[np.float64]

MAX_LOSS = 0.15
"""Part of their light that all lamps together may lose against the first web of the roll."""
_ALONE = 3.0
"""One lamp is named where its share is off by so much more than the others' on average."""
_UNEVEN = 0.05
"""What is less uneven than this part of a change is no dirt."""
_OUT_OF_PHASE = 0.1
"""What a lamp that fires beside its exposure loses there, and another light's frames gain."""
WAVE_MM, _WAVES = 1000.0, 10
WAVE_DEVIATIONS, MOST_TILT_DEG = 3.5, 0.28
"""Longer stretches may seem tilted by so many deviations of their mean, as the tilts of each `WAVE_MM` in them scatter,
where the web flutters by more than `max_tilt_deg` allows, but never by more than the second."""


@dataclass(frozen=True)
class Stretch:
    """Web that is averaged, and what it bears, the less the longer it is: how far it may seem tilted, by what part one
    lamp may have changed, how uneven that may be across the field, how much of another light there may be in its
    frames, how much darker it may be than the first. `least_frames` of each light. `confirmed`: told is what the second
    stretch in a row shows, since a fault that begins within one looks like another, smaller one."""

    length_mm: float
    max_tilt_deg: float
    max_change: float = math.inf
    max_uneven: float = math.inf
    max_mixed: float = math.inf
    max_loss: float = MAX_LOSS
    least_frames: int = 3
    confirmed: bool = True


STRETCHES = (
    Stretch(18.0, 8.0, max_change=0.12, max_mixed=0.35, max_loss=math.inf, least_frames=1),
    Stretch(100.0, 3.0, max_change=0.06),
    Stretch(WAVE_MM, 1.5, max_change=0.03, max_uneven=0.008),
    Stretch(WAVE_MM * _WAVES, 0.2, max_uneven=0.008, confirmed=False),
)
"""A lamp that fails or fires at the wrong time, one that fails by and by, dirt on its glass, age. Web that flutters by
a millimetre tilts by a degree over 100 mm, by three over 20."""


@dataclass(frozen=True)
class _Finding:
    """A trouble, the lights that are in it, and words."""

    kind: str
    lights: frozenset[int]
    words: str


class LampWatch:
    """Means of frames over stretches of web; `push` yields alarms, each of them once.

    `lamp_drifts`: one lamp against the others; `light_dirty`: the same, but not evenly across the field;
    `lamp_out_of_phase`: part of its light falls into another's exposures; `light_mixed`: a light's frames bear the
    shape of another light; `lamps_drift`: several lamps, or the web is tilted; `lamps_dim`: all of them. A lamp that
    has been told of is told again only where it turns out to be dirt. Without a flat field there is nothing to compare
    with, and nothing is told.
    """

    def __init__(self, calibration: Calibration, stretches: Sequence[Stretch] = STRETCHES) -> None:
        self._told: set[tuple[str, frozenset[int]]] = set()
        self._named: set[int] = set()
        self._waves: deque[F64] = deque(maxlen=_WAVES)
        self._averages: list[_Average] = []
        if calibration.flat is None or calibration.dark is None:
            return
        self._shares = LampShares(calibration)
        self._averages = [_Average(stretch, calibration.lights) for stretch in stretches]

    def push(self, frame: Frame) -> Iterator[Alarm]:
        """Take a frame that was found usable."""
        if not self._averages:
            return
        blocks = self._shares.blocks(frame)
        if blocks.mean() < DARK:
            return
        for average in self._averages:
            means = average.push(frame, blocks)
            if means is None:
                continue
            findings = [*self._unequal(means, average.stretch), *average.dimmed(means)]
            if not average.confirms(bool(findings)):
                continue
            where = f"over the {average.stretch.length_mm:g} mm before {frame.encoder_mm:.0f} mm"
            for finding in findings:
                if self._is_news(finding):
                    yield Alarm(kind=finding.kind, since=utc_now(), detail=f"{finding.words}, {where}")

    def _is_news(self, finding: _Finding) -> bool:
        """A longer stretch finds again what a shorter one has found."""
        key = finding.kind, finding.lights
        known = finding.lights and finding.lights <= self._named and finding.kind != "light_dirty"
        if known or key in self._told:
            return False
        self._told.add(key)
        self._named |= finding.lights
        return True

    def _unequal(self, blocks: F64, stretch: Stretch) -> Iterator[_Finding]:
        """Lamps that have changed against each other: what explains it best."""
        levels = self._shares.levels(blocks)
        shares = levels / np.median(levels)
        slope = self._shares.slope(levels)
        if stretch.length_mm == WAVE_MM:
            self._waves.append(slope)
        tilt_deg = math.degrees(math.atan(math.hypot(*slope)))
        bends = f"flat web comes out tilted by {tilt_deg:.2f} degrees"
        out_of_phase = _out_of_phase(shares) if stretch.max_mixed < math.inf else None
        if out_of_phase is not None:
            yield out_of_phase
            return
        mixed = [each for each in self._shares.mixed(blocks) if each[2] > stretch.max_mixed]
        if mixed:
            yield from (_mixed(*each) for each in mixed)
            return
        change = self._shares.change(blocks)
        if change.alone and change.uneven > max(stretch.max_uneven, _UNEVEN * abs(change.part)):
            yield _dirty(change.light, change.part, change.uneven, bends)
        elif change.alone and abs(change.part) > stretch.max_change:
            yield _drifts(change.light, change.part, bends)
        elif tilt_deg > self._bearable_deg(stretch) or abs(change.part) > stretch.max_change:
            yield _off(shares, bends)

    def _bearable_deg(self, stretch: Stretch) -> float:
        if stretch.length_mm <= WAVE_MM or len(self._waves) < 2:
            return stretch.max_tilt_deg
        scatter = math.degrees(math.hypot(*np.std(self._waves, axis=0, ddof=1)))
        learnt_deg = WAVE_DEVIATIONS * scatter / math.sqrt(stretch.length_mm / WAVE_MM)
        return max(stretch.max_tilt_deg, min(learnt_deg, MOST_TILT_DEG))


class _Average:
    """Mean blocks of each light over a stretch; `first` is the brightest one's level over the first stretch."""

    def __init__(self, stretch: Stretch, lights: int) -> None:
        self.stretch = stretch
        self._first: float | None = None
        self._sums, self._frames = np.zeros((lights, BLOCKS_ALONG, BLOCKS_ACROSS)), np.zeros(lights, np.int64)
        self._from_mm: float | None = None
        self._amiss = False

    def push(self, frame: Frame, blocks: F64) -> F64 | None:
        """The means (lights, along, across) where the frame ends a stretch."""
        self._sums[frame.light] += blocks
        self._frames[frame.light] += 1
        if self._from_mm is None or frame.encoder_mm < self._from_mm:
            self._from_mm = frame.encoder_mm
        enough = frame.encoder_mm - self._from_mm >= self.stretch.length_mm
        if not enough or self._frames.min() < self.stretch.least_frames:
            return None
        means: F64 = self._sums / self._frames[:, None, None]
        self._from_mm = frame.encoder_mm
        self._sums[:], self._frames[:] = 0, 0
        return means

    def confirms(self, amiss: bool) -> bool:
        """Whether what the stretch shows can be told."""
        before, self._amiss = self._amiss, amiss
        return before or not self.stretch.confirmed

    def dimmed(self, blocks: F64) -> Iterator[_Finding]:
        """Even the brightest lamp against the first web."""
        brightest = float(blocks.mean(axis=(1, 2)).max())
        self._first = brightest if self._first is None else self._first
        loss = 1 - brightest / self._first
        if loss > self.stretch.max_loss:
            yield _Finding(
                "lamps_dim",
                frozenset(),
                f"all lamps give {100 * loss:.0f} % less light than at first, or more, or the web is darker: "
                "check the lamps' supply and the lens",
            )


def _out_of_phase(shares: F64) -> _Finding | None:
    """One lamp's loss, and a gain where the light before or after it is exposed."""
    off = shares - 1
    light, other = int(off.argmin()), int(off.argmax())
    if -off[light] < _OUT_OF_PHASE or off[other] < _OUT_OF_PHASE or (light - other) % len(off) not in (1, len(off) - 1):
        return None
    rest = np.abs(np.delete(off, [light, other]))
    if rest.max() > min(-off[light], off[other]) / _ALONE:
        return None
    return _Finding(
        "lamp_out_of_phase",
        frozenset((light, other)),
        f"the lamp of light {light} fires beside its exposure: {-100 * off[light]:.0f} % of its light are missing, and "
        f"frames of light {other} are {100 * off[other]:.0f} % brighter: check the delay and length of its strobe",
    )


def _mixed(light: int, other: int, part: float) -> _Finding:
    return _Finding(
        "light_mixed",
        frozenset((light,)),
        f"frames of light {light} are lit by light {other} too, by {100 * part:.0f} %: the strobe of one of them fires "
        "at the wrong time, check delays, lengths and plugs",
    )


def _dirty(light: int, part: float, uneven: float, bends: str) -> _Finding:
    return _Finding(
        "light_dirty",
        frozenset((light,)),
        f"light {light} gives {_change(part)} than the others, {100 * uneven:.1f} % of it on one side of the field "
        f"only, as when part of its bar is covered, {bends}: clean its glass; if this stays, calibrate the flat field",
    )


def _drifts(light: int, part: float, bends: str) -> _Finding:
    return _Finding(
        "lamp_drifts",
        frozenset((light,)),
        f"the lamp of light {light} gives {_change(part)} than the others since it was calibrated, {bends}: "
        "clean or replace it, then calibrate the flat field",
    )


def _off(shares: F64, bends: str) -> _Finding:
    """The lamp that stands out, or those that give less."""
    off = np.abs(shares - 1)
    worst = int(off.argmax())
    if off[worst] > _ALONE * (off.sum() - off[worst]) / (len(off) - 1):
        return _drifts(worst, float(shares[worst] - 1), bends)
    less = np.flatnonzero(shares < 1).tolist()
    lights = " and ".join(map(str, less))
    loss = 100 * (1 - shares[less].mean() / np.delete(shares, less).mean()) if less else 0.0
    return _Finding(
        "lamps_drift",
        frozenset(less),
        f"{bends}: the lamps of lights {lights} give {loss:.1f} % less than the others since they were calibrated, or "
        "the web is tilted: look at both, then calibrate the flat field",
    )


def _change(part: float) -> str:
    return f"{100 * abs(part):.1f} % {'less' if part < 0 else 'more'}"
