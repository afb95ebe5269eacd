"""Kernels that expose a frame: what each fine row of web sends back under each light, and its sum over a pixel."""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.core.types import F32
from edge.simulation.optics import BLOCK_PX, MAX_SLOPE, SLOPES
from edge.simulation.web import MARGIN, OVERSAMPLE

_S, _M = OVERSAMPLE, MARGIN
_STEEP = np.float32(np.tan(np.radians(20.0)) ** 2)
"""Squared slope below which no light at a polar angle of 70 degrees or less is lost."""
_PER_SLOPE = np.float32((SLOPES - 1) / (2 * MAX_SLOPE))


@njit(parallel=True, cache=True, fastmath=True)
def steep_pixels(out: NDArray[np.uint8], height: F32, step_mm: float) -> None:
    """Mark pixels (rows, w) that hold a slope at which light may be lost; `height` as `RenderedWeb.fine` gives it."""
    rows, width = out.shape
    per = np.float32(1.0 / (2.0 * step_mm))
    for row in prange(rows):
        for c in range(width):
            steepest = np.float32(0)
            for r in range(_M + row * _S, _M + row * _S + _S):
                for j in range(_M + c * _S, _M + c * _S + _S):
                    nx, ny = (height[r, j - 1] - height[r, j + 1]) * per, (height[r - 1, j] - height[r + 1, j]) * per
                    steepest = max(steepest, nx * nx + ny * ny)
            out[row, c] = steepest > _STEEP


