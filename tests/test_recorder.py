"""The recorder in its own process: whatever becomes of it, the producer goes on and the figures add up."""

import dataclasses
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_recording import assert_equal, calibration_of, frame_of

from edge.core.errors import CalibrationError, RecordingError
from edge.recording.reader import Recording
from edge.recording.recorder_process import Recorded, RecorderProcess

HEIGHT, WIDTH = 32, 48
CALIBRATION = calibration_of(HEIGHT, WIDTH)
RING_FRAMES = 10
RING_BYTES = RING_FRAMES * (HEIGHT * WIDTH + 64)


def recorder_pid() -> int:
    (process,) = (child for child in multiprocessing.active_children() if child.name == "recorder")
    assert process.pid is not None
    return process.pid


def wait_until(happened: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_every_frame_handed_over_comes_back(tmp_path: Path, bits: int, dtype: type) -> None:
    path = tmp_path / "a.mcap"
    frames = [frame_of(i, HEIGHT, WIDTH, dtype) for i in range(50)]
    with RecorderProcess(path, CALIBRATION, roll="R 17/ä", bits=bits) as recorder:  # type: ignore[arg-type]
        assert all(recorder.write(frame) for frame in frames)
        wait_until(lambda: recorder.frames == 50)
        assert recorder.stop() == Recorded(50, 0, None)
        assert not recorder.write(frames[0])
    recording = Recording(path)
    assert (recording.roll, recording.frame_count, recording.frames_dropped) == ("R 17/ä", 50, 0)
    assert recording.calibration.digest == CALIBRATION.digest
    for got, written in zip(recording.frames(), frames, strict=True):
        assert_equal(got, written)


def test_a_recorder_that_hangs_costs_frames_and_never_the_producer(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with RecorderProcess(path, CALIBRATION, ring_bytes=RING_BYTES) as recorder:
        os.kill(recorder_pid(), signal.SIGSTOP)
        taken = [recorder.write(frame_of(i, HEIGHT, WIDTH)) for i in range(35)]
        assert taken == [True] * RING_FRAMES + [False] * (35 - RING_FRAMES)
        assert (recorder.dropped, recorder.problem) == (35 - RING_FRAMES, None)
        os.kill(recorder_pid(), signal.SIGCONT)
        wait_until(lambda: recorder.write(frame_of(99, HEIGHT, WIDTH)))
        recorded = recorder.stop()
    recording = Recording(path)
    ids = [frame.frame_id for frame in recording.frames()]
    assert ids == [frame_of(i, HEIGHT, WIDTH).frame_id for i in [*range(RING_FRAMES), 99]]
    assert recorded == Recorded(len(ids), recording.frames_dropped or 0, None)
    assert recorded.dropped >= 35 - RING_FRAMES


def test_a_killed_recorder_is_seen_and_what_it_lost_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with RecorderProcess(path, CALIBRATION) as recorder:
        for index in range(20):
            assert recorder.write(frame_of(index, HEIGHT, WIDTH))
        os.kill(recorder_pid(), signal.SIGKILL)
        wait_until(lambda: recorder.problem)
        assert not recorder.write(frame_of(20, HEIGHT, WIDTH))
        recorded = recorder.stop()
    assert recorded.problem is not None
    assert "SIGKILL" in recorded.problem
    assert recorded.frames + recorded.dropped == 21
    assert recorded.frames <= len(list(Recording(path).frames())) <= 20


def test_a_full_disk_ends_the_recording_and_not_the_producer(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with RecorderProcess(path, CALIBRATION) as recorder:
        resource.prlimit(recorder_pid(), resource.RLIMIT_FSIZE, (100_000, 100_000))
        offered = 0
        while recorder.problem is None:
            recorder.write(frame_of(offered, HEIGHT, WIDTH))
            offered += 1
        assert not recorder.write(frame_of(offered, HEIGHT, WIDTH))
        recorded = recorder.stop()
    assert recorded.problem is not None
    assert "cannot be written" in recorded.problem
    assert recorded.frames + recorded.dropped == offered + 1
    whole = len(list(Recording(path).frames()))
    assert 10 < recorded.frames <= whole <= recorded.frames + 1, "the frame the disk was full at may be whole"


PRODUCER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_recording import calibration_of, frame_of
from edge.recording.recorder_process import RecorderProcess
recorder = RecorderProcess(Path(sys.argv[1]), calibration_of(32, 48))
for index in range(40):
    assert recorder.write(frame_of(index, 32, 48))
print("handed over", flush=True)
if sys.argv[3] == "wait":
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["killed", "forgets to stop"])
def test_a_producer_that_dies_leaves_a_whole_recording(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.mcap"
    how = "wait" if end == "killed" else "return"
    command = [sys.executable, "-c", PRODUCER, str(path), str(Path(__file__).parent), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "handed over\n"
        if end == "killed":
            process.kill()
    wait_until(lambda: not Recording(path).torn)
    assert Recording(path).frame_count == 40


def test_ctrl_c_to_the_whole_group_is_the_producers_to_handle(tmp_path: Path) -> None:
    with RecorderProcess(tmp_path / "a.mcap", CALIBRATION) as recorder:
        os.kill(recorder_pid(), signal.SIGINT)
        os.kill(recorder_pid(), signal.SIGTERM)
        assert recorder.write(frame_of(0, HEIGHT, WIDTH))
        assert recorder.stop() == Recorded(1, 0, None)
    assert Recording(tmp_path / "a.mcap").frame_count == 1


def test_a_recorder_ended_from_outside_leaves_a_whole_recording_and_says_so(tmp_path: Path) -> None:
    with RecorderProcess(tmp_path / "a.mcap", CALIBRATION) as recorder:
        assert recorder.write(frame_of(0, HEIGHT, WIDTH))
        os.kill(recorder_pid(), signal.SIGTERM)
        wait_until(lambda: recorder.problem)
        assert not recorder.write(frame_of(1, HEIGHT, WIDTH))
        recorded = recorder.stop()
    assert (recorded.frames, recorded.dropped) == (1, 1)
    assert "before it was told to" in (recorded.problem or "")
    assert Recording(tmp_path / "a.mcap").frame_count == 1


def test_a_file_that_cannot_be_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"dear")
    with pytest.raises(RecordingError, match="exists already"):
        RecorderProcess(path, CALIBRATION, ring_bytes=RING_BYTES)
    assert path.read_bytes() == b"dear"


def test_a_frame_of_another_camera_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    with RecorderProcess(path, CALIBRATION, ring_bytes=RING_BYTES) as recorder:
        with pytest.raises(CalibrationError, match="another size"):
            recorder.write(frame_of(0, HEIGHT, WIDTH + 1))
        with pytest.raises(RecordingError, match="uint16"):
            recorder.write(frame_of(0, HEIGHT, WIDTH, np.uint16))
        with pytest.raises(RecordingError, match="not a number"):
            recorder.write(dataclasses.replace(frame_of(0, HEIGHT, WIDTH), encoder_mm=float("nan")))
    assert (Recording(path).frame_count, Recording(path).frames_dropped) == (0, 0)
