"""The recording beside a line: a recorder that is killed is replaced, and what nobody recorded is told."""

import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from test_recording import calibration_of, frame_of

from edge.core.errors import RecordingError
from edge.recording import recorder_process
from edge.recording.reader import Recording
from edge.recording.recorder_process import RecorderProcess
from edge.recording.recovery import recover
from edge.service import recordings as module
from edge.service.recordings import Recordings, next_free

HEIGHT, WIDTH = 32, 48


def kill_recorder() -> None:
    (process,) = (child for child in multiprocessing.active_children() if child.name == "recorder")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def opened(path: Path, calls: list[Path]) -> RecorderProcess:
    calls.append(path)
    return RecorderProcess(path, calibration_of(HEIGHT, WIDTH))


def test_where_a_recorder_is_killed_another_goes_on_and_every_frame_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.05, 300.0))
    out, told, calls = tmp_path / "web.mcap", list[tuple[str, str]](), list[Path]()
    frames = 0
    with Recordings(out, partial(opened, calls=calls), lambda kind, detail: told.append((kind, detail))) as recordings:

        def write_until(kinds: list[str]) -> None:
            nonlocal frames
            deadline_s = time.monotonic() + 60
            while [kind for kind, _ in told] != kinds:
                assert time.monotonic() < deadline_s, told
                recordings.write(frame_of(frames, HEIGHT, WIDTH))
                frames += 1
                time.sleep(0.005)

        recordings.write(frame_of(0, HEIGHT, WIDTH))
        frames += 1
        kill_recorder()
        write_until(["recording_ended", "recording_back"])
        for _ in range(20):
            recordings.write(frame_of(frames, HEIGHT, WIDTH))
            frames += 1
        time.sleep(0.5)
        kill_recorder()
        write_until(["recording_ended", "recording_back", "recording_ended"])
        recordings.write(frame_of(frames, HEIGHT, WIDTH))
    assert calls[:2] == [out, tmp_path / "web-2.mcap"]
    assert "SIGKILL" in told[0][1]
    first = recover(out, tmp_path / "whole.mcap", lambda _: None)
    missed = int(told[1][1].split(" frames are in none")[0].split()[-1])
    second = next(iter(Recording(tmp_path / "web-2.mcap").frames()))
    assert second.frame_id == frame_of(first.frames + missed, HEIGHT, WIDTH).frame_id


def test_a_recorder_that_nothing_is_left_for_ends_the_recording_alone(tmp_path: Path) -> None:
    told, most = list[tuple[str, str]](), resource.getrlimit(resource.RLIMIT_FSIZE)
    with Recordings(tmp_path / "web.mcap", partial(opened, calls=[]), lambda *what: told.append(what)) as recordings:
        kill_recorder()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most[1]))
        try:
            deadline_s = time.monotonic() + 60
            while len(told) < 2 and time.monotonic() < deadline_s:
                recordings.write(frame_of(0, HEIGHT, WIDTH))
                time.sleep(0.005)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert [kind for kind, _ in told] == ["recording_ended", "recording_ended"]
    assert "File too large" in told[1][1]


def write_until(recordings: Recordings, holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline_s
        recordings.write(frame_of(0, HEIGHT, WIDTH))
        time.sleep(0.002)


def test_a_disk_that_fills_up_ends_a_recording_once_and_it_goes_on_where_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02))
    asked, room = list[int](), threading.Event()

    def no_room(folder: Path, keep_free_bytes: int) -> str | None:
        asked.append(keep_free_bytes)
        return None if room.is_set() else recorder_process.no_room(folder, 1 << 60)

    monkeypatch.setattr(module, "no_room", no_room)
    told, floors = list[tuple[str, str]](), iter([1 << 60, 0])

    def opened(path: Path) -> RecorderProcess:
        return RecorderProcess(path, calibration_of(HEIGHT, WIDTH), keep_free_bytes=next(floors))

    with Recordings(tmp_path / "web.mcap", opened, lambda *what: told.append(what)) as recordings:
        write_until(recordings, lambda: len(asked) > 5)
        assert [kind for kind, _ in told] == ["recording_ended"]
        room.set()
        write_until(recordings, lambda: len(told) == 2)
        recordings.write(frame_of(0, HEIGHT, WIDTH))
    assert "the disk is all but full" in told[0][1]
    assert told[1][0] == "recording_back"
    assert set(asked) == {2 * module.KEEP_FREE_BYTES}
    first, second = Recording(tmp_path / "web.mcap"), Recording(tmp_path / "web-2.mcap")
    assert (first.torn, second.torn, first.frame_count) == (False, False, 0)
    assert second.frame_count


def test_a_service_inspects_though_nothing_can_be_recorded_and_records_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.01, 0.02))
    out, told = tmp_path / "mounted later" / "web.mcap", list[tuple[str, str]]()
    with Recordings(out, partial(opened, calls=[]), lambda *what: told.append(what), insists=False) as recordings:
        assert [kind for kind, _ in told] == ["recording_ended"]
        out.parent.mkdir()
        write_until(recordings, lambda: told[-1][0] == "recording_back")
    assert len(told) <= 3
    assert Recording(out).frame_count >= 0


def test_a_service_that_is_started_again_records_in_the_next_file(tmp_path: Path) -> None:
    out = tmp_path / "web.mcap"
    assert next_free(out) == out
    for name in ("web.mcap", "web-2.mcap", "web-4.mcap"):
        (tmp_path / name).touch()
    assert next_free(out) == tmp_path / "web-3.mcap"


def test_a_recording_that_cannot_begin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"web\.mcap"):
        Recordings(tmp_path / "nowhere" / "web.mcap", partial(opened, calls=[]), lambda *_: None)
