"""What the gate in front of the network saves, what it costs, and what it misses.

    python -m benchmarks.gate [MODEL] [--objects 5000] [--production-mm 2000] [--first-seed 60001]
                              [--coating grained] [--optics real] [--json]

MODEL has learnt a gate (`foilsight gate`). Dense webs, until so many planted objects have been asked for, then
production web, each through exposure, assembly and surface, and then twice through segmentation and defects: gate off
and gate on. Events of both are held against the truth as `foilsight evaluate` does. Network work is pixels that go
through the network, halos included. The gate's cost is the processor time of its scores and marks beside that of
the network with the gate off. None of the webs was learnt from.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge.assembly.assembler import Assembler
from edge.core.config import Config
from edge.core.types import F32, U8, ClassMap, Strip, Surface
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.segmentation.backend import Backend
from edge.segmentation.gate import Bools, Gate
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.stream import Segmenter
from edge.service.matching import Heard, Score, compare, interval
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, REAL
from edge.simulation.planting import DENSE, PRODUCTION, Frequencies
from edge.simulation.web import COARSE, POLISHED, Coating, RenderedWeb
from edge.surface.solver import SurfaceSolver

CONFIG = Config()
WIDTH_PX, PITCH_MM = 1024, RenderedWeb.pitch_mm
STRIP_ROWS = CONFIG.assembly.strip_rows
DENSE_MM, PRODUCTION_MM = 200.0, 1000.0
"""Length of each web."""
COATINGS = {"grained": Coating(), "coarse": COARSE, "polished": POLISHED}
OPTICS = {"ideal": IDEAL, "real": REAL}


class CountedBackend:
    """A backend, how many pixels went through it, and the processor time that took."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.precision = backend.name, backend.precision
        self.pixels, self.cpu_s = 0, 0.0

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        self.pixels += surface[:, 0].size
        before = time.process_time()
        answer = self._backend.infer(surface)
        self.cpu_s += time.process_time() - before
        return answer


class TimedGate(Gate):
    """A gate and the processor time it took."""

    cpu_s = 0.0

    def take(self, planes: F32, top: int, inspected: Bools, filled: int, *, is_end: bool) -> None:
        """See `Gate.take`."""
        before = time.thread_time()
        super().take(planes, top, inspected, filled, is_end=is_end)
        self.cpu_s += time.thread_time() - before


@dataclass
class Way:
    """What came of webs with the gate off, or on."""

    scores: list[Score] = field(default_factory=list)
    web_px: int = 0
    network_px: int = 0
    network_s: float = 0.0
    gate_s: float = 0.0
    passed_over_px: int = 0

    @property
    def total(self) -> Score:
        """Of all objects."""
        return Score.total(self.scores)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        total = self.total
        return {
            "planted": total.planted,
            "found": total.found,
            "recall": total.object_recall,
            "events": total.events,
            "precision": total.object_precision,
            "network_px_per_web_px": self.network_px / self.web_px,
            "network_ns_per_web_px": 1e9 * self.network_s / self.web_px,
            "gate_ns_per_web_px": 1e9 * self.gate_s / self.web_px,
            "passed_over": self.passed_over_px / self.web_px,
        }


class _Line:
    """Segmentation and defects of one web, gate off or on."""

    def __init__(self, model: ModelFile, backend: Backend, truth: U8, is_gated: bool) -> None:
        self._model, self._truth = model, truth
        self._backend = CountedBackend(backend)
        self._gate = TimedGate(model.info, WIDTH_PX, 2 * (STRIP_ROWS + model.info.halo)) if is_gated else None
        window_width = CONFIG.segmentation.window_width_px
        self._segmenter = Segmenter(self._backend, model.info, WIDTH_PX, STRIP_ROWS, window_width, self._gate)
        self._backend.pixels, self._backend.cpu_s = 0, 0.0  # windows were only tried
        self._joiner = DefectJoiner(model.info.classes, CONFIG.defects, WebAxes(PITCH_MM), WIDTH_PX)
        self._heard, self._pixels = Heard(), np.zeros_like(truth)
        self._passed_over_px = 0

    def push(self, surface: Surface) -> None:
        """The next rows."""
        for class_map in self._segmenter.push(surface):
            self._take(class_map)

    def finish(self, way: Way) -> None:
        """The end of the web: what came of it is added to the others'."""
        for class_map in self._segmenter.finish():
            self._take(class_map)
        self._heard.take(self._joiner.finish())
        classes = self._model.info.classes
        way.scores += compare(
            self._heard, self._pixels, self._truth, classes, CONFIG.defects, WebAxes(PITCH_MM)
        ).scores.values()
        way.web_px += self._truth.size
        way.network_px += self._backend.pixels
        way.network_s += self._backend.cpu_s
        way.gate_s += self._gate.cpu_s if self._gate is not None else 0.0
        way.passed_over_px += self._passed_over_px

    def _take(self, class_map: ClassMap) -> None:
        here = self._pixels[class_map.first_row : class_map.first_row + class_map.rows]
        here[:] = class_map.class_index[: len(here)]
        self._passed_over_px += int(class_map.passed_over_px.sum())
        self._heard.take(self._joiner.push(class_map))


