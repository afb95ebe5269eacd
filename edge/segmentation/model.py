"""The model file: one ONNX file that says itself what it wants and what it gives.

Input `surface` f32 [N,C,H,W]; outputs `class_index` u8 and `score` u8 [N,H,W]. The metadata key `foilsight` holds a
`ModelInfo` as JSON, so that no second file can be mixed up with the first.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.config import DefectsConfig
from edge.core.errors import ModelError
from edge.core.reading import one_line, read_file, read_opened
from edge.segmentation.onnx_metadata import read_metadata
from edge.segmentation.surface_channels import CHANNELS

METADATA_KEY = "foilsight"
MAX_FILE_BYTES = 512 << 20
MAX_CHANNELS = 64
SHIPPED_MODEL = Path(__file__).parent / "models" / "foil.onnx"

ACCURACY_BUDGET = 0.01
"""What execution below f32 may lose of object recall and of object precision: one point of each."""

Probability = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Noise = Annotated[float, Meta(ge=1e-6)]
Precision = Literal["f32", "bf16", "int8"]


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """What became of unseen webs at one precision of execution: share of the `planted` objects that were found, share
    of the `events` that were true."""

    object_recall: Share
    object_precision: Share
    planted: Count
    events: Count


class GateInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate in front of the network learnt (see `edge.segmentation.gate`).

    `threshold`: score beyond which a cell is marked; `noise`: least and largest noise by channel on the webs it learnt
    from, root mean square in the channels' units; `recall`: share of the `objects` the network found on them
    that the gate lets through whole.
    """

    threshold: Annotated[float, Meta(gt=0)]
    noise: list[tuple[Noise, Noise]]
    recall: Share
    objects: Count


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file says of itself.

    `classes`: labels by class index, index 0 is background; `channels`: names of the input planes in their order;
    `pitch_mm`: web length of a pixel it was trained at; `grid`: windows must start and end on multiples of it;
    `halo`: pixels that must be seen beyond an edge on the grid for all up to the
    edge to be decided as in the whole web; `thresholds`: smallest probability of each of
    `classes[1:]`; `min_areas_px`: smallest area of a component of each of them, empty where any will do;
    `precision`: int8 where weights and activations are quantised; `accuracy`: measured on the same webs
    at each precision of execution, in an int8 file also that of the file it was made from; `gate`: None where none was
    learnt; `provenance`: how it was made.
    """

    classes: Annotated[list[str], Meta(min_length=2, max_length=255)]
    channels: Annotated[list[str], Meta(min_length=1, max_length=MAX_CHANNELS)]
    pitch_mm: Annotated[float, Meta(ge=1e-6, le=100)]
    grid: Annotated[int, Meta(ge=1, le=1024)]
    halo: Annotated[int, Meta(ge=0, le=4096)]
    thresholds: list[Probability]
    min_areas_px: list[Annotated[int, Meta(ge=0)]] = []
    precision: Literal["f32", "int8"] = "f32"
    accuracy: dict[Precision, Accuracy] = {}
    gate: GateInfo | None = None
    provenance: dict[str, str] = {}

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.classes) - 1:
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.classes) - 1} classes beside background")
        if self.min_areas_px and len(self.min_areas_px) != len(self.thresholds):
            raise ValueError(f"{len(self.min_areas_px)} smallest areas for {len(self.thresholds)} thresholds")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        if self.halo % self.grid:
            raise ValueError(f"halo {self.halo} is not a multiple of the grid {self.grid}")
        if self.gate is not None and len(self.gate.noise) != len(self.channels):
            raise ValueError(f"the gate knows the noise of {len(self.gate.noise)} channels, not {len(self.channels)}")

    def rules(self, of_line: DefectsConfig) -> DefectsConfig:
        """The rules of a line, with the model's smallest areas where those are larger."""
        classes = dict(of_line.classes)
        for label, area_px in zip(self.classes[1:], self.min_areas_px, strict=False):
            rule = of_line.rule(label)
            area_mm2 = max(rule.min_area_mm2, area_px * self.pitch_mm**2)
            classes[label] = msgspec.structs.replace(rule, min_area_mm2=area_mm2)
        return msgspec.structs.replace(of_line, classes=classes)

    def loss(self, precision: Precision) -> float | None:
        """What `precision` loses against f32 of object recall or precision, whichever is more; None if not measured."""
        here, exact = self.accuracy.get(precision), self.accuracy.get("f32")
        if here is None or exact is None:
            return None
        recall, true = exact.object_recall - here.object_recall, exact.object_precision - here.object_precision
        return round(max(recall, true), 6)

    def within_budget(self, precision: Precision) -> bool:
        """Whether `precision` was measured and loses no more than ACCURACY_BUDGET."""
        loss = self.loss(precision)
        return loss is not None and loss <= ACCURACY_BUDGET


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file in memory: where it came from, what it says of itself, SHA-256 in hexadecimal, its bytes."""

    path: Path
    info: ModelInfo
    digest: str
    data: bytes


def load_model(path: Path | None) -> ModelFile:
    """Read a model file for the line; None gives the shipped one. Raises ModelError, also for one of photographs."""
    return _for_the_line(read_model(SHIPPED_MODEL if path is None else path))


def load_opened_model(file: int, name: Path) -> ModelFile:
    """As `load_model`, of a file that somebody else has opened: a descriptor, and what errors call it."""
    return _for_the_line(_parsed(read_opened(file, name, MAX_FILE_BYTES, ModelError), name))


def read_model(path: Path) -> ModelFile:
    """Read any model file, whatever its channels are called. Raises ModelError."""
    return _parsed(read_file(path, MAX_FILE_BYTES, ModelError), path)


def _parsed(data: bytes, path: Path) -> ModelFile:
    return ModelFile(path=path, info=_read_info(data, path), digest=hashlib.sha256(data).hexdigest(), data=data)


def _for_the_line(model: ModelFile) -> ModelFile:
    for name in model.info.channels:
        if name not in CHANNELS:
            raise ModelError(
                f"{model.path}: model wants channel '{one_line(name)}' which the surface does not have "
                f"({', '.join(CHANNELS)}): judge it with `foilsight evaluate --data`, train another for the line"
            )
    return model


def _read_info(data: bytes, path: Path) -> ModelInfo:
    try:
        metadata = read_metadata(data)
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX model ({one_line(error)})") from error
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path}: ONNX model without '{METADATA_KEY}' metadata: write it with `foilsight export`")
    try:
        return msgspec.json.decode(metadata[METADATA_KEY], type=ModelInfo)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ModelError(f"{path}: bad '{METADATA_KEY}' metadata: {one_line(error)}") from error
