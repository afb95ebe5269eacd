"""How far two frames of one light lie apart: the shift that brings their common web to cover itself.

Of each frame a sample of columns is kept, corrected by the flat field: blocks of four columns in bands spread over the
width. Each band's own shift tells how far the common one can be trusted.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.assembly.kernel import windowed_sinc
from edge.assembly.row_map import TAPS_ABOVE, TAPS_BELOW
from edge.core.types import F32

_BLOCK_PX, _BLOCKS = 4, 4
_BAND_PX = _BLOCK_PX * _BLOCKS
_LEAST_PITCH_PX = 24
_MOST_BANDS, _LEAST_BANDS = 16, 8
_LEAST_ROWS = 4
_STEP = 2
"""Rows to either side over which a gradient is taken: what rises slower is lost in noise, what faster in the lens."""
_SURE = 5.0
_STEPS = 8
_TAPS = TAPS_BELOW + 1 + TAPS_ABOVE


class Bands:
    """Which columns of frames `width` px wide are sampled: `count` bands of 16 columns, which may lie up to `room_px`
    further right. `count` is 0 where a frame is too narrow, below 192 px, to tell how sure a shift is."""

    def __init__(self, width: int) -> None:
        count = min(_MOST_BANDS, width // _LEAST_PITCH_PX)
        self.count = count if count >= _LEAST_BANDS else 0
        self._pitch_px = width // max(1, count)
        self.room_px = max(0, self._pitch_px - _BAND_PX)

    def empty(self, height: int) -> F32:
        """Memory for the sample of a frame."""
        return np.empty((height, self.count * _BLOCKS), np.float32)

    def take(self, out: F32, pixels: Any, dark: F32, gain: F32, offset_px: int) -> None:
        """Fill `out` (h, 4 blocks a band) with (pixel - dark) * gain relative to the mean of the band, less 1."""
        _take(out, pixels, dark, gain, self._pitch_px, offset_px)

    def shift(self, upper: F32, lower: F32, expected: float, search: int) -> tuple[float, float]:
        """The shift near `expected` for which row r of `lower` shows what row r + shift of `upper` does, and its
        standard deviation, in rows; `search` rows further or less are tried. (nan, inf) where nothing tells it."""
        base = math.floor(expected)
        first_lag = base - search - 1 - TAPS_BELOW
        lags = 2 * search + 3 + TAPS_BELOW + TAPS_ABOVE
        rows = len(lower)
        first, last = max(_STEP, -first_lag), min(rows - _STEP, rows - first_lag - lags)
        if last - first < _LEAST_ROWS:
            return math.nan, math.inf
        sums, equal = _correlate(upper, lower, first, last, first_lag, lags)
        found, spread = _solve(sums, equal, expected - first_lag, search)
        return first_lag + found, spread


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _take(out: F32, pixels: Any, dark: F32, gain: F32, pitch_px: int, offset_px: int) -> None:
    rows, columns = out.shape
    corrected, level = np.empty(_BAND_PX, np.float32), np.zeros(columns, np.float32)
    for r in range(rows):
        pixel_row, dark_row, gain_row, to = pixels[r], dark[r], gain[r], out[r]
        for band in range(columns // _BLOCKS):
            first = band * pitch_px + offset_px
            for i in range(_BAND_PX):
                corrected[i] = (np.float32(pixel_row[first + i]) - dark_row[first + i]) * gain_row[first + i]
            for block in range(_BLOCKS):
                i = block * _BLOCK_PX
                to[band * _BLOCKS + block] = corrected[i] + corrected[i + 1] + corrected[i + 2] + corrected[i + 3]
        for c in range(columns):
            level[c] += to[c]
    per = np.empty(columns, np.float32)
    for c in range(columns):
        first = c // _BLOCKS * _BLOCKS
        per[c] = np.float32(rows * _BLOCKS) / max(level[first : first + _BLOCKS].sum(), np.float32(1e-6))
    for r in range(rows):
        to = out[r]
        for c in range(columns):
            to[c] = to[c] * per[c] - np.float32(1)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _correlate(
    upper: F32, lower: F32, first: int, last: int, first_lag: int, lags: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each band: the products of the gradient g of `lower` along its rows with `upper` at each lag (bands, lags),
    and what they would be if both were equal (bands,), their means taken out. Bands with more relief than most, such as
    a defect has, weigh no more than those."""
    columns, rows = lower.shape[1], last - first
    products = np.zeros((lags, columns), np.float32)
    totals = np.zeros((5, columns), np.float32)
    own, energy, lean, own_level, level = totals[0], totals[1], totals[2], totals[3], totals[4]
    gradient = np.empty(columns, np.float32)
    for r in range(first, last):
        above, here, below, other = lower[r - _STEP], lower[r], lower[r + _STEP], upper[r + first_lag]
        for c in range(columns):
            gradient[c] = below[c] - above[c]
            own[c] += gradient[c] * here[c]
            energy[c] += gradient[c] * gradient[c]
            lean[c] += gradient[c]
            own_level[c] += here[c]
            level[c] += other[c]
        for lag in range(lags):
            to, other = products[lag], upper[r + first_lag + lag]
            for c in range(columns):
                to[c] += gradient[c] * other[c]
    per_row = np.float32(1 / rows)
    for lag in range(lags):
        for c in range(columns):
            products[lag, c] -= lean[c] * level[c] * per_row
            level[c] += upper[last + first_lag + lag, c] - upper[first + first_lag + lag, c]
    bands = columns // _BLOCKS
    sums, equal, strength = np.zeros((bands, lags)), np.zeros(bands), np.zeros(bands)
    for c in range(columns):
        band = c // _BLOCKS
        equal[band] += own[c] - lean[c] * own_level[c] * per_row
        strength[band] += energy[c]
        for lag in range(lags):
            sums[band, lag] += products[lag, c]
    usual = np.median(strength)
    for band in range(bands):
        if strength[band] > usual:
            equal[band] *= usual / strength[band]
            sums[band] *= usual / strength[band]
    return sums, equal


