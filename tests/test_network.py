"""Training, thresholds and export of the network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from calibration.network.checkpoint import load_checkpoint, save_checkpoint
from calibration.network.export import export
from calibration.network.fitting import Progress, TrainingError
from calibration.network.losses import FocalLoss, inverse_square_root_frequency
from calibration.network.sampling import PatchSampler, Web
from calibration.network.thresholds import choose_thresholds, probabilities
from calibration.network.train import take_weights, train
from calibration.network.unet import GRID, HALO, UNet
from edge.core.errors import ConfigError, ModelError
from edge.segmentation.model import ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend

CHANNELS = ["normal_x", "normal_y", "normal_z"]
LABELS = ["background", "bump", "dent", "never there"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks spend their time waiting for a second thread where others use the machine too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.network.train.THREADS", 1)
        yield


def toy_web(seed: int, rows: int = 160, width: int = 144) -> Web:
    """A flat web with square domes of class 1 (outward slopes) and pits of class 2 (inward slopes)."""
    random = np.random.default_rng(seed)
    normals = random.normal([0, 0, 1], 0.02, (rows, width, 3)).astype(np.float32).transpose(2, 0, 1)
    truth = np.zeros((rows, width), np.uint8)
    slope = np.linspace(-0.8, 0.8, 13)
    for number in range(14):
        row, column = (int(random.integers(size - 13)) for size in (rows, width))
        sign = 1 if number % 2 else -1
        here = (slice(row, row + 13), slice(column, column + 13))
        normals[0][here], normals[1][here] = sign * slope, sign * slope[:, None]
        truth[here] = 1 if number % 2 else 2
    return np.ascontiguousarray(normals / np.linalg.norm(normals, axis=0)), truth


def train_toy(
    progress: Callable[[Progress], None], iterations: int = 50, checkpoint: Path | None = None, **options: Any
) -> UNet:
    return train(
        [toy_web(1), toy_web(2)],
        labels=LABELS,
        channels=CHANNELS,
        features=4,
        iterations=iterations,
        batch=4,
        patch=64,
        seed=11,
        validation=[toy_web(3)],
        checkpoint=checkpoint,
        progress=progress,
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[UNet, list[Progress], Path]:
    path = tmp_path_factory.mktemp("training") / "toy.pt"
    reports: list[Progress] = []
    return train_toy(reports.append, checkpoint=path), reports, path


def test_training_learns_to_tell_domes_from_pits(trained: tuple[UNet, list[Progress], Path]) -> None:
    network, reports, _ = trained
    assert [report.iteration for report in reports] == [20, 40, 50]
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert min(reports[-1].f1["bump"], reports[-1].f1["dent"]) > 0.35
    assert not network.training


def test_training_is_repeatable() -> None:
    once, again = (train_toy(lambda _: None, iterations=4).state_dict().values() for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))


def test_a_checkpoint_is_the_network(trained: tuple[UNet, list[Progress], Path], tmp_path: Path) -> None:
    network, _, path = trained
    loaded = load_checkpoint(path)
    assert loaded.shape == network.shape
    assert not loaded.training
    for one, other in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    torn = tmp_path / "torn.pt"
    torn.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"torn\.pt: not a checkpoint"):
        load_checkpoint(torn)
    with pytest.raises(ModelError, match=r"gone\.pt: checkpoint cannot be read"):
        load_checkpoint(tmp_path / "gone.pt")


def test_an_interrupted_training_gives_what_it_has(tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "broken.pt"
    network = train_toy(interrupt, iterations=1000, checkpoint=path)
    assert not network.training
    assert torch.equal(load_checkpoint(path).final.weight, network.final.weight)


def test_a_resumed_training_is_the_one_that_was_not_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "torn.pt"

    def stop(iteration: int, _: UNet) -> None:
        if iteration == 17:
            raise KeyboardInterrupt

    whole = train_toy(lambda _: None, iterations=30)
    train_toy(lambda _: None, iterations=30, checkpoint=path, after_step=stop)
    steps: list[int] = []
    resumed = train_toy(
        lambda _: None, iterations=30, checkpoint=path, resume=True, after_step=lambda at, _: steps.append(at)
    )
    assert steps == list(range(18, 31))
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_training_is_resumed_with_its_own_settings_only(tmp_path: Path) -> None:
    path = tmp_path / "toy.pt"
    train_toy(lambda _: None, iterations=2, checkpoint=path)
    with pytest.raises(ModelError, match=r"toy\.pt: of another training \(.*iterations 2,.*this one is .*iterations 3"):
        train_toy(lambda _: None, iterations=3, checkpoint=path, resume=True)
    save_checkpoint(load_checkpoint(path), path)
    with pytest.raises(ModelError, match="holds a network but no training to resume"):
        train_toy(lambda _: None, iterations=2, checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="not a checkpoint"):
        train_toy(lambda _: None, iterations=2, checkpoint=path, resume=True)


def test_a_training_that_starts_from_a_network_has_its_knowledge(trained: tuple[UNet, list[Progress], Path]) -> None:
    network, _, _ = trained
    first_steps: list[Progress] = []
    train_toy(first_steps.append, iterations=1)
    further = train_toy(first_steps.append, iterations=1, start=network)
    anew, started = (step.loss for step in first_steps)
    assert started < 0.5 * anew
    assert torch.equal(further.mean, network.mean)


def test_a_network_of_other_classes_starts_with_all_but_the_last_layer(
    trained: tuple[UNet, list[Progress], Path],
) -> None:
    network, _, _ = trained
    other = UNet(len(CHANNELS), 2, 4)
    last = other.final.weight.clone()
    take_weights(other, network)
    theirs = network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in other.state_dict().items() if "final" not in name)
    assert torch.equal(other.final.weight, last)
    with pytest.raises(ModelError, match=r"a unet of 3 channels and 8 features cannot start from a unet of 3 .* 4 fe"):
        take_weights(UNet(len(CHANNELS), 2, 8), network)


@pytest.mark.parametrize("poison", ["loss", "weights"])
def test_a_loss_that_is_no_number_ends_the_training_and_keeps_the_last_checkpoint(
    poison: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibration.network.fitting.CHECKPOINT_EVERY", 5)
    path = tmp_path / "toy.pt"

    def spoil(iteration: int, network: UNet) -> None:
        if poison == "loss" and iteration == 8:
            network.final.bias.data.fill_(np.nan)
        if poison == "weights" and iteration == 10:
            network.final.bias.data.fill_(np.inf)

    with pytest.raises(
        TrainingError, match=r"not a number at iteration \d+; .*toy\.pt is kept as of iteration 5"
    ) as no:
        train_toy(lambda _: None, iterations=30, checkpoint=path, after_step=spoil)
    assert "\n" not in str(no.value)
    assert torch.isfinite(load_checkpoint(path).final.bias).all()
    steps: list[int] = []
    train_toy(lambda _: None, iterations=30, checkpoint=path, resume=True, after_step=lambda at, _: steps.append(at))
    assert steps == list(range(6, 31))


def normals_of(height: np.ndarray) -> np.ndarray:
    """Unit normals (3, rows, columns) of a height map, by the frame's convention: along (-dh/dx, -dh/dy, 1)."""
    slope_y, slope_x = np.gradient(height)
    normals = np.stack([-slope_x, -slope_y, np.ones_like(height)])
    return (normals / np.linalg.norm(normals, axis=0)).astype(np.float32)


