"""The reference: photometric stereo in plain NumPy and float64, step by step. The fast kernels must equal it."""

import numpy as np

from edge.core.types import Strip, Surface
from edge.surface.fallback import Bools, Doubtful, solution, without_one
from edge.surface.matrices import F64, MIN_ALBEDO, SHADOW, Matrices
from edge.surface.tolerance import Tolerance


class NumpyKernel:
    """Solves rows that were all seen under the lights of `matrices`."""

    def __init__(self, matrices: Matrices) -> None:
        self._matrices = matrices
        self._tolerance = Tolerance(matrices)

    def __call__(self, strip: Strip, start: int, stop: int, out: Surface) -> None:
        """Solve the rows [start, stop) of `strip` (counted from its first) into the same rows of `out`."""
        m, rows = self._matrices, slice(start, stop)
        q = strip.planes[m.lights, rows].astype(np.float64)
        r = strip.source_row[m.lights, rows, None].astype(np.float64) - m.centre_row

        with np.errstate(all="ignore"):
            b, centred = solution(m.inverse[:, :, None, :], m.g_per_row[:, :, None, :], q, r)
            albedo = np.linalg.norm(b, axis=0)
            residual = self._residual(centred, b) / albedo
            solved = np.isfinite(albedo) & (albedo > MIN_ALBEDO)
            bright = (q > SHADOW * q.max(axis=0)).all(axis=0)
            unsaturated = (q < m.saturation[:, None, :]).all(axis=0)
            limits = self._tolerance.limits(strip, start, stop).astype(np.float64)
            beyond = np.abs(residual) > limits[0, :, None]
            valid = solved & bright & unsaturated & ~beyond
            if len(m.lights) == 4:
                self._fall_back(q, r, centred, beyond, limits, solved & ~valid, b, valid)
                albedo = np.linalg.norm(b, axis=0)
            normals = b / albedo

        out.normals[:, rows] = np.where(solved, normals, np.array([0.0, 0.0, 1.0])[:, None, None])
        out.albedo[rows] = np.where(solved, albedo, 0.0)
        out.residual[rows] = np.where(solved, residual, np.nan)
        out.valid[rows] = valid

    def _residual(self, q: F64, b: F64) -> F64:
        m = self._matrices
        residual: F64
        if len(m.lights) == 3:
            residual = np.full_like(q[0], np.nan)
        elif len(m.lights) == 4:
            residual = np.einsum("kw,krw->rw", m.checksum, q)
        else:
            residual = np.linalg.norm(q - np.einsum("kiw,irw->krw", m.g, b), axis=0)
        return residual

    def _fall_back(
        self, q: F64, r: F64, centred: F64, beyond: Bools, limits: F64, doubtful: Bools, b: F64, valid: Bools
    ) -> None:
        """Put the solution of three lights into `b` and `valid` where it may be trusted."""
        m, (row, column) = self._matrices, np.nonzero(doubtful)
        checksum = m.checksum[:, column]
        pixels = Doubtful(
            q=q[:, row, column],
            r=r[:, row, 0],
            inverse=m.inverse[:, :, column],
            g_per_row=m.g_per_row[:, :, column],
            checksum=checksum,
            saturation=m.saturation[:, column],
            s=(checksum * centred[:, row, column]).sum(axis=0),
            beyond=beyond[row, column],
            usual=limits[1, row],
            spread=limits[2, row],
        )
        three, trusted = without_one(pixels)
        b[:, row[trusted], column[trusted]] = three[:, trusted]
        valid[row, column] = trusted