@njit(parallel=True, cache=True, fastmath=True)
def reflect(
    out: NDArray[np.float32],
    height: F32,
    albedo: F32,
    steep: NDArray[np.uint8],
    step_mm: float,
    towards: F32,
    gloss: F32,
    cast: bool,
) -> None:
    """What fine rows send back: `out` (n, 4, fine rows, w), means over a pixel's width of albedo * n and of gloss.

    A sample turned away from light k, or with `cast` behind a wall that hides the light, sends nothing back under it;
    only `steep` pixels (rows, w) are looked at for that. `towards` (n, 3, w): vectors to the lights; `gloss`: as from
    `gloss_tables`, with no block where there is no gloss. Diffuse response times the irradiance vector, plus gloss
    times the irradiance's z, is the light that reaches the camera.
    """
    lights, _, fine_rows, width = out.shape
    per = np.float32(1.0 / (2.0 * step_mm))
    share = np.float32(1.0 / _S)
    glossy = gloss.shape[1] > 0
    for fine_row in prange(fine_rows):
        r = fine_row + _M
        for c in range(width):
            total_x, total_y, total_z = np.float32(0), np.float32(0), np.float32(0)
            slope_x, slope_y = np.float32(0), np.float32(0)
            for j in range(_M + c * _S, _M + c * _S + _S):
                nx, ny = (height[r, j - 1] - height[r, j + 1]) * per, (height[r - 1, j] - height[r + 1, j]) * per
                weight = albedo[r, j] * share / np.sqrt(np.float32(1) + nx * nx + ny * ny)
                total_x += weight * nx
                total_y += weight * ny
                total_z += weight
                slope_x -= nx * share
                slope_y -= ny * share
            for k in range(lights):
                out[k, 0, fine_row, c] = total_x
                out[k, 1, fine_row, c] = total_y
                out[k, 2, fine_row, c] = total_z
                out[k, 3, fine_row, c] = 0
                if glossy:
                    out[k, 3, fine_row, c] = _gloss(gloss, k, c, slope_x, slope_y)
            if steep[fine_row // _S, c]:
                _shade(out, height, albedo, per, towards, gloss, cast, fine_row, c)


@njit(inline="always")
def _gloss(gloss: F32, k: int, c: int, slope_x: Any, slope_y: Any) -> Any:
    """Linear in both slopes and in the column."""
    u = min(max((slope_x + MAX_SLOPE) * _PER_SLOPE, 0.0), SLOPES - 1.001)
    v = min(max((slope_y + MAX_SLOPE) * _PER_SLOPE, 0.0), SLOPES - 1.001)
    i, j, block = int(u), int(v), c // BLOCK_PX
    fu, fv, fb = u - i, v - j, (c - block * BLOCK_PX) / BLOCK_PX
    total = 0.0
    for step in range(2):
        t = gloss[k, block + step]
        low = t[i, j] + fv * (t[i, j + 1] - t[i, j])
        high = t[i + 1, j] + fv * (t[i + 1, j + 1] - t[i + 1, j])
        total += (fb if step else 1 - fb) * (low + fu * (high - low))
    return np.float32(total)


@njit(inline="always")
def _shade(
    out: Any, height: F32, albedo: F32, per: Any, towards: F32, gloss: F32, cast: bool, fine_row: int, c: int
) -> None:
    """Do a steep pixel again, sample by sample, leaving out what each light does not reach."""
    share, r = np.float32(1.0 / _S), fine_row + _M
    for k in range(out.shape[0]):
        for part in range(4):
            out[k, part, fine_row, c] = 0
        for j in range(_M + c * _S, _M + c * _S + _S):
            nx, ny = (height[r, j - 1] - height[r, j + 1]) * per, (height[r - 1, j] - height[r + 1, j]) * per
            lx, ly, lz = towards[k, 0, c], towards[k, 1, c], towards[k, 2, c]
            if nx * lx + ny * ly + lz <= 0 or (cast and _hidden(height, r, j, lx, ly, lz, per)):
                continue
            weight = albedo[r, j] * share / np.sqrt(np.float32(1) + nx * nx + ny * ny)
            out[k, 0, fine_row, c] += weight * nx
            out[k, 1, fine_row, c] += weight * ny
            out[k, 2, fine_row, c] += weight
            if gloss.shape[1] > 0:
                out[k, 3, fine_row, c] += share * _gloss(gloss, k, c, -nx, -ny)


@njit(inline="always")
def _hidden(height: F32, r: int, j: int, lx: Any, ly: Any, lz: Any, per: Any) -> Any:
    """Whether the web between a sample and the light, as far as the margin reaches, rises above the ray."""
    across = max(abs(lx), abs(ly))
    rise = lz / across / (2 * per)
    for step in range(1, _M):
        there = height[r + round(step * ly / across), j + round(step * lx / across)]
        if there - height[r, j] > step * rise:
            return True
    return False


@njit(parallel=True, cache=True, fastmath=True)
def expose(
    out: F32, ring: NDArray[np.float32], irradiance: F32, first: int, sign: int, weights: F32, offset: F32
) -> None:
    """Counts (h, w) of one exposure: each pixel integrates the fine rows it covers, wherever it lies between them.

    `ring` (4, fine rows, w): response under this light, fine row f at f modulo its length; `irradiance` (3, h, w) in
    counts; image row r takes the fine rows from first + sign r S on by `weights`; `offset` (h, w) counts are added.
    """
    height, width = out.shape
    length = ring.shape[1]
    for r in prange(height):
        start = first + sign * r * _S
        for c in range(width):
            out[r, c] = offset[r, c]
        for i in range(weights.size):
            weight = weights[i]
            f = (start + i) % length
            for c in range(width):
                out[r, c] += weight * (
                    ring[0, f, c] * irradiance[0, r, c]
                    + ring[1, f, c] * irradiance[1, r, c]
                    + (ring[2, f, c] + ring[3, f, c]) * irradiance[2, r, c]
                )


def fine_rows_under(start: float, blur: float) -> tuple[int, F32]:
    """First fine row under a pixel that starts at fine position `start`, and the weights of it and those that follow.

    Of a standing web a pixel is a box of OVERSAMPLE fine rows; of one that moves `blur` fine rows on during the strobe
    it is that box averaged over the way, its middle where the standing one would be.
    """
    lead = int(np.ceil(blur / 2))
    first = int(np.floor(start)) - lead
    cells = np.arange(_S + 2 * lead + 1)
    begins = start - first + (blur * np.linspace(-0.5, 0.5, 33) if blur else np.zeros(1))
    overlap = np.minimum(cells + 1, begins[:, None] + _S) - np.maximum(cells, begins[:, None])
    weights = np.clip(overlap, 0, 1).mean(axis=0) / _S
    return first, np.trim_zeros(weights, "b").astype(np.float32)


@njit(parallel=True, cache=True, fastmath=True)
def digitise(
    out: Any, counts: F32, table: F32, starts: NDArray[np.int64], per_electron: float, read_counts: float, white: float
) -> None:
    """Shot and read noise, then whole counts clipped to 0..white.

    `table`: unit normal deviates; row r of the frame takes them from starts[r] on, which is far faster than drawing
    them afresh and repeats for no two rows.
    """
    gain, floor = np.float32(per_electron), np.float32(read_counts * read_counts)
    for r in prange(counts.shape[0]):
        start = starts[r]
        for c in range(counts.shape[1]):
            value = counts[r, c]
            spread = np.sqrt(max(value, np.float32(0)) * gain + floor)
            out[r, c] = min(max(np.rint(value + spread * table[start + c]), np.float32(0)), np.float32(white))