def test_a_mirrored_patch_is_the_surface_of_the_mirrored_web() -> None:
    y, x = np.mgrid[:64, :64]
    height = 8 * np.exp(-((x - 20) ** 2 + (y - 35) ** 2) / 200) + 0.002 * x * y
    sampler = PatchSampler([(normals_of(height), (height > 6).astype(np.uint8))], CHANNELS, 2, patch=64, seed=0)
    mirrors = [height, height[::-1], height[:, ::-1], height[::-1, ::-1]]
    drawn_mirrors = set()
    for surface, truth in zip(*sampler.draw(40), strict=True):
        fits = [
            np.allclose(surface, normals_of(mirror), atol=1e-6) and np.array_equal(truth, mirror > 6)
            for mirror in mirrors
        ]
        assert sum(fits) == 1
        drawn_mirrors.add(fits.index(True))
    assert drawn_mirrors == {0, 1, 2, 3}


def test_half_of_the_patches_hold_a_rare_class() -> None:
    surface, truth = np.zeros((3, 640, 640), np.float32), np.zeros((640, 640), np.uint8)
    truth[5:9, 600:604] = 1
    truth[300:340, 100:140] = 2
    _, drawn = PatchSampler([(surface, truth)], CHANNELS, 3, patch=64, seed=0).draw(400)
    share = [(drawn == k).any(axis=(1, 2)).mean() for k in (1, 2)]
    assert min(share) > 0.2, "a class of 16 pixels is as often shown as one of 1600"
    assert 0.4 < sum(share) < 0.65


@pytest.mark.parametrize(
    ("shape", "top", "says"),
    [
        ((3, 60, 90), 1, "smaller than a patch of 64"),
        ((2, 90, 90), 1, "does not fit 3 channels"),
        ((3, 90, 90), 7, "class 7"),
    ],
)
def test_webs_that_cannot_be_trained_on_are_refused(shape: tuple[int, int, int], top: int, says: str) -> None:
    truth = np.full(shape[1:], top, np.uint8)
    with pytest.raises(ConfigError, match=says):
        PatchSampler([(np.zeros(shape, np.float32), truth)], CHANNELS, 3, patch=64, seed=0)


