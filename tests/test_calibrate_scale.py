"""Pitch, encoder scale, angle and sign from rendered shots of a sheet of dots, against what was rendered."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.dots import find_dots, fit_grid
from calibration.scale import Sight, Travel, complete_images, fit_pitch, fit_travel
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import F32, Frame
from edge.recording.writer import RecordingWriter
from edge.simulation.camera import Rig
from edge.simulation.target import DotGrid, TargetCamera

SHEET = DotGrid(columns=21, rows=21, x_mm=0.37, turn_deg=1.7)
RIG = Rig(height_px=160)
STILL = TargetCamera(SHEET, (0.0,) * 4, 384, rig=RIG)


def passing(
    sign: int = 1, angle_deg: float = 0.3, scale: float = 1.013, advance_mm: float = 0.8, sheet: DotGrid = SHEET
) -> TargetCamera:
    """A sheet of 22 mm that runs into the field and a little past its middle."""
    encoder_mm = tuple(np.arange(-14, 2, advance_mm) / scale)
    rig = replace(RIG, transport_sign=sign)
    return TargetCamera(sheet, encoder_mm, 384, 0.05, angle_deg, scale, rig=rig, seed=3)


@cache
def shots(camera: TargetCamera) -> list[Frame]:
    return list(camera.frames())


def images(camera: TargetCamera) -> list[F32]:
    return [frame.pixels.astype(np.float32) for frame in shots(camera)]


def travel_of(camera: TargetCamera, frames: list[Frame] | None = None, spacing_mm: float = 1.0) -> Travel:
    sight = Sight(255.0)
    pitch = fit_pitch(images(STILL), spacing_mm, sight, "still")
    moving = shots(camera) if frames is None else frames
    return fit_travel(moving, pitch, spacing_mm, sight, "travel", lambda _done: None)


@settings(max_examples=8, deadline=None)
@given(
    pitch_mm=st.floats(0.03, 0.08),
    turn_deg=st.floats(-40, 40),
    blur_px=st.floats(0.0, 1.5),
    x_mm=st.floats(-0.5, 0.5),
    bits=st.sampled_from([8, 12]),
)
def test_pitch_is_exact_whatever_the_lens_and_the_sheet(
    pitch_mm: float, turn_deg: float, blur_px: float, x_mm: float, bits: int
) -> None:
    sheet = DotGrid(31, 31, x_mm=x_mm, turn_deg=turn_deg)
    rig = replace(RIG, bits=bits)
    camera = TargetCamera(sheet, (0.0,) * 2, 384, pitch_mm, blur_px=blur_px, rig=rig)
    pitch = fit_pitch(complete_images(camera), 1.0, Sight(rig.white), "still")
    assert abs(pitch.pitch_mm / pitch_mm - 1) < 2e-4
    assert pitch.residual_px < 0.1


@pytest.mark.parametrize(("sign", "angle_deg", "scale"), [(1, 0.3, 1.013), (-1, -0.7, 0.95), (-1, 2.0, 1.0)])
def test_travel_gives_sign_angle_and_encoder_scale(sign: int, angle_deg: float, scale: float) -> None:
    found = travel_of(passing(sign, angle_deg, scale))
    assert found.transport_sign == sign
    assert abs(found.transport_angle_deg - angle_deg) < 0.01
    assert abs(found.encoder_scale / scale - 1) < 2e-4
    assert found.frames < 20, "the sheet was not seen from the start"


def test_lost_frames_and_a_coarse_encoder_do_no_harm() -> None:
    frames = [frame for frame in shots(passing()) if frame.frame_id % 7 != 5 and not 9 <= frame.frame_id < 13]
    frames = [replace(frame, encoder_mm=round(frame.encoder_mm / 0.005) * 0.005) for frame in frames]
    found = travel_of(passing(), frames)
    assert abs(found.transport_angle_deg - 0.3) < 0.01
    assert abs(found.encoder_scale / 1.013 - 1) < 5e-4


def test_the_command_writes_what_it_found_and_a_picture_of_the_dots(tmp_path: Path, foilsight: Foilsight) -> None:
    still, travel, out = tmp_path / "still.png", tmp_path / "travel.mcap", tmp_path / "line.zip"
    camera = passing(-1)
    old = replace(camera.calibration, pitch_mm=0.07, transport_sign=1)
    cv2.imwrite(str(still), shots(STILL)[0].pixels)
    with RecordingWriter(travel, old) as writer:
        for frame in shots(camera):
            writer.write(frame)
    done = foilsight("calibrate", "scale", still, "--travel", travel, "--spacing-mm", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    fitted = Calibration.load(out)
    assert fitted.pitch_mm == pytest.approx(0.05, rel=2e-4)
    assert fitted.transport_sign == -1
    assert fitted.transport_angle_deg == pytest.approx(0.3, abs=0.01)
    assert fitted.encoder_scale == pytest.approx(1.013, rel=2e-4)
    assert np.array_equal(fitted.light_directions[:, 1], -old.light_directions[:, 1]), "seen from the web"
    assert [fit.what for fit in fitted.fits] == ["scale"]
    _, green, red = cv2.split(cv2.imread(str(tmp_path / "line.png")).astype(int))
    assert (green > red + 50).sum() > 1000
    alone = foilsight("calibrate", "scale", still, "--spacing-mm", 1, "--out", out)
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
    assert "--base" in alone.stderr


def test_no_target_is_refused_with_the_picture_of_what_was_seen(tmp_path: Path, foilsight: Foilsight) -> None:
    still, out = tmp_path / "still.mcap", tmp_path / "line.zip"
    with RecordingWriter(still, STILL.calibration) as writer:
        for frame in replace(STILL, target=DotGrid(2, 2)).frames():
            writer.write(frame)
    done = foilsight("calibrate", "scale", still, "--spacing-mm", 1, "--out", out)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"{still}: no target was found" in done.stderr
    assert cv2.imread(str(tmp_path / "line.png")).shape == (160, 384, 3)
    assert not out.exists()


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        (replace(STILL, rig=replace(RIG, flat_level=0.8)), r"% of the pixels are saturated"),
        (replace(STILL, encoder_mm=(0.0, 0.03)), "the target moves, by 0.60 px at picture 1"),
        (replace(STILL, target=DotGrid(301, 301, 0.3, 0.15)), "no target was found"),
        (replace(STILL, target=DotGrid(21, 1)), "no target was found"),
    ],
)
def test_shots_of_no_still_target_are_refused(camera: TargetCamera, says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        fit_pitch(complete_images(camera), 1.0, Sight(255.0), "still")


def test_a_tilted_sheet_is_refused() -> None:
    image = images(STILL)[0]
    tilted = cv2.resize(image, (384, 159), interpolation=cv2.INTER_AREA)
    with pytest.raises(CalibrationError, match=r"dots are 0\.6\d\d % closer in one direction"):
        fit_pitch([tilted], 1.0, Sight(255.0), "still")


def test_a_dirty_sheet_under_uneven_light_is_measured_as_well() -> None:
    rng = np.random.default_rng(5)
    image = images(STILL)[0] * np.linspace(0.3, 1, 384, dtype=np.float32)
    for x, y, radius in zip(
        rng.integers(384, size=60), rng.integers(160, size=60), rng.integers(1, 5, 60), strict=True
    ):
        cv2.circle(image, (int(x), int(y)), int(radius), (20,), -1, cv2.LINE_AA)
    pitch = fit_pitch([image], 1.0, Sight(255.0), "still")
    assert abs(pitch.pitch_mm / 0.05 - 1) < 2e-4


def test_good_web_is_no_target() -> None:
    noise = np.random.default_rng(2).normal(100, 5, (160, 384)).astype(np.float32)
    assert fit_grid(find_dots(noise)[0]) is None


@pytest.mark.parametrize(
    ("camera", "spacing_mm", "says"),
    [
        (passing(scale=1.5), 1.0, "no encoder within 10 %"),
        (passing(advance_mm=1.0), 1.0, "may run either way"),
        (passing(advance_mm=2.8), 1.0, "no encoder within 10 %|at least 8 are needed"),
        (passing(), 2.0, "no encoder within 10 %"),
        (passing(sheet=replace(SHEET, spacing_mm=1.01)), 1.0, "another target"),
        (replace(STILL, encoder_mm=(0.0,) * 12), 1.0, "stands still"),
    ],
)
def test_travel_that_tells_nothing_is_refused(camera: TargetCamera, spacing_mm: float, says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        travel_of(camera, spacing_mm=spacing_mm)


def test_a_sheet_that_turns_on_the_way_is_refused() -> None:
    frames = [
        replace(frame, pixels=shots(replace(whole, encoder_mm=(frame.encoder_mm,), target=turned))[0].pixels)
        for whole in [passing()]
        for frame in shots(whole)[-9:]
        for turned in [replace(SHEET, turn_deg=1.7 + 0.01 * frame.frame_id)]
    ]
    with pytest.raises(CalibrationError, match=r"turns by 0\.\d\d degree"):
        travel_of(passing(), frames)
