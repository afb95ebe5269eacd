"""Quantised models, what the model file says they lose, and the choice of precision by it."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from calibration.network.export import export
from calibration.network.quantise import check_classes, quantise, write_info
from calibration.network.unet import GRID, HALO, UNet
from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32
from edge.segmentation.model import Accuracy, ModelFile, ModelInfo, load_model
from edge.segmentation.openvino import OpenVinoBackend, choose_precision, cpu_has_bf16

INFO = ModelInfo(
    classes=["background", "bump", "dent"],
    channels=["normal_x", "normal_y", "albedo"],
    pitch_mm=0.05,
    grid=GRID,
    halo=HALO,
    thresholds=[0.3, 0.35],
    provenance={"made by": "tests"},
)


def surfaces(seed: int, count: int, size: int = 64) -> F32:
    return np.random.default_rng(seed).normal(0, 0.5, (count, 3, size, size)).astype(np.float32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    torch.manual_seed(4)
    network = UNet(3, 3, features=8)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.1, 0.5)
    network.final.weight.data *= 8
    path = tmp_path_factory.mktemp("model") / "plain.onnx"
    export(network, path, INFO)
    return load_model(path)


@pytest.fixture(scope="module")
def int8(plain: ModelFile) -> ModelFile:
    path = plain.path.with_name("int8.onnx")
    write_info(path, quantise(plain, surfaces(1, 12)), msgspec.structs.replace(plain.info, precision="int8"))
    return load_model(path)


def test_a_quantised_model_is_one_file_that_says_so(plain: ModelFile, int8: ModelFile) -> None:
    assert int8.info == msgspec.structs.replace(plain.info, precision="int8")
    assert len(int8.data) < 0.5 * len(plain.data)
    assert {path.name for path in int8.path.parent.iterdir()} == {"plain.onnx", "int8.onnx"}


def test_all_is_signed_and_symmetric_and_no_bias_is_quantised(int8: ModelFile) -> None:
    graph = onnx.load(int8.path).graph
    constants = {constant.name: onnx.numpy_helper.to_array(constant) for constant in graph.initializer}
    quantisers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    zeros = [constants[node.input[2]] for node in quantisers]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    weighted = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert len(weighted) == 23
    in_8_bits = {node.output[0] for node in quantisers}
    for node in graph.node:
        if node.op_type in ("MaxPool", "Concat") and in_8_bits.issuperset(node.input):
            in_8_bits.add(node.output[0])
    for node in weighted:
        assert in_8_bits.issuperset(node.input[:2]), f"{node.name}: activations and weights are quantised"
    biases = [name for node in weighted for name in node.input[2:]]
    assert biases
    assert all(constants[name].dtype == np.float32 for name in biases)


def test_openvino_computes_what_the_file_says(int8: ModelFile) -> None:
    """ONNX Runtime reads the same file: OpenVINO's own reading of Q/DQ pairs rounds pooled activations away."""
    import onnxruntime

    surface = surfaces(7, 2, 128)
    session = onnxruntime.InferenceSession(int8.data, providers=["CPUExecutionProvider"])
    wanted_class, wanted_score = session.run(["class_index", "score"], {"surface": surface})
    backend = OpenVinoBackend(int8)
    class_index, score = backend.infer(surface)
    assert backend.precision == "int8"
    assert len(np.unique(wanted_class)) == 3
    same = class_index == wanted_class
    assert same.mean() > 0.97
    assert np.abs(score.astype(int) - wanted_score)[same].mean() < 3


def test_what_is_quantised_is_not_quantised_again(int8: ModelFile) -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx: is already quantised"):
        quantise(int8, surfaces(1, 1))


def test_a_model_of_other_classes_cannot_be_measured_on_rendered_webs(plain: ModelFile) -> None:
    with pytest.raises(ConfigError, match=r"plain\.onnx: tells .*bump.* apart, rendered webs hold"):
        check_classes(plain)


def test_a_description_is_written_without_touching_the_graph(plain: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "described.onnx"
    proto = onnx.load_from_string(plain.data)
    other = proto.metadata_props.add()
    other.key, other.value = "other", "kept"
    described = with_losses(plain, 0.5).info
    write_info(path, proto, described)
    assert load_model(path).info == described
    written = onnx.load(path)
    assert written.graph == onnx.load_from_string(plain.data).graph
    assert {entry.key for entry in written.metadata_props} == {"other", "foilsight"}
    assert [file.name for file in tmp_path.iterdir()] == ["described.onnx"]


def with_losses(model: ModelFile, recall_lost: float, precision_lost: float = 0.0) -> ModelFile:
    """The model as if bf16 had lost that much of recall and precision."""
    accuracy = {
        name: Accuracy(object_recall=0.97 - less, object_precision=0.93 - false, planted=200, events=210)
        for name, less, false in (("f32", 0.0, 0.0), ("bf16", recall_lost, precision_lost))
    }
    info = msgspec.structs.replace(model.info, accuracy=accuracy)
    return ModelFile(model.path, info, model.digest, model.data)


@pytest.mark.parametrize(
    ("recall_lost", "precision_lost", "chosen"),
    [(0.0, 0.0, "bf16"), (0.01, 0.01, "bf16"), (-0.02, -0.02, "bf16"), (0.011, 0.0, "f32"), (-0.1, 0.02, "f32")],
)
def test_auto_takes_bf16_within_the_budget_only(
    plain: ModelFile, recall_lost: float, precision_lost: float, chosen: str
) -> None:
    model = with_losses(plain, recall_lost, precision_lost)
    assert choose_precision(model, "auto", has_bf16=True) == chosen
    assert choose_precision(model, "auto", has_bf16=False) == "f32"
    assert choose_precision(model, "f32", has_bf16=True) == "f32"


def test_auto_is_f32_where_nothing_was_measured(plain: ModelFile) -> None:
    assert choose_precision(plain, "auto", has_bf16=True) == "f32"


def test_a_precision_that_cannot_be_had_is_refused(plain: ModelFile, int8: ModelFile) -> None:
    with pytest.raises(ConfigError, match=r"segmentation\.precision is bf16: this CPU does not"):
        choose_precision(plain, "bf16", has_bf16=False)
    with pytest.raises(ConfigError, match=r"precision is f32: .*int8\.onnx is quantised to int8"):
        choose_precision(int8, "f32", has_bf16=True)


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU does not compute in bfloat16")
def test_bf16_is_what_runs_and_what_is_said(plain: ModelFile) -> None:
    exact, coarse = OpenVinoBackend(plain, "f32"), OpenVinoBackend(plain, "bf16")
    (class_exact, score_exact), (class_coarse, score_coarse) = (b.infer(surfaces(3, 1, 128)) for b in (exact, coarse))
    assert (exact.precision, coarse.precision) == ("f32", "bf16")
    assert (score_exact != score_coarse).any(), "another arithmetic"
    same = class_exact == class_coarse
    assert same.mean() > 0.98
    assert np.abs(score_exact.astype(int) - score_coarse)[same].max() <= 8


def test_quantising_writes_nothing_home(plain: ModelFile, tmp_path: Path) -> None:
    code = (
        "import sys, socket, pathlib, numpy\n"
        "def refuse(*a, **k): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from calibration.network.quantise import quantise\n"
        "from edge.segmentation.model import load_model\n"
        "quantise(load_model(pathlib.Path(sys.argv[1])), numpy.zeros((2, 3, 32, 32), 'f') + 0.5)\n"
    )
    environment = {name: text for name, text in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(plain.path)],
        env={**environment, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