def test_rare_classes_weigh_more() -> None:
    weights = inverse_square_root_frequency([10000, 100, 0, 1])
    assert weights[1] / weights[0] == pytest.approx(10)
    assert weights[3] / weights[0] == pytest.approx(100)
    assert weights[2] == 0
    assert weights.sum() / 3 == pytest.approx(1)


def test_focal_loss_is_weighted_cross_entropy_that_forgets_what_is_sure() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    weights = torch.tensor([0.5, 1.0, 1.5])
    plain = torch.nn.functional.cross_entropy(logits, truth, weight=weights, reduction="none").mean()
    assert FocalLoss(weights, gamma=0)(logits, truth) == pytest.approx(plain.item())
    sure = torch.tensor([[[[2.0]], [[0.0]]]])
    p = 1 / (1 + np.exp(-2.0))
    focal = FocalLoss(torch.ones(2))(sure, torch.zeros(1, 1, 1, dtype=torch.int64))
    assert focal.item() == pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-4)


def test_slabs_of_a_long_web_equal_the_whole(trained: tuple[UNet, list[Progress], Path]) -> None:
    network, _, _ = trained
    surface = toy_web(8, rows=1300, width=90)[0]
    padded = np.pad(surface, ((0, 0), (0, -1300 % GRID), (0, -90 % GRID)), mode="edge")
    with torch.inference_mode():
        whole = network(torch.from_numpy(padded[None])).softmax(dim=1)[0, :, :1300, :90].numpy()
    slabs = list(probabilities(network, surface))
    assert len(slabs) > 1
    assert np.abs(np.concatenate([p for _, p in slabs], axis=1) - whole).max() < 1e-5


def test_thresholds_are_where_f1_is_best() -> None:
    class Given(torch.nn.Module):
        """p(class 1) is the first channel, p(class 2) never counts."""

        shape = (3, 3, 1)
        grid, halo = GRID, HALO
        mean = torch.zeros(3)

        def forward(self, surface: torch.Tensor) -> torch.Tensor:
            p = surface[:, :1].clamp(1e-6, 1 - 1e-6)
            return torch.cat([1 - p, p, torch.full_like(p, 1e-9)], dim=1).log()

    surface, truth = np.full((3, 32, 32), 0.05, np.float32), np.zeros((32, 32), np.uint8)
    truth[:8], surface[0, :8] = 1, 0.4
    surface[0, 20:22] = 0.3
    first, second = choose_thresholds(Given(), [(surface, truth)])
    assert 0.3 < first <= 0.4
    assert second == 0.5


@pytest.fixture(scope="module")
def exported(trained: tuple[UNet, list[Progress], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "toy.onnx"
    export(trained[0], path, toy_info())
    return path


def toy_info() -> ModelInfo:
    return ModelInfo(
        classes=LABELS,
        channels=CHANNELS,
        pitch_mm=0.05,
        grid=GRID,
        halo=HALO,
        thresholds=[0.4, 0.45, 0.5],
        provenance={"made by": "tests/test_network.py", "café": "ø"},
    )


def test_an_exported_model_is_one_file_that_describes_itself(exported: Path) -> None:
    assert load_model(exported).info == toy_info()
    assert [path.name for path in exported.parent.iterdir()] == ["toy.onnx"]
    operators = {node.op_type for node in onnx.load(exported).graph.node}
    assert "BatchNormalization" not in operators


def test_an_exported_model_tells_nothing_of_the_machine_it_was_made_on(exported: Path) -> None:
    assert b"unet.py" not in exported.read_bytes()


def test_an_exported_model_decides_as_the_network(trained: tuple[UNet, list[Progress], Path], exported: Path) -> None:
    surface, _ = toy_web(9, rows=176, width=208)
    class_index, score = OpenVinoBackend(load_model(exported)).infer(surface[None])
    with torch.inference_mode():
        p = trained[0](torch.from_numpy(surface[None])).softmax(dim=1)[0].numpy()
    sure = np.where(p[1:] >= np.array([0.4, 0.45, 0.5])[:, None, None], p[1:], 0)
    wanted = np.where(sure.max(axis=0) > 0, sure.argmax(axis=0) + 1, 0)
    assert (class_index[0] == wanted).mean() > 0.9999
    assert np.bincount(wanted.ravel(), minlength=3).min() > 100
    same = class_index[0] == wanted
    p_class = np.take_along_axis(p, wanted[None], axis=0)[0]
    assert np.abs(score[0] - 255 * p_class)[same].max() <= 1


def test_a_description_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) channels and classes"):
        export(UNet(3, 2, 2), tmp_path / "other.onnx", toy_info())
