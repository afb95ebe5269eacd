"""How surfaces, classes and truth look: planes of 8 bits, and sheets that show one place of the web in all of them."""

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32, U8, Surface
from edge.surface.height import curvature_per_mm, depth_um, height_um

Colour = tuple[int, int, int]
"""Blue, green, red."""

COLOURS: tuple[Colour, ...] = (
    (0, 140, 255),
    (60, 20, 220),
    (220, 90, 0),
    (60, 160, 0),
    (180, 0, 160),
    (160, 160, 0),
    (90, 60, 40),
)
"""Of the classes but background, in their order, then again from the first."""

LEAST_HEIGHT_UM = 1.0
"""Heights that differ by less are shown as if it were so much: they are noise."""
ALBEDO_WHITE, RESIDUAL_WHITE, SLOPE_STRETCH = 1.4, 0.1, 2.0
"""Albedo and residual that are shown white (black: 0, minus it); slopes are shown this much larger than they are."""

SIDES_PX = (72, 96, 144, 288, 576, 864)
"""Sides of the squares of web that are shown, in pixels."""
_PANEL_PX = 288
_TITLE_PX, _FOOT_PX, _GUTTER_PX = 26, 26, 3
_INK, _WHITE = (48, 36, 28), (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def colour_of(index: int) -> Colour:
    """Colour of the class with this index, background being 0."""
    return COLOURS[(index - 1) % len(COLOURS)]


def palette(classes: int) -> U8:
    """Colours (classes, 3) u8 by class index; background is dark."""
    return np.array([(32, 32, 32), *(colour_of(index) for index in range(1, classes))], np.uint8)


@dataclass(frozen=True, eq=False)
class Look:
    """A strip as it is shown: `albedo`, `relief` and `residual` (rows, width) u8, `normals` (3, rows, width) f16.

    Rows nobody saw are hatched, their normals NaN.
    """

    first_row: int
    albedo: U8
    relief: U8
    residual: U8
    normals: NDArray[np.float16]

    @classmethod
    def at(cls, surface: Surface) -> "Look":
        """How a strip looks."""
        x, y, _ = surface.normals
        look = cls(
            first_row=surface.first_row,
            albedo=_levels(surface.albedo, 255 / ALBEDO_WHITE, 0),
            relief=np.maximum(_levels(0.5 * surface.albedo + 0.9 * (x + y), 215, 107.5), np.uint8(60)),
            residual=_levels(np.nan_to_num(surface.residual), 127.5 / RESIDUAL_WHITE, 127.5),
            normals=surface.normals.astype(np.float16),
        )
        look._hatch(np.flatnonzero(~surface.valid.any(axis=1)))
        return look

    def _hatch(self, rows: NDArray[np.intp]) -> None:
        if not rows.size:
            return
        on = (rows[:, None] + self.first_row + np.arange(self.albedo.shape[1])) % 12 < 3
        pattern = np.where(on, 150, 245).astype(np.uint8)
        self.albedo[rows] = self.relief[rows] = self.residual[rows] = pattern
        self.normals[:, rows] = np.nan


def _levels(values: F32, gain: float, offset: float) -> U8:
    levels: U8 = np.clip(values * np.float32(gain) + np.float32(offset), 0, 255).astype(np.uint8)
    return levels


class Crop:
    """A square of web, filled from the strips it lies in; a defect of class `kind` in `box_px` (x0, y0, x1, y1) is
    what it is about."""

    def __init__(
        self, box_px: tuple[int, int, int, int], kind: int, width_px: int, first_row: int, end_row: int
    ) -> None:
        """As close to the middle of the box as web rows [first_row, end_row) allow; a long box is shown at its end."""
        x0, y0, x1, y1 = self.box_px = box_px
        self.kind = kind
        longest = max(x1 - x0, y1 - y0)
        side = next((side for side in SIDES_PX if side >= 1.5 * longest), SIDES_PX[-1])
        middle = y1 - side // 2 if y1 - y0 > side else (y0 + y1) // 2
        top = min(max(middle - side // 2, first_row), max(first_row, end_row - side))
        left = min(max((x0 + x1 - side) // 2, 0), max(0, width_px - side))
        self.rows = slice(top, min(top + side, end_row))
        self.columns = slice(left, min(left + side, width_px))
        self.side = side
        shape = (self.rows.stop - top, self.columns.stop - left)
        self.albedo, self.residual = np.full(shape, 255, np.uint8), np.full(shape, 255, np.uint8)
        self.normals = np.full((3, *shape), np.nan, np.float16)
        self.classes = np.zeros(shape, np.uint8)

    def add(self, look: Look) -> None:
        """Take over what of a strip lies here."""
        here, there = self._rows_in(look.first_row, len(look.albedo))
        self.albedo[here] = look.albedo[there, self.columns]
        self.residual[here] = look.residual[there, self.columns]
        self.normals[:, here] = look.normals[:, there, self.columns]

    def add_classes(self, class_index: U8, first_row: int) -> None:
        """Take over what was decided of web rows from `first_row` on."""
        here, there = self._rows_in(first_row, len(class_index))
        self.classes[here] = class_index[there, self.columns]

    def _rows_in(self, first_row: int, rows: int) -> tuple[slice, slice]:
        start = max(self.rows.start, first_row)
        stop = max(start, min(self.rows.stop, first_row + rows))
        return slice(start - self.rows.start, stop - self.rows.start), slice(start - first_row, stop - first_row)

    def sheet(self, colours: U8, pitch_mm: float, truth: U8 | None) -> U8:
        """Albedo, normals, residual, heights, what was found and, with `truth` (rows, columns) u8, what was planted."""
        normals, seen, inside = self._normals(), np.isfinite(self.normals[0]), self._inside()
        heights, title = height_panel(normals, inside, pitch_mm)
        bends = f", bend {np.abs(curvature_per_mm(normals, pitch_mm)[inside]).max():.2g}/mm" if inside.any() else ""
        panels = [
            ("albedo", self._framed(_scaled(in_colour(self.albedo), self.side))),
            (f"normals{bends}", self._framed(_scaled(self._hatched(in_normals(normals), seen), self.side))),
            ("residual", self._framed(_scaled(in_colour(self.residual), self.side))),
            (title, self._framed(_scaled(self._hatched(in_colour(heights), seen), self.side))),
            ("found", self._overlay(self.classes, colours)),
        ]
        if truth is not None:
            panels.append(("planted", self._overlay(truth, colours)))
        height = max(len(panel) for _, panel in panels)
        columns = []
        for name, panel in panels:
            below = height - len(panel) + _FOOT_PX
            column = cv2.copyMakeBorder(
                panel, _TITLE_PX, below, _GUTTER_PX, _GUTTER_PX, cv2.BORDER_CONSTANT, value=_WHITE
            )
            cv2.putText(column, name, (_GUTTER_PX, 18), _FONT, 0.55, _INK, 1, cv2.LINE_AA)
            columns.append(column)
        sheet = np.asarray(np.hstack(columns), np.uint8)
        self._scale_bar(sheet, pitch_mm)
        return sheet

    def _normals(self) -> F32:
        """As if the web lay flat where nobody saw it."""
        normals = self.normals.astype(np.float32)
        flat = np.array([0, 0, 1], np.float32)[:, None, None]
        return np.where(np.isfinite(normals), normals, flat)

    def _hatched(self, picture: U8, seen: NDArray[np.bool_]) -> U8:
        """As the albedo is where nobody saw the web."""
        return np.where(seen[..., None], picture, in_colour(self.albedo))

    def _inside(self) -> NDArray[np.bool_]:
        """What was found of the defect."""
        x0, y0, x1, y1 = self.box_px
        top, left = max(0, y0 - self.rows.start), max(0, x0 - self.columns.start)
        inside = np.zeros(self.classes.shape, np.bool_)
        inside[top : y1 - self.rows.start, left : x1 - self.columns.start] = True
        inside &= self.classes == self.kind
        return inside

    def _overlay(self, classes: U8, colours: U8) -> U8:
        """Classes laid over the albedo, each with its outline."""
        gray = in_colour(self.albedo)
        tinted = np.where(classes[..., None] > 0, gray // 3 + (colours[classes].astype(np.uint16) * 2 // 3), gray)
        return self._framed(_scaled(tinted.astype(np.uint8), self.side))

    def _framed(self, panel: U8) -> U8:
        """With the corners of the box."""
        x0, y0, x1, y1 = self.box_px
        zoom = _PANEL_PX / self.side
        pad = 4
        left, right = ((x - self.columns.start) * zoom + by for x, by in ((x0, -pad), (x1, pad)))
        top, bottom = ((y - self.rows.start) * zoom + by for y, by in ((y0, -pad), (y1, pad)))
        arm = max(5.0, min(14.0, (right - left) / 4, (bottom - top) / 4))
        for corner_x, towards_x in ((left, arm), (right, -arm)):
            for corner_y, towards_y in ((top, arm), (bottom, -arm)):
                corner = [(corner_x + towards_x, corner_y), (corner_x, corner_y), (corner_x, corner_y + towards_y)]
                points = [np.rint(corner).astype(np.int32)]
                cv2.polylines(panel, points, False, (0, 0, 0), 3, cv2.LINE_AA)
                cv2.polylines(panel, points, False, _WHITE, 1, cv2.LINE_AA)
        return panel

    def _scale_bar(self, sheet: U8, pitch_mm: float) -> None:
        zoom = _PANEL_PX / self.side
        length_mm = next_round(self.side * pitch_mm / 4)
        y, x = len(sheet) - _FOOT_PX // 2, _GUTTER_PX + 1
        end = x + round(length_mm / pitch_mm * zoom)
        cv2.line(sheet, (x, y), (end, y), _INK, 2)
        for at in (x, end):
            cv2.line(sheet, (at, y - 4), (at, y + 4), _INK, 1)
        cv2.putText(sheet, f"{length_mm:g} mm", (end + 8, y + 5), _FONT, 0.5, _INK, 1, cv2.LINE_AA)


def in_normals(normals: F32) -> U8:
    """Normals (3, h, w) in their colours (h, w, 3): slopes across the web red, along it green, level blue."""
    x, y, z = normals
    slopes = SLOPE_STRETCH * 127.5
    return np.stack([_levels(z, 127.5, 127.5), _levels(y, slopes, 127.5), _levels(x, slopes, 127.5)], axis=-1)


def height_panel(normals: F32, defect: NDArray[np.bool_], pitch_mm: float) -> tuple[U8, str]:
    """Heights (h, w) u8, the surroundings' median gray and the farthest from it black or white, and a title that says
    by how much the defect, where there is one and web beside it, stands out."""
    height = height_um(normals, pitch_mm)
    off = height - np.median(height[~defect] if not defect.all() else height)
    farthest_um = max(LEAST_HEIGHT_UM, float(np.abs(off).max()))
    try:
        title = f"height {depth_um(height, defect):+.1f} um"
    except ValueError:
        title = f"height within {farthest_um:.1f} um"
    return _levels(off, 127.5 / farthest_um, 127.5), title


def in_colour(gray: U8) -> U8:
    """A gray picture (h, w) as one that can be drawn on in colour (h, w, 3)."""
    return np.repeat(gray[..., None], 3, axis=2)


def _scaled(panel: U8, side: int) -> U8:
    """A square of `side` pixels, or the part of it there is, at the size of a panel."""
    zoom = _PANEL_PX / side
    size = (max(1, round(panel.shape[1] * zoom)), max(1, round(panel.shape[0] * zoom)))
    how = cv2.INTER_NEAREST if zoom >= 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(np.ascontiguousarray(panel), size, interpolation=how), np.uint8)


def next_round(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... (or 0.5, 0.2, ...) that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= least * (1 - 1e-9)))


def write_picture(path: Path, picture: U8) -> None:
    """Write a picture as PNG or JPEG, as the name says. Raises OSError."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92] if path.suffix == ".jpg" else []
    path.write_bytes(bytes(cv2.imencode(path.suffix, picture, quality)[1]))


def file_name(label: str) -> str:
    """A label as a part of a file's name."""
    return re.sub(r"[^\w-]", "_", label)


def normal_ball() -> bytes:
    """A hemisphere in the colours of its normals, as PNG."""
    x, y = np.meshgrid(np.linspace(-1, 1, 96), np.linspace(-1, 1, 96))
    r2 = np.minimum(x * x + y * y, 1)
    z = np.sqrt(1 - r2)
    ball = in_normals(np.stack([x, y, z]).astype(np.float32))
    return bytes(cv2.imencode(".png", ball)[1])
