"""Training on one's own images: what is kept apart, what the model says of itself, what it is good for."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest
import torch

from calibration.network.checkpoint import load_checkpoint
from calibration.network.contrast import HALO_CELLS, LocalContrast
from calibration.network.datasets.dataset import DatasetError
from calibration.network.datasets.opening import open_dataset
from calibration.network.evaluation import classify, evaluation_of, unseen_by
from calibration.network.export import export
from calibration.network.losses import LARGE, ComponentLoss, ReducedLoss, component_weights
from calibration.network.networks.table import build
from calibration.network.own_data import network_for, train_on
from calibration.network.reliability import Reliability
from calibration.network.rendered import render_webs
from calibration.network.splitting import split_groups
from calibration.network.temperature import calibrate
from calibration.network.thresholds import choose_thresholds, probabilities
from calibration.network.train import Course
from calibration.network.training_commands import train as train_command
from calibration.network.unet import UNet
from edge.core.errors import ConfigError, ModelError
from edge.segmentation.model import ModelInfo, load_model, read_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.segmentation.windows import plan_axis

TILES = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks spend their time waiting for a second thread where others use the machine too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.network.train.THREADS", 1)
        yield


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gray photographs of TILES tiles, each taken twice, three in four with a bright spot; none is a multiple of 16."""
    folder = tmp_path_factory.mktemp("tiles")
    random = np.random.default_rng(1)
    for tile in range(TILES):
        for shot in range(2):
            mask = np.zeros((70, 90), np.uint8)
            row, column = random.integers(5, 45, 2)
            if tile % 4:
                mask[row : row + 14, column : column + 14] = 1
            image = random.normal(90 + 20 * shot, 4, mask.shape) + 70 * mask
            for kind, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                path = folder / kind / f"tile{tile}" / f"{shot}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), pixels)
    (folder / "classes.toml").write_text('[[class]]\nlabel = "good"\n[[class]]\nlabel = "spot"\n')
    return folder


@pytest.fixture(scope="module")
def trained(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "spots.onnx"
    train_on(
        str(tiles),
        None,
        (0.25, 0.25),
        out,
        Course(
            network_name=network_for(["gray"]),
            features=2,
            iterations=150,
            batch=6,
            patch=64,
            seed=3,
            checkpoint=out.with_suffix(".pt"),
            resume=False,
            start=None,
        ),
        command="foilsight train",
        false_cost=None,
        pitch_mm=0.1,
        web_channels=(),
        clean_alarms=0.0,
    )
    return out


def test_a_model_says_what_it_was_made_with_and_is_judged_on_the_rest(trained: Path, tiles: Path) -> None:
    info = read_model(trained).info
    groups = set(open_dataset(str(tiles)).groups)
    learnt, adjusted = (set(json.loads(info.provenance[key])) for key in ("trained_on", "adjusted_on"))
    held_back = set(unseen_by(info, open_dataset(str(tiles))).groups)
    assert learnt | adjusted | held_back == groups
    assert not (learnt & adjusted or learnt & held_back or adjusted & held_back)
    assert min(len(learnt), len(adjusted), len(held_back)) > 0
    assert (info.classes, info.channels) == (["good", "spot"], ["gray"])


def test_a_model_of_photographs_finds_what_it_has_not_seen(trained: Path, tiles: Path) -> None:
    model = read_model(trained)
    found = evaluation_of(model, unseen_by(model.info, open_dataset(str(tiles))))
    assert found.images == 2 * found.groups
    assert found.defect.f1 is not None
    assert found.defect.f1 > 0.6
    assert found.defect.f1 == pytest.approx(found.scores.classes["spot"].f1)
    assert found.mean_iou == pytest.approx(np.mean([each.iou for each in found.scores.classes.values()]))
    assert found.expected_calibration_error is not None
    assert found.expected_calibration_error < 0.1


def test_photographs_go_on_with_their_mirror_image_when_judged_as_when_learnt(trained: Path, tiles: Path) -> None:
    model, (photograph, _, _) = read_model(trained), open_dataset(str(tiles))[0]
    info, backend = model.info, OpenVinoBackend(read_model(trained), "f32")
    _, height, width = photograph.shape
    assert height % info.grid
    assert width % info.grid
    beyond = ((0, 0), (0, -height % info.grid), (0, -width % info.grid))
    whole = backend.infer(np.pad(photograph, beyond, mode="symmetric")[None])
    for found, wanted in zip(classify(backend, info, photograph), whole, strict=True):
        assert np.array_equal(found, wanted[0, :height, :width])
    network = load_checkpoint(trained.with_suffix(".pt"))
    p = np.concatenate([p for _, p in probabilities(network, photograph, mirrored=True)], axis=1)
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.pad(photograph, beyond, mode="symmetric")[None]))
    assert np.allclose(p, logits.softmax(dim=1)[0, :, :height, :width], atol=1e-6)


