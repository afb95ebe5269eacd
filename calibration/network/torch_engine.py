"""Model files executed by PyTorch: on a GPU that TensorRT does not know, and as the rival that TensorRT is measured by.

The graph of the ONNX file is walked node by node, so that it is the very network of the file that runs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from edge.core.errors import ModelError
from edge.core.gpu import Address, GpuError, Stream
from edge.segmentation.half import half
from edge.segmentation.model import ModelFile

_TYPES = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.BOOL: torch.bool,
}


class OnnxNetwork(torch.nn.Module):
    """The network of an ONNX file's bytes, of the operators that `foilsight export` writes. Raises ModelError for
    others."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__()
        graph = onnx.load_from_string(data).graph
        self._steps: list[tuple[Callable[..., Tensor], list[str], str]] = []
        self._numbers: dict[str, np.ndarray] = {}
        for constant in graph.initializer:
            values = numpy_helper.to_array(constant)
            self._numbers[constant.name] = values
            self.register_buffer(_attribute(constant.name), torch.from_numpy(np.array(values)))
        for node in graph.node:
            if node.op_type not in _OPERATORS:
                raise ModelError(f"{name}: operator {node.op_type} is not one that foilsight export writes")
            attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            given = [self._numbers.get(each) for each in node.input]
            self._steps.append((_OPERATORS[node.op_type](attributes, given), list(node.input), node.output[0]))

    def forward(self, surface: Tensor) -> tuple[Tensor, Tensor]:
        """Class and score u8 [N,H,W] of a surface f32 [N,C,H,W]."""
        values = {"surface": surface}
        for operator, names, out in self._steps:
            taken = [values[name] if name in values else getattr(self, _attribute(name)) for name in names if name]
            values[out] = operator(*taken)
        return values["class_index"], values["score"]


class TorchEngine:
    """An `Engine` that PyTorch executes, in half precision unless told otherwise. The driver must be open.

    `compiled`: by torch.compile, which takes its time with the first window.
    """

    name = "torch"
    capturable = False
    """It would take memory of its own for every window."""

    def __init__(
        self, model: ModelFile, rows: int, columns: int, precision: str = "f16", compiled: bool = False
    ) -> None:
        self.precision, self.channels, self.rows, self.columns = precision, len(model.info.channels), rows, columns
        data = half(model.data, model.path) if precision == "f16" else model.data
        network = OnnxNetwork(data, str(model.path)).cuda().to(memory_format=torch.channels_last)
        self._network = torch.compile(network) if compiled else network

    @torch.inference_mode()
    def enqueue(
        self, surface: Address, shape: tuple[int, ...], class_index: Address, score: Address, stream: Stream
    ) -> None:
        """See `Engine.enqueue`."""
        answer = (shape[0], *shape[2:])
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
                found = self._network(_there(surface, shape, "<f4"))
                for address, plane in zip((class_index, score), found, strict=True):
                    _there(address, answer, "|u1").copy_(plane)
        except RuntimeError as error:
            raise GpuError(f"PyTorch failed on a window of {shape}: {error}") from error


class _Memory:
    def __init__(self, address: Address, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}


def _there(address: Address, shape: tuple[int, ...], kind: str) -> Tensor:
    """Device memory as a tensor."""
    return torch.as_tensor(_Memory(address, shape, kind), device="cuda")


def _attribute(name: str) -> str:
    return "constant_" + name.replace(".", "_")


Made = Callable[..., Tensor]


def _conv(a: dict[str, Any], _: list[Any]) -> Made:
    pads = a.get("pads", [0, 0, 0, 0])
    assert pads[:2] == pads[2:], "padding alike on both sides"
    return lambda x, w, b=None: F.conv2d(
        x, w, b, a.get("strides", 1), pads[:2], a.get("dilations", 1), a.get("group", 1)
    )


def _conv_transpose(a: dict[str, Any], _: list[Any]) -> Made:
    return lambda x, w, b=None: F.conv_transpose2d(x, w, b, a["strides"])


def _max_pool(a: dict[str, Any], _: list[Any]) -> Made:
    return lambda x: F.max_pool2d(x, a["kernel_shape"], a["strides"])


def _slice(_: dict[str, Any], given: list[Any]) -> Made:
    starts, ends, axes = (int(values[0]) for values in given[1:4])
    return lambda x, *_: x.narrow(axes, starts, min(ends, x.shape[axes]) - starts)


def _gather(a: dict[str, Any], given: list[Any]) -> Made:
    return lambda x, _: x.select(a.get("axis", 0), int(given[1]))


def _reduce_max(a: dict[str, Any], given: list[Any]) -> Made:
    axis = int(given[1][0])
    return lambda x, _: x.amax(axis, keepdim=bool(a.get("keepdims", 1)))


def _arg_max(a: dict[str, Any], _: list[Any]) -> Made:
    return lambda x: x.argmax(a.get("axis", 0), keepdim=bool(a.get("keepdims", 1)))


def _plain(function: Callable[..., Tensor]) -> Callable[[dict[str, Any], list[Any]], Made]:
    return lambda _a, _given: function


_OPERATORS: dict[str, Callable[[dict[str, Any], list[Any]], Made]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "Slice": _slice,
    "Gather": _gather,
    "ReduceMax": _reduce_max,
    "ArgMax": _arg_max,
    "Concat": lambda a, _: lambda *x: torch.cat(x, a["axis"]),
    "Softmax": lambda a, _: lambda x: x.softmax(a.get("axis", -1)),
    "Cast": lambda a, _: lambda x: x.to(_TYPES[a["to"]]),
    "Relu": _plain(torch.relu),
    "Sub": _plain(torch.sub),
    "Div": _plain(torch.div),
    "Add": _plain(torch.add),
    "Mul": _plain(torch.mul),
    "Round": _plain(torch.round),
    "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge),
    "Where": _plain(torch.where),
}
