"""What a mirror ball shows of its lights: a distant one as a spot, a line light as an arc."""

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
_ABOVE_HORIZON = 0.68
"""Part of the radius within which the ball shows what is well above the web; its horizon is at sin 45 degrees."""
_MOST_OF_SKY = 0.15
_SLENDER = 4.0
"""An arc is at least this many times as long as wide."""
_SECOND = 0.3
_STEP_PX = 0.5
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Highlight:
    """Centre (column, row) in pixels, and the number of pixels above half of its peak."""

    x: float
    y: float
    area_px: int


@dataclass(frozen=True, slots=True)
class Arc:
    """The image of a line light: points (m, 2) along the middle of it, its two `ends` (2, 2), as (column, row)."""

    points: NDArray[np.float64]
    ends: NDArray[np.float64]


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


def reflected(ball: Ball, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where on the ball image points (m, 2) lie, in radii from its centre, (m, 3), and the unit directions (m, 3) in
    which the camera, far above, looks on from there: 2 (n . v) n - v."""
    normals = ball.normals(points[:, 0], points[:, 1])
    return normals, 2.0 * normals[:, 2:] * normals - np.array([0.0, 0.0, 1.0])


def find_arc(image: F32, ball: Ball, name: str) -> Arc:
    """The one long highlight on the ball, above the web's horizon in it.

    It may well be saturated: its middle line stays where it is. Raises CalibrationError, naming the photograph, where
    nothing stands out, where the highlight has spread over much of the ball, or is no arc.
    """
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    sky = np.hypot(x - ball.x, y - ball.y) < _ABOVE_HORIZON * ball.radius
    ground = float(np.median(image[sky]))
    above = np.where(sky, image - ground, 0).astype(np.float32)
    peak = float(above.max())
    if peak < (_MIN_CONTRAST - 1) * max(1.0, ground):
        raise CalibrationError(
            f"{name}: no highlight on the ball: is the lamp on, is the ball a mirror, is the exposure short enough?"
        )
    _, labels, stats, _ = cv2.connectedComponentsWithStats((above > _LEVEL * peak).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = 1 + int(areas.argmax())
    if areas.sum() > _MOST_OF_SKY * sky.sum():
        raise CalibrationError(f"{name}: the highlight has spread over the ball: expose for a shorter time")
    if (areas > _SECOND * areas.max()).sum() > 1:
        raise CalibrationError(f"{name}: more than one highlight on the ball: is only one lamp on, are there windows?")
    spot = labels == largest
    if (spot & (np.hypot(x - ball.x, y - ball.y) > _ABOVE_HORIZON * ball.radius - 1.5)).any():
        raise CalibrationError(f"{name}: the highlight runs into the web's reflection: the lamp stands too low")
    return _arc(above, spot, name)


def _arc(above: NDArray[np.float32], spot: NDArray[np.bool_], name: str) -> Arc:
    """The middle line of a bright spot: the centre of brightness square to a parabola along its longest extent.

    It ends where what is sent falls to half; short of its ends, which are not cut square, it is left out.
    """
    rows, columns = np.nonzero(spot)
    centre = np.array([columns.mean(), rows.mean()])
    (narrow, wide), axes = np.linalg.eigh(np.cov(np.stack([columns, rows])))
    if wide < _SLENDER**2 * narrow:
        raise CalibrationError(f"{name}: the highlight is a spot and no arc: no line light, or one seen from its end")
    alone = above * cv2.dilate(spot.astype(np.uint8), np.ones((5, 5), np.uint8))
    reach, side = 2.5 * np.sqrt(wide), 3.0 * np.sqrt(narrow) + 4.0
    u, v = np.arange(-reach, reach, _STEP_PX), np.arange(-side, side, _STEP_PX)
    parabola = np.zeros(3)
    for _ in range(_PASSES):
        slope = np.polyval(np.polyder(parabola), u)
        square = np.stack([-slope, np.ones_like(u)], axis=1) / np.hypot(1.0, slope)[:, None]
        base = np.stack([u, np.polyval(parabola, u)], axis=1)
        points = centre + (base[:, None] + v[:, None] * square[:, None]) @ axes.T[::-1]
        values = cv2.remap(alone, points.astype(np.float32), None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        sent = values.sum(axis=1)
        half = np.median(sent[sent > _LEVEL * sent.max()]) / 2
        first, *_, last = np.flatnonzero(sent > half)
        width = np.median((values > _LEVEL * values.max()).sum(axis=1)[first:last])
        inner = slice(first + int(width / 2), last + 1 - int(width / 2))
        middle = base[inner] + ((values[inner] @ v) / sent[inner])[:, None] * square[inner]
        parabola = np.polyfit(middle[:, 0], middle[:, 1], 2)
    ends_u = [_crossing(u, sent, first - 1, half), _crossing(u, sent, last, half)]
    ends = np.stack([ends_u, np.polyval(parabola, ends_u)], axis=1)
    return Arc(centre + middle @ axes.T[::-1], centre + ends @ axes.T[::-1])


def _crossing(x: NDArray[np.float64], y: NDArray[np.float32], index: int, level: float) -> float:
    """Where `y` crosses `level` between `index` and the next."""
    low, high = float(y[index]), float(y[index + 1])
    return float(x[index] + (x[index + 1] - x[index]) * (level - low) / (high - low))
