"""Kernels that expose a frame: what each fine row of web sends back under each light, and its sum over a pixel."""

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from edge.core.types import F32
from edge.simulation.web import OVERSAMPLE

_S = OVERSAMPLE
_STEEP = np.float32(np.tan(np.radians(20.0)) ** 2)
"""Squared slope below which no light at a polar angle of 70 degrees or less is lost."""


@njit(parallel=True, cache=True, fastmath=True)
def reflect(out: NDArray[np.float32], height: F32, albedo: F32, step_mm: float, towards: F32) -> None:
    """Lambertian response of fine rows: `out` (n, 3, fine rows, w) = mean over the pixel's width of albedo * n.

    Samples turned away from light k (attached shadow) send nothing back under it. `towards` (n, 3, w): vectors to the
    lights. The response times the irradiance vector is the light that reaches the camera.
    """
    lights, _, fine_rows, width = out.shape
    per = np.float32(1.0 / (2.0 * step_mm))
    share = np.float32(1.0 / _S)
    for r in prange(fine_rows):
        for c in range(width):
            total_x, total_y, total_z, steepest = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(_S):
                j = c * _S + i + 1
                nx = (height[r + 1, j - 1] - height[r + 1, j + 1]) * per
                ny = (height[r, j] - height[r + 2, j]) * per
                weight = albedo[r + 1, j] * share / np.sqrt(np.float32(1) + nx * nx + ny * ny)
                steepest = max(steepest, nx * nx + ny * ny)
                total_x += weight * nx
                total_y += weight * ny
                total_z += weight
            for k in range(lights):
                out[k, 0, r, c] = total_x
                out[k, 1, r, c] = total_y
                out[k, 2, r, c] = total_z
            if steepest > _STEEP:
                _take_back_shadow(out, height, albedo, per, towards, r, c)


@njit(inline="always")
def _take_back_shadow(out: Any, height: F32, albedo: F32, per: Any, towards: F32, r: int, c: int) -> None:
    share = np.float32(1.0 / _S)
    for i in range(_S):
        j = c * _S + i + 1
        nx = (height[r + 1, j - 1] - height[r + 1, j + 1]) * per
        ny = (height[r, j] - height[r + 2, j]) * per
        weight = albedo[r + 1, j] * share / np.sqrt(np.float32(1) + nx * nx + ny * ny)
        for k in range(out.shape[0]):
            if nx * towards[k, 0, c] + ny * towards[k, 1, c] + towards[k, 2, c] <= 0:
                out[k, 0, r, c] -= weight * nx
                out[k, 1, r, c] -= weight * ny
                out[k, 2, r, c] -= weight


@njit(parallel=True, cache=True, fastmath=True)
def expose(out: F32, ring: NDArray[np.float32], irradiance: F32, first_fine: float, sign: int, offset: float) -> None:
    """Counts (h, w) of one exposure: each pixel integrates the fine rows it covers, wherever it lies between them.

    `ring` (3, fine rows, w): response under this light, fine row f at f modulo its length; `irradiance` (3, h, w) in
    counts; image row r covers the fine rows from first_fine + sign r S on; `offset` counts are added.
    """
    height, width = out.shape
    length = ring.shape[1]
    share = np.float32(1.0 / _S)
    for r in prange(height):
        start = first_fine + sign * r * _S
        first = int(np.floor(start))
        part = np.float32(start - first)
        for c in range(width):
            out[r, c] = offset
        for i in range(_S + 1):
            weight = share
            if i == 0:
                weight = share * (np.float32(1) - part)
            elif i == _S:
                weight = share * part
            if weight == 0:
                continue
            f = (first + i) % length
            for c in range(width):
                out[r, c] += weight * (
                    ring[0, f, c] * irradiance[0, r, c]
                    + ring[1, f, c] * irradiance[1, r, c]
                    + ring[2, f, c] * irradiance[2, r, c]
                )


@njit(parallel=True, cache=True)
def digitise(out: Any, counts: F32, noise: F32, counts_per_electron: float, read_counts: float, white: float) -> None:
    """Shot and read noise from unit normal `noise`, then whole counts clipped to 0..white."""
    for r in prange(counts.shape[0]):
        for c in range(counts.shape[1]):
            value = counts[r, c]
            spread = np.sqrt(max(value, np.float32(0)) * counts_per_electron + read_counts * read_counts)
            out[r, c] = min(max(np.rint(value + spread * noise[r, c]), 0.0), white)
