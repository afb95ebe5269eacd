"""Kernels that draw the web: background noise, bumps, pits and grooves on a fine grid, classes on the pixel grid.

All kernels work row by row and in parallel; a row depends on its position and the seed alone.
"""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

F32 = NDArray[np.float32]


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


@njit(inline="always")
def _spline(t: float, tap: int) -> Any:
    """Uniform cubic B-spline weight of tap 0..3 at fraction t."""
    if tap == 0:
        return (1 - t) ** 3 / 6
    if tap == 1:
        return (3 * t**3 - 6 * t**2 + 4) / 6
    if tap == 2:
        return (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    return t**3 / 6


@njit(parallel=True, cache=True, fastmath=True)
def add_noise(out: F32, first_fine_row: int, spacing: int, amplitude: float, seed: int) -> None:
    """Add smooth (C2) noise to `out` (fine rows, fine columns): a cubic B-spline over hashed lattice values.

    `spacing` lattice step in fine samples; `amplitude` its root mean square.
    """
    rows, columns = out.shape
    knots = columns // spacing + 6
    # One uniform coefficient in [-1, 1) has variance 1/3; a cubic B-spline keeps 0.479 of it in each axis.
    scale = np.float32(amplitude / np.sqrt(1 / 3) / 0.479)
    table = np.empty((4, spacing), np.float32)
    for tap in range(4):
        for i in range(spacing):
            table[tap, i] = _spline(i / spacing, tap)
    for r in prange(rows):
        y = first_fine_row + r
        lattice_y = y // spacing
        coefficients = np.empty(knots, np.float32)
        for knot in range(knots):
            total = np.float32(0)
            for tap in range(4):
                total += table[tap, y - lattice_y * spacing] * _hashed(seed, lattice_y + tap, knot)
            coefficients[knot] = total * scale
        for knot in range(knots - 4):
            c0, c1, c2, c3 = coefficients[knot], coefficients[knot + 1], coefficients[knot + 2], coefficients[knot + 3]
            start = knot * spacing
            for i in range(min(spacing, columns - start)):
                out[r, start + i] += table[0, i] * c0 + table[1, i] * c1 + table[2, i] * c2 + table[3, i] * c3


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
def draw_relief(
    height: F32, albedo: F32, y0: float, x0: float, step: float, ellipses: NDArray[np.float64], grooves: Any
) -> None:
    """Draw planted primitives into `height` (mm) and `albedo`; sample (r, c) lies at (x0 + c step, y0 + r step) mm.

    Bumps add up; pits and grooves do not deepen one another: the deepest counts.
    """
    rows, columns = height.shape
    for r in prange(rows):
        y = y0 + r * step
        carved = np.zeros(columns, np.float32)
        toned = np.ones(columns, np.float32)
        for k in range(ellipses.shape[0]):
            e = ellipses[k]
            reach = max(e[2], e[3])
            if abs(y - e[1]) >= reach:
                continue
            first, last = _columns(e[0] - reach, e[0] + reach, step, x0, columns)
            for c in range(first, last):
                r2 = _ellipse_r2(e, x0 + c * step, y)
                if r2 >= 1.0:
                    continue
                if e[6] >= 0:
                    profile = (1.0 - r2) ** 2
                    height[r, c] += e[6] * profile
                    albedo[r, c] *= 1.0 + (e[7] - 1.0) * profile
                else:
                    profile = (1.0 - r2 * r2) ** 2
                    carved[c] = min(carved[c], e[6] * profile)
                    toned[c] = min(toned[c], 1.0 + (e[7] - 1.0) * profile)
        for k in range(grooves.shape[0]):
            g = grooves[k]
            half = max(g[4], g[5])
            if y < min(g[1], g[3]) - half or y > max(g[1], g[3]) + half:
                continue
            first, last = _columns(min(g[0], g[2]) - half, max(g[0], g[2]) + half, step, x0, columns)
            for c in range(first, last):
                u2 = _groove_u2(g, x0 + c * step, y)
                if u2 < 1.0:
                    profile = (1.0 - u2) ** 2
                    carved[c] = min(carved[c], -g[6] * profile)
                    toned[c] = min(toned[c], 1.0 + (g[7] - 1.0) * profile)
        for c in range(columns):
            height[r, c] += carved[c]
            albedo[r, c] *= toned[c]


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
