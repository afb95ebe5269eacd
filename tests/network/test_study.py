"""The study of class imbalance: every model by name, on the same webs, gone on with where it stopped."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import msgspec
import numpy as np
import pytest
import torch

from calibration.network.checkpoint import load_checkpoint
from calibration.network.datasets.dataset import DatasetError
from calibration.network.metrics import confusion_matrix, score, stability_iterations
from calibration.network.sampling import Web
from calibration.network.study import models as study_models
from calibration.network.study import run as study_run
from calibration.network.study.models import Model
from calibration.network.study.page import three_way
from calibration.network.study.recipes import NAMES, RECIPES, chosen, published_mean
from calibration.network.study.results import ModelResult, Settings
from calibration.network.study.run import study
from calibration.network.study.wording import mean_text, table_text, verdict
from calibration.network.unet import UNet
from edge.core.errors import ConfigError, ModelError
from edge.service.pictures import palette

SETTINGS = Settings(
    iterations=20,
    features=2,
    webs=2,
    validation_webs=1,
    unseen_webs=2,
    length_mm=0.0,
    width_px=0,
    batch=2,
    patch=16,
    refresh=6,
    trainings=1,
    seed=1,
    channels=("normal_x", "normal_y", "albedo"),
    generator="toy webs",
)


def toy_web(seed: int) -> Web:
    """Squares of four classes, each with an albedo of its own."""
    random = np.random.default_rng(seed)
    truth = np.zeros((80, 96), np.uint8)
    for k in (1, 2, 3, 4):
        for _ in range(6):
            row, column = random.integers(70, size=2)
            truth[row : row + 4 + k, column : column + 9 - k] = k
    surface = random.normal(0, 0.1, (3, 80, 96)).astype(np.float32)
    surface[2] += truth
    return surface, truth


@pytest.fixture(autouse=True)
def toy_webs(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """Webs that need no rendering; gives the seeds that were asked for."""
    asked: list[range] = []

    def webs(seeds: range, *_: object) -> list[Web]:
        asked.append(seeds)
        return [toy_web(seed) for seed in seeds]

    monkeypatch.setattr(study_run, "render_webs", webs)
    monkeypatch.setattr(study_models, "THREADS", 1)
    monkeypatch.setattr("calibration.network.train.THREADS", 1)
    return asked


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ModelResult]]:
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_run, "render_webs", lambda seeds, *_: [toy_web(seed) for seed in seeds])
        patch.setattr(study_models, "THREADS", 1)
        patch.setattr("calibration.network.train.THREADS", 1)
        settings = msgspec.structs.replace(SETTINGS, iterations=4)
        return folder, study(NAMES, settings, folder)


def test_every_model_of_the_thesis_and_ours_is_trained_and_judged(whole: tuple[Path, list[ModelResult]]) -> None:
    folder, results = whole
    assert [result.name for result in results] == [*RECIPES, "ours"]
    assert len(RECIPES) == 13
    for result in results:
        networks = 4 if result.name.startswith("binary") else 1
        assert len(list(folder.glob(f"{result.name}-1-*.pt"))) == networks, "what is left is the model itself"
        assert [int(at) for at in result.trainings[0].snapshots] == stability_iterations(4)
        assert np.sum(result.scores.confusion) == 2 * 80 * 96
        assert (folder / "pictures" / f"{result.name}.png").stat().st_size > 0
        assert len(result.trainings[0].composition) == (0 if result.name == "ours" else networks)
    assert load_checkpoint(folder / "ours-1-0-at-4.pt").shape == (3, 5, 2)


def test_the_figures_are_written_and_printed_beside_the_thesis(whole: tuple[Path, list[ModelResult]]) -> None:
    folder, results = whole
    written = json.loads((folder / "study.json").read_bytes())
    assert [model["name"] for model in written["models"]] == list(NAMES)
    text = table_text(results, msgspec.structs.replace(SETTINGS, iterations=4))
    baseline = next(line for line in text.splitlines() if line.startswith("baseline"))
    assert [float(value) for value in baseline.split()[-2:]] == pytest.approx([53.4125, 0.355], abs=0.001)
    assert "4 iterations instead of the thesis's 10,000" in text
    page = (folder / "study.html").read_text()
    for name in NAMES:
        assert f"pictures/{name}.png" in page
    assert page.count("<svg") == 3
    assert "4 iterations instead" in page


def test_the_published_means_are_those_of_the_table() -> None:
    assert published_mean("baseline") == pytest.approx((0.534125, 0.00355), abs=1e-6)
    assert published_mean("focal") is None


def test_the_models_of_a_study_are_trained_on_the_same_webs_and_judged_on_others(
    tmp_path: Path, toy_webs: list[range]
) -> None:
    study(["baseline"], msgspec.structs.replace(SETTINGS, iterations=1), tmp_path)
    assert [len(seeds) for seeds in toy_webs] == [2, 1, 2]
    assert len({seed for seeds in toy_webs for seed in seeds}) == 5


def interrupted_at(monkeypatch: pytest.MonkeyPatch, name: str, iteration: int) -> None:
    keep = study_models._keep_snapshots

    def stop(iterations: int, place: study_models.Place, number: int) -> study_models.AfterStep:
        inner = keep(iterations, place, number)

        def after(at: int, network: UNet) -> None:
            inner(at, network)
            if (place.name, at) == (name, iteration):
                raise KeyboardInterrupt

        return after

    monkeypatch.setattr(study_models, "_keep_snapshots", stop)


def test_a_study_that_was_stopped_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["focal", "equal_samples", "ours"]
    for stopped in ("equal_samples-1", "ours-1"):
        with monkeypatch.context() as patch:
            interrupted_at(patch, stopped, 17)
            with pytest.raises(KeyboardInterrupt):
                study(names, SETTINGS, tmp_path / "torn")
    steps: list[int] = []
    step = study_models.Training.step
    with monkeypatch.context() as patch:
        patch.setattr(study_models.Training, "step", lambda self: steps.append(self.iteration) or step(self))
        resumed = study(names, SETTINGS, tmp_path / "torn")
    assert steps == [17, 18, 19], "only what was missing of ours"
    assert resumed == study(names, SETTINGS, tmp_path / "whole")


def test_stability_over_trainings_needs_several(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, trainings=2)
    (result,) = study(["wce_iscf"], settings, tmp_path)
    first, second = (training.scores.mean.tpr for training in result.trainings)
    assert first != second, "trainings have seeds of their own"
    assert result.psomt("tpr") == pytest.approx(np.std([first, second]))
    assert result.psoi("tpr") == pytest.approx(
        np.std([each.mean.tpr for each in result.trainings[0].snapshots.values()])
    )


def test_a_mean_over_fewer_classes_says_so() -> None:
    truth, called = np.array([[1, 2, 0, 0]], np.uint8), np.array([[1, 0, 1, 0]], np.uint8)
    scores = score([confusion_matrix(truth, called, 3)], ["good", "dent", "scratch"])
    assert mean_text(scores, "precision") == "50.000 of 1"
    assert mean_text(scores, "tpr") == "50.000"


def fixed(p: Sequence[float]) -> UNet:
    """A network that gives the same probabilities everywhere."""
    network = UNet(1, len(p), 1)
    torch.nn.init.zeros_(network.final.weight)
    network.final.bias.data = torch.tensor(p).log()
    return network.eval()


@pytest.mark.parametrize(
    ("model", "called"),
    [
        (Model([fixed([0.3, 0.3, 0.4])]), 2),
        (Model([fixed([0.5, 0.3, 0.2])], [0.25, 0.3]), 1),
        (Model([fixed([0.3, 0.3, 0.4])], [0.35, 0.45]), 0),
        (Model([fixed([0.4, 0.6]), fixed([0.2, 0.8])]), 2),
        (Model([fixed([0.6, 0.4]), fixed([0.8, 0.2])]), 0),
    ],
)
def test_a_model_decides_by_the_most_probable_the_thresholds_or_the_surest_network(model: Model, called: int) -> None:
    assert (model.class_map(np.zeros((1, 20, 24), np.float32)) == called).all()


def test_the_picture_shows_surface_truth_and_what_was_called() -> None:
    web = toy_web(5)
    called = np.roll(web[1], 3, axis=0)
    picture = three_way(web, called, (slice(8, 40), slice(4, 36)), 5)
    assert picture.shape == (32, 3 * 32 + 8, 3)
    np.testing.assert_array_equal(picture[:, 36:68], palette(5)[web[1][8:40, 4:36]])
    np.testing.assert_array_equal(picture[:, 72:], palette(5)[called[8:40, 4:36]])


def test_the_verdict_is_given_where_both_were_trained(whole: tuple[Path, list[ModelResult]]) -> None:
    _, results = whole
    told = verdict(results)
    assert told is not None
    best = max(result.scores.mean.tpr or 0 for result in results[:-1])
    ours = results[-1].scores.mean.tpr or 0
    assert f"mean TPR above all: {'yes' if ours > best else 'no'}" in told
    assert verdict(results[1:]) is None


def test_what_cannot_be_studied_is_refused_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--models: there is no 'focol': choose of baseline, .*ours"):
        chosen("baseline,focol")
    short = msgspec.structs.replace(SETTINGS, iterations=1)
    study(["baseline"], short, tmp_path)
    with pytest.raises(ConfigError, match="holds a study with other settings"):
        study(["baseline"], SETTINGS, tmp_path)
    (tmp_path / "baseline-1.json").write_text("{")
    with pytest.raises(ModelError, match=r"baseline-1\.json: not a result of this study"):
        study(["baseline"], short, tmp_path)
    with pytest.raises(ConfigError, match="a patch of 20 pixels: must be a multiple of 16"):
        study(["baseline"], msgspec.structs.replace(SETTINGS, patch=20), tmp_path / "other")
    monkeypatch.setattr(
        study_run, "render_webs", lambda seeds, *_: [(web[0], np.minimum(web[1], 2)) for web in map(toy_web, seeds)]
    )
    with pytest.raises(DatasetError, match="training webs: holds no pixel of cavity, blade_trail"):
        study(["baseline"], SETTINGS, tmp_path / "third")


def test_the_command_studies_rendered_webs(tmp_path: Path, foilsight: Callable[..., CompletedProcess[str]]) -> None:
    size = "--iterations 2 --features 2 --batch 2 --patch 64 --refresh 2 --length-mm 40 --width-px 512"
    webs = "--webs 1 --validation-webs 1 --unseen-webs 1 --models equal_pixels"
    done = foilsight("study", tmp_path / "out", *size.split(), *webs.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[0] == "equal_pixels"
    assert "equal_pixels: 4 patches" in done.stderr
    assert cv2.imread(str(tmp_path / "out" / "pictures" / "equal_pixels.png")) is not None
    refused = foilsight("study", tmp_path / "new", "--models", "u-net")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
