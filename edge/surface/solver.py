"""From strips to surfaces: which rows can be solved, under which lights, and with which matrices."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.memory import empty_mid_page
from edge.core.photometry import lights_of, lights_solvable
from edge.core.types import U8, Strip, Surface
from edge.surface.kernel import NumbaKernel
from edge.surface.matrices import Matrices, matrices_for
from edge.surface.reference import NumpyKernel
from edge.surface.vectors import LANES

Kernel = Callable[[Strip, int, int, Surface], None]
"""Solves the rows [start, stop) of a strip, all seen under the lights it was made for, into those rows of a surface."""

_MASKS_KEPT = 16
_MASKS_PREPARED_UP_TO_LIGHTS = 8


def fast_kernel(matrices: Matrices) -> Kernel:
    """The compiled kernel, except for webs too narrow for it."""
    return NumbaKernel(matrices) if matrices.g.shape[2] >= LANES else NumpyKernel(matrices)


class SurfaceSolver:
    """Photometric stereo under one calibration.

    `kernel` makes the kernel for a set of lights: `fast_kernel`, or `NumpyKernel`, the reference it must equal.
    Everything that takes long (compiling, the matrices of all lights and of all but one) is done when it is made.
    Raises CalibrationError where a flat-fielded light does not stand above the web.
    """

    def __init__(self, calibration: Calibration, kernel: Callable[[Matrices], Kernel] = fast_kernel) -> None:
        self._calibration = calibration
        self._make_kernel = kernel
        self._kernel_for = lru_cache(maxsize=_MASKS_KEPT)(self._build)
        self._prepare()

    def solve(self, strip: Strip, out: Surface | None = None) -> Surface:
        """The surface of a strip, in memory of its own or, where given, in that of `out`, made by `empty_surface`.

        Rows whose lights do not suffice come out as not inspected. Raises CalibrationError for a strip of another
        width or number of lights than the calibration's, ValueError for one that `out` is too small for.
        """
        lights, _, width = strip.planes.shape
        if (lights, width) != (self._calibration.lights, self._calibration.width):
            raise CalibrationError(
                f"strip of {lights} lights and {width} px, calibration of {self._calibration.lights} lights and "
                f"{self._calibration.width} px: they are not of the same line, use the calibration made with it"
            )
        surface = _for_strip(strip, empty_surface(strip.rows, width) if out is None else out)
        for start, stop in _runs(strip.lights_seen):
            kernel = self._kernel_for(strip.lights_seen[start].tobytes())
            if kernel is None:
                not_inspected(surface, start, stop)
            else:
                kernel(strip, start, stop, surface)
        return surface

    def _build(self, mask_bytes: bytes) -> Kernel | None:
        mask = np.frombuffer(mask_bytes, np.uint8)
        if not lights_solvable(self._calibration.light_directions, mask):
            return None
        return self._make_kernel(matrices_for(self._calibration, lights_of(mask, self._calibration.lights)))

    def _prepare(self) -> None:
        lights = self._calibration.lights
        seen = np.ones((1, lights), np.uint8)
        if lights <= _MASKS_PREPARED_UP_TO_LIGHTS:
            seen = np.vstack([seen, 1 - np.eye(lights, dtype=np.uint8)])
        for mask in np.packbits(seen, axis=1, bitorder="little"):
            self._kernel_for(mask.tobytes())


def _runs(lights_seen: U8) -> Iterator[tuple[int, int]]:
    """Runs [start, stop) of rows seen under the same lights."""
    changes = np.flatnonzero((lights_seen[1:] != lights_seen[:-1]).any(axis=1)) + 1
    edges = [0, *changes.tolist(), len(lights_seen)]
    return pairwise(edges)


def not_inspected(surface: Surface, start: int, stop: int) -> None:
    """Make rows [start, stop) what they are where nobody looked."""
    surface.normals[:2, start:stop] = 0
    surface.normals[2, start:stop] = 1
    surface.albedo[start:stop] = 1
    surface.residual[start:stop] = np.nan
    surface.valid[start:stop] = 0


def empty_surface(rows: int, width: int) -> Surface:
    """Memory for the surface of a strip of no more than `rows` rows, as the kernels like it."""
    return Surface(
        normals=empty_mid_page((3, rows, width), np.float32),
        albedo=empty_mid_page((rows, width), np.float32),
        residual=empty_mid_page((rows, width), np.float32),
        valid=empty_mid_page((rows, width), np.uint8),
        first_row=0,
    )


def _for_strip(strip: Strip, memory: Surface) -> Surface:
    """As much of a surface's memory as a strip needs, C-contiguous."""
    rows, width = strip.planes.shape[1:]
    if memory.rows == rows:
        return replace(memory, first_row=strip.first_row)
    if memory.rows < rows:
        raise ValueError(f"strip of {rows} rows, memory for {memory.rows}")
    return Surface(
        normals=memory.normals.reshape(-1)[: 3 * rows * width].reshape(3, rows, width),
        albedo=memory.albedo[:rows],
        residual=memory.residual[:rows],
        valid=memory.valid[:rows],
        first_row=strip.first_row,
    )
