"""How large a residual of four lights may be before it means that one of them was affected: learnt from the rows."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from edge.core.types import F32, Strip
from edge.surface.matrices import Matrices

MIN_TOLERANCE = 0.02
"""Residuals up to here are never betrayal: they stand for a light wrong by 4 % of the albedo, 0.8 degrees of tilt."""
BLOCK_ROWS = 16
"""Rows that share a tolerance, counted from the first of a strip. Strips are whole blocks high, so how high does not
matter: the same web gives the same normals."""
_DEVIATIONS = 5.0
_MEDIAN = 0.6745
"""Of the size of normal deviates of unit variance."""
_RUNS, _RUN = 4, 16
"""What is looked at: in two rows of a block, so many runs of as many neighbouring columns."""


class Tolerance:
    """Five deviations of the noise in the residual, but no less than `MIN_TOLERANCE`; infinite where there is none.

    The noise is learnt from the median of a sparse sample, so that defects do not count, but a lamp that has dimmed
    or planes that lie apart do: where everything disagrees, no light can be said to be the one affected.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._lights, self._centre_row = matrices.lights, matrices.centre_row
        self._none = len(matrices.lights) != 4
        self._medians = _compiled()
        width = matrices.g.shape[2]
        run = min(_RUN, width)
        self._columns = _spread(width - run + 1, _RUNS)
        lines = (matrices.inverse.reshape(-1, width), matrices.g_per_row.reshape(-1, width), matrices.checksum)
        each = self._columns[:, None] + np.arange(run)
        self._table = np.ascontiguousarray(np.concatenate(lines)[:, each].transpose(1, 0, 2), np.float32)

    def __call__(self, strip: Strip, start: int, stop: int) -> F32:
        """For each of the rows [start, stop) of a strip, counted from its first."""
        if self._none:
            return np.full(stop - start, np.inf, np.float32)
        edges = np.array([start, *range(start - start % BLOCK_ROWS + BLOCK_ROWS, stop, BLOCK_ROWS), stop])
        rows = np.stack([edges[:-1], (edges[:-1] + edges[1:]) // 2], axis=1)
        off_centre = (strip.source_row[self._lights[:, None, None], rows] - self._centre_row).astype(np.float32)
        planes = np.ascontiguousarray(strip.planes)
        median = self._medians(planes, self._lights, rows, self._columns, off_centre, self._table)
        tolerated = np.maximum(MIN_TOLERANCE, _DEVIATIONS / _MEDIAN * median).astype(np.float32)
        return np.repeat(tolerated, np.diff(edges))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Up to `most` indices, evenly over `count`."""
    taken = min(count, most)
    return (2 * np.arange(taken) + 1) * count // (2 * taken)


_SIGNATURE = types.float32[::1](
    types.Array(types.float32, 3, "C", readonly=True),
    types.intp[::1],
    types.intp[:, ::1],
    types.intp[::1],
    types.float32[:, :, ::1],
    types.float32[:, :, ::1],
)


@cache
def _compiled() -> Callable[..., F32]:
    """The sampler; compiles, or loads what was compiled."""

    @njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
    def medians(planes, lights, rows, columns, off_centre, table):  # type: ignore[no-untyped-def]
        """Of |residual| under four lights by block, 0 where no pixel has one; of each of its `rows` (blocks, any) are
        taken the runs of neighbouring columns that begin at `columns`. `off_centre` (4, blocks, any); `table`
        (runs, 12 + 12 + 4, run): inverse (3, 4), g_per_row (4, 3), checksum (4)."""
        runs, _, run = table.shape
        found = np.zeros(rows.shape[0], np.float32)
        known = np.empty(rows.shape[1] * runs * run, np.float32)
        taken = np.empty(run, np.float32)
        for block in range(rows.shape[0]):
            count = 0
            for i in range(rows.shape[1]):
                row = rows[block, i]
                for at in range(runs):
                    for j in range(run):
                        raw_x = raw_y = raw_z = x = y = z = s = np.float32(0)
                        for k in range(4):
                            q = planes[lights[k], row, columns[at] + j]
                            raw_x += table[at, k, j] * q
                            raw_y += table[at, 4 + k, j] * q
                            raw_z += table[at, 8 + k, j] * q
                        for k in range(4):
                            drift = table[at, 12 + 3 * k, j] * raw_x
                            drift += table[at, 13 + 3 * k, j] * raw_y + table[at, 14 + 3 * k, j] * raw_z
                            q = planes[lights[k], row, columns[at] + j] - off_centre[k, block, i] * drift
                            x += table[at, k, j] * q
                            y += table[at, 4 + k, j] * q
                            z += table[at, 8 + k, j] * q
                            s += table[at, 24 + k, j] * q
                        taken[j] = abs(s) / np.sqrt(x * x + y * y + z * z)
                    for j in range(run):
                        if np.isfinite(taken[j]):
                            known[count] = taken[j]
                            count += 1
            if count:
                known[:count].sort()
                found[block] = known[(count - 1) // 2]
        return found

    return medians
