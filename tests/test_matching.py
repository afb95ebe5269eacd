"""Events against the truth: what counts as found, missed, false and not seen."""

from collections.abc import Sequence

import numpy as np
import pytest

from edge.core.config import ClassRule, DefectsConfig
from edge.core.types import U8, Coverage, Defect
from edge.core.web_axes import WebAxes
from edge.service.matching import Comparison, Heard, compare, interval

CLASSES = ("background", "spot", "scratch")
RULES = DefectsConfig(default=ClassRule(min_area_mm2=0.0), classes={"scratch": ClassRule(min_area_mm2=100.0)})
Box = tuple[int, int, int, int]


def event(number: int, label: str, box_px: Box, merged_into: int | None = None) -> Defect:
    """A rectangle [x0, x1) x [y0, y1) of pixels of 1 mm."""
    x0, y0, x1, y1 = box_px
    corners = [(x0 + 0.5, y0 + 0.5), (x1 - 0.5, y0 + 0.5), (x1 - 0.5, y1 - 0.5), (x0 + 0.5, y1 - 0.5)]
    return Defect(
        id=number,
        label=label,
        phase="closed",
        box_mm=box_px,
        centroid_mm=((x0 + x1) / 2, (y0 + y1) / 2),
        area_mm2=(x1 - x0) * (y1 - y0),
        length_mm=max(x1 - x0, y1 - y0),
        width_mm=min(x1 - x0, y1 - y0),
        orientation_deg=0.0,
        score_mean=0.9,
        score_max=1.0,
        contour_mm=[corners],
        merged_into=merged_into,
    )


def truth_of(*boxes: tuple[int, Box]) -> U8:
    truth = np.zeros((100, 60), np.uint8)
    for index, (x0, y0, x1, y1) in boxes:
        truth[y0:y1, x0:x1] = index
    return truth


def compared(truth: U8, *bodies: Defect | Coverage, pixels: U8 | None = None) -> Comparison:
    heard = Heard()
    heard.take(bodies)
    return compare(heard, np.zeros_like(truth) if pixels is None else pixels, truth, CLASSES, RULES, WebAxes(1.0))


def fates(comparison: Comparison) -> Sequence[str]:
    return [each.fate for each in comparison.judged]


@pytest.mark.parametrize(("covered_rows", "fate"), [(3, "found"), (2, "missed")])
def test_found_where_three_tenths_are_covered(covered_rows: int, fate: str) -> None:
    result = compared(truth_of((1, (10, 10, 20, 20))), event(1, "spot", (10, 10, 20, 10 + covered_rows)))
    assert fates(result) == [fate]
    assert result.judged[0].share == pytest.approx(covered_rows / 10)
    assert result.judged[0].box_px == (10, 10, 20, 20) and result.judged[0].area_px == 100


def test_fragments_count_once_and_are_all_true() -> None:
    result = compared(
        truth_of((1, (10, 10, 20, 40))), event(1, "spot", (10, 10, 20, 20)), event(2, "spot", (10, 25, 20, 35))
    )
    score = result.scores["spot"]
    assert (score.planted, score.found, score.events, score.true_events) == (1, 1, 2, 2)


@pytest.mark.parametrize(("left", "true"), [(23, 1), (30, 0)])
def test_an_event_beside_the_truth_is_true_within_three_pixels(left: int, true: int) -> None:
    result = compared(truth_of((1, (10, 10, 20, 20))), event(1, "spot", (left - 4, 12, left + 2, 18)))
    assert result.scores["spot"].true_events == true


def test_a_wrong_class_is_missed_and_false_and_says_what_it_was_taken_for() -> None:
    planted = truth_of((1, (10, 10, 20, 20)))
    result = compared(planted, event(1, "scratch", (10, 10, 20, 18)), pixels=truth_of((2, (10, 10, 20, 18))))
    missed, false = result.judged
    assert (missed.fate, missed.label, missed.instead) == ("missed", "spot", "scratch")
    assert missed.instead_share == pytest.approx(0.8) and missed.pixel_share == 0
    assert (false.fate, false.label, false.instead, false.instead_share) == ("false", "scratch", "spot", 1.0)
    assert result.scores["spot"].object_recall == 0 and result.scores["scratch"].object_precision == 0
    assert result.found[15, 15] == 2 and not result.found[19, 15]


def test_a_missed_object_the_network_saw_says_so() -> None:
    planted = truth_of((1, (10, 10, 20, 20)))
    (missed,) = compared(planted, pixels=truth_of((1, (10, 10, 20, 19)))).judged
    assert missed.fate == "missed" and missed.pixel_share == pytest.approx(0.9)


def test_small_ones_are_not_asked_for_but_make_events_true() -> None:
    result = compared(truth_of((2, (10, 10, 19, 21))), event(1, "scratch", (10, 10, 19, 21)))
    score = result.scores["scratch"]
    assert (score.planted, score.events, score.true_events) == (0, 1, 1)
    assert score.object_recall is None and score.object_precision == 1.0


def test_what_nobody_could_see_is_apart() -> None:
    gap = Coverage(from_row=14, to_row=50, from_mm=14, to_mm=50, state="uninspected", why="seen under too few lights")
    result = compared(truth_of((1, (10, 10, 20, 20)), (1, (30, 10, 40, 17))), gap)
    assert sorted(fates(result)) == ["missed", "unseen"]
    assert result.scores["spot"].planted == 1


def test_what_was_merged_is_one_event() -> None:
    result = compared(
        truth_of((1, (10, 10, 20, 40))),
        event(1, "spot", (10, 10, 20, 22), merged_into=2),
        event(2, "spot", (10, 24, 20, 40)),
    )
    assert result.scores["spot"].events == 1 and fates(result) == ["found"]
    assert result.judged[0].share == pytest.approx(28 / 30)


def test_interval_of_a_share() -> None:
    low, high = interval(50, 100)
    assert (low, high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert interval(100, 100) == (pytest.approx(0.9630, abs=1e-4), pytest.approx(1.0))
    assert interval(0, 0) == (0.0, 1.0)
