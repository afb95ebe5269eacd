"""How large a pixel is on the web, what the encoder counts, and which way the web runs across the image: from a sheet
with a square grid of dots, first lying still, then carried by the web."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.dots import MIN_DOTS, MIN_SPACING_PX, Grid, Points, draw_dots, find_dots, fit_grid
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import F32, Frame, FrameSource

MAX_SKEW = 2e-4
"""Beyond this the pitch in one direction differs from that in the other by more than what it is wanted to."""
MAX_ENCODER_ERROR = 0.1
"""An encoder that is off by more says rather that the target or the configuration is another than was said."""
MAX_ANGLE_ERROR_DEG = 0.01
MAX_SCALE_ERROR = 5e-4
_MAX_TURN_DEG = 0.05
_MAX_RESIDUAL = 0.02
_STILL_PX = 0.25
_SATURATED = 1e-3
_MIN_TRAVEL_FRAMES = 8
_MOST_CELLS = 2.5
"""Of travel from one frame to the next: farther apart, an encoder off by a tenth could mistake a dot for another."""
_MOST_CELLS_KNOWN = 50.0
"""As far again as the same dot is found once the encoder is known to a part in a hundred."""


@dataclass
class Sight:
    """What was looked at last, for the picture of it."""

    white: float
    image: F32 | None = None
    dots: Points | None = None
    radius: float = 0.0
    grid: Grid | None = None

    def look(self, image: F32, what: str) -> Grid | None:
        """The grid in a picture (h, w) in counts, if there is one. Raises CalibrationError where it is saturated."""
        self.image, self.dots, self.radius, self.grid = image, None, 0.0, None
        saturated = float(np.mean(image >= self.white))
        if saturated > _SATURATED:
            raise CalibrationError(
                f"{what}: {100 * saturated:.1f} % of the pixels are saturated, dots look too small: expose shorter"
            )
        self.dots, self.radius = find_dots(image)
        self.grid = fit_grid(self.dots)
        return self.grid

    def draw(self, path: Path) -> None:
        """Write it as a PNG, if anything was looked at. Raises CalibrationError."""
        if self.image is not None and self.dots is not None:
            draw_dots(path, self.image, self.white, self.dots, self.radius, self.grid)
        elif self.image is not None:
            draw_dots(path, self.image, self.white, np.empty(0, np.complex128), 0.0, None)


@dataclass(frozen=True)
class Pitch:
    """`pitch_mm` of web to a pixel; `residual_px`: how far dots lie from their grid (RMS); `dots` on it."""

    pitch_mm: float
    residual_px: float
    dots: int


def complete_images(source: FrameSource) -> Iterator[F32]:
    """The images (h, w) of the frames that came whole."""
    return (frame.pixels.astype(np.float32) for frame in source.frames() if frame.complete)


def fit_pitch(shots: Iterable[F32], spacing_mm: float, sight: Sight, what: str) -> Pitch:
    """Pitch from pictures (h, w) in counts of a target lying still, its dots `spacing_mm` apart; `what` names them.

    Raises CalibrationError for saturated pictures, no target, one that moves or is not seen straight from above.
    """
    first: Grid | None = None
    grids: list[Grid] = []
    for index, shot in enumerate(shots):
        grid = _seen(sight.look(shot, what), what)
        first = first or grid
        if grid.skew > MAX_SKEW:
            raise CalibrationError(
                f"{what}: dots are {100 * grid.skew:.3f} % closer in one direction than in the other: is the "
                "target flat, the camera upright, the lens straight?"
            )
        moved_px = _moved_px(first, grid)
        if moved_px > _STILL_PX:
            raise CalibrationError(
                f"{what}: the target moves, by {moved_px:.2f} px at picture {index}: let it lie still, or give this "
                "recording as --travel"
            )
        grids.append(grid)
    if not grids:
        raise CalibrationError(f"{what}: no whole picture in it: record again")
    step_px = float(np.mean([abs(grid.step) for grid in grids]))
    residual_px = float(np.mean([grid.residual_px for grid in grids]))
    return Pitch(spacing_mm / step_px, residual_px, min(len(grid.points) for grid in grids))


def _seen(grid: Grid | None, what: str) -> Grid:
    if grid is None:
        raise CalibrationError(
            f"{what}: no target was found: at least {MIN_DOTS} whole dark dots, {MIN_SPACING_PX:g} px apart or more "
            "and in three rows or more, are needed"
        )
    if grid.residual_px > _MAX_RESIDUAL * abs(grid.step):
        raise CalibrationError(
            f"{what}: dots lie {grid.residual_px:.2f} px off a square grid: is the sheet even, is the lens straight?"
        )
    return grid


def _moved_px(before: Grid, after: Grid) -> float:
    """From one picture to another, as far as a grid tells: less than half a step."""
    cells = (after.origin - before.origin) / before.step
    whole = round(cells.real) + 1j * round(cells.imag)
    return abs((cells - whole) * before.step)


@dataclass(frozen=True)
class Travel:
    """How a target ran across the image, with standard errors; as the fields of `Calibration` of these names."""

    transport_sign: int
    transport_angle_deg: float
    angle_error_deg: float
    encoder_scale: float
    scale_error: float
    frames: int
    travel_mm: float


def fit_travel(
    frames: Iterable[Frame], pitch: Pitch, spacing_mm: float, sight: Sight, what: str, progress: Callable[[int], None]
) -> Travel:
    """Which way a target runs and how far for what the encoder says. Frames without the target may come before and
    after it. Raises CalibrationError."""
    encoder: list[float] = []
    grids: list[Grid] = []
    for index, frame in enumerate(frames):
        where = f"{what}, frame {frame.frame_id}"
        if frame.complete and sight.look(frame.pixels.astype(np.float32), where) is not None:
            encoder.append(frame.encoder_mm)
            grids.append(_seen(sight.grid, where))
        progress(index + 1)
    if len(grids) < _MIN_TRAVEL_FRAMES:
        raise CalibrationError(
            f"{what}: the target was found in {len(grids)} frames, at least {_MIN_TRAVEL_FRAMES} are needed: "
            "let it run through the whole field"
        )
    at_mm = np.array(encoder)
    if np.ptp(at_mm) < spacing_mm:
        raise CalibrationError(f"{what}: the target stands still or the encoder does: let the web carry it through")
    return _judged(at_mm, grids, pitch, spacing_mm, what)


def _judged(at_mm: NDArray[np.float64], grids: list[Grid], pitch: Pitch, spacing_mm: float, what: str) -> Travel:
    step = complex(np.average([grid.step for grid in grids], weights=[len(grid.points) for grid in grids]))
    if abs(spacing_mm / abs(step) / pitch.pitch_mm - 1) > 1e-3:
        raise CalibrationError(
            f"{what}: dots are {abs(step):.2f} px apart, those of the still target "
            f"{spacing_mm / pitch.pitch_mm:.2f}: another target, or not at the height of the web"
        )
    turned_deg = np.degrees(np.angle([grid.step / step for grid in grids]))
    if np.ptp(turned_deg) > _MAX_TURN_DEG:
        raise CalibrationError(
            f"{what}: the target turns by {np.ptp(turned_deg):.2f} degree while it runs: fix it to the web"
        )
    ways = [_follow(at_mm, grids, step, spacing_mm, sign) for sign in (1, -1)]
    likely = [way for way in ways if way is not None]
    if not likely:
        raise CalibrationError(
            f"{what}: no encoder within {100 * MAX_ENCODER_ERROR:g} % explains how the target runs: are its dots "
            f"{spacing_mm:g} mm apart, is camera.encoder_mm_per_count right, does it pass less than "
            f"{_MOST_CELLS:g} dots from frame to frame?"
        )
    if len(likely) > 1:
        raise CalibrationError(
            f"{what}: the target may run either way, it passes a whole number of half dots from frame to frame: "
            "record it at another distance between triggers"
        )
    [travel] = likely
    if not (travel.angle_error_deg < MAX_ANGLE_ERROR_DEG and travel.scale_error < MAX_SCALE_ERROR):
        raise CalibrationError(
            f"{what}: {travel.travel_mm:.0f} mm of travel are too short, the angle is within "
            f"{travel.angle_error_deg:.3f} degree and the encoder within {100 * travel.scale_error:.3f} %: "
            "let it run farther"
        )
    return travel


def _follow(
    at_mm: NDArray[np.float64], grids: list[Grid], step: complex, spacing_mm: float, sign: int
) -> Travel | None:
    """The travel if the transport sign is `sign`; None where it cannot be.

    From frame to frame the grid moves by what the encoder says within half a cell: that tells which dot is which.
    Where frames are too far apart the path starts anew, until its slope within the pieces is known and joins them.
    """
    velocity, most_cells = -1j * sign * abs(step) / spacing_mm, _MOST_CELLS
    for _ in range(2):
        apart = np.diff([grid.origin for grid in grids])
        cells = (velocity * np.diff(at_mm) - apart) / step
        moved = apart + step * (np.rint(cells.real) + 1j * np.rint(cells.imag))
        near = np.abs(np.diff(at_mm)) <= most_cells * spacing_mm
        piece = np.concatenate([[0], np.cumsum(~near)])
        path = _within(np.concatenate([[0], np.cumsum(np.where(near, moved, 0))]), piece)
        along_mm = _within(at_mm.astype(np.complex128), piece).real
        spread = float((along_mm**2).sum())
        freedom = len(path) - int(piece[-1]) - 2
        if freedom < _MIN_TRAVEL_FRAMES // 2 or spread == 0:
            return None
        velocity, most_cells = complex((along_mm * path).sum() / spread), _MOST_CELLS_KNOWN
    forwards = -sign * velocity.imag
    scale = abs(velocity) * spacing_mm / abs(step)
    residual = (path - velocity * along_mm) * np.exp(-1j * np.angle(velocity))
    error_px_per_mm = np.sqrt((np.array([residual.real, residual.imag]) ** 2).sum(axis=1) / freedom / spread)
    lost = np.sqrt((np.abs(residual) ** 2).mean()) > 0.2 * abs(step)
    if forwards <= 0 or abs(scale - 1) > MAX_ENCODER_ERROR or lost:
        return None
    return Travel(
        transport_sign=sign,
        transport_angle_deg=float(np.degrees(np.arctan2(velocity.real, forwards))),
        angle_error_deg=float(np.degrees(error_px_per_mm[1] / abs(velocity))),
        encoder_scale=float(scale),
        scale_error=float(error_px_per_mm[0] / abs(velocity)),
        frames=len(grids),
        travel_mm=float(np.ptp(at_mm) * scale),
    )


def _within(values: Points, piece: NDArray[np.intp]) -> Points:
    """Values less the mean of their piece."""
    means = (np.bincount(piece, values.real) + 1j * np.bincount(piece, values.imag)) / np.bincount(piece)
    within: Points = values - means[piece]
    return within


def with_scale(base: Calibration, pitch: Pitch, travel: Travel | None) -> Calibration:
    """`base` with what was found. Lights seen from a web that runs the other way are mirrored along it."""
    scaled = replace(base, pitch_mm=pitch.pitch_mm)
    if travel is None:
        return scaled
    mirror = np.array([1.0, float(travel.transport_sign * base.transport_sign), 1.0])[:, None]
    return replace(
        scaled,
        light_directions=base.light_directions * mirror,
        light_directions_per_row=base.light_directions_per_row * mirror,
        transport_sign=travel.transport_sign,
        transport_angle_deg=travel.transport_angle_deg,
        encoder_scale=travel.encoder_scale,
    )
