"""Trimmed least squares, for things that stay still: at each pixel only the lights are used that nothing has misled.

A matt surface sends back no more light than its albedo, and none where it turns away: highlights are among a pixel's
brightest lights, shadows among its darkest. So the lights are ranked by brightness, pixel by pixel. Those in shadow are
left out. The others are all used where they agree, since every light that is left out costs; where they do not,

- of five and more a fifth at either end is left out, if the brightest is a glint: of all that are lit it differs most
  from their fit, or it is much too bright for what is left;
- of four the brightest, if it is too bright for the others and by these the pixel faces it;
- of three none.

On a moving web the plain kernel's fallback is the careful one: it trusts three lights only where it can say why. This
one prefers the likelier normal to none.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, prange, types

from edge.core.photometry import MIN_SINGULAR_VALUE
from edge.core.types import Strip, Surface
from edge.surface.fallback import FACING
from edge.surface.matrices import MIN_ALBEDO, SHADOW, Matrices
from edge.surface.tolerance import MIN_TOLERANCE

TRIMMED = 0.2
"""Part of the lights that is left out at either end, five and more."""
AGREE = 0.001
"""Five lights and more agree where they differ from their fit by this part of the albedo (root mean square) at most."""
GLINT = 0.3
"""Part of the albedo by which a light is much too bright."""
_LIMITS = np.array([SHADOW, FACING, MIN_TOLERANCE, AGREE, GLINT, MIN_SINGULAR_VALUE, MIN_ALBEDO])


class TrimmedKernel:
    """Solves rows that were all seen under the lights of `matrices`; compiles when made, or loads what was compiled.

    `Surface.valid` asks that the lights used were neither dark nor saturated and, where all of four are used, that they
    agree. `Surface.residual` tells of the lights left out too. Where what is left would lie in one plane, all are used.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._lights, self._centre_row = matrices.lights, matrices.centre_row
        g = np.concatenate([matrices.g, matrices.g_per_row], axis=1)
        self._g = np.ascontiguousarray(g.transpose(2, 0, 1))
        self._saturation = np.ascontiguousarray(matrices.saturation.T)
        self._solve = _compiled()

    def __call__(self, strip: Strip, start: int, stop: int, out: Surface) -> None:
        """Solve the rows [start, stop) of `strip` (counted from its first) into the same rows of `out`.

        `out` must be C-contiguous and must not overlap `strip`.
        """
        count = len(self._lights)
        self._solve(
            np.ascontiguousarray(strip.planes),
            self._lights,
            strip.source_row[self._lights, start:stop].astype(np.float64) - self._centre_row,
            self._g,
            self._saturation,
            start,
            stop,
            int(TRIMMED * count) if count > 4 else 0,
            _LIMITS,
            out.normals,
            out.albedo,
            out.residual,
            out.valid,
        )


def _read(dtype: Any, dimensions: int) -> Any:
    return types.Array(dtype, dimensions, "C", readonly=True)


_SIGNATURE = types.void(
    _read(types.float32, 3),
    _read(types.intp, 1),
    _read(types.float64, 2),
    _read(types.float64, 3),
    _read(types.float64, 2),
    types.intp,
    types.intp,
    types.intp,
    _read(types.float64, 1),
    types.float32[:, :, ::1],
    types.float32[:, ::1],
    types.float32[:, ::1],
    types.uint8[:, ::1],
)


@cache
def _compiled() -> Callable[..., None]:
    """The kernel; compiles, or loads what was compiled."""

    @njit(_SIGNATURE, parallel=True, nogil=True, cache=True, error_model="numpy")
    def solve(  # type: ignore[no-untyped-def]
        planes, lights, off_centre, by_column, saturation, start, stop, spared, limits, normals, albedo, residual, valid
    ):
        """`off_centre` (m, rows): image rows from the centre; `by_column` (w, m, 6): g and its change per image row;
        `saturation` (w, m); `spared`: how many lights are left out at either end of five and more."""
        shadow, facing, tolerance, agree, glint, singular, least_albedo = limits
        count = lights.size
        for i in prange(stop - start):
            row = start + i
            q, g, order = np.empty(count), np.empty((count, 3)), np.arange(count)
            for column in range(planes.shape[2]):
                for k in range(count):
                    q[k] = planes[lights[k], row, column]
                    for axis in range(3):
                        g[k, axis] = by_column[column, k, axis] + off_centre[k, i] * by_column[column, k, 3 + axis]
                _rank(order, q)
                brightest = q[order[count - 1]]

                first, last = _in_shadow(q, order, shadow), count
                if not _spatial(g, order, first, last, singular):
                    first = 0
                b = _fit(g, q, order, first, last)
                disagreement = _error(g, q, order, first, last, b) / _length(b)
                if count == 4 and first == 0 and disagreement > tolerance:
                    three = _fit(g, q, order, 0, 3)
                    if _facing_glint(g, q, order, b, three, facing) and _spatial(g, order, 0, 3, singular):
                        last, b = 3, three
                elif count > 4 and disagreement > agree * np.sqrt(last - first):
                    low, high = max(first, spared), count - spared
                    if _spatial(g, order, low, high, singular):
                        middle = _fit(g, q, order, low, high)
                        if _glint(g, q, order, first, b, middle, glint):
                            first, last, b = low, high, middle
                rho = _length(b)

                checksum = np.nan
                if count == 4:
                    of_all = _fit(g, q, order, 0, 4)
                    checksum = _error(g, q, order, 0, 4, of_all) / _length(of_all)
                    checksum = np.copysign(checksum, q[0] - _shade(g, 0, of_all))
                elif count > 4:
                    checksum = _error(g, q, order, 0, count, b) / rho

                trusted = not (count == last - first == 4 and abs(checksum) > tolerance)
                for at in range(first, last):
                    k = order[at]
                    trusted &= (q[k] > shadow * brightest) & (q[k] < saturation[column, k])
                solved = np.isfinite(rho) and rho > least_albedo
                for axis in range(3):
                    normals[axis, row, column] = b[axis] / rho if solved else axis // 2
                albedo[row, column] = rho if solved else 0.0
                residual[row, column] = checksum if solved else np.nan
                valid[row, column] = solved and trusted

    return solve


