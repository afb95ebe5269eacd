"""Which cameras there are, and which of them a configuration means."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harvesters.core import Harvester

from edge.camera.genicam.nodes import told
from edge.core.errors import CameraError
from edge.core.reading import one_line

_PATH_VARIABLE = "GENICAM_GENTL64_PATH"


@dataclass(frozen=True)
class DeviceInfo:
    """A camera as its producer lists it; "" where it does not say."""

    id: str
    vendor: str
    model: str
    serial: str
    name: str
    transport: str

    def __str__(self) -> str:
        named = f', named "{self.name}"' if self.name else ""
        return f"{self.id} ({self.vendor} {self.model}, serial {self.serial or '-'}{named}, {self.transport})"

    @property
    def answers_to(self) -> tuple[str, ...]:
        """What a configuration may call it."""
        return tuple(filter(None, (self.id, self.serial, self.name, self.model)))


def discover(producers: Sequence[Path]) -> list[DeviceInfo]:
    """Every camera that the producers (.cti files or folders of them, and GENICAM_GENTL64_PATH) see. Raises
    CameraError where one is not a producer. Not while a camera is open in this process."""
    harvester = open_harvester(producers)
    found = [about(device) for device in harvester.device_info_list]
    harvester.reset()
    return found


def open_harvester(producers: Sequence[Path]) -> Harvester:
    harvester = Harvester()
    for path in _producer_files(producers):
        harvester.add_file(str(path))
    with told("GenTL producers cannot list their cameras"), ExitStack() as undo:
        undo.callback(harvester.reset)
        harvester.update()
        undo.pop_all()
    return harvester


def _producer_files(producers: Sequence[Path]) -> list[Path]:
    """The .cti files, each checked to be one."""
    everywhere = [Path(folder) for folder in os.environ.get(_PATH_VARIABLE, "").split(os.pathsep) if folder]
    files: dict[Path, None] = {}
    for path in producers:
        found = sorted(path.glob("*.cti")) if path.is_dir() else [path]
        if not found:
            raise CameraError(f"{path}: no GenTL producer (.cti) in this folder")
        files |= dict.fromkeys(found)
    for folder in everywhere:
        files |= dict.fromkeys(sorted(folder.glob("*.cti")))
    for path in files:
        _check_producer(path)
    if not files:
        raise CameraError(
            f"no GenTL producer: name the .cti of the camera's maker in camera.producers or {_PATH_VARIABLE}"
        )
    return list(files)


def _check_producer(path: Path) -> None:
    """The binding crashes on a library that is no producer, and where it tidies up after one that has been unloaded:
    loading it here, for good, spares us both."""
    try:
        library = CDLL(str(path))
    except OSError as error:
        raise CameraError(f"{path}: not a GenTL producer that loads here ({one_line(error)})") from error
    if not hasattr(library, "GCInitLib"):
        raise CameraError(f"{path}: not a GenTL producer")


def choose(device: str, offered: Sequence[Any]) -> Any:
    """The one device that answers to a name; an id goes before everything else."""
    known = [(about(found), found) for found in offered]
    matching = [one for one in known if one[0].id == device] or [one for one in known if device in one[0].answers_to]
    if len(matching) == 1:
        return matching[0][1]
    listed = "; ".join(str(info) for info, _ in (matching or known)) or "none"
    if matching:
        raise CameraError(f'camera.device = "{device}" means {len(matching)}: {listed}: give id or serial number')
    raise CameraError(f'camera.device = "{device}": no such camera; found: {listed}')


def about(found: Any) -> DeviceInfo:
    said = {key: str(value or "") for key, value in found.property_dict.items()}
    keys = ("id_", "vendor", "model", "serial_number", "user_defined_name", "tl_type")
    return DeviceInfo(*(said.get(key, "") for key in keys))
