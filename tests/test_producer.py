"""The simulated camera as a GenTL producer: what a plant's cameras would confront the adapter with, one by one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.camera.genicam import GenICamCamera
from edge.camera.shot import Shot
from edge.core.config import CameraConfig, LightConfig
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import PRODUCTION
from edge.simulation.producer import FILM_VARIABLE, Transport, producer, write_film
from edge.simulation.web import RenderedWeb

MM_PER_COUNT = 0.01
COUNTS_A_FRAME = 160
WEB = StrobedCamera(RenderedWeb(3, 100, PRODUCTION), 20.0, Rig(height_px=75))
"""75 lines of 100 pixels: an image whose size is no multiple of eight."""
SEEN = [frame.pixels for frame in WEB.frames()]

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler for the simulated camera"
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return producer(tmp_path_factory.mktemp("producer"))


Filmed = Callable[..., CameraConfig]


@pytest.fixture
def filmed(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filmed:
    """A film for the producer, played as fast as buffers are given; returns how to open its camera."""

    def begin(web: StrobedCamera = WEB, frames_per_s: float = 0.0, **film: object) -> CameraConfig:
        path = tmp_path / "film"
        write_film(path, web, MM_PER_COUNT, frames_per_s, **film)  # type: ignore[arg-type]
        monkeypatch.setenv(FILM_VARIABLE, str(path))
        return CameraConfig(device="simulated", producers=[compiled])

    return begin


def shots(camera: GenICamCamera, count: int) -> list[Shot]:
    """That many, each with pixels of its own."""
    camera.start()
    found = [camera.next_into(np.empty(camera.shape, camera.dtype), 2.0) for _ in range(count)]
    return [shot for shot in found if shot is not None]


@pytest.mark.parametrize("transport", ["Custom", "GEV", "U3V"])
def test_every_transport_tells_of_each_image_what_it_was_taken_with(filmed: Filmed, transport: Transport) -> None:
    lights = [LightConfig(exposure_us=10.0 + k, gain_db=float(k)) for k in range(4)]
    with GenICamCamera(msgspec.structs.replace(filmed(transport=transport), lights=lights)) as camera:
        assert camera.device.transport == transport
        found = shots(camera, 8)
    assert len(found) == 8 and all(shot.complete for shot in found)
    for at, shot in enumerate(found):
        k = at % 4
        assert (shot.frame_id, shot.active_set, shot.line_status) == (at, k, 1 << k)
        assert (shot.exposure_us, shot.gain_db) == (10.0 + k, float(k))
        assert shot.encoder_count - found[0].encoder_count == at * COUNTS_A_FRAME
        np.testing.assert_array_equal(shot.pixels, SEEN[at])
