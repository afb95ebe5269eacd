"""Pictures of the most severe defects: albedo, normals, residual, decision and, where known, truth, side by side."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32, U8, ClassMap, Defect, Surface

Truth = Callable[[int, int], U8]
"""Planted classes (rows, width) u8 of `rows` web rows from `first_row` on."""

SHOWN_PER_CLASS = 4
_SIDE_PX = 192
_ROWS_KEPT = 1024
_ZOOM = 2
_BAR_MM = 2.0


@dataclass(frozen=True)
class Picture:
    """A defect and its panels (h, w, 3) u8 BGR, by name."""

    defect: Defect
    panels: dict[str, U8]


class Gallery:
    """Watches a roll go by and keeps, class by class, pictures of the largest defects.

    Only the last rows of web are remembered, so a long defect is shown where it ends. `labels` by class index.
    """

    def __init__(
        self,
        labels: Sequence[str],
        pitch_mm: float,
        colours: Sequence[tuple[int, int, int]],
        truth: Truth | None = None,
    ) -> None:
        self._truth = truth
        self._labels = list(labels)
        self._pitch_mm = pitch_mm
        self._palette = np.array([(32, 32, 32), *(colours[k % len(colours)] for k in range(len(labels) - 1))], np.uint8)
        self._surfaces: deque[Surface] = deque()
        self._class_maps: deque[ClassMap] = deque()
        self._kept: dict[str, list[Picture]] = {label: [] for label in labels[1:]}

    def add_surface(self, surface: Surface) -> None:
        """Remember a strip."""
        self._surfaces.append(surface)
        while surface.first_row - self._surfaces[0].first_row > _ROWS_KEPT:
            self._surfaces.popleft()

    def add_classes(self, class_map: ClassMap) -> None:
        """Remember what was decided of a strip."""
        self._class_maps.append(class_map)
        while class_map.first_row - self._class_maps[0].first_row > _ROWS_KEPT:
            self._class_maps.popleft()

    def add(self, defect: Defect) -> None:
        """Take a picture of a defect that has closed, if it is among the largest of its class."""
        kept = self._kept[defect.label]
        if len(kept) == SHOWN_PER_CLASS and kept[-1].defect.area_mm2 >= defect.area_mm2:
            return
        kept.append(Picture(defect, self._panels(defect)))
        kept.sort(key=lambda picture: -picture.defect.area_mm2)
        del kept[SHOWN_PER_CLASS:]

    def write(self, folder: Path) -> list[tuple[Defect, Path]]:
        """Write one PNG a defect into a folder; gives them with their defects, largest first, class by class."""
        written = []
        for pictures in self._kept.values():
            for picture in pictures:
                path = folder / f"{picture.defect.label}_{picture.defect.id}.png"
                cv2.imwrite(str(path), _sheet(picture.panels, self._pitch_mm))
                written.append((picture.defect, path))
        return written

    def _panels(self, defect: Defect) -> dict[str, U8]:
        x0, y0, x1, y1 = (round(edge / self._pitch_mm) for edge in defect.box_mm)
        first = self._surfaces[0].first_row
        last = self._class_maps[-1].first_row + self._class_maps[-1].rows
        width = self._surfaces[0].albedo.shape[1]
        middle = y1 - _SIDE_PX // 2 if y1 - y0 > _SIDE_PX else (y0 + y1) // 2
        top = min(max(middle - _SIDE_PX // 2, first), max(first, last - _SIDE_PX))
        left = min(max((x0 + x1 - _SIDE_PX) // 2, 0), max(0, width - _SIDE_PX))
        rows = slice(top, min(top + _SIDE_PX, last))
        columns = slice(left, left + _SIDE_PX)
        normals = np.concatenate([_cut(s.normals, s.first_row, rows, columns) for s in self._surfaces], axis=1)
        albedo = np.concatenate([_cut(s.albedo, s.first_row, rows, columns) for s in self._surfaces])
        residual = np.concatenate([_cut(s.residual, s.first_row, rows, columns) for s in self._surfaces])
        classes = np.concatenate([_cut(m.class_index, m.first_row, rows, columns) for m in self._class_maps])
        panels: dict[str, U8] = {
            "albedo": _gray(albedo / 1.4),
            "normals": _normal_colours(normals),
            "residual": _gray(0.5 + np.nan_to_num(residual) / 0.2),
            "found": self._palette[classes],
        }
        if self._truth is not None:
            panels["planted"] = self._palette[self._truth(rows.start, rows.stop - rows.start)[:, columns]]
        return panels


def _cut(plane: F32 | U8, first_row: int, rows: slice, columns: slice) -> F32 | U8:
    """The part of a strip's plane (..., rows, width) that lies in web rows and columns."""
    here = slice(max(0, rows.start - first_row), max(0, rows.stop - first_row))
    return plane[..., here, columns]


def _gray(values: NDArray[np.floating[Any]]) -> U8:
    level = np.clip(255 * values, 0, 255).astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=2)


def _normal_colours(normals: F32) -> U8:
    """Red x, green y, blue z, each from -1 to 1; slopes shown at twice their size."""
    stretched = np.stack([normals[2], 2 * normals[1], 2 * normals[0]], axis=-1)
    return np.clip(127.5 * (1 + stretched), 0, 255).astype(np.uint8)


def _sheet(panels: dict[str, U8], pitch_mm: float) -> U8:
    """Panels in a row with their names and a scale bar."""
    columns = []
    for name, panel in panels.items():
        large = cv2.resize(panel, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST)
        framed = cv2.copyMakeBorder(large, 22, 6, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255))
        cv2.putText(framed, name, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
        columns.append(framed)
    sheet = np.hstack(columns)
    length = round(_BAR_MM / pitch_mm * _ZOOM)
    at = (sheet.shape[1] - length - 12, sheet.shape[0] - 14)
    cv2.line(sheet, at, (at[0] + length, at[1]), (255, 255, 255), 3)
    cv2.putText(sheet, f"{_BAR_MM:g} mm", (at[0], at[1] - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return np.asarray(sheet, np.uint8)
