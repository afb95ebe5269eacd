"""Components across strips, measured in millimetres."""

from edge.defects.joiner import DefectJoiner

__all__ = ["DefectJoiner"]
