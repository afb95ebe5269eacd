"""Lambertian patches under near lamps whose normals are known: what the surface room is tested with."""

from dataclasses import replace

import numpy as np

from edge.core.calibration import Calibration
from edge.core.types import Strip, Surface
from edge.surface import NumpyKernel, SurfaceSolver

HEIGHT, WIDTH, ROWS, FIELD_MM = 64, 200, 24, 51.0
PITCH_MM = 0.05


def lamp_directions(n: int, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
    """Exact unit directions (n, 3, ...) to point lamps on a ring of 150 mm, 105 mm above the web."""
    azimuth = np.arange(n) * 2 * np.pi / n
    lamps = np.stack([150 * np.cos(azimuth), 150 * np.sin(azimuth), np.full(n, 105.0)], axis=1)
    point = np.stack([x_mm, y_mm, np.zeros_like(x_mm)])
    towards = lamps.reshape(n, 3, *[1] * x_mm.ndim) - point
    return towards / np.linalg.norm(towards, axis=1, keepdims=True)


def columns_mm(width: int = WIDTH) -> np.ndarray:
    return np.linspace(-FIELD_MM / 2, FIELD_MM / 2, width)


def calibration(n: int = 4, width: int = WIDTH, flat: bool = True, row_term: bool = True) -> Calibration:
    x, y = columns_mm(width), np.full(width, PITCH_MM)
    change = (lamp_directions(n, x, y) - lamp_directions(n, x, -y)) / 2
    return Calibration(
        height=HEIGHT,
        width=width,
        light_directions=lamp_directions(n, x, 0 * y),
        light_directions_per_row=change if row_term else 0 * change,
        dark=np.full((n, HEIGHT, width), 4, np.float32) if flat else None,
        flat=np.full((n, HEIGHT, width), 104, np.float32) if flat else None,
        white=255.0,
        pitch_mm=PITCH_MM,
        transport_sign=1,
        origin="test",
    )


def seen_by(masks: list[list[int]], n: int) -> np.ndarray:
    """`lights_seen` of rows that were each seen under the lights listed."""
    bits = np.zeros((len(masks), n), np.uint8)
    for row, lights in enumerate(masks):
        bits[row, lights] = 1
    return np.packbits(bits, axis=1, bitorder="little")


def strip_of(planes: np.ndarray, source_row: np.ndarray | None = None, masks: list[list[int]] | None = None) -> Strip:
    n, rows, _ = planes.shape
    centre = np.full((n, rows), (HEIGHT - 1) / 2)
    return Strip(
        planes=planes.astype(np.float32),
        lights_seen=seen_by(masks or [list(range(n))] * rows, n),
        source_row=(centre if source_row is None else source_row).astype(np.float32),
        first_row=7,
    )


def tilted(slope_deg: float) -> np.ndarray:
    """Normals (3, ROWS, WIDTH) that lean every way by up to `slope_deg`."""
    random = np.random.default_rng(3)
    polar, azimuth = np.radians(slope_deg) * random.random((ROWS, WIDTH)), 2 * np.pi * random.random((ROWS, WIDTH))
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])


def rendered(normals: np.ndarray, albedo: np.ndarray, source_row: np.ndarray, n: int = 4, flat: bool = True) -> Strip:
    """A Lambertian patch under the exact lamps, each light at the place of the image row it was seen on."""
    x = np.broadcast_to(columns_mm(), (ROWS, WIDTH))
    planes = []
    for k in range(n):
        y = np.repeat((source_row[k, :, None] - (HEIGHT - 1) / 2) * PITCH_MM, WIDTH, axis=1)
        light = lamp_directions(n, x, y)[k]
        shade = np.maximum(albedo * (normals * light).sum(axis=0), 0)
        planes.append(shade / light[2] if flat else shade)
    return strip_of(np.stack(planes), source_row)


def angle_rad(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 2 * np.arcsin(np.linalg.norm(a - b, axis=0) / 2)


def source_rows(n: int = 4) -> np.ndarray:
    return np.random.default_rng(4).uniform(0, HEIGHT - 1, (n, ROWS))


def angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(angle_rad(a.astype(float), b))


def decided(lights: Calibration, strip: Strip, reference: Surface) -> np.ndarray:
    """(rows, w): where no rounding of the planes decides which lights a pixel is solved from."""
    steady = np.ones(reference.valid.shape, bool)
    for seed in range(3):
        rounding = np.random.default_rng(seed).choice([1 - 1e-5, 1 + 1e-5], strip.planes.shape)
        planes = (strip.planes * rounding).astype(np.float32)
        other = SurfaceSolver(lights, NumpyKernel).solve(replace(strip, planes=planes))
        steady &= (other.valid == reference.valid) & (np.abs(other.normals - reference.normals).max(axis=0) < 1e-3)
    return steady
