"""Events of a replay held against what was planted.

Objects are 8-connected components of one class. An event is true if at least half of its area lies in truth of its
class dilated by 3 px. A planted object is found if true events cover at least 30 % of it; fragments count once. Objects
below their class's smallest area make events true but are not asked for; those in uninspected web are listed apart.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.core.config import DefectsConfig
from edge.core.types import U8, Alarm, Coverage, Defect, Polygon
from edge.core.web_axes import WebAxes

DILATION_PX = 3
TRUE_SHARE = 0.5
FOUND_SHARE = 0.3

Fate = Literal["found", "missed", "unseen", "false"]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Objects of one class, or of all. Recall is found / planted, precision true / events; None where undefined."""

    planted: int
    found: int
    events: int
    true_events: int
    object_recall: float | None
    object_precision: float | None

    @classmethod
    def of(cls, planted: int, found: int, events: int, true_events: int) -> "Score":
        """The score of these counts."""
        return cls(
            planted=planted,
            found=found,
            events=events,
            true_events=true_events,
            object_recall=_share(found, planted),
            object_precision=_share(true_events, events),
        )

    @classmethod
    def total(cls, scores: Iterable["Score"]) -> "Score":
        """The score of all objects together."""
        each = list(scores)
        return cls.of(*(sum(getattr(s, name) for s in each) for name in ("planted", "found", "events", "true_events")))


@dataclass(frozen=True, eq=False)
class Judged:
    """A planted object that was found, missed or in web nobody saw, or a false event.

    `box_px` (x0, y0, x1, y1) and `outline_px` (k, 2) polygons of (x, y) pixels; `share`: how much of a planted object
    true events cover, how much of a false event lies near truth of its class; `pixel_share`: how much of it the network
    gave its class, pixel by pixel; `instead`: the other class that covers most of it, in truth for an event, in pixels
    for a planted object, and `instead_share` how much.
    """

    fate: Fate
    label: str
    box_px: tuple[int, int, int, int]
    outline_px: list[NDArray[np.int32]]
    area_px: int
    share: float
    pixel_share: float
    instead: str
    instead_share: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """`scores` and the least area asked for by class; every object and false event, judged; web that was not
    fully inspected; `found` (rows, width) u8: what the events say."""

    scores: dict[str, Score]
    least_mm2: dict[str, float]
    judged: list[Judged]
    not_inspected: list[Coverage]
    found: U8

    def degraded(self, each: Judged) -> bool:
        """Whether an object lies, if only in part, in web seen under fewer lights than there are."""
        top, bottom = each.box_px[1], each.box_px[3]
        degraded = (coverage for coverage in self.not_inspected if coverage.state == "degraded")
        return any(coverage.from_row < bottom and top < coverage.to_row for coverage in degraded)


@dataclass
class Heard:
    """What a replay said: polygons by defect, and who was merged into whom."""

    polygons: dict[int, list[list[Polygon]]] = field(default_factory=dict)
    labels: dict[int, str] = field(default_factory=dict)
    merged: dict[int, int] = field(default_factory=dict)
    not_inspected: list[Coverage] = field(default_factory=list)

    def take(self, bodies: Sequence[Defect | Coverage | Alarm]) -> None:
        """Listen to event bodies as they are published."""
        for body in bodies:
            if not isinstance(body, Defect):
                if isinstance(body, Coverage) and body.state != "inspected":
                    self.not_inspected.append(body)
                continue
            self.labels[body.id] = body.label
            if body.contour_mm:
                self.polygons.setdefault(body.id, []).append(body.contour_mm)
            if body.merged_into is not None:
                self.merged[body.id] = body.merged_into

    def objects(self) -> list[tuple[str, list[list[Polygon]]]]:
        """Label and polygons, event by event, of each defect with all that was merged into it."""
        whole: dict[int, list[list[Polygon]]] = {}
        for number in self.labels:
            last = number
            while last in self.merged:
                last = self.merged[last]
            whole.setdefault(last, []).extend(self.polygons.get(number, []))
        return [(self.labels[number], parts) for number, parts in whole.items()]


@dataclass(frozen=True, eq=False)
class _Event:
    """A defect as a mask (h, w) u8 at a place of the web."""

    class_index: int
    here: tuple[slice, slice]
    mask: U8


