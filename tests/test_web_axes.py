"""Where a camera that stands askew sees the web, events say where on the web it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_calibrate_transport import askew
from test_defects import EVERYTHING, LABELS, PITCH_MM, closed
from test_ledger import calibration_of

from edge.assembly.assembler import Assembler
from edge.core.types import ClassMap, Defect
from edge.core.web_axes import WebAxes
from edge.defects import DefectJoiner
from edge.pipeline.ledger import Ledger
from edge.service.matching import Heard, compare
from edge.service.resuming import Place, Resumption

ANGLES_DEG = st.floats(-10, 10)


def told(classes: NDArray[np.uint8], axes: WebAxes) -> list[Defect]:
    """All events, of strips of 50 rows."""
    joiner = DefectJoiner(LABELS, EVERYTHING, axes, classes.shape[1])
    score = np.full(classes.shape, 200, np.uint8)
    strips = [ClassMap(classes[row : row + 50], score[row : row + 50], row) for row in range(0, len(classes), 50)]
    return [event for strip in strips for event in joiner.push(strip)] + joiner.finish()


@pytest.mark.parametrize(("sign", "angle_deg"), [(1, 1.0), (-1, -1.0)])
def test_dots_of_a_sheet_lie_where_they_are_on_it(sign: int, angle_deg: float) -> None:
    """A sheet of dots 1 mm apart, turned by 3 degrees, passes a rendered camera."""
    camera, calibration = askew(sign, angle_deg)
    assembler = Assembler(calibration, 64, camera.pitch_mm)
    strips = [strip for frame in camera.frames() for strip in assembler.push(frame)]
    plane = np.concatenate([strip.planes[0] for strip in [*strips, *assembler.finish()]])
    dark = ((plane > 0) & (plane < 0.6 * plane.max())).astype(np.uint8)
    width_px, height_px, pitch_mm = camera.width_px, camera.rig.height_px, camera.pitch_mm
    full_mm2 = math.pi / 4 * camera.target.dot_mm**2

    def placed(axes: WebAxes) -> tuple[list[Defect], NDArray[np.complex128]]:
        """Whole dots, and how far they lie from where the sheet has them, x + iy in mm."""
        dots = [dot for dot in closed(told(dark, axes)) if 0.9 < dot.area_mm2 / full_mm2 < 1.2]
        middle_mm = camera.encoder_mm[0] * camera.encoder_scale
        left_mm = complex(-width_px / 2 * axes.column_mm, width_px / 2 * pitch_mm * math.sin(math.radians(angle_deg)))
        corner_mm = left_mm + 1j * (middle_mm - height_px / 2 * axes.row_mm)
        turn = np.exp(1j * math.radians(camera.target.turn_deg))
        on_sheet = (np.array([complex(*dot.centroid_mm) for dot in dots]) + corner_mm) / turn
        return dots, on_sheet - np.rint(on_sheet.real) - 1j * np.rint(on_sheet.imag)

    dots, off = placed(WebAxes(pitch_mm, angle_deg))
    assert len(dots) > 50
    assert np.abs(off).max() < 0.3 * pitch_mm
    for dot in dots:
        x0, y0, x1, y1 = dot.box_mm
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx(dot.centroid_mm, abs=pitch_mm)
    _, unaware = placed(WebAxes(pitch_mm))
    assert np.abs(unaware).max() > 1.5 * pitch_mm


def bar(axes: WebAxes, shape: tuple[int, int], length_mm: float, width_mm: float, turn_deg: float) -> NDArray[np.uint8]:
    """A bar in the middle of the web, turned from x towards y, as the pixels see it whose centres it covers."""
    row, column = np.indices(shape) + 0.5
    place = axes.to_mm(np.stack([column, row], axis=-1)) - axes.to_mm(np.array([shape[1] / 2, shape[0] / 2]))
    on_bar = (place[..., 0] + 1j * place[..., 1]) * np.exp(-1j * math.radians(turn_deg))
    return ((np.abs(on_bar.real) < length_mm / 2) & (np.abs(on_bar.imag) < width_mm / 2)).astype(np.uint8)


@pytest.mark.parametrize("turn_deg", [40.0, -50.0, 80.0])
def test_box_length_and_orientation_are_those_on_the_web(turn_deg: float) -> None:
    axes = WebAxes(PITCH_MM, 5.0)
    seen = bar(axes, (200, 200), 7.0, 0.6, turn_deg)
    events = told(seen, axes)
    (event,) = closed(events)
    turn = math.radians(turn_deg)
    high = 7.0 * abs(math.sin(turn)) + 0.6 * abs(math.cos(turn))
    wide = 7.0 * abs(math.cos(turn)) + 0.6 * abs(math.sin(turn))
    x0, y0, x1, y1 = event.box_mm
    assert (x1 - x0, y1 - y0) == pytest.approx((wide, high), abs=2 * PITCH_MM)
    assert event.orientation_deg == pytest.approx(turn_deg, abs=0.6)
    assert (event.length_mm, event.width_mm) == pytest.approx((7.0, 0.6), abs=2.5 * PITCH_MM)
    assert event.area_mm2 == pytest.approx(np.count_nonzero(seen) * PITCH_MM**2)
    outline = np.concatenate([polygon for each in events for polygon in each.contour_mm])
    assert (*outline.min(axis=0), *outline.max(axis=0)) == pytest.approx(event.box_mm, abs=1.5 * PITCH_MM)


def test_events_are_held_against_the_truth_pixel_by_pixel() -> None:
    axes = WebAxes(PITCH_MM, 5.0)
    truth = bar(axes, (200, 200), 7.0, 0.2, 40.0)
    heard = Heard()
    heard.take(told(truth, axes))
    (judged,) = compare(heard, truth, truth, LABELS, EVERYTHING, axes).judged
    assert judged.fate == "found" and judged.share > 0.95


@given(ANGLES_DEG, st.floats(0, 1e4), st.floats(0, 1e6))
def test_pixels_come_back(angle_deg: float, column: float, row: float) -> None:
    axes, point = WebAxes(PITCH_MM, angle_deg), np.array([column, row])
    np.testing.assert_allclose(axes.to_px(axes.to_mm(point)), point, atol=1e-6)


def test_rows_are_as_long_as_the_way_the_web_goes() -> None:
    """A web that runs askew goes further than the camera's rows say."""
    ledger = Ledger(replace(calibration_of(64, 4), transport_angle_deg=8.0), PITCH_MM)
    ledger.push(np.full((1000, 1), 0b1111, np.uint8))
    rows = [*ledger.decide(1000), *ledger.finish()]
    assert rows[-1].to_mm == pytest.approx(1000 * PITCH_MM / math.cos(math.radians(8.0)))


@pytest.mark.parametrize("angle_deg", [2.0, -2.0])
def test_no_defect_behind_the_rows_covered_is_left_out_after_a_restart(angle_deg: float) -> None:
    width = 2000
    axes, seen = WebAxes(PITCH_MM, angle_deg), np.zeros((100, width), np.uint8)
    seen[60:64, [10, width - 10]] = 1
    calibration = replace(calibration_of(64, 4), transport_angle_deg=angle_deg)
    resumption = Resumption(Place(covered_rows=50).at(50, 0.0), calibration, PITCH_MM)
    resumption.begin_at(-50 * axes.row_mm)
    assert resumption.first_row == 0
    assert len(list(resumption.placed(closed(told(seen, axes))))) == 2
