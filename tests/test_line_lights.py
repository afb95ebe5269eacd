"""Line lights from a drawing and from rendered photographs of a mirror ball: directions as the line sees them."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from numpy.typing import NDArray

from calibration.ball import find_ball_on_web
from calibration.line_lights import Machine, fit_bar, place_of
from calibration.mirror_ball import find_arc
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.line_light import LineLight, field_directions
from edge.core.types import F32
from edge.simulation.balls import BallStudio
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.lights import FOUR_LINE_LIGHTS
from edge.simulation.planting import CLEAN
from edge.simulation.web import RenderedWeb

STUDIO = BallStudio(height_px=480, width_px=512, pitch_mm=0.1, diameter_mm=20.0)
MACHINE = Machine(width_px=512, height_px=480, pitch_mm=0.1)
PLACES = [(-14.0, -12.5), (14.0, 11.0), (-13.0, 12.5), (13.5, -12.0)]
ODD_LIGHTS = (
    LineLight(30.0, 50.0, 140.0, 120.0, turn_deg=8.0, tilt_deg=-5.0),
    LineLight(140.0, 62.0, 170.0, 200.0),
    LineLight(250.0, 45.0, 130.0, 60.0),
)
DRAWING = """
width_px = 96
height_px = 64
pitch_mm = 0.05
transport_sign = -1
""" + "".join(
    f"[[bar]]\nazimuth_deg = {light.azimuth_deg}\npolar_deg = 55\ndistance_mm = 150\nlength_mm = 150\n"
    for light in FOUR_LINE_LIGHTS
)


def angles_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Between vectors along axis 0."""
    cosine = (a * b).sum(axis=0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def worst_over_field(found: LineLight, truth: LineLight, studio: BallStudio) -> float:
    half_x, half_y = studio.width_px * studio.pitch_mm / 2, studio.height_px * studio.pitch_mm / 2
    x, y = np.meshgrid(np.linspace(-half_x, half_x, 9), np.linspace(-half_y, half_y, 9))
    return float(angles_deg(found.irradiance(x, y), truth.irradiance(x, y)).max())


@cache
def shots(
    studio: BallStudio, lights: tuple[LineLight, ...], place: tuple[float, float], seed: int = 0
) -> tuple[F32, ...]:
    return tuple(studio.photograph(light, [place], seed + k).astype(np.float32) for k, light in enumerate(lights))


@pytest.mark.parametrize("light", [*ODD_LIGHTS, LineLight(345.0, 20.0, turn_deg=-70.0), LineLight(0.0, 80.0)])
def test_a_bar_is_known_by_its_ends(light: LineLight) -> None:
    start, end = light.ends_mm
    for again in (LineLight.between(start, end), LineLight.between(end, start)):
        np.testing.assert_allclose(again.ends_mm, light.ends_mm, atol=1e-9)
        assert again.azimuth_deg == pytest.approx(light.azimuth_deg)


@pytest.mark.parametrize("sign", [1, -1])
def test_directions_hold_off_the_centre_row(sign: int) -> None:
    directions, per_row = field_directions(ODD_LIGHTS, 200, 64, 0.1, sign)
    x, row = (np.arange(64) - 31.5) * 0.1, 70.0
    for light, direction, change in zip(ODD_LIGHTS, directions, per_row, strict=True):
        there = light.irradiance(x, np.full(64, sign * row * 0.1))
        assert angles_deg(direction + row * change, there).max() < 0.1
        assert angles_deg(direction, there).max() > 1.0


class TestDrawing:
    def test_gives_the_directions_of_the_rendered_machine(self, tmp_path: Path, foilsight: Foilsight) -> None:
        (tmp_path / "machine.toml").write_text(DRAWING)
        out = tmp_path / "line.zip"
        done = foilsight("calibrate", "lights", "--machine", tmp_path / "machine.toml", "--out", out)
        assert done.returncode == 0, done.stderr
        drawn = Calibration.load(out)
        rig = Rig(height_px=64, transport_sign=-1)
        truth = StrobedCamera(RenderedWeb(1, 96, CLEAN), 10.0, rig).calibration
        np.testing.assert_allclose(drawn.light_directions, truth.light_directions, atol=1e-9)
        np.testing.assert_allclose(drawn.light_directions_per_row, truth.light_directions_per_row, atol=1e-12)
        assert (drawn.height, drawn.width, drawn.pitch_mm, drawn.transport_sign) == (64, 96, 0.05, -1)
        assert drawn.flat is None

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("[[bar]]\nazimuth_deg = 45.0", "[[bar]]\nazimuth = 45.0", r"bar\[0\]"),
            ("polar_deg = 55", "polar_deg = 89\ntilt_deg = 60", r"bar\[0\] reaches down to the web"),
            ("length_mm = 150", "length_mm = -150", r"\$\.bar\[0\]\.length_mm"),
            (DRAWING[DRAWING.rindex("[[bar]]\nazimuth_deg = 225") :], "", r"2 bars: .* at least three"),
        ],
    )
    def test_that_cannot_be_is_refused(
        self, tmp_path: Path, foilsight: Foilsight, old: str, new: str, said: str
    ) -> None:
        (tmp_path / "machine.toml").write_text(DRAWING.replace(old, new, 1))
        out = tmp_path / "line.zip"
        done = foilsight("calibrate", "lights", "--machine", tmp_path / "machine.toml", "--out", out)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert re.search(said, done.stderr), done.stderr
        assert not out.exists()


