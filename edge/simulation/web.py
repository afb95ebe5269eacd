"""A rendered web: height, albedo, normals and classes of coated foil at any position, from a seed alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32, U8, PlantedDefect
from edge.simulation.planting import (
    AGGLOMERATION,
    BLADE_TRAIL,
    CAVITY,
    CRACK,
    LABELS,
    STAIN,
    Frequencies,
    Planted,
    planted_between,
)
from edge.simulation.relief import Octave, draw_classes, draw_fine, noise_between

OVERSAMPLE = 4
"""Fine samples along each side of a pixel."""

MARGIN = 3 * OVERSAMPLE
"""Fine samples that `RenderedWeb.fine` adds on every side, for slopes and for shadows that reach in."""

VERSION = "3"
"""Changes whenever the same seed gives another web."""

_RANK = np.zeros(len(LABELS), np.uint8)
_RANK[[BLADE_TRAIL, AGGLOMERATION, CRACK, CAVITY]] = 1, 2, 3, 4

_SLOPE_OF_SPLINE = np.sqrt((2 / 3) / (151 / 315))
"""Root-mean-square slope of unit cubic B-spline noise, per lattice step."""


@dataclass(frozen=True)
class Coating:
    """Texture of the good web: (lattice step in mm, root mean square) of slope in degrees and of albedo."""

    slopes: tuple[tuple[float, float], ...] = ((0.2, 1.0), (1.5, 0.6), (12.0, 0.3))
    albedos: tuple[tuple[float, float], ...] = ((0.15, 0.03), (4.0, 0.02))


SMOOTH = Coating(slopes=(), albedos=())
"""Perfectly flat and even."""
COARSE = Coating(slopes=((0.25, 2.0), (1.5, 0.8), (12.0, 0.4), (90.0, 0.8)), albedos=((0.2, 0.05), (4.0, 0.03)))
"""Coarse grain on a web that flutters by a millimetre."""
POLISHED = Coating(slopes=((0.2, 0.3), (1.5, 0.3), (90.0, 0.5)), albedos=((0.15, 0.01), (4.0, 0.01)))
"""Foil with hardly any grain."""


def _is_defect(planted: Planted) -> bool:
    return planted.class_index != STAIN


@dataclass(frozen=True)
class RenderedWeb:
    """Coated foil `width_px` wide. `extra` defects are planted beside those the frequencies give.

    Row 0 is the start of the web; pixel (r, c) covers [r, r + 1) x [c, c + 1) times the pitch.
    """

    seed: int
    width_px: int
    frequencies: Frequencies
    pitch_mm: float = 0.05
    coating: Coating = Coating()
    extra: tuple[Planted, ...] = ()

    def planted(self, first_row: int, rows: int) -> list[Planted]:
        """Planted defects that reach into the rows."""
        from_mm, to_mm = first_row * self.pitch_mm, (first_row + rows) * self.pitch_mm
        found = planted_between(self.seed, self.width_px * self.pitch_mm, self.frequencies, from_mm, to_mm)
        return found + [p for p in self.extra if p.box_mm[1] < to_mm and p.box_mm[3] > from_mm]

    def planted_defects(self, rows: int) -> list[PlantedDefect]:
        """The truth of web rows [0, rows), numbered in the order of planting."""
        return [
            PlantedDefect(
                id=number,
                label=LABELS[defect.class_index],
                box_mm=defect.box_mm,
                length_mm=defect.length_mm,
                width_mm=defect.width_mm,
                relief_mm=defect.relief_mm,
            )
            for number, defect in enumerate(filter(_is_defect, self.planted(0, rows)), start=1)
        ]

    def fine(self, first_row: int, rows: int, out: tuple[F32, F32] | None = None) -> tuple[F32, F32]:
        """Height (mm) and albedo, each (rows * S + 2 M, width * S + 2 M) f32 with S = OVERSAMPLE and M = MARGIN.

        Sample (i, j) lies at ((j - M + 0.5) / S, (i - M + 0.5) / S) pixels from the first row's corner. `out`: what
        an earlier call of as many rows gave, to be drawn over.
        """
        shape = (rows * OVERSAMPLE + 2 * MARGIN, self.width_px * OVERSAMPLE + 2 * MARGIN)
        height, albedo = out or (np.empty(shape, np.float32), np.empty(shape, np.float32))
        step = self.pitch_mm / OVERSAMPLE
        first_fine = first_row * OVERSAMPLE - MARGIN
        slopes, albedos = (noise_between(octaves, first_fine, *shape) for octaves in self.octaves)
        ellipses, _, grooves, _ = self._primitives(first_row - 4, rows + 8)
        draw_fine(height, albedo, first_fine, step, (0.5 - MARGIN) * step, slopes, albedos, ellipses, grooves)
        return height, albedo

    @property
    def octaves(self) -> tuple[list[Octave], list[Octave]]:
        """Noise of the height (mm) and of the albedo."""
        step = self.pitch_mm / OVERSAMPLE
        slopes = [
            Octave(round(lattice_mm / step), np.tan(np.radians(deg)) * lattice_mm / _SLOPE_OF_SPLINE, seed)
            for seed, (lattice_mm, deg) in enumerate(self.coating.slopes, start=self.seed * 64)
        ]
        albedos = [
            Octave(round(lattice_mm / step), rms, seed)
            for seed, (lattice_mm, rms) in enumerate(self.coating.albedos, start=self.seed * 64 + 32)
        ]
        return slopes, albedos

    def normals(self, first_row: int, rows: int) -> F32:
        """Unit normals (3, rows, width) at pixel centres (over the inner half of the pixel's width and height)."""
        height, _ = self.fine(first_row, rows)
        step = 2 * self.pitch_mm / OVERSAMPLE
        inner, before, after = (slice(MARGIN + by, by - MARGIN) for by in (0, -1, 1))
        slope_x = (height[inner, after] - height[inner, before]) / step
        slope_y = (height[after, inner] - height[before, inner]) / step
        fine = np.stack([-slope_x, -slope_y, np.ones_like(slope_x)])
        fine /= np.linalg.norm(fine, axis=0)
        cells = fine.reshape(3, rows, OVERSAMPLE, self.width_px, OVERSAMPLE)[:, :, 1:3, :, 1:3]
        mean = cells.mean(axis=(2, 4))
        normals: F32 = (mean / np.linalg.norm(mean, axis=0)).astype(np.float32)
        return normals

    def heights(self, first_row: int, rows: int) -> F32:
        """Mean height (rows, width) of each pixel in mm."""
        height, _ = self.fine(first_row, rows)
        cells = height[MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(rows, OVERSAMPLE, self.width_px, OVERSAMPLE)
        heights: F32 = cells.mean(axis=(1, 3), dtype=np.float32)
        return heights

    def classes(self, first_row: int, rows: int) -> U8:
        """Class index (rows, width) at pixel centres."""
        classes = np.zeros((rows, self.width_px), np.uint8)
        ellipses, ellipse_class, grooves, groove_class = self._primitives(first_row, rows)
        p = self.pitch_mm
        draw_classes(classes, (first_row + 0.5) * p, 0.5 * p, p, ellipses, ellipse_class, grooves, groove_class, _RANK)
        return classes

    def _primitives(self, first_row: int, rows: int) -> tuple[NDArray[np.float64], U8, NDArray[np.float64], U8]:
        """Ellipses and grooves that reach into the rows, each with its class."""
        y0, y1 = first_row * self.pitch_mm, (first_row + rows) * self.pitch_mm
        planted = self.planted(first_row, rows)
        none = Planted(0)
        ellipses = np.concatenate([none.ellipses, *(p.ellipses for p in planted)])
        grooves = np.concatenate([none.grooves, *(p.grooves for p in planted)])
        ellipse_class = np.repeat([p.class_index for p in planted], [len(p.ellipses) for p in planted])
        groove_class = np.repeat([p.class_index for p in planted], [len(p.grooves) for p in planted])
        reach = ellipses[:, 2:4].max(axis=1)
        near_e = (ellipses[:, 1] + reach > y0) & (ellipses[:, 1] - reach < y1)
        half = grooves[:, 4:6].max(axis=1)
        near_g = (grooves[:, [1, 3]].max(axis=1) + half > y0) & (grooves[:, [1, 3]].min(axis=1) - half < y1)
        return (
            np.ascontiguousarray(ellipses[near_e]),
            ellipse_class[near_e].astype(np.uint8),
            np.ascontiguousarray(grooves[near_g]),
            groove_class[near_g].astype(np.uint8),
        )
