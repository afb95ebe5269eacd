"""The simulated camera as a GenTL producer: what a plant's cameras would confront the adapter with, one by one."""

import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

from benchmarks.camera_cycles import measure, opens_and_closes, starts_and_stops
from edge.camera.genicam import GenICamCamera, discover
from edge.camera.genicam.devices import open_harvester
from edge.camera.shot import Shot
from edge.camera.unpack import BY_NAME
from edge.core.config import CameraConfig, Config, LightConfig, SimulatedConfig
from edge.core.errors import CameraError
from edge.core.faults import Fault, FaultScript
from edge.core.types import Pixels
from edge.service.line import configured_line
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.faulty import with_faults
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
def three(compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pixels]:
    """Three cameras, each on a web and a transport of its own; returns what each sees first."""
    films, first = [], []
    for seed, transport in enumerate(get_args(Transport)):
        web = dataclasses.replace(WEB, web=RenderedWeb(seed, 100, PRODUCTION), length_mm=4.0)
        write_film(tmp_path / transport, web, MM_PER_COUNT, 0.0, repeats=True, transport=transport)
        films.append(str(tmp_path / transport))
        first.append(next(web.frames()).pixels)
    monkeypatch.setenv(FILM_VARIABLE, os.pathsep.join(films))
    return first


def test_each_of_several_cameras_is_listed_and_opened_by_its_serial_number(compiled: Path, three: list[Pixels]) -> None:
    listed = discover([compiled])
    assert [(info.serial, info.transport) for info in listed] == [("1", "Custom"), ("2", "GEV"), ("3", "U3V")]
    assert len({info.id for info in listed}) == len({info.name for info in listed}) == 3
    for serial, first in enumerate(three, 1):
        with GenICamCamera(CameraConfig(device=str(serial), producers=[compiled])) as camera:
            np.testing.assert_array_equal(shots(camera, 1)[0].pixels, first)


def test_cameras_of_one_producer_stream_beside_each_other(compiled: Path, three: list[Pixels]) -> None:
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


FORMATS = ["Mono8", "Mono10", "Mono12", "Mono16", "Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed"]


