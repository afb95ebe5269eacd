"""The page of a calibration: what it says is true, and what is wrong with a lamp is named."""

import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight

from calibration.show import assess, write_page
from edge.core.calibration import Calibration, Fit
from edge.core.types import Strip
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.optics import REAL
from edge.simulation.planting import CLEAN
from edge.simulation.web import RenderedWeb
from edge.surface.solver import SurfaceSolver


def calibration_of(sign: int = 1) -> Calibration:
    rig = Rig(height_px=128, transport_sign=sign, optics=REAL)
    return StrobedCamera(RenderedWeb(1, 512, CLEAN), 20.0, rig).calibration


def with_order(calibration: Calibration, order: list[int]) -> Calibration:
    """Directions in another order than the flat fields."""
    return replace(
        calibration,
        light_directions=calibration.light_directions[order],
        light_directions_per_row=calibration.light_directions_per_row[order],
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_sound_lamps_raise_no_doubt_and_interchanged_ones_are_named(sign: int) -> None:
    sound = calibration_of(sign)
    quality = assess(sound)
    assert quality.doubts == []
    assert quality.turns_deg.max() < 10
    assert quality.error_deg.mean() == pytest.approx(0.33, rel=0.05)
    doubts = assess(with_order(sound, [0, 2, 1, 3])).doubts
    assert [doubt.split(" is")[0] for doubt in doubts] == ["light 1", "light 2"]
    assert len(assess(with_order(sound, [2, 3, 0, 1])).doubts) == 4
    assert len(assess(with_order(sound, [1, 0, 3, 2])).doubts) == 4


def test_a_weak_lamp_is_named() -> None:
    sound = calibration_of()
    assert sound.flat is not None and sound.dark is not None
    strength = np.array([1, 1, 0.3, 1], np.float32)[:, None, None]
    weak = replace(sound, flat=sound.dark + strength * (sound.flat - sound.dark))
    assert ["light 2 gives 0.3" in doubt for doubt in assess(weak).doubts] == [True]


def test_lamps_on_the_same_side_are_told_by_what_they_do_to_normals() -> None:
    azimuth = np.radians([0, 40, 80])
    directions = np.stack([0.6 * np.cos(azimuth), 0.6 * np.sin(azimuth), 0.8 * np.ones(3)], axis=1)
    lean = replace(
        calibration_of(),
        light_directions=np.repeat(directions[:, :, None], 512, axis=2),
        light_directions_per_row=np.zeros((3, 3, 512)),
        dark=None,
        flat=None,
    )
    [doubt] = assess(lean).doubts
    assert "same side" in doubt


@pytest.mark.parametrize("with_flat", [True, False])
def test_the_error_foretold_is_that_of_the_solver(with_flat: bool) -> None:
    whole = calibration_of()
    lights = [0, 1, 3]
    calibration = replace(
        whole,
        light_directions=whole.light_directions[lights],
        light_directions_per_row=0 * whole.light_directions_per_row[lights],
        dark=whole.dark[lights] if with_flat and whole.dark is not None else None,
        flat=whole.flat[lights] if with_flat and whole.flat is not None else None,
    )
    signal = np.ones((3, 1)) if with_flat else calibration.light_directions[:, 2]
    noise = np.random.default_rng(5).normal(1, 0.01, (3, 128, 512))
    planes = (0.5 * signal[:, None] * noise).astype(np.float32)
    rows = np.broadcast_to(np.arange(128, dtype=np.float32), (3, 128)).copy()
    surface = SurfaceSolver(calibration).solve(Strip(planes, np.full((128, 1), 7, np.uint8), rows, 0))
    measured = np.degrees(np.median(np.arccos(np.clip(surface.normals[2].astype(float), -1, 1))))
    assert assess(calibration).error_deg.mean() == pytest.approx(measured, rel=0.03)


def test_the_page_holds_its_pictures_and_the_story(tmp_path: Path, foilsight: Foilsight) -> None:
    fit = Fit("flat", "2026-01-02T03:04:05Z", ["web <1>.mcap"], {"error_percent": 0.31})
    path = tmp_path / "line.zip"
    replace(calibration_of(), fits=(fit,), transport_angle_deg=0.25).save(path)
    done = foilsight("calibrate", "show", path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "line.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 + 4 + 4 + 1
    for source in sources:
        data = b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).std() >= 0
    assert "web &lt;1&gt;.mcap" in page and "error percent 0.31" in page and "+0.250°" in page
    assert 'class="verdict good"' in page


def test_what_is_no_calibration_is_refused_in_one_line(tmp_path: Path, foilsight: Foilsight) -> None:
    (tmp_path / "junk.zip").write_bytes(b"junk")
    done = foilsight("calibrate", "show", tmp_path / "junk.zip")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "junk.html").exists()


def test_many_distant_lights_without_a_flat_field_are_shown(tmp_path: Path) -> None:
    azimuth = np.linspace(0, 6, 20)
    directions = np.stack([0.6 * np.cos(azimuth), 0.6 * np.sin(azimuth), 0.8 * np.ones(20)], axis=1)
    still = Calibration(
        height=9,
        width=1,
        light_directions=directions[:, :, None],
        light_directions_per_row=np.zeros((20, 3, 1)),
        dark=None,
        flat=None,
        white=65535,
        pitch_mm=None,
        transport_sign=1,
        origin="photographs",
    )
    assert write_page(tmp_path / "still.html", still, "still").doubts == []
    assert "unknown" in (tmp_path / "still.html").read_text()
