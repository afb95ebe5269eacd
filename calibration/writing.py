"""Where a calibration command starts from, and what it leaves. Imports nothing heavy until a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.core.calibration import Calibration
    from edge.recording.reader import Recording


def base_of(base: Path | None, recording: "Recording") -> "Calibration":
    """The calibration to start from. Raises CalibrationError where it is not the recording's camera's."""
    from edge.core.calibration import Calibration

    if base is None:
        return recording.calibration
    start = Calibration.load(base)
    check_alike(start, recording, base)
    return start


def check_alike(start: "Calibration", recording: "Recording", path: Path) -> None:
    from edge.core.errors import CalibrationError

    def size(one: "Calibration") -> str:
        return f"{one.lights} lights and {one.width} x {one.height} pixels of white {one.white:g}"

    if size(start) != size(recording.calibration):
        raise CalibrationError(
            f"{path}: not of the same camera, {size(recording.calibration)} do not go with {size(start)}"
        )


def write(start: "Calibration", out: Path, what: str, sources: list[Path], scores: "dict[str, float]") -> None:
    """Write a calibration with the story of its latest fit, in place of what was said of an earlier one."""
    from dataclasses import replace

    from edge.core.calibration import Fit
    from edge.core.clock import utc_now
    from edge.core.errors import CalibrationError

    fit = Fit(what, utc_now(), [path.name for path in sources], scores)
    told = replace(start, fits=(*(each for each in start.fits if each.what != what), fit))
    try:
        told.save(out)
    except OSError as error:
        raise CalibrationError(f"{out}: cannot be written ({error.strerror})") from error