class TestMirrorBall:
    @pytest.mark.parametrize(("places", "bar_mm"), [(4, None), (3, 150.0)])
    def test_gives_the_directions_over_the_whole_field(
        self, tmp_path: Path, foilsight: Foilsight, places: int, bar_mm: float | None
    ) -> None:
        """From web height, where a ball of 20 mm read off by itself would be 5 degrees wrong."""
        photographs = []
        for number, place in enumerate(PLACES[:places]):
            for light, shot in enumerate(shots(STUDIO, FOUR_LINE_LIGHTS, place, 10 * number)):
                photographs.append(tmp_path / f"{number}{light}.png")
                cv2.imwrite(str(photographs[-1]), shot.astype(np.uint8))
        out = tmp_path / "line.zip"
        known = [] if bar_mm is None else ["--bar-mm", bar_mm]
        done = foilsight("calibrate", "lights", *photographs, "--ball-mm", 20, "--places", places, *known, "--out", out)
        assert done.returncode == 0, done.stderr
        found = Calibration.load(out)
        assert found.pitch_mm == pytest.approx(0.1, rel=0.01)
        directions, per_row = field_directions(FOUR_LINE_LIGHTS, 480, 512, 0.1, 1)
        for row in (-200.0, 0.0, 200.0):
            ours = found.light_directions + row * found.light_directions_per_row
            off = angles_deg(np.moveaxis(ours, 1, 0), np.moveaxis(directions + row * per_row, 1, 0))
            assert off.max() < 0.5
        (fit,) = found.fits
        assert fit.scores["residual_deg"] < 0.2
        assert 0.05 < fit.scores["uncertainty_deg"] < 0.4
        assert cv2.imread(str(tmp_path / "line.png")).shape == (places * 480, 512, 3)

    def test_finds_bars_that_are_neither_level_nor_square(self) -> None:
        places = []
        for number, at in enumerate(PLACES):
            images = shots(STUDIO, ODD_LIGHTS, at, 10 * number)
            ball = find_ball_on_web(images, 100.0)
            arcs = [find_arc(image, ball, "light") for image in images]
            places.append(place_of(ball, arcs, 0.1, (255.5, 239.5)))
        for index, truth in enumerate(ODD_LIGHTS):
            bar = fit_bar(places, index, MACHINE, truth.length_mm)
            assert worst_over_field(bar.light, truth, STUDIO) < 0.5
            mirrored = fit_bar(places, index, Machine(512, 480, 0.1, transport_sign=-1), truth.length_mm)
            np.testing.assert_allclose(
                mirrored.light.irradiance(np.zeros(1), np.array([9.0])),
                bar.light.irradiance(np.zeros(1), np.array([-9.0])) * [[1], [-1], [1]],
                rtol=1e-9,
            )

    def test_two_orders_of_lights_are_refused(self) -> None:
        places = []
        for number, at in enumerate(PLACES[:2]):
            images = shots(STUDIO, FOUR_LINE_LIGHTS, at, 10 * number)
            ball = find_ball_on_web(images, 100.0)
            arcs = [find_arc(image, ball, "light") for image in images]
            places.append(place_of(ball, arcs[::-1] if number else arcs, 0.1, (255.5, 239.5)))
        with pytest.raises(CalibrationError, match=r"light 0: .*order"):
            fit_bar(places, 0, MACHINE)

    def test_places_beside_each_other_are_refused(self) -> None:
        places = []
        for number, at in enumerate([(-3.0, 0.0), (1.0, 2.0)]):
            images = shots(STUDIO, FOUR_LINE_LIGHTS, at, 10 * number)
            ball = find_ball_on_web(images, 100.0)
            arcs = [find_arc(image, ball, "light") for image in images]
            places.append(place_of(ball, arcs, 0.1, (255.5, 239.5)))
        with pytest.raises(CalibrationError, match="farther apart"):
            fit_bar(places, 1, MACHINE)

    def test_gives_the_frame_that_the_machine_has(self, tmp_path: Path, foilsight: Foilsight) -> None:
        """The line reads the middle rows only, and its web runs the other way."""
        photographs = []
        for number, place in enumerate(PLACES[:2]):
            for light, shot in enumerate(shots(STUDIO, FOUR_LINE_LIGHTS, place, 10 * number)):
                photographs.append(tmp_path / f"{number}{light}.png")
                cv2.imwrite(str(photographs[-1]), shot.astype(np.uint8))
        machine = tmp_path / "machine.toml"
        machine.write_text("width_px = 500\nheight_px = 64\npitch_mm = 0.1\ntransport_sign = -1\nwhite = 250")
        out = tmp_path / "line.zip"
        arguments = [*photographs, "--machine", machine, "--ball-mm", 20, "--places", 2, "--bar-mm", 150, "--out", out]
        done = foilsight("calibrate", "lights", *arguments)
        assert done.returncode == 0, done.stderr
        found = Calibration.load(out)
        assert (found.height, found.width, found.transport_sign, found.white) == (64, 500, -1, 250)
        truth = field_directions(FOUR_LINE_LIGHTS, 64, 500, 0.1, 1)[0] * [[1], [-1], [1]]
        assert angles_deg(np.moveaxis(found.light_directions, 1, 0), np.moveaxis(truth, 1, 0)).max() < 0.6
        machine.write_text("width_px = 513\nheight_px = 64\npitch_mm = 0.1")
        done = foilsight("calibrate", "lights", *arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "must show the whole field" in done.stderr

    def test_one_place_is_refused(self, tmp_path: Path, foilsight: Foilsight) -> None:
        done = foilsight("calibrate", "lights", "a.png", "--ball-mm", 20, "--places", 1, "--out", tmp_path / "x.zip")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--places must be" in done.stderr


class TestBallOnWeb:
    @pytest.mark.parametrize("change", [{}, {"ball_albedo": 0.5}, {"flat_level": 0.1}, {"noise": 0.02}])
    def test_its_outline_is_found_and_not_the_horizon_in_it(self, change: dict[str, float]) -> None:
        ball = find_ball_on_web(shots(replace(STUDIO, **change), FOUR_LINE_LIGHTS, (4.3, 3.2)))
        assert np.hypot(ball.x - 255.5 - 43, ball.y - 239.5 - 32) < 0.3
        assert ball.radius == pytest.approx(100.0, abs=0.6)

    def test_of_another_size_than_said_is_refused(self) -> None:
        images = shots(STUDIO, FOUR_LINE_LIGHTS, (4.3, 3.2))
        with pytest.raises(CalibrationError, match=r"diameter and pitch say 110"):
            find_ball_on_web(images, 110.0)

    def test_two_are_refused(self) -> None:
        images = [STUDIO.photograph(light, [(-12, -10), (12, 9)], 1).astype(np.float32) for light in FOUR_LINE_LIGHTS]
        with pytest.raises(CalibrationError, match="2 balls were found"):
            find_ball_on_web(images)

    def test_none_is_refused(self) -> None:
        images = [STUDIO.photograph(light, [], 1).astype(np.float32) for light in FOUR_LINE_LIGHTS]
        with pytest.raises(CalibrationError, match="no ball"):
            find_ball_on_web(images)


class TestArc:
    @pytest.mark.parametrize(
        ("light", "change", "said"),
        [
            (LineLight(45.0, length_mm=4.0), {}, "a spot and no arc"),
            (LineLight(45.0), {"flat_level": 1.0, "surround": 1.0}, "no highlight"),
            (LineLight(45.0, polar_deg=86.0), {}, "too low"),
            (LineLight(45.0), {"lamp_width_mm": 90.0}, "spread over the ball|spot"),
        ],
    )
    def test_that_is_none_is_refused(self, light: LineLight, change: dict[str, float], said: str) -> None:
        studio = replace(STUDIO, **change)
        ball = find_ball_on_web(shots(STUDIO, FOUR_LINE_LIGHTS, (0.0, 0.0)), 100.0)
        with pytest.raises(CalibrationError, match=said):
            find_arc(studio.photograph(light, [(0.0, 0.0)], 1).astype(np.float32), ball, "light 1")

    def test_of_a_lamp_that_was_off_is_named(self) -> None:
        ball = find_ball_on_web(shots(STUDIO, FOUR_LINE_LIGHTS, (0.0, 0.0)), 100.0)
        with pytest.raises(CalibrationError, match="light 1: no highlight"):
            find_arc(np.full((480, 512), 3.0, np.float32), ball, "light 1")

    def test_of_two_lamps_is_refused(self) -> None:
        one, two = shots(STUDIO, FOUR_LINE_LIGHTS[:2], (0.0, 0.0))
        ball = find_ball_on_web(shots(STUDIO, FOUR_LINE_LIGHTS, (0.0, 0.0)), 100.0)
        with pytest.raises(CalibrationError, match="more than one highlight"):
            find_arc(np.maximum(one, two), ball, "light 1")

    def test_of_a_hundredfold_exposure_lies_where_it_did(self) -> None:
        bright = replace(STUDIO, noise=0.0)
        dim = replace(bright, flat_level=0.004)
        ball = find_ball_on_web(shots(STUDIO, FOUR_LINE_LIGHTS, (2.0, 1.0)), 100.0)
        arcs = [find_arc(shots(each, FOUR_LINE_LIGHTS, (2.0, 1.0))[0], ball, "light 0") for each in (bright, dim)]
        middles = [arc.points[len(arc.points) // 2] for arc in arcs]
        assert np.hypot(*(middles[0] - middles[1])) < 1.0
        assert np.abs(arcs[0].ends.mean(axis=0) - arcs[1].ends.mean(axis=0)).max() < 0.7
