"""Cameras through GenICam: one suite over every producer there is, and what each part of the adapter promises."""

import dataclasses
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import genicam
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.camera.device_counters import DeviceClock, FrameIds
from edge.camera.genicam import GenICamCamera, discover
from edge.camera.genicam.devices import choose
from edge.camera.identity import LightIdentity, Lit
from edge.camera.shot import UNKNOWN, Shot
from edge.camera.unpack import BY_NAME, copy_pixels, pixel_format
from edge.core.config import CameraConfig, LightConfig
from edge.core.errors import CameraError
from edge.core.faults import Fault, FaultScript
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import PRODUCTION
from edge.simulation.producer import FILM_VARIABLE, producer, write_film
from edge.simulation.web import RenderedWeb

VIKY = Path(genicam.__file__).parent / "viky.cti"


@dataclass(frozen=True)
class Case:
    """A producer's camera: how to open it, and how many cameras its producer has."""

    config: CameraConfig
    cameras: int
    strobed: bool

    def open(self, **changed: object) -> GenICamCamera:
        return GenICamCamera(msgspec.structs.replace(self.config, **changed), strobed=self.strobed)


RENDERED = StrobedCamera(RenderedWeb(3, 400, PRODUCTION), 30.0, Rig(height_px=300))
COUNTS_PER_FRAME = 160
"""Of the encoder: 32 px of 0.05 mm at 0.01 mm a count."""


@pytest.fixture(scope="session")
def own_producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler for the simulated camera")
    return producer(tmp_path_factory.mktemp("producer"))


Simulated = Callable[..., Case]


@pytest.fixture
def simulated(own_producer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """Our own camera, at 200 frames a second on an endless web, with scripted faults."""

    def begin(*faults: Fault, web: StrobedCamera = RENDERED) -> Case:
        film = tmp_path / "film"
        loaded_anew = shutil.copy(own_producer, tmp_path)
        write_film(film, web, 0.01, 200.0, repeats=True, faults=FaultScript(fault=list(faults)))
        monkeypatch.setenv(FILM_VARIABLE, str(film))
        return Case(
            CameraConfig(device="simulated", producers=[Path(loaded_anew)], width_px=400, height_px=300),
            1,
            strobed=True,
        )

    return begin


@pytest.fixture(params=["viky", "own"])
def case(request: pytest.FixtureRequest) -> Case:
    if request.param == "own":
        return request.getfixturevalue("simulated")()  # type: ignore[no-any-return]
    if not VIKY.exists():
        pytest.skip("this build of genicam comes without viky.cti")
    return Case(CameraConfig(device="2", producers=[VIKY], width_px=400, height_px=300), 3, strobed=False)


def refused(case: Case, **changed: object) -> str:
    with pytest.raises(CameraError) as error, case.open(**changed):
        pass
    said = str(error.value)
    assert "\n" not in said
    return said


def test_discover_lists_every_camera_once(case: Case) -> None:
    found = discover(case.config.producers)
    assert len({info.id for info in found}) == len(found) == case.cameras
    assert any(case.config.device in info.answers_to for info in found)


def test_it_streams_stops_and_starts_again(case: Case) -> None:
    with case.open() as camera:
        out = np.empty(camera.shape, camera.dtype)
        assert camera.shape == (300, 400)
        for _ in range(5):
            camera.start()
            shots = [camera.next_into(out, 2.0) for _ in range(6)]
            camera.stop()
            assert all(shot is not None and shot.complete and shot.pixels is out for shot in shots)
            ids = [shot.frame_id for shot in shots if shot is not None]
            assert ids == list(range(ids[0], ids[0] + 6))
            times = [shot.exposed_ns for shot in shots if shot is not None]
            assert times == sorted(times)
        assert camera.counts.delivered == 30
        assert camera.underruns == 0


def test_opening_again_and_again_works(case: Case) -> None:
    for _ in range(3):
        with case.open() as camera:
            camera.start()
            assert camera.next_into(np.empty(camera.shape, camera.dtype), 2.0) is not None


def test_images_are_copied_out_of_the_transport_s_buffers(case: Case) -> None:
    """What was handed out stays as it was while many times as many images come as there are buffers."""
    with case.open() as camera:
        camera.start()
        first, out = np.zeros(camera.shape, camera.dtype), np.empty(camera.shape, camera.dtype)
        assert camera.next_into(first, 2.0) is not None
        kept = first.copy()
        for _ in range(40):
            assert camera.next_into(out, 2.0) is not None
    assert kept.any()
    np.testing.assert_array_equal(first, kept)


def test_the_deadline_holds_where_nothing_comes(case: Case) -> None:
    with case.open() as camera:
        assert camera.next_into(np.empty(camera.shape, camera.dtype), 0.05) is None
        assert camera.connected


def test_ctrl_c_stays_ours(case: Case) -> None:
    before = signal.getsignal(signal.SIGINT)
    with case.open():
        assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGINT) is before


