"""The web in full resolution where it is worst: albedo and relief of a few sections along it, with what was found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import U8, ClassMap, Defect
from edge.service.pictures import Colour, Look, colour_of, in_colour, next_round, write_picture

SHOWN = 6
_SECTION_PX = 2_000_000
_MOST_ROWS = 2048
_RULER_PX = 44
_LAYERS = ("albedo", "relief")
_INK, _FONT = (48, 36, 28), cv2.FONT_HERSHEY_SIMPLEX


@dataclass(eq=False)
class Section:
    """Web rows from `first_row` on. `planes` by layer (rows, width) u8; `defect_px`: how much of it is defects."""

    first_row: int
    planes: dict[str, list[U8]] = field(default_factory=lambda: {layer: [] for layer in _LAYERS})
    outlines: list[tuple[Defect, NDArray[np.float64]]] = field(default_factory=list)
    defect_px: int = 0

    @property
    def rows(self) -> int:
        """Rows seen so far."""
        return sum(len(plane) for plane in self.planes[_LAYERS[0]])


@dataclass(frozen=True)
class SectionFiles:
    """A section's place on the web, the number of defects in it and its picture by layer."""

    from_mm: float
    to_mm: float
    defects: int
    paths: dict[str, Path]


class Sections:
    """Watches a roll go by and keeps those sections of it that hold most defects by area, no more than `SHOWN`; where
    there are no defects, a specimen."""

    def __init__(self, labels: Sequence[str], width_px: int, pitch_mm: float) -> None:
        self._labels = list(labels)
        self._pitch_mm = pitch_mm
        self._length = max(64, min(_MOST_ROWS, _SECTION_PX // width_px))
        self._kept: dict[int, Section] = {}
        self._merged: dict[int, int] = {}

    def add(self, look: Look) -> None:
        """Remember a strip."""
        for index, first, here in self._parts(look.first_row, len(look.albedo)):
            section = self._kept.setdefault(index, Section(first))
            section.planes["albedo"].append(look.albedo[here])
            section.planes["relief"].append(look.relief[here])

    def add_classes(self, class_map: ClassMap) -> None:
        """Weigh a strip; a section that is complete takes the place of the best one kept, if it is worse."""
        for index, _, here in self._parts(class_map.first_row, class_map.rows):
            if index in self._kept:
                self._kept[index].defect_px += int(np.count_nonzero(class_map.class_index[here]))
        passed = (class_map.first_row + class_map.rows) // self._length
        complete = sorted((s.defect_px, -index) for index, s in self._kept.items() if index < passed)
        for _, index in complete[: max(0, len(complete) - SHOWN)]:
            del self._kept[-index]

    def add_event(self, defect: Defect) -> None:
        """Remember the outline of a defect, where the web it lies in is kept."""
        if defect.merged_into is not None:
            self._merged[defect.id] = defect.merged_into
        for polygon in defect.contour_mm:
            points = np.asarray(polygon, np.float64) / self._pitch_mm
            first, last = (int(row // self._length) for row in (points[:, 1].min(), points[:, 1].max()))
            for index in range(first, last + 1):
                if index in self._kept:
                    self._kept[index].outlines.append((defect, points))

    def write(self, folder: Path) -> list[SectionFiles]:
        """Write the worst sections, in the order of the web, as JPEG, transport to the right. Raises OSError."""
        worst = sorted((s for s in self._kept.values() if s.rows), key=lambda section: -section.defect_px)[:SHOWN]
        shown = [section for section in worst if section.defect_px] or worst[:1]
        written = []
        for section in sorted(shown, key=lambda section: section.first_row):
            from_mm, to_mm = (row * self._pitch_mm for row in (section.first_row, section.first_row + section.rows))
            paths = {}
            for layer in _LAYERS:
                paths[layer] = folder / f"{from_mm:.0f}mm_{layer}.jpg"
                write_picture(paths[layer], self._picture(section, layer))
            defects = len({self._number(defect) for defect, _ in section.outlines})
            written.append(SectionFiles(from_mm, to_mm, defects, paths))
        return written

    def _parts(self, first_row: int, rows: int) -> list[tuple[int, int, slice]]:
        """Index and first row of each section that a strip reaches into, and which of the strip's rows do."""
        end, parts = first_row + rows, []
        for index in range(first_row // self._length, -(-end // self._length)):
            start = index * self._length
            here = slice(max(start, first_row) - first_row, min(start + self._length, end) - first_row)
            parts.append((index, start, here))
        return parts

    def _picture(self, section: Section, layer: str) -> U8:
        plane = np.concatenate(section.planes[layer]).T
        picture = in_colour(plane)
        named: set[int] = set()
        for defect, points in section.outlines:
            colour = colour_of(self._labels.index(defect.label))
            along = points[:, 1] - section.first_row
            outline = np.rint(np.stack([along, points[:, 0]], axis=1) - 0.5).astype(np.int32)
            cv2.polylines(picture, [outline], True, colour, 1, cv2.LINE_AA)
            number = self._number(defect)
            if number not in named:
                named.add(number)
                _name(picture, number, colour, outline)
        return self._with_ruler(picture, section.first_row)

    def _number(self, defect: Defect) -> int:
        """That of what it turned out to be."""
        number = defect.id
        while number in self._merged:
            number = self._merged[number]
        return number

    def _with_ruler(self, picture: U8, first_row: int) -> U8:
        """With millimetres from the start of the roll below it and across the web at its left."""
        height, width = picture.shape[:2]
        sheet = cv2.copyMakeBorder(
            picture, 8, _RULER_PX, _RULER_PX, _RULER_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)
        )
        step_mm = next_round(100 * self._pitch_mm)
        first = int(np.ceil(first_row * self._pitch_mm / step_mm - 1e-9))
        last = int(np.floor((first_row + width) * self._pitch_mm / step_mm + 1e-9))
        for mark in range(first, last + 1):
            x = _RULER_PX + round(mark * step_mm / self._pitch_mm - first_row)
            cv2.line(sheet, (x, height + 8), (x, height + 15), _INK, 1)
            label = f"{mark * step_mm:g}" + (" mm" if mark == first else "")
            cv2.putText(sheet, label, (x - 12, height + 34), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
        for mark in range(int(height * self._pitch_mm / step_mm + 1e-9) + 1):
            y = 8 + round(mark * step_mm / self._pitch_mm)
            cv2.line(sheet, (_RULER_PX - 7, y), (_RULER_PX - 1, y), _INK, 1)
            cv2.putText(sheet, f"{mark * step_mm:g}", (4, y + 5), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
        return np.asarray(sheet, np.uint8)


def _name(picture: U8, number: int, colour: Colour, outline: NDArray[np.int32]) -> None:
    """Write a defect's number beside its outline (k, 2) of (along, across) pixels."""
    words = str(number)
    (width, height), _ = cv2.getTextSize(words, _FONT, 0.5, 1)
    x = min(max(2, int(outline[:, 0].max()) + 4), picture.shape[1] - width - 2)
    y = min(max(height + 2, int(outline[:, 1].min())), picture.shape[0] - 3)
    cv2.putText(picture, words, (x, y), _FONT, 0.5, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(picture, words, (x, y), _FONT, 0.5, colour, 1, cv2.LINE_AA)