def test_the_command_reports_a_model_against_masks(
    trained: Path, tiles: Path, foilsight: Callable[..., CompletedProcess[str]]
) -> None:
    done = foilsight("evaluate", str(trained), "--data", str(tiles), "--json")
    assert done.returncode == 0, done.stderr
    assert {"tpr", "fpr", "precision", "f1", "iou"} <= set(json.loads(done.stdout)["scores"]["classes"]["spot"])
    assert "left out" in done.stderr


def test_the_images_it_was_adjusted_on_raise_no_more_alarms_than_asked(trained: Path, tiles: Path) -> None:
    model = read_model(trained)
    found = evaluation_of(model, open_dataset(str(tiles)).of_groups(json.loads(model.info.provenance["adjusted_on"])))
    assert found.clean_images > 0
    assert found.clean_images_with_alarm == float(model.info.provenance["clean_alarms"]) == 0
    assert found.scores.classes["spot"].tpr


def test_alarms_to_be_counted_on_clean_images_that_are_not_there_end_before_the_training(
    trained: Path, tiles: Path, tmp_path: Path
) -> None:
    for kind in ("images", "masks"):
        shutil.copytree(tiles / kind / "tile1", tmp_path / kind / "tile1")
    shutil.copy(tiles / "classes.toml", tmp_path)
    with pytest.raises(DatasetError, match="no clean image"):
        train_command(tmp_path / "m.onnx", data=str(tiles), validation=str(tmp_path), clean_alarms=0.05, start=trained)
    with pytest.raises(ConfigError, match="must be a share"):
        train_command(tmp_path / "m.onnx", clean_alarms=0.05)


