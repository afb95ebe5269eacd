"""The roll map: the whole web to scale, defects by class, gaps hatched, as one picture.

Transport runs to the right and goes on in the next row, as one reads.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import Coverage, Defect, Surface

_MAP_PX = 1600
_ASPECT = 1.6
_MARGIN, _GAP, _HEADER = 70, 34, 64
_WHITE, _INK, _PALE = (255, 255, 255), (40, 40, 40), (150, 150, 150)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOURS_BGR = (
    (0, 140, 255),
    (60, 20, 220),
    (220, 90, 0),
    (60, 160, 0),
    (180, 0, 160),
    (160, 160, 0),
    (90, 60, 40),
)
"""Colours of the classes but background, in their order, then again from the first."""


class RollMap:
    """Gathers a roll into a picture. `labels` without background; `web_mm` is the length expected, at least."""

    def __init__(self, labels: Sequence[str], width_px: int, pitch_mm: float, web_mm: float) -> None:
        self._labels = list(labels)
        self._pitch_mm = pitch_mm
        self._width_mm = width_px * pitch_mm
        finest = 1.0 / pitch_mm
        self._rows = max(1, round(math.sqrt(web_mm / self._width_mm / _ASPECT)))
        self._row_mm = math.ceil(web_mm / self._rows / self._width_mm * 10 - 1e-9) * self._width_mm / 10
        self._px_per_mm = min(finest, _MAP_PX / self._row_mm)
        band = (math.ceil(self._width_mm * self._px_per_mm), math.ceil(self._row_mm * self._px_per_mm))
        self._bands = [np.full((*band, 3), 255, np.uint8) for _ in range(self._rows)]
        self._by_label = dict.fromkeys(self._labels, 0)
        self._not_inspected: list[Coverage] = []

    def add_surface(self, surface: Surface) -> None:
        """Draw a strip as relief: light from one side over the albedo."""
        shade = 0.5 * surface.albedo + 0.9 * (surface.normals[0] + surface.normals[1])
        gray = np.clip(215.0 * (0.5 + shade) / 1.0, 60, 250).astype(np.uint8)
        self._paste(gray, surface.first_row * self._pitch_mm)

    def _paste(self, gray: NDArray[np.uint8], from_mm: float) -> None:
        start = round(from_mm * self._px_per_mm)
        stop = round((from_mm + gray.shape[0] * self._pitch_mm) * self._px_per_mm)
        height = self._bands[0].shape[0]
        if stop <= start:
            return
        small = cv2.resize(np.ascontiguousarray(gray.T), (stop - start, height), interpolation=cv2.INTER_AREA)
        for column in range(start, stop):
            row, at = divmod(column, self._bands[0].shape[1])
            if row < self._rows:
                self._bands[row][:, at] = small[:, column - start, None]

    def add_event(self, body: Defect | Coverage) -> None:
        """Draw a contour as it comes, count a defect when it closes, remember web that was not seen."""
        if isinstance(body, Coverage):
            if body.state != "inspected":
                self._not_inspected.append(body)
            return
        colour = self._colour(body.label)
        for polygon in body.contour_mm:
            self._outline(np.asarray(polygon, np.float64), colour)
        if body.phase == "closed" and body.merged_into is None:
            self._by_label[body.label] += 1

    def write(self, path: Path, title: str) -> None:
        """Put the bands under one another with scale and legend, as PNG."""
        for coverage in self._not_inspected:
            self._hatch(coverage)
        band_height, band_width = self._bands[0].shape[:2]
        height = _HEADER + self._rows * (band_height + _GAP) + 16
        sheet = np.full((height, band_width + 2 * _MARGIN, 3), 255, np.uint8)
        _text(sheet, title, (_MARGIN, 26), 0.62, _INK, 1)
        self._legend(sheet, 50)
        for row, band in enumerate(self._bands):
            top = _HEADER + row * (band_height + _GAP)
            sheet[top : top + band_height, _MARGIN : _MARGIN + band_width] = band
            cv2.rectangle(sheet, (_MARGIN - 1, top - 1), (_MARGIN + band_width, top + band_height), _PALE, 1)
            self._scale(sheet, row, top + band_height)
        cv2.imwrite(str(path), sheet)

    def _legend(self, sheet: NDArray[np.uint8], baseline: int) -> None:
        x = _MARGIN
        entries = [(f"{label}: {count}", self._colour(label)) for label, count in self._by_label.items()]
        for text, colour in [*entries, ("not seen", (90, 90, 250)), ("degraded", (80, 200, 250))]:
            cv2.rectangle(sheet, (x, baseline - 10), (x + 12, baseline), colour, -1)
            _text(sheet, text, (x + 18, baseline), 0.45, _INK, 1)
            x += 34 + cv2.getTextSize(text, _FONT, 0.45, 1)[0][0]

    def _scale(self, sheet: NDArray[np.uint8], row: int, bottom: int) -> None:
        step = _nice_step(self._row_mm / 10)
        first = math.ceil(row * self._row_mm / step - 1e-9)
        last = math.floor((row + 1) * self._row_mm / step + 1e-9)
        for mark in range(first, last + 1):
            x = _MARGIN + round((mark * step - row * self._row_mm) * self._px_per_mm)
            cv2.line(sheet, (x, bottom), (x, bottom + 5), _INK, 1)
            label = f"{mark * step:g}" + (" mm" if mark == first else "")
            _text(sheet, label, (x - 4, bottom + 18), 0.4, _INK, 1)

    def _outline(self, points_mm: NDArray[np.float64], colour: tuple[int, int, int]) -> None:
        lowest, highest = points_mm[:, 1].min(), points_mm[:, 1].max()
        for row in range(int(lowest // self._row_mm), int(highest // self._row_mm) + 1):
            if 0 <= row < self._rows:
                shifted = points_mm[:, ::-1] - np.array([row * self._row_mm, 0.0])
                on_map = np.rint(shifted * self._px_per_mm - 0.5).astype(np.int32)
                cv2.polylines(self._bands[row], [on_map], True, colour, 1, cv2.LINE_AA)

    def _hatch(self, coverage: Coverage) -> None:
        colour = (90, 90, 250) if coverage.state == "uninspected" else (80, 200, 250)
        first, last = (round(mm * self._px_per_mm) for mm in (coverage.from_mm, coverage.to_mm))
        height, width = self._bands[0].shape[:2]
        for column in range(first, last):
            row, at = divmod(column, width)
            if row < self._rows:
                rows = np.arange(height)
                on = (rows + column) % 12 < 2
                on[:4] = on[-4:] = True
                self._bands[row][on, at] = colour

    def _colour(self, label: str) -> tuple[int, int, int]:
        return COLOURS_BGR[self._labels.index(label) % len(COLOURS_BGR)]


def _nice_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= least)


def _text(
    sheet: NDArray[np.uint8], text: str, at: tuple[int, int], size: float, colour: tuple[int, int, int], weight: int
) -> None:
    cv2.putText(sheet, text, at, _FONT, size, colour, weight, cv2.LINE_AA)
