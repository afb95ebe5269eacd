"""From registered strips to normals, albedo and photometric checksum."""

from edge.surface.kernel import NumbaKernel
from edge.surface.reference import NumpyKernel
from edge.surface.solver import SurfaceSolver

__all__ = ["NumbaKernel", "NumpyKernel", "SurfaceSolver"]
