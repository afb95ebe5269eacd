"""Image format and chunks: what a camera is told besides its strobe plan."""

from edge.camera.features import CHUNKS, Write
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


def enable_chunks(nodes: Nodes) -> dict[str, str]:
    """Switch on what a Shot can hold; field of Shot to the feature that tells it."""
    if not (nodes.has("ChunkModeActive") and nodes.has("ChunkSelector")):
        return {}
    set_features(nodes, [Write("ChunkModeActive", True)])
    offered = nodes.entries("ChunkSelector")
    found = {}
    for field, names in CHUNKS.items():
        for entry, feature in names:
            if entry in offered and nodes.has(feature):
                set_features(nodes, [Write("ChunkSelector", entry), Write("ChunkEnable", True)])
                found[field] = feature
                break
    return found
