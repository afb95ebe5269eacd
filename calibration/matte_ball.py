"""Light directions from the shading of a matte ball: brightness is albedo * n . l wherever the light reaches."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.ball import Ball
from edge.core.errors import CalibrationError
from edge.core.types import F32

MAX_RESIDUAL = 0.15
"""Of a matte ball's brightest point: shading that differs by more is not that of a matte ball under one far light."""
_RIM = 0.95
_DARKEST = 0.15
"""Pixels below this part of the brightest lie in or near the shadow's edge."""
_SATURATED = 0.98
_CAUCHY = 2.385
_ROUNDS = 30
_LEAST_PIXELS = 200
_MOST_SATURATED = 0.02


@dataclass(frozen=True, slots=True)
class Shading:
    """The unit `direction` (3,) to a light, `residual` (RMS of the shading that it does not explain, as a part of the
    brightest) and `used`, the part of the ball's pixels that it was fitted to."""

    direction: NDArray[np.float64]
    residual: float
    used: float


def light_from_shading(image: F32, ball: Ball, white: float, name: str) -> Shading:
    """The far light that shades a matte ball so: I = n . (albedo l), least squares over lit, unsaturated pixels.

    Reweighted (Cauchy) against stains, gloss and what the web throws back; pixels are those whose brightness, as the
    fit has it, is clear of the shadow's edge, so that noise does not choose them. Raises CalibrationError, naming the
    photograph, where the ball is saturated, dark, or not matte.
    """
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
    on = np.hypot(x - ball.x, y - ball.y) < _RIM * ball.radius
    normals, values = ball.normals(x[on], y[on]), image[on].astype(np.float64)
    clear = values < _SATURATED * white
    if 1.0 - clear.mean() > _MOST_SATURATED:
        raise CalibrationError(f"{name}: the ball is saturated: expose for a shorter time")
    brightest = float(np.percentile(values, 99))
    fitted = values
    for _ in range(_ROUNDS):
        used = clear & (fitted > _DARKEST * brightest)
        if used.sum() < _LEAST_PIXELS:
            raise CalibrationError(f"{name}: too little of the ball is lit: is the lamp on, does it stand high enough?")
        off = values[used] - fitted[used]
        scale = _CAUCHY * 1.4826 * max(1e-6 * brightest, float(np.median(np.abs(off))))
        weight = 1.0 / np.sqrt(1.0 + (off / scale) ** 2)
        light = np.linalg.lstsq(normals[used] * weight[:, None], values[used] * weight, rcond=None)[0]
        fitted = normals @ light
    strength = float(np.linalg.norm(light))
    residual = float(np.sqrt(((values[used] - fitted[used]) ** 2).mean())) / strength
    if residual > MAX_RESIDUAL or light[2] <= 0:
        raise CalibrationError(
            f"{name}: the ball's shading differs by {100 * residual:.0f} % from a matte ball's under one far light, at "
            f"most {100 * MAX_RESIDUAL:.0f}: is it matte, is only one lamp on?"
        )
    return Shading(light / strength, residual, float(used.mean()))
