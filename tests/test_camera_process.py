"""The camera process and the frames from it: whatever becomes of the camera, they come again, and nothing is hidden."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import genicam
import numpy as np
import pytest
from scripted_camera import COUNTS_PER_S, FIRST_GREY, Script, ScriptedCamera
from test_recording import calibration_of

from edge.camera.genicam import GenICamCamera
from edge.camera.live import LiveCamera
from edge.core.config import CameraConfig, LightConfig
from edge.core.errors import CalibrationError, CameraError
from edge.core.types import Frame

VIKY = Path(genicam.__file__).parent / "viky.cti"
HEIGHT, WIDTH = 16, 32
CALIBRATION = calibration_of(HEIGHT, WIDTH)
MM_PER_COUNT = 0.01
CONFIG = CameraConfig(encoder_mm_per_count=MM_PER_COUNT, ring_mb=1)
MM_PER_S = COUNTS_PER_S * MM_PER_COUNT
LIMIT_S = 30.0


class Line:
    """A live camera, its alarms, and the frames that were taken from it."""

    def __init__(self, script: Script, config: CameraConfig = CONFIG) -> None:
        self.alarms: list[tuple[str, str]] = []
        self.ids: list[int] = []
        self.lights: list[int] = []
        self.positions_mm: list[float] = []
        self.camera = LiveCamera(config, CALIBRATION, partial(ScriptedCamera, script=script), self.hear)

    def hear(self, kind: str, detail: str) -> None:
        self.alarms.append((kind, detail))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.alarms]

    def run_until(self, happened: Callable[[], object], look: Callable[[Frame], None] = lambda frame: None) -> None:
        """Take frames, each looked at, until something has happened."""
        limit_s = time.monotonic() + LIMIT_S
        for frame in self.camera.frames(lambda: bool(happened()) or time.monotonic() > limit_s):
            self.ids.append(frame.frame_id)
            self.lights.append(frame.light)
            self.positions_mm.append(frame.encoder_mm)
            look(frame)
        assert happened(), (self.alarms, self.camera.status)

    def run_for(self, frames: int) -> None:
        """Take so many more."""
        until = len(self.ids) + frames
        self.run_until(lambda: len(self.ids) >= until)

    def assert_gap_is_seen(self, at: int, at_least_s: float) -> None:
        """Between frame `at` and the next an unknown number was lost: ids say so, and the encoder how much web."""
        assert all(np.diff(self.ids) > 0)
        gaps = np.flatnonzero(np.diff(self.ids) > 1)
        assert at - 1 in gaps
        assert self.positions_mm[at] - self.positions_mm[at - 1] > at_least_s * MM_PER_S


@contextmanager
def line_of(script: Script, config: CameraConfig = CONFIG) -> Iterator[Line]:
    line = Line(script, config)
    with line.camera:
        yield line
    assert not cameras()


def cameras() -> list[int]:
    return [child.pid for child in multiprocessing.active_children() if child.name == "camera" and child.pid]


def camera_pid() -> int:
    (pid,) = cameras()
    return pid


def test_frames_come_with_their_light_position_and_pixels(tmp_path: Path) -> None:
    def look(frame: Frame) -> None:
        assert frame.light == frame.frame_id % 4
        assert (frame.pixels == FIRST_GREY + frame.frame_id % 100).all()
        assert not frame.pixels.flags.writeable
        assert frame.encoder_mm == pytest.approx(frame.exposed_ns / 1e9 * MM_PER_S, abs=MM_PER_COUNT)
        assert frame.exposure_us == 12.5
        assert frame.complete == (frame.frame_id % 5 > 0)

    with line_of(Script(tmp_path, incomplete=5, doubtful=7)) as line:
        line.run_until(lambda: len(line.ids) >= 60, look)
        assert line.ids == [n for n in range(line.ids[-1] + 1) if n % 7]
        assert line.camera.counts.doubts["output of another light"] >= 9
        assert line.camera.status.state == "streaming"
        assert line.camera.status.incomplete >= 12
        assert "SCHED_FIFO" in line.camera.status.scheduling
        assert line.kinds == ["light_in_doubt"] * 4  # once a light
    assert (tmp_path / "closed").exists(), "the camera was not closed"


def test_a_killed_camera_process_is_replaced_and_frames_go_on_by_themselves(tmp_path: Path) -> None:
    with line_of(Script(tmp_path)) as line:
        line.run_for(20)
        os.kill(camera_pid(), signal.SIGKILL)
        line.run_until(lambda: "camera_back" in line.kinds)
        back = len(line.ids)
        line.run_for(20)
        assert line.kinds == ["camera_crashed", "camera_back"]
        assert "SIGKILL" in line.alarms[0][1]
        assert line.camera.restarts == 1
        line.assert_gap_is_seen(int(np.argmax(np.diff(line.positions_mm))) + 1, 0.1)
        assert back < len(line.ids)


def test_a_hung_camera_process_is_killed_and_replaced(tmp_path: Path) -> None:
    with line_of(Script(tmp_path)) as line:
        line.run_for(20)
        os.kill(camera_pid(), signal.SIGSTOP)
        line.run_until(lambda: "camera_back" in line.kinds)
        line.run_for(20)
        assert line.kinds == ["camera_hung", "camera_back"]
        line.assert_gap_is_seen(int(np.argmax(np.diff(line.positions_mm))) + 1, 0.5)


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("raise", "camera_failed", "has had enough"),
        ("fault of ours", "camera_failed", "ZeroDivisionError"),
        ("crash", "camera_crashed", "SIGABRT"),
        ("hang", "camera_hung", "killed"),
    ],
)
def test_a_camera_that_fails_once_is_opened_again(tmp_path: Path, fault: str, kind: str, said: str) -> None:
    with line_of(Script(tmp_path, fault=fault, at_frame=20, seconds=1e6)) as line:
        line.run_until(lambda: "camera_back" in line.kinds)
        line.run_for(20)
        assert line.kinds == [kind, "camera_back"]
        assert said in line.alarms[0][1]
        line.assert_gap_is_seen(20, 0.1)
        assert line.lights[20] == 0


@pytest.mark.skipif(not VIKY.exists(), reason="this build of genicam comes without viky.cti")
def test_a_camera_of_a_foreign_producer_survives_its_process(tmp_path: Path) -> None:
    config = CameraConfig(device="2", producers=[VIKY])
    alarms: list[str] = []
    open_camera = partial(GenICamCamera, strobed=False)
    with LiveCamera(config, calibration_of(300, 400), open_camera, lambda kind, _: alarms.append(kind)) as camera:
        limit_s = time.monotonic() + LIMIT_S
        ids: list[int] = []
        for frame in camera.frames(lambda: len(ids) == 6 or time.monotonic() > limit_s):
            ids.append(frame.frame_id)
            if len(ids) == 3:
                os.kill(camera_pid(), signal.SIGKILL)
    assert np.isnan(frame.encoder_mm)
    assert len(ids) == 6
    assert all(np.diff(ids) > 0)
    assert sum(np.diff(ids) > 1) >= 1
    assert alarms == ["camera_crashed", "camera_back"]


def test_lights_are_counted_anew_for_a_camera_that_is_opened_again(tmp_path: Path) -> None:
    """Its ids need not begin below those of before."""
    with line_of(Script(tmp_path, fault="crash", at_frame=6, ids_again=1001, mute=True)) as line:
        line.run_for(12)
        assert line.lights == [0, 1, 2, 3, 0, 1, 0, 1, 2, 3, 0, 1]
        assert line.ids == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]


def test_a_camera_that_crashes_again_and_again_is_opened_for_ever(tmp_path: Path) -> None:
    with line_of(Script(tmp_path, fault="crash", at_frame=3, every_time=True)) as line:
        line.run_until(lambda: line.camera.restarts >= 3)
        assert line.ids[:9] == [0, 1, 2, 4, 5, 6, 8, 9, 10]


@pytest.mark.parametrize("ids_again", [0, 1001])
def test_a_lost_device_is_told_and_comes_back_by_itself(tmp_path: Path, ids_again: int) -> None:
    script = Script(tmp_path, fault="lost", at_frame=21, seconds=2.0, ids_again=ids_again, mute=ids_again > 0)
    with line_of(script) as line:
        line.run_until(lambda: "camera_back" in line.kinds)
        line.run_for(20)
        assert line.kinds == ["device_lost", "camera_back"]
        line.assert_gap_is_seen(21, 1.9)
        assert line.lights[21] == 0
        assert line.camera.restarts == 0


def test_a_camera_without_trigger_is_told_once_and_nothing_is_restarted(tmp_path: Path) -> None:
    with line_of(Script(tmp_path, fault="silent", at_frame=10, seconds=4.0)) as line:
        line.run_until(lambda: "no_trigger" in line.kinds)
        assert line.camera.status.state == "no trigger"
        line.run_until(lambda: "camera_back" in line.kinds)
        line.run_for(10)
        assert line.kinds == ["no_trigger", "camera_back"]
        assert line.ids == list(range(len(line.ids)))
        assert line.camera.restarts == 0


def test_frames_end_when_told_to_though_no_trigger_comes(tmp_path: Path) -> None:
    stop = threading.Event()
    with line_of(Script(tmp_path, fault="silent", seconds=1e6)) as line:
        line.run_until(lambda: line.camera.status.state == "streaming")
        threading.Timer(0.2, stop.set).start()
        assert list(line.camera.frames(stop.is_set)) == []
        assert line.camera.status.written == 0


def test_a_camera_that_delivers_only_incomplete_images_says_so_with_every_frame(tmp_path: Path) -> None:
    def look(frame: Frame) -> None:
        assert not frame.complete

    with line_of(Script(tmp_path, incomplete=1)) as line:
        line.run_until(lambda: len(line.ids) >= 20, look)
        assert line.camera.status.incomplete >= 20


def test_no_such_camera_is_an_error_of_one_line(tmp_path: Path) -> None:
    with (
        line_of(Script(tmp_path, fault="no camera", every_time=True)) as line,
        pytest.raises(CameraError, match=r'^no camera "scripted"; found: none$'),
    ):
        line.run_for(1)


def test_what_inspection_is_too_slow_for_is_counted_and_told(tmp_path: Path) -> None:
    with line_of(Script(tmp_path, fps=1000.0), CameraConfig(ring_mb=0.001)) as line:
        line.run_until(lambda: "frames_overwritten" in line.kinds, lambda frame: time.sleep(0.01))
        counts = line.camera.counts
        assert counts.overwritten > 0
        assert line.ids[-1] + 1 == counts.yielded + counts.overwritten
        assert len(line.ids) == counts.yielded


def test_ctrl_c_to_the_whole_group_is_the_owners_to_handle(tmp_path: Path) -> None:
    with line_of(Script(tmp_path)) as line:
        line.run_for(5)
        os.kill(camera_pid(), signal.SIGINT)
        line.run_for(60)
        assert line.ids == list(range(65))
        assert line.alarms == []


def test_a_camera_that_does_not_end_is_killed(tmp_path: Path) -> None:
    with line_of(Script(tmp_path)) as line:
        line.run_for(5)
        os.kill(camera_pid(), signal.SIGSTOP)
        line.camera._process.stop(timeout_s=0.1)
        assert not cameras()


OWNER = """
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from scripted_camera import Script, ScriptedCamera
from test_camera_process import CALIBRATION, CONFIG, camera_pid
from edge.camera.genicam import GenICamCamera
from edge.camera.live import LiveCamera
script = Script(Path(sys.argv[1]), fault="hang", at_frame=5, seconds=1e6)
with LiveCamera(CONFIG, CALIBRATION, partial(ScriptedCamera, script=script), print) as camera:
    for frame in camera.frames():
        print(camera_pid(), flush=True)
"""


def test_a_camera_process_never_outlives_its_owner(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.kill()
    limit_s = time.monotonic() + LIMIT_S
    while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < limit_s
        time.sleep(0.02)


def test_a_configuration_for_another_camera_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"frames of 32 x 16 px, .* say 64 x 16"):
        Line(Script(tmp_path), CameraConfig(width_px=64))
    with pytest.raises(CalibrationError, match=r"4 lights, camera\.lights lists 3"):
        Line(Script(tmp_path), CameraConfig(lights=[LightConfig()] * 3))