@pytest.mark.parametrize("padding_bytes", [0, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_one_film_in_every_pixel_format(filmed: Filmed, name: str, padding_bytes: int) -> None:
    """The counts of the film in as many bits as the format has, whatever way they are packed."""
    web = dataclasses.replace(WEB, rig=Rig(height_px=75, bits=12), length_mm=8.0)
    config = msgspec.structs.replace(
        filmed(web, transport="GEV", padding_bytes=padding_bytes), pixel_format=name, width_px=52, height_px=33
    )
    with GenICamCamera(config) as camera:
        found = shots(camera, 3)
    bits = BY_NAME[name].bits
    for shot, frame in zip(found, web.frames(), strict=False):
        expected = frame.pixels[:33, :52].astype(int)
        np.testing.assert_array_equal(shot.pixels, expected >> 12 - bits if bits < 12 else expected << bits - 12)
        assert shot.active_set == frame.light
    assert len(found) == 3


def refusal(config: CameraConfig, **changed: object) -> str:
    with pytest.raises(CameraError) as error, GenICamCamera(msgspec.structs.replace(config, **changed)):
        pass
    return str(error.value)


def test_formats_of_gige_vision_are_on_no_other_transport(filmed: Filmed) -> None:
    refused = refusal(filmed(transport="U3V"), pixel_format="Mono12Packed")
    assert "does not accept PixelFormat = Mono12Packed" in refused


def test_sizes_beyond_what_the_camera_states_are_refused_and_the_limits_told(filmed: Filmed) -> None:
    config = filmed()
    assert "from 16 to 100 in steps of 4" in refusal(config, width_px=104)
    assert "from 16 to 100 in steps of 4" in refusal(config, width_px=98)
    assert "from 8 to 75 in steps of 1" in refusal(config, height_px=76)
    assert "from 8 to 75" in refusal(config, height_px=4)
    with GenICamCamera(msgspec.structs.replace(config, width_px=96, height_px=8)) as camera:
        (shot,) = shots(camera, 1)
    np.testing.assert_array_equal(shot.pixels, SEEN[0][:8, :96])


def test_the_simulated_line_is_rendered_with_the_bits_of_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(FILM_VARIABLE, "")
    simulated = SimulatedConfig(length_mm=20.0, width_px=64, transport="U3V")
    config = CameraConfig(device="simulated", pixel_format="Mono12p", simulated=simulated)
    with configured_line(Config(camera=config), quiet=True) as line, line.open_camera(config) as camera:
        assert isinstance(camera, GenICamCamera)
        assert camera.device.transport == "U3V"
        (shot,) = shots(camera, 1)
    assert line.calibration.white == 4095
    assert 1000 < shot.pixels.max() <= 4095


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="lost", at_frame=2, count=3),
        Fault(kind="repeated", at_frame=4),
        Fault(kind="swapped", at_mm=3.2),
        Fault(kind="swapped", at_frame=1, count=4),
        Fault(kind="swapped", at_frame=1, count=3),
        Fault(kind="swapped", at_frame=1, count=2, light=3),
        Fault(kind="incomplete", at_frame=3, count=2),
        Fault(kind="dark", at_frame=1, count=5, value=0.25),
        Fault(kind="encoder_jump", at_mm=5.0, value=-2.5),
    ],
    ids=lambda fault: f"{fault.kind} {fault.count}",
)
def test_a_script_says_the_same_to_the_camera_as_to_a_replay(filmed: Filmed, fault: Fault) -> None:
    script = FaultScript(fault=[fault])
    replayed = list(with_faults(WEB.frames(), script))
    with GenICamCamera(filmed(faults=script)) as camera:
        live = shots(camera, len(replayed))
        assert camera.next_into(np.empty(camera.shape, camera.dtype), 0.1) is None
    assert [(shot.frame_id, shot.complete) for shot in live] == [(frame.frame_id, frame.complete) for frame in replayed]
    for shot, frame in zip(live, replayed, strict=True):
        rows = slice(None) if frame.complete else slice(len(frame.pixels) // 2)
        np.testing.assert_array_equal(shot.pixels[rows], frame.pixels[rows])
        if frame.complete:
            assert (shot.active_set, shot.line_status) == (frame.light, 1 << frame.light)
            assert shot.encoder_count * MM_PER_COUNT == pytest.approx(frame.encoder_mm, abs=MM_PER_COUNT)


def test_a_jittering_encoder_scatters_by_as_many_millimetres(filmed: Filmed) -> None:
    script = FaultScript(fault=[Fault(kind="encoder_jitter", at_frame=0, count=1000, value=0.2)])
    with GenICamCamera(filmed(faults=script, repeats=True)) as camera:
        counts = np.array([shot.encoder_count for shot in shots(camera, 200)])
    off_mm = (counts - np.arange(200) * COUNTS_A_FRAME) * MM_PER_COUNT
    assert np.std(off_mm) == pytest.approx(0.2, rel=0.25)


PLANT = FaultScript(
    fault=[
        Fault(kind="lost", at_frame=2, count=2),
        Fault(kind="incomplete", at_frame=6, count=2),
        Fault(kind="wrong_light", at_frame=9, value=-1.0),
        Fault(kind="late", at_frame=10, value=0.01),
        Fault(kind="hang", at_frame=12, value=0.01),
        Fault(kind="swapped", at_frame=18),
        Fault(kind="repeated", at_frame=20),
        Fault(kind="dark", at_frame=22, value=0.5),
        Fault(kind="device_lost", at_frame=30, value=0.15),
    ]
)
"""For a camera of 400 frames a second."""


def drive(compiled: str, film: str) -> None:
    """Twenty times: open, stream, let all of `PLANT` happen, close the camera that is gone, open it when it is back,
    start and stop it, close it while it streams."""
    playing = f"{film}.playing"
    os.environ[FILM_VARIABLE] = playing
    for _, name in zip(range(20), itertools.cycle(FORMATS), strict=False):
        shutil.copy(film, playing)
        config = CameraConfig(device="simulated", producers=[Path(compiled)], pixel_format=name)
        seen: list[Shot] = []
        with GenICamCamera(config) as camera:
            out = np.empty(camera.shape, camera.dtype)
            camera.start()
            while (shot := camera.next_into(out, 0.1)) is not None:
                seen.append(shot)
        complete = [shot.complete for shot in seen]
        assert any(complete) and not all(complete)
        end = time.monotonic() + 10.0
        while not discover(config.producers):
            assert time.monotonic() < end
            time.sleep(0.02)
        with GenICamCamera(config) as camera:
            for _ in range(3):
                camera.start()
                assert camera.next_into(out, 2.0) is not None
                camera.stop()
            camera.start()


def test_sanitizers_find_nothing_while_a_plant_has_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = [_of_gcc("libasan.so"), _of_gcc("libstdc++.so.6")]
    if not all(libraries):
        pytest.skip("no gcc with AddressSanitizer")
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv("CFLAGS", "-g -fsanitize=address,undefined -fno-sanitize-recover=undefined")
    compiled = producer(tmp_path)
    film = tmp_path / "film"
    write_film(film, WEB, MM_PER_COUNT, 400.0, True, PLANT, transport="GEV", padding_bytes=3)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("ASAN_OPTIONS", "detect_leaks=0")
    done = subprocess.run(
        [sys.executable, __file__, compiled, film],
        env=os.environ | {"LD_PRELOAD": " ".join(libraries)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)


def _of_gcc(library: str) -> str:
    """Where gcc keeps it; "" where it does not."""
    if shutil.which("gcc") is None:
        return ""
    said = subprocess.run(["gcc", f"-print-file-name={library}"], capture_output=True, text=True, check=True).stdout
    return said.strip() if Path(said.strip()).is_absolute() else ""


def test_starting_a_camera_again_and_again_takes_no_more_memory(tmp_path: Path) -> None:
    """A buffer that stayed behind would be 256 KiB, the notes of all buffers of a start 30."""
    assert measure(starts_and_stops, 60, tmp_path).kib_a_cycle < 10


def test_opening_a_camera_takes_no_more_memory_than_the_binding_keeps(tmp_path: Path) -> None:
    """It keeps a description as GenApi has read it, 250 KiB, for ever."""
    assert measure(opens_and_closes, 30, tmp_path).kib_a_cycle < 350


if __name__ == "__main__":
    drive(*sys.argv[1:])
