"""The surface room: normals, albedo and checksum from registered strips, and the fast kernel against its reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lambertian import (
    HEIGHT,
    ROWS,
    WIDTH,
    angle_rad,
    calibration,
    columns_mm,
    decided,
    lamp_directions,
    rendered,
    seen_by,
    source_rows,
    strip_of,
    tilted,
)

from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.photometry import lights_solvable
from edge.core.types import Surface
from edge.surface import NumpyKernel, SurfaceSolver


@pytest.mark.parametrize("flat", [True, False])
def test_recovers_normals_and_albedo_of_near_lit_patches(flat: bool) -> None:
    normals, albedo = tilted(25), np.random.default_rng(5).uniform(0.3, 1.0, (ROWS, WIDTH))
    strip = rendered(normals, albedo, source_rows(), flat=flat)
    surface = SurfaceSolver(calibration(flat=flat)).solve(strip)
    assert surface.valid.all()
    assert angle_rad(surface.normals.astype(float), normals).max() < 1e-4
    np.testing.assert_allclose(surface.albedo, albedo, rtol=2e-4)
    assert np.abs(surface.residual).max() < 2e-4
    assert surface.first_row == 7


def test_the_row_a_light_was_seen_on_matters() -> None:
    strip = rendered(tilted(25), np.ones((ROWS, WIDTH)), source_rows())
    blind = SurfaceSolver(calibration(row_term=False)).solve(strip)
    assert angle_rad(blind.normals.astype(float), tilted(25)).max() > np.radians(0.1)


def test_flat_web_is_flat_because_the_flat_field_holds_its_own_shading() -> None:
    strip = strip_of(np.ones((4, ROWS, WIDTH)))
    surface = SurfaceSolver(calibration()).solve(strip)
    up = np.zeros((3, ROWS, WIDTH))
    up[2] = 1
    assert np.abs(surface.normals - up).max() < 1e-6
    assert np.abs(surface.albedo - 1).max() < 1e-6
    without_lz = SurfaceSolver(calibration(flat=False)).solve(strip)
    assert angle_rad(without_lz.normals.astype(float), up).max() > np.radians(2.5)


def test_steep_slopes_lose_lights_and_are_said_to_be_invalid_unless_three_lights_solve_them() -> None:
    normals = tilted(60)
    light = lamp_directions(4, np.broadcast_to(columns_mm(), (ROWS, WIDTH)), np.zeros((ROWS, WIDTH)))
    shade = (normals * light).sum(axis=1) / light[:, 2]
    surface = SurfaceSolver(calibration()).solve(strip_of(np.maximum(shade, 0)))
    unlit = (shade <= 0).sum(axis=0)
    clearly_lit = (shade > 0.06 * shade.max(axis=0)).all(axis=0)
    error = angle_rad(surface.normals.astype(float), normals)
    assert (unlit == 1).sum() > 100
    assert not surface.valid[unlit > 1].any()
    assert surface.valid[unlit == 1].mean() > 0.85
    assert error[(unlit == 1) & (surface.valid == 1)].max() < 1e-4
    assert surface.valid[clearly_lit].all()
    assert error[clearly_lit].max() < 1e-4


def test_checksum_tells_a_lamp_that_is_off_and_on_which_diagonal() -> None:
    strip = rendered(tilted(15), np.full((ROWS, WIDTH), 0.7), source_rows())
    solver = SurfaceSolver(calibration())
    for lamp, sign in enumerate((1, -1, 1, -1)):
        planes = strip.planes.copy()
        planes[lamp] *= 1.1
        residual = solver.solve(replace(strip, planes=planes)).residual
        assert (sign * residual > 0.02).all()


def test_checksum_of_many_lights_is_the_misfit_that_no_normal_explains() -> None:
    strip = rendered(tilted(15), np.full((ROWS, WIDTH), 0.7), source_rows(6), n=6)
    solver = SurfaceSolver(calibration(6))
    assert solver.solve(strip).residual.max() < 2e-4
    planes = strip.planes.copy()
    planes[2] *= 1.1
    assert solver.solve(replace(strip, planes=planes)).residual.min() > 0.03


@pytest.mark.parametrize("lost", range(4))
def test_three_lights_still_solve_but_have_no_checksum(lost: int) -> None:
    normals = tilted(20)
    strip = rendered(normals, np.ones((ROWS, WIDTH)), source_rows())
    left = [k for k in range(4) if k != lost]
    planes, source_row = strip.planes.copy(), strip.source_row.copy()
    planes[lost], source_row[lost] = 0, np.nan
    surface = SurfaceSolver(calibration()).solve(strip_of(planes, source_row, [left] * ROWS))
    assert surface.valid.all()
    assert angle_rad(surface.normals.astype(float), normals).max() < 2e-4
    assert np.isnan(surface.residual).all()


def assert_not_inspected(surface: Surface, rows: slice) -> None:
    assert (surface.normals[:, rows] == np.array([0, 0, 1])[:, None, None]).all()
    assert (surface.albedo[rows] == 1).all()
    assert np.isnan(surface.residual[rows]).all()
    assert not surface.valid[rows].any()


@pytest.mark.parametrize("kernel", [None, NumpyKernel])
def test_rows_of_different_lights_in_one_strip_are_solved_each_with_their_own(kernel: type | None) -> None:
    masks = [[0, 1, 2, 3]] * 5 + [[0, 1]] * 4 + [[1, 2, 3]] * 3 + [[]] * 2 + [[0, 1, 2, 3]] * 4 + [[0, 2, 3]] * 6
    normals = tilted(20)
    strip = rendered(normals, np.ones((ROWS, WIDTH)), source_rows())
    strip = replace(strip, lights_seen=seen_by(masks, 4))
    solver = SurfaceSolver(calibration(), kernel) if kernel else SurfaceSolver(calibration())
    surface = solver.solve(strip)
    for row, lights in enumerate(masks):
        if len(lights) < 3:
            assert_not_inspected(surface, slice(row, row + 1))
        else:
            assert surface.valid[row].all()
            assert angle_rad(surface.normals[:, row].astype(float), normals[:, row]).max() < 2e-4
            assert np.isnan(surface.residual[row]).all() == (len(lights) == 3)


def with_coplanar_lights() -> Calibration:
    """Five lights, of which 0, 1 and 2 lie in the plane x-z."""
    polar = np.radians([-50, 0, 50])
    directions = [[np.sin(a), 0, np.cos(a)] for a in polar] + [[0, 0.8, 0.6], [0, -0.8, 0.6]]
    vectors = np.repeat(np.array(directions)[:, :, None], WIDTH, axis=2)
    return replace(calibration(5), light_directions=vectors, light_directions_per_row=0 * vectors)


def test_lights_in_one_plane_are_refused() -> None:
    lights = with_coplanar_lights()
    masks = [[0, 1, 2], [0, 1, 3], [0, 1, 2, 3, 4]]
    seen = seen_by(masks, 5)
    assert [lights_solvable(lights.light_directions, mask) for mask in seen] == [False, True, True]
    surface = SurfaceSolver(lights).solve(strip_of(np.ones((5, 3, WIDTH)), masks=masks))
    assert_not_inspected(surface, slice(0, 1))
    assert surface.valid[1:].all()


def test_lights_beyond_the_eighth_are_found_in_the_mask() -> None:
    directions = calibration(12).light_directions
    assert lights_solvable(directions, seen_by([[0, 7, 9]], 12)[0])
    assert not lights_solvable(directions, seen_by([[9, 11]], 12)[0])


@pytest.mark.parametrize("n", [3, 4, 5])
def test_saturated_and_shadowed_pixels_are_not_trusted(n: int) -> None:
    planes = np.ones((n, 1, WIDTH))
    full = (255.0 - 4) / 100
    affected = slice(1, 3) if n == 4 else slice(1, 2)
    planes[:, 0, 0] = full * 0.99
    planes[affected, 0, 1] = full
    planes[affected, 0, 2] = 0.06
    planes[affected, 0, 3] = 0.04
    surface = SurfaceSolver(calibration(n)).solve(strip_of(planes))
    assert surface.valid[0, :4].tolist() == [1, 0, 1, 0]
    assert surface.valid[0, 4:].all()


def test_saturation_follows_the_brightest_row_of_the_flat_field() -> None:
    lights = calibration()
    assert lights.flat is not None
    brighter = lights.flat.copy()
    brighter[2:, 17, 5] = 204
    planes = np.full((4, 1, WIDTH), 1.5)
    valid = SurfaceSolver(replace(lights, flat=brighter)).solve(strip_of(planes)).valid[0]
    assert valid[5] == 0
    assert np.delete(valid, 5).all()


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_pixels_without_a_usable_number_come_out_dark_and_invalid(n: int, bad: float) -> None:
    planes = np.ones((n, 2, WIDTH))
    planes[:, 0, 3] = bad
    if not np.isfinite(bad):
        planes[n - 1, 1, 8] = bad
    surface = SurfaceSolver(calibration(n)).solve(strip_of(planes))
    pixels = [(0, 3)] if np.isfinite(bad) else [(0, 3), (1, 8)]
    for row, column in pixels:
        assert surface.normals[:, row, column].tolist() == [0, 0, 1]
        assert surface.albedo[row, column] == 0
        assert np.isnan(surface.residual[row, column])
        assert surface.valid[row, column] == 0
    assert surface.valid.sum() == 2 * WIDTH - len(pixels)


def test_writes_into_arrays_that_are_given_and_reads_planes_that_are_read_only() -> None:
    strip = rendered(tilted(20), np.ones((ROWS, WIDTH)), source_rows())
    strip.planes.setflags(write=False)
    solver = SurfaceSolver(calibration())
    fresh = solver.solve(strip)
    kept = Surface(*(np.full_like(a, 9) for a in (fresh.normals, fresh.albedo, fresh.residual, fresh.valid)), -1)
    again = solver.solve(strip, kept)
    assert again.normals is kept.normals
    assert again.first_row == strip.first_row
    for name in ("normals", "albedo", "residual", "valid"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(fresh, name))


@pytest.mark.parametrize("width", [64, 72])
def test_results_do_not_depend_on_where_in_memory_they_are_written(width: int) -> None:
    strip = strip_of(np.random.default_rng(6).uniform(0.3, 1.2, (4, 5, width)))
    solver = SurfaceSolver(calibration(width=width))
    expected = solver.solve(strip)
    for shift in (0, 1, 4, 16):
        memory = np.zeros(7 * 5 * width + 64, np.float32)
        first = -(memory.ctypes.data // 4) % 16 + shift
        pixels = memory[first : first + 5 * 5 * width].reshape(5, 5, width)
        valid = memory[first + pixels.size :].view(np.uint8)[: 5 * width].reshape(5, width)
        surface = solver.solve(strip, Surface(pixels[:3], pixels[3], pixels[4], valid, 0))
        for name in ("normals", "albedo", "residual", "valid"):
            np.testing.assert_array_equal(getattr(surface, name), getattr(expected, name))
        assert not memory[:first].any()
        assert not memory[first + pixels.size + -(-5 * width // 4) :].any()


def test_a_strip_of_another_line_is_refused() -> None:
    solver = SurfaceSolver(calibration())
    with pytest.raises(CalibrationError, match="201 px"):
        solver.solve(strip_of(np.ones((4, 2, WIDTH + 1))))
    with pytest.raises(CalibrationError, match="5 lights"):
        solver.solve(strip_of(np.ones((5, 2, WIDTH))))


def test_a_light_below_the_web_cannot_have_a_flat_field() -> None:
    lights = calibration()
    below = lights.light_directions.copy()
    below[0, 2] *= -1
    with pytest.raises(CalibrationError, match="below the web"):
        SurfaceSolver(replace(lights, light_directions=below))


@settings(max_examples=40, deadline=None)
@given(
    n=st.sampled_from([3, 4, 5, 8, 96]),
    width=st.sampled_from([1, 15, 16, 64, 65, 130]),
    rows=st.integers(1, 9),
    flat=st.booleans(),
    row_term=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_kernel_equals_the_reference(n: int, width: int, rows: int, flat: bool, row_term: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    lights = calibration(n, width, flat, row_term)
    planes = random.uniform(0.02, 1.3 if flat else 1.0, (n, rows, width))
    planes[random.random(planes.shape) < 0.02] = 0
    planes[random.random(planes.shape) < 0.01] = 3
    subsets = [sorted(random.choice(n, random.integers(0, n + 1), replace=False).tolist()) for _ in range(2)]
    masks = [[*subsets, list(range(n))][k] for k in random.integers(0, 3, rows)]
    strip = strip_of(planes, random.uniform(0, HEIGHT - 1, (n, rows)), masks)
    fast, reference = SurfaceSolver(lights).solve(strip), SurfaceSolver(lights, NumpyKernel).solve(strip)
    steady = decided(lights, strip, reference)
    assert (~steady).sum() <= 2 + 0.1 * steady.size
    np.testing.assert_allclose(fast.normals[:, steady], reference.normals[:, steady], atol=1e-5)
    np.testing.assert_allclose(fast.albedo[steady], reference.albedo[steady], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fast.residual, reference.residual, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(fast.valid[steady], reference.valid[steady])
