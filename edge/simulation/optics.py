"""What real optics add to a Lambertian web under clean lamps, each effect with its size; all zero by default."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.core.line_light import LineLight
from edge.core.types import F32

BLOCK_PX = 32
"""Columns that share a table of gloss; between their middles it is interpolated."""
SLOPES = 65
MAX_SLOPE = 1.2
_BAR_SAMPLES = 9


@dataclass(frozen=True)
class Optics:
    """How far lights, lens and surface are from ideal.

    `gloss`: strength of the specular lobe, 0 none, 1 a bare dielectric (4 % at normal incidence) over albedo 0.1;
    `roughness`: Beckmann's m, the root-mean-square slope of its facets; `cast_shadows`: steep walls keep light off;
    `ambient`: stray light as a part of the flat level, absent when the dark image was taken; `vignetting`: loss in
    the corners; `exposure_us`: time the web moves on during a strobe; `dirt`: specks on the lens, as many per
    megapixel; `drift`: slow change of each lamp, as a part, over `drift_mm` of web.
    """

    gloss: float = 0.0
    roughness: float = 0.35
    cast_shadows: bool = False
    ambient: float = 0.0
    vignetting: float = 0.0
    exposure_us: float = 0.0
    dirt: float = 0.0
    drift: float = 0.0
    drift_mm: float = 700.0


IDEAL = Optics()
REAL = Optics(
    gloss=0.3,
    roughness=0.35,
    cast_shadows=True,
    ambient=0.02,
    vignetting=0.25,
    exposure_us=20.0,
    dirt=20.0,
    drift=0.01,
)
"""An inspection line in use: a coating with some sheen, a lens not cleaned today, lamps that warm up."""


def gloss_tables(lights: tuple[LineLight, ...], width_px: int, pitch_mm: float, optics: Optics) -> F32:
    """Specular light (n, blocks, SLOPES, SLOPES) f32 relative to what albedo 1 lying flat sends back under the light.

    Axes: light, column block, slope dh/dx and dh/dy from -MAX_SLOPE to MAX_SLOPE. Cook and Torrance (1982): Beckmann's
    distribution of facets, Fresnel by Schlick (1994) for a refractive index of 1.5, seen from straight above; a bar is
    a row of points. Without gloss there is no block.
    """
    blocks = -(-width_px // BLOCK_PX) + 1 if optics.gloss > 0 else 0
    x_mm = (np.arange(blocks) * BLOCK_PX - (width_px - 1) / 2) * pitch_mm
    slope = np.linspace(-MAX_SLOPE, MAX_SLOPE, SLOPES)
    p, q = np.meshgrid(slope, slope, indexing="ij")
    normal = np.stack([-p, -q, np.ones_like(p)]) / np.sqrt(1 + p * p + q * q)
    tables = np.zeros((len(lights), blocks, SLOPES, SLOPES), np.float32)
    for k, light in enumerate(lights):
        for block, x in enumerate(x_mm):
            lobe = np.zeros_like(p)
            for towards, weight in light.samples(float(x), 0.0, _BAR_SAMPLES):
                lobe += weight * _cook_torrance(normal, towards, optics.roughness)
            flat = light.irradiance(np.array([x]), np.array([0.0]))[2, 0]
            tables[k, block] = optics.gloss * 10.0 * lobe / flat
    return tables


def _cook_torrance(normal: NDArray[np.float64], towards: NDArray[np.float64], m: float) -> NDArray[np.float64]:
    """Pi times the specular BRDF times n.l, so that it compares with albedo * n.l of a Lambertian surface."""
    half = towards + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    n_h = np.tensordot(half, normal, axes=1)
    n_l = np.maximum(np.tensordot(towards, normal, axes=1), 0)
    n_v, v_h = normal[2], half[2]
    cos2 = np.maximum(n_h, 1e-3) ** 2
    facets = np.exp(-(1 - cos2) / (cos2 * m * m)) / (np.pi * m * m * cos2 * cos2)
    fresnel = 0.04 + 0.96 * (1 - v_h) ** 5
    masking = np.minimum(1, np.minimum(2 * n_h * n_v / v_h, 2 * n_h * n_l / v_h))
    lobe: NDArray[np.float64] = np.pi * facets * fresnel * masking / (4 * np.maximum(n_v, 1e-3))
    return np.where((n_l > 0) & (n_h > 0), lobe, 0.0)


def lens_transmission(height_px: int, width_px: int, optics: Optics, seed: int) -> tuple[F32, F32]:
    """(vignetting, dirt), each (h, w) f32 factors; the flat field was taken before the dirt came."""
    y, x = np.meshgrid(np.linspace(-1, 1, height_px), np.linspace(-1, 1, width_px), indexing="ij")
    vignetting = 1 - optics.vignetting * (x * x + (y * height_px / width_px) ** 2) / 2
    dirt = np.ones((height_px, width_px))
    rng = np.random.default_rng([seed, 11])
    for _ in range(rng.poisson(optics.dirt * height_px * width_px / 1e6)):
        row, column = rng.uniform(0, height_px), rng.uniform(0, width_px)
        radius, depth = rng.uniform(4, 16), rng.uniform(0.02, 0.12)
        rows, columns = np.ogrid[:height_px, :width_px]
        dirt *= 1 - depth * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / radius**2)
    return vignetting.astype(np.float32), dirt.astype(np.float32)


def lamp_strength(light: int, at_mm: float, optics: Optics) -> float:
    """Factor on a lamp at a web position: each drifts with a phase of its own."""
    return 1 + optics.drift * float(np.sin(2 * np.pi * at_mm / optics.drift_mm + 2.4 * light))
