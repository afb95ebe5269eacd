"""All pictures of a replay, gathered while the web goes by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge.core.types import ClassMap, Coverage, Defect, Surface
from edge.core.web_axes import WebAxes
from edge.service.gallery import Gallery, Truth
from edge.service.pictures import Look
from edge.service.roll_map import Box, RollMap
from edge.service.sections import SectionFiles, Sections

ROLL_MAP, ROLL_ALBEDO, DEFECTS, SECTIONS = "roll_map.png", "roll_albedo.png", "defects", "sections"


@dataclass(frozen=True)
class Pictures:
    """What was written: `defects` with their sheets, `sections` each with where it lies on the roll map."""

    map_size_px: tuple[int, int]
    sections: list[tuple[SectionFiles, list[Box]]]
    defects: list[tuple[Defect, Path]]


class Album:
    """Watches surfaces, classes and events of one roll, and keeps none of the memory they lie in.

    `labels` by class index; `web_mm`: the length expected, None where nobody knows; `truth` is shown where it is known.
    The web is drawn as the camera has seen it, so what is placed on it is laid back from `axes`.
    """

    def __init__(
        self, labels: Sequence[str], width_px: int, axes: WebAxes, web_mm: float | None, truth: Truth | None = None
    ) -> None:
        self._axes, pitch_mm = axes, axes.pitch_mm
        self._maps = {
            ROLL_MAP: RollMap(labels[1:], width_px, pitch_mm, web_mm, "relief"),
            ROLL_ALBEDO: RollMap(labels[1:], width_px, pitch_mm, web_mm, "albedo"),
        }
        self._gallery = Gallery(labels, pitch_mm, truth)
        self._sections = Sections(labels, width_px, pitch_mm)

    def add_surface(self, surface: Surface) -> None:
        """Picture a strip."""
        look = Look.at(surface)
        for roll_map in self._maps.values():
            roll_map.add(look)
        self._gallery.add(look)
        self._sections.add(look)

    def add_classes(self, class_map: ClassMap) -> None:
        """Picture what was decided of a strip."""
        self._gallery.add_classes(class_map)
        self._sections.add_classes(class_map)

    def add_event(self, body: Defect | Coverage) -> None:
        """Mark a defect, or web that was not seen."""
        seen = self._as_seen(body)
        for roll_map in self._maps.values():
            roll_map.add_event(seen)
        if isinstance(seen, Defect):
            self._sections.add_event(seen)
        if isinstance(body, Defect) and body.phase == "closed" and body.merged_into is None:
            self._gallery.add_event(body, self._axes.box_px(body.box_mm))

    def write(self, folder: Path, title: str) -> Pictures:
        """Write everything into the report folder, that has the folders `DEFECTS` and `SECTIONS`."""
        for name, roll_map in self._maps.items():
            roll_map.write(folder / name, title)
        roll_map = self._maps[ROLL_MAP]
        sections = self._sections.write(folder / SECTIONS)
        return Pictures(
            map_size_px=roll_map.size_px,
            sections=[(section, roll_map.boxes(section.from_mm, section.to_mm)) for section in sections],
            defects=self._gallery.write(folder / DEFECTS),
        )

    def _as_seen(self, body: Defect | Coverage) -> Defect | Coverage:
        """With its outline, or its ends, in pitches of the image's own rows and columns."""
        pitch_mm = self._axes.pitch_mm
        if isinstance(body, Coverage):
            return msgspec.structs.replace(body, from_mm=body.from_row * pitch_mm, to_mm=body.to_row * pitch_mm)
        outline = [(self._axes.to_px(np.array(polygon)) * pitch_mm).tolist() for polygon in body.contour_mm]
        return msgspec.structs.replace(body, contour_mm=outline)
