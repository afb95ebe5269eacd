"""A trained network as one ONNX file that decides by itself."""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from calibration.network.networks.network import LineNetwork
from edge.segmentation.model import METADATA_KEY, ModelInfo

OPSET = 20


class Classifier(nn.Module):
    """A network with its decision: `class_index` and `score` u8 [N,H,W] of a surface f32 [N,C,H,W].

    The class is the most probable of those that reach their threshold, else background; score is 255 p(class).
    """

    thresholds: Tensor

    def __init__(self, network: LineNetwork, thresholds: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("thresholds", torch.tensor(thresholds)[:, None, None])

    def forward(self, surface: Tensor) -> tuple[Tensor, Tensor]:
        p = self.network(surface).softmax(dim=1)
        sure = torch.where(p[:, 1:] >= self.thresholds, p[:, 1:], 0.0)
        best, index = sure.max(dim=1)
        found = best > 0
        class_index = torch.where(found, index + 1, 0)
        score = torch.where(found, best, p[:, 0])
        return class_index.to(torch.uint8), torch.round(255 * score).to(torch.uint8)


def export(model: LineNetwork, path: Path, info: ModelInfo) -> None:
    """Write a network and its description as one ONNX file. Raises ValueError where they do not fit each other."""
    if model.shape[:2] != (len(info.channels), len(info.classes)):
        raise ValueError(f"a network of {model.shape[:2]} channels and classes, described as {info}")
    classifier = Classifier(fold_batch_norm(model), info.thresholds).eval()
    sample = torch.zeros(2, len(info.channels), 4 * model.grid, 5 * model.grid)
    rows, columns = (torch.export.Dim(name, min=1) * model.grid for name in ("grid_rows", "grid_columns"))
    with _quiet_exporter():
        program = torch.onnx.export(
            classifier,
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["surface"],
            output_names=["class_index", "score"],
            dynamic_shapes={"surface": {0: torch.export.Dim("n", min=1), 2: rows, 3: columns}},
            verbose=False,
        )
    assert program is not None  # only without dynamo
    proto = program.model_proto
    _name_logits(proto.graph)
    forget_origin(proto)
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, msgspec.json.encode(info).decode()
    onnx.checker.check_model(proto)
    path.write_bytes(proto.SerializeToString())


def fold_batch_norm(model: LineNetwork) -> LineNetwork:
    """A copy of the network, in evaluation mode, with each batch norm folded into the convolution before it."""
    folded = copy.deepcopy(model).eval()
    for part in list(folded.modules()):
        for (before, convolution), (after, norm) in pairwise(list(part.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part.add_module(before, fuse_conv_bn_eval(convolution, norm))
                part.add_module(after, nn.Identity())
    return folded


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences what torch's exporter says of its own deprecated parts and of torchvision, which nobody here uses."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        registration.setLevel(level)


def forget_origin(proto: onnx.ModelProto) -> None:
    """Take out what torch's exporter notes on every node: source files of the machine it ran on, and half the file."""
    graph = proto.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _name_logits(graph: onnx.GraphProto) -> None:
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    before = softmax.input[0]
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == before:
                    names[at] = "logits"
    for value in graph.value_info:
        if value.name == before:
            value.name = "logits"
