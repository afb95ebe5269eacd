"""Model files, backends, and the segmentation of a web strip by strip."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from calibration.network.export import export
from calibration.network.unet import GRID, HALO, UNet
from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32, U8, ClassMap, Surface
from edge.segmentation.backend import Backend
from edge.segmentation.model import METADATA_KEY, ModelFile, ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend, cpu_has_bf16
from edge.segmentation.stream import Segmenter
from edge.segmentation.windows import plan_axis

NORMALS = ["normal_x", "normal_y", "normal_z"]
LABELS = ["background", "agglomeration", "crack", "cavity", "blade trail"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks spend their time waiting for a second thread where others use the machine too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def model_info(**changes: object) -> ModelInfo:
    info = ModelInfo(
        classes=LABELS, channels=NORMALS, pitch_mm=0.05, grid=GRID, halo=HALO, thresholds=[0.2, 0.3, 0.25, 0.22]
    )
    return msgspec.structs.replace(info, **changes)


def surface_of(planes: F32, first_row: int = 0) -> Surface:
    """A surface whose normals are these planes (3, rows, width)."""
    ones = np.ones(planes.shape[1:], np.float32)
    return Surface(normals=planes, albedo=ones, residual=0 * ones, valid=ones.astype(np.uint8), first_row=first_row)


def in_pieces(surface: Surface, rows_each: list[int]) -> list[Surface]:
    pieces, row = [], 0
    while row < surface.rows:
        here = slice(row, row + rows_each[len(pieces) % len(rows_each)])
        pieces.append(
            Surface(
                normals=surface.normals[:, here],
                albedo=surface.albedo[here],
                residual=surface.residual[here],
                valid=surface.valid[here],
                first_row=surface.first_row + row,
            )
        )
        row = here.stop
    return pieces


def segment(segmenter: Segmenter, pieces: list[Surface]) -> list[ClassMap]:
    return [*(one for piece in pieces for one in segmenter.push(piece)), *segmenter.finish()]


# Windows


@given(
    length=st.integers(1, 200).map(lambda n: n * 16),
    window=st.integers(1, 60).map(lambda n: n * 16),
    halo=st.integers(0, 8).map(lambda n: n * 16),
)
def test_windows_keep_each_pixel_once_and_see_a_halo_around_it(length: int, window: int, halo: int) -> None:
    assume(length <= window or window > 2 * halo)
    windows = plan_axis(length, window, halo, 16)
    assert [w.keep_start for w in windows] == [0, *(w.keep_stop for w in windows[:-1])]
    assert windows[-1].keep_stop == length
    for w in windows:
        assert w.stop - w.start == min(window, length)
        assert w.start == 0 or w.keep_start - w.start >= halo
        assert w.stop == length or w.stop - w.keep_stop >= halo
        assert not any(edge % 16 for edge in w)


# Model files


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    network = UNet(3, 5, features=4)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.1, 0.5)
    network.set_normalisation([0.0, 0.1, 0.9], [0.2, 0.2, 0.1])
    network.final.weight.data *= 8
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    export(network, path, model_info(provenance={"seed": "3"}))
    return path


def test_a_model_describes_itself(model_path: Path) -> None:
    model = load_model(model_path)
    assert model.info == model_info(provenance={"seed": "3"})
    assert model.data == model_path.read_bytes()
    assert len(model.digest) == 64


def with_metadata(model_path: Path, to: Path, text: str | None) -> Path:
    proto = onnx.load(model_path)
    del proto.metadata_props[:]
    if text is not None:
        onnx.helper.set_model_props(proto, {"other": "x", METADATA_KEY: text})
    onnx.save(proto, to)
    return to


def info_json(**changes: object) -> str:
    return msgspec.json.encode({**msgspec.to_builtins(model_info()), **changes}).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "without 'foilsight' metadata"),
        ("{", "bad 'foilsight' metadata"),
        (info_json(halo="wide"), "halo"),
        (info_json(halo=90), "multiple of the grid"),
        (info_json(thresholds=[0.5]), "1 thresholds for 4 classes"),
        (info_json(channels=["albedo"] * 100_000), "channels"),
        (info_json(pitch_mm=1e300), "pitch_mm"),
        (info_json(pitch_mm=5e-324), "pitch_mm"),
        (info_json(channels=["\x1b[2J\n" + "x" * 9999]), "model wants channel"),
        ('{"unknown": ' + "[" * 5000, "bad 'foilsight' metadata"),
        (
            info_json(channels=["normal_x", "temperature", "albedo"]),
            "model wants channel 'temperature' which the surface",
        ),
    ],
)
def test_a_model_that_does_not_describe_itself_is_refused(
    model_path: Path, tmp_path: Path, text: str | None, says: str
) -> None:
    path = with_metadata(model_path, tmp_path / "other.onnx", text)
    with pytest.raises(ModelError, match=says) as refused:
        load_model(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize("data", [b"", b"junk, not a model", bytes(range(256)) * 50, b"\x08\x09", b"PK\x03\x04" * 9])
def test_junk_is_not_a_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"junk\.onnx: not an ONNX model"):
        load_model(path)


def test_a_torn_model_is_not_a_model(model_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(model_path.read_bytes()[:-7])
    with pytest.raises(ModelError, match="not an ONNX model"):
        load_model(path)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.onnx: cannot be read \(No such file"):
        load_model(tmp_path / "nowhere.onnx")


# Backends: one suite for all; onnxruntime is here as an independent referee only


class OnnxRuntimeBackend:
    name = "onnxruntime"
    precision = "f32"

    def __init__(self, model: ModelFile) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        self._session = onnxruntime.InferenceSession(model.data, providers=["CPUExecutionProvider"])

    def infer(self, surface: F32) -> tuple[U8, U8]:
        class_index, score = self._session.run(["class_index", "score"], {"surface": surface})
        return class_index, score


BACKENDS = [OpenVinoBackend, OnnxRuntimeBackend]


@pytest.fixture(scope="module")
def expected(model_path: Path) -> Callable[[F32], tuple[U8, U8, U8]]:
    """Class, score and whether the decision is beyond doubt, from the model's own logits by plain NumPy."""
    import onnxruntime

    proto = onnx.load(model_path)
    proto.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    thresholds = np.array(model_info().thresholds)[:, None, None]

    def decide(surface: F32) -> tuple[U8, U8, U8]:
        (logits,) = session.run(["logits"], {"surface": surface})
        p = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
        p /= p.sum(axis=1, keepdims=True)
        sure = np.where(p[:, 1:] >= thresholds, p[:, 1:], 0)
        index = np.where(sure.max(axis=1) > 0, sure.argmax(axis=1) + 1, 0)
        score = np.take_along_axis(p, index[:, None], axis=1)[:, 0]
        ordered = np.sort(sure, axis=1)
        tied = (ordered[:, -1] - ordered[:, -2] < 1e-5) & (ordered[:, -1] > 0)
        near = tied | (np.abs(p[:, 1:] - thresholds) < 1e-5).any(axis=1)
        return index.astype(np.uint8), np.round(255 * score).astype(np.uint8), ~near

    return decide


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (2, 3, 160, 32)])
def test_backends_decide_as_the_model_says(
    kind: Callable[[ModelFile], Backend],
    shape: tuple[int, ...],
    model_path: Path,
    expected: Callable[[F32], tuple[U8, U8, U8]],
) -> None:
    backend = kind(load_model(model_path))
    surface = np.random.default_rng(5).normal([0, 0, 1], 0.3, (*shape[:1], *shape[2:], 3)).astype(np.float32)
    surface = np.ascontiguousarray(surface.transpose(0, 3, 1, 2))
    class_index, score = backend.infer(surface)
    wanted_class, wanted_score, certain = expected(surface)
    assert class_index.dtype == score.dtype == np.uint8
    assert len(np.unique(wanted_class)) >= 4, "the model must decide something"
    assert certain.mean() > 0.99
    np.testing.assert_array_equal(class_index[certain], wanted_class[certain])
    assert np.abs(score.astype(int) - wanted_score)[certain].max() <= 1


