"""Finding a ball in photographs of it under several lights, with nothing set by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.types import F32

MIN_RADIUS_PX = 12.0
MIN_RADIUS_ON_WEB_PX = 40.0
_BLUR_PX = 1.5
_CANNY = 100.0
_PERFECTION = 0.8
"""Least part of a circle's outline that must be seen as an edge (param2 of HOUGH_GRADIENT_ALT)."""
_LEAST_OF_LARGEST = 0.4
_RAYS = 720
_ACROSS = 2
"""Rays, to either side, over which a ray is averaged."""
_SMOOTH_PX = 1.0
_BANDS = ((0.0, 0.5), (0.85, 0.95), (1.05, 1.15))
"""Of the radius of a circle that is the horizon in a mirror ball, or its outline."""
_RIM = (1.3, 1.46)
"""Where the outline lies, in radii of the horizon: 1 / sin 45 degrees, nearer where less web is lit."""
_HORIZON = (0.68, 0.78)
"""And where the horizon lies in radii of the ball."""
_TOLERANCE = 0.03
_REACH = 1.7
_BASE = 0.06
_CONTRAST = 6.0
_SEARCH = 0.06
"""Part of the radius, to either side, in which the outline is looked for."""
_ROUNDS = 30
_SEEN_PX = 2.0


@dataclass(frozen=True, slots=True)
class Ball:
    """Centre (column, row) and radius, in pixels; pixel centres are at whole numbers. `residual_px`: how far its
    outline lies from the circle (RMS over the rays that see it)."""

    x: float
    y: float
    radius: float
    residual_px: float

    def normals(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) unit normals of the sphere at image points, seen from far above; NaN off the ball."""
        nx, ny = (x - self.x) / self.radius, (y - self.y) / self.radius
        with np.errstate(invalid="ignore"):
            return np.stack([nx, ny, np.sqrt(1.0 - nx * nx - ny * ny)], axis=-1)


def find_ball(images: Sequence[F32]) -> Ball:
    """The one ball that all `images` ((h, w), the same view under different lights) show.

    Raises CalibrationError where there is none, or more than one.
    """
    seen = brightness(images).astype(np.float32)
    return _refined(seen, _circle_in(seen))


def find_ball_on_web(images: Sequence[F32], radius_px: float | None = None) -> Ball:
    """As `find_ball`, for a mirror ball that stands on lit web; its radius, where it is known, is taken as given.

    In such a ball the horizon of the web can be a clearer circle than the outline. Raises CalibrationError also where
    the outline cannot be told, is not of the known radius, or is too small to be measured.
    """
    seen = brightness(images).astype(np.float32)
    circle = _circle_in(seen)
    if radius_px is None:
        ball = _refined(seen, _rim(seen, circle))
    else:
        if _within(circle[2] / radius_px, _HORIZON):
            circle[2] = radius_px
        ball = _refined(seen, circle)
        if abs(ball.radius / radius_px - 1) > _TOLERANCE:
            raise CalibrationError(
                f"a ball of {ball.radius:.0f} px radius was found, diameter and pitch say {radius_px:.0f}"
            )
        ball = replace(ball, radius=radius_px)
    if ball.radius < MIN_RADIUS_ON_WEB_PX:
        raise CalibrationError(
            f"the ball has a radius of {ball.radius:.0f} px, at least {MIN_RADIUS_ON_WEB_PX:.0f} are needed: take a "
            "larger one"
        )
    return ball


def _circle_in(seen: NDArray[np.float32]) -> NDArray[np.float64]:
    """The one circle (x, y, radius) that stands for a ball."""
    found = cv2.HoughCircles(
        cv2.GaussianBlur(seen, (0, 0), _BLUR_PX).astype(np.uint8),
        cv2.HOUGH_GRADIENT_ALT,
        dp=1.5,
        minDist=2 * MIN_RADIUS_PX,
        param1=_CANNY,
        param2=_PERFECTION,
        minRadius=int(MIN_RADIUS_PX),
        maxRadius=max(seen.shape) // 2,
    )
    circles = [] if found is None else _apart(found.reshape(-1, 3).astype(np.float64))
    if not circles:
        raise CalibrationError("no ball was found: it must stand free of the picture's border, its outline visible")
    if len(circles) > 1:
        where = ", ".join(f"({x:.0f}, {y:.0f})" for x, y, _ in circles)
        raise CalibrationError(f"{len(circles)} balls were found, at pixels {where}: one is expected in a picture")
    return circles[0]


def brightness(images: Sequence[F32]) -> NDArray[np.uint8]:
    """All lights together, on a scale on which a dim background still shows beside a highlight."""
    mean = np.mean([image.astype(np.float32) for image in images], axis=0)
    level = np.log1p(mean * (1000.0 / max(1.0, float(mean.max()))))
    low, high = np.percentile(level, [0.0, 99.5])
    return cv2.convertScaleAbs(level - low, alpha=255.0 / max(1e-6, float(high - low)))  # type: ignore[return-value]


def _apart(circles: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The circles that may be balls: not within a larger one, where they are its reflections, and not much smaller
    than the largest, where they are parts of the stand."""
    kept: list[NDArray[np.float64]] = []
    for circle in sorted(circles, key=lambda c: -c[2]):
        large = circle[2] > _LEAST_OF_LARGEST * circles[:, 2].max()
        if large and all(np.hypot(*(circle[:2] - other[:2])) > other[2] for other in kept):
            kept.append(circle)
    return kept


