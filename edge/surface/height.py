"""From normals to heights: how deep a pit is, how high a bump, how strongly the surface bends.

Normals are slopes, and slopes add up to heights only as well as they are known. Noise from pixel to pixel hardly
matters, since its sum grows with the logarithm of the window: 1 % of noise in the images costs 0.2 micrometres in a
window of 64 pixels of 0.05 mm, 0.6 in one of 256. What is wrong all along a window does: a tilt that comes out wrong by
a degree more at one edge of a 50 mm field than at the other bends 13 mm of it by 7 micrometres, 3 mm by 0.4. So heights
are good over the length of a defect, not of the web: integrate about three times the defect, up to 256 pixels or so,
and measure against its surroundings, as `depth_um` does.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.types import F32

F64 = NDArray[np.float64]

MIN_NZ = 0.1
"""Steeper normals than this, 84 degrees, are noise: no slope is made of them."""
_GAP_PX = 2
"""So far off a defect's edge its surroundings begin."""
_LEAST_REACH_PX, _LEAST_WEIGHT = 2.0, 1e-6


def slopes(normals: F32) -> tuple[F64, F64]:
    """dh/dx and dh/dy (rows, width) of unit normals (3, rows, width)."""
    x, y, z = normals.astype(np.float64)
    z = np.maximum(z, MIN_NZ)
    return -x / z, -y / z


def height_um(normals: F32, pitch_mm: float) -> F32:
    """Height (rows, width) in micrometres, with mean 0, of unit normals (3, rows, width).

    The height whose differences from pixel to pixel are nearest to those that the slopes give, nothing being asked of
    it at the edges (a Poisson equation with natural boundary: Frankot and Chellappa 1988, Simchony et al. 1990), solved
    by the FFT of the mirrored window.
    """
    slope_x, slope_y = slopes(normals)
    by_x, by_y = _between(slope_x.T).T, _between(slope_y)
    divergence = np.diff(by_x, axis=1, prepend=0, append=0) + np.diff(by_y, axis=0, prepend=0, append=0)
    mirrored = np.pad(divergence, [(0, size) for size in divergence.shape], mode="symmetric")
    rows, columns = mirrored.shape
    along_y, along_x = np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)
    symbol = 2 * np.cos(2 * np.pi * along_y) + 2 * np.cos(2 * np.pi * along_x) - 4
    symbol[0, 0] = 1
    spectrum = np.fft.rfft2(mirrored) / symbol
    spectrum[0, 0] = 0
    height: F64 = np.fft.irfft2(spectrum, s=mirrored.shape)[: rows // 2, : columns // 2]
    return (1e3 * pitch_mm * height).astype(np.float32)


def _between(slope: F64) -> F64:
    """Rise from each row to the next (rows - 1, ...), in pixels: the integral of the cubic through four slopes."""
    around = np.pad(slope, ((1, 1), (0, 0)), mode="reflect", reflect_type="odd") if len(slope) > 1 else slope[:0]
    rise: F64 = (13 * (around[1:-2] + around[2:-1]) - around[:-3] - around[3:]) / 24
    return rise


def curvature_per_mm(normals: F32, pitch_mm: float) -> F32:
    """Mean curvature (rows, width) in 1/mm of unit normals (3, rows, width): above 0 on a bump, 1/R on a ball of radius
    R; half the divergence of the normals across the web."""
    x, y, _ = normals
    bend = (np.gradient(x, axis=1) + np.gradient(y, axis=0)) / (2 * pitch_mm)
    return np.asarray(bend, np.float32)


def depth_um(height: F32, mask: NDArray[np.bool_]) -> float:
    """How far a defect stands out of its surroundings, in the unit of `height` (rows, width): above 0 for a bump, below
    for a pit; `mask` (rows, width) is the defect.

    The surroundings go on underneath the defect, at each of its pixels as the plane of what lies beside it, weighted by
    a Gaussian as wide as the defect where it is widest: what bends the window, and web that is not flat, falls out. Of
    the heights above them the one farthest off. Raises ValueError where there is no defect, or nothing beside it.
    """
    beside = (~_dilated(mask, _GAP_PX)).astype(np.float64)
    if not mask.any() or not beside.any():
        raise ValueError("no defect in the mask, or nothing beside it to measure it against")
    inside = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = max(_LEAST_REACH_PX, float(inside.max()))
    known = mask & (_gathered(beside, reach) > _LEAST_WEIGHT)
    place = np.indices(height.shape, np.float64)
    terms = [np.ones(height.shape), *(place[axis] - place[axis][known].mean() for axis in (0, 1))]
    gram = [[_gathered(beside * one * other, reach)[known] for other in terms] for one in terms]
    moments = [_gathered(beside * one * height, reach)[known] for one in terms]
    plane = np.linalg.pinv(np.array(gram).transpose(2, 0, 1), hermitian=True) @ np.array(moments).T[..., None]
    relief = height[known] - (plane[..., 0] * np.array([term[known] for term in terms]).T).sum(axis=1)
    return float(relief[np.abs(relief).argmax()])


def _gathered(field: F64, reach: float) -> F64:
    """What lies around each pixel, weighted by a Gaussian; nothing beyond the window."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), reach, borderType=cv2.BORDER_CONSTANT), np.float64)


def _dilated(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel), np.uint8) > 0
