"""The rendered web: known truth, from a seed alone, seen as a camera sees it."""

import numba
import numpy as np
import pytest

from edge.core.line_light import LineLight
from edge.simulation import response
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, REAL, Optics
from edge.simulation.planting import CAVITY, CLEAN, DENSE, LABELS, PRODUCTION, Planted
from edge.simulation.web import SMOOTH, RenderedWeb

THESIS_PIXELS = np.array([61_341_642, 1_532_701, 550_683, 39_040, 752_734])
"""Table 3.1 of the thesis in class order: background, agglomeration, crack, cavity, blade trail."""


def test_any_part_of_the_web_can_be_asked_for_first() -> None:
    web = RenderedWeb(5, 160, DENSE)
    whole_height, whole_albedo = web.fine(0, 96)
    part_height, part_albedo = web.fine(40, 24)
    rows = slice(40 * 4, 40 * 4 + part_height.shape[0])
    np.testing.assert_allclose(part_height, whole_height[rows], atol=1e-6)
    np.testing.assert_allclose(part_albedo, whole_albedo[rows], atol=1e-6)
    np.testing.assert_array_equal(web.classes(40, 24), web.classes(0, 96)[40:64])


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (RenderedWeb(seed, 128, DENSE).heights(0, 64) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_dense_web_has_the_shares_of_the_thesis() -> None:
    counts = np.zeros(len(LABELS))
    for seed in range(5):
        counts += np.bincount(RenderedWeb(seed, 1024, DENSE).classes(0, 20_000).ravel(), minlength=len(LABELS))
    ratio = (counts / counts.sum()) / (THESIS_PIXELS / THESIS_PIXELS.sum())
    assert ratio[1:] == pytest.approx(1, abs=0.2), dict(zip(LABELS, ratio, strict=True))


def test_production_web_is_nearly_clean() -> None:
    share = np.mean([(RenderedWeb(seed, 1024, PRODUCTION).classes(0, 40_000) > 0).mean() for seed in range(6)])
    assert 0.0002 < share < 0.001


def test_planted_sizes_are_those_of_the_thesis() -> None:
    planted = RenderedWeb(3, 1024, DENSE).planted_defects(40_000)
    ranges = {
        "agglomeration": (0.15, 3.6),
        "cavity": (0.1, 0.5),
        "crack": (1.9, 60.0),
        "blade_trail": (10.0, 502.0),
    }
    for label, (low, high) in ranges.items():
        lengths = [defect.length_mm for defect in planted if defect.label == label]
        assert len(lengths) > 10
        assert low <= min(lengths) and max(lengths) <= high, label
    assert all(d.relief_mm > 0 for d in planted if d.label == "agglomeration")
    assert all(d.relief_mm < 0 for d in planted if d.label != "agglomeration")


def test_cavities_gather_near_agglomerations() -> None:
    planted = RenderedWeb(3, 1024, DENSE).planted_defects(20_000)
    centre = {
        label: np.array(
            [[(d.box_mm[0] + d.box_mm[2]) / 2, (d.box_mm[1] + d.box_mm[3]) / 2] for d in planted if d.label == label]
        )
        for label in ("agglomeration", "cavity")
    }
    mirrored = centre["cavity"] * [-1, 1] + [51.2, 0]

    def nearest(points: np.ndarray) -> float:
        gaps = np.linalg.norm(points[:, None] - centre["agglomeration"][None], axis=2).min(axis=1)
        return float(np.median(gaps))

    assert nearest(centre["cavity"]) < 0.75 * nearest(mirrored)


def test_bar_irradiance_is_the_integral_over_the_bar() -> None:
    light = LineLight(azimuth_deg=33.0, polar_deg=50.0, distance_mm=120.0, length_mm=90.0)
    x, y = np.array([0.0, 21.0, -14.0]), np.array([0.0, -5.0, 9.0])
    azimuth, polar = np.radians(33.0), np.radians(50.0)
    towards = np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])
    along = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    steps = (np.arange(20_000) + 0.5) / 20_000 * 90.0 - 45.0
    for i in range(3):
        to_bar = 120.0 * towards + steps[:, None] * along - np.array([x[i], y[i], 0.0])
        numeric = (to_bar / np.linalg.norm(to_bar, axis=1, keepdims=True) ** 3).sum(axis=0) * 90.0 / 20_000
        np.testing.assert_allclose(light.irradiance(x, y)[:, i], numeric, rtol=1e-6)


