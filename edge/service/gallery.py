"""Pictures of the most severe defects: albedo, normals, residual, decision and, where known, truth, side by side."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge.core.types import U8, ClassMap, Defect
from edge.service.pictures import SIDES_PX, Crop, Look, file_name, palette, write_picture

Truth = Callable[[int, int], U8]
"""Planted classes (rows, width) u8 of `rows` web rows from `first_row` on."""

SHOWN_PER_CLASS = 4
_ROWS_KEPT = SIDES_PX[-1] + 160


@dataclass(frozen=True)
class _Picture:
    defect: Defect
    sheet: U8


class Gallery:
    """Watches a roll go by and keeps, class by class, pictures of the largest defects.

    Only the last rows of web are remembered, so a long defect is shown where it ends. `labels` by class index.
    """

    def __init__(self, labels: Sequence[str], pitch_mm: float, truth: Truth | None = None) -> None:
        self._truth = truth
        self._pitch_mm = pitch_mm
        self._labels, self._palette = list(labels), palette(len(labels))
        self._looks: deque[Look] = deque()
        self._class_maps: deque[ClassMap] = deque()
        self._kept: dict[str, list[_Picture]] = {label: [] for label in labels[1:]}

    def add(self, look: Look) -> None:
        """Remember a strip."""
        self._looks.append(look)

    def add_classes(self, class_map: ClassMap) -> None:
        """Remember what was decided of a strip, as a copy."""
        self._class_maps.append(replace(class_map, class_index=class_map.class_index.copy()))
        oldest = class_map.first_row - _ROWS_KEPT
        while self._class_maps[0].first_row < oldest:
            self._class_maps.popleft()
        while self._looks and self._looks[0].first_row < oldest:
            self._looks.popleft()

    def add_event(self, defect: Defect, box_px: tuple[int, int, int, int]) -> None:
        """Take a picture of a defect that has closed, if it is among the largest of its class; `box_px`: columns and
        rows it lies in."""
        kept = self._kept[defect.label]
        if len(kept) == SHOWN_PER_CLASS and kept[-1].defect.area_mm2 >= defect.area_mm2:
            return
        kept.append(_Picture(defect, self._sheet(defect, box_px)))
        kept.sort(key=lambda picture: -picture.defect.area_mm2)
        del kept[SHOWN_PER_CLASS:]

    def write(self, folder: Path) -> list[tuple[Defect, Path]]:
        """Write one PNG a defect into a folder; gives them with their defects, largest first, class by class.

        Raises OSError.
        """
        written = []
        for picture in (picture for pictures in self._kept.values() for picture in pictures):
            path = folder / f"{file_name(picture.defect.label)}_{picture.defect.id}.png"
            write_picture(path, picture.sheet)
            written.append((picture.defect, path))
        return written

    def _sheet(self, defect: Defect, box_px: tuple[int, int, int, int]) -> U8:
        last = self._class_maps[-1]
        kind, width_px = self._labels.index(defect.label), last.class_index.shape[1]
        crop = Crop(box_px, kind, width_px, self._looks[0].first_row, last.first_row + last.rows)
        for look in self._looks:
            crop.add(look)
        for class_map in self._class_maps:
            crop.add_classes(class_map.class_index, class_map.first_row)
        truth = None
        if self._truth is not None:
            truth = self._truth(crop.rows.start, crop.rows.stop - crop.rows.start)[:, crop.columns]
        return crop.sheet(self._palette, self._pitch_mm, truth)