def test_what_cannot_be_had_is_said_in_one_line(case: Case, tmp_path: Path) -> None:
    listed = refused(case, device="nobody")
    assert "nobody" in listed and all(info.id in listed for info in discover(case.config.producers))
    assert "from" in refused(case, width_px=16000) and "16000" in refused(case, width_px=16000)
    assert "Mono8" in refused(case, pixel_format="Mono13")
    no_producer = tmp_path / "broken.cti"
    no_producer.write_text("nothing")
    assert str(no_producer) in refused(case, producers=[no_producer])
    assert str(tmp_path / "none.cti") in refused(case, producers=[tmp_path / "none.cti"])
    assert "camera.producers" in refused(case, producers=[])


@pytest.mark.skipif(not VIKY.exists(), reason="this build of genicam comes without viky.cti")
def test_a_name_that_means_several_cameras_is_refused() -> None:
    with (
        pytest.raises(CameraError, match=r"VikyTL_DEV_red.*VikyTL_DEV_green.*serial"),
        GenICamCamera(CameraConfig(device="Viky", producers=[VIKY])),
    ):
        pass


@pytest.mark.skipif(not VIKY.exists(), reason="this build of genicam comes without viky.cti")
def test_a_camera_that_cannot_be_triggered_says_so() -> None:
    with pytest.raises(CameraError, match="TriggerMode"), GenICamCamera(CameraConfig(device="2", producers=[VIKY])):
        pass


# What only a camera of our own can do.


def shots_of(camera: GenICamCamera, seconds: float) -> Iterator[Shot]:
    """What comes within a time; pixels are those of the last."""
    out = np.empty(camera.shape, camera.dtype)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        shot = camera.next_into(out, 0.02)
        if shot is not None:
            yield shot


def test_the_sequencer_fires_the_lights_and_every_image_says_so(simulated: Simulated) -> None:
    lights = [LightConfig(exposure_us=10.0 + k, gain_db=float(k), output=3 - k) for k in range(4)]
    with simulated().open(lights=lights) as camera:
        identity = LightIdentity(RENDERED.calibration, [LightConfig()] * 4)
        out = np.empty(camera.shape, camera.dtype)
        camera.start()
        counts = []
        for _ in range(12):
            shot = camera.next_into(out, 2.0)
            assert shot is not None
            k = shot.frame_id % 4
            assert (shot.active_set, shot.line_status) == (k, 1 << (3 - k))
            assert (shot.exposure_us, shot.gain_db) == (10.0 + k, float(k))
            by_output = dataclasses.replace(shot, active_set=3 - k)
            assert identity.identify(by_output) == Lit(3 - k)
            counts.append(shot.encoder_count)
    assert set(np.diff(counts)) == {COUNTS_PER_FRAME}


