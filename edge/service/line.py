"""What a line is made of before it runs: the camera that will be opened, and its calibration."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.camera.genicam import GenICamCamera
from edge.camera.unpack import pixel_format
from edge.core.calibration import Calibration
from edge.core.config import CameraConfig, Config
from edge.core.errors import ConfigError
from edge.core.faults import load_faults
from edge.service.progress import web_progress
from edge.service.simulate import DENSITIES
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.producer import FILM_VARIABLE, producer, write_film
from edge.simulation.web import RenderedWeb

SIMULATED = "simulated"


@dataclass(frozen=True)
class Line:
    """`open_camera` is called in the camera's own process, with the configuration as it fits the calibration."""

    calibration: Calibration
    open_camera: Callable[[CameraConfig], GenICamCamera]

    @property
    def frame_mm(self) -> float:
        """Length of web that a frame shows."""
        return self.calibration.height * (self.calibration.pitch_mm or 0.0)


@contextmanager
def configured_line(config: Config, quiet: bool = False) -> Iterator[Line]:
    """The line that the configuration describes. Raises FoilsightError."""
    if config.camera.device == SIMULATED:
        with tempfile.TemporaryDirectory(prefix="foilsight-film-") as folder:
            yield _simulated(config, Path(folder) / "film", quiet)
        return
    if not config.camera.device:
        raise ConfigError(
            'camera.device: which camera is it? foilsight cameras lists them; "simulated" is always there'
        )
    if config.calibration is None:
        raise ConfigError("calibration: nothing can be inspected without one, name its file")
    yield Line(Calibration.load(config.calibration), GenICamCamera)


def _simulated(config: Config, film: Path, quiet: bool) -> Line:
    simulated = config.camera.simulated
    faults = None if simulated.faults is None else load_faults(simulated.faults)
    bits = pixel_format(config.camera.pixel_format, simulated.width_px).bits
    web = StrobedCamera(
        RenderedWeb(simulated.seed, simulated.width_px, DENSITIES[simulated.density]),
        simulated.length_mm,
        Rig(bits=bits),
    )
    compiled = producer(cache_folder())
    with web_progress("rendering", web.web_mm, quiet) as at:
        write_film(
            film,
            web,
            config.camera.encoder_mm_per_count,
            simulated.frames_per_s,
            simulated.repeats,
            faults,
            at,
            transport=simulated.transport,
        )
    return Line(web.calibration, _Simulated(compiled, film))


@dataclass(frozen=True)
class _Simulated:
    """Opens the producer's camera in whatever process it is called."""

    compiled: Path
    film: Path

    def __call__(self, config: CameraConfig) -> GenICamCamera:
        os.environ[FILM_VARIABLE] = str(self.film)
        return GenICamCamera(config, [self.compiled])


def cache_folder() -> Path:
    """Where what can be made again is kept: CACHE_DIRECTORY as systemd sets it, or under XDG_CACHE_HOME."""
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "foilsight"
