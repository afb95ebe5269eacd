"""How much web a second the line inspects: against its network alone, against what a user would write instead, and what
every stage takes of the time.

    python -m benchmarks.throughput [--metres 0.5] [--width-px 1024] [--precision auto] [--rounds 3] [--json]

Two fixed webs, dense and production, rendered beforehand and in memory; all runs of a web in turn, the best round of
each. "Network alone": the windows that the line gives its network, halo included, one after another. The rival has the
same weights, thresholds and halo, at f32 as PyTorch has them by default, and every core: `benchmarks/rivals/eager.py`.
Both are held against what was planted, by `foilsight evaluate`'s rules. `linear` is by how much the time of a web and
of its parts departs from a line through the origin.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.pipeline import CONFIG, Timed, one_after_another
from benchmarks.rivals.eager import EagerRival
from edge.core.types import U8, ClassMap, Frame
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.pipeline.inspection import Inspection, Watchers
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service.matching import Heard, Score, compare
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import DENSE, PRODUCTION, Frequencies
from edge.simulation.web import RenderedWeb

WEBS: dict[str, Frequencies] = {"dense": DENSE, "production": PRODUCTION}
SEED = 97
PARTS = (0.25, 0.5, 1.0)


def the_line(camera: StrobedCamera, frames: Sequence[Frame], model: ModelFile, backend: OpenVinoBackend) -> float:
    """Seconds that the line takes."""
    with Inspection(camera.calibration, model.info, backend, CONFIG, lambda bodies: None) as inspection:
        begin = time.perf_counter()
        for frame in frames:
            inspection.push(frame)
        inspection.finish()
        return time.perf_counter() - begin


def line_score(camera: StrobedCamera, frames: Sequence[Frame], model: ModelFile, backend: OpenVinoBackend) -> Score:
    """What the line finds of what was planted."""
    heard, pixels = Heard(), np.zeros((camera.rows, camera.web.width_px), np.uint8)

    def keep(class_map: ClassMap) -> None:
        here = pixels[class_map.first_row : class_map.first_row + class_map.rows]
        here[:] = class_map.class_index[: len(here)]

    watchers = Watchers(classes=[keep])
    with Inspection(camera.calibration, model.info, backend, CONFIG, heard.take, watchers) as inspection:
        for frame in frames:
            inspection.push(frame)
        inspection.finish()
    return judged(camera, heard, pixels, model)


def rival_score(camera: StrobedCamera, classes: U8, model: ModelFile) -> Score:
    """What the rival's classes hold, made into events by the line's own rules, which it is given for nothing."""
    heard = Heard()
    joiner = DefectJoiner(model.info.classes, CONFIG.defects, WebAxes(camera.web.pitch_mm), camera.web.width_px)
    full = np.full(classes.shape, 255, np.uint8)
    heard.take(joiner.push(ClassMap(classes, full, 0)))
    heard.take(joiner.finish())
    return judged(camera, heard, classes, model)


def judged(camera: StrobedCamera, heard: Heard, pixels: U8, model: ModelFile) -> Score:
    """Events against truth."""
    truth = camera.web.classes(0, camera.rows)
    comparison = compare(heard, pixels, truth, model.info.classes, CONFIG.defects, WebAxes(camera.web.pitch_mm))
    return Score.total(comparison.scores.values())


def measure(name: str, metres: float, width_px: int, precision: str, rounds: int) -> dict[str, object]:
    """All figures of one web."""
    camera = StrobedCamera(RenderedWeb(SEED, width_px, WEBS[name]), 1000 * metres, Rig())
    frames, model = list(camera.frames()), load_model(None)
    backend = OpenVinoBackend(model, precision)  # type: ignore[arg-type]
    timed = Timed(backend)
    timed.kept = windows = []
    shares = one_after_another(frames, camera.calibration, model, timed)
    seconds: dict[str, list[float]] = {"network alone": [], "line": [], "rival": []}
    classes: U8 = np.zeros((0, 0), np.uint8)
    for _ in range(rounds):
        begin = time.perf_counter()
        for window in windows:
            backend.infer(window)
        seconds["network alone"].append(time.perf_counter() - begin)
        seconds["line"].append(the_line(camera, frames, model, backend))
        begin = time.perf_counter()
        classes = EagerRival(camera.calibration, model, CONFIG.assembly.strip_rows).run(frames)
        seconds["rival"].append(time.perf_counter() - begin)
    parts = [
        min(the_line(camera, frames[: int(part * len(frames))], model, backend) for _ in range(2)) for part in PARTS
    ]
    per_part = np.array(parts) / np.array(PARTS)
    mpix = camera.rows * width_px / 1e6
    best = {run: min(each) for run, each in seconds.items()}
    total = sum(shares.values())
    return {
        "mpix": mpix,
        "precision": backend.precision,
        "mpix_per_s": {run: mpix / each for run, each in best.items()},
        "line_of_network": best["network alone"] / best["line"],
        "line_of_rival": best["rival"] / best["line"],
        "assembly_and_surface": (shares["assembly"] + shares["surface"]) / total,
        "linear": float(np.abs(per_part / per_part[-1] - 1).max()),
        "found": {
            "line": _score(line_score(camera, frames, model, backend)),
            "rival": _score(rival_score(camera, classes, model)),
        },
    }


def _score(score: Score) -> dict[str, float | int | None]:
    return {"planted": score.planted, "recall": score.object_recall, "precision": score.object_precision}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metres", type=float, default=0.5)
    parser.add_argument("--width-px", type=int, default=1024)
    parser.add_argument("--precision", choices=("auto", "f32", "bf16"), default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    figures = {
        name: measure(name, options.metres, options.width_px, options.precision, options.rounds) for name in WEBS
    }
    if options.json:
        print(json.dumps(figures))
        return
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for name, web in figures.items():
        rates = ", ".join(f"{run} {rate:.2f}" for run, rate in web["mpix_per_s"].items())  # type: ignore[attr-defined]
        print(f"{name}, {web['mpix']:.1f} MPix in {web['precision']}: MPix/s {rates}")
        print(
            f"  line {web['line_of_network']:.3f} of its network, {web['line_of_rival']:.1f} times the rival; "
            f"assembly and surface {web['assembly_and_surface']:.1%} of the time; linear within {web['linear']:.1%}"
        )
        for run, score in web["found"].items():  # type: ignore[attr-defined]
            print(f"  {run}: of {score['planted']} recall {score['recall']}, precision {score['precision']}")


if __name__ == "__main__":
    main()
