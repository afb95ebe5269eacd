"""Pictures of what a calibration saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.ball import Ball, brightness
from edge.core.errors import CalibrationError
from edge.core.types import F32

_CIRCLE_BGR, _LIGHT_BGR = (80, 200, 80), (40, 140, 255)
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(slots=True)
class Sight:
    """One view of a ball as far as it was understood: its photographs under the lights, its outline, and for each light
    found the image points (m, 2), as (column, row), by which it was seen: a spot is one point, an arc many."""

    images: Sequence[F32]
    ball: Ball | None = None
    lights: list[NDArray[np.float64]] = field(default_factory=list)


def draw_sights(path: Path, sights: Sequence[Sight]) -> None:
    """Write a PNG: of each view all lights together, the ball's outline, each light where it was seen, numbered."""
    done, png = cv2.imencode(".png", np.concatenate([_drawn(sight) for sight in sights]))
    try:
        path.write_bytes(png.tobytes() if done else b"")
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error


def _drawn(sight: Sight) -> NDArray[np.uint8]:
    picture = cv2.cvtColor(brightness(sight.images), cv2.COLOR_GRAY2BGR)
    if sight.ball is not None:
        centre = _fixed(np.array([sight.ball.x, sight.ball.y]))
        radius = round(sight.ball.radius * 2**_SHIFT)
        cv2.circle(picture, (int(centre[0]), int(centre[1])), radius, _CIRCLE_BGR, 1, cv2.LINE_AA, _SHIFT)
    for light, points in enumerate(sight.lights):
        at = np.rint(points.mean(axis=0)).astype(int)
        if len(points) == 1:
            cv2.drawMarker(picture, (int(at[0]), int(at[1])), _LIGHT_BGR, cv2.MARKER_CROSS, 7)
        else:
            cv2.polylines(picture, [_fixed(points)], False, _LIGHT_BGR, 1, cv2.LINE_AA, _SHIFT)
        cv2.putText(picture, str(light), (int(at[0]) + 5, int(at[1]) - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _LIGHT_BGR)
    return picture.astype(np.uint8, copy=False)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(points * 2**_SHIFT).astype(np.int32)