def test_the_line_refuses_a_model_of_photographs_in_one_line(
    trained: Path, tmp_path: Path, foilsight: Callable[..., CompletedProcess[str]]
) -> None:
    with pytest.raises(ModelError, match="model wants channel 'gray' which the surface does not have"):
        load_model(trained)
    config = tmp_path / "line.toml"
    config.write_text(f'[segmentation]\nmodel = "{trained}"\n')
    done = foilsight("replay", "--config", str(config), "--report", str(tmp_path / "report"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'gray'" in done.stderr


def test_a_network_whose_pooling_ends_runs_window_by_window(tmp_path: Path) -> None:
    torch.manual_seed(1)
    image = np.random.default_rng(1).random((1, 1712, 32), np.float32)
    surface = torch.from_numpy(image[None])
    network = build("deeplabv3plus_windowed", 1, 2, 2)
    with torch.no_grad():
        for _ in range(10):
            network(surface)
        network.eval().final.weight *= 4
        network.final.bias -= network(surface).mean(dim=(0, 2, 3))
        p = network(surface).softmax(dim=1)[0, 1].numpy()
    info = ModelInfo(
        classes=["good", "spot"],
        channels=["gray"],
        pitch_mm=0.1,
        grid=network.grid,
        halo=network.halo,
        thresholds=[0.5],
    )
    export(network, tmp_path / "m.onnx", info)
    backend = OpenVinoBackend(read_model(tmp_path / "m.onnx"), "f32")
    called, certainty = classify(backend, info, image)
    wanted = (p >= 0.5).astype(np.uint8)
    assert (called == wanted).mean() > 0.999
    assert 0.1 < wanted.mean() < 0.9
    assert np.abs(certainty - 255 * np.where(wanted, p, 1 - p))[called == wanted].max() <= 1


def test_every_kind_of_group_goes_each_way_and_none_goes_two() -> None:
    classes = {f"a{n}": frozenset({1}) for n in range(10)} | {f"b{n}": frozenset({2}) for n in range(3)}
    classes["alone"] = frozenset({1, 2})
    for seed in range(5):
        split = split_groups(classes, 0.2, 0.3, seed)
        assert sorted(group for part in split for group in part) == sorted(classes)
        assert [len([g for g in part if g[0] == "a" and g != "alone"]) for part in split] == [5, 2, 3]
        assert [len([g for g in part if g[0] == "b"]) for part in split] == [1, 1, 1]
        assert "alone" in split.training, "of one group nothing can be kept apart"
    assert split_groups(classes, 0.2, 0.3, 1) != split_groups(classes, 0.2, 0.3, 2)
    assert split_groups(classes, 0.2, 0.0, 1).held_back == []


def test_components_up_to_a_size_weigh_alike() -> None:
    truth = np.zeros((1, 128, 128), np.int64)
    truth[0, :4, :4], truth[0, 10:50, 10:50], truth[0, 60:64, 60:80] = 1, 1, 2
    weights = component_weights(truth, 1.0)
    sums = [weights[0, :5, :5].sum() - 9, weights[0, 10:50, 10:50].sum(), weights[0, 60:64, 60:80].sum()]
    assert sums == pytest.approx([LARGE] * 3)
    assert (weights[truth == 0] == 1).all()
    assert (component_weights(truth, 0.0) == 1).all()


def test_component_loss_without_balance_and_dice_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    plain = torch.nn.functional.cross_entropy(logits, truth)
    assert ComponentLoss(0, 0)(logits, truth).item() == pytest.approx(plain.item(), rel=1e-5)
    right = 30 * torch.nn.functional.one_hot(truth, 3).movedim(-1, 1).float()
    assert ComponentLoss()(right, truth).item() < 1e-3
    assert ComponentLoss(0, 1)(-right, truth).item() > 1 + ComponentLoss(0, 0)(-right, truth).item() - 0.1


def test_defects_together_are_right_where_one_is_taken_for_another() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[:, :4] = 1

    def of_place(called: torch.Tensor) -> float:
        logits = 30 * torch.nn.functional.one_hot(called, 3).movedim(-1, 1).float()
        return float(ComponentLoss(0, 0, together=1)(logits, truth) - ComponentLoss(0, 0)(logits, truth))

    assert of_place(2 * truth) == pytest.approx(0, abs=1e-3)
    assert of_place(truth.flip(1)) > 0.9


def test_logits_at_half_the_resolution_are_held_against_the_middle_of_blocks() -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    blocks = truth.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    wanted = ComponentLoss()(logits, truth).item()
    assert ReducedLoss(ComponentLoss(), 2)(logits, blocks).item() == pytest.approx(wanted)
    assert ReducedLoss(ComponentLoss(), 1)(logits, truth).item() == pytest.approx(wanted)


@pytest.mark.parametrize("exposure", [0.5, 2.0])
def test_local_contrast_is_the_same_at_any_exposure(exposure: float) -> None:
    torch.manual_seed(1)
    brightness = 1 + 0.1 * torch.randn(1, 1, 64, 96)
    (level, detail), (other_level, other_detail) = (LocalContrast(8)(b)[0] for b in (brightness, exposure * brightness))
    assert (other_level - level).std() < 0.02 < (other_level - level).abs().mean()
    assert (other_detail - detail).abs().max() < 0.25 < detail.std()


def test_local_contrast_hangs_on_its_halo_and_no_farther() -> None:
    torch.manual_seed(1)
    brightness = torch.rand(1, 1, 256, 16, dtype=torch.float64) + 0.1
    changed = brightness.clone()
    changed[..., 128:, :] *= 2
    differs = (LocalContrast(8)(brightness) != LocalContrast(8)(changed)).any(dim=(0, 1, 3))
    halo = 8 * HALO_CELLS
    assert 128 - halo <= differs.nonzero().min() < 128 - halo + 8
    for reduction in (2, 4):
        network = UNet(1, 2, 1, reduction=reduction, contrast=True)
        assert network.contrast is not None
        assert network.halo == reduction * (UNet(1, 2, 1).halo + HALO_CELLS * network.contrast.cell_px)
        assert network.halo % network.grid == 0


def test_photographs_and_surfaces_each_have_their_network() -> None:
    assert (network_for(["exposure_1", "exposure_2"]), network_for(["normal_x", "albedo"])) == ("unet_contrast", "unet")


def test_calibration_error_is_zero_for_who_is_right_as_often_as_he_says() -> None:
    random = np.random.default_rng(2)
    p = random.random(200_000)
    honest, boastful = Reliability(), Reliability()
    honest.add(p, random.random(p.size) < p)
    boastful.add(p, random.random(p.size) < p / 2)
    assert honest.error is not None
    assert honest.error < 0.01
    assert boastful.error == pytest.approx(0.25, abs=0.01)
    assert Reliability().error is None


def test_every_second_web_to_train_on_has_rows_of_three_lights() -> None:
    whole, without = render_webs([10_000, 10_001], 40.0, 512, ["residual", "albedo"])
    unknown = [(surface[0] == 0).all(axis=1) for surface, _ in (whole, without)]
    assert 0 < unknown[0].mean() < 0.25, "only where the web begins and ends has the checksum not enough lights"
    assert unknown[1].mean() > 0.3
    assert all(np.isfinite(surface).all() and surface[1].min() > 0 for surface, _ in (whole, without))
    assert all(surface.shape[1:] == truth.shape for surface, truth in (whole, without))


class Overconfident(UNet):
    """Logits are four times what they should be, and class 1 seems as frequent as background."""

    def forward(self, surface: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(surface, self.final.weight[:, :2, 1:2, 1:2], self.final.bias)


def test_probabilities_are_mended_in_the_last_layer() -> None:
    random = np.random.default_rng(4)
    evidence = random.normal(0, 1.5, (400, 400)).astype(np.float32)
    p = 1 / (1 + np.exp(3 - evidence))
    truth = (random.random(p.shape) < p).astype(np.uint8)
    network = Overconfident(2, 2, 2)
    with torch.no_grad():
        network.final.weight[:, :2, 1, 1] = 4 * torch.eye(2)
        network.final.bias[:] = 0
    surface = np.stack([np.zeros_like(evidence), evidence])
    temperature, offsets = calibrate(network, [(surface, truth)])
    assert temperature == pytest.approx(4, rel=0.05)
    assert offsets[1] - offsets[0] == pytest.approx(-3, abs=0.1)
    with torch.inference_mode():
        mended = network(torch.from_numpy(surface[None])).softmax(dim=1)[0, 1].numpy()
    assert np.abs(mended - p).max() < 0.03


def test_thresholds_follow_what_a_false_pixel_costs() -> None:
    random = np.random.default_rng(6)
    p = random.random((200, 200)).astype(np.float32)
    truth = (random.random(p.shape) < p).astype(np.uint8)
    network = Overconfident(2, 2, 2)
    with torch.no_grad():
        network.final.weight[:, :2, 1, 1] = torch.eye(2)
        network.final.bias[:] = 0
    web = np.log(np.maximum([1 - p, p], 1e-6)).astype(np.float32), truth
    for cost in (0.25, 1.0, 4.0):
        (threshold,) = choose_thresholds(network, [web], cost)
        assert threshold == pytest.approx(cost / (1 + cost), abs=0.06), "what a calibrated probability must reach"


def test_half_the_resolution_sees_twice_as_far_and_no_farther_than_it_says() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, 1, reduction=2).double().eval()
    web = torch.randn(1, 1, 1024, 64, dtype=torch.float64)
    with torch.inference_mode():
        whole = network(web)

        def by_windows(halo: int) -> float:
            worst = 0.0
            for window in plan_axis(1024, 512, halo, network.grid):
                kept = slice(window.keep_start - window.start, window.keep_stop - window.start)
                part = network(web[:, :, window.start : window.stop])[:, :, kept]
                worst = max(worst, float((part - whole[:, :, window.keep_start : window.keep_stop]).abs().max()))
            return worst

        assert by_windows(network.halo) < 1e-12
        assert by_windows(network.halo - 2 * network.grid) > 1e-12
