"""The roll map: the whole web to scale, defects by class, gaps hatched, as one picture.

Transport runs to the right and goes on in the next row, as one reads.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import U8, Coverage, Defect
from edge.service.pictures import Colour, Look, colour_of, next_round, write_picture

_MAP_PX, _TALLEST_PX = 1600, 1300
_ASPECT = 1.6
_FOLD_PX = 2400
_MARGIN, _GAP, _HEADER, _NARROWEST_PX = 28, 40, 74, 760
_WHITE, _INK, _PALE = (255, 255, 255), (48, 36, 28), (150, 150, 150)
UNSEEN, DEGRADED = (90, 90, 250), (80, 200, 250)
_FONT = cv2.FONT_HERSHEY_SIMPLEX

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the picture."""


class RollMap:
    """Gathers a roll into a picture of one layer of its look.

    `labels` without background; `web_mm`: the length expected, None where nobody knows. A longer web is drawn smaller.
    """

    def __init__(
        self,
        labels: Sequence[str],
        width_px: int,
        pitch_mm: float,
        web_mm: float | None,
        layer: Literal["relief", "albedo"] = "relief",
        colours: Sequence[Colour] | None = None,
    ) -> None:
        chosen = colours or [colour_of(index) for index in range(1, len(labels) + 1)]
        self._colours = dict(zip(labels, chosen, strict=True))
        self._counts = dict.fromkeys(labels, 0)
        self._layer = layer
        self._pitch_mm = pitch_mm
        self._width_mm = width_px * pitch_mm
        expected_mm = web_mm or self._width_mm
        rows = max(1, round(math.sqrt(expected_mm / self._width_mm / _ASPECT)))
        row_mm = math.ceil(expected_mm / rows / self._width_mm * 10 - 1e-9) * self._width_mm / 10
        finest = (4.0 if rows == 1 else 1.0) / pitch_mm
        self._px_per_mm = min(finest, _MAP_PX / row_mm, _TALLEST_PX / (rows * self._width_mm))
        self._row_px = math.ceil(row_mm * self._px_per_mm - 1e-6)
        self._row_mm = self._row_px / self._px_per_mm
        self._bands: list[U8] = []
        self._seen_mm = 0.0
        self._not_inspected: list[Coverage] = []

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the picture."""
        height, width = self._band_px[0], self._shown_px
        rows = max(1, len(self._bands))
        return max(_NARROWEST_PX, width + 2 * _MARGIN), _HEADER + rows * (height + _GAP)

    def add(self, look: Look) -> None:
        """Draw a strip."""
        plane = look.relief if self._layer == "relief" else look.albedo
        from_mm = look.first_row * self._pitch_mm
        self._make_room(from_mm + len(plane) * self._pitch_mm)
        height, width = self._band_px
        start = round(from_mm * self._px_per_mm)
        stop = round((from_mm + len(plane) * self._pitch_mm) * self._px_per_mm)
        if stop <= start:
            return
        small = cv2.resize(np.ascontiguousarray(plane.T), (stop - start, height), interpolation=cv2.INTER_AREA)
        for column in range(start, stop):
            row, at = divmod(column, width)
            if row < len(self._bands):
                self._bands[row][:, at] = small[:, column - start, None]

    def add_event(self, body: Defect | Coverage) -> None:
        """Draw a contour as it comes, count a defect when it closes, remember web that was not seen."""
        if isinstance(body, Coverage):
            if body.state != "inspected":
                self._not_inspected.append(body)
            return
        for polygon in body.contour_mm:
            self.outline(np.asarray(polygon, np.float64), body.label)
        if body.phase == "closed" and body.merged_into is None:
            self.count(body.label)

    def count(self, label: str) -> None:
        """One more in the legend."""
        self._counts[label] += 1

    def outline(self, points_mm: NDArray[np.float64], label: str, thickness: int = 1) -> None:
        """Draw a closed polygon (k, 2) of (x, y) in a label's colour."""
        lowest, highest = points_mm[:, 1].min(), points_mm[:, 1].max()
        for row in range(int(lowest // self._row_mm), int(highest // self._row_mm) + 1):
            if 0 <= row < len(self._bands):
                shifted = points_mm[:, ::-1] - np.array([row * self._row_mm, 0.0])
                on_map = np.rint(shifted * self._px_per_mm - 0.5).astype(np.int32)
                cv2.polylines(self._bands[row], [on_map], True, self._colours[label], thickness, cv2.LINE_AA)

    def boxes(self, from_mm: float, to_mm: float) -> list[Box]:
        """Where a length of web lies on the picture, one box for each row of it."""
        height, width = self._band_px
        found = []
        for row in range(int(from_mm // self._row_mm), min(len(self._bands), math.ceil(to_mm / self._row_mm))):
            left, right = (min(max(mm - row * self._row_mm, 0.0), self._row_mm) for mm in (from_mm, to_mm))
            x, across = round(left * self._px_per_mm), round((right - left) * self._px_per_mm)
            found.append((_MARGIN + x, _HEADER + row * (height + _GAP), min(across, width - x), height))
        return found

    def write(self, path: Path, title: str) -> None:
        """Put the bands under one another with scale and legend, as PNG. Raises OSError."""
        for coverage in self._not_inspected:
            self._hatch(coverage)
        band_height, band_width = self._band_px[0], self._shown_px
        width, height = self.size_px
        sheet = np.full((height, width, 3), 255, np.uint8)
        _text(sheet, title, (_MARGIN, 28), 0.7)
        self._legend(sheet, 56)
        for row, band in enumerate(self._bands):
            top = _HEADER + row * (band_height + _GAP)
            sheet[top : top + band_height, _MARGIN : _MARGIN + band_width] = band[:, :band_width]
            cv2.rectangle(sheet, (_MARGIN - 1, top - 1), (_MARGIN + band_width, top + band_height), _PALE, 1)
            self._scale(sheet, row, top + band_height)
        write_picture(path, sheet)

    @property
    def _band_px(self) -> tuple[int, int]:
        """Height and width of a row of the map."""
        return max(1, math.ceil(self._width_mm * self._px_per_mm)), self._row_px

    @property
    def _shown_px(self) -> int:
        """Width of what is shown of a row: a single one ends with the web."""
        return min(self._row_px, math.ceil(self._seen_mm * self._px_per_mm)) if len(self._bands) == 1 else self._row_px

    def _make_room(self, to_mm: float) -> None:
        self._seen_mm = max(self._seen_mm, to_mm)
        while math.ceil(to_mm / self._row_mm - 1e-9) > len(self._bands):
            if len(self._bands) > 1 and (len(self._bands) + 1) * (self._band_px[0] + _GAP) > _FOLD_PX:
                self._fold()
            else:
                self._bands.append(self._empty_band())

    def _empty_band(self) -> U8:
        return np.full((*self._band_px, 3), 255, np.uint8)

    def _fold(self) -> None:
        """Two rows become one of half the size."""
        if len(self._bands) % 2:
            self._bands.append(self._empty_band())
        pairs = [np.hstack(self._bands[row : row + 2]) for row in range(0, len(self._bands), 2)]
        self._row_mm, self._px_per_mm = 2 * self._row_mm, self._px_per_mm / 2
        height, width = self._band_px
        self._bands = [np.asarray(cv2.resize(pair, (width, height), interpolation=cv2.INTER_AREA)) for pair in pairs]

    def _legend(self, sheet: U8, baseline: int) -> None:
        x = _MARGIN
        entries = [
            (f"{label.replace('_', ' ')}: {self._counts[label]}", self._colours[label]) for label in self._counts
        ]
        for text, colour in [*entries, ("not seen", UNSEEN), ("degraded", DEGRADED)]:
            cv2.rectangle(sheet, (x, baseline - 12), (x + 14, baseline + 2), colour, -1)
            _text(sheet, text, (x + 21, baseline), 0.5)
            x += 42 + cv2.getTextSize(text, _FONT, 0.5, 1)[0][0]

    def _scale(self, sheet: U8, row: int, bottom: int) -> None:
        step = next_round(self._shown_px / self._px_per_mm / 10)
        first = math.ceil(row * self._row_mm / step - 1e-9)
        last = math.floor((row * self._row_mm + self._shown_px / self._px_per_mm) / step + 1e-9)
        for mark in range(first, last + 1):
            x = _MARGIN + round((mark * step - row * self._row_mm) * self._px_per_mm)
            cv2.line(sheet, (x, bottom), (x, bottom + 6), _INK, 1)
            label = f"{mark * step:g}" + (" mm" if mark == first else "")
            size = cv2.getTextSize(label, _FONT, 0.48, 1)[0][0]
            _text(sheet, label, (min(max(0, x - size // 2), sheet.shape[1] - size), bottom + 22), 0.48)

    def _hatch(self, coverage: Coverage) -> None:
        colour = UNSEEN if coverage.state == "uninspected" else DEGRADED
        first, last = (round(mm * self._px_per_mm) for mm in (coverage.from_mm, coverage.to_mm))
        height, width = self._band_px
        for column in range(first, last):
            row, at = divmod(column, width)
            if row < len(self._bands):
                rows = np.arange(height)
                on = (rows + column) % 12 < 2
                on[:4] = on[-4:] = True
                self._bands[row][on, at] = colour


def _text(sheet: U8, text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(sheet, text, at, _FONT, size, _INK, 1, cv2.LINE_AA)
