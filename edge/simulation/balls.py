"""Photographs of calibration balls: mirror or matte balls standing on flat web under line lights, seen from above.

The camera looks straight down and is telecentric. Of each light path one bounce off the web and one off the ball is
followed: a mirror ball shows the bar, and in its outer ring the lit web; balls shadow the web, and are not lit by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.core.line_light import F64, LineLight
from edge.core.types import Pixels

_SIDE = 3
"""Samples a pixel, to either side."""
_BAR_SAMPLES = 16


@dataclass(frozen=True)
class BallStudio:
    """Camera, web and balls; the field's centre is the picture's.

    `flat_level` is what the web at the centre shows, as a part of white; `surround` what the dark machine above shows
    in the mirror, as a part of that; `noise` the standard deviation, as a part of white. `lamp_width_mm` is what the
    mirror shows of a bar's width: the narrower, the more it outshines the web.
    """

    height_px: int
    width_px: int
    pitch_mm: float
    diameter_mm: float
    ball: Literal["mirror", "matte"] = "mirror"
    ball_albedo: float = 0.65
    web_albedo: float = 0.3
    lamp_width_mm: float = 8.0
    flat_level: float = 0.45
    surround: float = 0.05
    blur_px: float = 0.7
    noise: float = 0.01
    bits: int = 8

    def photograph(self, light: LineLight, places_mm: Sequence[tuple[float, float]], seed: int) -> Pixels:
        """A photograph (h, w) u8 or u16 under one light of balls that touch the web at `places_mm` (x, y)."""
        start, end = light.ends_mm
        part = ((np.arange(_BAR_SAMPLES) + 0.5) / _BAR_SAMPLES)[:, None]
        seen = _radiance(
            self.height_px,
            self.width_px,
            self.pitch_mm,
            np.array(places_mm, np.float64).reshape(-1, 2),
            self.diameter_mm / 2,
            self.ball == "mirror",
            self.ball_albedo,
            self.web_albedo / np.pi,
            start,
            end,
            start + part * (end - start),
            light.intensity * light.length_mm / _BAR_SAMPLES,
            light.intensity / self.lamp_width_mm,
            self.lamp_width_mm / 2,
        )
        level = seen * (self.flat_level / (self.web_albedo / np.pi * light.irradiance(*np.zeros((2, 1)))[2, 0]))
        if self.ball == "mirror":
            level += self._on_ball(places_mm) * self.surround * self.flat_level
        level = cv2.GaussianBlur(level, (0, 0), self.blur_px)
        level += np.random.default_rng(seed).normal(0.0, self.noise, level.shape)
        counts: Pixels = np.rint(level.clip(0.0, 1.0) * (2**self.bits - 1)).astype(
            np.uint8 if self.bits == 8 else np.uint16
        )
        return counts

    def _on_ball(self, places_mm: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
        y, x = np.mgrid[: self.height_px, : self.width_px].astype(np.float64)
        x_mm, y_mm = (x - (self.width_px - 1) / 2) * self.pitch_mm, (y - (self.height_px - 1) / 2) * self.pitch_mm
        on = np.zeros(x.shape, np.bool_)
        for px, py in places_mm:
            on |= np.hypot(x_mm - px, y_mm - py) < self.diameter_mm / 2
        return on


@njit(parallel=True, cache=True)
def _radiance(
    height: int,
    width: int,
    pitch_mm: float,
    places: F64,
    radius: float,
    mirror: bool,
    ball_albedo: float,
    web_albedo_per_pi: float,
    start: F64,
    end: F64,
    samples: F64,
    strength: float,
    lamp_radiance: float,
    lamp_reach: float,
) -> F64:
    """What each pixel (h, w) sees, the mean of its samples; `samples` (m, 3) of the bar, each of `strength`."""
    out = np.zeros((height, width))
    for row in prange(height):
        for column in range(width):
            total = 0.0
            for part in range(_SIDE * _SIDE):
                x = (column - (width - 1) / 2 + (part % _SIDE + 0.5) / _SIDE - 0.5) * pitch_mm
                y = (row - (height - 1) / 2 + (part // _SIDE + 0.5) / _SIDE - 0.5) * pitch_mm
                hit = -1
                for k in range(places.shape[0]):
                    if (x - places[k, 0]) ** 2 + (y - places[k, 1]) ** 2 < radius * radius:
                        hit = k
                if hit < 0:
                    total += web_albedo_per_pi * _web(x, y, places, radius, samples, strength)
                    continue
                nx, ny = (x - places[hit, 0]) / radius, (y - places[hit, 1]) / radius
                nz = np.sqrt(1.0 - nx * nx - ny * ny)
                z = radius * (1.0 + nz)
                if not mirror:
                    total += ball_albedo / np.pi * _lit(x, y, z, nx, ny, nz, samples, strength)
                    continue
                dx, dy, dz = 2 * nz * nx, 2 * nz * ny, 2 * nz * nz - 1
                if dz > 0:
                    if _distance(x, y, z, dx, dy, dz, start, end) < lamp_reach:
                        total += ball_albedo * lamp_radiance
                elif dz < -1e-3:
                    t = -z / dz
                    total += (
                        ball_albedo
                        * web_albedo_per_pi
                        * _web(x + t * dx, y + t * dy, places, radius, samples, strength)
                    )
            out[row, column] = total / (_SIDE * _SIDE)
    return out


@njit(cache=True)
def _lit(x: float, y: float, z: float, nx: float, ny: float, nz: float, samples: F64, strength: float) -> float:
    """Irradiance of a surface facing n."""
    total = 0.0
    for k in range(samples.shape[0]):
        lx, ly, lz = samples[k, 0] - x, samples[k, 1] - y, samples[k, 2] - z
        total += strength * max(0.0, lx * nx + ly * ny + lz * nz) / (lx * lx + ly * ly + lz * lz) ** 1.5
    return total


@njit(cache=True)
def _web(x: float, y: float, places: F64, radius: float, samples: F64, strength: float) -> float:
    """Irradiance of flat web at (x, y), from what of the bar no ball hides."""
    total = 0.0
    for k in range(samples.shape[0]):
        lx, ly, lz = samples[k, 0] - x, samples[k, 1] - y, samples[k, 2]
        square = lx * lx + ly * ly + lz * lz
        hidden = False
        for ball in range(places.shape[0]):
            vx, vy = places[ball, 0] - x, places[ball, 1] - y
            along = vx * lx + vy * ly + radius * lz
            if along > 0 and vx * vx + vy * vy + radius * radius - along * along / square < radius * radius:
                hidden = True
        if not hidden:
            total += strength * lz / square**1.5
    return total


@njit(cache=True)
def _distance(x: float, y: float, z: float, dx: float, dy: float, dz: float, start: F64, end: F64) -> float:
    """How far the ray from (x, y, z) along the unit vector d passes from the bar; beyond its ends, infinitely far."""
    ax, ay, az = start[0] - x, start[1] - y, start[2] - z
    ux, uy, uz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    a_d, u_d = ax * dx + ay * dy + az * dz, ux * dx + uy * dy + uz * dz
    ax, ay, az = ax - a_d * dx, ay - a_d * dy, az - a_d * dz
    ux, uy, uz = ux - u_d * dx, uy - u_d * dy, uz - u_d * dz
    t = -(ax * ux + ay * uy + az * uz) / (ux * ux + uy * uy + uz * uz)
    if not 0.0 <= t <= 1.0:
        return np.inf
    return float(np.sqrt((ax + t * ux) ** 2 + (ay + t * uy) ** 2 + (az + t * uz) ** 2))
