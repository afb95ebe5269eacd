"""Models on the CPU, by OpenVINO."""

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any, Literal

import numpy as np

from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32, U8
from edge.segmentation.model import ModelFile, Precision
from edge.segmentation.openvino_rows import NotRowByRow, make_row_by_row

SHAPES_KEPT = 4
"""Compiled shapes kept: a line uses one, and another at the end of a short roll."""
REASON_CHARACTERS = 400
_SOURCE_PLACES = ("Exception from ", "Check '", "FrontEnd API failed")
_CONVOLUTIONS = ("Convolution", "Deconvolution")

Answer = tuple[U8, U8]
Asked = Literal["auto", "f32", "bf16"]


class OpenVinoBackend:
    """Executes a model in float32, in bfloat16, or, where the file is quantised, in 8-bit integers.

    `precision` says what runs: what was chosen, and from the first inference on what most convolutions were compiled
    to. A model is compiled for each shape it sees, at its first inference (0.2 s), and has memory for two answers,
    written in turn. Raises ModelError for a model that OpenVINO cannot read or whose inputs and outputs are others
    than it should have, ConfigError for a precision that model or CPU does not have.
    """

    name = "openvino"

    def __init__(self, model: ModelFile, precision: Asked = "auto") -> None:
        self._model = model
        self._requests: OrderedDict[tuple[int, ...], tuple[Any, Iterator[Answer]]] = OrderedDict()
        self._rows: dict[tuple[tuple[int, ...], int], Any] = {}
        self._check(self._read())
        self.precision: str = choose_precision(model, precision, cpu_has_bf16())
        # Left alone, OpenVINO runs bfloat16 where the CPU can. What a quantised file leaves in float stays exact.
        hint = "bf16" if self.precision == "bf16" else "f32"
        self._compile = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}

    def infer(self, surface: F32) -> tuple[U8, U8]:
        """See `Backend.infer`."""
        request, answers = self._request(surface.shape)
        try:
            request.infer({"surface": surface}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise self._failed("cannot be executed", error) from error
        class_index, score = next(answers)
        class_index[:] = request.get_tensor("class_index").data
        score[:] = request.get_tensor("score").data
        return class_index, score

    def row_by_row(self, shape: tuple[int, int, int, int], behind: int) -> "OpenVinoRows | None":
        """See `RowBackend.row_by_row`. Several of one shape are compiled once."""
        key = shape, behind
        if key not in self._rows:
            try:
                self._rows[key] = self._compiled_row_by_row(shape, behind)
            except NotRowByRow:
                self._rows[key] = None
            except RuntimeError as error:
                raise self._failed(f"does not take {shape[2]} rows at a time", error) from error
        compiled = self._rows[key]
        return None if compiled is None else OpenVinoRows(compiled.create_infer_request(), self._failed)

    def _compiled_row_by_row(self, shape: tuple[int, ...], behind: int) -> Any:
        network = self._read()
        network.reshape(list(shape))
        make_row_by_row(_openvino(), network, behind)
        return _core().compile_model(network, "CPU", self._compile)

    def _request(self, shape: tuple[int, ...]) -> tuple[Any, Iterator[Answer]]:
        """What executes a shape, and memory for its answers in turn."""
        if shape not in self._requests:
            network = self._read()
            try:
                network.reshape(list(shape))
                compiled = _core().compile_model(network, "CPU", self._compile)
                request = compiled.create_infer_request()
            except RuntimeError as error:
                raise self._failed(f"does not take a surface of {shape}", error) from error
            self.precision = _compiled_precision(compiled) or self.precision
            if len(self._requests) == SHAPES_KEPT:
                self._requests.popitem(last=False)
            planes = np.empty((2, 2, shape[0], *shape[2:]), np.uint8)
            self._requests[shape] = request, cycle((answer[0], answer[1]) for answer in planes)
        self._requests.move_to_end(shape)
        return self._requests[shape]

    def _read(self) -> Any:
        try:
            network = _core().read_model(self._model.data, b"")
        except RuntimeError as error:
            raise self._failed("cannot be read by OpenVINO", error) from error
        if self._model.info.precision == "int8":
            _fold_quantisers(network)
        return network

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


class OpenVinoRows:
    """A `RowByRow` by OpenVINO; `failed` makes an error of what it raises."""

    def __init__(self, request: Any, failed: Callable[[str, RuntimeError], ModelError]) -> None:
        self._request, self._failed = request, failed

    def begin(self) -> None:
        """See `RowByRow.begin`."""
        self._request.reset_state()

    def push(self, surface: F32) -> tuple[U8, U8]:
        """See `RowByRow.push`."""
        try:
            self._request.infer({"surface": surface}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise self._failed("cannot be executed", error) from error
        return self._request.get_tensor("class_index").data, self._request.get_tensor("score").data


def choose_precision(model: ModelFile, asked: Asked, has_bf16: bool) -> Precision:
    """What to execute a model in. Raises ConfigError for what the model or the CPU does not have.

    A quantised file runs in int8. Of any other, `auto` takes bf16 where the CPU has it and the file states that it
    loses no more than the accuracy budget; f32 where nothing was measured.
    """
    if model.info.precision == "int8":
        if asked != "auto":
            raise ConfigError(f"segmentation.precision is {asked}: {model.path} is quantised to int8, leave it on auto")
        return "int8"
    if asked == "bf16" and not has_bf16:
        raise ConfigError("segmentation.precision is bf16: this CPU does not compute in bfloat16, leave it on auto")
    if asked == "auto":
        return "bf16" if has_bf16 and model.info.within_budget("bf16") else "f32"
    return asked


def cpu_has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU, rather than only accepting to."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _fold_quantisers(network: Any) -> None:
    """Make one FakeQuantize of real values out of each symmetric QuantizeLinear and DequantizeLinear.

    The CPU plugin (2026.4) computes these exactly. Of the pairs as they are in the file it rounds some activations,
    pooled ones among them, to whole numbers before their scale.
    """
    opset = _openvino().opset13
    for quantise in network.get_ops():
        if quantise.get_type_name() != "FakeQuantize":
            continue
        real_range = [quantise.input_value(1), quantise.input_value(2)]
        whole = opset.fake_quantize(
            quantise.input_value(0), *real_range, *real_range, quantise.get_attributes()["levels"]
        )
        last = quantise
        while last.get_type_name() != "Multiply":  # Convert to int8, Convert back, sometimes Subtract 0
            last = next(iter(last.output(0).get_target_inputs())).get_node()
        for user in last.output(0).get_target_inputs():
            user.replace_source_output(whole.output(0))


def _compiled_precision(compiled: Any) -> str | None:
    """What most convolutions run in, from the graph that is executed; None without convolutions."""
    layers = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    counts = Counter(
        layer["runtimePrecision"].astype(str) for layer in layers if layer["layerType"].astype(str) in _CONVOLUTIONS
    )
    if not counts:
        return None
    ((most, _),) = counts.most_common(1)
    return "int8" if most in ("u8", "i8") else most


@cache
def _core() -> Any:
    """The one of this process, for ever: the CPU plugin (2026.4) lends the thread that makes a core a stack for
    signals, and unmaps it when the core goes, in whichever thread that is. The next signal then ends the process."""
    return _openvino().Core()


def _openvino() -> Any:
    """The library without its telemetry, which at import writes into the home folder and calls a server.

    It does without where that package is not installed, and for this process it is not.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    import openvino.op.util

    return openvino
