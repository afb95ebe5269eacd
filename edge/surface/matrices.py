"""What a set of lights makes of a normal, and back: one small matrix per column.

The flat field holds the flat target's own n.l, so a flat-fielded plane is q_k = rho n.g_k with g_k = l_k / l_kz;
without flat field g_k is the unit direction l_k itself. Off the centre image row a light stands a little elsewhere:
g_k(r) = g_k + r dg_k/dr, with r in image rows from the centre. A glossy coating sends so much more light back where it
turns to a lamp that gentle slopes look steeper by the calibration's slope gain: as if the lamps stood lower by as much.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError

F64 = NDArray[np.float64]

SHADOW = 0.05
"""A light below this part of the brightest one at the same pixel is taken to be in shadow."""
MIN_ALBEDO = 1e-12
"""Below this albedo there is no light to solve from (and far above where float32 loses its precision)."""
_HALF_COUNT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Matrices:
    """What m lights (any of the calibration's n) need to be solved, per column.

    `lights` (m,): which; `g` (m, 3, w) with q = g . (rho n); `g_per_row` (m, 3, w): its change per image row;
    `centre_row`: the image row where that change is zero; `inverse` (3, m, w): pinv(g); `checksum` (m, w): the unit
    vector across all of g, zeros unless m = 4; `saturation` (m, w): q from which on a pixel may be saturated.
    """

    lights: NDArray[np.intp]
    g: F64
    g_per_row: F64
    centre_row: float
    inverse: F64
    checksum: F64
    saturation: F64


def matrices_for(calibration: Calibration, lights: NDArray[np.intp]) -> Matrices:
    """The matrices of these lights, which must be solvable. Raises CalibrationError where one is not above the web."""
    g = calibration.light_directions[lights]
    g_per_row = calibration.light_directions_per_row[lights]
    if calibration.flat is not None:
        z, z_per_row = g[:, 2:], g_per_row[:, 2:]
        if z.min() <= 0:
            raise CalibrationError("a light lies below the web: no flat field can come from it, calibrate the lights")
        g = g / z
        g_per_row = (g_per_row - g * z_per_row) / z
    gain = np.array([[calibration.slope_gain], [calibration.slope_gain], [1.0]])
    g, g_per_row = gain * g, gain * g_per_row
    inverse: F64 = np.linalg.pinv(g.transpose(2, 0, 1)).astype(np.float64).transpose(1, 2, 0)
    return Matrices(
        lights=lights,
        g=g,
        g_per_row=g_per_row,
        centre_row=(calibration.height - 1) / 2,
        inverse=inverse,
        checksum=_across(g) if len(lights) == 4 else np.zeros_like(g[:, 0]),
        saturation=_saturation(calibration)[lights],
    )


def _across(g: F64) -> F64:
    """The unit vector c (4, w) with g^T c = 0 by its cofactors, so that it turns smoothly from column to column.

    The first light counts positive: (1, -1, 1, -1) / 2 for a symmetric cross.
    """
    minors = [np.linalg.det(np.delete(g, k, axis=0).transpose(2, 0, 1)) for k in range(4)]
    c = np.stack([minor * (-1) ** k for k, minor in enumerate(minors)])
    unit: F64 = c / np.linalg.norm(c, axis=0) * (1.0 if c[0].sum() >= 0 else -1.0)
    return unit


def _saturation(calibration: Calibration) -> F64:
    """(n, w): the smallest q, over the image rows, that a count half below white gives."""
    full = calibration.white - _HALF_COUNT
    if calibration.dark is None or calibration.flat is None:
        return np.full((calibration.lights, calibration.width), full / calibration.white)
    q: F64 = ((full - calibration.dark) / (calibration.flat - calibration.dark)).min(axis=1).astype(np.float64)
    return q
