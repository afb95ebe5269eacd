"""The fast kernels: one pass over a strip, fused, parallel over rows and vectorised over columns.

`_four` serves three and four lights, written out; `_any` serves more. What makes them fast, and is easily lost:

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
from numba import njit, prange, types
from numpy.typing import NDArray

from edge.core.types import Strip, Surface
from edge.surface.matrices import MIN_ALBEDO, SHADOW, Matrices

Compiled = Callable[..., None]

_TILE = 64
# One vector of _TILE values each, per light, in this order; _NEXT leads to the next light.
_X, _Y, _Z, _DX, _DY, _DZ, _GX, _GY, _GZ, _SATURATION, _CHECKSUM, _NEXT = (np.uint64(i * _TILE) for i in range(12))
_VECTORS = 11
_1, _2, _3 = _NEXT, np.uint64(2) * _NEXT, np.uint64(3) * _NEXT
# Where `_any` gathers a tile, one vector each; the light's shifts by the row term follow.
_BX, _BY, _BZ, _BRIGHTEST, _ERROR, _MARGIN, _SHIFTS = (np.uint64(i * _TILE) for i in (0, 1, 2, 3, 4, 5, 6))
_T, _ONE = np.uint64(_TILE), np.uint64(1)

_MIN_SQUARE, _MAX_SQUARE = np.float32(MIN_ALBEDO**2), np.float32(3e38)
_SHADOW = np.float32(SHADOW)
_NAN = np.float32(np.nan)
_F0, _F1 = np.float32(0), np.float32(1)

# No nnan, no ninf: pixels that are not numbers must come out invalid.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "nsz", "arcp", "afn"}}


def _read_only(kind: Any, dimensions: int) -> Any:
    return types.Array(kind, dimensions, "C", readonly=True)


_SIGNATURE = types.void(
    _read_only(types.float32, 3),  # planes
    _read_only(types.intp, 1),  # lights
    _read_only(types.float32, 2),  # rows_off_centre
    _read_only(types.float32, 1),  # table
    types.intp,  # start
    types.intp,  # stop
    types.float32[:, :, ::1],  # normals
    types.float32[:, ::1],  # albedo
    types.float32[:, ::1],  # residual
    types.uint8[:, ::1],  # valid
)


class NumbaKernel:
    """Solves rows that were all seen under the lights of `matrices`; compiles when made, or loads what was compiled."""

    def __init__(self, matrices: Matrices) -> None:
        count = len(matrices.lights)
        self._centre_row = matrices.centre_row
        self._lights = matrices.lights if count > 3 else matrices.lights[[0, 1, 2, 0]]
        self._table = _table(matrices)
        row_term = bool(matrices.g_per_row.any())
        self._solve = _four(row_term) if count <= 4 else _any(row_term)

    def __call__(self, strip: Strip, start: int, stop: int, out: Surface) -> None:
        """Solve the rows [start, stop) of `strip` (counted from its first) into the same rows of `out`.

        `out` must be C-contiguous and must not overlap `strip`.
        """
        off_centre = (strip.source_row[self._lights, start:stop] - self._centre_row).astype(np.float32)
        planes = np.ascontiguousarray(strip.planes)
        self._solve(
            planes, self._lights, off_centre, self._table, start, stop, out.normals, out.albedo, out.residual, out.valid
        )


def _table(m: Matrices) -> NDArray[np.float32]:
    """The matrices as one vector: tiles x lights x _VECTORS x _TILE, zeros right of the last column.

    Three lights become four: the first comes twice, the second time with no weight and a checksum that is no number.
    """
    count, _, width = m.g.shape
    tiles = -(-width // _TILE)
    table = np.zeros((max(count, 4), _VECTORS, tiles * _TILE), np.float32)
    table[:count, 0:3, :width] = m.inverse.transpose(1, 0, 2)
    table[:count, 3:6, :width] = m.g_per_row
    table[:count, 6:9, :width] = m.g
    table[:count, 9, :width] = m.saturation
    table[:count, 10, :width] = m.checksum
    if count == 3:
        table[3, 9], table[3, 10] = np.inf, np.nan
    return np.ascontiguousarray(table.reshape(-1, _VECTORS, tiles, _TILE).transpose(2, 0, 1, 3)).ravel()


@njit(inline="always", **_OPTIONS)
def _times(t, at, q0, q1, q2, q3):  # type: ignore[no-untyped-def]
    return t[at] * q0 + t[at + _1] * q1 + t[at + _2] * q2 + t[at + _3] * q3


@njit(inline="always", **_OPTIONS)
def _drift(t, at, x, y, z):  # type: ignore[no-untyped-def]
    return t[at + _DX] * x + t[at + _DY] * y + t[at + _DZ] * z


@cache
def _four(row_term: bool) -> Compiled:
    @njit(_SIGNATURE, parallel=True, cache=True, **_OPTIONS)
    def solve(planes, lights, off_centre, t, start, stop, normals, albedo, residual, valid):  # type: ignore[no-untyped-def]
        k0, k1, k2, k3 = lights[0], lights[1], lights[2], lights[3]
        width = np.uint64(planes.shape[2])
        for i in prange(stop - start):
            row = start + i
            r0, r1, r2, r3 = off_centre[0, i], off_centre[1, i], off_centre[2, i], off_centre[3, i]
            for tile in range((width + _T - _ONE) // _T):
                for j in range(min(_T, width - tile * _T)):
                    c = tile * _T + j
                    at = tile * np.uint64(4) * _NEXT + j
                    q0, q1, q2, q3 = planes[k0, row, c], planes[k1, row, c], planes[k2, row, c], planes[k3, row, c]
                    dark = _SHADOW * max(max(q0, q1), max(q2, q3))
                    good = (
                        (min(min(q0, q1), min(q2, q3)) > dark)
                        & (q0 < t[at + _SATURATION])
                        & (q1 < t[at + _1 + _SATURATION])
                        & (q2 < t[at + _2 + _SATURATION])
                        & (q3 < t[at + _3 + _SATURATION])
                    )

                    x = _times(t, at + _X, q0, q1, q2, q3)
                    y = _times(t, at + _Y, q0, q1, q2, q3)
                    z = _times(t, at + _Z, q0, q1, q2, q3)
                    if row_term:
                        q0 -= r0 * _drift(t, at, x, y, z)
                        q1 -= r1 * _drift(t, at + _1, x, y, z)
                        q2 -= r2 * _drift(t, at + _2, x, y, z)
                        q3 -= r3 * _drift(t, at + _3, x, y, z)
                        x = _times(t, at + _X, q0, q1, q2, q3)
                        y = _times(t, at + _Y, q0, q1, q2, q3)
                        z = _times(t, at + _Z, q0, q1, q2, q3)
                    across = _times(t, at + _CHECKSUM, q0, q1, q2, q3)

                    square = x * x + y * y + z * z
                    solved = (square > _MIN_SQUARE) & (square < _MAX_SQUARE)
                    scale = _F1 / np.sqrt(square)
                    normals[0, row, c] = x * scale if solved else _F0
                    normals[1, row, c] = y * scale if solved else _F0
                    normals[2, row, c] = z * scale if solved else _F1
                    albedo[row, c] = square * scale if solved else _F0
                    residual[row, c] = across * scale if solved else _NAN
                    valid[row, c] = solved & good

    return solve


@cache
def _any(row_term: bool) -> Compiled:
    @njit(_SIGNATURE, parallel=True, cache=True, **_OPTIONS)
    def solve(planes, lights, off_centre, t, start, stop, normals, albedo, residual, valid):  # type: ignore[no-untyped-def]
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
