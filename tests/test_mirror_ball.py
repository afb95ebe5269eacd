"""Light directions read off a mirror ball: rendered ones with known lights, and real photographs."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from numpy.typing import NDArray

from calibration.ball import Ball, find_ball
from calibration.mirror_ball import find_highlight, light_directions
from edge.core.errors import CalibrationError
from edge.core.types import F32
from edge.recording.image_file import read_gray
from edge.recording.lights_file import load_lights

DATA = os.environ.get("FOILSIGHT_DATA")
real = [
    pytest.mark.data,
    pytest.mark.skipif(DATA is None, reason="FOILSIGHT_DATA is not set: no real photographs here"),
]
LIGHTS = np.array([[0.6, 0.3, 1.0], [-0.5, 0.4, 1.0], [0.1, -0.7, 1.0], [0.0, 0.0, 1.0]])
LIGHTS /= np.linalg.norm(LIGHTS, axis=1, keepdims=True)


def mirror_ball(light: NDArray[np.float64], centres: list[tuple[float, float]], radius: float = 60.3) -> F32:
    """A glossy dark ball before a gray wall: Blinn-Phong highlight, anti-aliased by four samples a side."""
    n = 4
    y, x = (np.mgrid[: 240 * n, : 320 * n] + 0.5) / n - 0.5
    image = np.full(x.shape, 40.0)
    for cx, cy in centres:
        nx, ny = (x - cx) / radius, (y - cy) / radius
        on = nx**2 + ny**2 < 1
        nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))
        half = light + np.array([0, 0, 1])
        half /= np.linalg.norm(half)
        shine = np.clip(nx * half[0] + ny * half[1] + nz * half[2], 0, 1) ** 800
        image = np.where(on, 4 + 240 * shine, image)
    noise = np.random.default_rng(1).normal(0, 1, (240, 320))
    return (image.reshape(240, n, 320, n).mean(axis=(1, 3)) + noise).clip(0, 255).astype(np.float32)


def angles_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.degrees(np.arccos((a * b).sum(axis=1).clip(-1, 1)))


def test_a_rendered_ball_gives_its_lights_back() -> None:
    images = [mirror_ball(light, [(150.4, 118.7)]) for light in LIGHTS]
    ball = find_ball(images)
    assert np.hypot(ball.x - 150.4, ball.y - 118.7) < 0.3
    assert abs(ball.radius - 60.3) < 0.5
    found = light_directions([find_highlight(image, ball, "light") for image in images], ball)
    assert angles_deg(found, LIGHTS).max() < 0.5


def test_two_balls_are_refused_with_their_places() -> None:
    images = [mirror_ball(light, [(80.0, 120.0), (230.0, 118.0)]) for light in LIGHTS]
    with pytest.raises(CalibrationError, match=r"2 balls were found, at pixels \(\d+, 1[12]\d\), \(\d+, 1[12]\d\)"):
        find_ball(images)


def test_no_ball_is_refused() -> None:
    noise = np.random.default_rng(2).normal(100, 5, (200, 300)).astype(np.float32)
    with pytest.raises(CalibrationError, match="no ball was found"):
        find_ball([noise, noise])


def test_a_lamp_that_was_off_is_named() -> None:
    images = [mirror_ball(light, [(150.0, 120.0)]) for light in LIGHTS]
    ball = find_ball(images)
    with pytest.raises(CalibrationError, match=r"light 2: no highlight"):
        find_highlight(np.full_like(images[0], 5.0), ball, "light 2")


def test_a_matt_ball_is_refused_with_the_picture_of_what_was_seen(tmp_path: Path, foilsight: Foilsight) -> None:
    y, x = np.mgrid[:200, :200]
    nz = np.sqrt(np.clip(1 - ((x - 100) ** 2 + (y - 100) ** 2) / 60**2, 0, 1))
    for light in range(3):
        cv2.imwrite(str(tmp_path / f"{light}.png"), (10 + 200 * nz).astype(np.uint8))
    done = foilsight("calibrate", "lights", *sorted(tmp_path.glob("*.png")), "--out", tmp_path / "lights.toml")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no highlight" in done.stderr
    assert cv2.imread(str(tmp_path / "lights.png")).shape == (200, 200, 3)
    assert not (tmp_path / "lights.toml").exists()


@pytest.fixture
def uw_lights(tmp_path: Path, foilsight: Foilsight) -> Path:
    """The lights file that the command makes of the University of Washington's chrome ball."""
    assert DATA is not None
    out = tmp_path / "lights.toml"
    images = [Path(DATA) / "uw_chrome" / "chrome" / f"chrome.{light}.tga" for light in range(12)]
    done = foilsight("calibrate", "lights", *images, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


class TestRealBalls:
    pytestmark = real

    def test_directions_agree_with_those_of_the_course(self, uw_lights: Path) -> None:
        assert DATA is not None
        lines = (Path(DATA) / "uw_chrome" / "lights.txt").read_text().split("\n")[1:13]
        theirs = np.array([[float(part) for part in line.split()] for line in lines]) * [1, -1, 1]  # y up
        ours = np.array([light.direction for light in load_lights(uw_lights).light])
        assert angles_deg(ours, theirs / np.linalg.norm(theirs, axis=1, keepdims=True)).mean() <= 3.1

    def test_a_matt_ball_under_these_lights_is_round(
        self, uw_lights: Path, tmp_path: Path, foilsight: Foilsight
    ) -> None:
        """Against the sphere that the ball's mask outlines: half of it lies in attached shadow under some light."""
        assert DATA is not None
        folder = Path(DATA) / "uw_chrome" / "gray"
        lights, config = tmp_path / "gray.toml", tmp_path / "trimmed.toml"
        lights.write_text(uw_lights.read_text().replace("chrome.", "gray."))
        config.write_text('[surface]\nsolver = "trimmed"\n')
        recording, report = tmp_path / "gray.mcap", tmp_path / "report"
        for command in (
            ("import", folder, recording, "--lights", lights),
            ("replay", recording, "--config", config, "--report", report, "--keep", "surface", "--json"),
        ):
            done = foilsight(*command)
            assert done.returncode == 0, done.stderr
        mask = read_gray(folder / "gray.mask.tga") > 100
        y, x = np.nonzero(mask)
        ball = Ball(float(x.mean()), float(y.mean()), float(np.sqrt(mask.sum() / np.pi)), 0.0)
        found, truth = np.load(report / "normals.npy")[:, mask].T.astype(np.float64), ball.normals(x, y)
        on = np.isfinite(truth).all(axis=1)
        assert on.mean() > 0.99
        error_deg = angles_deg(found[on], truth[on]).mean()
        assert error_deg <= 5.6
