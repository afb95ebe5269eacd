"""Losses, weights and resampling of the thesis on imbalance (Morgese, University of Bologna, 2024)."""

import numpy as np
import pytest
import torch

from calibration.network.losses import LOSSES, FocalLoss, inverse_frequency, inverse_square_root_frequency
from calibration.network.resampling import SCHEMES, SPREAD, Centres, Composition, ResampledPatches
from calibration.network.sampling import Web
from edge.core.errors import ConfigError

BACKGROUND, AGGLOMERATION, CAVITY, CRACK, TRAIL = 61_341_642, 1_532_701, 39_040, 550_683, 752_734
PIXELS = np.array([BACKGROUND, AGGLOMERATION, CAVITY, CRACK, TRAIL])
"""Table 3.1: pixels of background, agglomeration, cavity, crack, blade trail."""


def test_inverse_frequency_gives_the_weights_of_the_thesis() -> None:
    assert inverse_frequency(PIXELS).tolist() == pytest.approx([0.003, 0.111, 4.355, 0.309, 0.226], abs=0.005)


def test_inverse_square_root_frequency_gives_the_weights_of_the_thesis() -> None:
    weights = inverse_square_root_frequency(PIXELS)
    assert weights.tolist() == pytest.approx([0.075, 0.475, 2.978, 0.793, 0.678], abs=0.005)
    assert weights.sum().item() == pytest.approx(5)


@pytest.mark.parametrize(
    ("positive", "pair"),
    [(AGGLOMERATION, (0.135, 0.865)), (CAVITY, (0.024, 0.976)), (CRACK, (0.085, 0.915)), (TRAIL, (0.098, 0.902))],
)
def test_binary_weights_of_one_class_against_the_rest_sum_to_one(positive: int, pair: tuple[float, float]) -> None:
    loss = LOSSES["fl_iscf"](np.array([PIXELS.sum() - positive, positive]))
    assert isinstance(loss, FocalLoss)
    assert loss.class_weights.tolist() == pytest.approx(pair, abs=0.0005)


def test_losses_weigh_and_focus_as_their_names_say() -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    log_p = logits.log_softmax(dim=1).gather(1, truth[:, None])[:, 0]
    focus = (1 - log_p.exp()) ** 2
    icf, iscf = inverse_frequency(PIXELS)[truth], inverse_square_root_frequency(PIXELS)[truth]
    wanted = {
        "ce": -log_p.mean(),
        "wce_icf": -(icf * log_p).sum() / icf.sum(),
        "wce_iscf": -(iscf * log_p).sum() / iscf.sum(),
        "focal": -(torch.where(truth == 0, 0.25, 0.75) * focus * log_p).mean(),
        "fl_icf": -(icf * focus * log_p).mean(),
        "fl_iscf": -(iscf * focus * log_p).mean(),
    }
    for name, value in wanted.items():
        assert LOSSES[name](PIXELS)(logits, truth).item() == pytest.approx(value.item(), rel=1e-5), name
    assert set(wanted) == set(LOSSES)


def web(seed: int, rows: int = 300, columns: int = 260) -> Web:
    """Squares of 9, 5, 2 and 3 pixels of classes 1 to 4, the third the rarest."""
    random = np.random.default_rng(seed)
    truth = np.zeros((rows, columns), np.uint8)
    for k, side, count in ((1, 9, 14), (2, 5, 10), (3, 2, 8), (4, 3, 20)):
        for _ in range(count):
            row, column = random.integers(rows - side), random.integers(columns - side)
            truth[row : row + side, column : column + side] = k
    return np.stack([truth, np.arange(truth.size).reshape(truth.shape)]).astype(np.float32), truth


WEBS = [web(1), web(2)]


