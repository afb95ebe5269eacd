"""`foilsight simulate`: a rendered web into a recording, with its calibration and its truth."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from edge.core.faults import FaultScript
from edge.recording.writer import RecordingWriter
from edge.service.options import require, speeds_of
from edge.service.progress import web_progress
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.faulty import with_faults
from edge.simulation.optics import IDEAL, REAL
from edge.simulation.planting import CLEAN, DENSE, PRODUCTION
from edge.simulation.web import RenderedWeb

_TRUTH_ROWS = 1024
_PITCH_MM = RenderedWeb.pitch_mm
DENSITIES = {"dense": DENSE, "production": PRODUCTION, "clean": CLEAN}
_OPTICS = {"ideal": IDEAL, "real": REAL}


def rendered_camera(
    length_mm: float,
    width_px: int,
    seed: int,
    density: Literal["dense", "production", "clean"],
    speed: str,
    advance_px: float,
    height_px: int,
    sign: Literal[1, -1],
    optics: Literal["ideal", "real"],
    bits: Literal[8, 10, 12, 16],
    stains_per_m2: float,
) -> StrobedCamera:
    """The camera over a web that `foilsight simulate` was asked for. Raises ConfigError naming the option."""
    slow, fast = speeds_of(speed)
    frame_mm = height_px * _PITCH_MM
    require(length_mm >= frame_mm, "--length-mm", f"at least the {frame_mm:g} mm a frame shows")
    require(16 <= width_px <= 16384, "--width-px", "between 16 and 16384")
    require(8 <= height_px <= 4096, "--height-px", "between 8 and 4096")
    require(0 < advance_px <= height_px, "--advance-px", "above 0 and at most the frame's height")
    require(seed >= 0, "--seed", "0 or more")
    require(stains_per_m2 >= 0, "--stains-per-m2", "0 or more")
    return StrobedCamera(
        RenderedWeb(seed, width_px, replace(DENSITIES[density], stains=stains_per_m2)),
        length_mm,
        Rig(height_px=height_px, bits=bits, transport_sign=sign, optics=_OPTICS[optics]),
        Motion(advance_px, slow, fast),
    )


def demonstration() -> StrobedCamera:
    """The short web that `foilsight replay` shows where nobody has a recording."""
    return StrobedCamera(RenderedWeb(2024, 1024, DENSE.scaled(0.4)), 250.0)


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
