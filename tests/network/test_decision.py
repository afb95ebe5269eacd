"""Thresholds and smallest areas by which few clean images raise an alarm."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.network.decision import DecisionCounts, without_small
from edge.core.config import ClassRule, DefectsConfig
from edge.core.errors import ConfigError
from edge.core.types import F32, U8
from edge.segmentation.model import ModelInfo

SIDE = 48


def image(random: np.random.Generator, defect: int, specks: int) -> tuple[F32, U8]:
    """Probabilities of three classes: squares of a defect (0: none) that are found, false specks in its class or 1."""
    p, truth = np.full((3, SIDE, SIDE), 0.02, np.float32), np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(specks):
        row, column = random.integers(30, SIDE - 3, 2)
        p[defect or 1, row : row + 2, column : column + 3] = random.uniform(0.5, 0.95)
    if defect:
        truth[4:20, 6:22] = defect
        p[defect, 4:20, 6:21] = random.uniform(0.6, 0.9)
    p[0] = 1 - p[1:].sum(axis=0)
    return p, truth


def alarms(decision_of: DecisionCounts, images: list[tuple[F32, U8]], most: float) -> float:
    """Share of clean images in which something is called once the decision is executed as the line does it."""
    thresholds, areas, _ = decision_of.best(most)
    clean = [p for p, truth in images if not truth.any()]
    return float(np.mean([called(p, thresholds, areas).any() for p in clean]))


def called(p: F32, thresholds: list[float], areas: list[int]) -> U8:
    sure = np.where(p[1:] >= np.array(thresholds, np.float32)[:, None, None], p[1:], 0)
    return without_small(np.where(sure.max(axis=0) > 0, sure.argmax(axis=0) + 1, 0).astype(np.uint8), areas)


def test_small_false_specks_are_told_from_defects_by_their_area() -> None:
    random = np.random.default_rng(1)
    images = [image(random, at % 3, specks=2) for at in range(30)]
    counts = DecisionCounts(3)
    for p, truth in images:
        counts.add(p, truth)
    decision = counts.best(0.0)
    assert decision.alarms == alarms(counts, images, 0.0) == 0
    for p, truth in images:
        if truth.any():
            found = called(p, decision.thresholds, decision.min_areas_px) == truth.max()
            assert np.array_equal(found, p[truth.max()] * (np.arange(SIDE) < 24)[:, None] > 0.5), "all but the specks"


def test_another_exposure_of_a_clean_image_counts_by_its_alarms_alone() -> None:
    counts, other = DecisionCounts(3), DecisionCounts(3)
    random = np.random.default_rng(3)
    images = [image(random, at % 2, specks=0) for at in range(10)]
    streaked = images[0][0].copy()
    streaked[1, 4:12] = 0.95
    for p, truth in images:
        counts.add(p, truth)
        other.add(p, truth)
        if not truth.any():
            other.add_clean(streaked)
    strict, easy = other.best(0.0), counts.best(0.0)
    assert called(streaked, easy.thresholds, easy.min_areas_px).any()
    assert not called(streaked, strict.thresholds, strict.min_areas_px).any()
    assert other.best(1.0)[:2] == counts.best(1.0)[:2], "what is a defect is found no less where alarms are allowed"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), most=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_no_more_clean_images_than_asked_raise_an_alarm(seed: int, most: float) -> None:
    """Also where clean images look just as those with a defect do."""
    random = np.random.default_rng(seed)
    images = [image(random, int(random.integers(3)), int(random.integers(3))) for _ in range(12)]
    images += [(image(random, 1, 0)[0], np.zeros((SIDE, SIDE), np.uint8)) for _ in range(3)]
    counts = DecisionCounts(3)
    for p, truth in images:
        counts.add(p, truth)
    assert counts.best(most).alarms <= most
    assert alarms(counts, images, most) <= most


def test_a_class_without_false_finds_is_decided_as_if_alone() -> None:
    random = np.random.default_rng(2)
    with_specks, without = DecisionCounts(3), DecisionCounts(3)
    for at in range(12):
        with_specks.add(*image(random, at % 3, specks=2 * (at % 3 == 0)))
        without.add(*image(random, at % 3, specks=0))
    strict, free = with_specks.best(0.0), without.best(1.0)
    assert strict.thresholds[1] == pytest.approx(free.thresholds[1], abs=0.11)
    assert strict.min_areas_px[0] > 6


def test_alarms_cannot_be_counted_without_clean_images() -> None:
    counts = DecisionCounts(3)
    counts.add(*image(np.random.default_rng(0), 1, 0))
    with pytest.raises(ConfigError, match="no clean image"):
        counts.best(0.05)


def test_small_components_of_a_class_become_background() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[0, 0] = classes[1, 1] = 1
    classes[4:6, 4:6] = classes[7, 0] = 2
    kept = without_small(classes, [2, 3])
    assert kept[0, 0] == kept[1, 1] == 1, "joined by a corner"
    assert (kept[4:6, 4:6] == 2).all()
    assert kept[7, 0] == 0
    assert np.array_equal(without_small(classes, [1, 1]), classes)


def test_a_class_that_another_outdoes_still_counts_as_an_alarm() -> None:
    """The more probable class may stay below its own threshold, and then the other one is called."""
    p = np.zeros((3, SIDE, SIDE), np.float32)
    p[0], p[1, :20, :20], p[2, :20, :20] = 0.1, 0.5, 0.4
    counts = DecisionCounts(3)
    counts.add(p, np.zeros((SIDE, SIDE), np.uint8))
    for k, sure in ((1, 0.6), (2, 0.4)):
        p, truth = np.zeros((3, SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.uint8)
        truth[4:24, 4:24] = k
        p[k, 4:24, 4:24] = sure
        counts.add(p, truth)
    assert counts.best(1.0).alarms == 1
    assert counts.best(0.0).alarms == 0


def test_a_line_asks_for_the_larger_of_its_own_and_the_models_smallest_areas() -> None:
    line = DefectsConfig(classes={"crack": ClassRule(min_area_mm2=0.5, min_score=0.3)})
    about = {"classes": ["good", "crack", "dent"], "channels": ["gray"], "pitch_mm": 0.1, "grid": 16, "halo": 96}
    model = msgspec.convert(about | {"thresholds": [0.5, 0.5], "min_areas_px": [10, 100]}, ModelInfo)
    rules = model.rules(line)
    assert rules.rule("crack") == line.rule("crack")
    assert rules.rule("dent").min_area_mm2 == pytest.approx(1.0)
    assert rules.rule("scratch") == line.default
    assert msgspec.convert(about | {"thresholds": [0.5, 0.5]}, ModelInfo).rules(line) == line
    with pytest.raises(msgspec.ValidationError, match="1 smallest areas for 2 thresholds"):
        msgspec.convert(about | {"thresholds": [0.5, 0.5], "min_areas_px": [10]}, ModelInfo)
