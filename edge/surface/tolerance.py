"""How large a residual of four lights may be before it means that one of them was affected: learnt from the rows."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from edge.core.types import Strip
from edge.surface.matrices import Matrices

MIN_TOLERANCE = 0.02
"""Residuals up to here are never betrayal: they stand for a light wrong by 4 % of the albedo, 0.8 degrees of tilt."""
_DEVIATIONS = 5.0
_MEDIAN = 0.6745
"""Of the size of normal deviates of unit variance."""
_ROWS, _RUNS, _RUN = 16, 4, 16
"""What is looked at: so many rows, in each so many runs of as many neighbouring columns."""


class Tolerance:
    """Five deviations of the noise in the residual, but no less than `MIN_TOLERANCE`; infinite where there is none.

    The noise is learnt from the median of a sparse sample, so that defects do not count, but a lamp that has dimmed
    or planes that lie apart do: where everything disagrees, no light can be said to be the one affected.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._lights, self._centre_row = matrices.lights, matrices.centre_row
        self._none = len(matrices.lights) != 4
        self._residuals = _compiled()
        width = matrices.g.shape[2]
        runs = _spread(max(1, width - _RUN + 1), _RUNS)[:, None] + np.arange(min(_RUN, width))
        self._columns = runs.ravel()
        lines = (matrices.inverse.reshape(-1, width), matrices.g_per_row.reshape(-1, width), matrices.checksum)
        self._table = np.ascontiguousarray(np.concatenate(lines)[:, self._columns].T)

    def __call__(self, strip: Strip, start: int, stop: int) -> float:
        """For the rows [start, stop) of a strip, counted from its first."""
        if self._none:
            return np.inf
        rows = start + _spread(stop - start, _ROWS)
        off_centre = strip.source_row[self._lights[:, None], rows].astype(np.float64) - self._centre_row
        planes = np.ascontiguousarray(strip.planes)
        residual = self._residuals(planes, self._lights, rows, self._columns, off_centre, self._table)
        known = residual[np.isfinite(residual)]
        if not known.size:
            return MIN_TOLERANCE
        return max(MIN_TOLERANCE, _DEVIATIONS / _MEDIAN * float(np.median(known)))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Up to `most` indices, evenly over `count`."""
    taken = min(count, most)
    return (2 * np.arange(taken) + 1) * count // (2 * taken)


_SIGNATURE = types.float64[::1](
    types.Array(types.float32, 3, "C", readonly=True),
    types.intp[::1],
    types.intp[::1],
    types.intp[::1],
    types.float64[:, ::1],
    types.float64[:, ::1],
)


@cache
def _compiled() -> Callable[..., NDArray[np.float64]]:
    """The sampler; compiles, or loads what was compiled."""

    @njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
    def residuals(planes, lights, rows, columns, off_centre, table):  # type: ignore[no-untyped-def]
        """|residual| of the pixels at `rows` x `columns` under four lights; `table` (columns, 12 + 12 + 4): inverse
        (3, 4), g_per_row (4, 3), checksum (4)."""
        out = np.empty(rows.size * columns.size)
        for i in range(rows.size):
            for j in range(columns.size):
                m = table[j]
                raw_x = raw_y = raw_z = x = y = z = s = 0.0
                for k in range(4):
                    q = planes[lights[k], rows[i], columns[j]]
                    raw_x += m[k] * q
                    raw_y += m[4 + k] * q
                    raw_z += m[8 + k] * q
                for k in range(4):
                    drift = m[12 + 3 * k] * raw_x + m[13 + 3 * k] * raw_y + m[14 + 3 * k] * raw_z
                    q = planes[lights[k], rows[i], columns[j]] - off_centre[k, i] * drift
                    x += m[k] * q
                    y += m[4 + k] * q
                    z += m[8 + k] * q
                    s += m[24 + k] * q
                out[i * columns.size + j] = abs(s) / np.sqrt(x * x + y * y + z * z)
        return out

    return residuals
