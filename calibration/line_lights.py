"""Line lights: from the machine's drawing, or triangulated from a mirror ball that stood in several places on the web.

One place of the ball tells only in which direction a bar lies, seen from the ball; bars stand so near that the web is
lit from another. A bar's image in the ball is an arc, each point of it a ray from a known point on the ball to the bar.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from calibration.ball import Ball
from calibration.mirror_ball import Arc, reflected
from edge.core.calibration import MAX_PITCH_MM, MAX_SIDE_PX, MAX_WHITE, MIN_PITCH_MM, Calibration
from edge.core.errors import CalibrationError
from edge.core.line_light import F64, LineLight, field_directions
from edge.core.toml_file import read_toml

MAX_RESIDUAL_DEG = 0.7
"""Arcs that lie farther from the bar than this are not all of one straight bar."""
MAX_UNCERTAINTY_DEG = 0.5
_LEAST_RESIDUAL_DEG = 0.1
"""What each arc may be off as a whole: the ball's centre and radius are known to a tenth of a pixel or so."""
_END_WEIGHT = 0.5
_ROUNDS = 20

Side = Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)]
Degrees = Annotated[float, Meta(ge=-360, le=360)]
Millimetres = Annotated[float, Meta(ge=0.1, le=1e5)]


class Bar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A bar as drawn: see `LineLight`."""

    azimuth_deg: Degrees
    polar_deg: Annotated[float, Meta(ge=0, le=89)]
    distance_mm: Millimetres
    length_mm: Millimetres
    turn_deg: Degrees = 0.0
    tilt_deg: Annotated[float, Meta(ge=-90, le=90)] = 0.0


class Machine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Camera and, where they are drawn, bars: azimuth from +x, along the image row, towards +y, from where the web
    comes. `transport_sign` is +1 when features move towards smaller image rows."""

    width_px: Side
    height_px: Side
    pitch_mm: Annotated[float, Meta(ge=MIN_PITCH_MM, le=MAX_PITCH_MM)]
    transport_sign: Annotated[int, Meta(ge=-1, le=1)] = 1
    white: Annotated[float, Meta(ge=1, le=MAX_WHITE)] = 255.0
    bar: list[Bar] = []

    def calibration(self, lights: Sequence[LineLight], origin: str) -> Calibration:
        """What the line must know of its lights, without flat field yet. Raises CalibrationError."""
        directions, per_row = field_directions(
            lights, self.height_px, self.width_px, self.pitch_mm, self.transport_sign
        )
        return Calibration(
            height=self.height_px,
            width=self.width_px,
            light_directions=directions,
            light_directions_per_row=per_row,
            dark=None,
            flat=None,
            white=self.white,
            pitch_mm=self.pitch_mm,
            transport_sign=self.transport_sign,
            origin=origin,
        )


def load_machine(path: Path) -> Machine:
    """Read a drawing (TOML). Raises CalibrationError naming the key."""
    return read_toml(path, Machine, CalibrationError)


def drawn_lights(machine: Machine, path: Path) -> list[LineLight]:
    """The bars of a drawing. Raises CalibrationError where they are too few, or one reaches down to the web."""
    if len(machine.bar) < 3:
        raise CalibrationError(f"{path}: {len(machine.bar)} bars: photometric stereo needs at least three [[bar]]")
    lights = [LineLight(**msgspec.structs.asdict(bar)) for bar in machine.bar]
    for index, light in enumerate(lights):
        if min(end[2] for end in light.ends_mm) <= 0:
            raise CalibrationError(f"{path}: bar[{index}] reaches down to the web")
    return lights


@dataclass(frozen=True, slots=True)
class Place:
    """The ball where it stood: its centre (3,) in mm, its outline in the photographs, and the arc of each light."""

    centre_mm: F64
    ball: Ball
    arcs: list[Arc]


@dataclass(frozen=True, slots=True)
class FittedBar:
    """A bar, how far the arcs lie from it (RMS, seen from the ball), and how well it tells the light's direction
    anywhere in the field (standard deviation at the worst point)."""

    light: LineLight
    residual_deg: float
    uncertainty_deg: float


def place_of(ball: Ball, arcs: list[Arc], pitch_mm: float, centre_px: tuple[float, float]) -> Place:
    """A ball on the web; `centre_px` (column, row) is where the photographs show the field's centre."""
    x, y = (ball.x - centre_px[0]) * pitch_mm, (ball.y - centre_px[1]) * pitch_mm
    return Place(np.array([x, y, ball.radius * pitch_mm]), ball, arcs)