def compare(
    heard: Heard, pixels: U8, truth: U8, classes: Sequence[str], rules: DefectsConfig, axes: WebAxes
) -> Comparison:
    """Hold what was heard, and what the network made of each pixel, against the truth, both (rows, width) u8."""
    events = [_filled(classes.index(label), parts, axes, truth.shape) for label, parts in heard.objects()]
    found = np.zeros_like(truth)
    for event in events:
        found[event.here][event.mask > 0] = event.class_index
    unseen = np.zeros(truth.shape[0], bool)
    for coverage in heard.not_inspected:
        unseen[coverage.from_row : coverage.to_row] |= coverage.state == "uninspected"
    least_mm2 = {label: rules.rule(label).min_area_mm2 for label in classes[1:]}
    scores: dict[str, Score] = {}
    judged: list[Judged] = []
    for index, label in enumerate(classes[1:], start=1):
        own = [event for event in events if event.class_index == index]
        false, true_mask = _false(own, pixels, truth, classes)
        planted = list(_planted(index, true_mask, truth, pixels, unseen, least_mm2[label] / axes.pitch_mm**2, classes))
        fates = [each.fate for each in planted]
        hits, asked = fates.count("found"), fates.count("found") + fates.count("missed")
        scores[label] = Score.of(asked, hits, len(own), len(own) - len(false))
        judged += planted + false
    return Comparison(scores, least_mm2, judged, heard.not_inspected, found)


def _false(events: Sequence[_Event], pixels: U8, truth: U8, classes: Sequence[str]) -> tuple[list[Judged], U8]:
    """The false ones among the events of one class, and where the true ones are (rows, width) u8."""
    true_mask = np.zeros_like(truth)
    false = []
    if not events:
        return [], true_mask
    index = events[0].class_index
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * DILATION_PX + 1, 2 * DILATION_PX + 1))
    near_truth: U8 = cv2.dilate((truth == index).astype(np.uint8), kernel).astype(np.uint8)
    for event in events:
        near, area = int((event.mask & near_truth[event.here]).sum()), int(event.mask.sum())
        if near >= TRUE_SHARE * area:
            true_mask[event.here] |= event.mask
        else:
            false.append(_judged("false", index, event.here, event.mask, near, pixels, truth, classes))
    return false, true_mask


def _planted(
    index: int,
    true_mask: U8,
    truth: U8,
    pixels: U8,
    unseen: NDArray[np.bool_],
    least_px: float,
    classes: Sequence[str],
) -> Iterable[Judged]:
    """Every planted object of one class that is large enough to be asked for."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((truth == index).astype(np.uint8), connectivity=8)
    for number in range(1, count):
        left, top, width, height, area = (int(figure) for figure in stats[number])
        if area < least_px:
            continue
        here = (slice(top, top + height), slice(left, left + width))
        mask = (labels[here] == number).astype(np.uint8)
        covered = int((mask & true_mask[here]).sum())
        fate: Fate = "found" if covered >= FOUND_SHARE * area else "missed"
        if 2 * int(mask[unseen[here[0]]].sum()) > area:
            fate = "unseen"
        yield _judged(fate, index, here, mask, covered, pixels, pixels, classes)


def _judged(
    fate: Fate,
    index: int,
    here: tuple[slice, slice],
    mask: U8,
    shared_px: int,
    pixels: U8,
    against: U8,
    classes: Sequence[str],
) -> Judged:
    """`against`: class indices of what the object is held against."""
    area = int(mask.sum())
    others = np.bincount(against[here][mask > 0], minlength=len(classes))
    others[[0, index]] = 0
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([here[1].start, here[0].start], np.int32)
    return Judged(
        fate=fate,
        label=classes[index],
        box_px=(here[1].start, here[0].start, here[1].stop, here[0].stop),
        outline_px=[contour[:, 0].astype(np.int32) + corner for contour in contours],
        area_px=area,
        share=shared_px / area,
        pixel_share=float((pixels[here][mask > 0] == index).mean()),
        instead=classes[int(others.argmax())] if others.any() else "",
        instead_share=float(others.max() / area),
    )


def _filled(class_index: int, parts: list[list[Polygon]], axes: WebAxes, shape: tuple[int, ...]) -> _Event:
    """A defect's mask; each event's polygons are filled together, even-odd."""
    drawn = [
        [np.rint(axes.to_px(np.asarray(polygon)) - 0.5).astype(np.int32) for polygon in polygons] for polygons in parts
    ]
    points = np.concatenate([polygon for polygons in drawn for polygon in polygons])
    left, top = np.maximum(points.min(axis=0), 0)
    right, bottom = np.minimum(points.max(axis=0), [shape[1] - 1, shape[0] - 1])
    mask = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    for polygons in drawn:
        piece = np.zeros_like(mask)
        cv2.fillPoly(piece, [polygon - [left, top] for polygon in polygons], 1)
        mask |= piece
    return _Event(class_index, (slice(int(top), int(bottom) + 1), slice(int(left), int(right) + 1)), mask)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def interval(part: int, whole: int) -> tuple[float, float]:
    """95 % confidence interval of a share by Wilson (1927); (0, 1) of nothing."""
    if not whole:
        return 0.0, 1.0
    z2, share = 1.96**2, part / whole
    middle = (share + z2 / (2 * whole)) / (1 + z2 / whole)
    half = 1.96 * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole**2)) / (1 + z2 / whole)
    return max(0.0, middle - half), min(1.0, middle + half)
