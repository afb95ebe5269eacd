"""Finding a ball in photographs of it under several lights, with nothing set by hand."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.types import F32

MIN_RADIUS_PX = 12.0
_BLUR_PX = 1.5
_CANNY = 100.0
_PERFECTION = 0.8
"""Least part of a circle's outline that must be seen as an edge (param2 of HOUGH_GRADIENT_ALT)."""
_LEAST_OF_LARGEST = 0.4
_RAYS = 720
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
    seen = brightness(images)
    found = cv2.HoughCircles(
        cv2.GaussianBlur(seen, (0, 0), _BLUR_PX),
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
    return _refined(seen.astype(np.float32), circles[0])


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


def _refined(image: NDArray[np.float32], circle: NDArray[np.float64]) -> Ball:
    """The circle through the steepest step along each ray, reweighted (Cauchy, 1 px) since part of the rays see a
    foot, a shadow or a dark background."""
    x, y, radius = circle
    angle = np.arange(_RAYS) * (2 * np.pi / _RAYS)
    reach = np.arange(-_SEARCH, _SEARCH, 0.25 / radius) * radius + radius
    points_x = (x + np.outer(np.cos(angle), reach)).astype(np.float32)
    points_y = (y + np.outer(np.sin(angle), reach)).astype(np.float32)
    smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
    profiles = cv2.remap(smooth, points_x, points_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
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
