"""From registered strips to normals, albedo and photometric checksum."""

from collections.abc import Callable

from edge.surface.kernel import NumbaKernel
from edge.surface.matrices import Matrices
from edge.surface.reference import NumpyKernel
from edge.surface.solver import Kernel, SurfaceSolver, fast_kernel
from edge.surface.trimmed import TrimmedKernel

KERNELS: dict[str, Callable[[Matrices], Kernel]] = {"plain": fast_kernel, "trimmed": TrimmedKernel}
"""What makes the kernel for a set of lights, by the name of the solver in the configuration."""

__all__ = ["KERNELS", "NumbaKernel", "NumpyKernel", "SurfaceSolver", "TrimmedKernel"]
