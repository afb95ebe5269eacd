"""Which light is which: wrong orders are told by residual, curl and convexity; what is not told is said."""

import json
import os
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from test_photographs import lights_file

from calibration.light_order import OrderScore, check_order, find_order
from edge.core.errors import CalibrationError
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb

GIVEN, HALF_TURN = (0, 1, 2, 3), (2, 3, 0, 1)
INDISTINCT = {order for order in permutations(range(4)) if abs(order[0] - order[2]) == 2}
"""The 8 orders of a symmetric cross that keep opposite lights opposite: its residual does not tell them."""


def cross(n: int = 4, polar_deg: float = 35) -> np.ndarray:
    """Unit directions (n, 3), evenly around."""
    azimuth, polar = np.arange(n) * 2 * np.pi / n, np.radians(polar_deg)
    return np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.full(n, np.cos(polar))], 1)


def ellipsoid(side: int = 140, hollow: bool = False) -> np.ndarray:
    """Normals (3, side, side) that bulge more one way than the other, zero beside it."""
    x, y = np.meshgrid(*[np.linspace(-1.2, 1.2, side)] * 2)
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    normals = np.stack([x, 0.7 * y + 0.1 * x, z + 1e-9]) * (-1 if hollow else 1)
    normals[2] = np.abs(normals[2])
    return np.where(z > 0.2, normals / np.linalg.norm(normals, axis=0), 0)


def images(normals: np.ndarray, g: np.ndarray, noise: float = 0.01) -> np.ndarray:
    shade = np.maximum(np.einsum("ki,irc->krc", g, normals), 0)
    return (0.6 * shade * (1 + noise * np.random.default_rng(2).standard_normal(shade.shape))).astype(np.float32)


def by_order(scores: list[OrderScore]) -> dict[tuple[int, ...], OrderScore]:
    return {score.order: score for score in scores}


@pytest.mark.parametrize("order", list(permutations(range(4)))[::5], ids=str)
def test_the_order_in_which_the_images_were_taken_is_found(order: tuple[int, ...]) -> None:
    shown = images(ellipsoid(), cross())[list(order)]
    scores = find_order(shown, cross())
    assert len(scores) == 24
    assert (scores[0].order, scores[0].verdict) == (order, "best")
    verdicts = [score.verdict for score in scores]
    assert verdicts.count("wrong") == 22
    assert verdicts.count("hollow") == 1


def test_what_tells_each_order_of_a_symmetric_cross() -> None:
    scores = by_order(find_order(images(ellipsoid(), cross()), cross()))
    assert scores.pop(HALF_TURN).told_by == "convexity"
    for order in INDISTINCT - {HALF_TURN, GIVEN}:
        assert scores[order].told_by == "curl"
        assert scores[order].residual == pytest.approx(scores[GIVEN].residual, rel=0.01)
    assert all(scores[order].residual > 5 * scores[GIVEN].residual for order in scores if order not in INDISTINCT)


def test_a_hollow_is_taken_for_a_bump_and_it_is_said_that_it_may_be_one() -> None:
    checked = check_order(images(ellipsoid(hollow=True), cross()), cross())
    assert checked.orders[0].order == HALF_TURN
    assert by_order(checked.orders)[GIVEN].verdict == "hollow"
    assert not checked.holds
    assert "only if the object is hollow" in checked.summary


def test_lights_that_stand_unevenly_tell_a_half_turn_by_residual() -> None:
    lights = cross()
    lights[0] = cross(polar_deg=50)[0]
    scores = by_order(find_order(images(ellipsoid(), lights, 0.003), lights))
    assert (scores[HALF_TURN].verdict, scores[HALF_TURN].told_by) == ("wrong", "residual")


def test_three_lights_have_no_residual_and_are_told_by_curl() -> None:
    scores = find_order(images(ellipsoid(), cross(3)), cross(3))
    assert scores[0].order == (0, 1, 2)
    assert {score.told_by for score in scores[1:]} == {"curl"}


def test_lamps_of_other_strength_move_with_their_directions() -> None:
    g = cross() * np.array([1.0, 0.5, 1.4, 0.8])[:, None]
    order = [1, 0, 3, 2]
    assert find_order(images(ellipsoid(), g)[order], g)[0].order == tuple(order)


def test_flat_fielded_web_tells_all_but_the_half_turn() -> None:
    """It has bumps and pits: nothing says which is which."""
    g = cross(polar_deg=55) / cross(polar_deg=55)[:, 2:]
    planes = images(RenderedWeb(5, 768, DENSE).normals(0, 768).astype(float), g)
    checked = check_order(planes, np.repeat(g[:, :, None], 768, axis=2))
    scores = by_order(checked.orders)
    assert checked.holds
    assert scores[GIVEN].verdict == "best"
    assert scores[HALF_TURN].verdict == "untold"
    assert "nothing tells it from 2 3 0 1" in checked.summary
    assert [score.verdict for score in checked.orders].count("wrong") == 22
    assert not check_order(planes[[1, 0, 2, 3]], g).holds


