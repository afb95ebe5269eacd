"""What photometric stereo can be solved from: said once, for the coverage ledger and for the surface."""

import numpy as np
from numpy.typing import NDArray

MIN_SINGULAR_VALUE = 0.05
"""Unit light directions whose smallest singular value is below this lie in one plane: noise would grow 20 times."""


def lights_of(mask: NDArray[np.uint8], lights: int) -> NDArray[np.intp]:
    """Indices, ascending, of the lights set in a row of `Strip.lights_seen` ((ceil(lights/8),) u8)."""
    return np.flatnonzero(np.unpackbits(mask, count=lights, bitorder="little"))


def lights_solvable(directions: NDArray[np.float64], mask: NDArray[np.uint8]) -> bool:
    """Whether normals can be solved, at every column, from the lights of one row of `Strip.lights_seen`.

    `directions` (n, 3, w): unit vectors per column (`Calibration.light_directions`); `mask` (ceil(n/8),) u8, light k
    is bit k%8 of byte k//8. True for at least three lights that nowhere lie in one plane.
    """
    seen = lights_of(mask, directions.shape[0])
    if seen.size < 3:
        return False
    vectors = directions[seen]
    normal_matrices = np.einsum("kiw,kjw->wij", vectors, vectors)
    return bool(np.linalg.eigvalsh(normal_matrices)[:, 0].min() >= MIN_SINGULAR_VALUE**2)
