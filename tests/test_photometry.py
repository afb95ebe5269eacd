"""Normals of a moving web against its known shape, through exposure, assembly and surface."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.normals import NOISE_FLOOR_DEG_PER_PERCENT, errors_by_class, noise_percent, solve
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.planting import CLEAN, DENSE
from edge.simulation.web import SMOOTH, RenderedWeb


@pytest.mark.parametrize(("advance_px", "sign"), [(32.0, 1), (32.0, -1), (29.3, 1)])
def test_normals_are_true_without_noise(advance_px: float, sign: int) -> None:
    rig = Rig(bits=16, noise=False, transport_sign=sign)
    figures = errors_by_class(StrobedCamera(RenderedWeb(1, 512, DENSE), 60.0, rig, Motion(advance_px)))
    for label in ("agglomeration", "blade_trail"):
        median, p95 = figures[label]
        assert median <= 0.3 and p95 <= 1.0, (label, figures)
    assert figures["background"][0] <= 0.05


def test_noise_costs_its_floor_and_no_more() -> None:
    figures = errors_by_class(StrobedCamera(RenderedWeb(1, 512, DENSE), 40.0, Rig()))
    floor = NOISE_FLOOR_DEG_PER_PERCENT * noise_percent(Rig())
    assert 0.7 * floor < figures["background"][0] < 1.2 * floor


def test_flat_web_has_no_tilt_that_repeats_with_the_strobes() -> None:
    """Near lights and four strobes a period: rows seen at other image rows must not look tilted differently."""
    rig = Rig(bits=16, noise=False)
    for advance_px in (32.0, 30.4):
        solved = solve(StrobedCamera(RenderedWeb(1, 512, CLEAN, coating=SMOOTH), 60.0, rig, Motion(advance_px)))
        rows = np.flatnonzero(solved.whole.all(axis=1))
        tilt_deg = np.degrees(solved.normals[:2, rows])
        assert np.abs(tilt_deg).max() <= 0.05


def test_the_height_of_a_strip_changes_nothing() -> None:
    camera = StrobedCamera(RenderedWeb(2, 128, DENSE), 30.0, Rig(height_px=128), Motion(16.0))
    solved = [solve(camera, strip_rows).normals for strip_rows in (16, 48, 256)]
    for one, other in pairwise(solved):
        np.testing.assert_array_equal(one, other)
