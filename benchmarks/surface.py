"""How fast a surface is solved: against the machine's own copy speed, and against the NumPy a user would write.

    python -m benchmarks.surface [--json]

One run, everything measured in alternation, medians. Bytes moved are those that must be: the planes read once, the
surface written once. The copy moves as many, half read and half written, in a parallel loop or by np.copyto, whichever
is faster. Outputs are allocated and touched beforehand, for all alike.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numba import get_num_threads, njit, prange

from edge.core.calibration import Calibration
from edge.core.memory import empty_mid_page, empty_on_page
from edge.core.types import Strip, Surface
from edge.surface import SurfaceSolver
from edge.surface.matrices import SHADOW, Matrices, matrices_for

LIGHTS, ROWS, WIDTH, IMAGE_ROWS = 4, 1024, 4096, 256
FIELD_MM, LAMP_MM = 51.0, (150.0, 105.0)
ROUNDS = 15


def near_lights() -> Calibration:
    """Four lamps 150 mm off and 105 mm above the middle of a flat-fielded field of 51 mm."""
    x_mm = (np.arange(WIDTH) - (WIDTH - 1) / 2) * FIELD_MM / WIDTH
    azimuth = np.arange(LIGHTS) * np.pi / 2

    def directions(y_mm: float) -> np.ndarray:
        lamps = np.stack([LAMP_MM[0] * np.cos(azimuth), LAMP_MM[0] * np.sin(azimuth), np.full(LIGHTS, LAMP_MM[1])], 1)
        towards = lamps[:, :, None] - np.stack([x_mm, np.full(WIDTH, y_mm), np.zeros(WIDTH)])
        return towards / np.linalg.norm(towards, axis=1, keepdims=True)

    pitch_mm = FIELD_MM / WIDTH
    return Calibration(
        height=IMAGE_ROWS,
        width=WIDTH,
        light_directions=directions(0.0),
        light_directions_per_row=(directions(pitch_mm) - directions(-pitch_mm)) / 2,
        dark=np.full((LIGHTS, IMAGE_ROWS, WIDTH), 4, np.float32),
        flat=np.full((LIGHTS, IMAGE_ROWS, WIDTH), 150, np.float32),
        white=255.0,
        pitch_mm=pitch_mm,
        transport_sign=1,
        origin="benchmark",
    )


def random_strip() -> Strip:
    """A strip of 4 MPix, every row seen under all lights."""
    random = np.random.default_rng(1)
    planes = empty_on_page((LIGHTS, ROWS, WIDTH), np.float32)
    planes[:] = random.uniform(0.5, 1.2, planes.shape)
    return Strip(
        planes=planes,
        lights_seen=np.full((ROWS, 1), 0b1111, np.uint8),
        source_row=random.uniform(0, IMAGE_ROWS - 1, (LIGHTS, ROWS)).astype(np.float32),
        first_row=0,
    )


def numpy_formula(m: Matrices, strip: Strip, row_term: bool) -> Callable[[], Surface]:
    """What a user would write: the same outputs by whole-array NumPy in float32, matrices at hand."""
    inverse, drift = m.inverse.astype(np.float32), m.g_per_row.astype(np.float32)
    checksum, saturation = m.checksum.astype(np.float32), m.saturation.astype(np.float32)[:, None, :]
    off_centre = (strip.source_row - m.centre_row).astype(np.float32)[:, :, None]
    unlit = np.array([0, 0, 1], np.float32)[:, None, None]

    def solve() -> Surface:
        q = strip.planes
        b = np.einsum("ikw,krw->irw", inverse, q)
        if row_term:
            q = q - off_centre * np.einsum("kiw,irw->krw", drift, b)
            b = np.einsum("ikw,krw->irw", inverse, q)
        albedo = np.sqrt((b * b).sum(axis=0))
        solved = np.isfinite(albedo) & (albedo > 0)
        raw = strip.planes
        good = (raw > np.float32(SHADOW) * raw.max(axis=0)).all(axis=0) & (raw < saturation).all(axis=0)
        with np.errstate(all="ignore"):
            normals = np.where(solved, b / albedo, unlit)
            residual = np.where(solved, np.einsum("kw,krw->rw", checksum, q) / albedo, np.float32(np.nan))
        albedo = np.where(solved, albedo, np.float32(0))
        return Surface(normals, albedo, residual, (solved & good).view(np.uint8), 0)

    return solve


@njit(parallel=True, cache=True)
def _copy(source, target):  # type: ignore[no-untyped-def]
    for i in prange(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


def medians_ms(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median time of each task, all taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()
    for _ in range(rounds):
        for name, task in tasks.items():
            begin = time.perf_counter()
            task()
            times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def measure() -> dict[str, object]:
    """All figures of one run."""
    strip, near = random_strip(), near_lights()
    far = replace(near, light_directions_per_row=np.zeros_like(near.light_directions_per_row))
    moved = strip.planes.nbytes + ROWS * WIDTH * (5 * 4 + 1)
    source = empty_on_page((ROWS, moved // 2 // 4 // ROWS), np.float32)
    target = empty_mid_page(source.shape, np.float32)
    source[:], target[:] = 1, 0
    fast: dict[str, Callable[[], object]] = {
        "copy, parallel loop": lambda: _copy(source, target),
        "copy, np.copyto": lambda: np.copyto(target, source),
    }
    slow: dict[str, Callable[[], object]] = {}
    lights = np.arange(LIGHTS)
    for name, calibration in (("row term", near), ("no row term", far)):
        solver = SurfaceSolver(calibration)
        out = solver.solve(strip)
        fast[name] = lambda solver=solver, out=out: solver.solve(strip, out)
        slow[name] = numpy_formula(matrices_for(calibration, lights), strip, row_term=calibration is near)

    fast_ms, slow_ms = medians_ms(fast, ROUNDS), medians_ms({**slow, **{f"_{k}": fast[k] for k in slow}}, 3)
    copy_ms = min(fast_ms["copy, parallel loop"], fast_ms["copy, np.copyto"])
    return {
        "strip": {"lights": LIGHTS, "rows": ROWS, "width": WIDTH, "moved_mb": moved / 1e6},
        "threads": get_num_threads(),
        "copy": {"ms": copy_ms, "gb_per_s": moved / copy_ms / 1e6},
        **{
            name: {
                "ms": fast_ms[name],
                "gb_per_s": moved / fast_ms[name] / 1e6,
                "of_copy_speed": copy_ms / fast_ms[name],
                "numpy_ms": slow_ms[name],
                "times_numpy": slow_ms[name] / slow_ms[f"_{name}"],
            }
            for name in slow
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of the surface kernel, as ratios taken in one run.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    as_json = parser.parse_args().json
    figures = measure()
    if as_json:
        print(json.dumps(figures))
        return
    print(f"{ROWS} x {WIDTH} px under {LIGHTS} lights, {figures['threads']} threads")
    print(f"{'':14}{'ms':>9}{'GB/s':>9}{'of copy':>9}{'NumPy ms':>10}{'x NumPy':>9}")
    for name in ("copy", "row term", "no row term"):
        row = figures[name]
        cells = (row.get(key) for key in ("ms", "gb_per_s", "of_copy_speed", "numpy_ms", "times_numpy"))
        text = ["" if cell is None else f"{cell:.2f}" for cell in cells]
        print(f"{name:14}{text[0]:>9}{text[1]:>9}{text[2]:>9}{text[3]:>10}{text[4]:>9}")


if __name__ == "__main__":
    main()
