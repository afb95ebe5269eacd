"""Line lights above the web: what each point of the field receives from which direction.

Frame: x along the image row, y along transport, z towards the camera; the origin is the centre of the field on the
web. Azimuth runs from +x towards +y, the polar angle from +z. Lengths in millimetres.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class LineLight:
    """A straight bar of light; its middle lies at `distance_mm` in the direction of azimuth and polar angle.

    As it is by default, the bar is level with the web and square to the direction it shines from: `turn_deg` turns it
    about the vertical, from +x towards +y, `tilt_deg` lifts the end that points along increasing azimuth.
    """

    azimuth_deg: float
    polar_deg: float = 55.0
    distance_mm: float = 150.0
    length_mm: float = 150.0
    intensity: float = 1.0
    turn_deg: float = 0.0
    tilt_deg: float = 0.0

    @classmethod
    def between(cls, start_mm: F64, end_mm: F64) -> "LineLight":
        """The bar from one point (3,) to another, whichever comes first."""
        middle, along = (start_mm + end_mm) / 2, end_mm - start_mm
        distance, length = float(np.linalg.norm(middle)), float(np.linalg.norm(along))
        azimuth = np.degrees(np.arctan2(middle[1], middle[0])) % 360.0
        if along[1] * middle[0] < along[0] * middle[1]:
            along = -along
        turn = np.degrees(np.arctan2(-along[0], along[1])) - azimuth
        return cls(
            azimuth_deg=float(azimuth),
            polar_deg=float(np.degrees(np.arccos(middle[2] / distance))),
            distance_mm=distance,
            length_mm=length,
            turn_deg=float((turn + 180.0) % 360.0 - 180.0),
            tilt_deg=float(np.degrees(np.arcsin(along[2] / length))),
        )

    @property
    def ends_mm(self) -> tuple[F64, F64]:
        """The bar's two ends, (3,) each, in the order of increasing azimuth."""
        centre, along = self._bar()
        return centre - self.length_mm / 2 * along, centre + self.length_mm / 2 * along

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
        turned, tilt = np.radians(self.azimuth_deg + self.turn_deg), np.radians(self.tilt_deg)
        along = np.array([-np.sin(turned) * np.cos(tilt), np.cos(turned) * np.cos(tilt), np.sin(tilt)])
        return self.distance_mm * towards, along


def field_directions(
    lights: Sequence[LineLight], height_px: int, width_px: int, pitch_mm: float, transport_sign: int
) -> tuple[F64, F64]:
    """What `Calibration` holds of the lights of a camera centred on the field: `light_directions` (n, 3, w), the unit
    direction of the irradiance at web height along the centre image row, and `light_directions_per_row` (n, 3, w), its
    mean change per image row over the middle half of the image."""
    reach_px = max(0.5, (height_px - 1) / 2 - height_px // 4)
    x = (np.arange(width_px) - (width_px - 1) / 2) * pitch_mm
    rows = np.array([-reach_px, 0.0, reach_px]) * transport_sign * pitch_mm
    x_mm, y_mm = np.broadcast_arrays(x, rows[:, None])
    field = np.stack([light.irradiance(x_mm, y_mm) for light in lights])
    before, centre, after = np.moveaxis(field / np.linalg.norm(field, axis=1, keepdims=True), 2, 0)
    return np.ascontiguousarray(centre), (after - before) / (2 * reach_px)
