"""Gloss steepens slopes: by how much is read off a bump of known height, and taken back by the line."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from numpy.typing import NDArray

from calibration.gloss import Relief, fit_slope_gain
from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.recording.writer import RecordingWriter
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, Optics
from edge.simulation.planting import AGGLOMERATION, CLEAN, Planted
from edge.simulation.web import SMOOTH, RenderedWeb
from edge.surface.solver import SurfaceSolver

GLOSSY = Optics(gloss=0.3, roughness=0.35)
PITCH_MM, WIDTH = 0.05, 256


def quiet(_done: int) -> None:
    pass


def bump(relief_mm: float, radius_mm: float = 2.0) -> Planted:
    ellipse = [WIDTH * PITCH_MM / 2, 20.0, radius_mm, radius_mm, 1.0, 0.0, relief_mm, 1.0]
    return Planted(AGGLOMERATION, ellipses=np.array([ellipse]))


def camera(optics: Optics, *relief: Planted) -> StrobedCamera:
    web = RenderedWeb(5, WIDTH, CLEAN, extra=relief)
    return StrobedCamera(web, 40.0, Rig(height_px=128, bits=12, optics=optics), Motion(16.0))


@cache
def calibrated(optics: Optics) -> Calibration:
    """With the flat field of web that has the same gloss, as a line takes it."""
    rig = Rig(height_px=128, bits=12, optics=optics, noise=False)
    good = StrobedCamera(RenderedWeb(6, WIDTH, CLEAN, coating=SMOOTH), 20.0, rig, Motion(16.0))
    by_light = [[frame.pixels for frame in good.frames() if frame.light == light] for light in range(4)]
    flat = np.stack([np.mean(frames, axis=0) for frames in by_light]).astype(np.float32)
    return replace(good.calibration, flat=flat)


def slopes_seen(source: StrobedCamera, calibration: Calibration) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes of what is sloped by 3 to 10 degrees: the part of them that is seen along the true ones, and the true."""
    assembler, solver = Assembler(calibration, 256, PITCH_MM), SurfaceSolver(calibration)
    strips = [strip for frame in source.frames() for strip in assembler.push(frame)] + list(assembler.finish())
    seen = np.concatenate([solver.solve(strip).normals for strip in strips], axis=1)[:, 200:-200].astype(float)
    true = source.web.normals(200, seen.shape[1]).astype(float)
    seen, true = seen[:2] / seen[2], true[:2] / true[2]
    slope = np.hypot(*true)
    sloped = (slope > np.tan(np.radians(3))) & (slope < np.tan(np.radians(10)))
    return ((seen * true).sum(axis=0) / slope)[sloped], slope[sloped]


@pytest.mark.parametrize("relief_mm", [0.2, -0.2])
def test_slopes_come_out_as_steep_as_they_are(relief_mm: float) -> None:
    source, start = camera(GLOSSY, bump(relief_mm)), calibrated(GLOSSY)
    seen, true = slopes_seen(source, start)
    assert np.median(seen / true) > 1.2
    found = fit_slope_gain(source, start, 1e3 * relief_mm, Relief(), "bump", quiet)
    seen, true = slopes_seen(source, replace(start, slope_gain=found.gain))
    assert np.median(seen / true) == pytest.approx(1, abs=0.06)


def test_a_matt_coating_needs_no_gain() -> None:
    found = fit_slope_gain(camera(IDEAL, bump(0.2)), calibrated(IDEAL), 200, Relief(), "bump", quiet)
    assert found.error < 0.06
    assert found.gain == pytest.approx(1, abs=found.error)


def test_the_gain_found_before_is_not_counted_in() -> None:
    source, start = camera(GLOSSY, bump(0.2)), calibrated(GLOSSY)
    once = fit_slope_gain(source, start, 200, Relief(), "bump", quiet)
    again = fit_slope_gain(source, replace(start, slope_gain=once.gain), 200, Relief(), "bump", quiet)
    assert again == once


@pytest.mark.parametrize(
    ("relief", "known_um", "told"),
    [
        ([], 200, "nothing stands out"),
        ([bump(0.4, 1.5)], 400, "flanks rise by up to"),
        ([bump(-0.2)], 200, "a groove is below 0"),
        ([bump(0.05)], 50, "um or more|nothing stands out"),
    ],
    ids=["flat web", "steep", "groove for bump", "low"],
)
def test_what_tells_no_gain_is_refused(relief: list[Planted], known_um: float, told: str) -> None:
    with pytest.raises(CalibrationError, match=told):
        fit_slope_gain(camera(IDEAL, *relief), calibrated(IDEAL), known_um, Relief(), "bump", quiet)


def test_the_gain_is_kept_in_the_file_and_must_be_likely() -> None:
    start = calibrated(IDEAL)
    assert Calibration.from_bytes(replace(start, slope_gain=1.3).to_bytes(), "file").slope_gain == 1.3
    with pytest.raises(CalibrationError, match="slope_gain is 4"):
        replace(start, slope_gain=4.0)


def test_the_command_writes_what_it_saw(tmp_path: Path, foilsight: Foilsight) -> None:
    source, start = camera(GLOSSY, bump(0.2)), calibrated(GLOSSY)
    with RecordingWriter(tmp_path / "bump.mcap", start) as writer:
        for frame in source.frames():
            writer.write(frame)
    done = foilsight("calibrate", "gloss", tmp_path / "bump.mcap", "--height-um", "200", "--out", tmp_path / "line.zip")
    assert done.returncode == 0, done.stderr
    written = Calibration.load(tmp_path / "line.zip")
    assert 1.2 < written.slope_gain < 1.5
    assert written.fits[-1].what == "gloss"
    assert cv2.imread(str(tmp_path / "line.png")).shape[2] == 3
    done = foilsight(
        "calibrate", "gloss", "--gain", "1.25", "--base", tmp_path / "line.zip", "--out", tmp_path / "g.zip"
    )
    assert done.returncode == 0, done.stderr
    assert Calibration.load(tmp_path / "g.zip").slope_gain == 1.25


def test_a_gain_without_a_calibration_is_refused(tmp_path: Path, foilsight: Foilsight) -> None:
    done = foilsight("calibrate", "gloss", "--gain", "1.25", "--out", tmp_path / "g.zip")
    assert done.returncode == 2
    assert "--base" in done.stderr
