"""`foilsight evaluate RECORDING`: the events of a replay against what was planted; see `edge.service.matching`."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from edge.assembly.assembler import Assembler
from edge.core.config import Config
from edge.core.types import U8, ClassMap, FrameSource
from edge.pipeline.inspection import Inspection, Watchers
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service.evaluation_page import EvaluationPage, Heading
from edge.service.matching import Heard, Score, compare
from edge.service.pictures import Look
from edge.service.progress import web_progress
from edge.surface import KERNELS
from edge.surface.solver import SurfaceSolver


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one recording against its truth.

    `uninspected`: planted objects nobody could see; `false_in_degraded`: false events that lie, if only in part, in web
    seen under fewer lights than there are.
    """

    object_recall: float | None
    object_precision: float | None
    planted: int
    events: int
    uninspected: int
    false_in_degraded: int
    per_class: dict[str, Score]


def evaluate(
    source: FrameSource,
    truth: U8,
    config: Config,
    quiet: bool = False,
    report: Path | None = None,
    name: str = "rendered web",
) -> Evaluation:
    """Inspect a source and hold its events against the truth (rows, width) u8.

    With `report` a page is left in that folder that shows what was missed and what was false; the web called `name` is
    read a second time for its pictures. Raises FoilsightError.
    """
    model = load_model(config.segmentation.model)
    heard = Heard()
    backend = OpenVinoBackend(model, config.segmentation.precision)
    pixels = np.zeros_like(truth)

    def keep(class_map: ClassMap) -> None:
        here = pixels[class_map.first_row : class_map.first_row + class_map.rows]
        here[:] = class_map.class_index[: len(here)]

    watchers = Watchers(classes=[keep])
    inspection = Inspection(source.calibration, model.info, backend, config, heard.take, watchers)
    with inspection, web_progress("inspecting", source.web_mm, quiet) as at:
        for frame in source.frames():
            inspection.push(frame)
            at(inspection.web_mm)
        inspection.finish()
    pitch_mm = inspection.axes.pitch_mm
    comparison = compare(heard, pixels, truth, model.info.classes, config.defects, inspection.axes)
    total = Score.total(comparison.scores.values())
    if report is not None:
        totals = inspection.totals
        heading = Heading(name, model.digest, (totals.inspected + totals.degraded) * pitch_mm)
        page = EvaluationPage(report, heading, comparison, truth, model.info.classes, pitch_mm)
        for look in _looks(source, config, pitch_mm, quiet):
            page.add(look)
        page.write()
    return Evaluation(
        object_recall=total.object_recall,
        object_precision=total.object_precision,
        planted=total.planted,
        events=total.events,
        uninspected=sum(each.fate == "unseen" for each in comparison.judged),
        false_in_degraded=sum(each.fate == "false" and comparison.degraded(each) for each in comparison.judged),
        per_class=comparison.scores,
    )


def _looks(source: FrameSource, config: Config, pitch_mm: float, quiet: bool) -> Iterator[Look]:
    """How the web looks, strip by strip, without a network."""
    assembler = Assembler(source.calibration, config.assembly.strip_rows, pitch_mm)
    solver = SurfaceSolver(source.calibration, KERNELS[config.surface.solver])
    with web_progress("picturing", source.web_mm, quiet) as at:
        for frame in source.frames():
            for strip in assembler.push(frame):
                yield Look.at(solver.solve(strip))
            at(assembler.web_rows * pitch_mm)
        for strip in assembler.finish():
            yield Look.at(solver.solve(strip))


def print_evaluation(evaluation: Evaluation) -> None:
    """A table by class, on standard output."""
    table = Table("class", "planted", "found", "recall", "events", "true", "precision")
    for label, score in evaluation.per_class.items():
        figures = [score.planted, score.found, _percent(score.object_recall)]
        figures += [score.events, score.true_events, _percent(score.object_precision)]
        table.add_row(label.replace("_", " "), *map(str, figures))
    recall, precision = _percent(evaluation.object_recall), _percent(evaluation.object_precision)
    table.add_row("all", str(evaluation.planted), "", recall, str(evaluation.events), "", precision, style="bold")
    Console().print(table)
    print(f"{evaluation.uninspected} planted objects in web that was not inspected")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