def test_pixels_are_those_of_the_web(simulated: Simulated) -> None:
    with simulated().open() as camera:
        out = np.empty(camera.shape, camera.dtype)
        camera.start()
        shot = camera.next_into(out, 2.0)
        assert shot is not None and shot.frame_id == 0
        np.testing.assert_array_equal(out, next(RENDERED.frames()).pixels)


def test_twelve_bits_come_whole(simulated: Simulated) -> None:
    web = dataclasses.replace(RENDERED, rig=Rig(height_px=300, bits=12))
    with simulated(web=web).open(pixel_format="Mono12") as camera:
        out = np.empty(camera.shape, camera.dtype)
        camera.start()
        assert camera.next_into(out, 2.0) is not None
        np.testing.assert_array_equal(out, next(web.frames()).pixels)


def test_an_incomplete_image_is_handed_on_as_such(simulated: Simulated) -> None:
    case = simulated(Fault(kind="incomplete", at_frame=5, count=2))
    with case.open() as camera:
        camera.start()
        seen = [(shot.frame_id, shot.complete) for shot in shots_of(camera, 0.2)][:10]
    assert seen == [(at, at not in (5, 6)) for at in range(10)]
    assert camera.counts.incomplete == 2


def test_while_every_image_is_incomplete_the_deadline_holds(simulated: Simulated) -> None:
    with simulated(Fault(kind="hang", at_frame=0, value=1e3)).open() as camera:
        camera.start()
        seen = list(shots_of(camera, 0.2))
    assert seen and not any(shot.complete for shot in seen)
    assert {shot.active_set for shot in seen} == {UNKNOWN}


def test_without_triggers_the_deadline_holds_and_the_camera_stays(simulated: Simulated) -> None:
    with simulated(Fault(kind="trigger_stops", at_frame=3, value=1e3)).open() as camera:
        camera.start()
        assert [shot.frame_id for shot in shots_of(camera, 1.3)] == [0, 1, 2]
        assert camera.connected


def test_images_nobody_fetches_in_time_are_counted(simulated: Simulated) -> None:
    with simulated().open() as camera:
        camera.start()
        limit_s = time.monotonic() + 10.0
        while camera.underruns == 0 and time.monotonic() < limit_s:
            time.sleep(0.1)
        assert camera.underruns > 0
        assert next(shots_of(camera, 1.0)).frame_id == 0


def test_a_lost_camera_is_found_again_and_set_up_anew(simulated: Simulated) -> None:
    lights = [LightConfig(exposure_us=10.0 + k) for k in range(4)]
    with simulated(Fault(kind="device_lost", at_frame=20, value=2.5)).open(lights=lights) as camera:
        camera.start()
        out = np.empty(camera.shape, camera.dtype)
        end = time.monotonic() + 30.0
        while camera.connected and time.monotonic() < end:
            camera.next_into(out, 0.02)
        assert "was lost" in camera.trouble
        shots: list[Shot] = []
        while len(shots) < 8 and time.monotonic() < end:
            shot = camera.next_into(out, 0.02)
            shots += [] if shot is None else [shot]
        assert (camera.connected, camera.trouble, camera.counts.reconnects) == (True, "", 1)
    told = [(shot.frame_id, shot.active_set, shot.exposure_us) for shot in shots]
    assert told == [(at, at % 4, 10.0 + at % 4) for at in range(8)]


@dataclass(frozen=True)
class Listed:
    """A device as Harvesters lists it."""

    property_dict: dict[str, str | None]


def test_an_id_goes_before_another_camera_s_name() -> None:
    one = Listed({"id_": "A", "model": "M", "serial_number": "1", "user_defined_name": None})
    other = Listed({"id_": "B", "model": "M", "serial_number": "2", "user_defined_name": "A"})
    assert choose("A", [other, one]) is one
    assert [choose(name, [other, one]) for name in ("2", "1", "B")] == [other, one, other]
    with pytest.raises(CameraError, match="none"):
        choose("A", [])


