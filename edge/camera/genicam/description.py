"""What a camera could be told, from its description alone."""

from pathlib import Path
from typing import Literal

import msgspec
from genicam import genapi

from edge.camera.genicam.nodes import FeatureNodes, told
from edge.camera.setup import offered_chunks
from edge.camera.strobe import strobe_plan
from edge.core.config import CameraConfig
from edge.core.errors import CameraError
from edge.core.reading import read_file

Strobe = Literal["sequencer", "controller"]
_STROBES: tuple[Strobe, ...] = ("sequencer", "controller")
_MOST_BYTES = 64 << 20


class _Memory(genapi.AbstractPort):  # type: ignore[misc]
    """Registers of a camera that has everything its description speaks of: ones until something is written."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes: dict[int, int] = {}

    def get_access_mode(self) -> int:
        return int(genapi.EAccessMode.RW)

    def is_open(self) -> bool:
        return True

    def read(self, address: int, length: int) -> bytes:
        return bytes(self._bytes.get(address + at, 0xFF) for at in range(length))

    def write(self, address: int, value: bytes) -> None:
        self._bytes |= {address + at: byte for at, byte in enumerate(value)}


def describe_plan(xml: Path, config: CameraConfig) -> str:
    """For a GenICam description (XML): what the camera would be told to strobe the configured lights, by its own
    sequencer and beside an external controller, or why it cannot. Takes everything the description speaks of as
    there; a single model may lack some. Raises CameraError where the file is no such description."""
    text = read_file(xml, _MOST_BYTES, CameraError).decode(errors="replace")
    node_map = genapi.NodeMap()
    with told(f"{xml}: not a GenICam description"):
        node_map.load_xml_from_string(text[max(text.find("<"), 0) :])
        memory = _Memory()
        for node in node_map.nodes:
            if node.node.principal_interface_type == genapi.EInterfaceType.intfIPort:
                node_map.connect(memory, node.node.name)
    name = f"{node_map.device_info.vendor_name} {node_map.device_info.model_name}"
    return "\n".join([name, *(_plan(config, who, FeatureNodes(node_map, name)) for who in _STROBES)])


def _plan(config: CameraConfig, strobe: Strobe, nodes: FeatureNodes) -> str:
    try:
        plan = strobe_plan(msgspec.structs.replace(config, strobe=strobe), nodes)
    except CameraError as why:
        return f"strobe = '{strobe}': no: {why}"
    brings = (
        ", ".join(chunks[0].feature for chunks in offered_chunks(nodes, strobe).values()) or "nothing but its frame id"
    )
    lines = [f"strobe = '{strobe}': {plan}", f"each image can bring: {brings}"]
    return "\n".join(lines).replace("\n", "\n    ")
