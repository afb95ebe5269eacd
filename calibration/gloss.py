"""By how much gloss steepens slopes, from a bump or groove of known height on the coating itself.

Diffuse and glossy light together still grow with the slope towards a lamp, only faster: by a factor that is nearly the
same for all gentle slopes, tells nothing of itself in the checksum, and falls out of the height of anything known.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.response import Progress
from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import F32, U8, FrameSource, Strip
from edge.service.pictures import height_panel, in_colour, in_normals, write_picture
from edge.surface.height import depth_um, height_um
from edge.surface.solver import SurfaceSolver

MAX_ROWS = 4096
STEEPEST_DEG = 20.0
"""Of steeper flanks lights are lost, and gloss no longer grows with the slope."""
MAX_ERROR = 0.1
"""Of the gain."""
_COARSER = 4
"""What stands out is looked for in an image so many times smaller, where the grain of the web is averaged away."""
_SURROUNDINGS_PX, _FOOT_PX = 12.0, 3
_LEAST_UM, _ABOVE_TEXTURE = 2.0, 5.0
"""Heights beyond this, and beyond so many times those of the web, stand out."""
_MOST_SIDE_PX = 512
_STRIP_ROWS = 256


@dataclass
class Relief:
    """What was seen: `normals` (3, rows, w) of the window around what stands out, and where that is in it (rows, w)."""

    normals: F32 = field(default_factory=lambda: np.zeros((3, 1, 1), np.float32))
    mask: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((1, 1), np.bool_))

    def draw(self, path: Path, pitch_mm: float) -> None:
        """Write a PNG of normals and heights, what stands out being outlined. Raises CalibrationError."""
        heights, _ = height_panel(self.normals, self.mask, pitch_mm)
        outlines, _ = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        panels: list[U8] = [in_normals(self.normals), in_colour(heights)]
        for panel in panels:
            cv2.drawContours(panel, outlines, -1, (255, 255, 255), 1)
        try:
            write_picture(path, np.hstack(panels))
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True)
class SlopeGain:
    """`gain` of slopes, by a relief that is known and seen `measured_um` high, and its `error`: the web is uneven too;
    `steepest_deg` of its flanks as seen."""

    gain: float
    error: float
    measured_um: float
    steepest_deg: float


def fit_slope_gain(
    source: FrameSource, base: Calibration, known_um: float, relief: Relief, what: str, progress: Progress
) -> SlopeGain:
    """The gain that makes the one bump (`known_um` above 0) or groove (below 0) on this piece of web as high as it is.

    `relief` takes what was seen, `what` names the recording. Raises CalibrationError where nothing or too little stands
    out, where it is too steep, or where it goes the other way.
    """
    pitch_mm = base.pitch_mm
    if pitch_mm is None:
        raise CalibrationError(f"{what}: without a pitch heights have no unit, run `foilsight calibrate scale` first")
    relief.normals = _normals(source, replace(base, slope_gain=1.0), pitch_mm, what, progress)
    box, web_um = _largest(relief, pitch_mm, what)
    slopes = np.hypot(relief.normals[0], relief.normals[1]) / np.maximum(relief.normals[2], 0.1)
    steepest_deg = float(np.degrees(np.arctan(np.percentile(slopes[relief.mask], 98))))
    relief.normals, relief.mask = relief.normals[:, *box], relief.mask[box]
    if steepest_deg > STEEPEST_DEG:
        raise CalibrationError(
            f"{what}: flanks rise by up to {steepest_deg:.0f} degrees, gloss can be told on gentle ones only: use a "
            f"wider or lower relief, of {STEEPEST_DEG:g} degrees at most"
        )
    try:
        measured_um = depth_um(height_um(relief.normals, pitch_mm), relief.mask)
    except ValueError as error:
        raise CalibrationError(f"{what}: nothing of the web is seen beside the relief: show more of it") from error
    if measured_um * known_um <= 0:
        raise CalibrationError(
            f"{what}: what stands out is seen {measured_um:+.1f} um high, it should be {known_um:+.1f}: a groove is "
            "below 0; or lights are interchanged, see `foilsight calibrate show`"
        )
    error = web_um / abs(measured_um)
    if error > MAX_ERROR:
        raise CalibrationError(
            f"{what}: the web around is uneven by {web_um:.0f} um, what stands out is {abs(measured_um):.0f} um high: "
            f"use a relief of {web_um / MAX_ERROR:.0f} um or more"
        )
    return SlopeGain(measured_um / known_um, error, measured_um, steepest_deg)


def _normals(source: FrameSource, base: Calibration, pitch_mm: float, what: str, progress: Progress) -> F32:
    """(3, rows, w) of all rows seen under all lights."""
    assembler, solver = Assembler(base, _STRIP_ROWS, pitch_mm), SurfaceSolver(base)
    parts: list[F32] = []

    def take(strips: Iterable[Strip]) -> None:
        for strip in strips:
            parts.append(solver.solve(strip).normals[:, np.isfinite(strip.source_row).all(axis=0)])
            if assembler.web_rows > MAX_ROWS:
                raise CalibrationError(f"{what}: more than {MAX_ROWS * pitch_mm:.0f} mm of web: cut it to the relief")

    for index, frame in enumerate(source.frames()):
        take(assembler.push(frame))
        progress(index + 1)
    take(assembler.finish())
    if not sum(part.shape[1] for part in parts):
        raise CalibrationError(f"{what}: no row of the web was seen under all lights")
    return np.concatenate(parts, axis=1)


def _largest(relief: Relief, pitch_mm: float, what: str) -> tuple[tuple[slice, slice], float]:
    """Fill the mask with what stands out most; the window around it, and how uneven the web is (um)."""
    _, rows, width = relief.normals.shape
    size = max(1, width // _COARSER), max(1, rows // _COARSER)
    coarse = np.stack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in relief.normals])
    height = height_um(coarse, _COARSER * pitch_mm)
    off = np.abs(height - cv2.GaussianBlur(height, (0, 0), _SURROUNDINGS_PX))
    web_um = float(np.median(off))
    limit_um = max(_LEAST_UM, _ABOVE_TEXTURE * web_um)
    count, labels = cv2.connectedComponents((off > limit_um).astype(np.uint8))
    volumes = np.bincount(labels.ravel(), off.ravel(), count)[1:]
    if not volumes.size:
        raise CalibrationError(
            f"{what}: nothing stands out of the web by {limit_um:.0f} um: show all of the relief, or a higher one"
        )
    foot = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_FOOT_PX, _FOOT_PX))
    found = cv2.dilate((labels == 1 + int(volumes.argmax())).astype(np.uint8), foot)
    relief.mask = cv2.resize(found, (width, rows), interpolation=cv2.INTER_NEAREST) > 0
    left, top, across, along = cv2.boundingRect(relief.mask.astype(np.uint8))
    margin = max(across, along)
    if margin > _MOST_SIDE_PX:
        raise CalibrationError(
            f"{what}: what stands out is {across} x {along} pixels large, heights are good over {_MOST_SIDE_PX}: "
            "take a smaller relief"
        )
    window = slice(max(0, top - margin), top + along + margin), slice(max(0, left - margin), left + across + margin)
    return window, web_um
