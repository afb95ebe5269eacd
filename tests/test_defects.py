"""Defects are whole, whatever strips the web came in, and their millimetres are those of the web."""

import math
from collections import defaultdict
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.core.config import ClassRule, DefectsConfig
from edge.core.types import ClassMap, Defect
from edge.core.web_axes import WebAxes
from edge.defects import DefectJoiner

LABELS = ("background", "agglomeration", "crack", "cavity", "blade trail")
PITCH_MM = 0.05
EVERYTHING = DefectsConfig(default=ClassRule(min_area_mm2=0.0), classes={})


def events_of(
    classes: NDArray[np.uint8],
    score: NDArray[np.uint8] | None = None,
    heights: list[int] | None = None,
    rules: DefectsConfig = EVERYTHING,
    first_row: int = 0,
) -> list[Defect]:
    """The events of a web, cut into strips of the given heights and a rest."""
    score = np.where(classes > 0, 200, 0).astype(np.uint8) if score is None else score
    joiner = DefectJoiner(LABELS, rules, WebAxes(PITCH_MM), classes.shape[1])
    cuts = [0, *np.cumsum(heights or [0]).tolist(), len(classes)]
    events = []
    for top, bottom in pairwise(cuts):
        events += joiner.push(ClassMap(classes[top:bottom], score[top:bottom], first_row + top))
    return events + joiner.finish()


def closed(events: list[Defect]) -> list[Defect]:
    """Final measures of each whole defect."""
    return [event for event in events if event.phase == "closed" and event.merged_into is None]


def one(events: list[Defect], phase: str) -> Defect:
    (event,) = [event for event in events if event.phase == phase]
    return event


def drawn(events: list[Defect], shape: tuple[int, int], first_row: int = 0) -> NDArray[np.uint8]:
    """All events' contours, each event's filled together by the even-odd rule."""
    canvas = np.zeros(shape, np.uint8)
    for event in events:
        assert sum(map(len, event.contour_mm)) <= 256
        pixels = [np.round(np.array(p) / PITCH_MM - 0.5 - [0, first_row]).astype(np.int32) for p in event.contour_mm]
        layer = np.zeros(shape, np.uint8)
        cv2.fillPoly(layer, pixels, 1)
        canvas |= layer
    return canvas


def assert_within_a_pixel(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> None:
    kernel = np.ones((3, 3), np.uint8)
    assert not (found & ~cv2.dilate(true, kernel)).any()
    assert not (cv2.erode(true, kernel) & ~found).any()
    assert not (true & ~cv2.dilate(found, kernel)).any()


@st.composite
def webs(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    rows, width = draw(st.integers(1, 40)), draw(st.integers(1, 24))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    density = draw(st.sampled_from([0.1, 0.4, 0.6]))
    classes = np.where(random.random((rows, width)) < density, random.integers(1, 3, (rows, width)), 0)
    score = random.integers(0, 256, (rows, width))
    return classes.astype(np.uint8), score.astype(np.uint8), draw(strip_heights(rows))


def strip_heights(rows: int) -> st.SearchStrategy[list[int]]:
    ones = st.just([1] * rows)
    return ones | st.lists(st.integers(0, rows), max_size=rows).map(lambda cuts: np.diff([0, *sorted(cuts)]).tolist())


@settings(max_examples=150, deadline=None)
@given(webs(), st.sampled_from([EVERYTHING, DefectsConfig(default=ClassRule(min_area_mm2=0.02, min_score=0.6))]))
def test_closed_defects_do_not_depend_on_how_the_web_was_cut(
    web: tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]], rules: DefectsConfig
) -> None:
    classes, score, heights = web

    found, expected = closed(events_of(classes, score, heights, rules)), closed(events_of(classes, score, None, rules))
    assert sorted((e.box_mm, e.label) for e in found) == sorted((e.box_mm, e.label) for e in expected)

    def measures(events: list[Defect]) -> list[float]:
        by_place = sorted(events, key=lambda e: (e.box_mm, e.label, e.centroid_mm, e.area_mm2))
        return [
            value
            for e in by_place
            for name in ("area_mm2", "length_mm", "width_mm", "orientation_deg", "score_mean", "score_max")
            for value in (getattr(e, name), *e.centroid_mm)
        ]

    assert measures(found) == pytest.approx(measures(expected), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(webs())
def test_defects_are_the_components_of_each_class(
    web: tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]],
) -> None:
    classes, score, heights = web
    expected = []
    for k in (1, 2):
        count, found, stats, centres = cv2.connectedComponentsWithStats((classes == k).astype(np.uint8), connectivity=8)
        for i in range(1, count):
            left, top, width, height, area = stats[i].tolist()
            box, scores = (left, top, left + width, top + height), score[found == i] / 255
            expected.append((LABELS[k], *box, area, *centres[i], scores.mean(), scores.max()))
    actual = []
    for e in closed(events_of(classes, score, heights)):
        box, centre = (round(v / PITCH_MM) for v in e.box_mm), (v / PITCH_MM - 0.5 for v in e.centroid_mm)
        actual.append((e.label, *box, round(e.area_mm2 / PITCH_MM**2), *centre, e.score_mean, e.score_max))
    assert len(actual) == len(expected)
    for a, b in zip(sorted(actual), sorted(expected), strict=True):
        assert a[0] == b[0]
        assert a[1:] == pytest.approx(b[1:], abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(webs())
def test_every_defect_opens_once_then_closes_once_and_ids_are_dense(
    web: tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]],
) -> None:
    classes, score, heights = web
    events = events_of(classes, score, heights)
    phases = defaultdict(list)
    for event in events:
        phases[event.id].append(event.phase)
        if event.merged_into is not None:
            assert event.merged_into < event.id
            assert "closed" not in phases[event.merged_into]
    assert [e.id for e in events if e.phase == "opened"] == list(range(1, len(phases) + 1))
    for order in phases.values():
        assert order[0] == "opened"
        assert order[-1] == "closed"
        assert set(order[1:-1]) <= {"continued"}


