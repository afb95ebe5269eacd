"""Networks in 8-bit integers, and what each precision of execution finds on webs that nobody trained on."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from calibration.network.commands import FIRST_TRAINING_SEED
from calibration.network.rendered import render_webs, varied_camera
from calibration.network.sampling import PatchSampler
from edge.core.config import Config, SegmentationConfig
from edge.core.errors import ConfigError, ModelError
from edge.core.types import F32
from edge.segmentation.model import METADATA_KEY, Accuracy, ModelFile, ModelInfo, Precision
from edge.service.evaluate import evaluate
from edge.simulation.planting import LABELS

PATCHES = 48


def quantise(model: ModelFile, patches: F32) -> onnx.ModelProto:
    """The network with weights and activations in 8 bits as explicit QuantizeLinear and DequantizeLinear pairs.

    All are signed and symmetric, weights per output channel, activations per tensor with ranges seen on `patches`
    (N,C,H,W); biases and everything behind `logits` stay in float. Metadata are kept as they are. Raises ModelError
    for a file that is already quantised or has no `logits`.
    """
    nncf = _nncf()
    if model.info.precision == "int8":
        raise ModelError(f"{model.path}: is already quantised: give the file it was made from")
    proto = onnx.load_from_string(model.data)
    with redirect_stdout(sys.stderr):  # it tells its progress
        quantised = nncf.quantize(
            proto,
            nncf.Dataset(list(patches), lambda patch: {"surface": patch[None]}),
            subset_size=len(patches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(names=_behind_logits(proto.graph, model.path)),
            advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
        )
    _make_signed(quantised.graph)
    onnx.checker.check_model(quantised)
    del quantised.metadata_props[:]
    quantised.metadata_props.extend(proto.metadata_props)
    return quantised


def patches_of_webs(info: ModelInfo, webs: int, length_mm: float, width_px: int) -> F32:
    """Patches (N,C,256,256) of so many of the webs that networks are trained on, to take ranges of activations from."""
    seeds = range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + webs)
    rendered = render_webs(seeds, length_mm, width_px, info.channels)
    return PatchSampler(rendered, info.channels, len(info.classes), patch=256, seed=1).draw(PATCHES)[0]


def write_info(path: Path, proto: onnx.ModelProto, info: ModelInfo) -> None:
    """Write a model with `info` as its description; other metadata and the graph stay as they are."""
    others = {entry.key: entry.value for entry in proto.metadata_props if entry.key != METADATA_KEY}
    onnx.helper.set_model_props(proto, {**others, METADATA_KEY: msgspec.json.encode(info).decode()})
    new = path.with_suffix(path.suffix + ".new")
    new.write_bytes(proto.SerializeToString())
    new.replace(path)


def measure(
    files: Mapping[Precision, Path], seeds: Sequence[int], length_mm: float, width_px: int
) -> dict[Precision, Accuracy]:
    """What each precision, executed from its file, finds on the same rendered webs, one a seed.

    Each web is another machine's (see `varied_camera`). Raises ConfigError where there is nothing to find in them.
    """
    totals = {precision: np.zeros(4, np.int64) for precision in files}
    for number, seed in enumerate(seeds, start=1):
        print(f"measuring on web {number} of {len(seeds)}", file=sys.stderr, flush=True)
        camera = varied_camera(seed, length_mm, width_px)
        truth = camera.web.classes(0, camera.rows)
        for precision, path in files.items():
            asked = "auto" if precision == "int8" else precision
            config = Config(segmentation=SegmentationConfig(model=path, precision=asked))
            scores = evaluate(camera, truth, config, quiet=True).per_class.values()
            totals[precision] += sum(np.array([s.planted, s.found, s.events, s.true_events]) for s in scores)
    return {precision: _accuracy(*map(int, counts)) for precision, counts in totals.items()}


def check_classes(model: ModelFile) -> None:
    """Raises ConfigError where a model tells other classes apart than rendered webs hold."""
    if model.info.classes != list(LABELS):
        raise ConfigError(f"{model.path}: tells {model.info.classes} apart, rendered webs hold {list(LABELS)}")


def _accuracy(planted: int, found: int, events: int, true_events: int) -> Accuracy:
    if not planted or not events:
        raise ConfigError("the webs to measure on hold nothing that is found: take longer ones, or more")
    return Accuracy(
        object_recall=found / planted, object_precision=true_events / events, planted=planted, events=events
    )


def _behind_logits(graph: onnx.GraphProto, path: Path) -> list[str]:
    """The nodes that make the decision, in their order."""
    reached, names = {"logits"}, []
    for node in graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            names.append(node.name)
    if not names:
        raise ModelError(f"{path}: no tensor of the model is named 'logits': write it with `foilsight export`")
    return names


def _make_signed(graph: onnx.GraphProto) -> None:
    """Unsigned activations become signed of the same range: TensorRT takes no others. Costs those behind a ReLU a bit.

    Their zero point is 0 already, which is what makes them symmetric.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    retyped = set()
    for node in graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        if zero.data_type == onnx.TensorProto.UINT8:
            wider = numpy_helper.to_array(scale) * np.float32(255 / 127)
            scale.CopyFrom(numpy_helper.from_array(wider, scale.name))
            zero.CopyFrom(numpy_helper.from_array(np.zeros(zero.dims, np.int8), zero.name))
            retyped.add(node.output[0])
    for value in graph.value_info:
        if value.name in retyped:
            value.type.tensor_type.elem_type = onnx.TensorProto.INT8


def _nncf():  # type: ignore[no-untyped-def]
    """NNCF without what it and ONNX Runtime under it would send and write into the home folder."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function would silence others' handlers as well
    return nncf
