"""How fast the web is rendered: against the machine's own copy speed, and against the NumPy a user would write.

    python -m benchmarks.rendering [--length-mm 200] [--rounds 5] [--json]

One run on one core, everything measured in alternation, the best of the rounds. A rate counts web, not exposures:
every pixel of web is exposed under all lights, eight times at the default advance of an eighth of a frame. Making ready
(lamps, gloss, noise) and the first frame do not count. Bytes moved are those that must be: of each fine row its
response under each light written once, and for every exposure the response and the irradiance read and the pixel
written; the copy moves half read and half written. NumPy renders the same ideal web, equal to one count.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numba
import numpy as np

from edge.core.types import F32, U8
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import REAL
from edge.simulation.planting import DENSE, PRODUCTION, Planted
from edge.simulation.relief import Octave, noise_between
from edge.simulation.web import MARGIN, OVERSAMPLE, RenderedWeb

WIDTH_PX, BAND_ROWS, COPIED_BYTES = 1024, 64, 1 << 26

CASES = {
    "ideal": (Rig(), Motion(), DENSE),
    "ideal, broken advances": (Rig(), Motion(29.3), DENSE),
    "all real optics": (Rig(optics=REAL), Motion(), DENSE),
    "all real, production": (Rig(optics=REAL), Motion(), PRODUCTION),
}


def mpix_per_s(camera: StrobedCamera, frames: Iterator[object]) -> float:
    """Web that comes into view after the first frame."""
    next(frames)
    begin = time.perf_counter()
    count = sum(1 for _ in frames)
    return count * camera.motion.advance_px * camera.web.width_px / 1e6 / (time.perf_counter() - begin)


def moved_bytes(camera: StrobedCamera) -> float:
    """Bytes that must be moved for a pixel of web."""
    exposures = camera.rig.height_px / camera.motion.advance_px
    response = 3 * 4 * OVERSAMPLE
    return response * len(camera.rig.lights) + exposures * (response + 3 * 4 + 1)


def copy_gb_per_s(source: F32, target: F32) -> float:
    """One copy between large arrays."""
    begin = time.perf_counter()
    np.copyto(target, source)
    return 2 * source.nbytes / (time.perf_counter() - begin) / 1e9


def numpy_frames(camera: StrobedCamera) -> Iterator[U8]:
    """What a user would write: exposures of an ideal camera at whole advances by whole-array NumPy in float32."""
    rig, web = camera.rig, camera.web
    irradiance, towards = camera._irradiance, camera.calibration.light_directions.astype(np.float32)
    dark = np.float32(rig.dark_level * rig.white)
    per_electron = rig.white / rig.full_well_e
    rng = np.random.default_rng(web.seed)
    seen = np.zeros((len(rig.lights), 3, 0, web.width_px), np.float32)
    first_row = rendered = 0
    for index in range(camera.frame_count):
        row = round(index * camera.motion.advance_px)
        while rendered < row + rig.height_px:
            seen = np.concatenate([seen, _numpy_band(web, rendered, towards)], axis=2)
            rendered += BAND_ROWS
        seen, first_row = seen[:, :, row - first_row :], row
        light = index % len(rig.lights)
        counts = dark + (seen[light, :, : rig.height_px] * irradiance[light]).sum(axis=0)
        if rig.noise:
            spread = np.sqrt(counts * per_electron + (rig.read_noise_e * per_electron) ** 2)
            counts += spread * rng.standard_normal(counts.shape, np.float32)
        yield np.clip(np.rint(counts), 0, rig.white).astype(np.uint8)


def _numpy_band(web: RenderedWeb, first_row: int, towards: F32) -> F32:
    """Means over a pixel of albedo * n of what each light reaches, (n, 3, rows, w)."""
    height, albedo = _numpy_fine(web, first_row, BAND_ROWS)
    inner, before, after = (slice(MARGIN + by, by - MARGIN) for by in (0, -1, 1))
    double = np.float32(2 * web.pitch_mm / OVERSAMPLE)
    normal = np.ones((3, BAND_ROWS * OVERSAMPLE, web.width_px * OVERSAMPLE), np.float32)
    normal[0] = (height[inner, before] - height[inner, after]) / double
    normal[1] = (height[before, inner] - height[after, inner]) / double
    weighted = normal * (albedo[inner, inner] / np.sqrt((normal * normal).sum(axis=0)))
    bands = []
    for direction in np.repeat(towards, OVERSAMPLE, axis=2):
        reached = (normal * direction[:, None]).sum(axis=0) > 0
        cells = (weighted * reached).reshape(3, BAND_ROWS, OVERSAMPLE, web.width_px, OVERSAMPLE)
        bands.append(cells.mean(axis=(2, 4)))
    return np.stack(bands)


def _numpy_fine(web: RenderedWeb, first_row: int, rows: int) -> tuple[F32, F32]:
    """As `RenderedWeb.fine`."""
    step = web.pitch_mm / OVERSAMPLE
    shape = (rows * OVERSAMPLE + 2 * MARGIN, web.width_px * OVERSAMPLE + 2 * MARGIN)
    first = first_row * OVERSAMPLE - MARGIN
    height, albedo = (_numpy_noise(octaves, first, shape) for octaves in web.octaves)
    albedo += 1
    y, x = (first + np.arange(shape[0]) + 0.5) * step, (np.arange(shape[1]) - MARGIN + 0.5) * step
    carved, toned = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    for planted in web.planted(first_row - 4, rows + 8):
        for part, box, profile in _profiles(planted, x, y):
            tone = 1 + (part[7] - 1) * profile
            if len(planted.ellipses) and part[6] >= 0:
                height[box] += part[6] * profile
                albedo[box] *= tone
            else:
                depth = part[6] if len(planted.ellipses) else -part[6]
                carved[box] = np.minimum(carved[box], depth * profile)
                toned[box] = np.minimum(toned[box], tone)
    return height + carved, albedo * toned


def _numpy_noise(octaves: list[Octave], first: int, shape: tuple[int, int]) -> F32:
    noise = noise_between(octaves, first, *shape)
    total = np.zeros(shape, np.float32)
    for k, octave in enumerate(octaves):
        at, taps = first + np.arange(shape[0]), noise.taps[k, :, : octave.spacing]
        lattice_row = at // octave.spacing
        count = -(-shape[1] // octave.spacing)
        knots = sum(
            taps[tap, at - lattice_row * octave.spacing, None] * noise.lattices[k, lattice_row - noise.first[k] + tap]
            for tap in range(4)
        )
        pieces = sum(knots[:, tap : tap + count, None] * taps[tap] for tap in range(4))
        total += pieces.reshape(shape[0], -1)[:, : shape[1]]
    return total


def _profiles(planted: Planted, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[slice, slice], F32]]:
    """Each ellipse or groove with the window that it lies in and its profile there, 1 in the middle, 0 outside."""

    def window(x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        return slice(*np.searchsorted(y, (y0, y1))), slice(*np.searchsorted(x, (x0, x1)))

    for e in planted.ellipses:
        reach = e[2:4].max()
        box = window(e[0] - reach, e[1] - reach, e[0] + reach, e[1] + reach)
        dy, dx = (y[box[0]] - e[1])[:, None], x[box[1]] - e[0]
        r2 = ((dx * e[4] + dy * e[5]) / e[2]) ** 2 + ((dy * e[4] - dx * e[5]) / e[3]) ** 2
        yield e, box, np.clip(1 - (r2 if e[6] >= 0 else r2 * r2), 0, None) ** 2
    for g in planted.grooves:
        half, along = g[4:6].max(), g[2:4] - g[0:2]
        box = window(*(np.minimum(g[0:2], g[2:4]) - half), *(np.maximum(g[0:2], g[2:4]) + half))
        dy, dx = (y[box[0]] - g[1])[:, None], x[box[1]] - g[0]
        t = np.clip((dx * along[0] + dy * along[1]) / (along @ along), 0, 1)
        away2 = (dx - t * along[0]) ** 2 + (dy - t * along[1]) ** 2
        yield g, box, np.clip(1 - away2 / (g[4] + t * (g[5] - g[4])) ** 2, 0, None) ** 2


def check_numpy() -> None:
    """Without noise NumPy's exposures equal the renderer's but for the last count."""
    camera = StrobedCamera(RenderedWeb(1, WIDTH_PX, DENSE), 20.0, Rig(noise=False))
    for frame, pixels in zip(camera.frames(), numpy_frames(camera), strict=True):
        np.testing.assert_allclose(pixels, frame.pixels, atol=1)


def measure(length_mm: float, rounds: int) -> dict[str, object]:
    """All figures of one run."""
    numba.set_num_threads(1)
    cv2.setNumThreads(1)
    check_numpy()
    cameras = {
        name: StrobedCamera(RenderedWeb(1, WIDTH_PX, frequencies), length_mm, rig, motion)
        for name, (rig, motion, frequencies) in CASES.items()
    }
    short = replace(cameras["ideal"], length_mm=20.0)
    rates: dict[str, Callable[[], float]] = {
        name: lambda camera=camera: mpix_per_s(camera, iter(camera.frames())) for name, camera in cameras.items()
    }
    rates["NumPy, ideal"] = lambda: mpix_per_s(short, numpy_frames(short))
    source, target = np.ones((2, COPIED_BYTES // 4), np.float32)
    rates["copy"] = lambda: copy_gb_per_s(source, target)
    best = dict.fromkeys(rates, 0.0)
    for _ in range(rounds):
        for name, rate in rates.items():
            best[name] = max(best[name], rate())
    copy, plain = best.pop("copy"), best["NumPy, ideal"]
    figures: dict[str, object] = {"width_px": WIDTH_PX, "lights": 4, "copy_gb_per_s": copy}
    for name, rate in best.items():
        figures[name] = {"mpix_per_s": rate, "times_numpy": rate / plain}
        if name in cameras:
            figures[name]["of_copy_speed"] = rate * moved_bytes(cameras[name]) / 1e3 / copy
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the rendered web on one core, as ratios taken in one run.")
    parser.add_argument("--length-mm", type=float, default=200.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    figures = measure(options.length_mm, options.rounds)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{WIDTH_PX} px of web under 4 lights on one core; copy {figures['copy_gb_per_s']:.1f} GB/s")
    print(f"{'':26}{'MPix of web/s':>15}{'x NumPy':>10}{'of copy':>10}")
    for name, row in figures.items():
        if isinstance(row, dict):
            copied = f"{row['of_copy_speed']:.2f}" if "of_copy_speed" in row else ""
            print(f"{name:26}{row['mpix_per_s']:15.2f}{row['times_numpy']:10.1f}{copied:>10}")


if __name__ == "__main__":
    main()
