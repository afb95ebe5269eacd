"""Registration refined by the data: an encoder that is off is found out, followed and told; a true one is left alone.

The rendered web gets a ruler along its last column: a level that rises by the web row. What is assembled of it says
which row of the web each light's plane really shows.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_assembly import calibration_of
from test_calibrate_transport import misregistration_px, planes_of
from test_pipeline import MODEL, DarkIsBad, Told

from edge.assembly import drift
from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.config import Config
from edge.core.types import F32, Alarm, Frame, Strip
from edge.pipeline.inspection import Inspection
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import REAL
from edge.simulation.planting import CLEAN, DENSE, Frequencies
from edge.simulation.target import DotGrid, TargetCamera
from edge.simulation.web import SMOOTH, Coating, RenderedWeb
from edge.surface.solver import SurfaceSolver

PITCH_MM, WIDTH_PX, LENGTH_MM, OFF = 0.05, 384, 80.0, 0.005
PER_ROW = 30
RAMP = Motion(32.0, 0.7, 1.3)
ALBEDO = Coating(slopes=(), albedos=((0.15, 0.01),))
COARSE_ALBEDO = Coating(slopes=(), albedos=((0.4, 0.01),))
RELIEF = Coating(slopes=((0.2, 1.0),), albedos=())

Encoder = Callable[[float], float]
"""What it says where the web is in truth, in mm."""


def short_by(part: float) -> Encoder:
    """The web moves further than it says."""
    return lambda at_mm: at_mm / (1 + part)


def camera_of(
    coating: Coating, motion: Motion = RAMP, rig: Rig | None = None, frequencies: Frequencies = CLEAN
) -> StrobedCamera:
    web = RenderedWeb(5, WIDTH_PX, frequencies, PITCH_MM, coating)
    return StrobedCamera(web, LENGTH_MM, rig or Rig(bits=16), motion)


def with_ruler(camera: StrobedCamera, encoder: Encoder) -> Iterator[Frame]:
    sign, height = camera.rig.transport_sign, camera.rig.height_px
    for frame in camera.frames():
        rows = frame.encoder_mm / PITCH_MM + np.arange(height)[::sign]
        pixels = frame.pixels.copy()
        pixels[:, -1] = np.rint(rows * PER_ROW)
        yield replace(frame, pixels=pixels, encoder_mm=encoder(frame.encoder_mm))


def ruled(calibration: Calibration) -> Calibration:
    """What knows that the ruler is told as it is."""
    assert calibration.dark is not None and calibration.flat is not None
    dark, flat = calibration.dark.copy(), calibration.flat.copy()
    dark[:, :, -1], flat[:, :, -1] = 0, 65535
    return replace(calibration, dark=dark, flat=flat)


def assembled(camera: StrobedCamera, encoder: Encoder) -> tuple[Assembler, list[Strip]]:
    assembler = Assembler(ruled(camera.calibration), 64, PITCH_MM)
    strips = [strip for frame in with_ruler(camera, encoder) for strip in assembler.push(frame)]
    return assembler, strips + list(assembler.finish())


def apart_px(strips: list[Strip]) -> tuple[float, float]:
    """How far from each other the lights show the web at the same web row: RMS, and the most."""
    planes = np.concatenate([strip.planes[:, :, -1] for strip in strips], axis=1).astype(np.float64)
    seen = np.concatenate([np.isfinite(strip.source_row).all(axis=0) for strip in strips])
    rows = planes[:, seen] * 65535 / PER_ROW
    off = rows - rows.mean(axis=0)
    assert seen.sum() > 500
    return float(np.sqrt((off**2).mean())), float(np.abs(off).max())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("off", [OFF, -OFF], ids=["further", "less far"])
@pytest.mark.parametrize("coating", [ALBEDO, COARSE_ALBEDO, RELIEF], ids=["albedo", "coarse albedo", "relief"])
def test_lights_lie_upon_each_other_whatever_the_encoder_says(coating: Coating, off: float, sign: int) -> None:
    """From the first row on, on a web that speeds up by 30 % to either side, under an encoder off by 0.5 %."""
    camera = camera_of(coating, rig=Rig(bits=16, transport_sign=sign))
    assembler, strips = assembled(camera, short_by(off))
    rms, most = apart_px(strips)
    assert rms < 0.05 and most < 0.15
    assert assembler.encoder_drift.error == pytest.approx(off, abs=5e-4)
    assert assembler.counts.unobservable <= assembler.counts.compared / 4
    assert assembler.web_rows == pytest.approx(camera.rows, abs=2), "lengths are the web's"


def test_without_it_they_would_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_SCALE_ERROR", 0.0)
    assert apart_px(assembled(camera_of(RELIEF), short_by(OFF))[1])[0] > 0.1


def test_of_smooth_web_it_is_said_that_nothing_can_be_seen_and_the_encoder_is_held() -> None:
    assembler, strips = assembled(camera_of(SMOOTH), short_by(OFF))
    assert assembler.counts.compared == assembler.counts.unobservable > 5
    assert assembler.encoder_drift.scale == 1 and not assembler.encoder_drift.is_off
    assert apart_px(strips)[0] == pytest.approx(0.14, abs=0.02)


def test_dirt_that_stays_while_smooth_web_moves_is_no_web_that_stands() -> None:
    assembler, _ = assembled(camera_of(SMOOTH, Motion(), Rig(bits=16, optics=REAL)), short_by(0.0))
    assert assembler.counts.compared == assembler.counts.unobservable > 5


@pytest.mark.parametrize("coating", [Coating(), ALBEDO, SMOOTH], ids=["usual", "albedo", "smooth"])
@pytest.mark.parametrize("rig", [Rig(bits=16), Rig(bits=16, optics=REAL)], ids=["ideal", "real"])
def test_a_true_encoder_is_left_alone(coating: Coating, rig: Rig) -> None:
    assembler, strips = assembled(camera_of(coating, Motion(), rig, DENSE), short_by(0.0))
    source = np.concatenate([strip.source_row for strip in strips], axis=1)
    source = source[np.isfinite(source)]
    np.testing.assert_allclose(source, np.rint(source), atol=1e-4, err_msg="rows stay on whole pixels")
    assert assembler.encoder_drift.scale == 1 and not assembler.encoder_drift.is_off


@pytest.mark.parametrize("height", [64, 128])
def test_small_frames_tell_it_too(height: int) -> None:
    camera = camera_of(Coating(), Motion(height / 8, 0.7, 1.3), Rig(height_px=height, bits=16))
    assert apart_px(assembled(camera, short_by(2 * OFF * 0.9))[1])[0] < 0.05


def test_defects_do_not_mislead_it() -> None:
    _, strips = assembled(camera_of(Coating(), frequencies=DENSE), short_by(OFF))
    assert apart_px(strips)[0] < 0.05


def test_slip_that_begins_is_found_within_a_frame_or_two() -> None:
    assembler, strips = assembled(camera_of(Coating()), lambda at_mm: at_mm - max(0.0, at_mm - 30) * OFF)
    assert apart_px(strips[14:])[0] < 0.05, "45 mm and on"
    assert assembler.encoder_drift.error == pytest.approx(OFF, abs=5e-4)


def test_an_encoder_that_only_scatters_is_not_chased() -> None:
    random = np.random.default_rng(3)
    still, _ = assembled(camera_of(Coating()), lambda at_mm: at_mm + random.normal(0, 0.05 * PITCH_MM))
    steps, _ = assembled(camera_of(Coating()), lambda at_mm: round(at_mm / 0.01) * 0.01)
    assert still.encoder_drift.scale == steps.encoder_drift.scale == 1


def test_what_was_found_outlasts_an_encoder_that_starts_anew() -> None:
    assembler, strips = assembled(
        camera_of(Coating()), lambda at_mm: (at_mm if at_mm < 35 else at_mm - 500) / (1 + OFF)
    )
    assert assembler.counts.encoder_restarts == 1
    assert assembler.encoder_drift.scale == pytest.approx(1 + OFF, abs=5e-4)
    assert apart_px(strips)[0] < 0.05


def test_a_web_that_runs_askew_is_followed() -> None:
    for sign, angle_deg in ((1, 0.8), (-1, -0.8), (1, 2.0)):
        camera = TargetCamera(
            DotGrid(11, 21, turn_deg=3.0),
            tuple(np.arange(-9, 9, 0.81)),
            240,
            transport_angle_deg=angle_deg,
            encoder_scale=1 + OFF,
            rig=Rig(height_px=160, transport_sign=sign, bits=12),
        )
        assert misregistration_px(planes_of(camera, replace(camera.calibration, transport_angle_deg=angle_deg))) < 0.05


@pytest.mark.parametrize("off", [0.0, OFF])
def test_sixteen_common_rows_are_enough(off: float) -> None:
    assembler, strips = assembled(camera_of(RELIEF, Motion(60.0)), short_by(off))
    assert assembler.encoder_drift.error == pytest.approx(off, abs=5e-4)
    assert apart_px(strips)[0] < 0.05 and assembler.counts.unobservable == 0


@pytest.mark.parametrize("advance_px", [64.0, 61.0])
def test_frames_that_overlap_too_little_tell_nothing(advance_px: float) -> None:
    assembler, _ = assembled(camera_of(Coating(), Motion(advance_px)), short_by(OFF))
    assert assembler.counts.compared == assembler.counts.unobservable > 2


def test_normals_are_as_true_as_under_a_true_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = camera_of(Coating(slopes=((0.2, 6.0),), albedos=((0.15, 0.05),)), rig=Rig(bits=16, noise=False))

    def error_deg(encoder: Encoder) -> float:
        """Median; web rows are those of the rendered web where the encoder or the frames are right."""
        _, strips = assembled(camera, encoder)
        solver = SurfaceSolver(ruled(camera.calibration))
        inner = strips[5:-6]
        normals = np.concatenate([solver.solve(strip).normals.copy() for strip in inner], axis=1)
        truth = true_normals(camera, inner)
        return float(np.degrees(np.median(np.arccos(np.clip((normals * truth).sum(axis=0)[:, :-1], -1, 1)))))

    exact, followed = error_deg(short_by(0.0)), error_deg(short_by(OFF))
    monkeypatch.setattr(drift, "MAX_SCALE_ERROR", 0.0)
    misled = error_deg(short_by(OFF))
    assert followed < 1.2 * exact + 0.02
    assert misled > 1.5 * followed


def true_normals(camera: StrobedCamera, strips: list[Strip]) -> F32:
    """Of the web rows that the ruler says, linear between whole ones."""
    rows = np.concatenate([strip.planes[:, :, -1].mean(axis=0) for strip in strips]).astype(np.float64)
    rows *= 65535 / PER_ROW
    first = int(rows.min())
    normals = camera.web.normals(first, int(rows.max()) + 2 - first)
    low, part = np.floor(rows).astype(int) - first, (rows % 1).astype(np.float32)[:, None]
    between: F32 = normals[:, low] * (1 - part) + normals[:, low + 1] * part
    return between


def alarms_of(camera: StrobedCamera, encoder: Encoder) -> tuple[list[Alarm], list[str]]:
    told = Told()
    with Inspection(ruled(camera.calibration), MODEL, DarkIsBad(), Config(), told) as inspection:
        for frame in with_ruler(camera, encoder):
            inspection.push(frame)
        inspection.finish()
    return [body for body in told.bodies if isinstance(body, Alarm)], inspection.notes


def test_it_is_told_once_with_sign_and_size() -> None:
    for off, way in ((0.0048, "further"), (-0.0048, "less far")):
        (alarm,), notes = alarms_of(camera_of(Coating()), short_by(off))
        assert alarm.kind == "misregistered" and notes == []
        said = re.match(rf"the web moves ([\d.]+) % {way} than the encoder says, ([-+][\d.]+) px over", alarm.detail)
        assert said is not None, alarm.detail
        assert float(said[1]) == pytest.approx(abs(100 * off), abs=0.05)
        assert float(said[2]) == pytest.approx(256 * off, abs=0.15)
    (alarm,), _ = alarms_of(camera_of(Coating()), short_by(0.014))
    assert "too much to be followed" in alarm.detail


def test_a_tenth_of_a_percent_is_nothing_to_stop_for() -> None:
    assert alarms_of(camera_of(Coating()), short_by(0.001)) == ([], [])


def test_what_could_not_be_seen_is_noted() -> None:
    alarms, (note,) = alarms_of(camera_of(SMOOTH), short_by(OFF))
    assert alarms == []
    assert "could not be seen" in note and "rows lie where the encoder says" in note


HEIGHT, NARROW_PX = 32, 192
PAPER = np.random.default_rng(8).integers(60, 200, (1200, NARROW_PX)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0, 1, 2, 3, 4, 4, 4, 5, 8, 40]), min_size=10, max_size=80),
    lost=st.sets(st.integers(0, 80), max_size=12),
    scale=st.sampled_from([1.0, 1.004, 0.993, 1.02]),
    slips_at=st.integers(0, 80),
    sign=st.sampled_from([1, -1]),
)
def test_every_row_is_given_once_and_in_order(
    steps: list[int], lost: set[int], scale: float, slips_at: int, sign: int
) -> None:
    """Whatever is found about the encoder while frames and strips are under way."""
    flat = np.full((4, HEIGHT, NARROW_PX), 255, np.float32)
    calibration = replace(calibration_of(HEIGHT, NARROW_PX, sign=sign), dark=flat * 0, flat=flat)
    assembler = Assembler(calibration, 16, PITCH_MM)
    rows = np.cumsum([0, *steps])
    said = np.cumsum([0.0, *(step * (scale if k >= slips_at else 1) for k, step in enumerate(steps))])
    strips: list[Strip] = []
    for k, row in enumerate(rows):
        if k == 0 or k not in lost:
            pixels = PAPER[row : row + HEIGHT][::sign]
            strips += assembler.push(Frame(pixels, k % 4, k, said[k] * PITCH_MM, k, 1.0))
    strips += assembler.finish()
    assert [strip.first_row for strip in strips] == list(np.cumsum([0, *(strip.rows for strip in strips)]))[:-1]
    assert sum(strip.rows for strip in strips) == assembler.web_rows
    last = max(k for k in range(len(rows)) if k == 0 or k not in lost)
    assert rows[last] * 0.98 - 2 <= assembler.web_rows - HEIGHT <= rows[last] * 1.03 + 2
    for strip in strips:
        for source in strip.source_row:
            here = source[np.isfinite(source)]
            assert ((here > -0.5) & (here < HEIGHT - 0.5)).all()
