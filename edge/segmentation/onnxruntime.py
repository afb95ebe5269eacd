"""Models on an NVIDIA GPU by ONNX Runtime: where TensorRT is not to be had, at a part of its speed, without engines."""

import os
from typing import Any

import numpy as np

from edge.core.gpu import Address, Driver, GpuError, Stream
from edge.core.reading import one_line
from edge.segmentation.half import half
from edge.segmentation.model import ModelFile
from edge.segmentation.tensorrt import Asked, choose_precision

_CUDA = "CUDAExecutionProvider"


class OnnxRuntimeEngine:
    """An `Engine` of a model file; windows of any size up to `rows` x `columns`.

    It works in a stream of its own, which waits for the caller's and is waited for. Raises GpuError where it is not
    installed or cannot use the GPU, ConfigError for a precision that cannot be had.
    """

    name = "onnxruntime"
    capturable = False
    """What it needs for a window it allocates as it goes."""

    def __init__(self, model: ModelFile, asked: Asked, rows: int, columns: int, driver: Driver) -> None:
        ort = _onnxruntime()
        if _CUDA not in ort.get_available_providers():
            raise GpuError("the ONNX Runtime that is installed knows no GPU: put onnxruntime-gpu in its place")
        self.precision = choose_precision(model, asked)
        self.channels, self.rows, self.columns = len(model.info.channels), rows, columns
        self._driver, self._stream = driver, driver.stream()
        self._before, self._after = driver.event(), driver.event()
        data = half(model.data, model.path) if self.precision == "f16" else model.data
        try:
            self._session = ort.InferenceSession(data, providers=[(_CUDA, {"user_compute_stream": str(self._stream)})])
        except Exception as error:  # of its own, without a common base
            raise GpuError(f"{model.path}: cannot be read by ONNX Runtime ({one_line(error)})") from error
        if self._session.get_providers()[0] != _CUDA:
            raise GpuError("ONNX Runtime cannot use the GPU: CUDA or cuDNN is not installed as it wants them")
        self._binding, self._options = self._session.io_binding(), ort.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def enqueue(
        self, surface: Address, shape: tuple[int, ...], class_index: Address, score: Address, stream: Stream
    ) -> None:
        """See `Engine.enqueue`."""
        driver, answer = self._driver, (shape[0], *shape[2:])
        driver.record(self._before, stream)
        driver.wait(self._stream, self._before)
        try:
            self._binding.bind_input("surface", "cuda", 0, np.float32, shape, surface)
            for name, there in (("class_index", class_index), ("score", score)):
                self._binding.bind_output(name, "cuda", 0, np.uint8, answer, there)
            self._session.run_with_iobinding(self._binding, self._options)
        except Exception as error:  # as above
            raise GpuError(f"ONNX Runtime failed on a window of {shape}: {one_line(error)}") from error
        driver.record(self._after, self._stream)
        driver.wait(stream, self._after)


def _onnxruntime() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would write into the home folder
    try:
        import onnxruntime
    except ImportError as error:
        raise GpuError("ONNX Runtime is not installed: run  pip install onnxruntime-gpu") from error
    return onnxruntime
