"""What the camera answers to light: the dark and the flat field of each light, and how straight counts follow exposure.

The flat field is taken on the web itself: over metres of it texture, stains and defects average out, since each pixel
sees other web in every frame. It is relative: the web's mean albedo counts as 1.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import F32, Frame, FrameSource

Progress = Callable[[int], None]
"""Called with the number of frames read so far."""

MAX_FLAT_ERROR_PERCENT = 0.7
"""A flat field off by this much adds to 1 % of noise so that normals are 1.2 times as uncertain."""
MIN_DARK_FRAMES = 8
MIN_STEPS = 5
MAX_NONLINEARITY_PERCENT = 1.0
"""Of full scale: 2 % of the light of a web exposed to its middle, and 0.7 degree of its normals."""
_SAMPLES = 32
_REACH = 3.0
"""What differs by more than so many standard deviations from the typical is not good web."""
_DARK = 0.5
_UNLIT = 0.05
_SATURATED = 1e-3
_LEAST_RANGE = 0.5


@dataclass(frozen=True)
class FlatField:
    """`dark`, `flat` (n, h, w) f32 counts; `error_percent`: standard error of a pixel, from how much the first half of
    the web differs from the second; `spread_percent` of the good web from place to place; `trimmed_percent` of the
    pixels were not good web; `frames` used; `web_mm` that passed."""

    dark: F32
    flat: F32
    error_percent: float
    spread_percent: float
    trimmed_percent: float
    frames: int
    web_mm: float

    @property
    def intensities(self) -> NDArray[np.float64]:
        """(n,) mean light of each lamp, relative to the mean of all."""
        levels = (self.flat - self.dark).mean(axis=(1, 2), dtype=np.float64)
        intensities: NDArray[np.float64] = levels / levels.mean()
        return intensities


def fit_dark(source: FrameSource, what: str) -> F32:
    """Mean (n, h, w) of frames taken with the lamps off, as each light is exposed; `what` names them. Raises
    CalibrationError."""
    calibration = source.calibration
    total = np.zeros((calibration.lights, calibration.height, calibration.width))
    counts = np.zeros(calibration.lights, int)
    for frame in _complete(source):
        total[frame.light] += frame.pixels
        counts[frame.light] += 1
    for light, count in enumerate(counts):
        if count < MIN_DARK_FRAMES:
            raise CalibrationError(
                f"{what}: {count} dark frames of light {light}, at least {MIN_DARK_FRAMES} are needed: "
                "record with the lamps off and everything else as it runs"
            )
    return (total / counts[:, None, None]).astype(np.float32)


def fit_flat(source: FrameSource, dark: F32, what: str, progress: Progress) -> FlatField:
    """The flat field from a moving web, `dark` (n, h, w) being what is there without lamps; `what` names it.

    A trimmed mean in two passes: the median of frames spread over the whole web says what is typical of each pixel,
    then all that is near it is averaged. Half of the web may be anything but good. Raises CalibrationError.
    """
    survey = _survey(source, what, progress)
    centre, spread = _typical(survey, dark, source.calibration.white, what)
    reach = (_REACH * spread[:, None, None] * (centre - dark)).astype(np.float32)
    total = np.zeros((2, *centre.shape), np.float32)
    kept = np.zeros((2, *centre.shape), np.uint32)
    for index, frame in enumerate(_complete(source)):
        off = frame.pixels - centre[frame.light]
        good = np.abs(off) <= reach[frame.light]
        half = int(2 * index >= survey.frames)
        total[half, frame.light] += np.where(good, off, np.float32(0))
        kept[half, frame.light] += good
        progress(survey.frames + index + 1)
    first, second = centre + total / np.maximum(kept, 1)
    flat = (centre + total.sum(axis=0) / np.maximum(kept.sum(axis=0), 1)).astype(np.float32)
    difference = (second - first) / (flat - dark)
    difference -= difference.mean(axis=(1, 2), keepdims=True)
    field = FlatField(
        dark=dark,
        flat=flat,
        error_percent=50.0 * float(np.sqrt((difference**2).mean(dtype=np.float64))),
        spread_percent=100.0 * float(spread.mean()),
        trimmed_percent=100.0 * (1.0 - float(kept.sum()) / (survey.frames * centre[0].size)),
        frames=survey.frames,
        web_mm=survey.web_mm,
    )
    if field.error_percent > MAX_FLAT_ERROR_PERCENT:
        longer_m = 1e-3 * field.web_mm * (field.error_percent / MAX_FLAT_ERROR_PERCENT) ** 2
        raise CalibrationError(
            f"{what}: {field.web_mm:.0f} mm of web are too few, the flat field would be off by "
            f"{field.error_percent:.1f} %: record at least {max(longer_m, 0.1):.1f} m of good web"
        )
    return field


@dataclass
class _Survey:
    """`samples`: at least half of `_SAMPLES` frames of each light, evenly spread, if there were so many."""

    samples: list[list[NDArray[Any]]]
    frames: int
    web_mm: float


def _survey(source: FrameSource, what: str, progress: Progress) -> _Survey:
    """The first pass. Of too many samples every other is dropped, and from then on every other not taken."""
    calibration = source.calibration
    samples: list[list[NDArray[Any]]] = [[] for _ in range(calibration.lights)]
    strides, seen = [1] * calibration.lights, [0] * calibration.lights
    lowest_mm, highest_mm = np.inf, -np.inf
    for index, frame in enumerate(_complete(source)):
        of_light, light = samples[frame.light], frame.light
        if seen[light] % strides[light] == 0:
            of_light.append(np.array(frame.pixels))
        seen[light] += 1
        if len(of_light) > _SAMPLES:
            del of_light[1::2]
            strides[light] *= 2
        lowest_mm, highest_mm = min(lowest_mm, frame.encoder_mm), max(highest_mm, frame.encoder_mm)
        progress(index + 1)
    for light, count in enumerate(seen):
        if count < _SAMPLES // 2:
            raise CalibrationError(
                f"{what}: light {light} has {count} frames, a flat field needs at least {_SAMPLES // 2}: "
                "record metres of web"
            )
    if highest_mm <= lowest_mm:
        raise CalibrationError(
            f"{what}: the web stood still, its texture would become part of the flat field: let it run"
        )
    return _Survey(samples, sum(seen), float(highest_mm - lowest_mm))


def _typical(survey: _Survey, dark: F32, white: float, what: str) -> tuple[F32, NDArray[np.float64]]:
    """Median (n, h, w) of the samples, and how far good web is from it, (n,), relative to its light."""
    centre, spread = np.empty_like(dark), np.empty(len(dark))
    for light, samples in enumerate(survey.samples):
        stack = np.stack(samples)
        for row in range(stack.shape[1]):
            centre[light, row] = np.median(stack[:, row], axis=0)
        where = f"{what}: light {light}"
        if np.mean(centre[light] >= white) > _SATURATED:
            raise CalibrationError(f"{where} saturates the camera on good web: expose shorter and record again")
        if dark[light].mean() > _DARK * centre[light].mean():
            raise CalibrationError(
                f"{where} is hardly brighter than the dark recording: was it taken with the lamps off, is this lamp on?"
            )
        signal = centre[light] - dark[light]
        unlit = np.argwhere(signal < _UNLIT * np.median(signal))
        if len(unlit):
            row, column = unlit[0]
            raise CalibrationError(
                f"{where} does not reach {len(unlit)} pixels, the first at row {row}, column {column}: "
                "narrow the field of the camera or have it repaired"
            )
        deviation = np.abs(stack - centre[light]) / signal
        spread[light] = 1.4826 * np.median(deviation)
    return centre, spread


def with_flat(base: Calibration, field: FlatField, directions: NDArray[np.float64] | None) -> Calibration:
    """`base` with a new dark and flat field and, where given, distant lights in `directions` (n, 3)."""
    if directions is None:
        return replace(base, dark=field.dark, flat=field.flat)
    per_column = np.repeat(directions[:, :, None], base.width, axis=2)
    return replace(
        base,
        dark=field.dark,
        flat=field.flat,
        light_directions=per_column,
        light_directions_per_row=np.zeros_like(per_column),
    )


@dataclass(frozen=True)
class Linearity:
    """Exposures in ascending order (m,); mean `counts` (n, m) of each light; `deviation_percent` (n, m) of full scale
    from the straight line through them; `offsets`, `slopes` (n,) of the lines, in counts and counts per us."""

    exposures_us: NDArray[np.float64]
    counts: NDArray[np.float64]
    deviation_percent: NDArray[np.float64]
    offsets: NDArray[np.float64]
    slopes: NDArray[np.float64]

    @property
    def worst_percent(self) -> float:
        """Largest deviation of any light at any exposure."""
        return float(np.abs(self.deviation_percent).max())


def fit_linearity(sources: Sequence[FrameSource], progress: Progress) -> Linearity:
    """How straight counts follow the exposure time, from frames of a still, evenly lit target; each light was exposed
    for the same times. Deviations are from the line of least squares, in percent of full scale. Raises
    CalibrationError."""
    white = sources[0].calibration.white
    means: defaultdict[tuple[int, float], list[float]] = defaultdict(list)
    read = 0
    for source in sources:
        for frame in _complete(source):
            saturated = float(np.mean(frame.pixels >= white))
            if saturated > _SATURATED:
                raise CalibrationError(
                    f"{frame.exposure_us:g} us under light {frame.light} saturate {100 * saturated:.1f} % of the "
                    "pixels: leave out the longest exposures"
                )
            means[frame.light, frame.exposure_us].append(float(frame.pixels.mean()))
            read += 1
            progress(read)
    exposures = np.array(sorted({exposure for _, exposure in means}))
    lights = sorted({light for light, _ in means})
    if len(exposures) < MIN_STEPS:
        raise CalibrationError(
            f"{len(exposures)} exposure times, at least {MIN_STEPS} are needed: record the target at more of them"
        )
    for light in lights:
        missing = [exposure for exposure in exposures if (light, exposure) not in means]
        if missing:
            raise CalibrationError(f"light {light} was not exposed for {missing[0]:g} us: expose all lights alike")
    counts = np.array([[np.mean(means[light, exposure]) for exposure in exposures] for light in lights])
    for light, row in zip(lights, counts, strict=True):
        if row.max() - row.min() < _LEAST_RANGE * white:
            raise CalibrationError(
                f"counts under light {light} go from {row.min():.0f} to {row.max():.0f} of {white:.0f}, too little to "
                "judge by: expose from short to nearly saturated, with the lamp on as long"
            )
    design = np.stack([np.ones_like(exposures), exposures], axis=1)
    (offsets, slopes), *_ = np.linalg.lstsq(design, counts.T, rcond=None)
    deviation = 100.0 * (counts - (design @ np.stack([offsets, slopes])).T) / white
    return Linearity(exposures, counts, deviation, offsets, slopes)


def _complete(source: FrameSource) -> Iterator[Frame]:
    return (frame for frame in source.frames() if frame.complete)
