"""How fast the whole line runs against its network alone, with the stages side by side and one after another.

    python -m benchmarks.pipeline [--width-px 1024] [--length-mm 100] [--precision auto] [--rounds 10] [--json]

One run, everything measured in turn on the same frames of dense web, rendered beforehand and in memory; the best round
of each, since whatever else the machine does only adds.
"Network alone": the windows that the line gives its network, halo included, one after another, and nothing else.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence

from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import F32, U8, ClassMap, Frame
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.inspection import Inspection
from edge.pipeline.ledger import Ledger
from edge.segmentation.backend import Backend
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.stream import Segmenter
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb
from edge.surface.solver import SurfaceSolver, empty_surface

CONFIG = Config()
STAGES = ("assembly", "surface", "windows", "network", "defects")


class Timed:
    """A network that keeps its time, and its windows where it is told to."""

    name = "timed"

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.precision = backend.precision
        self.seconds = 0.0
        self.kept: list[F32] | None = None

    def infer(self, surface: F32) -> tuple[U8, U8]:
        if self.kept is not None:
            self.kept.append(surface.copy())
        begin = time.perf_counter()
        answer = self._backend.infer(surface)
        self.seconds += time.perf_counter() - begin
        return answer


def side_by_side(frames: Sequence[Frame], calibration: Calibration, model: ModelFile, backend: Backend) -> float:
    """The line as it is; gives the seconds it takes."""
    with Inspection(calibration, model.info, backend, CONFIG, lambda bodies: None) as inspection:
        begin = time.perf_counter()
        for frame in frames:
            inspection.push(frame)
        inspection.finish()
        return time.perf_counter() - begin


def one_after_another(
    frames: Sequence[Frame], calibration: Calibration, model: ModelFile, backend: Timed
) -> dict[str, float]:
    """The same stages in one thread, in the same memory for every strip; gives the seconds of each."""
    rows, width, pitch_mm = CONFIG.assembly.strip_rows, calibration.width, model.info.pitch_mm
    assembler, solver = Assembler(calibration, rows, pitch_mm), SurfaceSolver(calibration)
    segmenter = Segmenter(backend, model.info, width, rows, CONFIG.segmentation.window_width_px)
    joiner, ledger = (
        DefectJoiner(model.info.classes, CONFIG.defects, WebAxes(pitch_mm), width),
        Ledger(calibration, pitch_mm),
    )
    planes, surface_memory, map_memory = assembler.empty_planes(), empty_surface(rows, width), segmenter.empty_map()
    seconds = dict.fromkeys(STAGES, 0.0)
    backend.seconds = 0.0
    last = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[stage] += now - last
        last = now

    def told(class_maps: Sequence[ClassMap]) -> None:
        lap("windows")
        for class_map in class_maps:
            joiner.push(class_map)
            ledger.decide(class_map.rows)
        lap("defects")

    for strips in [*(assembler.push(frame, planes) for frame in frames), assembler.finish(planes)]:
        for strip in strips:
            lap("assembly")
            ledger.push(strip.lights_seen)
            surface = solver.solve(strip, surface_memory)
            lap("surface")
            told(segmenter.push(surface, map_memory))
        lap("assembly")
    told(segmenter.finish(map_memory))
    joiner.finish()
    ledger.finish()
    lap("defects")
    seconds["windows"] -= backend.seconds
    seconds["network"] = backend.seconds
    return seconds


def in_turn(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each run gives, all taken in turn."""
    taken = [{name: run() for name, run in runs.items()} for _ in range(rounds)]
    return {name: [each[name] for each in taken] for name in runs}


def measure(width_px: int, length_mm: float, precision: str, rounds: int) -> dict[str, object]:
    """All figures of one run."""
    camera = StrobedCamera(RenderedWeb(11, width_px, DENSE), length_mm, Rig())
    frames, calibration, model = list(camera.frames()), camera.calibration, load_model(None)
    openvino = OpenVinoBackend(model, precision)  # type: ignore[arg-type]
    timed = Timed(openvino)
    timed.kept = windows = []
    one_after_another(frames, calibration, model, timed)
    timed.kept = None
    shares: list[dict[str, float]] = []

    def alone() -> float:
        begin = time.perf_counter()
        for window in windows:
            openvino.infer(window)
        return time.perf_counter() - begin

    def serial() -> float:
        shares.append(one_after_another(frames, calibration, model, timed))
        return sum(shares[-1].values())

    runs = {
        "network alone": alone,
        "side by side": lambda: side_by_side(frames, calibration, model, openvino),
        "one after another": serial,
    }
    seconds = {name: min(each) for name, each in in_turn(runs, rounds).items()}
    total = min(shares, key=lambda each: sum(each.values()))
    mpix = camera.rows * width_px / 1e6
    return {
        "precision": openvino.precision,
        "mpix": mpix,
        "runs": {
            name: {"mpix_per_s": mpix / each, "of_network_alone": seconds["network alone"] / each}
            for name, each in seconds.items()
        },
        "part_of_time": {stage: each / sum(total.values()) for stage, each in total.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width-px", type=int, default=1024)
    parser.add_argument("--length-mm", type=float, default=100.0)
    parser.add_argument("--precision", choices=("auto", "f32", "bf16"), default="auto")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    figures = measure(options.width_px, options.length_mm, options.precision, options.rounds)
    if options.json:
        print(json.dumps(figures))
        return
    load = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    print(f"{figures['mpix']:.1f} MPix of web in {figures['precision']}, {load}", file=sys.stderr)
    print(f"{'':20}{'MPix/s':>8}{'of network alone':>18}")
    for name, row in figures["runs"].items():
        print(f"{name:20}{row['mpix_per_s']:8.2f}{row['of_network_alone']:18.3f}")
    print("one after another:", ", ".join(f"{stage} {part:.1%}" for stage, part in figures["part_of_time"].items()))


if __name__ == "__main__":
    main()
