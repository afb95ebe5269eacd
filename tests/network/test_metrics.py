"""Figures of evaluation and cost."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from calibration.network.cost import cost_of
from calibration.network.metrics import (
    confusion_matrix,
    dice,
    mean_dice,
    pooled_rates,
    score,
    stability_iterations,
    variation,
)
from calibration.network.unet import UNet

LABELS = ("background", "bump", "dent", "scratch")
FIRST = np.array([[0, 0, 1, 1], [0, 0, 1, 2]], np.uint8), np.array([[0, 1, 1, 1], [0, 0, 0, 2]], np.uint8)
SECOND = np.array([[0, 0, 0, 0], [1, 0, 0, 0]], np.uint8), np.array([[0, 0, 0, 0], [2, 1, 0, 0]], np.uint8)


def test_rates_are_of_pooled_counts_and_precision_is_both_pooled_and_per_image() -> None:
    result = score([confusion_matrix(truth, called, 4) for truth, called in (FIRST, SECOND)], LABELS)
    bump, dent, scratch = (result.classes[label] for label in LABELS[1:])
    assert (bump.tpr, bump.fpr) == (2 / 4, 2 / 12)
    assert bump.precision == 2 / 4
    assert bump.precision_per_image == pytest.approx((2 / 3 + 0) / 2)
    assert (dent.tpr, dent.fpr, dent.precision, dent.precision_per_image) == (1, 1 / 15, 1 / 2, (1 + 0) / 2)
    assert (bump.iou, bump.f1) == (2 / 6, 4 / 8)
    assert (scratch.tpr, scratch.fpr, scratch.precision, scratch.precision_per_image) == (None, 0, None, None)
    assert result.mean.tpr == pytest.approx((2 / 4 + 1) / 2), "over the defects for which it is defined"
    assert result.mean.fpr == pytest.approx((2 / 12 + 1 / 15 + 0) / 3)
    assert result.confusion[1] == [1, 2, 1, 0]


def test_precision_per_image_leaves_out_images_where_nothing_was_called() -> None:
    quiet = np.ones((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
    result = score([confusion_matrix(truth, called, 4) for truth, called in (FIRST, quiet)], LABELS)
    assert result.classes["bump"].precision_per_image == pytest.approx(2 / 3)


@given(st.integers(0, 2**32), st.integers(2, 6))
def test_every_pixel_is_counted_once(seed: int, classes: int) -> None:
    truth, called = np.random.default_rng(seed).integers(0, classes, (2, 9, 7), dtype=np.uint8)
    confusion = confusion_matrix(truth, called, classes)
    assert confusion.sum() == 63
    assert np.trace(confusion) == (truth == called).sum()
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(truth.ravel(), minlength=classes))


def test_false_positives_are_negatives_that_were_not_called_so() -> None:
    """A false-positive count as printed may be wrong (wCE-ICF's cracks in the thesis's Table A1): it is not used."""
    tpr, fpr = pooled_rates(true_positives=6475, positives=10000, true_negatives=992800, negatives=1000000)
    assert (tpr, fpr) == pytest.approx((0.6475, 0.0072))
    assert pooled_rates(0, 0, 5, 5) == (None, 0)


def test_dice_of_two_empty_masks_is_one() -> None:
    none, some = np.zeros((2, 3), bool), np.array([[True, False, False], [True, True, False]])
    assert dice(none, none) == 1
    assert dice(none, some) == 0
    assert dice(some, some) == 1
    assert dice(some, np.array([[True, True, True], [False, False, False]])) == pytest.approx(2 / 6)
    assert mean_dice(some.astype(np.uint8), some.astype(np.uint8) * 2, 4) == pytest.approx(1 / 3)


def test_stability_is_taken_every_500_from_7000_or_at_the_same_shares() -> None:
    assert stability_iterations(10_000) == [7000, 7500, 8000, 8500, 9000, 9500, 10000]
    assert stability_iterations(100) == [70, 75, 80, 85, 90, 95, 100]
    assert stability_iterations(1) == [1]
    assert variation([1.0, 2.0, 3.0]) == pytest.approx(np.sqrt(2 / 3))


def test_cost_of_the_thesis_network_is_what_its_arithmetic_says() -> None:
    cost = cost_of(UNet(3, 5, 32), channels=3, patch=256, batch=16)
    layers = {layer.name: layer for layer in cost.layers}
    pixels = 16 * 256 * 256
    for level, (before, after) in enumerate([(3, 32), (32, 64), (64, 128), (128, 256), (256, 512)]):
        first, second = layers[f"down.{level}.0"], layers[f"down.{level}.3"]
        side = 256 >> level
        assert first.activations == second.activations == (after, side, side)
        assert (first.parameters, second.parameters) == (9 * before * after, 9 * after * after)
        assert first.flop == 2 * 9 * before * after * pixels // 4**level
        assert first.memory_bytes == 4 * after * pixels // 4**level
        assert first.kernels == f"{after} of 3x3x{before}"
    assert layers["merge.3.0"].flop == 2 * 9 * 64 * 32 * pixels, "the concatenation counts"
    assert layers["up.3"].flop == (2 * 64 + 1) * 32 * pixels, "each output of a 2x2 kernel of stride 2 has one tap"
    assert cost.parameters == sum(weights.numel() for weights in UNet(3, 5, 32).parameters())
    assert cost.flop_per_pixel == pytest.approx(371e3, rel=0.002)


def test_cost_counts_any_network_and_shared_layers_once() -> None:
    shared = nn.Linear(8, 8)
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(), shared, nn.ReLU(), shared
    )
    cost = cost_of(network, channels=2, patch=9, batch=3)
    assert cost.layers[0].flop == 3 * 4 * 4 * 4 * (2 * 9 + 1)
    assert [layer.parameters for layer in cost.layers if layer.kind == "Linear"] == [72, 0]
    assert cost.parameters == sum(weights.numel() for weights in network.parameters())
    assert next(network.parameters()).device == torch.device("cpu"), "the network itself is left alone"


def test_the_cost_command_prints_a_table_and_refuses_a_patch_off_the_grid(
    foilsight: Callable[..., CompletedProcess[str]],
) -> None:
    done = foilsight("cost", "--patch", 64, "--batch", 2, "--features", 4, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["layers"]) == 63
    refused = foilsight("cost", "--patch", 65)
    assert (refused.returncode, refused.stderr) == (2, "foilsight: a patch of 65 pixels: must be a multiple of 16\n")
