"""Models on the CPU, by OpenVINO."""

import sys
from collections import OrderedDict
from typing import Any

from edge.core.errors import ModelError
from edge.core.types import F32, U8
from edge.segmentation.model import ModelFile

SHAPES_KEPT = 4
"""Compiled shapes kept: a line uses one, and another at the end of a short roll."""
REASON_CHARACTERS = 400
_SOURCE_PLACES = ("Exception from ", "Check '", "FrontEnd API failed")
_COMPILE = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


class OpenVinoBackend:
    """Executes a model in float32 (left alone, OpenVINO runs bfloat16 where the CPU can).

    A model is compiled for each shape it sees, at its first inference (0.2 s). Raises ModelError for a model that
    OpenVINO cannot read or whose inputs and outputs are others than it should have.
    """

    name = "openvino"
    precision = "f32"

    def __init__(self, model: ModelFile) -> None:
        self._model = model
        self._core = _openvino().Core()
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._check(self._read())

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        request = self._request(surface.shape)
        try:
            request.infer({"surface": surface}, share_inputs=True)
        except RuntimeError as error:
            raise self._failed("cannot be executed", error) from error
        return request.get_tensor("class_index").data.copy(), request.get_tensor("score").data.copy()

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            network = self._read()
            try:
                network.reshape(list(shape))
                request = self._core.compile_model(network, "CPU", _COMPILE).create_infer_request()
            except RuntimeError as error:
                raise self._failed(f"does not take a surface of {shape}", error) from error
            if len(self._requests) == SHAPES_KEPT:
                self._requests.popitem(last=False)
            self._requests[shape] = request
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._model.data, b"")
        except RuntimeError as error:
            raise self._failed("cannot be read by OpenVINO", error) from error

    def _check(self, network: Any) -> None:
        inputs = {name for port in network.inputs for name in port.names}
        outputs = {name for port in network.outputs for name in port.names}
        if "surface" not in inputs or not {"class_index", "score"} <= outputs:
            raise ModelError(
                f"{self._model.path}: model takes {sorted(inputs)} and gives {sorted(outputs)}, "
                "not 'surface' and 'class_index', 'score': write it with `foilsight export`"
            )
        channels = network.input("surface").partial_shape[1]
        if channels.is_static and channels.get_length() != len(self._model.info.channels):
            raise ModelError(
                f"{self._model.path}: model takes {channels.get_length()} channels and names "
                f"{len(self._model.info.channels)}: write it with `foilsight export`"
            )

    def _failed(self, what: str, error: RuntimeError) -> ModelError:
        lines = (line.strip() for line in str(error).splitlines())
        reason = " ".join(line for line in lines if line and not line.startswith(_SOURCE_PLACES))
        return ModelError(f"{self._model.path}: model {what}: {reason[:REASON_CHARACTERS]}")


def _openvino() -> Any:
    """The library without its telemetry, which at import writes into the home folder and calls a server.

    It does without where that package is not installed, and for this process it is not.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
