"""How many planted defects are found, and what each effect of real optics costs.

    python -m benchmarks.recall [MODEL] [--length-mm 300] [--seeds 31 32] [--production-mm 3000] [--stains-m2 1.05]
                                [--cases "all effects" ...] [--report DIR] [--json]

Webs of seeds the network was never trained on go through exposure, assembly, surface, segmentation and defects;
events are held against the truth as `foilsight evaluate` does. Each effect alone on dense web, then all together, then
production web under all of them, and at last stains alone: how many false objects they raise a square metre. MODEL is
the shipped one unless named, as are all cases. With `--report` a page of the table is left in a folder, and for each
web the page of its evaluation.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.recall_page import Result, write_page
from edge.core.config import Config, SegmentationConfig
from edge.segmentation.model import load_model
from edge.service.evaluate import Evaluation, evaluate
from edge.service.evaluation_page import PAGE
from edge.service.matching import Score
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, REAL
from edge.simulation.planting import CLEAN, DENSE, PRODUCTION, Frequencies
from edge.simulation.web import COARSE, POLISHED, Coating, RenderedWeb

WIDTH_PX = 1024
STAINS_PER_M2, PRODUCTION_STAINS_PER_M2 = 6000.0, 100.0
STAINED = replace(DENSE, stains=STAINS_PER_M2)
IDEAL_RIG, GRAINED = Rig(), Coating()
ALL, ALL_PRODUCTION, STAINS_ALONE = "all effects", "all effects, production", "stains alone"
LONGEST_MM = 1000.0
"""Sparse webs are cut into pieces of this length, each of a seed of its own, so that their truth fits into memory."""


@dataclass(frozen=True)
class Case:
    """A set of effects, its defects and its coating."""

    rig: Rig = IDEAL_RIG
    frequencies: Frequencies = DENSE
    coating: Coating = GRAINED


def _only(**effects: object) -> Case:
    return Case(Rig(optics=replace(IDEAL, **effects)))  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    "ideal": Case(),
    "gloss": _only(gloss=REAL.gloss, roughness=REAL.roughness),
    "cast shadows": _only(cast_shadows=True),
    "ambient light": _only(ambient=REAL.ambient),
    "vignetting": _only(vignetting=REAL.vignetting),
    "blur": _only(exposure_us=REAL.exposure_us),
    "dirt on the lens": _only(dirt=REAL.dirt),
    "lamp drift": _only(drift=REAL.drift),
    "12 bit": Case(Rig(bits=12)),
    "coarse grain, flutter": Case(coating=COARSE),
    "polished": Case(coating=POLISHED),
    "stains": Case(frequencies=STAINED),
    ALL: Case(Rig(optics=REAL), STAINED, COARSE),
    ALL_PRODUCTION: Case(Rig(optics=REAL), replace(PRODUCTION, stains=PRODUCTION_STAINS_PER_M2), COARSE),
    STAINS_ALONE: Case(frequencies=replace(CLEAN, stains=STAINS_PER_M2)),
}


HOW = (
    f"Rendered webs, {WIDTH_PX} px of {RenderedWeb.pitch_mm:g} mm wide, of seeds the network was never trained on. "
    "Dense web has as many defects as the thesis's data set, production web on about 0.05 % of its pixels. Each effect "
    "is alone on dense web; all effects: gloss, cast shadows, ambient light, vignetting, blur, dirt on the lens, lamp "
    f"drift, coarse grain with flutter, and stains. Stains: {STAINS_PER_M2:,.0f} patches of another shade per m², on "
    f"production web {PRODUCTION_STAINS_PER_M2:,.0f}. Objects in lead-in and lead-out are not asked for. Small "
    "figures: 95 % confidence by Wilson; red is below what is asked."
)


def webs(name: str, options: argparse.Namespace) -> Iterator[tuple[int, float]]:
    """Seed and length in mm of each web of a case."""
    total_mm = {ALL_PRODUCTION: options.production_mm, STAINS_ALONE: options.stains_m2 / _area_m2(1.0)}.get(name)
    if total_mm is None:
        yield from ((seed, options.length_mm) for seed in options.seeds)
        return
    count = max(1, -(-int(total_mm) // int(LONGEST_MM)))
    yield from ((options.seeds[0] + number, total_mm / count) for number in range(count))


def evaluated(
    case: Case, seed: int, length_mm: float, model: Path | None = None, report: Path | None = None
) -> Evaluation:
    """One web under one set of effects."""
    web = RenderedWeb(seed, WIDTH_PX, case.frequencies, coating=case.coating)
    camera = StrobedCamera(web, length_mm, case.rig, Motion(32.0))
    name = next((name for name, its_case in CASES.items() if its_case is case), "web")
    config = Config(segmentation=SegmentationConfig(model=model))
    return evaluate(camera, camera.web.classes(0, camera.rows), config, True, report, f"{name}, seed {seed}")


def measured(name: str, options: argparse.Namespace) -> Result:
    """All webs of a case."""
    results, area_m2, pages = [], 0.0, []
    for seed, length_mm in webs(name, options):
        print(f"{name}, seed {seed}, {length_mm:.0f} mm ...", file=sys.stderr, flush=True)
        folder = f"{name.replace(',', '').replace(' ', '_')}_{seed}"
        report = None if options.report is None else options.report / folder
        web = (CASES[name], seed, length_mm, options.model)
        result = evaluated(*web, None if name == STAINS_ALONE else report)
        if name == STAINS_ALONE and result.events:  # a page where there is something to see
            evaluated(*web, report)
        if report is not None and report.exists():
            pages.append(f"{folder}/{PAGE}")
        results.append(result)
        area_m2 += _area_m2(length_mm)
    scores = {label: Score.total(r.per_class[label] for r in results) for label in results[0].per_class}
    return Result(scores, sum(r.false_in_degraded for r in results), area_m2, pages)


def _area_m2(length_mm: float) -> float:
    return WIDTH_PX * RenderedWeb.pitch_mm * length_mm * 1e-6


def print_table(results: dict[str, Result]) -> None:
    """The table on standard output."""
    labels = list(next(iter(results.values())).scores)
    names = "".join(f"{label:>16}" for label in [*labels, "all"])
    print(f"{'recall / precision in percent':32}{names}{'planted':>9}{'events':>8}{'web m2':>9}{'false/m2':>10}")
    for name, result in results.items():
        total = result.total
        scores = [*result.scores.values(), total]
        cells = [f"{_percent(s.object_recall)} / {_percent(s.object_precision)}" for s in scores]
        figures = f"{total.planted:9}{total.events:8}{result.web_m2:9.4f}{result.false_per_m2:10.1f}"
        print(f"{name:32}" + "".join(f"{cell:>16}" for cell in cells) + figures)


def _as_json(results: dict[str, Result]) -> dict[str, object]:
    return {
        name: {
            "web_m2": result.web_m2,
            "false_per_m2": result.false_per_m2,
            "false_in_degraded": result.false_in_degraded,
            **{
                label: {
                    "planted": score.planted,
                    "events": score.events,
                    "false": score.events - score.true_events,
                    "recall": score.object_recall,
                    "precision": score.object_precision,
                }
                for label, score in [*result.scores.items(), ("all", result.total)]
            },
        }
        for name, result in results.items()
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="left out, the shipped one")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--length-mm", type=float, default=300.0, help="of each dense web")
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32])
    parser.add_argument("--production-mm", type=float, default=3000.0, help="of production web in all")
    parser.add_argument("--stains-m2", type=float, default=1.05, help="of stained web without defects in all")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.report is not None and len(options.cases) < len(CASES):
        parser.error("--report is of all cases: leave --cases out")
    results = {name: measured(name, options) for name in options.cases}
    if options.report is not None:
        write_page(options.report, results, ALL, STAINS_ALONE, load_model(options.model).digest, HOW)
    if options.json:
        print(json.dumps(_as_json(results)))
    else:
        print_table(results)


if __name__ == "__main__":
    main()
