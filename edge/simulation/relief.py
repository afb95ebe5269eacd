"""Kernels that draw the web: background noise, bumps, pits and grooves on a fine grid, classes on the pixel grid.

All kernels work row by row and in parallel; a row depends on its position and the seed alone.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_BLOCK_ROWS = 8
_VECTOR = 16
_DARKEST = np.float32(0.02)
_F0, _F1 = np.float32(0), np.float32(1)


class Octave(NamedTuple):
    """Smooth (C2) noise: a cubic B-spline over hashed lattice values `spacing` fine samples apart; `rms` its size."""

    spacing: int
    rms: float
    seed: int


class Noise(NamedTuple):
    """Octaves over some fine rows, ready for the kernel.

    `lattices` (k, lattice rows, knots) from lattice row `first` (k) on; `taps` (k, 4, length): weights of the four
    knots around each fine sample between two of them, zero beyond `spacing` (k) and padded to whole vectors.
    """

    lattices: F32
    taps: F32
    spacing: NDArray[np.int64]
    first: NDArray[np.int64]


def noise_between(octaves: Sequence[Octave], first_fine_row: int, fine_rows: int, fine_columns: int) -> Noise:
    """The noise that `draw_fine` adds to fine rows [first, first + rows) of so many columns."""
    spacing = np.array([octave.spacing for octave in octaves], np.int64)
    first = first_fine_row // spacing
    lattice_rows = (first_fine_row + fine_rows - 1) // spacing - first + 4
    knots = -(-fine_columns // spacing) + 3
    lattices = np.zeros((len(octaves), lattice_rows.max(initial=0), knots.max(initial=0)), np.float32)
    for k, octave in enumerate(octaves):
        # One uniform coefficient in [-1, 1) has variance 1/3; a cubic B-spline keeps 0.479 of it in each axis.
        scale = octave.rms / np.sqrt(1 / 3) / 0.479
        _fill_lattice(lattices[k, : lattice_rows[k], : knots[k]], octave.seed, first[k], scale)
    return Noise(lattices, _taps(tuple(spacing.tolist())), spacing, first)


@lru_cache(maxsize=16)
def _taps(spacings: tuple[int, ...]) -> F32:
    length = -(-max(spacings, default=0) // _VECTOR) * _VECTOR
    taps = np.zeros((len(spacings), 4, length), np.float32)
    for k, spacing in enumerate(spacings):
        t = np.arange(spacing) / spacing
        taps[k, 0, :spacing] = (1 - t) ** 3 / 6
        taps[k, 1, :spacing] = (3 * t**3 - 6 * t**2 + 4) / 6
        taps[k, 2, :spacing] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
        taps[k, 3, :spacing] = t**3 / 6
    return taps


@njit(inline="always")
def _hashed(seed: int, i: int, j: int) -> Any:
    """Uniform in [-1, 1) from three integers (splitmix64 finaliser)."""
    z = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    z ^= np.uint64(i) * np.uint64(0xBF58476D1CE4E5B9)
    z ^= np.uint64(j) * np.uint64(0x94D049BB133111EB)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return np.float32(np.float64(z >> np.uint64(40)) * (2.0 / 16777216.0) - 1.0)


@njit(cache=True)
def _fill_lattice(lattice: F32, seed: int, first: int, scale: float) -> None:
    for i in range(lattice.shape[0]):
        for j in range(lattice.shape[1]):
            lattice[i, j] = np.float32(scale) * _hashed(seed, first + i, j)


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def draw_fine(
    height: F32,
    albedo: F32,
    first_fine_row: int,
    step: float,
    x0: float,
    height_noise: Noise,
    albedo_noise: Noise,
    ellipses: F64,
    grooves: F64,
) -> None:
    """Draw `height` (mm) and `albedo` (fine rows, fine columns); sample (r, c) lies at
    (x0 + c step, (first_fine_row + r + 1/2) step) mm.

    Bumps add up; pits and grooves do not deepen one another: the deepest counts.
    """
    rows, columns = height.shape
    for block in prange(-(-rows // _BLOCK_ROWS)):
        from_row, to_row = block * _BLOCK_ROWS, min(rows, block * _BLOCK_ROWS + _BLOCK_ROWS)
        y_low, y_high = (first_fine_row + from_row) * step, (first_fine_row + to_row) * step
        near_e, near_g = _ellipses_between(ellipses, y_low, y_high), _grooves_between(grooves, y_low, y_high)
        relief = np.empty(columns + height_noise.taps.shape[2], np.float32)
        tone = np.empty(columns + albedo_noise.taps.shape[2], np.float32)
        carved, toned = np.empty(columns, np.float32), np.empty(columns, np.float32)
        for r in range(from_row, to_row):
            relief[:], tone[:], carved[:], toned[:] = _F0, _F1, _F0, _F1
            _add_noise(relief, columns, first_fine_row + r, height_noise)
            _add_noise(tone, columns, first_fine_row + r, albedo_noise)
            y = (first_fine_row + r + 0.5) * step
            for k in near_e:
                _draw_ellipse(relief, tone, carved, toned, ellipses[k], y, x0, step)
            for k in near_g:
                _draw_groove(carved, toned, grooves[k], y, x0, step)
            height_row, albedo_row = height[r], albedo[r]
            for c in range(columns):
                height_row[c] = relief[c] + carved[c]
                albedo_row[c] = max(tone[c] * toned[c], _DARKEST)


@njit(fastmath=True, error_model="numpy")
def _add_noise(row: F32, columns: int, fine_row: int, noise: Noise) -> None:
    """Add a row of noise; `row` is longer than `columns` by the length of the taps.

    Every piece is written whole vectors long, and overwritten where the next begins: adding to the row at once would
    wait for the last stores.
    """
    spline, knots = np.empty(row.size, np.float32), np.empty(noise.lattices.shape[2], np.float32)
    for k in range(noise.spacing.size):
        spacing = noise.spacing[k]
        lattice_row = fine_row // spacing
        at, lattice = fine_row - lattice_row * spacing, noise.lattices[k, lattice_row - noise.first[k] :]
        t0, t1, t2, t3 = noise.taps[k, 0], noise.taps[k, 1], noise.taps[k, 2], noise.taps[k, 3]
        count = -(-columns // spacing)
        for i in range(count + 3):
            knots[i] = t0[at] * lattice[0, i] + t1[at] * lattice[1, i] + t2[at] * lattice[2, i] + t3[at] * lattice[3, i]
        length = -(-spacing // _VECTOR) * _VECTOR
        for i in range(count):
            c0, c1, c2, c3 = knots[i], knots[i + 1], knots[i + 2], knots[i + 3]
            piece = spline[i * spacing : i * spacing + length]
            for j in range(length):
                piece[j] = t0[j] * c0 + t1[j] * c1 + t2[j] * c2 + t3[j] * c3
        for c in range(columns):
            row[c] += spline[c]


@njit
def _ellipses_between(e: F64, y_low: float, y_high: float) -> Any:
    """Indices of the ellipses that reach into [y_low, y_high]."""
    reach = np.maximum(e[:, 2], e[:, 3])
    return np.flatnonzero((e[:, 1] + reach > y_low) & (e[:, 1] - reach < y_high))


@njit
def _grooves_between(g: F64, y_low: float, y_high: float) -> Any:
    """Indices of the grooves that reach into [y_low, y_high]."""
    half = np.maximum(g[:, 4], g[:, 5])
    low, high = np.minimum(g[:, 1], g[:, 3]) - half, np.maximum(g[:, 1], g[:, 3]) + half
    return np.flatnonzero((high > y_low) & (low < y_high))


@njit(fastmath=True, error_model="numpy")
def _draw_ellipse(relief: F32, tone: F32, carved: F32, toned: F32, e: F64, y: float, x0: float, step: float) -> None:
    """A row of a bump, (1 - r^2)^2, or of a pit, (1 - r^4)^2."""
    reach = max(e[2], e[3])
    away = y - e[1]
    if abs(away) >= reach:
        return
    chord = np.sqrt(reach * reach - away * away)
    first, last = _columns(e[0] - chord, e[0] + chord, step, x0, carved.size)
    # u and v, coordinates along the axes in units of them, are linear along the row.
    start = x0 + first * step - e[0]
    u, u_step = np.float32((start * e[4] + away * e[5]) / e[2]), np.float32(step * e[4] / e[2])
    v, v_step = np.float32((away * e[4] - start * e[5]) / e[3]), np.float32(-step * e[5] / e[3])
    peak, shade = np.float32(e[6]), np.float32(e[7] - 1.0)
    if peak >= 0:
        relief, tone = relief[first:last], tone[first:last]
        for i in range(last - first):
            du, dv = u + np.float32(i) * u_step, v + np.float32(i) * v_step
            profile = max(_F1 - du * du - dv * dv, _F0) ** 2
            relief[i] += peak * profile
            tone[i] *= _F1 + shade * profile
    else:
        carved, toned = carved[first:last], toned[first:last]
        for i in range(last - first):
            du, dv = u + np.float32(i) * u_step, v + np.float32(i) * v_step
            r2 = du * du + dv * dv
            profile = max(_F1 - r2 * r2, _F0) ** 2
            carved[i] = min(carved[i], peak * profile)
            toned[i] = min(toned[i], _F1 + shade * profile)


@njit(fastmath=True, error_model="numpy")
def _draw_groove(carved: F32, toned: F32, g: F64, y: float, x0: float, step: float) -> None:
    """A row of a groove, (1 - u^2)^2 across."""
    half = max(g[4], g[5])
    if y < min(g[1], g[3]) - half or y > max(g[1], g[3]) + half:
        return
    first, last = _columns(min(g[0], g[2]) - half, max(g[0], g[2]) + half, step, x0, carved.size)
    ex, ey = g[2] - g[0], g[3] - g[1]
    length2 = ex * ex + ey * ey
    x, away = np.float32(x0 + first * step - g[0]), np.float32(y - g[1])
    along, along_step = np.float32((x * ex + away * ey) / length2), np.float32(step * ex / length2)
    x_step, to_x, to_y = np.float32(step), np.float32(ex), np.float32(ey)
    from_half, widens = np.float32(g[4]), np.float32(g[5] - g[4])
    depth, shade = np.float32(-g[6]), np.float32(g[7] - 1.0)
    carved, toned = carved[first:last], toned[first:last]
    for i in range(last - first):
        t = min(max(along + np.float32(i) * along_step, _F0), _F1)
        dx, dy, width = x + np.float32(i) * x_step - t * to_x, away - t * to_y, from_half + t * widens
        profile = max(_F1 - (dx * dx + dy * dy) / (width * width), _F0) ** 2
        carved[i] = min(carved[i], depth * profile)
        toned[i] = min(toned[i], _F1 + shade * profile)


@njit(inline="always")
def _ellipse_r2(e: Any, x: float, y: float) -> Any:
    dx, dy = x - e[0], y - e[1]
    u = (dx * e[4] + dy * e[5]) / e[2]
    v = (dy * e[4] - dx * e[5]) / e[3]
    return u * u + v * v


@njit(inline="always")
def _groove_u2(g: Any, x: float, y: float) -> Any:
    """Squared distance from the groove's centre line in units of its half-width there."""
    ex, ey = g[2] - g[0], g[3] - g[1]
    t = ((x - g[0]) * ex + (y - g[1]) * ey) / (ex * ex + ey * ey)
    t = min(max(t, 0.0), 1.0)
    dx, dy = x - g[0] - t * ex, y - g[1] - t * ey
    half = g[4] + t * (g[5] - g[4])
    return (dx * dx + dy * dy) / (half * half)


