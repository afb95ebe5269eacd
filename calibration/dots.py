"""A square grid of dark dots in a picture of it, found with nothing set by hand and placed to hundredths of a pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import CalibrationError
from edge.core.types import F32, U8

Points = NDArray[np.complex128]
"""Column + i row, in pixels; pixel centres are at whole numbers."""

MIN_DOTS = 20
MIN_SPACING_PX = 8.0
_LEAST_CONTRAST = 0.25
_LEAST_AREA_PX = 9
_NEIGHBOURS = 400
_OFF_GRID = 0.2
_SPOILT = 4.0
"""Dots this many times as far off as others are spoilt by dirt."""
_ROUNDS = 4
_AT_A_TIME = 256
_MOST_WAY = 0.5
"""In radii: what has its centre farther from the middle of what is dark there is no round dot."""
_RING_FROM, _RING_TO = 1.7, 2.3
"""The ground around a dot, in radii of the dot."""
_FOUND_BGR, _ON_GRID_BGR = (40, 140, 255), (80, 200, 80)
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclass(frozen=True)
class Grid:
    """Dots that lie on a square grid: `points` (m,) with their whole-numbered places `cells` (m,); a step of one cell
    along the grid's first direction, turned by less than 45 degrees from the row, is `step` (its second is i times
    that); cell 0 lies at `origin`, near the middle of the dots. `skew`: by how much the grid in the image is not
    square, as a part; `residual_px`: how far dots lie from it (RMS)."""

    points: Points
    cells: Points
    origin: complex
    step: complex
    skew: float
    residual_px: float


def find_dots(image: F32) -> tuple[Points, float]:
    """Centres of the whole dark dots in `image` (h, w), and their radius in pixels; none where nothing stands out.

    Ground and light may vary slowly: a dot is what is darker than a closing over an eighth of the picture's height,
    and its centre is weighted by what it lacks to the plane through the ring around it.
    """
    size = max(7, min(image.shape) // 8) | 1
    kernel = np.ones((size, size), np.uint8)
    ground = cv2.morphologyEx(cv2.GaussianBlur(image, (0, 0), 1.0), cv2.MORPH_CLOSE, kernel)
    darkness = 1.0 - image / np.maximum(ground, 1.0)
    contrast = float(np.percentile(darkness, 99.0))
    if contrast < _LEAST_CONTRAST:
        return np.empty(0, np.complex128), 0.0
    _, _, stats, middles = cv2.connectedComponentsWithStats((darkness > contrast / 2).astype(np.uint8))
    stats, middles = stats[1:], middles[1:]
    large = stats[:, cv2.CC_STAT_AREA] >= _LEAST_AREA_PX
    if not large.any():
        return np.empty(0, np.complex128), 0.0
    area = _typical(stats[large, cv2.CC_STAT_AREA])
    wide, high = stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]
    alike = large & (np.abs(np.log(stats[:, cv2.CC_STAT_AREA] / area)) < np.log(1.6))
    alike &= (wide < 1.5 * high) & (high < 1.5 * wide)
    radius = float(np.sqrt(area / np.pi))
    reach = int(np.ceil(_RING_TO * radius)) + 1
    at = np.rint(middles).astype(int)
    bounds = np.array(image.shape)[::-1]
    whole = ((at >= reach) & (at < bounds - reach)).all(axis=1)
    at = at[alike & whole]
    parts = np.array_split(at, 1 + len(at) // _AT_A_TIME)
    centres = np.concatenate([_centres(image, part, reach, radius) for part in parts])
    return centres[np.abs(centres - at @ [1, 1j]) < _MOST_WAY * radius], radius


def _typical(areas: NDArray[np.int32]) -> float:
    """The area up to which areas make up half of all: specks count for little, however many there are."""
    ordered = np.sort(areas)
    return float(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])


def _centres(image: F32, at: NDArray[np.intp], reach: int, radius: float) -> Points:
    """Weighted centres of the dots around the pixels `at` (m, 2).

    The window moves with the centre, its edges soft: what it cuts off a blurred dot it cuts off evenly.
    """
    rows, columns = (side.ravel() for side in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    patches = image[at[:, 1:] + rows, at[:, :1] + columns].astype(np.float64)
    centre: Points = np.zeros(len(at), np.complex128)
    for _ in range(_ROUNDS):
        off = columns + 1j * rows - centre[:, None]
        away = np.abs(off)
        inside = np.clip(_RING_FROM * radius - away + 0.5, 0, 1)
        ring = np.clip(_RING_TO * radius - away + 0.5, 0, 1) - inside
        plane = np.stack([np.ones_like(away), off.real, off.imag], axis=-1)
        weighted = (plane * ring[..., None]).transpose(0, 2, 1)
        ground = plane @ np.linalg.solve(weighted @ plane, weighted @ patches[..., None])
        missing = (1.0 - patches / np.maximum(ground[..., 0], 1e-6)) * inside
        step = (missing * off).sum(axis=1) / np.maximum(missing.sum(axis=1), 1e-6)
        centre += step * np.minimum(1, _MOST_WAY * radius / np.maximum(np.abs(centre + step), 1e-6))
    return at[:, 0] + 1j * at[:, 1] + centre


def fit_grid(points: Points) -> Grid | None:
    """The square grid on which the points lie; None where they are too few, too close or in too few rows."""
    if len(points) < MIN_DOTS:
        return None
    middle = points[np.argmin(np.abs(points - points.mean()))]
    near = points[np.argsort(np.abs(points - middle))[:_NEIGHBOURS]]
    apart = near[:, None] - near[None, :]
    np.fill_diagonal(apart, np.inf)
    nearest = apart[np.arange(len(near)), np.abs(apart).argmin(axis=1)]
    spacing = float(np.median(np.abs(nearest)))
    if spacing < MIN_SPACING_PX:
        return None
    quarter = np.angle(((nearest / np.abs(nearest)) ** 4).mean()) / 4
    step = spacing * np.exp(1j * quarter)
    origin = complex(middle)
    for among in (near, points, points, points):
        cells = _whole((among - origin) / step)
        off = np.abs((among - origin) / step - cells)
        on_grid = off < min(_OFF_GRID, _SPOILT * float(np.median(off)))
        kept, cells = among[on_grid], cells[on_grid]
        if len(kept) < MIN_DOTS or min(np.ptp(cells.real), np.ptp(cells.imag)) < 2:
            return None
        origin, step = _similarity(kept, cells)
    design = np.stack([np.ones_like(cells), cells, cells.conj()], axis=1)
    fit = np.linalg.lstsq(design, kept, rcond=None)[0]
    residual = kept - origin - step * cells
    return Grid(
        points=kept,
        cells=cells,
        origin=origin,
        step=complex(step),
        skew=2 * float(abs(fit[2] / fit[1])),
        residual_px=float(np.sqrt((np.abs(residual) ** 2).mean())),
    )


def _whole(numbers: Points) -> Points:
    return np.rint(numbers.real) + 1j * np.rint(numbers.imag)


def _similarity(points: Points, cells: Points) -> tuple[complex, complex]:
    """Origin and step of least squares."""
    off = cells - cells.mean()
    step = (off.conj() @ (points - points.mean())) / (np.abs(off) ** 2).sum()
    return complex(points.mean() - step * cells.mean()), complex(step)


def draw_dots(path: Path, image: F32, white: float, dots: Points, radius: float, grid: Grid | None) -> None:
    """Write a PNG of the picture with the dots that were found, those on a grid in green. Raises CalibrationError."""
    gray: U8 = np.clip(image * (255.0 / white), 0, 255).astype(np.uint8)
    picture = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    _circles(picture, list(dots), 1.4 * radius, _FOUND_BGR)
    if grid is not None:
        _circles(picture, list(grid.points), 1.4 * radius, _ON_GRID_BGR)
    done, png = cv2.imencode(".png", picture)
    try:
        path.write_bytes(png.tobytes() if done else b"")
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be written ({error.strerror})") from error


def _circles(picture: NDArray[Any], centres: Sequence[complex], radius: float, colour: tuple[int, int, int]) -> None:
    for centre in centres:
        at = round(centre.real * 2**_SHIFT), round(centre.imag * 2**_SHIFT)
        cv2.circle(picture, at, round(radius * 2**_SHIFT), colour, 1, cv2.LINE_AA, _SHIFT)
