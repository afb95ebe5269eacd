"""Trimmed least squares: what highlights and shadows did to a still object's lights does not reach its normals."""

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Foilsight
from lambertian import HEIGHT, ROWS, WIDTH, angle_deg, calibration, rendered, source_rows, strip_of, tilted
from scipy.io import loadmat
from test_photographs import DATA, lights_file

from edge.core.calibration import Calibration
from edge.core.errors import ConfigError
from edge.core.types import Strip, Surface
from edge.surface import NumpyKernel, SurfaceSolver, TrimmedKernel


def solved(strip: Strip, lights: Calibration | None = None) -> Surface:
    return SurfaceSolver(lights or calibration(len(strip.planes)), TrimmedKernel).solve(strip)


def plain(strip: Strip, lights: Calibration | None = None) -> Surface:
    return SurfaceSolver(lights or calibration(len(strip.planes)), NumpyKernel).solve(strip)


def seen(n: int, slope_deg: float = 15) -> tuple[Strip, np.ndarray]:
    normals = tilted(slope_deg)
    return rendered(normals, np.full((ROWS, WIDTH), 0.7), source_rows(n), n), normals


def misled(strip: Strip, bright: int, dark: int) -> Strip:
    """With a highlight under so many lights and a cast shadow under so many others, others at every pixel."""
    planes = strip.planes.copy()
    order = np.random.default_rng(5).random(planes.shape).argsort(axis=0)
    glint, shadow = order < bright, order >= len(planes) - dark
    planes[glint] += 1.5
    planes[shadow] *= 0.01
    return replace(strip, planes=planes)


@pytest.mark.parametrize(("n", "bright", "dark"), [(5, 1, 1), (10, 2, 2), (10, 1, 2), (12, 2, 0), (96, 19, 19)])
def test_a_fifth_of_the_lights_may_be_too_bright_and_a_fifth_in_shadow(n: int, bright: int, dark: int) -> None:
    strip, normals = seen(n)
    strip = misled(strip, bright, dark)
    surface = solved(strip)
    assert angle_deg(surface.normals, normals).max() < 0.01
    np.testing.assert_allclose(surface.albedo, 0.7, rtol=1e-4)
    assert surface.valid.all()
    assert surface.residual.min() > 0.1
    assert angle_deg(plain(strip).normals, normals).mean() > 5


@pytest.mark.parametrize("n", [7, 8, 13])
@pytest.mark.parametrize("flat", [True, False])
def test_equals_least_squares_over_the_middle_ranks_that_are_lit(n: int, flat: bool) -> None:
    strip = misled(rendered(tilted(25), np.ones((ROWS, WIDTH)), source_rows(n), n, flat), 1, 2)
    lights = calibration(n, flat=flat)
    g, change = lights.light_directions, lights.light_directions_per_row
    if flat:
        change = (change - g * change[:, 2:] / g[:, 2:]) / g[:, 2:]
        g = g / g[:, 2:]
    surface, spared = solved(strip, lights), n // 5
    for row, column in [(0, 0), (3, 17), (11, 150), (ROWS - 1, WIDTH - 1)]:
        q = strip.planes[:, row, column].astype(float)
        kept = np.argsort(q, kind="stable")[max(2, spared) : n - spared]
        away = strip.source_row[kept, row, None] - (HEIGHT - 1) / 2
        b = np.linalg.lstsq(g[kept, :, column] + away * change[kept, :, column], q[kept], rcond=None)[0]
        np.testing.assert_allclose(surface.albedo[row, column], np.linalg.norm(b), rtol=1e-5)
        np.testing.assert_allclose(surface.normals[:, row, column], b / np.linalg.norm(b), atol=1e-5)


@pytest.mark.parametrize("lamp", range(4))
def test_of_four_lights_the_one_in_shadow_is_left_out(lamp: int) -> None:
    strip, normals = seen(4)
    strip.planes[lamp] *= 0.02
    surface = solved(strip)
    assert angle_deg(surface.normals, normals).max() < 0.01
    assert surface.valid.all()


