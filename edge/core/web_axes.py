"""From the columns and rows of strips to millimetres of web: transport leans against the columns of the camera."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WebAxes:
    """The axes of a web that is seen at `pitch_mm` and whose way leans by `transport_angle_deg` towards larger columns.

    Assembly lays what lies at (x, y) of the web on column x / (p cos a) and row (y cos a + x sin a) / p. Hence, with u
    and v the columns and rows times the pitch, x = u cos a and y = v / cos a - u sin a: sheared by less than a degree
    on most machines, with areas as they were. x is across the web, from the left edge of the image; y is along
    transport, from where row 0 meets that edge.
    """

    pitch_mm: float
    transport_angle_deg: float = 0.0

    @cached_property
    def column_mm(self) -> float:
        """How far across the web one column lies from the next."""
        return self.pitch_mm * math.cos(math.radians(self.transport_angle_deg))

    @cached_property
    def row_mm(self) -> float:
        """How far along transport one row lies from the next."""
        return self.pitch_mm / math.cos(math.radians(self.transport_angle_deg))

    @cached_property
    def rows_per_column(self) -> float:
        """By how much larger the row is of what lies as far along transport a column further right."""
        return math.sin(2 * math.radians(self.transport_angle_deg)) / 2

    def to_mm(self, points_px: NDArray[Any]) -> NDArray[np.float64]:
        """Points (n, 2) on the web, (x, y) in mm, of (column, row); the centre of pixel 0 is at 0.5."""
        points: NDArray[np.float64] = points_px @ self.unsheared * self.pitch_mm
        return points

    def to_px(self, points_mm: NDArray[Any]) -> NDArray[np.float64]:
        """The inverse of `to_mm`."""
        points: NDArray[np.float64] = points_mm @ self._sheared / self.pitch_mm
        return points

    def box_px(self, box_mm: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
        """Columns and rows (left, top, right, bottom; half-open) that a box (x0, y0, x1, y1) on the web reaches."""
        x0, y0, x1, y1 = box_mm
        corners = self.to_px(np.array([(x0, y0), (x0, y1), (x1, y0), (x1, y1)]))
        (left, top), (right, bottom) = np.rint([corners.min(axis=0), corners.max(axis=0)]).astype(int).tolist()
        return left, top, right, bottom

    @cached_property
    def unsheared(self) -> NDArray[np.float64]:
        """The matrix (2, 2) by which (column, row), times it, come to lie along the axes of the web, in pitches."""
        angle = math.radians(self.transport_angle_deg)
        return np.array([[math.cos(angle), -math.sin(angle)], [0.0, 1 / math.cos(angle)]])

    @cached_property
    def _sheared(self) -> NDArray[np.float64]:
        angle = math.radians(self.transport_angle_deg)
        return np.array([[1 / math.cos(angle), math.sin(angle)], [0.0, math.cos(angle)]])
