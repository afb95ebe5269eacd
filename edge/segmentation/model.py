"""The model file: one ONNX file that says itself what it wants and what it gives.

Input `surface` f32 [N,C,H,W]; outputs `class_index` u8 and `score` u8 [N,H,W]. The metadata key `foilsight` holds a
`ModelInfo` as JSON, so that no second file can be mixed up with the first.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.core.errors import ModelError
from edge.segmentation.onnx_metadata import read_metadata
from edge.segmentation.surface_channels import CHANNELS

METADATA_KEY = "foilsight"
MAX_FILE_BYTES = 512 << 20
SHIPPED_MODEL = Path(__file__).parent / "models" / "foil.onnx"

Probability = Annotated[float, Meta(gt=0, le=1)]


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file says of itself.

    `classes`: labels by class index, index 0 is background; `channels`: names of the input planes in their order;
    `pitch_mm`: web length of a pixel it was trained at; `grid`: windows must start and end on multiples of it;
    `halo`: pixels that must be seen beyond an edge on the grid for all up to the
    edge to be decided as in the whole web; `thresholds`: smallest probability of each of
    `classes[1:]`; `provenance`: how it was made.
    """

    classes: Annotated[list[str], Meta(min_length=2, max_length=255)]
    channels: Annotated[list[str], Meta(min_length=1)]
    pitch_mm: Annotated[float, Meta(gt=0)]
    grid: Annotated[int, Meta(ge=1, le=1024)]
    halo: Annotated[int, Meta(ge=0, le=4096)]
    thresholds: list[Probability]
    provenance: dict[str, str] = {}

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.classes) - 1:
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.classes) - 1} classes beside background")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("a class is named twice")
        if self.halo % self.grid:
            raise ValueError(f"halo {self.halo} is not a multiple of the grid {self.grid}")
        for name in self.channels:
            if name not in CHANNELS:
                raise ValueError(
                    f"model wants channel '{name}' which the surface does not have ({', '.join(CHANNELS)})"
                )


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file in memory: where it came from, what it says of itself, SHA-256 in hexadecimal, its bytes."""

    path: Path
    info: ModelInfo
    digest: str
    data: bytes


def load_model(path: Path | None) -> ModelFile:
    """Read a model file; None gives the shipped one. Raises ModelError."""
    path = SHIPPED_MODEL if path is None else path
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: {size >> 20} MB is more than a model may have ({MAX_FILE_BYTES >> 20} MB)")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: model cannot be read ({error.strerror})") from error
    return ModelFile(path=path, info=_read_info(data, path), digest=hashlib.sha256(data).hexdigest(), data=data)


def _read_info(data: bytes, path: Path) -> ModelInfo:
    try:
        metadata = read_metadata(data)
    except ValueError as error:
        raise ModelError(f"{path}: not an ONNX model ({error})") from error
    if METADATA_KEY not in metadata:
        raise ModelError(f"{path}: ONNX model without '{METADATA_KEY}' metadata: write it with `foilsight export`")
    try:
        return msgspec.json.decode(metadata[METADATA_KEY], type=ModelInfo)
    except msgspec.MsgspecError as error:
        raise ModelError(f"{path}: bad '{METADATA_KEY}' metadata: {error}") from error
