"""Pictures of a calibration."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.types import F32, U8
from edge.service.pictures import colour_of, next_round

F64 = NDArray[np.float64]
Colour = tuple[int, int, int]

_INK, _PALE, _LINE, _WHITE, _BLACK = (48, 36, 28), (126, 112, 102), (226, 221, 216), (255, 255, 255), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_ABOVE_PX, _FIELD_PX, _CURVE_PX = 620, 580, (900, 240)
_LEAST_HEIGHT_PX = 60


@dataclass(frozen=True)
class Curve:
    """Values by column under a title, and a level to compare them with."""

    title: str
    values: F64
    level: float | None


def directions_from_above(calibration: Calibration) -> U8:
    """(h, w, 3) BGR: every light where it stands around the web, the vertical in the middle, the horizon at the rim.

    As the camera sees it, its rows downwards: y points down where the web comes from below, up where from above.
    """
    picture: U8 = np.full((_ABOVE_PX, _ABOVE_PX, 3), 255, np.uint8)
    middle, rim = _ABOVE_PX // 2, _ABOVE_PX / 2 - 40
    for polar_deg in (30, 60, 90):
        cv2.circle(picture, (middle, middle), round(rim * polar_deg / 90), _LINE, 1, cv2.LINE_AA)
        at = (middle + 4, middle - round(rim * polar_deg / 90) - 4)
        _write(picture, f"{polar_deg} deg", at, _PALE)
    reach, down = round(rim), calibration.transport_sign
    for to, label, where in (
        ((middle + reach, middle), "x, across", (_ABOVE_PX - 88, middle - 8)),
        ((middle, middle + down * reach), "y, the web comes from here", (middle + 8, middle + down * (reach + 22) + 5)),
    ):
        cv2.arrowedLine(picture, (middle, middle), to, _PALE, 1, cv2.LINE_AA, tipLength=0.02)
        _write(picture, label, where, _PALE)
    half_rows = (calibration.height - 1) / 2
    for light in range(calibration.lights):
        path, per_row = (
            each[light] * np.array([[1.0], [down], [1.0]])
            for each in (calibration.light_directions, calibration.light_directions_per_row)
        )
        colour = colour_of(light + 1)
        across = _on_map(path, middle, rim)
        cv2.polylines(picture, [across], False, colour, 3, cv2.LINE_AA, _SHIFT)
        for column in (0, calibration.width // 2, calibration.width - 1):
            ends = path[:, column, None] + per_row[:, column, None] * np.array([-half_rows, half_rows])
            cv2.polylines(picture, [_on_map(ends, middle, rim)], False, colour, 1, cv2.LINE_AA, _SHIFT)
        x, y = across[len(across) // 2] >> _SHIFT
        outwards = np.array([x - middle, y - middle]) / max(1.0, float(np.hypot(x - middle, y - middle)))
        cv2.circle(picture, (int(x), int(y)), 6, colour, -1, cv2.LINE_AA)
        label_x, label_y = np.rint([x, y] + 24 * outwards).astype(int)
        cv2.putText(picture, f"{light}", (int(label_x) - 7, int(label_y) + 8), _FONT, 0.8, colour, 2, cv2.LINE_AA)
    return picture


def _on_map(directions: F64, middle: int, rim: float) -> NDArray[np.int32]:
    """Directions (3, m) as points (m, 2) in OpenCV's fixed point: the polar angle is the distance from the middle."""
    x, y, z = directions
    level = np.hypot(x, y)
    radius = rim * np.degrees(np.arctan2(level, z)) / 90 / np.maximum(level, 1e-12)
    points: NDArray[np.int32] = np.rint((middle + np.stack([x, y], axis=1) * radius[:, None]) * 2**_SHIFT).astype(
        np.int32
    )
    return points


