"""Pictures of what a calibration saw."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from calibration.ball import Ball, brightness
from calibration.mirror_ball import Highlight
from edge.core.errors import CalibrationError
from edge.core.types import F32

_CIRCLE_BGR, _LIGHT_BGR = (80, 200, 80), (40, 140, 255)
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def draw_ball(path: Path, images: Sequence[F32], ball: Ball | None, highlights: Sequence[Highlight]) -> None:
    """Write a PNG: all lights together, the ball's outline, each highlight with its light's number."""
    picture = cv2.cvtColor(brightness(images), cv2.COLOR_GRAY2BGR)
    if ball is not None:
        cv2.circle(picture, _fixed(ball.x, ball.y), round(ball.radius * 2**_SHIFT), _CIRCLE_BGR, 1, cv2.LINE_AA, _SHIFT)
    for light, highlight in enumerate(highlights):
        at = _fixed(highlight.x, highlight.y)
        cv2.drawMarker(picture, (round(highlight.x), round(highlight.y)), _LIGHT_BGR, cv2.MARKER_CROSS, 7)
        end = np.array(at) // 2**_SHIFT + np.array([5, -5])
        cv2.putText(picture, str(light), (int(end[0]), int(end[1])), cv2.FONT_HERSHEY_SIMPLEX, 0.35, _LIGHT_BGR)
    done, png = cv2.imencode(".png", picture)
    try:
        path.write_bytes(png.tobytes() if done else b"")
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error


def _fixed(x: float, y: float) -> tuple[int, int]:
    return round(x * 2**_SHIFT), round(y * 2**_SHIFT)
