"""How a recording is laid out in MCAP: what writer and reader must agree on.

Before the first frame stand the metadata `foilsight` (format version, roll, clock pair, length of web), `generator`
(who rendered it, where it was rendered) and the attachment `calibration.zip`. Then every frame is one uncompressed
chunk of two messages with the same sequence: `/light/K`, the pixels, and `/frame`, all other fields as JSON. Rendered
webs carry `/truth/classes` and `/truth/defects` as well. At the end may stand the metadata `closing`: how many frames
came too fast to be recorded or, in a recovered recording, how many bytes were lost.

`log_time` is UTC: `exposed_ns` moved by the clock pair, so that recordings and logs of several machines share an axis.
The exact monotonic `exposed_ns` stands in `/frame`.
"""

import math

import msgspec

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError, RecordingError
from edge.core.types import Frame, Pixels, PlantedDefect

FORMAT = "1"
METADATA = "foilsight"
GENERATOR = "generator"
WEB_MM = "web_mm"
CLOSING = "closing"
FRAMES_DROPPED = "frames_dropped"
LOST_BYTES = "lost_bytes"
CALIBRATION = "calibration.zip"
LIGHT_TOPIC = "/light/"
FRAME_TOPIC = "/frame"
TRUTH_CLASSES_TOPIC = "/truth/classes"
TRUTH_DEFECTS_TOPIC = "/truth/defects"
FIRST_ROW = "first_row="


class FrameFields(msgspec.Struct, frozen=True, kw_only=True):
    """All fields of a `Frame` but its pixels: a message on `/frame`."""

    light: int
    frame_id: int
    encoder_mm: float
    exposed_ns: int
    exposure_us: float
    complete: bool

    @classmethod
    def of(cls, frame: Frame) -> "FrameFields":
        """The fields of `frame`. Raises RecordingError where one is not a number."""
        if not (math.isfinite(frame.encoder_mm) and math.isfinite(frame.exposure_us)):
            raise RecordingError(f"frame {frame.frame_id}: encoder_mm or exposure_us is not a number")
        return cls(
            light=int(frame.light),
            frame_id=int(frame.frame_id),
            encoder_mm=float(frame.encoder_mm),
            exposed_ns=int(frame.exposed_ns),
            exposure_us=float(frame.exposure_us),
            complete=bool(frame.complete),
        )


class TruthDefects(msgspec.Struct, frozen=True):
    """A message on `/truth/defects`."""

    defects: list[PlantedDefect]


def seen_mm(first_mm: float, last_mm: float, calibration: Calibration) -> float | None:
    """Length of web seen by frames from one encoder position to another, None where the pitch is unknown."""
    if calibration.pitch_mm is None:
        return None
    return abs(last_mm - first_mm) + calibration.height * calibration.pitch_mm


def check_fits(pixels: Pixels, light: int, calibration: Calibration, where: str) -> None:
    """Raise CalibrationError where a frame is not of the calibration's size or lights; `where` names the frame."""
    height, width = pixels.shape
    if (height, width) != (calibration.height, calibration.width):
        raise CalibrationError(
            f"{where}: calibration of another size, it is for {calibration.width} x {calibration.height} pixels "
            f"and the frame has {width} x {height}: use the calibration of this camera"
        )
    if not 0 <= light < calibration.lights:
        raise CalibrationError(f"{where}: lit by light {light}, the calibration knows only {calibration.lights}")
