"""`foilsight replay`: a recorded web through the very stages that run on the line."""

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import Frame, FrameSource
from edge.service.gallery import Truth
from edge.service.inspecting import Tell, Wishes, inspect_web
from edge.service.report import Report
from edge.service.stopping import stop_when_asked


@dataclass(frozen=True)
class ReplayOptions:
    """`rate`: 0 as fast as possible, 1 in real time, N times as fast; `keep`: of "surface", "classes"."""

    rate: float = 0.0
    keep: frozenset[str] = frozenset()
    quiet: bool = False


def replay(
    source: FrameSource,
    name: str,
    roll: str,
    config: Config,
    folder: Path,
    options: ReplayOptions,
    truth: Truth | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Inspect a source from its first frame to its last and leave a report in `folder`.

    `truth` is shown beside what was found; `notes` are what must be said of the source. Ctrl-C ends the reading; what
    was read is still inspected, reported and noted. Raises FoilsightError.
    """
    wishes = Wishes(keep=options.keep, truth=truth, notes=notes, quiet=options.quiet)
    calibration = source.calibration if config.calibration is None else Calibration.load(config.calibration)
    with stop_when_asked() as stop:

        def frames(_tell: Tell) -> Generator[Frame]:
            return _paced(source.frames(), options.rate, stop)

        return inspect_web(frames, calibration, source.web_mm, name, roll, config, folder, stop, wishes)


def _paced(frames: Iterator[Frame], rate: float, stop: threading.Event) -> Generator[Frame]:
    """Hold frames back until their time has come; end when told to stop."""
    first_ns: int | None = None
    started = time.perf_counter()
    for frame in frames:
        if rate > 0:
            first_ns = frame.exposed_ns if first_ns is None else first_ns
            due = started + (frame.exposed_ns - first_ns) / 1e9 / rate
            stop.wait(max(0.0, due - time.perf_counter()))
        if stop.is_set():
            return
        yield frame
