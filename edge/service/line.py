"""What a line is made of before it runs: the camera that will be opened, and its calibration."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from edge.camera.genicam import GenICamCamera
from edge.camera.process import Camera
from edge.core.calibration import Calibration
from edge.core.config import CameraConfig, Config
from edge.core.errors import ConfigError


@dataclass(frozen=True)
class Line:
    """`open_camera` is called in the camera's own process, with the configuration as it fits the calibration."""

    calibration: Calibration
    open_camera: Callable[[CameraConfig], AbstractContextManager[Camera]]

    @property
    def frame_mm(self) -> float:
        """Length of web that a frame shows."""
        return self.calibration.height * (self.calibration.pitch_mm or 0.0)


def configured_line(config: Config) -> Line:
    """The line that the configuration describes. Raises FoilsightError."""
    if not config.camera.device:
        raise ConfigError("camera.device: which camera is it? foilsight cameras lists them")
    if config.calibration is None:
        raise ConfigError("calibration: nothing can be inspected without one, name its file")
    return Line(Calibration.load(config.calibration), GenICamCamera)
