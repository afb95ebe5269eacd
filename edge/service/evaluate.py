"""`foilsight evaluate RECORDING`: the events of a replay against what was planted.

Objects are 8-connected components of one class. An event is true if at least half of its area lies in truth of its
class dilated by 3 px. A planted object is found if true events cover at least 30 % of it; fragments count once. Objects
below their class's smallest area make events true but are not asked for; those in uninspected web are listed apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from edge.core.config import Config
from edge.core.types import U8, Alarm, Coverage, Defect, FrameSource, Polygon
from edge.pipeline.inspection import Inspection
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service.progress import web_progress

DILATION_PX = 3
TRUE_SHARE = 0.5
FOUND_SHARE = 0.3


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of one class, or of all. Recall is found / planted, precision true / events; None where undefined."""

    planted: int
    found: int
    events: int
    true_events: int
    object_recall: float | None
    object_precision: float | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one recording against its truth. `uninspected`: planted objects nobody could see."""

    object_recall: float | None
    object_precision: float | None
    planted: int
    events: int
    uninspected: int
    per_class: dict[str, Score]


@dataclass
class _Heard:
    """What a replay said: polygons by defect, and who was merged into whom."""

    polygons: dict[int, list[list[Polygon]]] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    unseen: list[Coverage] = field(default_factory=list)

    def take(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        for body in bodies:
            if not isinstance(body, Defect):
                if isinstance(body, Coverage) and body.state == "uninspected":
                    self.unseen.append(body)
                continue
            self.labels[body.id] = body.label
            if body.contour_mm:
                self.polygons.setdefault(body.id, []).append(body.contour_mm)
            if body.merged_into is not None:
                self.merged[body.id] = body.merged_into

    def objects(self) -> Iterable[tuple[str, list[list[Polygon]]]]:
        """Label and polygons, event by event, of each defect with all that was merged into it."""
        whole: dict[int, list[list[Polygon]]] = {}
        for number in self.labels:
            last = number
            while last in self.merged:
                last = self.merged[last]
            whole.setdefault(last, []).extend(self.polygons.get(number, []))
        return [(self.labels[number], parts) for number, parts in whole.items()]


def evaluate(source: FrameSource, truth: U8, config: Config, quiet: bool = False) -> Evaluation:
    """Inspect a source and hold its events against the truth (rows, width) u8. Raises FoilsightError."""
    model = load_model(config.segmentation.model)
    heard = _Heard()
    inspection = Inspection(
        source.calibration, model.info, OpenVinoBackend(model, config.segmentation.precision), config, heard.take
    )
    with web_progress("inspecting", source.web_mm, quiet) as at:
        for frame in source.frames():
            inspection.push(frame)
            at(inspection.web_mm)
        inspection.finish()
    return compare(heard, truth, model.info.classes, config, inspection.pitch_mm)


def compare(heard: _Heard, truth: U8, classes: Sequence[str], config: Config, pitch_mm: float) -> Evaluation:
    """Score what was heard against the truth."""
    unseen = np.zeros(truth.shape[0], bool)
    for coverage in heard.unseen:
        unseen[coverage.from_row : coverage.to_row] = True
    per_class: dict[str, Score] = {}
    hidden_total = 0
    for index, label in enumerate(classes[1:], start=1):
        events = [parts for its_label, parts in heard.objects() if its_label == label]
        least_px = config.defects.rule(label).min_area_mm2 / pitch_mm**2
        score, hidden = _score(events, (truth == index).astype(np.uint8), unseen, least_px, pitch_mm)
        per_class[label] = score
        hidden_total += hidden
    planted, found, events_all, true_events = (
        sum(getattr(score, name) for score in per_class.values())
        for name in ("planted", "found", "events", "true_events")
    )
    return Evaluation(
        object_recall=_share(found, planted),
        object_precision=_share(true_events, events_all),
        planted=planted,
        events=events_all,
        uninspected=hidden_total,
        per_class=per_class,
    )


def _score(
    events: list[list[list[Polygon]]], truth: U8, unseen: NDArray[np.bool_], least_px: float, pitch_mm: float
) -> tuple[Score, int]:
    """Score of one class, and how many of its objects lie in web that was not seen."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DILATION_PX + 1, 2 * DILATION_PX + 1))
    near_truth = cv2.dilate(truth, kernel).astype(np.uint8)
    true_mask = np.zeros_like(truth)
    true_events = 0
    for parts in events:
        top, left, mask = _filled(parts, pitch_mm, truth.shape)
        here = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
        if (mask & near_truth[here]).sum() >= TRUE_SHARE * mask.sum():
            true_events += 1
            true_mask[here] |= mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(truth, connectivity=8)
    covered = np.bincount(labels[true_mask > 0], minlength=count)
    hidden_px = np.bincount(labels[unseen].ravel(), minlength=count)
    area = stats[:, cv2.CC_STAT_AREA]
    asked = area >= least_px
    asked[0] = False
    hidden = asked & (2 * hidden_px > area)
    asked &= ~hidden
    planted, found = int(asked.sum()), int((asked & (covered >= FOUND_SHARE * area)).sum())
    score = Score(
        planted=planted,
        found=found,
        events=len(events),
        true_events=true_events,
        object_recall=_share(found, planted),
        object_precision=_share(true_events, len(events)),
    )
    return score, int(hidden.sum())


def _filled(parts: list[list[Polygon]], pitch_mm: float, shape: tuple[int, ...]) -> tuple[int, int, U8]:
    """Top row, left column and mask (u8) of one defect's polygons; each event's are filled together, even-odd."""
    drawn = [
        [np.rint(np.asarray(polygon) / pitch_mm - 0.5).astype(np.int32) for polygon in polygons] for polygons in parts
    ]
    points = np.concatenate([polygon for polygons in drawn for polygon in polygons])
    left, top = np.maximum(points.min(axis=0), 0)
    right, bottom = np.minimum(points.max(axis=0), [shape[1] - 1, shape[0] - 1])
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    for polygons in drawn:
        piece = np.zeros_like(mask)
        cv2.fillPoly(piece, [polygon - [left, top] for polygon in polygons], 1)
        mask |= piece
    return int(top), int(left), mask


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
