"""Accuracy, precision, recall, F1 and F2 over the threshold (APRF curves)."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.network.thresholds import THRESHOLDS, ThresholdCounts
from edge.core.types import U8
from edge.service.pictures import colour_of, write_picture

NAMES = ("accuracy", "precision", "recall", "f1", "f2")
_HEIGHT, _WIDTH, _MARGIN = 720, 1080, 70


def curves(counts: ThresholdCounts) -> NDArray[np.float64]:
    """(defects, NAMES, THRESHOLDS); NaN where a figure is not defined."""
    true, false, positives, negatives = counts.found, counts.false, counts.there, counts.elsewhere
    missed = positives - true
    return np.stack(
        [
            (true + negatives - false) / (positives + negatives),
            _share(true, true + false),
            _share(true, positives + 0 * true),
            _share(2 * true, 2 * true + missed + false),
            _share(5 * true, 5 * true + 4 * missed + false),
        ],
        axis=1,
    )


class At(msgspec.Struct, frozen=True):
    """The figures of one defect at its threshold; None where one is not defined."""

    threshold: float
    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    f2: float | None


def figures_at(curve: NDArray[np.float64], threshold: float) -> At:
    """Figures of one defect (NAMES, THRESHOLDS) at the step nearest to a threshold."""
    values = curve[:, np.abs(THRESHOLDS - threshold).argmin()]
    return At(threshold, *(None if np.isnan(value) else float(value) for value in values))


def draw(path: Path, curve: NDArray[np.float64], label: str, threshold: float) -> None:
    """Write the curves of one defect (NAMES, THRESHOLDS) as a picture, with the threshold that was chosen."""
    picture = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    for tick in np.arange(0, 1.01, 0.2):
        (x, bottom), (left, y) = _at(tick, 0), _at(0, tick)
        cv2.line(picture, (left, y), _at(1, tick), (230, 226, 221), 1, cv2.LINE_AA)
        _write(picture, f"{tick:.1f}", (left - 42, y + 6))
        _write(picture, f"{tick:.1f}", (x - 14, bottom + 26))
    cv2.line(picture, _at(threshold, 0), _at(threshold, 1), (120, 120, 120), 1, cv2.LINE_AA)
    _write(picture, f"{label}, threshold {threshold:g}", (_MARGIN, 44), 0.7)
    _write(picture, "threshold", (_at(1, 0)[0] - 80, _HEIGHT - 16))
    for at, (name, values) in enumerate(zip(NAMES, curve, strict=True)):
        colour = tuple(int(value) for value in colour_of(at + 1))
        known = ~np.isnan(values)
        points = np.array([_at(x, y) for x, y in zip(THRESHOLDS[known], values[known], strict=True)], np.int32)
        if len(points):
            cv2.polylines(picture, [points[:, None]], False, colour, 2, cv2.LINE_AA)
        _write(picture, name, (_WIDTH - 130, _MARGIN + 20 + 30 * at), 0.6, colour)
    write_picture(path, picture)


def _at(x: float, y: float) -> tuple[int, int]:
    width, height = _WIDTH - 3 * _MARGIN, _HEIGHT - 2 * _MARGIN
    return round(_MARGIN + x * width), round(_HEIGHT - _MARGIN - y * height)


def _write(
    picture: U8, text: str, at: tuple[int, int], size: float = 0.5, colour: tuple[int, ...] = (48, 36, 28)
) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