@njit(inline="always")
def _columns(low: float, high: float, step: float, start: float, count: int) -> Any:
    """Sample columns whose positions start + c step lie in [low, high]."""
    first = max(0, int(np.ceil((low - start) / step)))
    last = min(count, int(np.floor((high - start) / step)) + 1)
    return first, last


@njit(parallel=True, cache=True)
def draw_classes(
    classes: NDArray[np.uint8],
    y0: float,
    x0: float,
    step: float,
    ellipses: NDArray[np.float64],
    ellipse_class: NDArray[np.uint8],
    grooves: NDArray[np.float64],
    groove_class: NDArray[np.uint8],
    rank: NDArray[np.uint8],
) -> None:
    """Draw class indices at pixel centres (x0 + c step, y0 + r step); where defects overlap, the higher `rank` stays.

    A defect ends where its wall has nearly met the web again: at 0.88 of a bump's reach and 0.92 of a pit's or
    groove's, where the slope is still about half the steepest.
    """
    rows, columns = classes.shape
    for r in prange(rows):
        y = y0 + r * step
        for k in range(ellipses.shape[0]):
            e = ellipses[k]
            reach = max(e[2], e[3])
            limit = 0.88**2 if e[6] > 0 else 0.92**2
            if abs(y - e[1]) < reach:
                first, last = _columns(e[0] - reach, e[0] + reach, step, x0, columns)
                for c in range(first, last):
                    higher = rank[ellipse_class[k]] > rank[classes[r, c]]
                    if higher and _ellipse_r2(e, x0 + c * step, y) < limit:
                        classes[r, c] = ellipse_class[k]
        for k in range(grooves.shape[0]):
            g = grooves[k]
            half = max(g[4], g[5])
            if min(g[1], g[3]) - half <= y <= max(g[1], g[3]) + half:
                first, last = _columns(min(g[0], g[2]) - half, max(g[0], g[2]) + half, step, x0, columns)
                for c in range(first, last):
                    higher = rank[groove_class[k]] > rank[classes[r, c]]
                    if higher and _groove_u2(g, x0 + c * step, y) < 0.92**2:
                        classes[r, c] = groove_class[k]
