"""The engine of ONNX Runtime without its CUDA: its real sessions, in the streams of a fake GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edge.core.gpu import GpuError
from edge.segmentation.device_backend import DeviceBackend
from edge.segmentation.model import ModelFile, load_model
from edge.segmentation.onnxruntime import OnnxRuntimeEngine
from edge.segmentation.openvino import OpenVinoBackend
from edge.service import backends
from edge.service.options import settings_of

from .fake_gpu import FakeGpu

CUDA = "CUDAExecutionProvider"
ROWS, COLUMNS = 64, 96


REAL = onnxruntime.InferenceSession


class Binding:
    """Remembers what is bound, by calls that the real one takes."""

    def __init__(self, real: onnxruntime.IOBinding) -> None:
        self._real, self.bound = real, {}

    def bind_input(self, name: str, device: str, number: int, kind: type, shape: tuple[int, ...], there: int) -> None:
        assert (device, number) == ("cuda", 0)
        self._real.bind_input(name, "cpu", 0, kind, shape, there)
        self.bound[name] = ("bind_input", kind, shape, there)

    def bind_output(self, name: str, device: str, number: int, kind: type, shape: tuple[int, ...], there: int) -> None:
        assert (device, number) == ("cuda", 0)
        self._real.bind_output(name, "cpu", 0, kind, shape, there)
        self.bound[name] = ("bind_output", kind, shape, there)


class Session:
    """A real session on the processor, which works in the stream it was given, when that gets to it."""

    gpu: FakeGpu
    has_cuda = True

    def __init__(self, data: bytes, providers: list[tuple[str, dict[str, str]]]) -> None:
        ((provider, options),) = providers
        assert provider == CUDA
        self._stream = int(options["user_compute_stream"])
        self._real = REAL(data, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return [CUDA, "CPUExecutionProvider"] if self.has_cuda else ["CPUExecutionProvider"]

    def io_binding(self) -> Binding:
        return Binding(self._real.io_binding())

    def run_with_iobinding(self, binding: Binding, options: onnxruntime.RunOptions) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        self.gpu.called("run_with_iobinding")
        bound = dict(binding.bound)

        def work() -> None:
            there = self._real.io_binding()
            for name, (call, kind, shape, address) in bound.items():
                getattr(there, call)(name, "cpu", 0, kind, shape, address)
            self._real.run_with_iobinding(there)

        self.gpu.put(self._stream, work)


@pytest.fixture(scope="module")
def model() -> ModelFile:
    return load_model(None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> type[Session]:
    """As if ONNX Runtime knew CUDA."""

    class Installed(Session):
        pass

    monkeypatch.setattr(onnxruntime, "InferenceSession", Installed)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    return Installed


def opened(gpu: FakeGpu, model: ModelFile, installed: type[Session], precision: str) -> tuple[FakeGpu, Any]:
    installed.gpu = gpu
    return gpu, OnnxRuntimeEngine(model, precision, ROWS, COLUMNS, gpu)


@pytest.mark.parametrize("seed", range(3))
def test_windows_are_decided_behind_what_was_put_into_the_stream_before(
    seed: int, tmp_path: Path, model: ModelFile, installed: type[Session]
) -> None:
    gpu = FakeGpu(tmp_path, seed)
    backend = DeviceBackend(lambda: opened(gpu, model, installed, "f32"))
    assert (backend.name, backend.precision) == ("onnxruntime", "f32")
    random, referee = np.random.default_rng(seed), OpenVinoBackend(model, "f32")
    for rows in (ROWS, 32, ROWS):
        surface = random.normal(0, 0.5, (1, 3, rows, COLUMNS)).astype(np.float32)
        (classes, score), (wanted, wanted_score) = backend.infer(surface), referee.infer(surface)
        assert (classes == wanted).mean() > 0.999
        assert np.abs(score.astype(int) - wanted_score)[classes == wanted].max() <= 1


def test_it_computes_in_half_precision_unless_told_otherwise(
    tmp_path: Path, model: ModelFile, installed: type[Session]
) -> None:
    _, engine = opened(FakeGpu(tmp_path), model, installed, "auto")
    assert engine.precision == "f16"
    assert not engine.capturable


def test_an_error_of_it_is_one_of_the_gpu(tmp_path: Path, model: ModelFile, installed: type[Session]) -> None:
    gpu, engine = opened(FakeGpu(tmp_path, faults={"run_with_iobinding": 1}), model, installed, "f32")
    with pytest.raises(GpuError, match=r"ONNX Runtime failed on a window of \(1, 3, 64, 96\): the GPU failed"):
        engine.enqueue(
            gpu.allocate(4 * 3 * 64 * 96), (1, 3, 64, 96), gpu.allocate(6144), gpu.allocate(6144), gpu.stream()
        )


def test_without_cuda_it_is_refused_and_never_runs_on_the_processor_instead(
    tmp_path: Path, model: ModelFile, installed: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.has_cuda = False
    with pytest.raises(GpuError, match="CUDA or cuDNN is not installed"):
        opened(FakeGpu(tmp_path), model, installed, "f32")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(GpuError, match="put onnxruntime-gpu in its place"):
        opened(FakeGpu(tmp_path), model, installed, "f32")


def test_a_line_that_names_it_gets_it_or_nothing(
    tmp_path: Path, model: ModelFile, installed: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.gpu = FakeGpu(tmp_path)
    monkeypatch.setattr(backends, "CudaDriver", lambda: installed.gpu)
    file = tmp_path / "line.toml"
    file.write_text('[segmentation]\nbackend = "onnxruntime"\n')
    config = settings_of(file, require_gpu=True)
    backend, notes = backends.open_backend(model, config)
    assert (backend.name, backend.precision, notes) == ("onnxruntime", "f16", [])
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(GpuError, match="is asked for and cannot be used: the ONNX Runtime that is installed"):
        backends.open_backend(model, config)
    assert installed.gpu.closed