@njit(cache=True)
def _in_shadow(q, order, shadow):  # type: ignore[no-untyped-def]
    """How many of the lights are, the darkest ranks; all but three at most."""
    floor, count = shadow * q[order[order.size - 1]], 0
    while count < order.size - 3 and not q[order[count]] > floor:
        count += 1
    return count


@njit(cache=True)
def _facing_glint(g, q, order, b, three, facing):  # type: ignore[no-untyped-def]
    """Whether the brightest of four lights, whose fit is b, is too bright for the others, whose fit is `three`."""
    top, second = order[3], order[2]
    return q[top] > _shade(g, top, b) and q[second] <= _shade(g, top, three) + facing * _length(three)


@njit(cache=True)
def _glint(g, q, order, first, b, middle, glint):  # type: ignore[no-untyped-def]
    """Whether of the lights from rank `first` on, whose fit is b, the brightest is farthest from it and above, or far
    above `middle`, the fit of those in the middle."""
    last = order.size - 1
    top = order[last]
    if q[top] - _shade(g, top, middle) > glint * _length(middle):
        return True
    farthest = 0.0
    for at in range(first, last):
        farthest = max(farthest, abs(q[order[at]] - _shade(g, order[at], b)))
    return q[top] - _shade(g, top, b) >= farthest


@njit(cache=True)
def _rank(order, q):  # type: ignore[no-untyped-def]
    """Sort `order` by q, equal ones by index. What the pixel before left in it is nearly sorted already."""
    for i in range(1, order.size):
        k, at = order[i], i
        while at > 0 and (q[order[at - 1]] > q[k] or (q[order[at - 1]] == q[k] and order[at - 1] > k)):
            order[at] = order[at - 1]
            at -= 1
        order[at] = k


@njit(cache=True)
def _gram(g, order, first, last):  # type: ignore[no-untyped-def]
    """g^T g of the lights of ranks [first, last): xx, yy, zz, xy, xz, yz."""
    xx = yy = zz = xy = xz = yz = 0.0
    for at in range(first, last):
        k = order[at]
        x, y, z = g[k, 0], g[k, 1], g[k, 2]
        xx += x * x
        yy += y * y
        zz += z * z
        xy += x * y
        xz += x * z
        yz += y * z
    return xx, yy, zz, xy, xz, yz


@njit(cache=True)
def _spatial(g, order, first, last, singular):  # type: ignore[no-untyped-def]
    """Whether the smallest singular value of these lights is above `singular`: g^T g - singular^2 is positive."""
    xx, yy, zz, xy, xz, yz = _gram(g, order, first, last)
    xx, yy, zz = xx - singular**2, yy - singular**2, zz - singular**2
    minor = xx * yy - xy * xy
    det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    return xx > 0 and minor > 0 and det > 0


@njit(cache=True, error_model="numpy")
def _fit(g, q, order, first, last):  # type: ignore[no-untyped-def]
    """rho n by least squares over the lights of ranks [first, last)."""
    xx, yy, zz, xy, xz, yz = _gram(g, order, first, last)
    vx = vy = vz = 0.0
    for at in range(first, last):
        k = order[at]
        vx += g[k, 0] * q[k]
        vy += g[k, 1] * q[k]
        vz += g[k, 2] * q[k]
    ax, ay, az = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - yy * xz
    by, bz, cz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    det = xx * ax + xy * ay + xz * az
    return (ax * vx + ay * vy + az * vz) / det, (ay * vx + by * vy + bz * vz) / det, (az * vx + bz * vy + cz * vz) / det


@njit(cache=True)
def _shade(g, k, b):  # type: ignore[no-untyped-def]
    return g[k, 0] * b[0] + g[k, 1] * b[1] + g[k, 2] * b[2]


@njit(cache=True)
def _error(g, q, order, first, last, b):  # type: ignore[no-untyped-def]
    """Norm of what b does not explain of the lights of ranks [first, last)."""
    square = 0.0
    for at in range(first, last):
        square += (q[order[at]] - _shade(g, order[at], b)) ** 2
    return np.sqrt(square)


@njit(cache=True)
def _length(b):  # type: ignore[no-untyped-def]
    return np.sqrt(b[0] * b[0] + b[1] * b[1] + b[2] * b[2])