def fit_bar(places: Sequence[Place], index: int, machine: Machine, length_mm: float | None = None) -> FittedBar:
    """The straight bar whose arcs light `index` left at two or more places, in the frame of the line's web.

    Least squares over the angles by which rays miss the bar's line and its ends (Gauss-Newton). Saturated arcs are
    too long at both ends alike: `length_mm`, where it is known, mends that. Raises CalibrationError where the arcs are
    of no one bar, or the places lie too near each other to tell where it is.
    """
    rays = _rays(places, index)
    bar = _triangulated_ends(rays)
    for _ in range(_ROUNDS):
        jacobian = _jacobian(lambda ends: _misses(ends, rays), bar)
        bar = bar - np.linalg.lstsq(jacobian, _misses(bar, rays), rcond=None)[0]
    if not np.isfinite(bar).all() or min(bar[2], bar[5]) <= 0:
        raise CalibrationError(f"light {index}: its arcs do not meet in one bar above the web: is the order the same?")
    misses = np.concatenate([_line_misses(bar, ray) for ray in rays])
    residual_deg = float(np.degrees(np.sqrt((misses**2).mean())))
    if residual_deg > MAX_RESIDUAL_DEG:
        raise CalibrationError(
            f"light {index}: its arcs are {residual_deg:.2f} degrees off a straight bar, {MAX_RESIDUAL_DEG:g} at most: "
            "is the order of the lights the same in all places?"
        )
    scatter = np.radians(max(residual_deg, _LEAST_RESIDUAL_DEG))
    uncertainty_deg = _uncertainty_deg(bar, scatter**2 * np.linalg.pinv(jacobian.T @ jacobian), machine)
    if uncertainty_deg > MAX_UNCERTAINTY_DEG:
        raise CalibrationError(
            f"light {index}: its direction is known to {uncertainty_deg:.2f} degrees only, {MAX_UNCERTAINTY_DEG:g} at "
            "most: let the ball stand farther apart, in the corners of the field"
        )
    if length_mm is not None:
        middle, half = (bar[3:] + bar[:3]) / 2, (bar[3:] - bar[:3]) / 2
        half *= length_mm / 2 / np.linalg.norm(half)
        bar = np.concatenate([middle - half, middle + half])
    flip = np.array([1.0, machine.transport_sign, 1.0])
    return FittedBar(LineLight.between(bar[:3] * flip, bar[3:] * flip), residual_deg, uncertainty_deg)


@dataclass(frozen=True, slots=True)
class _Rays:
    """From where (m, 3) the points of an arc look in which unit directions (m, 3), and the same of its two ends."""

    points: F64
    towards: F64
    end_points: F64
    ends_towards: F64


def _rays(places: Sequence[Place], index: int) -> list[_Rays]:
    """The rays of a light's arcs, all run through in the same way."""
    found: list[_Rays] = []
    for place in places:
        arc = place.arcs[index]
        radius_mm = place.centre_mm[2]
        points, towards = reflected(place.ball, arc.points)
        end_points, ends_towards = reflected(place.ball, arc.ends)
        if found and np.diff(end_points, axis=0)[0] @ np.diff(found[0].end_points, axis=0)[0] < 0:
            end_points, ends_towards = end_points[::-1], ends_towards[::-1]
        centre = place.centre_mm
        found.append(_Rays(centre + radius_mm * points, towards, centre + radius_mm * end_points, ends_towards))
    return found


def _triangulated_ends(rays: list[_Rays]) -> F64:
    """(6,) both ends, each the point nearest to its rays."""
    ends = []
    for end in (0, 1):
        across = np.stack([np.eye(3) - np.outer(ray.ends_towards[end], ray.ends_towards[end]) for ray in rays])
        points = np.stack([ray.end_points[end] for ray in rays])
        ends.append(np.linalg.lstsq(across.sum(axis=0), np.einsum("kij,kj->i", across, points), rcond=None)[0])
    return np.concatenate(ends)


def _misses(bar: F64, rays: list[_Rays]) -> F64:
    """Angles by which rays miss the bar; each arc weighs as one measurement of the line, and some of both ends."""
    parts = []
    for ray in rays:
        parts.append(_line_misses(bar, ray) / np.sqrt(len(ray.points)))
        gaps = bar.reshape(2, 3) - ray.end_points
        across = np.cross(ray.ends_towards, gaps) / np.linalg.norm(gaps, axis=1, keepdims=True)
        parts.append(_END_WEIGHT * across.ravel())
    return np.concatenate(parts)


def _line_misses(bar: F64, ray: _Rays) -> F64:
    """(m,) angles, seen from the ball, by which the rays of an arc miss the bar's line."""
    along = bar[3:] - bar[:3]
    normals = np.cross(ray.towards, along)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    gaps = bar[:3] - ray.points
    feet = gaps - np.outer(gaps @ along / (along @ along), along)
    misses: F64 = (gaps * normals).sum(axis=1) / np.linalg.norm(feet, axis=1)
    return misses


def _uncertainty_deg(bar: F64, covariance: F64, machine: Machine) -> float:
    """The standard deviation of the light's direction where it is greatest of nine points of the field."""
    half_x, half_y = (machine.width_px - 1) / 2 * machine.pitch_mm, (machine.height_px - 1) / 2 * machine.pitch_mm
    x, y = np.meshgrid(np.array([-half_x, 0.0, half_x]), np.array([-half_y, 0.0, half_y]))

    def directions(ends: F64) -> F64:
        field = LineLight.between(ends[:3], ends[3:]).irradiance(x.ravel(), y.ravel())
        return (field / np.linalg.norm(field, axis=0)).T.ravel()

    by_end = _jacobian(directions, bar)
    variance = np.einsum("ij,jk,ik->i", by_end, covariance, by_end).reshape(-1, 3).sum(axis=1)
    return float(np.degrees(np.sqrt(variance.max())))


def _jacobian(function: Callable[[F64], F64], at: F64) -> F64:
    """Numerical derivative of `function` (k,) by its parameters (p,), (k, p), in millimetres."""
    step = 1e-3
    return np.stack([(function(at + d) - function(at - d)) / (2 * step) for d in step * np.eye(len(at))], axis=1)