@pytest.mark.parametrize("exposure_us", [0.0, 900.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_flat_web_looks_like_the_flat_field(sign: int, exposure_us: float) -> None:
    """From the first row of the first frame to the last, however far the web moves on during a strobe."""
    rig = Rig(height_px=64, bits=16, noise=False, transport_sign=sign, optics=Optics(exposure_us=exposure_us))
    camera = StrobedCamera(RenderedWeb(1, 96, CLEAN, coating=SMOOTH), 10.0, rig)
    flat = camera.calibration.flat
    assert flat is not None
    for frame in camera.frames():
        np.testing.assert_allclose(frame.pixels, flat[frame.light], atol=0.55)


@pytest.mark.parametrize("optics", [IDEAL, REAL], ids=["ideal", "real"])
def test_frames_do_not_depend_on_threads_or_bands(optics: Optics, monkeypatch: pytest.MonkeyPatch) -> None:
    pits = [[1.0 + 0.6 * k, 2.8 + 0.05 * k, 0.3, 0.3, 1.0, 0.0, -0.2, 1.0] for k in range(12)]
    web = RenderedWeb(4, 160, DENSE, extra=(Planted(CAVITY, ellipses=np.array(pits)),))
    camera = StrobedCamera(web, 12.0, Rig(height_px=96, bits=16, optics=optics), Motion(7.3))
    whole = [frame.pixels for frame in camera.frames()]
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = [frame.pixels for frame in camera.frames()]
    finally:
        numba.set_num_threads(threads)
    monkeypatch.setattr(response, "_BAND_ROWS", 20)
    monkeypatch.setattr(response, "_FINE_ROWS", 20 * 4)
    banded = [frame.pixels for frame in camera.frames()]
    np.testing.assert_array_equal(alone, whole)
    np.testing.assert_array_equal(banded, whole)


def test_lights_fire_in_turn_and_frames_repeat() -> None:
    camera = StrobedCamera(RenderedWeb(1, 96, DENSE), 12.0, Rig(height_px=64), Motion(advance_px=8))
    first, again = list(camera.frames()), list(camera.frames())
    assert [frame.light for frame in first] == [k % 4 for k in range(len(first))]
    assert [frame.frame_id for frame in first] == list(range(len(first)))
    np.testing.assert_allclose(np.diff([frame.encoder_mm for frame in first]), 8 * 0.05)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert not one.pixels.flags.writeable


def test_noise_is_shot_and_read_noise() -> None:
    rig = Rig(height_px=64, bits=16, full_well_e=20_000.0, read_noise_e=12.0)
    camera = StrobedCamera(RenderedWeb(1, 512, CLEAN, coating=SMOOTH), 10.0, rig)
    calibration = camera.calibration
    assert calibration.flat is not None
    frame = next(camera.frames())
    per_electron = 65535 / 20_000
    expected = np.sqrt(calibration.flat[0] * per_electron + (12 * per_electron) ** 2)
    normalised = (frame.pixels - calibration.flat[0]) / expected
    assert normalised.std() == pytest.approx(1, abs=0.02)
    assert normalised.mean() == pytest.approx(0, abs=0.02)


def test_ramp_moves_less_while_slow() -> None:
    camera = StrobedCamera(RenderedWeb(1, 64, CLEAN), 200.0, Rig(height_px=64), Motion(8.0, 0.5, 2.0))
    at = np.array([position for position, _ in camera.motion.positions(190.0, 0.05)])
    steps = np.diff(at) / 0.05
    assert steps[0] == pytest.approx(2.0, abs=0.1)
    assert steps[-1] == pytest.approx(8.0, abs=0.2)
    assert (np.diff(steps) > 0).all()


def test_mirrored_transport_shows_rows_in_reverse() -> None:
    web = RenderedWeb(9, 64, DENSE)
    rigs = [Rig(height_px=32, bits=16, noise=False, transport_sign=sign) for sign in (1, -1)]
    forward, backward = (next(StrobedCamera(web, 4.0, rig).frames()) for rig in rigs)
    assert forward.encoder_mm == 0.0
    assert backward.encoder_mm == pytest.approx(31 * 0.05)
    np.testing.assert_allclose(forward.pixels, backward.pixels[::-1], rtol=2e-4, atol=1)
