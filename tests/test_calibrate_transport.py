"""A web that runs askew, under an encoder that miscounts: assembly registers it by what calibration found."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.dots import find_dots
from edge.assembly.assembler import Assembler
from edge.core.calibration import Calibration
from edge.core.types import F32
from edge.simulation.camera import Rig
from edge.simulation.target import DotGrid, TargetCamera


def askew(sign: int, angle_deg: float) -> tuple[TargetCamera, Calibration]:
    """A sheet that runs through, advancing a broken number of rows a frame, and the calibration that knows how."""
    camera = TargetCamera(
        DotGrid(11, 21, turn_deg=3.0),
        tuple(np.arange(-9, 9, 0.81) / 1.02),
        240,
        transport_angle_deg=angle_deg,
        encoder_scale=1.02,
        rig=Rig(height_px=160, transport_sign=sign, bits=12),
    )
    return camera, replace(camera.calibration, transport_angle_deg=angle_deg, encoder_scale=1.02)


def planes_of(camera: TargetCamera, calibration: Calibration) -> F32:
    """(n, rows, w) of the rows all lights have seen."""
    assembler = Assembler(calibration, 64, camera.pitch_mm)
    strips = [strip for frame in camera.frames() for strip in assembler.push(frame)]
    planes = np.concatenate([strip.planes for strip in [*strips, *assembler.finish()]], axis=1)
    seen = np.flatnonzero((planes.max(axis=2) > 0).all(axis=0))
    return planes[:, seen[0] : seen[-1] + 1]


def misregistration_px(planes: F32) -> float:
    """How far the same dots lie apart under different lights (RMS)."""
    first, *others = (find_dots(plane * 100)[0] for plane in planes)
    assert len(first) > 100
    apart: list[NDArray[np.float64]] = []
    for dots in others:
        nearest = np.abs(dots[:, None] - first[None, :]).min(axis=1)
        apart.append(nearest[nearest < 5])
    return float(np.sqrt((np.concatenate(apart) ** 2).mean()))


@pytest.mark.parametrize(("sign", "angle_deg"), [(1, 0.8), (-1, 0.8), (-1, -0.8)])
def test_lights_are_registered_though_the_web_runs_askew(sign: int, angle_deg: float) -> None:
    camera, calibration = askew(sign, angle_deg)
    assert misregistration_px(planes_of(camera, calibration)) < 0.05
    unaware = planes_of(camera, replace(calibration, transport_angle_deg=0.0))
    assert misregistration_px(unaware) > 0.2
    miscounted = planes_of(camera, replace(calibration, encoder_scale=1.0))
    assert misregistration_px(miscounted) > 0.2


def test_a_dot_lies_where_the_web_does() -> None:
    """Web row (y cos a + x sin a) / p, web column x / (p cos a)."""
    camera, calibration = askew(1, 0.8)
    plane = planes_of(camera, calibration)[0]
    dots, _ = find_dots(plane * 100)
    angle, turn = np.radians(0.8), np.radians(3.0)
    x, y = dots.real * 0.05 * np.cos(angle), dots.imag * 0.05
    y = (y - x * np.sin(angle)) / np.cos(angle)
    on_sheet = (x + 1j * y) * np.exp(-1j * turn)
    from_first = on_sheet - on_sheet[np.argmin(np.abs(on_sheet - on_sheet.mean()))]
    off = from_first - np.rint(from_first.real) - 1j * np.rint(from_first.imag)
    assert off.std() < 0.002, "in mm, over 20 mm of web"