def light_fields(
    counts: F32, calibration: Calibration, azimuth_deg: F64 | None = None, bright_deg: F64 | None = None
) -> list[U8]:
    """A picture (h, w, 3) BGR of each of `counts` (n, h, w), all on one scale from 0 to the most, with arrows towards
    azimuths where they are given, white and black."""
    most = max(float(counts.max()), 1e-6)
    width = min(_FIELD_PX, 4 * calibration.width)
    height = max(_LEAST_HEIGHT_PX, round(width * calibration.height / calibration.width))
    pictures = []
    for light, field in enumerate(counts):
        shown = cv2.resize(np.ascontiguousarray(field), (width, height), interpolation=cv2.INTER_AREA)
        picture = cv2.applyColorMap(np.clip(shown * (255 / most), 0, 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        for colour, azimuths in ((_BLACK, bright_deg), (_WHITE, azimuth_deg)):
            if azimuths is not None:
                _arrow(picture, float(azimuths[light]), calibration.transport_sign, colour)
        pictures.append(np.asarray(picture, np.uint8))
    return pictures


def _arrow(picture: NDArray[np.uint8], azimuth_deg: float, transport_sign: int, colour: Colour) -> None:
    """From the middle of a field towards an azimuth on the web; rows of the image run along y or against it."""
    height, width = picture.shape[:2]
    length, azimuth = 0.42 * height, np.radians(azimuth_deg)
    to = np.rint([length * np.cos(azimuth), transport_sign * length * np.sin(azimuth)]).astype(int)
    thick = 5 if colour == _BLACK else 2
    end = (width // 2 + int(to[0]), height // 2 + int(to[1]))
    cv2.arrowedLine(picture, (width // 2, height // 2), end, colour, thick, cv2.LINE_AA, tipLength=0.25)


def draw_curves(curves: list[Curve], at: F64, unit: str) -> U8:
    """(h, w, 3) BGR: the curves one below another over the places `at` (m,), each from 0 on."""
    return np.asarray(np.vstack([_curve(curve, at, unit) for curve in curves]), np.uint8)


def _curve(curve: Curve, at: F64, unit: str) -> U8:
    width, height = _CURVE_PX
    picture: U8 = np.full((height, width, 3), 255, np.uint8)
    left, right, top, bottom = 70, width - 20, 34, height - 46
    highest = max(float(curve.values.max()), curve.level or 0.0) * 1.1
    step, across = next_round(highest / 5), next_round(max(float(at[-1]), 1e-9) / 8)

    columns = left + at / max(float(at[-1]), 1e-9) * (right - left)
    points = np.stack([columns, bottom - curve.values / highest * (bottom - top)], axis=1)
    _write(picture, curve.title, (left, 20), _INK)
    for value in np.arange(0, highest, step):
        y = round(bottom - value / highest * (bottom - top))
        cv2.line(picture, (left, y), (right, y), _LINE, 1)
        _write(picture, f"{value:g}", (14, y + 5), _PALE)
    for value in np.arange(0, at[-1] * 1.0001, across):
        x = round(left + value / max(float(at[-1]), 1e-9) * (right - left))
        cv2.line(picture, (x, bottom), (x, bottom + 5), _PALE, 1)
        _write(picture, f"{value:g}", (x - 8, bottom + 20), _PALE)
    _write(picture, unit, (right - 80, bottom + 38), _PALE)
    if curve.level is not None:
        y = round(bottom - curve.level / highest * (bottom - top))
        for x in range(left, right, 14):
            cv2.line(picture, (x, y), (min(x + 7, right), y), _PALE, 1)
    cv2.polylines(picture, [np.rint(points * 2**_SHIFT).astype(np.int32)], False, colour_of(3), 2, cv2.LINE_AA, _SHIFT)
    return picture


def _write(picture: NDArray[np.uint8], words: str, at: tuple[int, int], colour: Colour) -> None:
    cv2.putText(picture, words, at, _FONT, 0.45, colour, 1, cv2.LINE_AA)
