"""How fast a surface is solved: against the machine's own copy speed, and against what a user would write.

    python -m benchmarks.surface [--json]

One run, medians; the kernel and the copy in alternation, then the rivals. Bytes moved are those that must be: the
planes read once, the surface written once. The copy moves as many, half read and half written, in a parallel loop or
by np.copyto, whichever is faster. The kernel's outputs and the copy's are allocated and touched beforehand.

The web has 1 % of noise and, unless clean, glints and shadows on 0.5 % of its pixels, that fall back to three lights.
Rivals are spared the fallback; OpenCV, which has one matrix for all columns, the row term as well; PyTorch takes part
where it is installed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
from numba import get_num_threads, njit, prange

from edge.core.calibration import Calibration
from edge.core.memory import empty_mid_page, empty_on_page
from edge.core.types import Strip, Surface
from edge.surface import SurfaceSolver
from edge.surface.matrices import SHADOW, Matrices, matrices_for

LIGHTS, ROWS, WIDTH, IMAGE_ROWS = 4, 1024, 4096, 256
FIELD_MM, LAMP_MM = 51.0, (150.0, 105.0)
AFFECTED, PATCH_PX, NOISE = 0.005, 8, 0.01
ROUNDS, SLOW_ROUNDS = 15, 3


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


def noisy_strip(affected: float) -> Strip:
    """A strip of 4 MPix of flat web, every row seen under all lights; one light glints or is shadowed on some of it."""
    random = np.random.default_rng(1)
    planes = empty_on_page((LIGHTS, ROWS, WIDTH), np.float32)
    planes[:] = 1 + NOISE * random.standard_normal(planes.shape, np.float32)
    for _ in range(int(affected * ROWS * WIDTH / PATCH_PX**2)):
        light, row, column = random.integers([LIGHTS, ROWS - PATCH_PX, WIDTH - PATCH_PX])
        patch = planes[light, row : row + PATCH_PX, column : column + PATCH_PX]
        patch[:] = patch + 0.5 if random.random() < 0.5 else patch * 0.03
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


def opencv_formula(m: Matrices, strip: Strip) -> Callable[[], object]:
    """The same outputs by OpenCV, with the directions of the middle column for all."""
    middle = m.inverse.shape[2] // 2
    matrix = np.vstack([m.inverse[:, :, middle], m.checksum[:, middle]]).astype(np.float32)
    planes, full = list(strip.planes), float(m.saturation.min())

    def solve() -> object:
        x, y, z, across = cv2.split(cv2.transform(cv2.merge(planes), matrix))
        albedo = cv2.magnitude(cv2.magnitude(x, y), z)
        normals = [cv2.divide(part, albedo) for part in (x, y, z)]
        brightest = reduce(cv2.max, planes)
        lit = cv2.compare(reduce(cv2.min, planes), cv2.multiply(brightest, SHADOW), cv2.CMP_GT)
        valid = cv2.bitwise_and(lit, cv2.compare(brightest, full, cv2.CMP_LT))
        return normals, albedo, cv2.divide(across, albedo), valid

    return solve


def torch_formula(m: Matrices, strip: Strip) -> Callable[[], object]:
    """The same outputs by PyTorch, whole tensors in float32, row term and all."""
    torch = import_module("torch")  # optional
    torch.set_num_threads(get_num_threads())
    inverse, drift = torch.from_numpy(m.inverse).float(), torch.from_numpy(m.g_per_row).float()
    checksum, saturation = torch.from_numpy(m.checksum).float(), torch.from_numpy(m.saturation).float()[:, None]
    off_centre = torch.from_numpy(strip.source_row - m.centre_row).float()[:, :, None]
    raw = torch.from_numpy(strip.planes)
    unlit, zero = torch.tensor([0.0, 0.0, 1.0])[:, None, None], torch.zeros(())

    def product(rows: Any, values: Any) -> Any:
        # einsum would take a small matrix product for each column, which is slower still
        return torch.stack(
            [
                reduce(lambda total, pair: torch.addcmul(total, *pair), zip(row, values, strict=True), zero)
                for row in rows
            ]
        )

    def solve() -> object:
        with torch.inference_mode():
            b = product(inverse, raw)
            q = raw - off_centre * product(drift, b)
            b = product(inverse, q)
            albedo = torch.linalg.vector_norm(b, dim=0)
            solved = torch.isfinite(albedo) & (albedo > 0)
            good = (raw > SHADOW * raw.amax(dim=0)).all(dim=0) & (raw < saturation).all(dim=0)
            residual = product(checksum[None], q)[0] / albedo
            return torch.where(solved, b / albedo, unlit), albedo, residual, solved & good

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
    strip, clean, near = noisy_strip(AFFECTED), noisy_strip(0.0), near_lights()
    far = replace(near, light_directions_per_row=np.zeros_like(near.light_directions_per_row))
    moved = strip.planes.nbytes + ROWS * WIDTH * (5 * 4 + 1)
    source = empty_on_page((ROWS, moved // 2 // 4 // ROWS), np.float32)
    target = empty_mid_page(source.shape, np.float32)
    source[:], target[:] = 1, 0
    fast: dict[str, Callable[[], object]] = {
        "copy, parallel loop": lambda: _copy(source, target),
        "copy, np.copyto": lambda: np.copyto(target, source),
    }
    matrices = matrices_for(near, np.arange(LIGHTS))
    rivals: dict[str, dict[str, Callable[[], object]]] = {
        "row term": {
            "NumPy": numpy_formula(matrices, strip, row_term=True),
            "OpenCV": opencv_formula(matrices, strip),
            **({"PyTorch": torch_formula(matrices, strip)} if find_spec("torch") else {}),
        },
        "no row term": {"NumPy": numpy_formula(matrices_for(far, np.arange(LIGHTS)), strip, row_term=False)},
        "clean web": {},
    }
    untrusted = {}
    for name, calibration, web in (("row term", near, strip), ("no row term", far, strip), ("clean web", near, clean)):
        solver = SurfaceSolver(calibration)
        out = solver.solve(web)
        untrusted[name] = float((out.valid == 0).mean())
        fast[name] = lambda solver=solver, web=web, out=out: solver.solve(web, out)

    fast_ms = medians_ms(fast, ROUNDS)
    slow = {f"{rival} {name}": task for name, tasks in rivals.items() for rival, task in tasks.items()}
    slow_ms = medians_ms(slow, SLOW_ROUNDS)  # on their own: threads they leave spinning would slow the kernel
    copy_ms = min(fast_ms["copy, parallel loop"], fast_ms["copy, np.copyto"])
    return {
        "strip": {"lights": LIGHTS, "rows": ROWS, "width": WIDTH, "moved_mb": moved / 1e6, "affected": AFFECTED},
        "threads": get_num_threads(),
        "copy": {"ms": copy_ms, "gb_per_s": moved / copy_ms / 1e6},
        **{
            name: {
                "ms": fast_ms[name],
                "gb_per_s": moved / fast_ms[name] / 1e6,
                "of_copy_speed": copy_ms / fast_ms[name],
                "untrusted": untrusted[name],
                "times": {rival: slow_ms[f"{rival} {name}"] / fast_ms[name] for rival in tasks},
            }
            for name, tasks in rivals.items()
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
    print(f"{'':14}{'ms':>9}{'GB/s':>9}{'of copy':>9}  times as fast as")
    for name in ("copy", "row term", "no row term", "clean web"):
        row = figures[name]
        cells = [f"{row[key]:.2f}" if key in row else "" for key in ("ms", "gb_per_s", "of_copy_speed")]
        rivals = ", ".join(f"{rival} {times:.1f}" for rival, times in row.get("times", {}).items())
        print(f"{name:14}{cells[0]:>9}{cells[1]:>9}{cells[2]:>9}  {rivals}")


if __name__ == "__main__":
    main()
