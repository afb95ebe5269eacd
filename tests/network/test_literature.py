"""Systems of the literature: every one by name from data to figures, and what is refused on the way."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from calibration.network.checkpoint import load_network
from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.datasets.opening import open_dataset
from calibration.network.datasets.run_length import decode
from calibration.network.fitting import Training
from calibration.network.literature import run as literature_run
from calibration.network.literature.commands import predict
from calibration.network.literature.crops import Crops
from calibration.network.literature.curves import NAMES, curves, figures_at
from calibration.network.literature.detector import Detector, load_detector
from calibration.network.literature.images import Images, survey
from calibration.network.literature.judging import FALSE, FOUND, MISSED, judge, judgement_text, right_and_wrong
from calibration.network.literature.recipes import RECIPES, Recipe, recipe_of
from calibration.network.literature.run import train
from calibration.network.losses import BceDice
from calibration.network.networks.table import build
from calibration.network.thresholds import THRESHOLDS, ThresholdCounts
from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32, U8

CLASSES = ("good", "dent", "scratch")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(literature_run, "THREADS", 1)


def image(seed: int, side: int = 64) -> tuple[F32, U8]:
    """Dark on the left; every third image is clean, the others have two bright dents and two dark scratches."""
    random = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    if seed % 3:
        for k in (1, 1, 2, 2):
            row, column = random.integers(side // 3, side - 8, size=2)
            mask[row : row + 8, column : column + 8] = k
    gray = random.normal(0.5, 0.02, (side, side)) + np.array([0, 0.3, -0.3])[mask]
    gray[:, : side // 4] = 0.01
    return gray[None].astype(np.float32), mask


def toy(seeds: range, load: Callable[[int], tuple[F32, U8]] = image, name: str = "toy") -> Dataset:
    entries = [Entry(Meta(f"{seed}.png", f"{name} {seed}"), partial(load, seed)) for seed in seeds]
    return Dataset(name, CLASSES, ("gray",), entries)


TRAINING, VALIDATION = toy(range(6)), toy(range(100, 104))


def small(name: str, **changes: object) -> Recipe:
    recipe = recipe_of(name)
    return replace(recipe, narrow=8, batch=2, crop=recipe.crop and 32, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECIPES)
def test_every_system_runs_by_name_from_data_to_figures(name: str, tmp_path: Path) -> None:
    judgement = train(small(name), TRAINING, VALIDATION, tmp_path, iterations=2, seed=1)
    two_steps = RECIPES[name].classifier is not None
    assert {path.name for path in tmp_path.iterdir()} == {
        "network.pt",
        "judgement.json",
        "curves-dent.png",
        "curves-scratch.png",
        "pictures",
        *(["classifier.pt"] if two_steps else []),
    }
    assert json.loads((tmp_path / "judgement.json").read_bytes())["mean_dice"] == judgement.mean_dice
    assert np.sum(judgement.scores.confusion) == 4 * 64 * 64
    assert (judgement.clean_images is not None) == two_steps
    if judgement.clean_images is not None:
        assert np.sum(judgement.clean_images, axis=1).tolist() == [1, 3], "one image in the validation data is clean"
    network, about = load_network(tmp_path / "network.pt")
    assert (network.architecture, about["recipe"]) == (RECIPES[name].network, name)
    loaded = load_detector(tmp_path)
    assert judge(loaded, VALIDATION, tmp_path / "again") == judgement, "what was saved is what was judged"
    assert "Dice, mean over 4 images" in judgement_text(judgement)


def test_a_system_learns_and_a_second_training_begins_where_the_first_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(small("itwm_unet"), TRAINING, VALIDATION, tmp_path / "synthetic", iterations=250, seed=1)
    assert min(at.f1 or 0 for at in first.figures.values()) > 0.5
    darker = toy(range(6), lambda seed: (image(seed)[0] * np.float32(0.8), image(seed)[1]), "real")
    losses: list[float] = []
    step = Training.step
    monkeypatch.setattr(Training, "step", lambda self: losses.append(step(self)) or losses[-1])
    begun = partial(train, small("itwm_unet"), darker, VALIDATION, iterations=1, seed=2)
    begun(tmp_path / "anew")
    begun(tmp_path / "tuned", weights=tmp_path / "synthetic")
    assert losses[1] < 0.5 * losses[0]
    network, _ = load_network(tmp_path / "tuned" / "network.pt")
    assert network.mean.item() == pytest.approx(survey(Images(darker)).mean[0]), "normalised by its own data"


def test_a_training_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    step = Training.step

    def counted(self: Training[nn.Module]) -> float:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Training, "step", counted)
    again = partial(train, small("severstal"), TRAINING, VALIDATION, iterations=3, seed=1)
    with pytest.raises(KeyboardInterrupt):
        again(tmp_path / "torn")
    resumed = again(tmp_path / "torn")
    assert steps == 3 + 1 + 3, "the classifier was not trained a second time"
    assert resumed == again(tmp_path / "whole")
    with pytest.raises(ConfigError, match="torn: holds a trained network"):
        again(tmp_path / "torn")


def test_a_network_behind_a_classifier_learns_from_images_with_defects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[bool, list[int]] = {}

    def crops(*given: object, indices: list[int], whole_image: bool, **options: object) -> Crops:
        asked[whole_image] = list(indices)
        return Crops(*given, indices=indices, whole_image=whole_image, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(literature_run, "Crops", crops)
    train(small("severstal"), TRAINING, VALIDATION, tmp_path / "two", iterations=1, seed=1)
    assert asked == {True: [0, 1, 2, 3, 4, 5], False: [1, 2, 4, 5]}
    train(small("severstal_one_step"), TRAINING, VALIDATION, tmp_path / "one", iterations=1, seed=1)
    assert asked[False] == [0, 1, 2, 3, 4, 5]


def crops_of(dataset: Dataset, recipe: Recipe, **options: object) -> Crops:
    images = Images(dataset)
    given = {"grid": 8, "seed": 3, "indices": range(len(dataset)), **options}
    return Crops(images, survey(images), recipe, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, 5, 20, 100])
def test_crops_are_brighter_than_their_limit_and_mirrored_with_their_truth(limit: float) -> None:
    drawn, truth = crops_of(TRAINING, Recipe("r", "fcn", crop=16, least_intensity=limit, mirrored=True)).draw(200)
    assert drawn.shape == (200, 1, 16, 16)
    brightness = drawn.mean(axis=(1, 2, 3)) * 255
    assert brightness.min() > limit
    assert (brightness < 4).any() == (limit == 0), "without a limit the dark side is drawn too"
    assert (drawn[:, 0][truth == 1] > 0.6).all()
    assert (drawn[:, 0][truth == 2] < 0.35).all()


def test_a_crop_that_cannot_be_found_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"toy: no crop of 16 x 16 pixels in \d+ has a mean intensity above 200 of 255"
    ):
        crops_of(TRAINING, Recipe("r", "fcn", crop=16, least_intensity=200)).draw(1)


def test_whole_images_and_their_truth_as_one_number() -> None:
    drawn, truth = crops_of(TRAINING, Recipe("r", "resnet50"), indices=[0, 1], whole_image=True).draw(20)
    assert drawn.shape == (20, 1, 64, 64)
    assert set(truth.tolist()) == {0, 1}
    clean = image(0)[0]
    assert all((truth[at] == 0) == np.array_equal(drawn[at], clean) for at in range(20))


def test_brightness_changes_by_its_share_and_leaves_normals_alone() -> None:
    flat = np.full((2, 16, 16), 0.5, np.float32), np.zeros((16, 16), np.uint8)
    dataset = Dataset("web", CLASSES, ("normal_x", "albedo"), [Entry(Meta("a", "a"), lambda: flat)])
    drawn, _ = crops_of(dataset, Recipe("r", "fcn", brightness=0.2)).draw(100)
    assert (drawn[:, 0] == 0.5).all()
    assert 0.4 <= drawn[:, 1].min() < 0.42
    assert 0.58 < drawn[:, 1].max() <= 0.6
    assert (flat[0] == 0.5).all(), "the image itself is not changed"


def test_a_mirrored_dome_is_a_dome() -> None:
    ramp = np.broadcast_to(np.arange(-7.5, 8, dtype=np.float32), (16, 16))
    dome = np.stack([ramp, ramp.T]), np.zeros((16, 16), np.uint8)
    dataset = Dataset("web", CLASSES, ("normal_x", "normal_y"), [Entry(Meta("a", "a"), lambda: dome)])
    drawn, _ = crops_of(dataset, Recipe("r", "fcn", mirrored=True)).draw(20)
    assert (drawn == dome[0]).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"crop": 20}, "a patch of 20 pixels: must be a multiple of 8"),
        ({"crop": 128}, "toy: an image of 64 x 64 holds no crop of 128 pixels"),
    ],
)
def test_crops_that_do_not_fit_are_refused(change: dict[str, int], says: str) -> None:
    with pytest.raises((ConfigError, DatasetError), match=says):
        crops_of(TRAINING, Recipe("r", "fcn", **change))  # type: ignore[arg-type]


def test_whole_images_must_be_of_one_size_on_the_grid() -> None:
    several = toy(range(2), lambda seed: image(seed, 64 + 8 * seed))
    with pytest.raises(DatasetError, match="images of several sizes"):
        crops_of(several, Recipe("r", "fcn"))
    with pytest.raises(DatasetError, match="images of 72 x 72, not multiples of 32: give the side of a --crop"):
        crops_of(toy(range(2), lambda seed: image(seed, 72)), Recipe("r", "elu_unet"), grid=32)


def test_what_cannot_be_trained_is_refused_in_a_line(tmp_path: Path) -> None:
    def refused(says: str, recipe: Recipe, training: Dataset = TRAINING, validation: Dataset = VALIDATION) -> None:
        with pytest.raises((ConfigError, DatasetError), match=says) as no:
            train(recipe, training, validation, tmp_path, iterations=1, seed=1)
        assert "\n" not in str(no.value)

    refused("toy: no image holds a defect", small("itwm_fcn"), toy(range(0, 6, 3)))
    refused("every image has a defect", small("severstal"), toy(range(1, 3)))
    refused("pools whole images, .* --batch of 2", replace(small("car_parts"), batch=1))
    refused("--narrow 7: must divide the 64 of fcn", replace(small("itwm_fcn"), narrow=7))
    refused("they must be the same", small("itwm_fcn"), validation=replace(VALIDATION, classes=("good", "dent", "x")))
    with pytest.raises(ConfigError, match="there is no recipe 'vgg': choose of itwm_fcn"):
        recipe_of("vgg")
    with pytest.raises(ConfigError, match="elu_unet has no ResNet-50"):
        out, file = tmp_path / "elu", tmp_path / "resnet50.pth"
        train(small("severstal_one_step"), TRAINING, VALIDATION, out, iterations=1, seed=1, weights=file)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/out: cannot be made \(Not a directory\)"):
        train(small("itwm_fcn"), TRAINING, VALIDATION, tmp_path / "file" / "out", iterations=1, seed=1)
    with pytest.raises(ModelError, match=r"network\.pt: checkpoint cannot be read"):
        load_detector(tmp_path)


def test_bce_dice_is_cross_entropy_and_dice_of_the_defects() -> None:
    torch.manual_seed(1)
    logits, truth = torch.randn(2, 2, 4, 5), torch.randint(0, 3, (2, 4, 5))
    wanted = torch.stack([truth == 1, truth == 2], dim=1).double()
    p = logits.double().sigmoid()
    entropy = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()
    dice = (2 * (p * wanted).sum() + 1) / (p.sum() + wanted.sum() + 1)
    assert BceDice()(logits, truth).item() == pytest.approx((entropy + 1 - dice).item(), rel=1e-5)
    sure = torch.full((1, 2, 4, 5), -50.0)
    assert BceDice()(sure, torch.zeros(1, 4, 5, dtype=torch.int64)).item() == pytest.approx(0, abs=1e-6)


def test_curves_are_what_counting_at_each_threshold_says() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 3, (30, 30)).astype(np.uint8)
    p = np.stack([np.clip(random.normal(0.3 + 0.4 * (truth == k), 0.2), 0, 1) for k in (1, 2)]).astype(np.float32)
    counts = ThresholdCounts(2)
    counts.add(p, truth)
    found = curves(counts)
    for at in (20, 99, 160):
        yes, defect = p[0] >= THRESHOLDS[at], truth == 1
        tp, fp, fn = (yes & defect).sum(), (yes & ~defect).sum(), (~yes & defect).sum()
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        wanted = [
            (yes == defect).mean(),
            precision,
            recall,
            2 * precision * recall / (precision + recall),
            5 * precision * recall / (4 * precision + recall),
        ]
        np.testing.assert_allclose(found[0, :, at], wanted, rtol=1e-12)
    best = counts.best_thresholds()[0]
    f1 = found[0, NAMES.index("f1")]
    assert f1[np.abs(THRESHOLDS - best).argmin()] > f1.max() - 2e-3
    assert figures_at(found[0], 0.5).f1 == f1[99]
    empty = ThresholdCounts(1)
    empty.add(np.zeros((1, 2, 2), np.float32), np.zeros((2, 2), np.uint8))
    assert empty.best_thresholds() == [0.5]
    assert figures_at(curves(empty)[0], 0.5).recall is None


def test_the_picture_is_green_where_found_red_where_false_and_blue_where_missed() -> None:
    truth = np.array([[1, 1, 0, 0, 2]], np.uint8)
    called = np.array([[1, 0, 1, 0, 1]], np.uint8)
    picture = right_and_wrong(np.full((1, 5), 100, np.uint8), truth, called)
    strongest = picture[0].argmax(axis=1)
    assert [strongest[at] for at in (0, 1, 2, 4)] == [np.argmax(each) for each in (FOUND, MISSED, FALSE, FALSE)]
    assert picture[0, 3].tolist() == [100] * 3


class Fixed(nn.Module):
    """A network that gives the same logits everywhere, or of the whole image."""

    def __init__(self, architecture: str, logits: list[float], whole: bool = False) -> None:
        super().__init__()
        self.architecture, self.whole = architecture, whole
        self.logits = nn.Parameter(torch.tensor(logits), requires_grad=False)

    def forward(self, surface: torch.Tensor) -> torch.Tensor:
        if self.whole:
            return self.logits[None].expand(len(surface), -1)
        return self.logits[None, :, None, None].expand(len(surface), -1, *surface.shape[2:])


def detector(clean: float | None, thresholds: tuple[float, ...] = (0.5, 0.5)) -> Detector:
    classifier = None if clean is None else Fixed("resnet50", [clean, 0.0], whole=True)
    return Detector("r", CLASSES, ("gray",), Fixed("elu_unet", [0.2, 1.0]), classifier, thresholds)


def test_an_image_the_classifier_calls_clean_has_no_defect_and_its_empty_dice_is_1(tmp_path: Path) -> None:
    seen = image(0)[0]
    for clean, called in ((1.0, 0), (-1.0, 2), (None, 2)):
        is_clean, p = detector(clean).ask(seen)
        assert is_clean == (clean == 1.0)
        assert (detector(clean).classes_of(p) == called).all()
    _, p = detector(None).ask(seen)
    np.testing.assert_allclose(p[:, 0, 0], [1 / (1 + np.exp(-0.2)), 1 / (1 + np.exp(-1))], rtol=1e-6)
    assert (detector(None, (0.5, 0.8)).classes_of(p) == 1).all(), "the most probable of those that reach theirs"
    clean_only = toy(range(0, 6, 3))
    gated = judge(detector(1.0), clean_only, tmp_path)
    assert (gated.mean_dice, gated.clean_images) == (1.0, [[2, 0], [0, 0]])
    open_ = judge(detector(-1.0), clean_only, tmp_path)
    assert (open_.dice, open_.clean_images) == ({"dent": 1.0, "scratch": 0.0}, [[0, 2], [0, 0]])


def folder_of(root: Path, brightness: int, mask: U8 | None = None, name: str = "a.png") -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    (root / "classes.toml").write_text('[[class]]\nlabel = "good"\n[[class]]\nlabel = "dent"\n')
    mask = np.eye(4, dtype=np.uint8) if mask is None else mask
    cv2.imwrite(str(root / "images" / name), np.full((4, 4), brightness, np.uint8))
    cv2.imwrite(str(root / "masks" / name), mask)
    return root


def test_exposures_are_stacked_as_channels_by_one_word(tmp_path: Path) -> None:
    paths = [folder_of(tmp_path / str(level), level) for level in (51, 102, 204)]
    dataset = open_dataset("+".join(map(str, paths)))
    (sample,) = dataset
    assert dataset.channels == ("gray 1", "gray 2", "gray 3")
    np.testing.assert_allclose(sample.image.mean(axis=(1, 2)), [0.2, 0.4, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(sample.mask, np.eye(4))
    other = folder_of(tmp_path / "other", 9, np.zeros((4, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"other, a\.png: its mask is another than in 51"):
        open_dataset(f"{paths[0]}+{other}")[0]
    folder_of(tmp_path / "more", 9, name="b.png")
    with pytest.raises(DatasetError, match=r"more and 51 hold different images \((a|b)\.png\)"):
        open_dataset(f"{paths[0]}+{tmp_path / 'more'}")


def test_predictions_are_run_lengths_of_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = build("elu_unet", 1, 3, 1)
    Detector("severstal", CLASSES, ("gray",), network, None, (0.5, 0.4)).save(tmp_path)
    pixels = np.random.default_rng(1).integers(0, 255, (40, 70), np.uint8)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), pixels)
    assert predict(tmp_path, tmp_path / "images", out=tmp_path / "p.csv") == 0
    loaded = load_detector(tmp_path)
    called = loaded.classes_of(loaded.ask(pixels[None].astype(np.float32) / np.float32(255))[1])
    assert called.shape == (40, 70)
    head, *rows = (tmp_path / "p.csv").read_text().splitlines()
    assert head == "ImageId,ClassId,EncodedPixels"
    assert [row.split(",")[1] for row in rows] == [str(k) for k in np.unique(called) if k]
    for row in rows:
        name, k, runs = row.split(",")
        assert name == "a.png"
        np.testing.assert_array_equal(decode(runs, (40, 70)), called == int(k))


def test_the_commands_train_evaluate_and_refuse(
    tmp_path: Path, foilsight: Callable[..., CompletedProcess[str]]
) -> None:
    for seed in range(4):
        pixels, mask = image(seed)
        for part, picture in (("images", (pixels[0] * 255).clip(0, 255).astype(np.uint8)), ("masks", mask)):
            (tmp_path / "data" / part).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(tmp_path / "data" / part / f"{seed}.png"), picture)
    (tmp_path / "data" / "classes.toml").write_text("".join(f'[[class]]\nlabel = "{label}"\n' for label in CLASSES))
    size = ["--iterations", "2", "--narrow", "8", "--crop", "32", "--batch", "2"]
    train_it = ("literature", "train", "car_parts", "--data", tmp_path / "data", "--out", tmp_path / "out", *size)
    done = foilsight(*train_it)
    assert done.returncode == 0, done.stderr
    assert "dent" in done.stdout
    done = foilsight("literature", "evaluate", tmp_path / "out", tmp_path / "data", "--out", tmp_path / "e", "--json")
    assert json.loads(done.stdout)["images"] == 4
    refused = foilsight(*train_it)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