def _rim(image: NDArray[np.float32], circle: NDArray[np.float64]) -> NDArray[np.float64]:
    """The outline of a mirror ball on lit web, given the clearest circle: that outline, or the horizon in the ball.

    A mirror ball seen from far above shows what lies below its horizon outside of sin 45 degrees of its radius: lit
    web, which the faint rim parts from the web beside it. Raises CalibrationError where no rim is seen about a horizon.
    """
    x, y, radius = circle
    reach = np.arange(0.0, _REACH, 0.5 / radius)
    profile = np.median(_polar(image, x, y, reach * radius)[0], axis=0)
    inner, band, outer = (np.median(profile[_within(reach, limits)]) for limits in _BANDS)
    if abs(band - outer) < abs(band - inner):
        return circle
    step = np.gradient(profile)
    half = round(_BASE * radius / 0.5)
    base = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(step, half, "edge"), 2 * half + 1), axis=1)
    sharp = np.abs(step - base)
    rim = np.where(_within(reach, _RIM), sharp, 0).argmax()
    if sharp[rim] < _CONTRAST * np.median(sharp[reach > 1 + _BASE]):
        raise CalibrationError(
            "the web's horizon in the ball is seen, not the ball's outline: say the pitch, or expose longer"
        )
    return np.array([x, y, radius * reach[rim]])


def _within(values: Any, limits: tuple[float, float]) -> Any:
    return (values > limits[0]) & (values < limits[1])


def _polar(
    image: NDArray[np.float32], x: float, y: float, reach: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """The image along rays from (x, y), (rays, reach), smoothed across the rays; and columns and rows of its points."""
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    points_x = (x + np.outer(np.cos(angle), reach)).astype(np.float32)
    points_y = (y + np.outer(np.sin(angle), reach)).astype(np.float32)
    rays = cv2.remap(image, points_x, points_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    around = np.pad(rays, ((_ACROSS, _ACROSS), (0, 0)), "wrap")
    smooth = cv2.blur(around, (1, 2 * _ACROSS + 1))[_ACROSS : _ACROSS + _RAYS]
    return smooth.astype(np.float64), points_x, points_y


def _refined(image: NDArray[np.float32], circle: NDArray[np.float64]) -> Ball:
    """The circle through the steepest step along each ray, reweighted (Cauchy, 1 px) since part of the rays see a
    foot, a shadow or a dark background."""
    x, y, radius = circle
    reach = np.arange(-_SEARCH, _SEARCH, 0.25 / radius) * radius + radius
    profiles, points_x, points_y = _polar(cv2.GaussianBlur(image, (0, 0), _SMOOTH_PX), x, y, reach)
    steps = np.abs(np.gradient(profiles, axis=1))
    at = steps.argmax(axis=1)
    rays = np.arange(_RAYS)
    edges = np.stack([points_x[rays, at], points_y[rays, at]], axis=1).astype(np.float64)
    fit = np.array([x, y, radius])
    for _ in range(_ROUNDS):
        off = np.hypot(edges[:, 0] - fit[0], edges[:, 1] - fit[1]) - fit[2]
        weight = 1.0 / (1.0 + off * off)
        fit = _circle(edges, weight)
    seen = np.abs(off) < _SEEN_PX
    return Ball(float(fit[0]), float(fit[1]), float(fit[2]), float(np.sqrt((off[seen] ** 2).mean())))


def _circle(points: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x, y, radius) of the algebraic least-squares circle (Kasa 1976) through weighted points (m, 2)."""
    matrix = np.column_stack([2 * points, np.ones(len(points))])
    root = np.sqrt(weight)
    x, y, rest = np.linalg.lstsq(matrix * root[:, None], (points**2).sum(axis=1) * root, rcond=None)[0]
    return np.array([x, y, np.sqrt(rest + x * x + y * y)])