def test_what_has_no_shape_is_refused() -> None:
    flat = np.zeros((3, 200, 200))
    flat[2] = 1
    with pytest.raises(CalibrationError, match="must have some shape"):
        check_order(images(flat, cross()), cross())


def test_too_little_light_and_too_many_lights_are_refused() -> None:
    shown = images(ellipsoid(), cross())
    with pytest.raises(CalibrationError, match="too little of the object"):
        find_order([shown[0], shown[1], shown[2], 0 * shown[3]], cross())
    with pytest.raises(CalibrationError, match="too little of the object"):
        find_order(shown[:, :6, :6], cross())
    with pytest.raises(CalibrationError, match="7 images and 7 lights"):
        find_order(images(ellipsoid(), cross(7)), cross(7))
    with pytest.raises(CalibrationError, match="same view"):
        find_order([shown[0], shown[1], shown[2], shown[3][:90]], cross())


def photographs(folder: Path) -> tuple[list[Path], Path]:
    """Images of a convex object and the file of their lights."""
    shown, entries = [], []
    for k, (image, direction) in enumerate(zip(images(ellipsoid(), cross()), cross(), strict=True)):
        shown.append(folder / f"{k}.png")
        cv2.imwrite(str(shown[k]), np.rint(60000 * image).astype(np.uint16))
        entries.append(f'[[light]]\ndirection = {(2 * direction).tolist()}\nfiles = "{k}.png"\n')
    (folder / "lights.toml").write_text("\n".join(entries))
    return shown, folder / "lights.toml"


def test_the_command_says_whether_the_order_given_is_right(tmp_path: Path, foilsight: Foilsight) -> None:
    shown, lights = photographs(tmp_path)
    done = foilsight("calibrate", "order", *shown, "--lights", lights)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 + 24 + 1
    assert done.stdout.splitlines()[-1] == "the order given is right, unless the object is hollow: then 2 3 0 1"

    swapped = foilsight("calibrate", "order", *[shown[k] for k in (0, 2, 1, 3)], "--lights", lights, "--json")
    assert swapped.returncode == 1
    answer = json.loads(swapped.stdout)
    assert answer["holds"] is False
    assert answer["orders"][0]["order"] == [0, 2, 1, 3]
    assert "wrong by its residual" in answer["summary"]

    short = foilsight("calibrate", "order", *shown[:3], "--lights", lights)
    assert (short.returncode, short.stderr.count("\n")) == (2, 1)
    assert "IMAGES must be 4" in short.stderr


def test_lights_in_a_frame_of_the_other_hand_need_saying_so(tmp_path: Path, foilsight: Foilsight) -> None:
    shown, lights = photographs(tmp_path)
    entries = [
        f'[[light]]\ndirection = {(light * [1, -1, 1]).tolist()}\nfiles = "{k}.png"\n'
        for k, light in enumerate(cross())
    ]
    lights.write_text("\n".join(entries))
    assert foilsight("calibrate", "order", *shown, "--lights", lights, "--y-up").returncode == 0
    unsaid = foilsight("calibrate", "order", *shown, "--lights", lights)
    assert unsaid.returncode == 1
    assert "--y-up" in unsaid.stdout


@pytest.mark.data
@pytest.mark.skipif("FOILSIGHT_DATA" not in os.environ, reason="FOILSIGHT_DATA is not set: no real photographs here")
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (1, 0, 3, 2), (3, 0, 1, 2)], ids=str)
def test_diligent_ball(tmp_path: Path, foilsight: Foilsight, order: tuple[int, ...]) -> None:
    """Whichever way the four photographs are given, their order is found and all 23 others are wrong."""
    ball, numbers = Path(os.environ["FOILSIGHT_DATA"]) / "diligent_ball", [80, 32, 25, 73]
    lights = lights_file(ball, numbers, tmp_path / "lights.toml")
    shown = [ball / f"{numbers[k]:03d}.png" for k in order]
    done = foilsight("calibrate", "order", *shown, "--lights", lights, "--y-up", "--json")
    assert done.returncode == (0 if order == GIVEN else 1), done.stderr
    scores = json.loads(done.stdout)["orders"]
    assert tuple(scores[0]["order"]) == order
    assert [score["verdict"] for score in scores] == ["best"] + 23 * ["wrong"]
