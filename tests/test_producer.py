"""The simulated camera as a GenTL producer: what a plant's cameras would confront the adapter with, one by one."""

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.camera.genicam import GenICamCamera, discover
from edge.camera.genicam.devices import open_harvester
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


@pytest.fixture
def three(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.uint8]]:
    """Three cameras, each on a web and a transport of its own; returns what each sees first."""
    films, first = [], []
    for seed, transport in enumerate(get_args(Transport)):
        web = dataclasses.replace(WEB, web=RenderedWeb(seed, 100, PRODUCTION), length_mm=4.0)
        write_film(tmp_path / transport, web, MM_PER_COUNT, 0.0, repeats=True, transport=transport)
        films.append(str(tmp_path / transport))
        first.append(next(web.frames()).pixels)
    monkeypatch.setenv(FILM_VARIABLE, os.pathsep.join(films))
    return first


def test_each_of_several_cameras_is_listed_and_opened_by_its_serial_number(
    compiled: Path, three: list[NDArray[np.uint8]]
) -> None:
    listed = discover([compiled])
    assert [(info.serial, info.transport) for info in listed] == [("1", "Custom"), ("2", "GEV"), ("3", "U3V")]
    assert len({info.id for info in listed}) == len({info.name for info in listed}) == 3
    for serial, first in enumerate(three, 1):
        with GenICamCamera(CameraConfig(device=str(serial), producers=[compiled])) as camera:
            np.testing.assert_array_equal(shots(camera, 1)[0].pixels, first)


def test_cameras_of_one_producer_stream_beside_each_other(compiled: Path, three: list[NDArray[np.uint8]]) -> None:
    """Through Harvesters itself: our adapter has a process for each camera."""
    before = signal.getsignal(signal.SIGINT)
    harvester = open_harvester([compiled])
    try:
        one, other = (harvester.create({"serial_number": serial}) for serial in ("1", "3"))
        for acquirer in (one, other):
            acquirer.remote_device.node_map.UserOutputValueAll.value = 1
            acquirer.start()
        for acquirer, first in ((other, three[2]), (one, three[0])) * 3:
            with acquirer.fetch(timeout=2.0) as buffer:
                np.testing.assert_array_equal(buffer.payload.components[0].data.reshape(75, 100), first)
        other.destroy()
        with one.fetch(timeout=2.0) as buffer:
            np.testing.assert_array_equal(buffer.payload.components[0].data.reshape(75, 100), three[0])
    finally:
        harvester.reset()
        signal.signal(signal.SIGINT, before)
