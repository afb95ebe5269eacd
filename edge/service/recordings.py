"""The recording beside an inspection: what ends it is told, and it goes on in the next file as soon as it can."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.core.errors import RecordingError
from edge.core.pauses import Pauses
from edge.core.types import Frame
from edge.recording.recorder_process import RecorderProcess, no_room

STEADY_S, PAUSES_S = 60.0, (1.0, 300.0)
"""A recorder that lived so long is replaced at once, others after a pause: an alarm tells of each."""
KEEP_FREE_BYTES = 1_000_000_000
"""Of the disk, for events that may lie on it too: days of them. Recording goes on where twice as much is free."""
Opened = Callable[[Path], RecorderProcess]
Report = Callable[[str, str], None]


def next_free(out: Path) -> Path:
    """`out`, or the first of `out`-2, `out`-3 and so on that is not there."""
    names = (out if number == 1 else out.with_stem(f"{out.stem}-{number}") for number in count(1))
    return next(name for name in names if not name.exists())


class Recordings:
    """Records in `out`, and, whatever ends that, in the next that is free, see `next_free`.

    `opened` starts a recorder that writes a file. A new one is started beside the line, which never waits; frames that
    come meanwhile, and those that the old one had not written, are in no recording. It is tried for as long as frames
    come: at once, or after growing pauses where no recorder lives long or none can be started. `report` is told the
    kind and the detail of alarms: `recording_ended` with the reason, the same one once, and `recording_back`. For one
    thread. `insists`: raises RecordingError where the first file cannot be created; otherwise that is an alarm too.
    """

    def __init__(self, out: Path, opened: Opened, report: Report, *, insists: bool = True) -> None:
        self._out, self._opened, self._report = out, opened, report
        self._pauses = Pauses(STEADY_S, *PAUSES_S)
        self._missed, self._told, self._again_s = 0, "", 0.0
        self._began_s = time.monotonic()
        self._recorder: RecorderProcess | None = None
        self._opening: Future[tuple[Path, RecorderProcess]] | None = None
        try:
            self._recorder = opened(out)
        except RecordingError as error:
            if insists:
                raise
            self._wait(str(error), lived_s=0.0)
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
        recorder = self._recorder
        if recorder is None:
            self._missed += 1
            if self._opening is None and time.monotonic() >= self._again_s:
                self._opening = self._starter.submit(self._next)
        elif not recorder.write(frame) and recorder.problem is not None:
            self._recorder, self._missed = None, recorder.dropped
            self._wait(recorder.problem, time.monotonic() - self._began_s)

    def _next(self) -> tuple[Path, RecorderProcess]:
        """In a thread of its own."""
        problem = no_room(self._out.parent, 2 * KEEP_FREE_BYTES)
        if problem is not None:
            raise RecordingError(problem)
        path = next_free(self._out)
        return path, self._opened(path)

    def _take_over(self) -> None:
        """Use the next recorder as soon as it is there."""
        if self._opening is None or not self._opening.done():
            return
        opening, self._opening = self._opening, None
        try:
            path, self._recorder = opening.result()
        except RecordingError as error:
            self._wait(str(error), lived_s=0.0)
        else:
            self._began_s, self._told = time.monotonic(), ""
            self._report("recording_back", f"{path}: recording goes on, {self._missed} frames are in none")

    def _wait(self, problem: str, lived_s: float) -> None:
        """Tell it, and try again when it is time to."""
        self._again_s = time.monotonic() + self._pauses.after(lived_s)
        if problem != self._told:
            self._told = problem
            self._report("recording_ended", problem)
