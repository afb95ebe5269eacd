"""How much web a second the line inspects: against its network alone, against what a user would write instead, and
what every stage takes of the time.

    python -m benchmarks.throughput [--metres 20] [--width-px 1024] [--strip-rows 256] [--precision auto]
                                    [--model F.onnx] [--gate] [--rival-metres 3] [--json]

Two fixed webs, dense and production, in rolls of a metre, each rendered by its seed and in memory while all ways of
inspecting take it in turn. None was ever trained on. Ratios are of roll by roll: their median, and in brackets what a
half of them lies between. "Network alone": as many inferences of the same shapes as the line asks of its network, one
after another; "in windows": as many as it would need if every strip were shown with all its halo. Parts of the time are
those of one stage after another, on the first roll. With `--gate` the line also runs behind the gate, which the model
must have learnt. For int8 the model is quantised on the spot.

The rival has the same weights, thresholds and halo, at f32 as PyTorch has them by default, and every core
(`benchmarks/rivals/eager.py`); it takes the first rolls only, and what is said of it and the line is said of these. All
are held against what was planted, by `foilsight evaluate`'s rules.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.laps import DENSITIES
from benchmarks.precision import quantised
from benchmarks.stages import parts_of_time
from benchmarks.throughput_run import Roll, Way
from edge.core.config import AssemblyConfig, Config
from edge.segmentation.model import SHIPPED_MODEL, ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.web import RenderedWeb

FIRST_SEED, ROLL_MM, WARM_MM = 70_001, 1000.0, 40.0
LINE, GATED, NETWORK, WINDOWS, RIVAL = "line", "line, gate on", "network alone", "network alone, in windows", "rival"


class Web:
    """One web, and what came of it in every way."""

    def __init__(self, density: str, options: argparse.Namespace) -> None:
        metres, rival_metres = options.metres, options.rival_metres
        self._density, self._width_px = density, options.width_px
        self._config = Config(assembly=AssemblyConfig(strip_rows=options.strip_rows))
        self._rolls = max(1, round(1000 * metres / ROLL_MM))
        self._roll_mm = 1000 * metres / self._rolls
        self._with_rival = min(self._rolls, round(1000 * rival_metres / self._roll_mm))
        self._mpix: list[float] = []
        self._parts: dict[str, float] = {}
        self._ways = {name: Way() for name in (LINE, GATED, NETWORK, WINDOWS, RIVAL)}

    def run(self, model: ModelFile, rival: ModelFile, backend: OpenVinoBackend, *, gate: bool) -> None:
        """Every roll in every way, behind a short one that does not count; `rival` is the model whose weights the rival
        takes."""
        warm = Roll(StrobedCamera(self._web(0), WARM_MM, Rig()), model, self._config)
        for is_gated in {False, gate}:
            warm.line(Way(), backend, gate=is_gated)
        for number in range(self._rolls):
            roll = Roll(StrobedCamera(self._web(number), self._roll_mm, Rig()), model, self._config)
            self._mpix.append(roll.mpix)
            if number == 0:
                self._parts = parts_of_time(roll.frames, roll.calibration, model, backend, self._config)
            roll.network(self._ways[NETWORK], backend, roll.line(self._ways[LINE], backend, gate=False))
            roll.network(self._ways[WINDOWS], backend, roll.in_windows())
            if gate:
                roll.line(self._ways[GATED], backend, gate=True)
            if number < self._with_rival:
                roll.rival(self._ways[RIVAL], rival)
            rates = ", ".join(f"{name} {rate:.2f}" for name, rate in self._rates().items())
            say = f"{self._density}, {number + 1} of {self._rolls} rolls, MPix/s: {rates}"
            print(say, file=sys.stderr, flush=True)

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        line, gated = self._ways[LINE], self._ways[GATED]
        found = {"line": line.found(self._rolls)}
        figures: dict[str, Any] = {
            "metres": self._rolls * self._roll_mm / 1000,
            "mpix": sum(self._mpix),
            "mpix_per_s": self._rates(),
            "cpu_s_per_mpix": {
                name: sum(way.cpu_s) / sum(self._mpix[: len(way.cpu_s)])
                for name, way in self._ways.items()
                if way.cpu_s
            },
            "parts_of_time": self._parts,
            "line_of_network": self._ratio(NETWORK, LINE),
            "line_of_windows": self._ratio(WINDOWS, LINE),
            "found": found,
        }
        if gated.wall_s:
            found[GATED] = gated.found(self._rolls)
            figures["gated_of_line"] = self._ratio(LINE, GATED)
            figures["network_work_saved_times"] = line.network_px / max(1, gated.network_px)
        if self._with_rival:
            first = self._with_rival
            figures["rival_metres"] = first * self._roll_mm / 1000
            figures["line_of_rival"] = self._ratio(RIVAL, LINE)
            found |= {"rival": self._ways[RIVAL].found(first), "line there": line.found(first)}
            if gated.wall_s:
                figures["gated_of_rival"] = self._ratio(RIVAL, GATED)
                found["line, gate on, there"] = gated.found(first)
        return figures

    def _web(self, number: int) -> RenderedWeb:
        return RenderedWeb(FIRST_SEED + number, self._width_px, DENSITIES[self._density])

    def _rates(self) -> dict[str, float]:
        """MPix of web a second over all rolls that went that way."""
        ways = self._ways.items()
        return {name: sum(self._mpix[: len(way.wall_s)]) / sum(way.wall_s) for name, way in ways if way.wall_s}

    def _ratio(self, slow: str, fast: str) -> dict[str, float]:
        """By how much the one way takes longer than the other: quartiles over the rolls that went both."""
        pairs = zip(self._ways[slow].wall_s, self._ways[fast].wall_s, strict=False)
        q25, median, q75 = np.percentile([one / other for one, other in pairs], [25, 50, 75]).tolist()
        return {"median": median, "q25": q25, "q75": q75}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        source = load_model(options.model)
        model, is_int8 = source, options.precision == "int8"
        if is_int8:
            model = load_model(quantised(source.path, Path(folder)))
        backend = OpenVinoBackend(model, "auto" if is_int8 else options.precision)
        webs = {}
        for density in DENSITIES:
            web = Web(density, options)
            web.run(model, source, backend, gate=options.gate)
            webs[density] = web.figures()
    run = {"width_px": options.width_px, "strip_rows": options.strip_rows, "precision": backend.precision}
    return {**run, "model": source.digest, "webs": webs}


def print_figures(found: dict[str, Any]) -> None:
    """On standard output."""
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    ratios = {
        "line_of_network": "line to its network alone",
        "line_of_windows": "line to it in windows",
        "line_of_rival": "line to rival",
        "gated_of_line": "gate on to gate off",
        "gated_of_rival": "gate on to rival",
    }
    for density, web in found["webs"].items():
        rival = f", the rival on the first {web['rival_metres']:g} m" if "rival_metres" in web else ""
        print(f"{density}, {web['metres']:g} m, {web['mpix']:.0f} MPix in {found['precision']}{rival}")
        for name, rate in web["mpix_per_s"].items():
            print(f"  {name:28}{rate:8.2f} MPix/s, {1e3 * web['cpu_s_per_mpix'][name]:7.1f} ms of CPU a MPix")
        for key, words in ratios.items():
            if key in web:
                ratio = web[key]
                print(f"  {words:28}{ratio['median']:8.3f} times ({ratio['q25']:.3f} to {ratio['q75']:.3f})")
        if "network_work_saved_times" in web:
            print(f"  {'through the network':28}{web['network_work_saved_times']:8.1f} times less with the gate on")
        print("  time: " + ", ".join(f"{stage} {part:.1%}" for stage, part in web["parts_of_time"].items()))
        for name, score in web["found"].items():
            of = f"recall {_percent(score['recall'])} of {score['planted']}"
            print(f"  {name:28}{of}, precision {_percent(score['precision'])} of {score['events']}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metres", type=float, default=20.0, help="of each web")
    parser.add_argument("--width-px", type=int, default=1024)
    parser.add_argument("--strip-rows", type=int, default=AssemblyConfig().strip_rows)
    parser.add_argument("--precision", choices=("auto", "f32", "bf16", "int8"), default="auto")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--gate", action="store_true", help="run the line behind the gate too")
    parser.add_argument("--rival-metres", type=float, default=3.0, help="of each web that the rival takes")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    found = measure(options := parser.parse_args())
    print(json.dumps(found)) if options.json else print_figures(found)


if __name__ == "__main__":
    main()