@njit(nogil=True, cache=True)
def _at(sums: NDArray[np.float64], lag: float, out: NDArray[np.float64]) -> float:
    """The products (bands,) at a lag between the whole ones, and their sum."""
    first = int(np.floor(lag)) - TAPS_BELOW
    out[:] = 0
    norm = 0.0
    for tap in range(_TAPS):
        weight = windowed_sinc(lag - (first + tap))
        norm += weight
        for band in range(out.size):
            out[band] += weight * sums[band, first + tap]
    out /= norm
    return float(out.sum())


@njit(nogil=True, cache=True)
def _solve(sums: NDArray[np.float64], equal: NDArray[np.float64], expected: float, search: int) -> tuple[float, float]:
    """The lag at which the products are what they would be if both frames were equal, and its standard deviation.

    It is sought where they rise steepest: there gradients lie upon gradients.
    """
    bands = equal.size
    low, high, here = np.empty(bands), np.empty(bands), np.empty(bands)
    lag, steepest = expected, 0.0
    for step in range(-search, search + 1):
        rise = _at(sums, expected + step + 0.5, high) - _at(sums, expected + step - 0.5, low)
        if rise > steepest:
            lag, steepest = expected + step, rise
    for _ in range(_STEPS):
        rise = _at(sums, lag + 0.5, high) - _at(sums, lag - 0.5, low)
        scatter = np.sqrt(((high - low - rise / bands) ** 2).sum() * bands / (bands - 1))
        if not rise > _SURE * scatter:
            return np.nan, np.inf
        left = _at(sums, lag, here) - equal.sum()
        lag -= left / rise
        if abs(lag - expected) > search + 0.5:
            return np.nan, np.inf
        if abs(left) < 1e-3 * rise:
            break
    here -= equal
    return lag, np.sqrt((here**2).sum() * bands / (bands - 1)) / rise
