"""The fast kernels: one pass over a strip, fused, parallel over rows and vectorised over columns.

`four` serves three and four lights, written out; `_any`, here, serves more. What makes it fast, and is easily lost:

- Matrices lie in one flat table, tile by tile of columns, so that all of a tile sits in the first cache and the whole
  is read in order. (Apart by a power of two, its vectors would evict each other.)
- Table indices are unsigned: for signed ones numba adds a test for negative indices that stops vectorisation.
- Arrays are indexed in the prange body itself, never sliced, and flags are never updated in place: either would keep
  numba from telling the compiler that no two arrays overlap.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.core.types import Strip, Surface
from edge.surface import four
from edge.surface.matrices import MIN_ALBEDO, SHADOW, Matrices
from edge.surface.tolerance import Tolerance

Compiled = Callable[..., None]

_TILE = 64
# One vector of _TILE values each, per light, in this order; _NEXT leads to the next light.
_X, _Y, _Z, _DX, _DY, _DZ, _GX, _GY, _GZ, _SATURATION, _NEXT = (np.uint64(i * _TILE) for i in range(11))
_VECTORS = 10
# Where `_any` gathers a tile, one vector each; the light's shifts by the row term follow.
_BX, _BY, _BZ, _BRIGHTEST, _ERROR, _MARGIN, _SHIFTS = (np.uint64(i * _TILE) for i in (0, 1, 2, 3, 4, 5, 6))
_T, _ONE = np.uint64(_TILE), np.uint64(1)

_MIN_SQUARE, _MAX_SQUARE = np.float32(MIN_ALBEDO**2), np.float32(3e38)
_SHADOW = np.float32(SHADOW)
_NAN = np.float32(np.nan)
_F0, _F1 = np.float32(0), np.float32(1)

# No nnan, no ninf: pixels that are not numbers must come out invalid.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", "afn"}}


class NumbaKernel:
    """Solves rows that were all seen under the lights of `matrices`; compiles when made, or loads what was compiled.

    Strips under three or four lights must be at least `four.LANES` wide.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._centre_row = matrices.centre_row
        self._tolerance = Tolerance(matrices)
        if len(matrices.lights) <= four.LIGHTS:
            self._lights = np.resize(matrices.lights, four.LIGHTS)
            self._table = four.table(matrices)
            self._solve = four.compiled()
        else:
            self._lights = matrices.lights
            self._table = _table(matrices)
            self._solve = _any(bool(matrices.g_per_row.any()))

    def __call__(self, strip: Strip, start: int, stop: int, out: Surface) -> None:
        """Solve the rows [start, stop) of `strip` (counted from its first) into the same rows of `out`.

        `out` must be C-contiguous and must not overlap `strip`.
        """
        off_centre = (strip.source_row[self._lights, start:stop] - self._centre_row).astype(np.float32)
        planes = np.ascontiguousarray(strip.planes)
        self._solve(
            planes,
            self._lights,
            off_centre,
            self._table,
            start,
            stop,
            self._tolerance.limits(strip, start, stop),
            out.normals,
            out.albedo,
            out.residual,
            out.valid,
        )


def _table(m: Matrices) -> NDArray[np.float32]:
    """The matrices as one vector: tiles x lights x _VECTORS x _TILE, zeros right of the last column."""
    count, _, width = m.g.shape
    tiles = -(-width // _TILE)
    table = np.zeros((count, _VECTORS, tiles * _TILE), np.float32)
    table[:, 0:3, :width] = m.inverse.transpose(1, 0, 2)
    table[:, 3:6, :width] = m.g_per_row
    table[:, 6:9, :width] = m.g
    table[:, 9, :width] = m.saturation
    return np.ascontiguousarray(table.reshape(-1, _VECTORS, tiles, _TILE).transpose(2, 0, 1, 3)).ravel()


@njit(inline="always", **_OPTIONS)
def _drift(t, at, x, y, z):  # type: ignore[no-untyped-def]
    return t[at + _DX] * x + t[at + _DY] * y + t[at + _DZ] * z


@cache
def _any(row_term: bool) -> Compiled:
    @njit(four.SIGNATURE, parallel=True, cache=True, **_OPTIONS)
    def solve(planes, lights, off_centre, t, start, stop, tolerance, normals, albedo, residual, valid):  # type: ignore[no-untyped-def]
        count, width = np.uint64(lights.size), np.uint64(planes.shape[2])
        for i in prange(stop - start):
            row = start + i
            s = np.empty(_SHIFTS + count * _T, np.float32)
            for tile in range((width + _T - _ONE) // _T):
                first = tile * _T
                n = min(_T, width - first)
                table = tile * count * _NEXT

                for j in range(_SHIFTS):
                    s[j] = _F0
                for k in range(count):
                    at = table + k * _NEXT
                    for j in range(n):
                        q = planes[lights[k], row, first + j]
                        s[_BX + j] += t[at + _X + j] * q
                        s[_BY + j] += t[at + _Y + j] * q
                        s[_BZ + j] += t[at + _Z + j] * q
                        s[_BRIGHTEST + j] = max(s[_BRIGHTEST + j], q)

                for k in range(count):
                    at, shift = table + k * _NEXT, _SHIFTS + k * _T
                    for j in range(n):
                        s[shift + j] = _F0
                        if row_term:
                            s[shift + j] = off_centre[k, i] * _drift(t, at + j, s[_BX + j], s[_BY + j], s[_BZ + j])
                for k in range(count):
                    at, shift = table + k * _NEXT, _SHIFTS + k * _T
                    for j in range(n):
                        s[_BX + j] -= t[at + _X + j] * s[shift + j]
                        s[_BY + j] -= t[at + _Y + j] * s[shift + j]
                        s[_BZ + j] -= t[at + _Z + j] * s[shift + j]

                for j in range(n):
                    s[_MARGIN + j] = _F1
                for k in range(count):
                    at, shift = table + k * _NEXT, _SHIFTS + k * _T
                    for j in range(n):
                        q = planes[lights[k], row, first + j]
                        margin = min(q - _SHADOW * s[_BRIGHTEST + j], t[at + _SATURATION + j] - q)
                        s[_MARGIN + j] = min(s[_MARGIN + j], margin)
                        model = (
                            t[at + _GX + j] * s[_BX + j] + t[at + _GY + j] * s[_BY + j] + t[at + _GZ + j] * s[_BZ + j]
                        )
                        error = q - s[shift + j] - model
                        s[_ERROR + j] += error * error

                for j in range(n):
                    c = first + j
                    square = s[_BX + j] * s[_BX + j] + s[_BY + j] * s[_BY + j] + s[_BZ + j] * s[_BZ + j]
                    solved = (square > _MIN_SQUARE) & (square < _MAX_SQUARE)
                    scale = _F1 / np.sqrt(square)
                    normals[0, row, c] = s[_BX + j] * scale if solved else _F0
                    normals[1, row, c] = s[_BY + j] * scale if solved else _F0
                    normals[2, row, c] = s[_BZ + j] * scale if solved else _F1
                    albedo[row, c] = square * scale if solved else _F0
                    residual[row, c] = np.sqrt(s[_ERROR + j]) * scale if solved else _NAN
                    valid[row, c] = solved & (s[_MARGIN + j] > _F0)

    return solve