@pytest.mark.parametrize("lamp", range(4))
def test_of_four_lights_the_brightest_is_left_out_where_it_is_too_bright(lamp: int) -> None:
    strip, normals = seen(4, slope_deg=2)
    strip.planes[lamp] += 1.0
    surface = solved(strip)
    assert angle_deg(surface.normals, normals).max() < 0.01
    assert surface.valid.all()


@pytest.mark.parametrize("n", [3, 4])
def test_lights_that_nothing_misled_are_all_used(n: int) -> None:
    strip, _ = seen(n)
    strip.planes[:] *= 1 + 0.003 * np.random.default_rng(1).standard_normal(strip.planes.shape).astype(np.float32)
    surface, reference = solved(strip), plain(strip)
    assert angle_deg(surface.normals, reference.normals.astype(float)).max() < 0.005
    np.testing.assert_allclose(surface.residual, reference.residual, atol=5e-5)
    np.testing.assert_array_equal(surface.valid, reference.valid)


def test_the_residual_of_four_is_that_of_the_plain_solver_whatever_was_left_out() -> None:
    strip = misled(seen(4)[0], 1, 0)
    np.testing.assert_allclose(solved(strip).residual, plain(strip).residual, rtol=2e-3, atol=2e-4)


def test_two_of_four_in_shadow_are_not_trusted() -> None:
    assert not solved(misled(seen(4)[0], 0, 2)).valid.any()


def test_a_light_too_dark_to_agree_and_too_bright_for_a_shadow_is_not_trusted() -> None:
    strip, _ = seen(4, slope_deg=0)
    strip.planes[2] *= 0.7
    assert not solved(strip).valid.any()


def test_where_what_is_left_would_lie_in_one_plane_all_lights_are_used() -> None:
    """Two lights out of the plane of the others, one the brightest of all, one the darkest."""
    vectors = [[np.sin(a), 0, np.cos(a)] for a in np.radians([-30, 0, 30])] + [[0, -0.6, 0.8], [0, 0.95, 0.312]]
    directions = np.repeat(np.array(vectors)[:, :, None], WIDTH, axis=2)
    lights = replace(calibration(5), light_directions=directions, light_directions_per_row=0 * directions)
    strip = strip_of(np.ones((5, ROWS, WIDTH)))
    strip.planes[3] += 0.1
    strip.planes[4] -= 0.1
    surface, reference = solved(strip, lights), plain(strip, lights)
    np.testing.assert_allclose(surface.normals, reference.normals, atol=1e-5)
    np.testing.assert_array_equal(surface.valid, reference.valid)


def test_what_is_not_a_number_or_saturated_is_not_trusted_and_spoils_no_neighbour() -> None:
    strip, normals = seen(7)
    lights = calibration(7)
    strip.planes[3, 5, 9] = np.nan
    strip.planes[:, 5, 12] = 0
    strip.planes[:6, 5, 15] = 3.0
    surface = solved(strip, lights)
    lost = np.zeros((ROWS, WIDTH), bool)
    lost[5, [9, 12, 15]] = True
    np.testing.assert_array_equal(surface.valid == 0, lost)
    np.testing.assert_array_equal(surface.normals[:, 5, [9, 12]], [[0, 0], [0, 0], [1, 1]])
    assert np.isnan(surface.residual[5, [9, 12]]).all()
    assert angle_deg(surface.normals, normals)[~lost].max() < 0.01


def test_equally_bright_lights_are_ranked_alike_whatever_pixel_came_before() -> None:
    """Coarse brightness: many ties. Every column has the same lights, so that the web can be turned round."""
    strip, _ = seen(7, slope_deg=25)
    strip.planes[:] = np.rint(8 * strip.planes) / 8
    strip.source_row[:] = (HEIGHT - 1) / 2
    lights = calibration(7, flat=False, row_term=False)
    same = np.repeat(lights.light_directions[:, :, :1], WIDTH, axis=2)
    lights = replace(lights, light_directions=same)
    forth = solved(strip, lights)
    back = solved(replace(strip, planes=strip.planes[:, :, ::-1].copy()), lights)
    np.testing.assert_array_equal(back.normals[:, :, ::-1], forth.normals)