@pytest.mark.parametrize("kind", BACKENDS)
def test_an_answer_is_not_changed_by_the_next_one(kind: Callable[[ModelFile], Backend], model_path: Path) -> None:
    backend = kind(load_model(model_path))
    random = np.random.default_rng(1)
    class_index, score = backend.infer(random.normal(size=(1, 3, 32, 32)).astype(np.float32))
    before = class_index.copy(), score.copy()
    backend.infer(random.normal(size=(1, 3, 32, 32)).astype(np.float32))
    np.testing.assert_array_equal(before, (class_index, score))


def test_openvino_refuses_models_in_one_line(model_path: Path, tmp_path: Path) -> None:
    four = load_model(with_metadata(model_path, tmp_path / "four.onnx", info_json(channels=[*NORMALS, "albedo"])))
    with pytest.raises(ModelError, match=r"four\.onnx: model takes 3 channels and names 4"):
        OpenVinoBackend(four)
    proto = onnx.load(model_path)
    proto.graph.output.pop()
    onnx.save(proto, tmp_path / "scoreless.onnx")
    with pytest.raises(ModelError, match=r"scoreless\.onnx: model takes \['surface'\] and gives \['class_index'\]"):
        OpenVinoBackend(load_model(tmp_path / "scoreless.onnx"))
    proto = onnx.load(model_path)
    proto.graph.node[0].op_type = "Unheard"
    onnx.save(proto, tmp_path / "unheard.onnx")
    with pytest.raises(ModelError, match=r"unheard\.onnx: model cannot be read by OpenVINO: .*Unheard") as refused:
        OpenVinoBackend(load_model(tmp_path / "unheard.onnx"))
    assert "\n" not in str(refused.value)


