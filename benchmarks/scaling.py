"""Whether what the line takes grows in proportion to the web: its time and memory over lengths in steps of two.

    python -m benchmarks.scaling [--most-m 1.6] [--width-px 1024] [--density production] [--rounds 3] [--json]

`--most-m 100` is the full range. One rendered metre comes again and again from memory, so that rendering costs nothing
of the time, whatever the length. Median over rounds, one alone beyond 5 m; time of the wall, and of all processors
together, which a busy machine disturbs less. A machine is not as fast at all times: each time is measured against those
of a yardstick of 0.8 m right before and behind it. The line through these ratios, least squares of what it is off in
percent: what a roll costs in any case, and what each metre costs. Memory: resident size, the most that was seen.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.laps import DENSITIES, Laps
from benchmarks.memory import resident_mb
from edge.core.config import Config
from edge.pipeline.inspection import Inspection
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend

CONFIG = Config()
LEAST_M, FEW_M, YARDSTICK_M = 0.1, 5.0, 0.8
_LOOK_FRAMES = 64


@dataclass(frozen=True)
class Taken:
    """By a web of so many metres: seconds, of the wall and of all processors, and MB."""

    metres: float
    wall_s: float
    cpu_s: float
    rss_mb: float


def inspected(laps: Laps, metres: float, line: Inspection) -> Taken:
    """One roll through a new line."""
    rss_mb = 0.0
    gc.collect()  # the line before
    with line:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        for index, frame in enumerate(laps.frames(metres)):
            line.push(frame)
            if index % _LOOK_FRAMES == 0:
                rss_mb = max(rss_mb, resident_mb(os.getpid()) or 0.0)
        line.finish()
        return Taken(metres, time.perf_counter() - wall_s, time.process_time() - cpu_s, rss_mb)


def fitted(metres: list[float], seconds: list[float]) -> dict[str, float]:
    """The line through these times: s in any case, s a metre, and the most that one is off it, as a part of it."""
    x, y = np.array(metres), np.array(seconds)
    (start, slope), *_ = np.linalg.lstsq(np.stack([np.ones_like(x), x], axis=1) / y[:, None], np.ones_like(y))
    off = np.abs(y / (start + slope * x) - 1)
    return {"s_a_roll": float(start), "s_per_m": float(slope), "most_off": float(off.max())}


def measure(most_m: float, width_px: int, density: str, rounds: int) -> dict[str, Any]:
    """All figures of one run."""
    model = load_model(None)
    backend, laps = OpenVinoBackend(model), Laps(width_px, density)

    def one(metres: float) -> Taken:
        line = Inspection(laps.calibration, model.info, backend, CONFIG, lambda bodies: None)
        taken = inspected(laps, metres, line)
        print(
            f"{metres:6.1f} m {taken.wall_s:8.2f} s {taken.cpu_s:8.2f} s of CPU {taken.rss_mb:6.0f} MB",
            file=sys.stderr,
            flush=True,
        )
        return taken

    one(LEAST_M)  # compiles
    tried: dict[float, list[tuple[Taken, Taken, Taken]]] = {metres: [] for metres in lengths(most_m)}
    before = one(YARDSTICK_M)
    for turn in range(rounds):
        for metres, taken in tried.items():
            if turn == 0 or metres <= FEW_M:
                taken.append((before, one(metres), behind := one(YARDSTICK_M)))
                before = behind
    return {
        "width_px": width_px,
        "density": density,
        "precision": backend.precision,
        "metres": list(tried),
        "rss_mb": [max(each.rss_mb for _, each, _ in taken) for taken in tried.values()],
        "wall": _cost(tried, lambda taken: taken.wall_s),
        "cpu": _cost(tried, lambda taken: taken.cpu_s),
    }


def _cost(
    tried: dict[float, list[tuple[Taken, Taken, Taken]]], of: Callable[[Taken], float]
) -> dict[str, float | list[float]]:
    """`s` of each length, as they were; `s_a_roll` and `s_per_m` of the line through what they are in yardsticks, times
    what a yardstick took, and the most that a length is off it, as a part of it."""
    s = [float(np.median([of(each) for _, each, _ in taken])) for taken in tried.values()]
    yardstick_s = float(np.median([of(behind) for taken in tried.values() for *_, behind in taken]))
    ratios = [
        float(np.median([2 * of(each) / (of(before) + of(behind)) for before, each, behind in taken]))
        for taken in tried.values()
    ]
    return {"s": s} | fitted(list(tried), [yardstick_s * ratio for ratio in ratios])


def lengths(most_m: float) -> list[float]:
    """From the least to the most, each twice the one before, but for the last."""
    steps = int(np.log2(most_m / LEAST_M) - 1e-9) + 1
    return [*(LEAST_M * 2**step for step in range(steps)), most_m]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-m", type=float, default=1.6)
    parser.add_argument("--width-px", type=int, default=1024)
    parser.add_argument("--density", choices=DENSITIES, default="production")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    options = parser.parse_args()
    if options.most_m < 2 * LEAST_M:
        parser.error(f"--most-m is {options.most_m:g}: a line through points wants at least {2 * LEAST_M:g}")
    found = measure(options.most_m, options.width_px, options.density, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    print(f"{'metres':>8}{'s':>10}{'s of CPU':>10}{'MB':>8}")
    for row in zip(found["metres"], found["wall"]["s"], found["cpu"]["s"], found["rss_mb"], strict=True):
        print("{:8.1f}{:10.2f}{:10.2f}{:8.0f}".format(*row))
    for name, line in (("wall", found["wall"]), ("CPU", found["cpu"])):
        print(
            f"{name}: {line['s_a_roll']:.2f} s a roll and {line['s_per_m']:.2f} s a metre, "
            f"at most {100 * line['most_off']:.1f} % off"
        )


if __name__ == "__main__":
    main()
