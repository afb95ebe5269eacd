"""Registration: whatever the motion and the losses, each web row comes from where it was best seen."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.assembly.assembler import Assembler
from edge.assembly.row_map import View, Views
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import Frame, Strip
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.planting import CLEAN
from edge.simulation.web import Coating, RenderedWeb

PITCH_MM = 0.05


def calibration_of(height: int, width: int, lights: int = 4, sign: int = 1) -> Calibration:
    azimuth = 2 * np.pi * np.arange(lights) / lights
    directions = np.stack([np.cos(azimuth), np.sin(azimuth), np.ones(lights)], axis=1) / np.sqrt(2)
    return Calibration(
        height=height,
        width=width,
        light_directions=np.repeat(directions[:, :, None], width, axis=2),
        light_directions_per_row=np.zeros((lights, 3, width)),
        dark=None,
        flat=None,
        white=255.0,
        pitch_mm=PITCH_MM,
        transport_sign=sign,
        origin="test",
    )


def frame_at(row: float, light: int, frame_id: int, height: int, width: int = 4, sign: int = 1) -> Frame:
    """A frame whose pixels are the web row they show, modulo 251."""
    first = row if sign > 0 else row + height - 1
    rows = np.rint(first + sign * np.arange(height)).astype(int)
    pixels = np.repeat((rows % 251).astype(np.uint8)[:, None], width, axis=1)
    return Frame(pixels, light, frame_id, first * PITCH_MM, frame_id * 1000, 10.0)


def assembled(assembler: Assembler, frames: Iterable[Frame]) -> list[Strip]:
    strips = [strip for frame in frames for strip in assembler.push(frame)]
    return strips + list(assembler.finish())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("strip_rows", [16, 48])
def test_rows_land_where_they_belong(sign: int, strip_rows: int) -> None:
    frames = [frame_at(4 * k, k % 4, k, 32, sign=sign) for k in range(30)]
    strips = assembled(Assembler(calibration_of(32, 4, sign=sign), strip_rows, PITCH_MM), frames)
    first = 0
    for strip in strips:
        assert strip.first_row == first
        first += strip.rows
        web_rows = np.arange(strip.first_row, first) % 251
        for k in range(4):
            seen = strip.lights_seen[:, 0] >> k & 1 == 1
            np.testing.assert_allclose(strip.planes[k][seen] * 255, np.repeat(web_rows[seen, None], 4, 1), atol=1e-3)
            assert (strip.planes[k][~seen] == 0).all()
            assert np.isnan(strip.source_row[k][~seen]).all()
    assert first == 4 * 29 + 32


def test_the_view_nearest_the_frame_centre_is_taken() -> None:
    frames = [frame_at(2 * k, k % 4, k, 32) for k in range(60)]
    strips = assembled(Assembler(calibration_of(32, 4), 16, PITCH_MM), frames)
    source = np.concatenate([strip.source_row for strip in strips], axis=1)
    middle = source[:, 32:-40]
    assert np.abs(middle - 15.5).max() <= 4.5, "each light comes back every 8 rows"


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.0, 4.0, 5.7, 8.0, 16.0]), min_size=20, max_size=80),
    lost=st.sets(st.integers(0, 80), max_size=12),
    sign=st.sampled_from([1, -1]),
)
def test_strips_that_leave_early_take_no_other_views(steps: list[float], lost: set[int], sign: int) -> None:
    """Whatever is lost and however the web moves, short of backwards: as near the centre as if all were waited for."""
    rows = np.cumsum([0.0, *steps])
    frames = [frame_at(row, k % 4, k, 32, sign=sign) for k, row in enumerate(rows) if k == 0 or k not in lost]
    strips = assembled(Assembler(calibration_of(32, 4, sign=sign), 16, PITCH_MM), frames)
    views = Views(4, 32, sign)
    for slot, frame in enumerate(frames):
        views.add(
            frame.light, View((frame.encoder_mm - frames[0].encoder_mm) / PITCH_MM + (0 if sign > 0 else 31), slot)
        )
    waited = views.decide(0, sum(strip.rows for strip in strips)).source_row
    source = np.concatenate([strip.source_row for strip in strips], axis=1)
    np.testing.assert_allclose(np.abs(source - 15.5), np.abs(waited - 15.5), atol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_strips_leave_when_their_best_views_are_in(sign: int) -> None:
    """A quarter of a frame before the last frame that shows them has passed, at an advance of an eighth of one."""
    assembler = Assembler(calibration_of(64, 4, sign=sign), 16, PITCH_MM)
    ahead = [
        strip.first_row + strip.rows - 8 * k
        for k in range(40)
        for strip in assembler.push(frame_at(8 * k, k % 4, k, 64, sign=sign))
    ]
    assert set(ahead[2:]) == {16}


def test_broken_motion_is_interpolated_to_a_hundredth() -> None:
    """Texture of 0.4 mm (8 px) registered from advances that are no whole pixels equals that of whole ones."""
    web = RenderedWeb(4, 128, CLEAN, coating=Coating(slopes=(), albedos=((0.2, 0.1),)))
    rig = Rig(height_px=64, bits=16, noise=False)

    def planes(advance_px: float) -> np.ndarray:
        camera = StrobedCamera(web, 16.0, rig, Motion(advance_px))
        strips = assembled(Assembler(camera.calibration, 64, PITCH_MM), camera.frames())
        return np.concatenate([strip.planes for strip in strips], axis=1)[:, 80:200]

    whole, broken = planes(8.0), planes(7.37)
    assert np.abs(whole - broken).std() < 0.01 * whole.std(axis=(1, 2)).mean()


def test_still_object_is_seen_whole() -> None:
    frames = [frame_at(0, k, k, 40) for k in range(4)]
    strips = assembled(Assembler(calibration_of(40, 4), 16, PITCH_MM), frames)
    assert [strip.rows for strip in strips] == [16, 16, 8]
    assert all((strip.lights_seen == 15).all() for strip in strips)


def test_standing_and_creeping_web_keeps_memory_bounded() -> None:
    assembler = Assembler(calibration_of(32, 4), 16, PITCH_MM)
    for k in range(400):
        list(assembler.push(frame_at(0, k % 4, k, 32)))
    standing = assembler.frames_held
    for k in range(400, 4400):
        list(assembler.push(frame_at((k - 400) * 0.01, k % 4, k, 32)))
    assert standing <= 8
    assert assembler.frames_held <= 4 * (32 + 16 + 2)


def test_one_lost_frame_degrades_nothing_at_an_eighth_advance() -> None:
    frames = [frame_at(4 * k, k % 4, k, 32) for k in range(40) if k != 20]
    assembler = Assembler(calibration_of(32, 4), 16, PITCH_MM)
    seen = np.concatenate([strip.lights_seen[:, 0] for strip in assembled(assembler, frames)])
    assert (seen[16:-16] == 15).all()
    assert assembler.counts.lost == 1


def test_one_lost_frame_at_a_quarter_advance_loses_its_light_for_a_frame_height() -> None:
    frames = [frame_at(8 * k, k % 4, k, 32) for k in range(40) if k != 20]
    strips = assembled(Assembler(calibration_of(32, 4), 16, PITCH_MM), frames)
    seen = np.concatenate([strip.lights_seen[:, 0] for strip in strips])[32:-32]
    assert (seen == 14).sum() == 32
    assert (seen == 15).sum() == len(seen) - 32


def test_repeated_incomplete_and_lost_frames_are_counted() -> None:
    frames = [frame_at(4 * k, k % 4, k, 32) for k in range(20)]
    torn = frames[5]
    frames[5] = Frame(torn.pixels, torn.light, 5, torn.encoder_mm, 0, 1.0, complete=False)
    frames[7] = Frame(frames[7].pixels, 3, 7, float("nan"), 0, 1.0)
    frames.insert(4, frames[3])
    del frames[12:14]
    assembler = Assembler(calibration_of(32, 4), 16, PITCH_MM)
    assembled(assembler, frames)
    assert assembler.counts.repeated == 1
    assert assembler.counts.unusable == 2
    assert assembler.counts.lost == 2


def test_a_web_that_runs_back_is_not_reported_twice() -> None:
    rows = [*range(0, 80, 4), *range(80, 40, -4), *range(40, 160, 4)]
    frames = [frame_at(row, k % 4, k, 32) for k, row in enumerate(rows)]
    strips = assembled(Assembler(calibration_of(32, 4), 16, PITCH_MM), frames)
    firsts = np.cumsum([0, *(strip.rows for strip in strips)])
    assert [strip.first_row for strip in strips] == list(firsts[:-1])


def test_frames_that_do_not_fit_are_refused() -> None:
    assembler = Assembler(calibration_of(32, 4), 16, PITCH_MM)
    with pytest.raises(CalibrationError, match="use the calibration of this camera"):
        list(assembler.push(frame_at(0, 0, 0, 16)))
    with pytest.raises(CalibrationError, match="light 4"):
        list(assembler.push(frame_at(0, 4, 0, 32)))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.0, 5.7, 8.0, 40.0]), min_size=1, max_size=40),
    sign=st.sampled_from([1, -1]),
    strip_rows=st.sampled_from([16, 32]),
)
def test_every_schedule_gives_each_row_once(steps: list[float], sign: int, strip_rows: int) -> None:
    rows = np.cumsum([0.0, *steps])
    frames = [frame_at(row, k % 4, k, 16, sign=sign) for k, row in enumerate(rows)]
    assembler = Assembler(calibration_of(16, 4, sign=sign), strip_rows, PITCH_MM)
    strips = assembled(assembler, frames)
    assert sum(strip.rows for strip in strips) == assembler.web_rows == int(np.floor(rows[-1] + 1e-6)) + 16
    for strip in strips:
        for k in range(4):
            whole = strip.source_row[k][np.isfinite(strip.source_row[k])]
            assert ((whole > -0.5) & (whole < 15.5)).all()