def blobs(rows: int, width: int, seed: int) -> NDArray[np.uint8]:
    """One class of smooth spots, some with a hole."""
    random = np.random.default_rng(seed)
    mask = np.zeros((rows, width), np.uint8)
    for _ in range(14):
        centre = (int(random.integers(width)), int(random.integers(rows)))
        size = (int(random.integers(3, 40)), int(random.integers(3, 14)))
        cv2.ellipse(mask, centre, size, float(random.integers(180)), 0, 360, 1, -1)
        cv2.ellipse(mask, centre, (size[0] // 2, size[1] // 2), 0, 0, 360, int(random.integers(2)), -1)
    return mask


@pytest.mark.parametrize("height", [1, 7, 64, 300])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_contours_of_all_events_draw_the_mask(seed: int, height: int) -> None:
    mask = blobs(300, 200, seed)
    events = events_of(mask, heights=[height] * (300 // height), first_row=5000)
    assert_within_a_pixel(drawn(events, mask.shape, first_row=5000), mask)


def test_a_lacy_defect_keeps_to_the_points_an_event_may_have() -> None:
    random = np.random.default_rng(3)
    mask = (random.random((256, 256)) < 0.6).astype(np.uint8)
    events = events_of(mask)
    largest = max(closed(events), key=lambda event: event.area_mm2)
    assert largest.area_mm2 > 0.5 * mask.size * PITCH_MM**2
    found = drawn([event for event in events if event.id == largest.id], mask.shape)
    assert np.count_nonzero(found & mask) > 0.9 * largest.area_mm2 / PITCH_MM**2


def test_a_line_one_pixel_wide_is_measured_as_one_pixel_wide() -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[10, 5:105] = 4
    mask[30:90, 60] = 2
    trail, crack = closed(events_of(mask))
    assert (trail.label, crack.label) == ("blade trail", "crack")
    assert (trail.length_mm, trail.width_mm, trail.orientation_deg) == pytest.approx((5.0, 0.05, 0))
    assert trail.box_mm == pytest.approx((0.25, 0.5, 5.25, 0.55))
    assert trail.centroid_mm == pytest.approx((2.75, 0.525))
    assert (crack.length_mm, crack.width_mm, crack.orientation_deg) == pytest.approx((3.0, 0.05, 90))


@pytest.mark.parametrize("angle_deg", [30.0, -60.0, 80.0])
def test_orientation_turns_from_x_towards_y(angle_deg: float) -> None:
    mask = np.zeros((200, 200), np.uint8)
    reach = 80 * np.array([math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))])
    ends = [tuple(int(v) for v in np.round(100 + s * reach)) for s in (-1, 1)]
    cv2.line(mask, ends[0], ends[1], 4, 3)
    (trail,) = closed(events_of(mask))
    assert trail.orientation_deg == pytest.approx(angle_deg, abs=1)
    assert trail.length_mm == pytest.approx(163 * PITCH_MM, abs=0.15)


@pytest.mark.parametrize("slope", [0.0, 0.01])
def test_a_blade_trail_over_many_strips_is_one_defect(slope: float) -> None:
    rows = round(400 / PITCH_MM)
    left = np.round(60 + slope * np.arange(rows)).astype(int)
    columns = np.arange(200)
    mask = np.where((columns >= left[:, None]) & (columns < left[:, None] + 6), 4, 0).astype(np.uint8)
    events = events_of(mask, heights=[256] * (rows // 256), first_row=10_000_000)
    opened, whole = one(events, "opened"), one(events, "closed")
    assert opened.id == whole.id == 1
    assert events.index(opened) == 0
    assert whole.length_mm == pytest.approx(400 * math.hypot(1, slope), abs=0.2)
    assert whole.width_mm == pytest.approx(0.3, abs=0.1)
    assert whole.area_mm2 == pytest.approx(120)
    assert whole.box_mm[1] == pytest.approx(500_000)
    assert_within_a_pixel(drawn(events, mask.shape, first_row=10_000_000), (mask > 0).astype(np.uint8))


def test_two_open_defects_that_meet_go_on_as_the_older() -> None:
    mask = np.zeros((60, 60), np.uint8)
    mask[5:40, 40:44] = 1
    mask[10:40, 10:14] = 1
    mask[40:44, 10:44] = 1
    events = events_of(mask, heights=[20, 10, 20])
    ended = next(event for event in events if event.merged_into is not None)
    assert (ended.id, ended.merged_into) == (2, 1)
    assert ended.area_mm2 == pytest.approx(20 * 4 * PITCH_MM**2)
    (whole,) = closed(events)
    assert whole.id == 1
    assert whole.area_mm2 == pytest.approx(np.count_nonzero(mask) * PITCH_MM**2)
    assert whole.box_mm == pytest.approx((0.5, 0.25, 2.2, 2.2))
    assert_within_a_pixel(drawn(events, mask.shape), mask)


def test_defects_touching_only_at_a_corner_across_the_seam_are_one_unless_of_another_class() -> None:
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 1] = mask[2, 2] = 1
    mask[2, 0] = 2
    assert [event.label for event in closed(events_of(mask, heights=[2]))] == ["agglomeration", "crack"]


def test_a_defect_is_told_when_it_is_large_and_sure_enough_and_not_before() -> None:
    rules = DefectsConfig(default=ClassRule(min_area_mm2=0.1, min_score=0.8), classes={})  # 40 px
    classes, score = np.zeros((30, 20), np.uint8), np.full((30, 20), 150, np.uint8)
    classes[5:20, 4:8] = 2
    score[12, 5] = 210
    joiner = DefectJoiner(LABELS, rules, WebAxes(PITCH_MM), 20)
    told = {}
    for row in range(30):
        for event in joiner.push(ClassMap(classes[row : row + 1], score[row : row + 1], row)):
            told[event.phase] = row
    assert told == {"opened": 14, "closed": 20}
    assert closed(events_of(classes, np.full_like(score, 150), rules=rules)) == []


def test_a_smaller_area_suffices_for_a_class_with_its_own_rule() -> None:
    mask = np.zeros((30, 60), np.uint8)
    mask[5:10, 5:10] = 1
    mask[5:10, 30:35] = 3
    assert [event.label for event in closed(events_of(mask, rules=DefectsConfig()))] == ["cavity"]


def test_a_long_doubtful_defect_that_turns_sure_is_told_whole() -> None:
    rules = DefectsConfig(default=ClassRule(min_area_mm2=0, min_score=0.8), classes={})
    rows = 6000
    left = np.round(60 + 40 * np.sin(np.arange(rows) / 9)).astype(int)
    mask = np.where(np.abs(np.arange(130) - left[:, None]) < 6, 1, 0).astype(np.uint8)
    score = np.full(mask.shape, 100, np.uint8)
    score[rows - 5 :] = 255
    events = events_of(mask, score, [100] * (rows // 100), rules)
    (whole,) = closed(events)
    assert whole.area_mm2 == pytest.approx(np.count_nonzero(mask) * PITCH_MM**2)
    assert not (mask & ~cv2.dilate(drawn(events, mask.shape), np.ones((3, 3), np.uint8))).any()


@pytest.mark.parametrize("radius", [200, 2300])
def test_a_large_round_defect_keeps_its_diameter_in_thin_strips(radius: int) -> None:
    rows = np.arange(-radius, radius + 1)
    half = np.floor(np.sqrt(radius**2 - rows**2)).astype(int)
    mask = (np.abs(np.arange(-radius, radius + 1)) <= half[:, None]).astype(np.uint8)
    (disc,) = closed(events_of(mask, heights=[16] * (len(mask) // 16)))
    assert disc.length_mm == pytest.approx((2 * radius + 1) * PITCH_MM, abs=4 * PITCH_MM)
    assert disc.width_mm == pytest.approx((2 * radius + 1) * PITCH_MM, abs=4 * PITCH_MM)


def test_strips_that_do_not_follow_each_other_are_refused() -> None:
    joiner = DefectJoiner(LABELS, EVERYTHING, WebAxes(PITCH_MM), 8)
    strip = np.zeros((4, 8), np.uint8)
    joiner.push(ClassMap(strip, strip, 100))
    for first_row in (103, 105):
        with pytest.raises(ValueError, match="expected 104"):
            joiner.push(ClassMap(strip, strip, first_row))
    with pytest.raises(ValueError, match="columns"):
        joiner.push(ClassMap(strip[:, :7], strip[:, :7], 104))
    with pytest.raises(ValueError, match="no label"):
        joiner.push(ClassMap(strip + 5, strip, 104))
