"""The reference: photometric stereo in plain NumPy and float64, step by step. The fast kernels must equal it."""

import numpy as np

from edge.core.types import Strip, Surface
from edge.surface.matrices import F64, MIN_ALBEDO, SHADOW, Matrices


class NumpyKernel:
    """Solves rows that were all seen under the lights of `matrices`."""

    def __init__(self, matrices: Matrices) -> None:
        self._matrices = matrices

    def __call__(self, strip: Strip, start: int, stop: int, out: Surface) -> None:
        """Solve the rows [start, stop) of `strip` (counted from its first) into the same rows of `out`."""
        m, rows = self._matrices, slice(start, stop)
        q = strip.planes[m.lights, rows].astype(np.float64)
        r = strip.source_row[m.lights, rows, None] - m.centre_row

        with np.errstate(all="ignore"):
            b = np.einsum("ikw,krw->irw", m.inverse, q)
            centred = q - r * np.einsum("kiw,irw->krw", m.g_per_row, b)
            b = np.einsum("ikw,krw->irw", m.inverse, centred)
            albedo = np.linalg.norm(b, axis=0)
            normals = b / albedo
            residual = self._residual(centred, b) / albedo
            bright = (q > SHADOW * q.max(axis=0)).all(axis=0)
            unsaturated = (q < m.saturation[:, None, :]).all(axis=0)
        solved = np.isfinite(albedo) & (albedo > MIN_ALBEDO)

        out.normals[:, rows] = np.where(solved, normals, np.array([0.0, 0.0, 1.0])[:, None, None])
        out.albedo[rows] = np.where(solved, albedo, 0.0)
        out.residual[rows] = np.where(solved, residual, np.nan)
        out.valid[rows] = solved & bright & unsaturated

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
