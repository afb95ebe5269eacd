"""A model in 16-bit floats: what engines that compute in half precision are made from.

Types are spelled out in the file, since TensorRT takes them from there alone. Half is all between the first convolution
and `logits`; the normalisation before and the decision behind stay as they are, and so do inputs and outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.core.errors import MissingExtra, ModelError

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LOGITS = "logits"
_HALF = "half_"
_SHAPED_BY_THE_REST = ("Resize", "Reshape", "Slice", "Pad")
"""Only the first input of these is data."""


def half(data: bytes, path: Path) -> bytes:
    """The network of an ONNX file's bytes, computed in half precision up to its logits.

    `path`: where it came from. Raises ModelError for a network without convolutions or `logits`, and for weights that
    half precision cannot hold; MissingExtra without the package onnx.
    """
    onnx = _onnx()
    proto = onnx.load_from_string(data)
    graph, nodes = proto.graph, list(proto.graph.node)
    inside = _inside(nodes)
    if not inside:
        raise ModelError(f"{path}: no convolutions before a tensor 'logits': write it with `foilsight export`")
    made = {name for at in inside for name in nodes[at].output}
    kinds = {constant.name: constant.data_type for constant in graph.initializer}
    to_half, to_float = {"to": onnx.TensorProto.FLOAT16}, {"to": onnx.TensorProto.FLOAT}
    wanted: set[str] = set()  # constants in half
    ordered, cast = [], {_LOGITS}
    for at, node in enumerate(nodes):
        for slot, name in enumerate(_data_of(node) if at in inside else ()):
            if kinds.get(name, onnx.TensorProto.FLOAT) != onnx.TensorProto.FLOAT or not name:
                continue
            if name in kinds:
                wanted.add(name)
            elif name not in made and name not in cast:
                cast.add(name)
                ordered.append(onnx.helper.make_node("Cast", [name], [_HALF + name], **to_half))
            if name in kinds or name in cast:
                node.input[slot] = _HALF + name
        if at in inside and _LOGITS in node.output:
            node.output[:] = [_HALF + name if name == _LOGITS else name for name in node.output]
            ordered += [node, onnx.helper.make_node("Cast", [_HALF + _LOGITS], [_LOGITS], **to_float)]
        else:
            ordered.append(node)
    for constant in [constant for constant in graph.initializer if constant.name in wanted]:
        values = onnx.numpy_helper.to_array(constant)
        graph.initializer.append(onnx.numpy_helper.from_array(_halved(values, path), _HALF + constant.name))
    _replace(graph, ordered)
    return bytes(proto.SerializeToString())


def _data_of(node: Any) -> Sequence[str]:
    names: Sequence[str] = node.input
    return names[:1] if node.op_type in _SHAPED_BY_THE_REST else names


def _inside(nodes: Sequence[Any]) -> set[int]:
    """Which nodes lie between the first convolutions and `logits`."""
    reached: set[str] = set()
    behind = set()
    for at, node in enumerate(nodes):
        if node.op_type in _CONVOLUTIONS or reached.intersection(node.input):
            behind.add(at)
            reached.update(node.output)
    needed, inside = {_LOGITS}, set()
    for at in sorted(behind, reverse=True):
        if needed.intersection(nodes[at].output):
            inside.add(at)
            needed.update(nodes[at].input)
    return inside


def _halved(values: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise ModelError(f"{path}: a weight is too large for half precision: use segmentation.precision f32")
    return values.astype(np.float16)


def _replace(graph: Any, nodes: Sequence[Any]) -> None:
    """Put `nodes` for those of a graph, and drop constants and noted types that no node asks for any more."""
    nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    asked = {name for node in nodes for name in node.input}
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in asked:
            del graph.initializer[at]


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "gpu") from error
    return onnx
