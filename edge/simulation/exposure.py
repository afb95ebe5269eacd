"""Kernels that expose a frame: what each fine row of web sends back under each light, and its sum over a pixel.

`sent` (fine rows, n, 3, w) is the response to irradiance along x, y and z under each light, a mean over the width of a
pixel: albedo * n of what the light reaches, to which gloss, relative to what albedo 1 lying flat sends back, adds in z.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.core.types import F32, U8, Pixels
from edge.simulation.optics import BLOCK_PX, MAX_SLOPE, SLOPES
from edge.simulation.web import MARGIN, OVERSAMPLE

_S, _M = OVERSAMPLE, MARGIN
_F0, _F1 = np.float32(0), np.float32(1)
_SHARE = np.float32(1 / OVERSAMPLE)
_OVERHEAD = np.float32(1e-6)
_PER_SLOPE = np.float32((SLOPES - 1) / (2 * MAX_SLOPE))
_LEVEL, _LAST = np.float32((SLOPES - 1) / 2), np.float32(SLOPES - 1.001)
"""Position of no slope in a table of gloss, and the last that has a neighbour."""


class Sensor(NamedTuple):
    """Noise and counts: shot noise by `per_electron` counts and read noise, both 0 for none; `white` is the most.

    `deviates`: unit normal, which rows take from some place on: far faster than drawing them afresh.
    """

    per_electron: float
    read_counts: float
    white: float
    deviates: F32


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def survey(steep: U8, high: F32, height: F32, steep_from: float, hiding_from: float, step_mm: float) -> None:
    """Of each pixel, margin included, (rows + 2 M / S, w + 2 M / S): whether its steepest slope is gentle (0), beyond
    `steep_from` (1) or even `hiding_from` (2); and its highest sample. `height` as from `RenderedWeb.fine`."""
    for row in prange(steep.shape[0]):
        differences, tops = np.zeros(height.shape[1], np.float32), np.empty(height.shape[1], np.float32)
        tops[:] = height[row * _S]
        for r in range(row * _S, row * _S + _S):
            above, here, below = height[max(r - 1, 0)], height[r], height[min(r + 1, height.shape[0] - 1)]
            for j in range(1, here.size - 1):
                across, along = here[j - 1] - here[j + 1], above[j] - below[j]
                differences[j] = max(differences[j], across * across + along * along)
                tops[j] = max(tops[j], here[j])
        to_steep, to_high = steep[row], high[row]
        one, two = np.float32((steep_from * 2 * step_mm) ** 2), np.float32((hiding_from * 2 * step_mm) ** 2)
        for c in range(to_steep.size):
            i, j, k, m = c * _S, c * _S + 1, c * _S + 2, c * _S + 3
            steepest = max(max(differences[i], differences[j]), max(differences[k], differences[m]))
            to_steep[c] = np.uint8(steepest > one) + np.uint8(steepest > two)
            to_high[c] = max(max(tops[i], tops[j]), max(tops[k], tops[m]))


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def reflect(sent: F32, height: F32, albedo: F32, step_mm: float) -> None:
    """Fill `sent` as if every light reached every sample of a matt web."""
    fine_rows, lights, _, width = sent.shape
    per = np.float32(1 / (2 * step_mm))
    for fine_row in prange(fine_rows):
        r = fine_row + _M
        above, here, below, tone = height[r - 1], height[r], height[r + 1], albedo[r]
        samples = np.empty((3, width * _S), np.float32)
        x, y, z = samples[0], samples[1], samples[2]
        for j in range(width * _S):
            nx = (here[j + _M - 1] - here[j + _M + 1]) * per
            ny = (above[j + _M] - below[j + _M]) * per
            weight = tone[j + _M] * _SHARE / np.sqrt(_F1 + nx * nx + ny * ny)
            x[j], y[j], z[j] = weight * nx, weight * ny, weight
        first = sent[fine_row, 0]
        to_x, to_y, to_z = first[0], first[1], first[2]
        for c in range(width):
            i, j, k, m = c * _S, c * _S + 1, c * _S + 2, c * _S + 3
            to_x[c] = x[i] + x[j] + x[k] + x[m]
            to_y[c] = y[i] + y[j] + y[k] + y[m]
            to_z[c] = z[i] + z[j] + z[k] + z[m]
        for k in range(1, lights):
            sent[fine_row, k] = first


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def shine(sent: F32, gloss: F32) -> None:
    """Add the gloss of the mean slope of each fine row of a pixel.

    `gloss` (n, blocks, SLOPES * SLOPES): as from `gloss_tables`. One look into the table serves the fine rows of a
    pixel: they differ little where every light reaches.
    """
    fine_rows, lights, _, width = sent.shape
    for row in prange(fine_rows // _S):
        at, slopes = np.empty(width, np.int32), np.empty((2, _S, width), np.float32)
        cells, patches = np.zeros((2, width), np.float32), np.empty((4, width), np.float32)
        cell_u, cell_v = cells[0], cells[1]
        corner, by_u, by_v, twist = patches[0], patches[1], patches[2], patches[3]
        for i in range(_S):
            of_row = sent[row * _S + i, 0]
            x, y, z = of_row[0], of_row[1], of_row[2]
            u, v = slopes[0, i], slopes[1, i]
            for c in range(width):
                per = _PER_SLOPE / z[c]
                u[c], v[c] = _LEVEL - x[c] * per, _LEVEL - y[c] * per
                cell_u[c] += u[c] * _SHARE
                cell_v[c] += v[c] * _SHARE
        for c in range(width):
            cell = np.int32(min(max(cell_u[c], _F0), _LAST)), np.int32(min(max(cell_v[c], _F0), _LAST))
            at[c] = cell[0] * np.int32(SLOPES) + cell[1]
            cell_u[c], cell_v[c] = np.float32(cell[0]), np.float32(cell[1])
        for i in range(_S):
            u, v = slopes[0, i], slopes[1, i]
            for c in range(width):
                u[c] -= cell_u[c]
                v[c] -= cell_v[c]
        for k in range(lights):
            for c in range(width):
                corner[c], by_u[c], by_v[c], twist[c] = _patch(gloss[k], c, at[c])
            for i in range(_S):
                out, u, v = sent[row * _S + i, k, 2], slopes[0, i], slopes[1, i]
                for c in range(width):
                    out[c] += corner[c] + u[c] * by_u[c] + v[c] * (by_v[c] + u[c] * twist[c])


@njit(inline="always")
def _patch(gloss: F32, c: int, at: Any) -> Any:
    """The bilinear patch at a cell of the table, linear between the blocks: corner, rise along u, along v, twist."""
    block = c // BLOCK_PX
    part = np.float32(c - block * BLOCK_PX) * np.float32(1 / BLOCK_PX)
    here, there = gloss[block], gloss[block + 1]
    i, j, k, m = np.uint64(at), np.uint64(at + 1), np.uint64(at + SLOPES), np.uint64(at + SLOPES + 1)
    g00 = here[i] + part * (there[i] - here[i])
    g01 = here[j] + part * (there[j] - here[j])
    g10 = here[k] + part * (there[k] - here[k])
    g11 = here[m] + part * (there[m] - here[m])
    return g00, g10 - g00, g01 - g00, g11 - g10 - g01 + g00


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def shade(
    sent: F32,
    doubtful: NDArray[np.int64],
    steep: U8,
    ceiling: F32,
    height: F32,
    albedo: F32,
    step_mm: float,
    towards: F32,
    gentlest: float,
    gloss: F32,
) -> None:
    """Take out of `doubtful` pixels (flat indices) what each light does not reach: samples turned away from it, and
    those behind a wall of at most the height `ceiling` (rows, w). Of `steep` pixels (rows, w) gloss, too, is done anew
    by samples. `towards` (n, 3, w): vectors to the lights, no ray of which rises less than `gentlest`.
    """
    _, lights, _, width = sent.shape
    per, rise = np.float32(1 / (2 * step_mm)), np.float32(gentlest * step_mm)
    for index in prange(doubtful.size):
        row, c = doubtful[index] // width, doubtful[index] % width
        if not steep[row, c] and _clear(height, row, c, ceiling[row, c] - rise):
            continue
        samples = np.empty((3, _S, _S), np.float32)
        nx, ny, weight = samples[0], samples[1], samples[2]
        for i in range(_S):
            for j in range(_S):
                r, at = _M + row * _S + i, _M + c * _S + j
                nx[i, j] = (height[r, at - 1] - height[r, at + 1]) * per
                ny[i, j] = (height[r - 1, at] - height[r + 1, at]) * per
                weight[i, j] = albedo[r, at] * _SHARE / np.sqrt(_F1 + nx[i, j] * nx[i, j] + ny[i, j] * ny[i, j])
        sampled = gloss.shape[1] > 0 and steep[row, c]
        for k in range(lights):
            lx, ly, lz = towards[k, 0, c], towards[k, 1, c], towards[k, 2, c]
            for i in range(_S):
                r, x, y, z, lost, shining, reached = _M + row * _S + i, _F0, _F0, _F0, _F0, _F0, _F0
                for j in range(_S):
                    p, q, w = nx[i, j], ny[i, j], weight[i, j]
                    at = _M + c * _S + j
                    if p * lx + q * ly + lz <= 0 or _hidden(height, r, at, lx, ly, lz, per, ceiling[row, c]):
                        lost += w
                        continue
                    x, y, z, reached = x + w * p, y + w * q, z + w, reached + _SHARE
                    if sampled:
                        shining += _SHARE * _gloss(gloss[k], c, _LEVEL - p * _PER_SLOPE, _LEVEL - q * _PER_SLOPE)
                if sampled or lost > 0:
                    out = sent[row * _S + i, k]
                    if not sampled:
                        shining = (out[2, c] - z - lost) * reached
                    out[0, c], out[1, c], out[2, c] = x, y, z + shining


@njit(inline="always")
def _clear(height: F32, row: int, c: int, level: Any) -> Any:
    """Whether no sample of a pixel lies lower than a level."""
    for r in range(_M + row * _S, _M + row * _S + _S):
        for j in range(_M + c * _S, _M + c * _S + _S):
            if height[r, j] < level:
                return False
    return True


@njit(inline="always")
def _gloss(gloss: F32, c: int, u: Any, v: Any) -> Any:
    u, v = min(max(u, _F0), _LAST), min(max(v, _F0), _LAST)
    i, j = np.int32(u), np.int32(v)
    corner, by_u, by_v, twist = _patch(gloss, c, i * np.int32(SLOPES) + j)
    du, dv = u - np.float32(i), v - np.float32(j)
    return corner + du * by_u + dv * (by_v + du * twist)


@njit(inline="always")
def _hidden(height: F32, r: int, j: int, lx: Any, ly: Any, lz: Any, per: Any, ceiling: Any) -> Any:
    """Whether the web between a sample and the light, as far as the margin reaches, rises above the ray."""
    shrink = _F1 / max(abs(lx), abs(ly), _OVERHEAD)
    rise, dx, dy = lz * shrink / (2 * per), lx * shrink, ly * shrink
    hidden, step, ray = False, _F1, height[r, j] + rise
    while not hidden and step < _M and ray < ceiling:
        hidden = height[r + np.int64(np.rint(step * dy)), j + np.int64(np.rint(step * dx))] > ray
        step += _F1
        ray += rise
    return hidden


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def expose(
    out: Pixels,
    sent: F32,
    light: int,
    irradiance: F32,
    first: int,
    sign: int,
    weights: F32,
    offset: float,
    sensor: Sensor,
    starts: NDArray[np.int64],
) -> None:
    """One exposure (h, w): each pixel integrates the fine rows it covers, wherever it lies between them; then noise.

    Fine row f lies in `sent` at f modulo its length; `irradiance` (3, h, w) of the light in counts; image row r takes
    the fine rows from first + sign r S on by `weights`, and its deviates from starts[r] on. A pixel without light
    counts `offset`.
    """
    height, width = out.shape
    length = sent.shape[0]
    gain, floor = np.float32(sensor.per_electron), np.float32(sensor.read_counts**2)
    dark, white, noise = np.float32(offset), np.float32(sensor.white), sensor.deviates
    for row in prange(height):
        start = first + sign * row * _S
        from_x, from_y, from_z = irradiance[0, row], irradiance[1, row], irradiance[2, row]
        counts = np.full(width, dark, np.float32)
        for i in range(weights.size):
            weight, of_row = weights[i], sent[(start + i) % length, light]
            x, y, z = of_row[0], of_row[1], of_row[2]
            for c in range(width):
                counts[c] += weight * (x[c] * from_x[c] + y[c] * from_y[c] + z[c] * from_z[c])
        pixels, deviates = out[row], noise[starts[row] : starts[row] + width]
        for c in range(width):
            count = max(counts[c], dark)
            spread = np.sqrt(count * gain + floor)
            pixels[c] = min(max(np.rint(count + spread * deviates[c]), _F0), white)


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
