"""How true the normals are: rendered webs through exposure, assembly and surface, against their known shape.

    python -m benchmarks.normals [--length-mm 100] [--json]

Angular errors in degrees over pixels seen under all lights and valid; of defects those sloped 5 to 30 degrees. Truth
is the normal at the pixel's centre, so what a pixel averages away counts as error.
"""

import argparse
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.assembly.assembler import Assembler
from edge.core.types import Strip, Surface
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.planting import DENSE, LABELS
from edge.simulation.web import RenderedWeb
from edge.surface.solver import SurfaceSolver

NOISE_FLOOR_DEG_PER_PERCENT = 0.33
"""Median error that 1 % of noise gives four lights at polar angle 55 degrees."""


@dataclass(frozen=True)
class Solved:
    """A web after assembly and surface: normals (3, rows, w), `whole` (rows, w) seen under all lights and valid."""

    normals: NDArray[np.float32]
    whole: NDArray[np.bool_]


def solve(camera: StrobedCamera, strip_rows: int = 256) -> Solved:
    """Every frame of a camera through assembly and surface."""
    assembler = Assembler(camera.calibration, strip_rows, camera.web.pitch_mm)
    solver = SurfaceSolver(camera.calibration)
    parts: list[tuple[Strip, Surface]] = []
    for frame in camera.frames():
        parts += [(strip, solver.solve(strip)) for strip in assembler.push(frame)]
    parts += [(strip, solver.solve(strip)) for strip in assembler.finish()]
    seen = np.concatenate([np.isfinite(strip.source_row).all(axis=0) for strip, _ in parts])
    valid = np.concatenate([surface.valid for _, surface in parts]) == 1
    return Solved(np.concatenate([surface.normals for _, surface in parts], axis=1), valid & seen[:, None])


def errors_by_class(camera: StrobedCamera) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile of the angular error by class, in degrees."""
    solved = solve(camera)
    rows = solved.normals.shape[1]
    truth, classes = camera.web.normals(0, rows), camera.web.classes(0, rows)
    error = np.degrees(np.arccos(np.clip((solved.normals * truth).sum(axis=0), -1, 1)))
    slope = np.degrees(np.arccos(np.clip(truth[2], -1, 1)))
    figures = {}
    for index, label in enumerate(LABELS):
        here = solved.whole & (classes == index)
        if index:
            here &= (slope > 5) & (slope < 30)
        figures[label] = (float(np.median(error[here])), float(np.percentile(error[here], 95)))
    return figures


def noise_percent(rig: Rig) -> float:
    """Noise of one exposure of flat web, in percent of its signal."""
    signal_e = (rig.flat_level - rig.dark_level) * rig.full_well_e
    total_e = rig.flat_level * rig.full_well_e + rig.read_noise_e**2
    return 100 * float(np.sqrt(total_e)) / signal_e


CASES = {
    "no noise, whole advances": (Rig(bits=16, noise=False), Motion(32.0)),
    "no noise, broken advances": (Rig(bits=16, noise=False), Motion(29.3)),
    "noise, 8 bit, whole advances": (Rig(), Motion(32.0)),
    "noise, 8 bit, broken advances": (Rig(), Motion(29.3)),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length-mm", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    web = RenderedWeb(options.seed, 1024, DENSE)
    table = {
        name: errors_by_class(StrobedCamera(web, options.length_mm, rig, motion))
        for name, (rig, motion) in CASES.items()
    }
    floor = NOISE_FLOOR_DEG_PER_PERCENT * noise_percent(Rig())
    if options.json:
        print(json.dumps({"noise_floor_deg": floor, "median_and_p95_deg": table}))
        return
    print(f"{'median / p95 in degrees':32}" + "".join(f"{label:>18}" for label in LABELS))
    for name, figures in table.items():
        print(f"{name:32}" + "".join(f"{median:10.3f} / {p95:5.2f}" for median, p95 in figures.values()))
    print(f"noise of {noise_percent(Rig()):.2f} % has a floor of {floor:.2f} degrees")


if __name__ == "__main__":
    main()