# Pixel formats: packed here in Python as the standards draw them, bit by bit.


def packed(pixels: NDArray[np.uint16], name: str) -> bytes:
    bits = BY_NAME[name].bits
    if name.endswith("p"):
        stream = sum(int(value) << (bits * index) for index, value in enumerate(pixels))
        return stream.to_bytes(len(pixels) * bits // 8, "little")
    if name.endswith("Packed"):
        low = bits - 8
        pairs = pixels.reshape(-1, 2).astype(int)
        mask = (1 << low) - 1
        return b"".join(bytes([a >> low, (a & mask) | (b & mask) << 4, b >> low]) for a, b in pairs)
    return pixels.astype(np.uint8 if bits == 8 else "<u2").tobytes()


@pytest.mark.parametrize("name", BY_NAME)
@settings(deadline=None)  # numba compiles
@given(data=st.data())
def test_every_pixel_format_comes_out_as_it_went_in(name: str, data: st.DataObject) -> None:
    found = BY_NAME[name]
    height, width = data.draw(st.integers(1, 5)), 4 * data.draw(st.integers(1, 9))
    padding = data.draw(st.integers(0, 3))
    seed = data.draw(st.integers(0, 1000))
    image = np.random.default_rng(seed).integers(0, 2**found.bits, (height, width)).astype(np.uint16)
    raw = b"".join(packed(row, name) + bytes([0xAA] * padding) for row in image)
    out = np.zeros((height, width), found.dtype)
    copy_pixels(np.frombuffer(raw, np.uint8), found, padding, out)
    np.testing.assert_array_equal(out, image)


def test_formats_and_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CameraError, match="BayerRG8"):
        pixel_format("BayerRG8", 640)
    with pytest.raises(CameraError, match="multiple"):
        pixel_format("Mono10p", 642)
    with pytest.raises(CameraError, match="too small"):
        copy_pixels(np.zeros(99, np.uint8), BY_NAME["Mono8"], 0, np.zeros((10, 10), np.uint8))


def arrivals(drift: float) -> Iterator[tuple[int, int, int]]:
    """(exposed, device time, arrival) of 8,000 frames at 800 fps that wait 1 ms and longer on their way."""
    waits = np.random.default_rng(3).exponential(400_000, 8000)
    for index, wait in enumerate(waits):
        exposed = 5_000_000_000 + index * 1_250_000
        yield exposed, int(77_000_000_000 + exposed * (1 + drift)), exposed + 1_000_000 + int(wait)


@pytest.mark.parametrize("drift", [-50e-6, 0.0, 50e-6])
def test_device_time_becomes_ours(drift: float) -> None:
    """Late by the shortest transfer, here 1 ms, whatever the frames wait and the clocks drift apart."""
    clock = DeviceClock()
    late_ns = [clock.exposed_ns(device, arrived) - exposed for exposed, device, arrived in arrivals(drift)][800:]
    assert 850_000 < min(late_ns) <= max(late_ns) < 1_150_000


def test_a_device_clock_that_starts_anew_is_learnt_anew() -> None:
    clock = DeviceClock()
    assert clock.exposed_ns(10_000, 50_000) == 50_000
    assert clock.exposed_ns(20, 90_000) == 90_000
    assert clock.exposed_ns(120, 90_500) == 90_100


def test_ids_of_sixteen_bits_go_on_where_they_wrap() -> None:
    ids = FrameIds()
    assert [ids.unwrapped(i) for i in (65534, 65535, 1, 2, 65535, 3)] == [65534, 65535, 65536, 65537, 131070, 131073]


def test_ids_of_a_restarted_device_start_anew() -> None:
    ids = FrameIds()
    assert [ids.unwrapped(i) for i in (500, 501, 0, 1)] == [500, 501, 0, 1]
    assert [ids.unwrapped(i) for i in (100_000, 1)] == [100_000, 1]
