"""The types that travel between rooms, each declared once.

Arrays are (row, column): x along the row (across the web), y along the columns (along transport), z towards
the camera. A name carries its unit. Web rows are integers from the start of the roll; millimetres are derived
from them with the pitch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.core.blocks import block_means
from edge.core.calibration import Calibration

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Frame:
    """One exposure under one light.

    `pixels` (h, w) u8 or u16, read-only; `light` 0..n-1; `frame_id` the device's counter (a gap means lost
    frames); `encoder_mm` web position at mid-exposure; `exposed_ns` monotonic clock; `complete` False where the
    transport lost part of the image.
    """

    pixels: Pixels
    light: int
    frame_id: int
    encoder_mm: float
    exposed_ns: int
    exposure_us: float
    complete: bool = True

    @cached_property
    def block_means(self) -> NDArray[np.float64]:
        """`blocks.block_means` of the pixels, computed when first asked for."""
        return block_means(self.pixels)

    def knowing(self, means: NDArray[np.float64]) -> Self:
        """This frame, whose `block_means` somebody has computed already."""
        self.__dict__["block_means"] = means
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """Rows of web as seen under the lights, registered to each other.

    `planes` (n, rows, width) f32, flat-field corrected, 0 where a light has not seen the row;
    `lights_seen` (rows, ceil(n/8)) u8 bit mask, light k is bit k%8 of byte k//8;
    `source_row` (n, rows) f32, the image row each web row was seen on, NaN where it was not;
    `first_row` the web row of planes[:, 0].
    """

    planes: F32
    lights_seen: U8
    source_row: F32
    first_row: int

    @property
    def rows(self) -> int:
        return int(self.planes.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """The shape of a strip.

    `normals` (3, rows, width) f32 unit vectors (x, y, z); `albedo` (rows, width) f32 relative to the flat-field
    target; `residual` (rows, width) f32 photometric checksum relative to albedo, NaN where there is none;
    `valid` (rows, width) u8, 1 where the normal can be trusted. A row that was not inspected has valid 0
    throughout, normal (0, 0, 1) and albedo 1.
    """

    normals: F32
    albedo: F32
    residual: F32
    valid: U8
    first_row: int

    @property
    def rows(self) -> int:
        return int(self.albedo.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class ClassMap:
    """What each pixel is: `class_index` (rows, width) u8, 0 = background; `score` u8, 0..255 = probability 0..1.

    `passed_over_px` (rows,): how many pixels of a row the gate inspected and found good: the network did not look at
    them; empty where nobody counts.
    """

    class_index: U8
    score: U8
    first_row: int
    passed_over_px: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def rows(self) -> int:
        return int(self.class_index.shape[0])


Polygon = list[tuple[float, float]]


class Defect(msgspec.Struct, frozen=True, kw_only=True):
    """One connected flaw, however many strips it crosses.

    `phase`: "opened" once, as soon as it is large and sure enough to report; "continued" when a long one hands on
    pieces of its contour; "closed" once, with the final measures. Millimetres are those of `WebAxes`: x across the
    web, y along transport. `box_mm` is (x0, y0, x1, y1) of its pixels' outer
    edges; `length_mm` and `width_mm` are the sides of the smallest rectangle around it, `orientation_deg` that of the
    long side from +x towards +y in (-90, 90]. `contour_mm`: closed polygons of (x, y) at pixel centres, filled by the
    even-odd rule, together at most 256 points an event; a defect's whole outline is that of all its events together.
    `merged_into`: two defects that turned out to be one: this one ends, that one goes on.
    """

    id: int
    label: str
    phase: Literal["opened", "continued", "closed"]
    box_mm: tuple[float, float, float, float]
    centroid_mm: tuple[float, float]
    area_mm2: float
    length_mm: float
    width_mm: float
    orientation_deg: float
    score_mean: float
    score_max: float
    contour_mm: list[Polygon]
    merged_into: int | None = None


class PlantedDefect(msgspec.Struct, frozen=True, kw_only=True):
    """One defect planted in a rendered web: the truth an event is held against.

    `box_mm` as in `Defect`; `length_mm` and `width_mm` of its shape; `relief_mm` its height (negative: depth).
    """

    id: int
    label: str
    box_mm: tuple[float, float, float, float]
    length_mm: float
    width_mm: float
    relief_mm: float


RowState = Literal["inspected", "degraded", "uninspected"]


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the web rows [from_row, to_row), and why ("start" and "end" mark the roll's edges). `from_mm` and
    `to_mm` are where they meet the left edge of the image.

    `passed_over`: share of their pixels that the gate inspected and found good: the network did not look at them.
    """

    from_row: int
    to_row: int
    from_mm: float
    to_mm: float
    state: RowState
    why: str = ""
    passed_over: float = 0.0


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """What a person must know: `kind` names it, `since` is UTC in RFC 3339."""

    kind: str
    since: str
    detail: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the line is doing: `kind` is the state, `since` is UTC in RFC 3339."""

    kind: str
    since: str
    detail: str = ""


class FrameSource(Protocol):
    """Anything that yields frames in the order they were exposed: a recording, a rendered web, a camera.

    `web_mm`: length of web that will have passed when the frames end, None where nobody can know.
    """

    @property
    def calibration(self) -> Calibration: ...

    @property
    def web_mm(self) -> float | None: ...

    def frames(self) -> Iterator[Frame]: ...
