"""Real optics in the rendered web: each effect does what it is named for."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.normals import solve
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.exposure import fine_rows_under
from edge.simulation.lights import FOUR_LINE_LIGHTS
from edge.simulation.optics import IDEAL, MAX_SLOPE, REAL, SLOPES, Optics, gloss_tables
from edge.simulation.planting import CAVITY, CLEAN, Planted, blade_trail
from edge.simulation.web import SMOOTH, RenderedWeb

STILL = Motion(advance_px=32.0)


def frames(optics: Optics, web: RenderedWeb, bits: int = 16) -> list[np.ndarray]:
    camera = StrobedCamera(web, 20.0, Rig(bits=bits, noise=False, optics=optics), STILL)
    return [frame.pixels.astype(np.float64) for frame in camera.frames()]


def flat_web(width_px: int = 128) -> RenderedWeb:
    return RenderedWeb(1, width_px, CLEAN, coating=SMOOTH)


@pytest.mark.parametrize("k", range(4))
def test_gloss_is_strongest_on_slopes_that_face_the_light(k: int) -> None:
    table = gloss_tables(FOUR_LINE_LIGHTS, 64, 0.05, Optics(gloss=1.0, roughness=0.2))[k, 1]
    i, j = np.unravel_index(table.argmax(), table.shape)
    slope = (np.array([i, j]) / (SLOPES - 1) * 2 - 1) * MAX_SLOPE
    azimuth = np.radians(FOUR_LINE_LIGHTS[k].azimuth_deg)
    facing = -slope / np.linalg.norm(slope)
    assert facing @ [np.cos(azimuth), np.sin(azimuth)] > 0.97
    assert np.degrees(np.arctan(np.linalg.norm(slope))) == pytest.approx(55 / 2, abs=6)


def test_gloss_steepens_gentle_slopes() -> None:
    """Measured normals of a glossy groove are steeper than it is, as a path tracer also says (1.2 to 1.4 times)."""
    trail = blade_trail(6.4, -1.0, 60.0, half_width_mm=0.5, steepest_deg=8.0)
    web = RenderedWeb(1, 256, CLEAN, coating=SMOOTH, extra=(trail,))
    steepness = {}
    for name, optics in (("matt", IDEAL), ("glossy", Optics(gloss=0.5, roughness=0.35))):
        camera = StrobedCamera(web, 20.0, Rig(bits=16, noise=False, optics=optics), STILL)
        normals = solve(camera).normals[:, 150:180]
        steepness[name] = float(np.abs(normals[0] / normals[2]).max())
    assert 1.1 < steepness["glossy"] / steepness["matt"] < 1.7


def test_walls_cast_shadows() -> None:
    pit = Planted(CAVITY, ellipses=np.array([[3.2, 6.0, 0.4, 0.4, 1.0, 0.0, -0.25, 1.0]]))
    web = RenderedWeb(1, 128, CLEAN, coating=SMOOTH, extra=(pit,))
    lit, shadowed = frames(IDEAL, web), frames(Optics(cast_shadows=True), web)
    darker = [(one - other) for one, other in zip(lit, shadowed, strict=True)]
    assert max(d.max() for d in darker) > 0.3 * lit[0].mean()
    assert min(d.min() for d in darker) >= -1e-3 * lit[0].mean()


def test_ambient_light_fills_the_shadows() -> None:
    without, with_it = frames(IDEAL, flat_web()), frames(Optics(ambient=0.02), flat_web())
    level = (Rig().flat_level - Rig().dark_level) * 65535
    assert (with_it[0] - without[0]).mean() == pytest.approx(0.02 * level, rel=0.01)


def test_vignetting_is_taken_out_by_the_flat_field_and_dirt_is_not() -> None:
    for optics, most_deg in ((Optics(vignetting=0.3), 0.02), (Optics(dirt=800.0), np.inf)):
        camera = StrobedCamera(flat_web(), 30.0, Rig(bits=16, noise=False, optics=optics), STILL)
        solved = solve(camera)
        tilt_deg = np.degrees(np.abs(solved.normals[:2][:, solved.whole]))
        assert tilt_deg.max() <= most_deg
        if optics.dirt:
            assert tilt_deg.max() > 0.3


def test_lamps_drift_apart_slowly() -> None:
    optics = Optics(drift=0.05, drift_mm=40.0)
    flat = frames(IDEAL, flat_web())
    ratio = [
        float((drifted - 983).mean() / (still - 983).mean())
        for drifted, still in zip(frames(optics, flat_web()), flat, strict=True)
    ]
    assert max(ratio) > 1.03 and min(ratio) < 0.97


@pytest.mark.parametrize("start", [0.0, 0.3, 7.9])
@pytest.mark.parametrize("blur", [0.0, 1.6, 5.0])
def test_a_moving_pixel_keeps_its_middle_and_its_light(start: float, blur: float) -> None:
    first, weights = fine_rows_under(start, blur)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    middle = ((first + np.arange(len(weights)) + 0.5) * weights).sum()
    assert middle == pytest.approx(start + 2, abs=0.02)
    spread = np.sqrt(((first + np.arange(len(weights)) + 0.5 - middle) ** 2 * weights).sum() + 1 / 12)
    assert spread == pytest.approx(np.sqrt((16 + blur**2) / 12), abs=0.2)


def test_blur_widens_along_transport_only() -> None:
    pit = Planted(CAVITY, ellipses=np.array([[3.2, 6.0, 0.1, 0.1, 1.0, 0.0, -0.01, 0.2]]))
    web = RenderedWeb(1, 128, CLEAN, coating=SMOOTH, extra=(pit,))

    def extent(optics: Optics) -> np.ndarray:
        dark = (frames(optics, flat_web())[0] - frames(optics, web)[0]).clip(0)
        grid = np.indices(dark.shape)
        middle = (grid * dark).sum((1, 2)) / dark.sum()
        return np.sqrt(((grid - middle[:, None, None]) ** 2 * dark).sum((1, 2)) / dark.sum())

    sharp, blurred = extent(IDEAL), extent(Optics(exposure_us=200.0))
    assert blurred[0] > 1.15 * sharp[0]
    assert blurred[1] == pytest.approx(sharp[1], rel=0.05)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_sensors_saturate_at_their_white(bits: int) -> None:
    web = RenderedWeb(1, 128, CLEAN, coating=SMOOTH)
    camera = StrobedCamera(web, 20.0, Rig(bits=bits, flat_level=1.3), STILL)
    frame = next(camera.frames())
    assert frame.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert frame.pixels.max() == 2**bits - 1


def test_stains_change_the_shade_and_not_the_shape() -> None:
    plain = RenderedWeb(3, 256, CLEAN, coating=SMOOTH)
    stained = replace(plain, frequencies=replace(CLEAN, stains=20_000.0))
    height, albedo = stained.fine(0, 400)
    assert np.ptp(height) == 0
    assert albedo.min() < 0.9 and albedo.max() > 1.05
    assert not stained.classes(0, 400).any()
    assert stained.planted_defects(400) == []


def test_all_effects_together_stay_close_to_the_truth() -> None:
    camera = StrobedCamera(RenderedWeb(1, 256, CLEAN, coating=SMOOTH), 30.0, Rig(bits=12, optics=REAL), STILL)
    solved = solve(camera)
    assert solved.whole.sum() > 50_000
    tilt_deg = np.degrees(solved.normals[:2][:, solved.whole])
    assert np.abs(np.median(tilt_deg, axis=1)).max() < 1.5
