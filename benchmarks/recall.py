"""How many planted defects are found, and what each effect of real optics costs.

    python -m benchmarks.recall [--length-mm 200] [--seeds 31 32] [--json]

Webs of seeds the network was never trained on go through exposure, assembly, surface, segmentation and defects;
events are held against the truth as `foilsight evaluate` does. Each effect alone, then all together, then a production
web, and at last stains alone: how many false objects they raise a square metre.
"""

import argparse
import json
import sys
from dataclasses import replace

from edge.core.config import Config
from edge.service.evaluate import Evaluation, evaluate
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, REAL
from edge.simulation.planting import CLEAN, DENSE, PRODUCTION, Frequencies
from edge.simulation.web import COARSE, POLISHED, Coating, RenderedWeb

WIDTH_PX = 1024
STAINS_PER_M2 = 6000.0
STAINED = replace(DENSE, stains=STAINS_PER_M2)

Case = tuple[Rig, Frequencies, Coating]


def _only(**effects: object) -> Case:
    return Rig(optics=replace(IDEAL, **effects)), DENSE, Coating()  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    "ideal": (Rig(), DENSE, Coating()),
    "gloss": _only(gloss=REAL.gloss, roughness=REAL.roughness),
    "cast shadows": _only(cast_shadows=True),
    "ambient light": _only(ambient=REAL.ambient),
    "vignetting": _only(vignetting=REAL.vignetting),
    "blur": _only(exposure_us=REAL.exposure_us),
    "dirt on the lens": _only(dirt=REAL.dirt),
    "lamp drift": _only(drift=REAL.drift),
    "12 bit": (Rig(bits=12), DENSE, Coating()),
    "coarse grain, flutter": (Rig(), DENSE, COARSE),
    "polished": (Rig(), DENSE, POLISHED),
    "stains": (Rig(), STAINED, Coating()),
    "all effects": (Rig(optics=REAL), STAINED, COARSE),
    "all effects, production": (Rig(optics=REAL), replace(PRODUCTION, stains=100.0), COARSE),
    "stains alone": (Rig(), replace(CLEAN, stains=STAINS_PER_M2), Coating()),
}


def evaluated(case: Case, seed: int, length_mm: float) -> Evaluation:
    """One web under one set of effects."""
    rig, frequencies, coating = case
    camera = StrobedCamera(RenderedWeb(seed, WIDTH_PX, frequencies, coating=coating), length_mm, rig, Motion(32.0))
    return evaluate(camera, camera.web.classes(0, camera.rows), Config(), quiet=True)


def summed(results: list[Evaluation]) -> dict[str, dict[str, float | int | None]]:
    """Objects of all webs of a case together, by class and for all."""
    figures: dict[str, dict[str, float | int | None]] = {}
    labels = list(results[0].per_class)
    for label in [*labels, "all"]:
        scores = [r.per_class[name] for r in results for name in (labels if label == "all" else [label])]
        planted, found = sum(s.planted for s in scores), sum(s.found for s in scores)
        events, true = sum(s.events for s in scores), sum(s.true_events for s in scores)
        figures[label] = {
            "planted": planted,
            "events": events,
            "false": events - true,
            "recall": found / planted if planted else None,
            "precision": true / events if events else None,
        }
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length-mm", type=float, default=200.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {}
    for name, case in CASES.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        table[name] = summed([evaluated(case, seed, options.length_mm) for seed in options.seeds])
    if options.json:
        print(json.dumps(table))
        return
    labels = list(next(iter(table.values())))
    print(f"{'recall / precision in percent':26}" + "".join(f"{label:>16}" for label in labels) + f"{'false/m2':>10}")
    area_m2 = WIDTH_PX * 0.05 * options.length_mm * 1e-6 * len(options.seeds)
    for name, figures in table.items():
        cells = [f"{_percent(f['recall'])} / {_percent(f['precision'])}" for f in figures.values()]
        false = int(figures["all"]["false"] or 0)
        print(f"{name:26}" + "".join(f"{cell:>16}" for cell in cells) + f"{false / area_m2:10.1f}")


def _percent(share: float | int | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
