"""The recording beside an inspection: where its process dies another one goes on, in the next file."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.core.errors import RecordingError
from edge.core.types import Frame
from edge.recording.recorder_process import RecorderProcess

MOST_CRASHES = 5
STEADY_S = 60.0


def next_free(out: Path) -> Path:
    """`out`, or the first of `out`-2, `out`-3 and so on that is not there."""
    names = (out if number == 1 else out.with_stem(f"{out.stem}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


class Recordings:
    """Records in `out`, then, after a recorder that crashed, in the next that is free, see `next_free`.

    `opened` starts a recorder that writes a file. A new one is started beside the line, which never waits; frames that
    come meanwhile, and those that the old one had not written, are in no recording. `report` is told the kind and the
    detail of alarms: `recording_ended` with the reason, say that the disk is full or that the process was killed, and
    `recording_back`. What the recorder itself has ended is not begun again, nor is it after `MOST_CRASHES`, none
    `STEADY_S` after the one before. For one thread. Raises RecordingError where the first file cannot be created.
    """

    def __init__(
        self, out: Path, opened: Callable[[Path], RecorderProcess], report: Callable[[str, str], None]
    ) -> None:
        self._out, self._opened, self._report = out, opened, report
        self._crashes = self._missed = 0
        self._recorder: RecorderProcess | None = opened(out)
        self._path, self._began_s = out, time.monotonic()
        self._opening: Future[RecorderProcess] | None = None
        self._starter = ThreadPoolExecutor(1, "recorder start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._starter.shutdown()
        self._take_over()
        if self._recorder is not None:
            self._recorder.stop()

    def write(self, frame: Frame) -> None:
        """Record a frame, or do without."""
        self._take_over()
        if self._recorder is None:
            self._missed += 1
        elif not self._recorder.write(frame) and self._recorder.problem is not None:
            self._end(self._recorder, self._recorder.problem)

    def _end(self, recorder: RecorderProcess, problem: str) -> None:
        self._recorder, self._missed = None, recorder.dropped
        self._report("recording_ended", problem)
        if time.monotonic() - self._began_s > STEADY_S:
            self._crashes = 0
        self._crashes += recorder.crashed
        if recorder.crashed and self._crashes < MOST_CRASHES:
            self._path, self._began_s = next_free(self._out), time.monotonic()
            self._opening = self._starter.submit(self._opened, self._path)

    def _take_over(self) -> None:
        """Use the next recorder as soon as it is there."""
        if self._opening is None or not self._opening.done():
            return
        try:
            self._recorder = self._opening.result()
        except RecordingError as error:
            self._report("recording_ended", str(error))
        else:
            detail = f"{self._path}: recording goes on, {self._missed} frames are in none"
            self._report("recording_back", detail)
        self._opening = None