def inspect(camera: StrobedCamera, model: ModelFile, backend: Backend, ways: dict[str, Way]) -> None:
    """One web, gate off and on side by side."""
    truth, solver = camera.web.classes(0, camera.rows), SurfaceSolver(camera.calibration)
    lines = {name: _Line(model, backend, truth, name == "on") for name in ways}
    for strip in _strips(camera):
        surface = solver.solve(strip)
        for line in lines.values():
            line.push(surface)
    for name, line in lines.items():
        line.finish(ways[name])


def _strips(camera: StrobedCamera) -> Iterator[Strip]:
    assembler = Assembler(camera.calibration, STRIP_ROWS, PITCH_MM)
    for frame in camera.frames():
        yield from assembler.push(frame)
    yield from assembler.finish()


def measure(
    frequencies: Frequencies, length_mm: float, model: ModelFile, options: argparse.Namespace
) -> dict[str, Way]:
    """Webs of one density: dense ones until enough objects were asked for, others until they are long enough."""
    backend, ways, seed = OpenVinoBackend(model), {"off": Way(), "on": Way()}, options.first_seed
    is_enough = False
    while not is_enough:
        web = RenderedWeb(seed, WIDTH_PX, frequencies, coating=COATINGS[options.coating])
        camera = StrobedCamera(web, length_mm, Rig(optics=OPTICS[options.optics]), Motion(32.0))
        inspect(camera, model, backend, ways)
        off, on, seed = ways["off"], ways["on"], seed + 1
        print(f"seed {web.seed}: found {off.total.found} and {on.total.found} of {off.total.planted}", file=sys.stderr)
        if frequencies is DENSE:
            is_enough = off.total.planted >= options.objects
        else:
            is_enough = off.web_px * PITCH_MM >= options.production_mm * WIDTH_PX
    return ways


def print_table(results: dict[str, dict[str, Way]]) -> None:
    """The table on standard output."""
    heads = "".join(
        f"{head:>16}" for head in ("planted", "recall", "precision", "passed over", "network px", "gate cost")
    )
    print(f"{'':24}{heads}")
    for density, ways in results.items():
        off = ways["off"]
        for name, way in ways.items():
            total = way.total
            shares = [total.object_recall, total.object_precision, way.passed_over_px / way.web_px]
            recall, precision, passed = ("-" if share is None else f"{100 * share:.2f} %" for share in shares)
            figures = f"{total.planted:16}{recall:>16}{precision:>16}{passed:>16}{way.network_px / way.web_px:16.3f}"
            print(f"{f'{density}, gate {name}':24}{figures}{100 * way.gate_s / off.network_s:14.2f} %")
        on = ways["on"]
        lost, planted = off.total.found - on.total.found, off.total.planted
        low, high = (100 * share for share in interval(max(lost, 0), planted))
        less = off.network_px / max(on.network_px, 1)
        print(
            f"{density}: {less:.1f} times less through the network; {lost} of {planted} objects fewer found "
            f"(95 %: {low:.3f} to {high:.3f} %)"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="left out, the shipped one")
    parser.add_argument("--objects", type=int, default=5000, help="planted in dense web in all")
    parser.add_argument("--production-mm", type=float, default=2000.0, help="of production web in all")
    parser.add_argument("--first-seed", type=int, default=60001)
    parser.add_argument("--coating", choices=COATINGS, default="grained")
    parser.add_argument("--optics", choices=OPTICS, default="real")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    model = load_model(options.model)
    results = {
        "dense": measure(DENSE, DENSE_MM, model, options),
        "production": measure(PRODUCTION, PRODUCTION_MM, model, options),
    }
    if options.json:
        print(json.dumps({d: {name: way.as_dict() for name, way in ways.items()} for d, ways in results.items()}))
    else:
        print_table(results)


if __name__ == "__main__":
    main()