@pytest.mark.parametrize("scheme", ["uniform", "equal_samples", "oversampled_rarest", "equal_pixels"])
def test_patches_lie_inside_and_are_counted_as_they_are(scheme: str) -> None:
    told: list[Composition] = []
    sampler = ResampledPatches(WEBS, 5, 32, 3, scheme, 60, told.append)
    surface, truth = sampler.draw(60)
    assert (surface[:, 0] == truth).all()
    assert surface.shape == (60, 2, 32, 32)
    assert len(told) == 1
    held = np.stack([(truth == k).sum(axis=(1, 2)) for k in range(5)], axis=1)
    np.testing.assert_array_equal(told[0].pixels, held.sum(axis=0))
    np.testing.assert_array_equal(told[0].holding, (held > 0).sum(axis=0))
    sampler.draw(1)
    assert len(told) == 2, "a new set when the old one is used up"


def test_centres_are_the_class_dilated_by_the_patch_inside_the_margin() -> None:
    truth = np.zeros((40, 50), np.uint8)
    truth[18, 22] = 1
    centres = Centres([(np.zeros((1, 40, 50), np.float32), truth)], 2, 8)
    drawn = centres.holding(1, 4000, np.random.default_rng(0))
    rows, columns = np.unique(drawn[:, 1]), np.unique(drawn[:, 2])
    np.testing.assert_array_equal(rows, np.arange(11, 19))
    np.testing.assert_array_equal(columns, np.arange(15, 23))
    counts = np.unique(drawn[:, 1] * 50 + drawn[:, 2], return_counts=True)[1]
    assert counts.size == 64
    assert counts.min() > 30, "all centres are as likely"
    anywhere = centres.anywhere(4000, np.random.default_rng(0))
    assert (anywhere[:, 1].min() + 4, 39 - (anywhere[:, 1].max() + 4)) == (5, 5), "half a patch and a pixel"


def test_equal_samples_shows_every_class_in_a_fifth_at_least() -> None:
    _, truth = ResampledPatches(WEBS, 5, 32, 0, "equal_samples", 100).draw(100)
    assert min((truth == k).any(axis=(1, 2)).sum() for k in range(5)) >= 20


def test_the_rarest_class_is_oversampled() -> None:
    _, truth = ResampledPatches(WEBS, 5, 32, 0, "oversampled_rarest", 100).draw(100)
    assert (truth == 3).any(axis=(1, 2)).sum() >= 50


@pytest.mark.parametrize("seed", range(3))
def test_equal_pixels_are_equal_within_a_tenth_and_many(seed: int) -> None:
    told: list[Composition] = []
    sampler = ResampledPatches(WEBS, 5, 32, seed, "equal_pixels", 200, told.append)
    sampler.draw(1)
    assert told[0].spread <= SPREAD
    assert told[0].pixels[1:].min() > 200 * 2, "not by showing next to nothing"


def test_a_binary_set_is_balanced() -> None:
    binary = [(surface, (truth == 2).astype(np.uint8)) for surface, truth in WEBS]
    _, truth = ResampledPatches(binary, 2, 32, 0, "class_in_half", 80).draw(80)
    assert (truth == 1).any(axis=(1, 2)).sum() == 40


def test_a_sampler_goes_on_where_it_stood() -> None:
    for scheme in set(SCHEMES) - {"class_in_half"}:
        first = ResampledPatches(WEBS, 5, 32, 9, scheme, 12)
        first.draw(29)
        second = ResampledPatches(WEBS, 5, 32, 1, scheme, 12)
        second.restore(first.state)
        for one, other in zip(first.draw(20), second.draw(20), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_composition_says_what_a_set_holds() -> None:
    text = Composition("equal_samples", 8, np.array([8, 4]), np.array([750, 250])).text(["background", "dent"])
    assert text.splitlines()[-1].split() == ["dent", "4", "50", "250", "25"]


@pytest.mark.parametrize(
    ("patch", "classes", "says"), [(300, 5, "too small for patches of 300"), (32, 6, "class 5 never occurs")]
)
def test_webs_that_cannot_be_resampled_are_refused(patch: int, classes: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Centres(WEBS, classes, patch)
