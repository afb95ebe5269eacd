"""What is usual in the rows of four lights: how large a residual may be before it means that one was affected, and
which albedo a solution without that one should have."""

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
MIN_SPREAD = 0.1
"""Part of the usual albedo by which another is still usual."""
_DEVIATIONS, _SPREAD_DEVIATIONS = 5.0, 3.0
_MEDIAN = 0.6745
"""Of the size of normal deviates of unit variance: half of them lie closer to zero."""
PER_MEDIAN = _DEVIATIONS / _MEDIAN
"""Tolerance in median residuals."""
PER_QUARTILES = _SPREAD_DEVIATIONS / (2 * _MEDIAN)
"""Spread of the albedo in what lies between its first quartile and its third."""
_RUNS, _RUN = 4, 16
"""What is looked at: in two rows of a block, so many runs of as many neighbouring columns."""
EVERY = 4
"""Of these, one in so many for the albedo: sorting costs more than solving, and neighbours are much alike."""


class Tolerance:
    """Five deviations of the noise in the residual, but no less than `MIN_TOLERANCE`; infinite where there is none.

    The noise is learnt from the median of a sparse sample, so that defects do not count, but a lamp that has dimmed
    or planes that lie apart do: where everything disagrees, no light can be said to be the one affected. The same
    sample gives the usual albedo, its median, and the spread, three deviations by its quartiles, but no less than
    `MIN_SPREAD`. They are of all columns: on a narrow lane of another material fewer pixels are solved by three lights.
    """

    def __init__(self, matrices: Matrices) -> None:
        self._lights, self._centre_row = matrices.lights, matrices.centre_row
        self._none = len(matrices.lights) != 4
        self._quartiles = _compiled()
        width = matrices.g.shape[2]
        self._columns, run = looked_at_columns(width)
        lines = (matrices.inverse.reshape(-1, width), matrices.g_per_row.reshape(-1, width), matrices.checksum)
        each = self._columns[:, None] + np.arange(run)
        self._table = np.ascontiguousarray(np.concatenate(lines)[:, each].transpose(1, 0, 2), np.float32)

    def __call__(self, strip: Strip, start: int, stop: int) -> F32:
        """The tolerance of each of the rows [start, stop) of a strip, counted from its first."""
        tolerated: F32 = self.limits(strip, start, stop)[0]
        return tolerated

    def limits(self, strip: Strip, start: int, stop: int) -> F32:
        """(3, rows): the same, with the usual albedo and its spread, both 0 where no pixel could be solved."""
        if self._none:
            return np.full((3, stop - start), np.inf, np.float32)
        edges, rows = blocks_of(start, stop)
        off_centre = (strip.source_row[self._lights[:, None, None], rows] - self._centre_row).astype(np.float32)
        planes = np.ascontiguousarray(strip.planes)
        found = self._quartiles(planes, self._lights, rows, self._columns, off_centre, self._table)
        tolerance, usual, spread = found
        np.maximum(MIN_TOLERANCE, PER_MEDIAN * tolerance, out=tolerance)
        np.maximum(MIN_SPREAD * usual, PER_QUARTILES * spread, out=spread)
        return np.repeat(found, np.diff(edges), axis=1)


def blocks_of(start: int, stop: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The blocks of the rows [start, stop), seen under the same lights: where they begin and, last, end (blocks + 1,),
    and the rows of each that are looked at (blocks, 2)."""
    edges = np.array([start, *range(start - start % BLOCK_ROWS + BLOCK_ROWS, stop, BLOCK_ROWS), stop])
    return edges, np.stack([edges[:-1], (edges[:-1] + edges[1:]) // 2], axis=1)


def looked_at_columns(width: int) -> tuple[NDArray[np.intp], int]:
    """Where runs of columns begin, evenly over the web, and how many columns there are in each."""
    run = min(_RUN, width)
    count = width - run + 1
    taken = min(count, _RUNS)
    return (2 * np.arange(taken) + 1) * count // (2 * taken), run


_SIGNATURE = types.float32[:, ::1](
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
    def quartiles(planes, lights, rows, columns, off_centre, table):  # type: ignore[no-untyped-def]
        """(3, blocks): median of |residual| under four lights, median of the albedo and from its first quartile to its
        third; 0 where no pixel has them. Of each of a block's `rows` (blocks, any) are taken the runs of neighbouring
        columns that begin at `columns`. `off_centre` (4, blocks, any); `table` (runs, 12 + 12 + 4, run): inverse
        (3, 4), g_per_row (4, 3), checksum (4)."""
        runs, _, run = table.shape
        found = np.zeros((3, rows.shape[0]), np.float32)
        residuals, albedos = np.empty((2, rows.shape[1] * runs * run), np.float32)
        residual, albedo = np.empty((2, run), np.float32)
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
                        albedo[j] = np.sqrt(x * x + y * y + z * z)
                        residual[j] = abs(s) / albedo[j]
                    for j in range(run):
                        if np.isfinite(residual[j]):
                            residuals[count] = residual[j]
                            if count % EVERY == 0:
                                albedos[count // EVERY] = albedo[j]
                            count += 1
            if count:
                few = (count + EVERY - 1) // EVERY
                residuals[:count].sort()
                albedos[:few].sort()
                found[0, block] = residuals[(count - 1) // 2]
                found[1, block] = albedos[(few - 1) // 2]
                found[2, block] = albedos[3 * (few - 1) // 4] - albedos[(few - 1) // 4]
        return found

    return quartiles
