"""How fast the network runs at each precision, as ratios to f32 taken in one run, and what each finds.

    python -m benchmarks.precision [--model F.onnx] [--webs 8] [--length-mm 60] [--json]

The model is quantised on the spot, as `foilsight quantise` does it. Speed: windows of the shape the line uses, all
precisions in alternation, medians. Accuracy: object recall and precision on rendered webs that the network was never
trained on.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.surface import medians_ms
from calibration.network.commands import FIRST_UNSEEN_SEED, UNSEEN_WEBS
from calibration.network.quantise import measure, patches_of_webs, quantise, write_info
from edge.segmentation.model import SHIPPED_MODEL, load_model
from edge.segmentation.openvino import OpenVinoBackend, cpu_has_bf16

WINDOW = (448, 1024)
ROUNDS = 15
CALIBRATION_WEBS, CALIBRATION_MM = 8, 60.0


def quantised(model: Path, folder: Path) -> Path:
    """The model in int8."""
    source = load_model(model)
    patches = patches_of_webs(source.info, CALIBRATION_WEBS, CALIBRATION_MM, WINDOW[1])
    path = folder / "int8.onnx"
    write_info(path, quantise(source, patches), msgspec.structs.replace(source.info, precision="int8"))
    return path


def measured(model: Path, webs: int, length_mm: float) -> dict[str, dict[str, Any]]:
    """All figures of one run."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"f32": model, **({"bf16": model} if cpu_has_bf16() else {}), "int8": quantised(model, Path(folder))}
        backends = {
            name: OpenVinoBackend(load_model(path), "auto" if name == "int8" else name) for name, path in files.items()
        }
        channels = len(load_model(model).info.channels)
        surface = np.random.default_rng(1).normal(0, 0.2, (1, channels, *WINDOW)).astype(np.float32)
        tasks = {name: lambda backend=backend: backend.infer(surface) for name, backend in backends.items()}
        times_ms = medians_ms(tasks, ROUNDS)
        accuracy = measure(files, range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + webs), length_mm, WINDOW[1])
    exact = accuracy["f32"]
    return {
        name: {
            "runs_in": backends[name].precision,
            "ms": ms,
            "mpix_per_s": WINDOW[0] * WINDOW[1] / ms / 1e3,
            "times_f32": times_ms["f32"] / ms,
            "recall_gained": accuracy[name].object_recall - exact.object_recall,
            "precision_gained": accuracy[name].object_precision - exact.object_precision,
            "planted": exact.planted,
        }
        for name, ms in times_ms.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--webs", type=int, default=UNSEEN_WEBS)
    parser.add_argument("--length-mm", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measured(options.model, options.webs, options.length_mm)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"window {WINDOW[0]} x {WINDOW[1]}, load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    heads = f"{'precision':10}{'ms':>8}{'MPix/s':>8}{'x f32':>8}{'recall':>9}{'precision':>11}"
    print(f"{heads}   points against f32, {figures['f32']['planted']} objects")
    for name, row in figures.items():
        print(
            f"{name:10}{row['ms']:8.1f}{row['mpix_per_s']:8.2f}{row['times_f32']:8.2f}"
            f"{100 * row['recall_gained']:+9.2f}{100 * row['precision_gained']:+11.2f}"
        )


if __name__ == "__main__":
    main()
