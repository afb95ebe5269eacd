"""`foilsight simulate`: a rendered web into a recording, with its calibration and its truth."""

from pathlib import Path

from edge.core.faults import FaultScript
from edge.recording.writer import RecordingWriter
from edge.service.progress import web_progress
from edge.simulation.camera import StrobedCamera
from edge.simulation.faulty import with_faults

_TRUTH_ROWS = 1024


def record_rendered(camera: StrobedCamera, out: Path, quiet: bool = False, faults: FaultScript | None = None) -> None:
    """Write every frame of a rendered web, as `faults` leave it, then what was planted. Raises RecordingError."""
    pitch_mm = camera.web.pitch_mm
    writer = RecordingWriter(out, camera.calibration, generator=camera.generator, web_mm=camera.web_mm)
    with writer, web_progress("rendering", camera.web_mm, quiet) as at:
        first_mm: float | None = None
        for frame in with_faults(camera.frames(), faults or FaultScript()):
            writer.write(frame)
            first_mm = frame.encoder_mm if first_mm is None else first_mm
            at(frame.encoder_mm - first_mm + camera.rig.height_px * pitch_mm)
        for first_row in range(0, camera.rows, _TRUTH_ROWS):
            rows = min(_TRUTH_ROWS, camera.rows - first_row)
            writer.write_truth_classes(first_row, camera.web.classes(first_row, rows))
        writer.write_truth_defects(camera.web.planted_defects(camera.rows))
