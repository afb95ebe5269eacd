"""Image format and chunks: what a camera is told besides its strobe plan."""

from edge.camera.features import CHUNKS, Chunk, Write
from edge.camera.strobe import Nodes, set_features
from edge.camera.unpack import PixelFormat, pixel_format
from edge.core.config import CameraConfig


def set_format(config: CameraConfig, nodes: Nodes) -> tuple[PixelFormat, tuple[int, int]]:
    """Set pixel format and size; a size that the configuration leaves open stays as the camera has it. Returns the
    format and (height, width). Raises CameraError where the camera does not accept them."""
    wanted = [Write("AcquisitionMode", "Continuous")] if nodes.has("AcquisitionMode") else []
    wanted.append(Write("PixelFormat", config.pixel_format))
    sizes = (("Width", config.width_px), ("Height", config.height_px))
    wanted += [Write(feature, pixels) for feature, pixels in sizes if pixels is not None]
    set_features(nodes, wanted)
    width, height = int(nodes.read("Width")), int(nodes.read("Height"))
    return pixel_format(config.pixel_format, width), (height, width)


def offered_chunks(nodes: Nodes, strobe: str) -> dict[str, list[Chunk]]:
    """What a camera can tell beside an image, by field of a Shot, best first. The set of a sequencer that a strobe
    controller stands in for says nothing about the light."""
    if not (nodes.has("ChunkModeActive") and nodes.has("ChunkSelector")):
        return {}
    entries = nodes.entries("ChunkSelector")
    offered = {
        field: [chunk for chunk in chunks if chunk.entry in entries and nodes.has(chunk.feature)]
        for field, chunks in CHUNKS.items()
        if not (field == "active_set" and strobe == "controller")
    }
    return {field: chunks for field, chunks in offered.items() if chunks}


def enable_chunks(nodes: Nodes, strobe: str) -> dict[str, str]:
    """Switch on what tells a Shot's fields; field to the feature that will hold it."""
    enabled = {}
    for field, chunks in offered_chunks(nodes, strobe).items():
        telling = [chunk for chunk in chunks if not _idle(chunk, nodes)]
        if telling:
            on = (Write("ChunkModeActive", True), Write("ChunkSelector", telling[0].entry), Write("ChunkEnable", True))
            set_features(nodes, on)
            enabled[field] = telling[0].feature
    return enabled


def _idle(chunk: Chunk, nodes: Nodes) -> bool:
    off = chunk.unless
    return off is not None and nodes.has(off.feature) and nodes.read(off.feature) == off.value
