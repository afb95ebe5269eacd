"""A model on a web that goes on: what it decides is what windows decide, and it looks at every row once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from calibration.network.export import export
from calibration.network.networks.table import build
from calibration.network.unet import GRID, HALO, UNet
from edge.core.errors import ModelError
from edge.core.types import F32, U8, ClassMap, Surface
from edge.segmentation.backend import Backend, RowByRow
from edge.segmentation.model import GateInfo, ModelFile, ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend, cpu_has_bf16
from edge.segmentation.stream import Segmenter, open_gate

WIDTH, WINDOW_PX = 340, 288
INFO = ModelInfo(
    classes=["background", "crack", "cavity"],
    channels=["normal_x", "normal_y", "normal_z"],
    pitch_mm=0.05,
    grid=GRID,
    halo=HALO,
    thresholds=[0.3, 0.3],
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(seed: int) -> UNet:
    """One whose answer hangs on all its levels."""
    torch.manual_seed(seed)
    made = UNet(3, 3, features=4)
    for layer in made.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.1, 0.5)
    made.final.weight.data *= 8
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[ModelFile]:
    """Two that differ in their thresholds."""
    folder = tmp_path_factory.mktemp("models")
    export(network(3), folder / "one.onnx", INFO)
    proto = onnx.load(folder / "one.onnx")
    (thresholds,) = (each for each in proto.graph.initializer if list(each.dims) == [2, 1, 1])
    thresholds.CopyFrom(onnx.numpy_helper.from_array(np.full((2, 1, 1), 0.6, np.float32), thresholds.name))
    onnx.save(proto, folder / "another.onnx")
    return [load_model(folder / name) for name in ("one.onnx", "another.onnx")]


class Windows:
    """A backend that can do nothing but windows, and counts their rows."""

    name = "windows"

    def __init__(self, model: ModelFile, precision: str = "f32") -> None:
        self._backend = OpenVinoBackend(model, precision)
        self.precision = self._backend.precision
        self.rows = 0

    def infer(self, surface: F32) -> tuple[U8, U8]:
        self.rows += surface.shape[2]
        return self._backend.infer(surface)


class Rows(Windows):
    """One that goes on, and counts the rows it is shown."""

    def row_by_row(self, shape: tuple[int, int, int, int], behind: int) -> RowByRow | None:
        made = self._backend.row_by_row(shape, behind)
        assert made is not None
        push, outer = made.push, self

        class Counted:
            begin = staticmethod(made.begin)

            def push(self, surface: F32) -> tuple[U8, U8]:
                outer.rows += surface.shape[2]
                return push(surface)

        return Counted()


def web(rows: int, unseen: slice = slice(0)) -> Surface:
    planes = np.random.default_rng(rows).normal(0, 0.5, (3, rows, WIDTH)).astype(np.float32)
    valid = np.ones((rows, WIDTH), np.uint8)
    valid[unseen] = 0
    ones = np.ones((rows, WIDTH), np.float32)
    return Surface(normals=planes, albedo=ones, residual=0 * ones, valid=valid, first_row=1000)


def part(surface: Surface, rows: slice) -> Surface:
    return Surface(
        surface.normals[:, rows],
        surface.albedo[rows],
        surface.residual[rows],
        surface.valid[rows],
        surface.first_row + rows.start,
    )


def decided(
    backend: Backend,
    surface: Surface,
    strip_rows: int,
    pieces: Sequence[int],
    between: Callable[[Segmenter, int], None] = lambda _segmenter, _row: None,
    info: ModelInfo = INFO,
) -> tuple[U8, U8]:
    """Class and score of all rows, pushed in pieces of these heights in turn."""
    gate = open_gate(info, WIDTH, strip_rows) if info.gate is not None else None
    segmenter = Segmenter(backend, info, WIDTH, strip_rows, WINDOW_PX, gate)
    maps, row, number = list[ClassMap](), 0, 0
    while row < surface.rows:
        to = min(row + pieces[number % len(pieces)], surface.rows)
        between(segmenter, row)
        maps += segmenter.push(part(surface, slice(row, to)))
        row, number = to, number + 1
    maps += segmenter.finish()
    assert [one.first_row for one in maps] == np.cumsum([1000, *(one.rows for one in maps[:-1])]).tolist()
    return np.concatenate([one.class_index for one in maps]), np.concatenate([one.score for one in maps])


def alike(rows: tuple[U8, U8], windows: tuple[U8, U8]) -> bool:
    """But for what another order of sums does to a score."""
    same = rows[0] == windows[0]
    assert len(np.unique(windows[0])) == 3, "nothing to compare"
    return same.mean() > 0.9999 and int(np.abs(rows[1].astype(int) - windows[1])[same].max()) <= 1


@pytest.mark.parametrize(("strip_rows", "pieces"), [(16, [16]), (64, [64]), (96, [40, 130]), (208, [208])])
def test_rows_that_follow_each_other_are_decided_as_in_windows(
    models: list[ModelFile], strip_rows: int, pieces: list[int]
) -> None:
    surface, rows, windows = web(903), Rows(models[0]), Windows(models[0])
    found = decided(rows, surface, strip_rows, pieces)
    assert alike(found, decided(windows, surface, strip_rows, pieces))
    assert rows.rows < windows.rows - (903 // strip_rows - 5) * 2 * HALO, "halos are looked at again"


def test_bf16_as_well(models: list[ModelFile]) -> None:
    if not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bfloat16")
    surface = web(500)
    windows = decided(Windows(models[0], "bf16"), surface, 64, [64])
    assert alike(decided(Rows(models[0], "bf16"), surface, 64, [64]), windows)


def test_behind_web_that_nobody_saw_it_begins_anew(models: list[ModelFile]) -> None:
    surface = web(1200, unseen=slice(350, 800))
    windows = decided(Windows(models[0]), surface, 64, [64])
    assert alike(decided(Rows(models[0]), surface, 64, [64]), windows)
    assert not windows[0][350:800].any()


def test_behind_the_gate_it_goes_on_where_all_is_to_be_looked_at(models: list[ModelFile]) -> None:
    surface, rows, windows = web(1200), Rows(models[0]), Windows(models[0])
    surface.normals[:, :300] = 0
    surface.normals[:, 1000:] = 0
    info = msgspec.structs.replace(INFO, gate=GateInfo(threshold=45.0, noise=[(1e-3, 0.1)] * 3, recall=1.0, objects=1))
    found, expected = (decided(each, surface, 64, [64], info=info) for each in (rows, windows))
    assert alike(found, expected)
    assert not found[0][:200].any() and not found[0][1100:].any()
    assert rows.rows < 0.6 * windows.rows


def test_another_model_goes_on_where_the_first_one_was(models: list[ModelFile]) -> None:
    surface = web(900)

    def swapping(kind: type[Windows]) -> Callable[[Segmenter, int], None]:
        def between(segmenter: Segmenter, row: int) -> None:
            if row == 512:
                segmenter.use(segmenter.fitted(kind(models[1])), INFO)

        return between

    windows = decided(Windows(models[0]), surface, 64, [64], swapping(Windows))
    assert alike(decided(Rows(models[0]), surface, 64, [64], swapping(Rows)), windows)
    assert not alike(windows, decided(Windows(models[0]), surface, 64, [64]))


def test_a_model_that_looks_less_far_than_the_one_before_decides_the_same_rows(models: list[ModelFile]) -> None:
    """Windows stay as they were made for the first."""
    surface, wide = web(900), msgspec.structs.replace(INFO, halo=HALO + 2 * GRID)

    def swapping(kind: type[Windows]) -> Callable[[Segmenter, int], None]:
        def between(segmenter: Segmenter, row: int) -> None:
            if row == 384:
                segmenter.use(segmenter.fitted(kind(models[1])), INFO)

        return between

    first = replace(models[0], info=wide)
    windows = decided(Windows(first), surface, 64, [64], swapping(Windows), wide)
    assert alike(decided(Rows(first), surface, 64, [64], swapping(Rows), wide), windows)


def test_the_next_roll_begins_afresh(models: list[ModelFile]) -> None:
    segmenter, surface = Segmenter(Rows(models[0]), INFO, WIDTH, 64, WINDOW_PX), web(500)
    rolls = [[*segmenter.push(surface), *segmenter.finish()] for _ in range(2)]
    for one, other in zip(*rolls, strict=True):
        np.testing.assert_array_equal(one.class_index, other.class_index)
        np.testing.assert_array_equal(one.score, other.score)


def test_what_looks_farther_than_the_halo_is_left_to_windows(models: list[ModelFile]) -> None:
    assert OpenVinoBackend(models[0], "f32").row_by_row((1, 3, 64, 64), HALO - GRID) is None


def test_what_is_not_known_to_look_no_farther_is_left_to_windows(tmp_path: Path) -> None:
    made = build("unet_half", 3, 3, 1)
    info = msgspec.structs.replace(INFO, grid=made.grid, halo=made.halo)
    export(made, tmp_path / "net.onnx", info)
    assert OpenVinoBackend(load_model(tmp_path / "net.onnx"), "f32").row_by_row((1, 3, 64, 64), made.halo) is None


def test_rows_that_the_model_cannot_take_are_refused(models: list[ModelFile]) -> None:
    with pytest.raises(ModelError, match="model does not take 64 rows at a time"):
        OpenVinoBackend(models[0], "f32").row_by_row((1, 2, 64, 64), HALO)
