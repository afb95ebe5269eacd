"""Light directions from a mirror ball: the highlight is where the ball mirrors the light into the camera."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.ball import Ball
from edge.core.errors import CalibrationError
from edge.core.types import F32

_RIM = 0.98
"""Highlights farther out than this part of the radius are grazing reflections of the background."""
_LEVEL = 0.5
_MIN_CONTRAST = 4.0
"""A highlight is this many times as bright as the rest of the ball."""


@dataclass(frozen=True, slots=True)
class Highlight:
    """Centre (column, row) in pixels, and the number of pixels above half of its peak."""

    x: float
    y: float
    area_px: int


def light_directions(highlights: Sequence[Highlight], ball: Ball) -> NDArray[np.float64]:
    """(n, 3) unit vectors towards the lights of the highlights, far away compared with the ball.

    With the camera far above (0, 0, 1) the mirror law gives l = 2 (n . v) n - v.
    """
    normals = ball.normals(np.array([h.x for h in highlights]), np.array([h.y for h in highlights]))
    return 2.0 * normals[:, 2:] * normals - np.array([0.0, 0.0, 1.0])


def find_highlight(image: F32, ball: Ball, name: str) -> Highlight:
    """The largest bright spot on the ball, its centre weighted by what is above half the peak.

    Raises CalibrationError, naming the light, where nothing stands out.
    """
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    inside = np.hypot(x - ball.x, y - ball.y) < _RIM * ball.radius
    on_ball = np.where(inside, image, 0).astype(np.float64)
    peak = on_ball.max()
    if peak < _MIN_CONTRAST * max(1.0, float(np.median(image[inside]))):
        raise CalibrationError(f"{name}: no highlight on the ball: is the lamp on, is the ball a mirror?")
    level = _LEVEL * peak
    _, labels, stats, _ = cv2.connectedComponentsWithStats((on_ball >= level).astype(np.uint8))
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    weight = np.where(labels == largest, on_ball - level, 0.0) + 1e-9 * (labels == largest)
    total = weight.sum()
    area = int(stats[largest, cv2.CC_STAT_AREA])
    return Highlight(float((weight * x).sum() / total), float((weight * y).sum() / total), area)