def test_openvino_refuses_a_surface_of_other_channels(model_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not take a surface of \(1, 2, 32, 32\)") as refused:
        OpenVinoBackend(load_model(model_path)).infer(np.zeros((1, 2, 32, 32), np.float32))
    assert "\n" not in str(refused.value)


def test_openvino_writes_nothing_home_and_sends_nothing(model_path: Path, tmp_path: Path) -> None:
    code = (
        "import sys, socket, pathlib, numpy\n"
        "def refuse(*a, **k): raise SystemExit('a connection was opened')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from edge.segmentation.model import load_model\n"
        "from edge.segmentation.openvino import OpenVinoBackend\n"
        "OpenVinoBackend(load_model(pathlib.Path(sys.argv[1]))).infer(numpy.zeros((1, 3, 32, 32), 'f'))\n"
        "assert sys.modules.get('openvino_telemetry') is None\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: text for name, text in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model_path)],
        env={**environment, "HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


# The stream


class ExactBackend:
    """A U-Net in float64 whose every sum is an exact integer, so that equal must mean equal.

    Each output channel of a convolution adds up four taps, at opposite corners of two input channels, so no value can
    grow beyond 2^53. The score is the sum of the logits modulo 251: it gives away any change of any logit.
    """

    name = "exact"
    precision = "f64"

    def __init__(self, weights: tuple[int, ...], seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.network = UNet(3, 3, features=1).double().eval()
        for layer in self.network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eps = 0.0
            elif isinstance(layer, torch.nn.ConvTranspose2d):
                layer.weight.data = _sign_taps(random, weights, layer.weight.transpose(0, 1)).transpose(0, 1)
                layer.bias.data.zero_()
            elif isinstance(layer, torch.nn.Conv2d):
                layer.weight.data = _sign_taps(random, weights, layer.weight)
                if layer.bias is not None:
                    layer.bias.data.zero_()

    def logits(self, surface: F32) -> torch.Tensor:
        with torch.inference_mode():
            return self.network(torch.from_numpy(surface).double())

    def infer(self, surface: F32) -> tuple[U8, U8]:
        logits = self.logits(surface).numpy()
        return logits.argmax(axis=1).astype(np.uint8), np.mod(logits.sum(axis=1), 251).astype(np.uint8)


def _sign_taps(random: np.random.Generator, weights: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Kernels (out,in,h,w) of four taps for each output channel: two opposite corners in each of two input channels.

    In a merging level these are one skipped channel and one from below. A kernel of an up-convolution is not
    overlapped by its neighbours, so there all of it is filled.
    """
    kernels = torch.zeros_like(like)
    outputs, inputs, _, _ = kernels.shape
    for k in range(outputs):
        one, other = k % inputs, (k + inputs // 2) % inputs
        for channel, y, x in ((one, 0, 0), (one, -1, -1), (other, 0, -1), (other, -1, 0)):
            kernels[k, channel, y, x] = float(random.choice(weights))
    return kernels


def whole_web(backend: Backend, planes: F32) -> tuple[U8, U8]:
    """The whole web in one run."""
    _, rows, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -rows % GRID), (0, -width % GRID)), mode="edge")
    class_index, score = backend.infer(padded[None])
    return class_index[0, :rows, :width], score[0, :rows, :width]


EXACT = ExactBackend((1, 1, 1, -1), seed=2)


def integers(seed: int, rows: int, width: int) -> F32:
    return np.random.default_rng(seed).integers(-8, 9, (3, rows, width)).astype(np.float32)


def by_strips(planes: F32, pushes: list[int], strip_rows: int, window_width: int, halo: int = HALO) -> tuple[U8, U8]:
    """The web pushed in pieces; checks that class maps follow each other without gap or overlap."""
    segmenter = Segmenter(EXACT, model_info(halo=halo), planes.shape[2], strip_rows, window_width)
    maps = segment(segmenter, in_pieces(surface_of(planes, first_row=1000), pushes))
    row = 1000
    for one in maps:
        assert one.first_row == row
        assert one.class_index.shape == one.score.shape == (one.rows, planes.shape[2])
        row += one.rows
    assert row == 1000 + planes.shape[1]
    return np.concatenate([one.class_index for one in maps]), np.concatenate([one.score for one in maps])


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 900),
    width=st.integers(1, 420),
    pushes=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    strip_rows=st.integers(1, 16).map(lambda n: n * 16),
    window_width=st.integers(13, 28).map(lambda n: n * 16),
    seed=st.integers(0, 99),
)
def test_strips_equal_the_whole_web_exactly(
    rows: int, width: int, pushes: list[int], strip_rows: int, window_width: int, seed: int
) -> None:
    planes = integers(seed, rows, width)
    np.testing.assert_array_equal(by_strips(planes, pushes, strip_rows, window_width), whole_web(EXACT, planes))


def test_the_exact_comparison_notices_a_short_halo() -> None:
    planes = integers(7, 500, 300)
    assert np.array_equal(by_strips(planes, [100], 64, 208), whole_web(EXACT, planes))
    assert not np.array_equal(by_strips(planes, [100], 64, 208, halo=64), whole_web(EXACT, planes))
    assert not np.array_equal(
        by_strips(planes[:, :, :200], [100], 64, 208, halo=64), whole_web(EXACT, planes[:, :, :200])
    )


def test_the_halo_is_what_the_network_looks_at() -> None:
    network = ExactBackend((1,))  # positive weights: nothing can cancel
    blank = np.zeros((1, 3, 32, 448), np.float32)
    before = network.logits(blank)
    needed = 0  # beyond an edge on the grid, for all up to the edge to be exact
    for column in range(208, 208 + GRID):
        poked = blank.copy()
        poked[0, :, 16, column] = 1
        changed = np.flatnonzero((network.logits(poked) != before).any(dim=(0, 1, 2)).numpy())
        edge_before, edge_after = (changed[0] // GRID + 1) * GRID, changed[-1] // GRID * GRID
        needed = max(needed, column + 1 - edge_before, edge_after - column)
    assert needed == 94
    assert HALO - GRID < needed <= HALO


def test_uninspected_rows_are_background_without_any_certainty() -> None:
    planes = integers(2, 300, 64)
    surface = surface_of(planes)
    surface.valid[130:170] = 0
    surface.valid[200, :63] = 0
    maps = segment(Segmenter(EXACT, model_info(), 64, 48, 256), in_pieces(surface, [37]))
    class_index, score = (np.concatenate([getattr(one, name) for one in maps]) for name in ("class_index", "score"))
    whole_class, whole_score = whole_web(EXACT, planes)
    whole_class[130:170] = whole_score[130:170] = 0
    np.testing.assert_array_equal(class_index, whole_class)
    np.testing.assert_array_equal(score, whole_score)


def test_channels_are_given_by_name_and_an_unknown_residual_as_zero() -> None:
    class Witness:
        name = precision = "none"

        def infer(self, surface: F32) -> tuple[U8, U8]:
            self.seen = surface.copy()
            nothing = np.zeros((1, *surface.shape[2:]), np.uint8)
            return nothing, nothing

    random = np.random.default_rng(0)
    plane = random.random((5, 32, 20), dtype=np.float32)
    plane[4, 3:7] = np.nan
    surface = Surface(plane[:3], plane[3], plane[4], np.ones((32, 20), np.uint8), first_row=0)
    witness = Witness()
    info = model_info(channels=["residual", "normal_y", "albedo"])
    segment(Segmenter(witness, info, 20, 64, 256), [surface])
    wanted = np.pad(
        np.stack([np.nan_to_num(plane[4], nan=0), plane[1], plane[3]]), ((0, 0), (0, 0), (0, 12)), mode="edge"
    )
    np.testing.assert_array_equal(witness.seen[0], wanted)


def test_a_segmenter_begins_the_next_roll_afresh() -> None:
    segmenter = Segmenter(EXACT, model_info(), 40, 32, 256)
    first, second = integers(1, 300, 40), integers(2, 290, 40)
    segment(segmenter, in_pieces(surface_of(first), [64]))
    maps = segment(segmenter, in_pieces(surface_of(second, first_row=7), [50]))
    assert maps[0].first_row == 7
    np.testing.assert_array_equal(np.concatenate([one.score for one in maps]), whole_web(EXACT, second)[1])


def test_rows_that_do_not_follow_are_refused() -> None:
    segmenter = Segmenter(EXACT, model_info(), 40, 32, 256)
    segmenter.push(surface_of(integers(1, 10, 40), first_row=5))
    with pytest.raises(ValueError, match="expected 40 at row 15"):
        segmenter.push(surface_of(integers(1, 10, 40), first_row=16))
    with pytest.raises(ValueError, match="surface of 41 columns"):
        segmenter.push(surface_of(integers(1, 10, 41), first_row=15))


def test_windows_that_keep_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"window_width_px is 256: the model needs more than two halos, 256"):
        Segmenter(EXACT, model_info(halo=128), 1000, 64, 256)
    with pytest.raises(ConfigError, match=r"strip_rows 48 .* multiples of the model's grid, 32"):
        Segmenter(EXACT, model_info(grid=32), 1000, 48, 256)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_openvino_by_strips_agrees_with_the_whole_web(model_path: Path, precision: Literal["f32", "bf16"]) -> None:
    if precision == "bf16" and not cpu_has_bf16():
        pytest.skip("this CPU does not compute in bfloat16")
    model = load_model(model_path)
    backend = OpenVinoBackend(model, precision)
    planes = np.random.default_rng(4).normal(size=(3, 330, 250)).astype(np.float32)
    planes /= np.linalg.norm(planes, axis=0)
    maps = segment(Segmenter(backend, model.info, 250, 64, 208), in_pieces(surface_of(planes), [90]))
    class_index, score = whole_web(backend, planes)
    assert np.mean(np.concatenate([one.class_index for one in maps]) == class_index) > 0.9999
    same = np.concatenate([one.class_index for one in maps]) == class_index
    assert np.abs(np.concatenate([one.score for one in maps]).astype(int) - score)[same].max() <= 1
