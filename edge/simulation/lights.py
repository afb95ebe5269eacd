"""Line lights above the web: what each point of the field receives from which direction.

Frame: x along the image row, y along transport, z towards the camera; the origin is the centre of the field on the
web. Azimuth runs from +x towards +y, the polar angle from +z. Lengths in millimetres.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class LineLight:
    """A straight bar of light, level with the web and square to the direction it shines from."""

    azimuth_deg: float
    polar_deg: float = 55.0
    distance_mm: float = 150.0
    length_mm: float = 150.0
    intensity: float = 1.0

    def irradiance(self, x_mm: F64, y_mm: F64) -> F64:
        """Vector irradiance (3, ...) at points (x, y, 0): a surface n that sees the whole bar receives n . irradiance.

        The integral of (s - p) / |s - p|^3 along the bar, in closed form: with v from the point to the bar's centre,
        u along the bar, b = v.u and q^2 = |v|^2 - b^2 it is [(v - b u) t / (q^2 sqrt(t^2 + q^2)) - u / sqrt(t^2 + q^2)]
        between t = b - L/2 and t = b + L/2.
        """
        centre, along = self._bar()
        points = np.stack([x_mm, y_mm, np.zeros_like(x_mm)])
        spread = (3,) + (1,) * x_mm.ndim
        v = centre.reshape(spread) - points
        u = along.reshape(spread)
        b = (v * u).sum(axis=0)
        perpendicular = v - b * u
        q2 = (perpendicular**2).sum(axis=0)
        total = np.zeros_like(points)
        for sign in (1.0, -1.0):
            t = b + sign * self.length_mm / 2
            root = np.sqrt(t * t + q2)
            total += sign * (perpendicular * (t / (q2 * root)) - u / root)
        return self.intensity * total

    def samples(self, x_mm: float, y_mm: float, count: int) -> Iterator[tuple[F64, float]]:
        """The bar as `count` points: unit vector to each from (x, y, 0), and what it sends onto a surface facing it."""
        centre, along = self._bar()
        step = self.length_mm / count
        for index in range(count):
            to_point = centre + ((index + 0.5) * step - self.length_mm / 2) * along - np.array([x_mm, y_mm, 0.0])
            distance = float(np.linalg.norm(to_point))
            yield to_point / distance, self.intensity * step / distance**2

    def _bar(self) -> tuple[F64, F64]:
        """Centre of the bar and its direction."""
        azimuth, polar = np.radians(self.azimuth_deg), np.radians(self.polar_deg)
        towards = np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
        return self.distance_mm * towards, np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])


FOUR_LINE_LIGHTS = (
    LineLight(azimuth_deg=45.0, intensity=1.0),
    LineLight(azimuth_deg=135.0, intensity=0.94),
    LineLight(azimuth_deg=225.0, intensity=1.05),
    LineLight(azimuth_deg=315.0, intensity=0.98),
)
"""Four bars at 45 degrees to transport, polar angle 55 degrees (the thesis's machine); no two lamps alike."""
