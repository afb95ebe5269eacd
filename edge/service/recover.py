"""`foilsight recover`: what a crash, a kill or a full disk left of a recording, as a whole one."""

from pathlib import Path

from edge.recording import recovery
from edge.recording.recovery import Recovered
from edge.service.progress import web_progress


def recover(torn: Path, out: Path, quiet: bool = False) -> Recovered:
    """Rewrite a torn recording as a whole one, showing progress on the error stream unless `quiet`.

    A recording that is whole is left as it is and `out` is not written. Raises RecordingError where `torn` is not a
    recording, or `out` exists or cannot be written.
    """
    with web_progress("recovering", None, quiet) as at:
        return recovery.recover(torn, out, at)


def sentence(recovered: Recovered, torn: Path, out: Path) -> str:
    """What was done, for a person."""
    length = "" if recovered.web_mm is None else f", {recovered.web_mm:.1f} mm of web"
    frames = f"{recovered.frames} frames{length}"
    if not recovered.torn:
        return f"{torn}: not torn, nothing to recover ({frames})"
    return f"{out}: {frames} recovered; {recovered.lost_bytes} bytes at the end of {torn} were lost"
