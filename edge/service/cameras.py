"""`foilsight cameras`: which there are, and what the strobe plan would tell each."""

import msgspec

from edge.camera.genicam import GenICamCamera, discover
from edge.core.config import Config
from edge.core.errors import CameraError
from edge.service.line import SIMULATED, configured_line


def print_cameras(config: Config) -> int:
    """List every camera that the producers see, or the simulated one where that is the line's; returns how many.

    Raises CameraError where there is no producer.
    """
    if config.camera.device == SIMULATED:
        with configured_line(config) as line:
            _print(SIMULATED, line.open_camera(config.camera))
        return 1
    devices = discover(config.camera.producers)
    for device in devices:
        _print(str(device), GenICamCamera(msgspec.structs.replace(config.camera, device=device.id)))
    if not devices:
        print("the producers see no camera")
    return len(devices)


def _print(name: str, camera: GenICamCamera) -> None:
    """A camera, and what it would be told."""
    print(name)
    try:
        with camera:
            plan = str(camera.plan)
    except CameraError as error:
        plan = f"cannot be used as configured: {error}"
    for line in plan.splitlines():
        print(f"    {line}")
