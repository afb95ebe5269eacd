"""Light directions from the shading of a matte ball: rendered ones with known lights, and real photographs."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from numpy.typing import NDArray

from calibration.ball import Ball, find_ball
from calibration.matte_ball import light_from_shading
from edge.core.errors import CalibrationError
from edge.core.line_light import LineLight
from edge.core.types import F32
from edge.recording.image_file import read_gray
from edge.recording.lights_file import load_lights
from edge.simulation.balls import BallStudio

DATA = os.environ.get("FOILSIGHT_DATA")
FAR_LIGHTS = tuple(LineLight(azimuth, polar, 5000.0, 50.0) for azimuth, polar in ((20, 50), (130, 35), (260, 60)))
STUDIO = BallStudio(320, 360, 0.1, 16.0, ball="matte", ball_albedo=0.25)
BALL = Ball(169.5, 164.5, 80.0, 0.0)
PLACE = (-1.0, 0.5)


def shot(light: LineLight, studio: BallStudio = STUDIO) -> F32:
    return studio.photograph(light, [PLACE], 3).astype(np.float32)


def towards(light: LineLight) -> NDArray[np.float64]:
    field: NDArray[np.float64] = light.irradiance(np.zeros(1), np.zeros(1))[:, 0]
    return field / np.linalg.norm(field)


def angle_deg(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.degrees(np.arccos((a * b).sum(axis=-1).clip(-1, 1))).max())


@pytest.mark.parametrize("light", FAR_LIGHTS)
def test_a_light_is_read_off_its_shading(light: LineLight) -> None:
    shading = light_from_shading(shot(light), BALL, 255.0, "light")
    assert angle_deg(shading.direction, towards(light)) < 0.3
    assert shading.residual < 0.03


def test_stains_and_gloss_do_not_turn_it() -> None:
    image = shot(FAR_LIGHTS[0])
    image[120:150, 180:215] *= 0.4
    image[175:190, 190:205] = 250.0
    shading = light_from_shading(image, BALL, 255.0, "light")
    assert angle_deg(shading.direction, towards(FAR_LIGHTS[0])) < 0.8


def test_a_saturated_ball_is_refused() -> None:
    with pytest.raises(CalibrationError, match="light: the ball is saturated"):
        light_from_shading(shot(FAR_LIGHTS[0], replace(STUDIO, flat_level=0.9)), BALL, 255.0, "light")


def test_a_ball_that_is_not_matte_is_refused() -> None:
    mirror = replace(STUDIO, ball="mirror", flat_level=0.3)
    with pytest.raises(CalibrationError, match=r"is it matte|too little of the ball"):
        light_from_shading(shot(LineLight(20.0), mirror), BALL, 255.0, "light")


def test_the_command_writes_a_lights_file(tmp_path: Path, foilsight: Foilsight) -> None:
    images = []
    for light in FAR_LIGHTS:
        images.append(tmp_path / f"{len(images)}.png")
        cv2.imwrite(str(images[-1]), shot(light).astype(np.uint8))
    done = foilsight("calibrate", "lights", *images, "--matte", "--out", tmp_path / "lights.toml")
    assert done.returncode == 0, done.stderr
    found = np.array([light.direction for light in load_lights(tmp_path / "lights.toml").light])
    assert angle_deg(found, np.stack([towards(light) for light in FAR_LIGHTS])) < 0.5
    assert cv2.imread(str(tmp_path / "lights.png")).shape == (320, 360, 3)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="FOILSIGHT_DATA is not set: no real photographs here")
def test_the_gray_ball_is_solved_by_lights_read_off_itself() -> None:
    """Its normals, least squares over all twelve lights, against the sphere's."""
    assert DATA is not None
    folder = Path(DATA) / "uw_chrome"
    images = [read_gray(folder / "gray" / f"gray.{light}.tga") for light in range(12)]
    ball = find_ball(images)
    directions = np.stack([light_from_shading(image, ball, 255.0, "light").direction for image in images])
    lines = (folder / "lights.txt").read_text().split("\n")[1:13]
    theirs = np.array([[float(part) for part in line.split()] for line in lines]) * [1, -1, 1]  # y up
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    assert np.degrees(np.arccos((directions * theirs).sum(axis=1))).mean() < 3.3
    rows, columns = np.nonzero(read_gray(folder / "gray" / "gray.mask.tga") > 128)
    truth = ball.normals(columns.astype(float), rows.astype(float))
    on = np.isfinite(truth[:, 2])
    normals = np.linalg.pinv(directions) @ np.stack([image[rows, columns][on] for image in images])
    cosine = (normals.T * truth[on]).sum(axis=1) / np.linalg.norm(normals, axis=0)
    assert np.degrees(np.arccos(cosine)).mean() < 5.3
