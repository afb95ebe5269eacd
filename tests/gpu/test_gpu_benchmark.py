"""What is measured on a GPU, tried on a fake one; PyTorch's engine against ONNX Runtime; the host's own way."""

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks import gpu as benchmark
from calibration.network.torch_engine import OnnxNetwork
from edge.core.errors import ModelError
from edge.core.gpu import GpuError
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.half import half
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.openvino import OpenVinoBackend

from .device_scene import ProcessorEngine
from .fake_gpu import FakeGpu

ROWS, WIDTH = 32, 64


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model(None)


@pytest.fixture(scope="module")
def backend(model: ModelFile) -> OpenVinoBackend:
    return OpenVinoBackend(model, "f32")


@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_pytorch_walks_the_same_network(precision: str, model: ModelFile) -> None:
    data = model.data if precision == "f32" else half(model.data, model.path)
    surface = np.random.default_rng(2).normal([0, 0, 1], 0.3, (1, 96, 128, 3)).astype(np.float32)
    surface = np.ascontiguousarray(surface.transpose(0, 3, 1, 2))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    wanted, _ = session.run(None, {"surface": surface})
    with torch.inference_mode():
        found, score = OnnxNetwork(data, "model")(torch.from_numpy(surface))
    assert found.dtype == score.dtype == torch.uint8
    assert len(np.unique(wanted)) > 2
    assert (found.numpy() == wanted).mean() >= (0.9999 if precision == "f32" else 0.995)


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_the_benchmark_measures_what_it_says(tmp_path: Path, model: ModelFile, backend: OpenVinoBackend) -> None:
    gpu = FakeGpu(tmp_path)
    engine = ProcessorEngine(gpu, backend, 3, ROWS + 2 * model.info.halo, 256)
    assert benchmark.copy_bandwidth(gpu, 1 << 16, 2) == pytest.approx(2 * 2 * (1 << 16) / 1e6)
    pixel = 4 * (1 + 8) + 4 * 3
    assert benchmark.surface_bandwidth(gpu, model, ROWS, WIDTH, 2) == pytest.approx(2 * ROWS * WIDTH * pixel / 1e6)
    assert set(benchmark.stages(gpu, engine, model, ROWS, WIDTH, 1)) == {"up", "surface", "network", "back"}
    figures = benchmark.line(gpu, engine, model, ROWS, 208, 20)
    assert figures["mpix_per_s"] * figures["ms_per_strip"] == pytest.approx(ROWS * 208 / 1e3)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["p999_ms"]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_says_so_in_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert benchmark.main() == 2
    assert "there is no GPU here" in capfd.readouterr().err


# Windows from host memory


def opened(gpu: FakeGpu, backend: OpenVinoBackend) -> tuple[FakeGpu, ProcessorEngine]:
    return gpu, ProcessorEngine(gpu, backend, 3, 64, 96)


def test_windows_from_the_host_are_decided_and_an_answer_outlives_the_next(
    tmp_path: Path, backend: OpenVinoBackend
) -> None:
    on_gpu = DeviceBackend(lambda: opened(FakeGpu(tmp_path), backend))
    random = np.random.default_rng(1)
    surfaces = [random.normal(0, 0.5, (1, 3, rows, 96)).astype(np.float32) for rows in (64, 32)]
    answers = [on_gpu.infer(surface) for surface in surfaces]
    for surface, answer in zip(surfaces, answers, strict=True):
        for plane, wanted in zip(answer, backend.infer(surface), strict=True):
            np.testing.assert_array_equal(plane, wanted)
    with pytest.raises(ModelError, match=r"up to 64 x 96 px, not \(1, 3, 64, 112\)"):
        on_gpu.infer(np.zeros((1, 3, 64, 112), np.float32))


@pytest.mark.parametrize("call", ["upload", "enqueue", "download", "synchronise"])
def test_a_window_in_host_memory_survives_a_gpu_that_fails(call: str, tmp_path: Path, backend: OpenVinoBackend) -> None:
    gpus = [FakeGpu(tmp_path, faults={call: 1}), FakeGpu(tmp_path), FakeGpu(tmp_path)]
    left = iter(gpus)
    on_gpu = DeviceBackend(lambda: opened(next(left), backend))
    surface = np.random.default_rng(1).normal(0, 0.5, (1, 3, 64, 96)).astype(np.float32)
    for plane, wanted in zip(on_gpu.infer(surface), backend.infer(surface), strict=True):
        np.testing.assert_array_equal(plane, wanted)
    assert on_gpu.reopened == 1
    assert gpus[0].closed


def test_a_gpu_that_fails_twice_over_one_window_ends_it(tmp_path: Path, backend: OpenVinoBackend) -> None:
    on_gpu = DeviceBackend(lambda: opened(FakeGpu(tmp_path, faults={"enqueue": 1}), backend))
    with pytest.raises(GpuError, match="scripted, in enqueue"):
        on_gpu.infer(np.zeros((1, 3, 64, 96), np.float32))
