"""`foilsight cameras`: which there are, and what the strobe plan would tell each."""

import msgspec

from edge.camera.genicam import GenICamCamera, discover
from edge.core.config import CameraConfig
from edge.core.errors import CameraError


def print_cameras(config: CameraConfig) -> int:
    """List every camera that the producers see; returns how many. Raises CameraError where there is no producer."""
    devices = discover(config.producers)
    for device in devices:
        print(device)
        for line in _plan(config, device.id).splitlines():
            print(f"    {line}")
    if not devices:
        print("the producers see no camera")
    return len(devices)


def _plan(config: CameraConfig, device: str) -> str:
    try:
        with GenICamCamera(msgspec.structs.replace(config, device=device)) as camera:
            return str(camera.plan)
    except CameraError as error:
        return f"cannot be used as configured: {error}"