def test_rows_that_some_lights_missed_are_solved_from_the_others() -> None:
    normals = tilted(15)
    strip = rendered(normals, np.ones((ROWS, WIDTH)), source_rows())
    strip.planes[1, 8:16] = 0
    strip.lights_seen[8:16] = 0b1101
    surface = solved(strip)
    assert angle_deg(surface.normals, normals).max() < 0.02
    assert surface.valid.all()


def trimmed_config(folder: Path) -> Path:
    path = folder / "trimmed.toml"
    path.write_text('[surface]\nsolver = "trimmed"\n')
    return path


def replayed(foilsight: Foilsight, images: Path, lights: Path, config: Path, folder: Path) -> np.ndarray:
    """Normals (3, h, w) of photographs that went through import and replay."""
    recording, report = folder / "still.mcap", folder / "report"
    for command in (
        ("import", images, recording, "--lights", lights),
        ("replay", recording, "--config", config, "--report", report, "--keep", "surface", "--json"),
    ):
        done = foilsight(*command)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["uninspected_mm"] == 0
    return np.asarray(np.load(report / "normals.npy"))


def test_the_configuration_chooses_it_for_replay(tmp_path: Path, foilsight: Foilsight) -> None:
    """A ball whose every photograph has a highlight."""
    side = 96
    x, y = np.meshgrid(*[np.linspace(-1.3, 1.3, side)] * 2)
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    on = z > 0.7
    normals = np.where(on, [x, y, z], [[[0]], [[0]], [[1]]])
    azimuth = np.arange(8) * np.pi / 4
    entries = []
    for k, direction in enumerate(np.stack([0.5 * np.cos(azimuth), 0.5 * np.sin(azimuth), np.full(8, 0.75**0.5)], 1)):
        shade = np.einsum("i,irc->rc", direction, normals)
        half = direction + np.array([0, 0, 1])
        glossy = 0.6 * shade + 0.4 * np.einsum("i,irc->rc", half / np.linalg.norm(half), normals) ** 2000
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.rint(60000 * glossy).astype(np.uint16))
        entries.append(f'[[light]]\ndirection = {direction.tolist()}\nfiles = "{k}.png"\n')
    lights = tmp_path / "lights.toml"
    lights.write_text("\n".join(entries))
    error = angle_deg(replayed(foilsight, tmp_path, lights, trimmed_config(tmp_path), tmp_path), normals)
    assert error[on].max() < 0.1


def test_another_solver_is_refused_by_its_key(tmp_path: Path) -> None:
    from edge.core.config import load_config

    path = tmp_path / "config.toml"
    path.write_text('[surface]\nsolver = "robust"\n')
    with pytest.raises(ConfigError, match=r"robust.*\$\.surface\.solver"):
        load_config(path)


@pytest.mark.data
@pytest.mark.skipif("FOILSIGHT_DATA" not in os.environ, reason="FOILSIGHT_DATA is not set: no real photographs here")
@pytest.mark.parametrize(
    ("numbers", "expected_deg"),
    [([80, 32, 25, 73], 2.92), (list(range(1, 97)), 2.02)],
    ids=["four lights", "all 96 lights"],
)
def test_diligent_ball(tmp_path: Path, foilsight: Foilsight, numbers: list[int], expected_deg: float) -> None:
    """Least squares over all lights: 4.52 and 4.10 degrees."""
    ball = Path(str(DATA)) / "diligent_ball"
    lights = lights_file(ball, numbers, tmp_path / "lights.toml")
    normals = replayed(foilsight, ball, lights, trimmed_config(tmp_path), tmp_path)
    truth = loadmat(ball / "Normal_gt.mat")["Normal_gt"].transpose(2, 0, 1)
    mask = cv2.imread(str(ball / "mask.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert angle_deg(normals, truth)[mask].mean() == pytest.approx(expected_deg, abs=0.03)
