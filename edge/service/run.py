"""`foilsight run` and `foilsight record`: the line as it runs."""

import math
from collections.abc import Callable, Generator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from edge.camera.live import LiveCamera
from edge.core.clock import utc_now
from edge.core.config import Config
from edge.core.types import Alarm, Frame
from edge.recording.recorder_process import Recorded, RecorderProcess
from edge.service.inspecting import Tell, Wishes, inspect_web
from edge.service.line import Line
from edge.service.progress import web_progress
from edge.service.recordings import KEEP_FREE_BYTES, Recordings
from edge.service.report import Report
from edge.service.stopping import stop_when_asked


def run(
    line: Line,
    config: Config,
    folder: Path,
    length_mm: float | None = None,
    quiet: bool = False,
    out: Path | None = None,
) -> Report:
    """Inspect what the camera sees until ctrl-C, SIGTERM, or `length_mm` of web, and leave a report in `folder`; with
    `out`, record it as well.

    Raises FoilsightError where the line cannot start; later troubles of the camera are alarms, and gaps in the ledger.
    """
    with stop_when_asked() as stop:

        def frames(tell: Tell) -> Generator[Frame]:
            record = None if out is None else recordings_in(out, line, config)
            return live_frames(line, config, tell, stop.is_set, length_mm, record)

        wishes = Wishes(quiet=quiet, keep_events_mb=config.events.keep_mb)
        return inspect_web(
            frames, line.calibration, length_mm, config.camera.device, config.roll, config, folder, stop, wishes
        )


def record(line: Line, config: Config, out: Path, length_mm: float | None = None, quiet: bool = False) -> Recorded:
    """Record what the camera sees until ctrl-C, SIGTERM, or `length_mm` of web.

    Raises FoilsightError where the line cannot start; what goes wrong with the recording later is said in the result.
    """
    with (
        stop_when_asked() as stop,
        _recorder(line, config, out) as recorder,
        web_progress("recording", length_mm, quiet) as at,
    ):
        first_mm: float | None = None
        for frame in live_frames(line, config, lambda _alarm: None, stop.is_set, length_mm):
            first_mm = frame.encoder_mm if first_mm is None else first_mm
            recorder.write(frame)
            at(abs(frame.encoder_mm - first_mm))
            if recorder.problem is not None:
                break
        return recorder.stop()


def _recorder(line: Line, config: Config, out: Path, keep_free_bytes: int = 0) -> RecorderProcess:
    bits: Literal[8, 16] = 8 if line.calibration.white < 256 else 16
    return RecorderProcess(out, line.calibration, roll=config.roll, bits=bits, keep_free_bytes=keep_free_bytes)


def recordings_in(out: Path, line: Line, config: Config, *, insists: bool = True) -> Callable[[Tell], Recordings]:
    """What records in `out` beside an inspection, once it knows whom to tell alarms; `insists` as in `Recordings`."""
    opened = partial(_recorder, line, config, keep_free_bytes=KEEP_FREE_BYTES)
    return lambda tell: Recordings(out, opened, telling(tell), insists=insists)


def telling(tell: Tell) -> Callable[[str, str], None]:
    """Alarms by their kind and detail."""
    return lambda kind, detail: tell(Alarm(kind=kind, since=utc_now(), detail=detail))


def live_frames(
    line: Line,
    config: Config,
    tell: Tell,
    stop: Callable[[], bool],
    length_mm: float | None,
    record: Callable[[Tell], Recordings] | None = None,
    meet: Callable[[LiveCamera], None] = lambda _camera: None,
) -> Generator[Frame]:
    """The camera's frames until told to stop, with what it had delivered by then; or until `length_mm` of web, the last
    frame being the first to show their end.

    The processes beside the one that inspects live here. With `record` (`recordings_in`) a recorder is started first,
    and takes the frames that have a position; then the camera, which `meet` is given before its first frame. The camera
    ends first; when what is left on its ring is inspected and recorded, so does the recorder. `LiveCamera` and
    `Recordings` start theirs again. Raises FoilsightError where either cannot be started at all.
    """
    left_mm = None if length_mm is None else length_mm - line.frame_mm
    first_mm: float | None = None
    with ExitStack() as stack:
        recordings = None if record is None else stack.enter_context(record(tell))
        camera = stack.enter_context(LiveCamera(config.camera, line.calibration, line.open_camera, telling(tell)))
        meet(camera)
        for frame in chain(camera.frames(stop), camera.rest()):
            if recordings is not None and math.isfinite(frame.encoder_mm):
                recordings.write(frame)
            yield frame
            first_mm = frame.encoder_mm if first_mm is None else first_mm
            if left_mm is not None and abs(frame.encoder_mm - first_mm) >= left_mm - 1e-6:
                break
