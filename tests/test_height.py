"""Heights from normals: against surfaces with known heights, drawn and rendered, seen by a camera and not."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_surface_robust import Rendered

from edge.core.types import F32
from edge.simulation.optics import Optics
from edge.simulation.planting import AGGLOMERATION, CAVITY, CRACK, DENSE
from edge.simulation.web import RenderedWeb
from edge.surface.height import curvature_per_mm, depth_um, height_um

PITCH_MM = 0.05
F64 = NDArray[np.float64]


def normals_of(slope_x: F64, slope_y: F64) -> F32:
    normals = np.stack([-slope_x, -slope_y, np.ones_like(slope_x)])
    return (normals / np.linalg.norm(normals, axis=0)).astype(np.float32)


def place_mm(rows: int, width: int) -> tuple[F64, F64]:
    y, x = np.indices((rows, width)) * PITCH_MM
    return x, y


def off_plane(error: F64) -> F64:
    """What remains of it beside height and tilt of the whole window, of which normals say little."""
    y, x = np.indices(error.shape)
    plane = np.stack([np.ones(error.size), x.ravel(), y.ravel()], axis=1)
    fit = np.linalg.lstsq(plane, error.ravel(), rcond=None)[0]
    return error - (plane @ fit).reshape(error.shape)


@pytest.mark.parametrize("size", [(200, 240), (91, 64)])
def test_a_wavy_surface_comes_out_as_it_was_drawn(size: tuple[int, int]) -> None:
    x, y = place_mm(*size)
    true_um = 30 * np.sin(2 * x) * np.cos(1.3 * y + 0.4) + 5 * x + 2 * y
    slope_x = 0.06 * np.cos(2 * x) * np.cos(1.3 * y + 0.4) + 0.005
    slope_y = -0.039 * np.sin(2 * x) * np.sin(1.3 * y + 0.4) + 0.002
    found = height_um(normals_of(slope_x, slope_y), PITCH_MM)
    assert found.shape == size
    assert found.dtype == np.float32
    assert np.abs(found - (true_um - true_um.mean())).max() < 0.005


def test_a_single_row_has_heights_too() -> None:
    x, _ = place_mm(1, 50)
    found = height_um(normals_of(0.01 * x, 0 * x), PITCH_MM)
    np.testing.assert_allclose(found, 5 * x**2 - (5 * x**2).mean(), atol=1e-3)


@pytest.mark.parametrize("hollow", [False, True])
def test_curvature_of_a_ball_is_one_over_its_radius(hollow: bool) -> None:
    x, y = (axis - axis.mean() for axis in place_mm(80, 100))
    normals = np.stack([x, y, np.sqrt(100 - x * x - y * y)]) / 10
    normals[:2] *= -1 if hollow else 1
    curvature = curvature_per_mm(normals.astype(np.float32), PITCH_MM)
    np.testing.assert_allclose(curvature, -0.1 if hollow else 0.1, rtol=1e-3)


def test_noise_from_pixel_to_pixel_hardly_grows_with_the_window() -> None:
    """1 degree of noise in every normal: less than 1.5 micrometres in a window eight times as wide."""
    random, rms = np.random.default_rng(0), {}
    for side in (64, 512):
        slopes = np.radians(1) * random.standard_normal((2, side, side))
        rms[side] = off_plane(height_um(normals_of(*slopes), PITCH_MM).astype(float)).std()
    assert rms[64] < 0.9
    assert rms[512] < 1.5 * rms[64]


def test_a_tilt_that_is_wrong_all_along_bends_the_window_and_spares_the_depth() -> None:
    """A degree more at one edge of 51 mm than at the other, and a dent of 20 micrometres, 1 mm wide."""
    x, y = (axis - axis.mean() for axis in place_mm(256, 256))
    r2 = np.minimum((x * x + y * y) / 0.25, 1)
    dent = -0.02 * (1 - r2) ** 2
    slope = 0.02 * 4 * (1 - r2) / 0.25
    wrong = np.tan(np.radians(1)) * x / 51
    found = height_um(normals_of(slope * x + wrong, slope * y), PITCH_MM)
    bent = off_plane(found - 1e3 * dent)
    assert 4 < np.ptp(bent) < 10
    assert depth_um(found, r2 < 0.85) == pytest.approx(-20, abs=0.5)


def test_depth_is_against_what_lies_beside_the_defect() -> None:
    """A scratch along web that waves by far more than the scratch is deep."""
    x, y = place_mm(160, 240)
    web = 60 * np.sin(0.9 * x) + 25 * y
    across = np.abs(y - 4 - 0.3 * np.sin(x)) / 0.15
    scratch = (web - 12 * np.maximum(1 - across**2, 0) ** 2).astype(np.float32)
    assert depth_um(scratch, across < 0.9) == pytest.approx(-12, abs=1)
    assert depth_um(-scratch, across < 0.9) == pytest.approx(12, abs=1)
    at_the_edge = scratch[:, 100:], (across < 0.9)[:, 100:]
    assert depth_um(*at_the_edge) == pytest.approx(-12, abs=1)


@pytest.mark.parametrize("mask", [np.zeros((20, 20), bool), np.ones((20, 20), bool)], ids=["none", "all"])
def test_without_defect_or_surroundings_there_is_no_depth(mask: NDArray[np.bool_]) -> None:
    with pytest.raises(ValueError, match="defect"):
        depth_um(np.zeros((20, 20), np.float32), mask)


class Measured:
    """Dense web, rendered: its normals, true heights and, of every defect in whole, the window and its pixels."""

    def __init__(self, normals: F32, web: RenderedWeb, rows: int) -> None:
        self.normals, self.true_um = normals, 1e3 * web.heights(0, rows)
        self.pitch_mm, self._classes, self._web, self._rows = web.pitch_mm, web.classes(0, rows), web, rows

    def window_rms_um(self, side: int) -> float:
        """Root mean square of what is wrong with heights in windows of this side, median over windows."""
        rms = []
        for top in range(0, self._rows - side + 1, side):
            for left in range(0, self._web.width_px - side + 1, side):
                window = np.s_[top : top + side, left : left + side]
                found = height_um(self.normals[:, *window], self.pitch_mm)
                rms.append(off_plane((found - self.true_um[window]).astype(float)).std())
        return float(np.median(rms))

    def depths_um(self, class_index: int) -> tuple[F64, F64]:
        """Depths by the true heights and by the normals, of a window three times the defect."""
        _, labels, boxes, _ = cv2.connectedComponentsWithStats((self._classes == class_index).astype(np.uint8))
        pairs = []
        for label, (x, y, w, h, area) in enumerate(boxes):
            if label == 0 or y == 0 or y + h == self._rows or area < 5:
                continue
            margin = max(w, h, 10)
            window = np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]
            found = height_um(self.normals[:, *window], self.pitch_mm)
            pairs.append([depth_um(each, labels[window] == label) for each in (self.true_um[window], found)])
        true, measured = np.array(pairs).T
        return true, measured


WEB = RenderedWeb(32, 1536, DENSE)


@pytest.fixture(scope="module")
def ideal() -> Measured:
    return Measured(WEB.normals(0, 256), WEB, 256)


@pytest.fixture(scope="module")
def photographed() -> Measured:
    """Normals as a camera of four lights with 1 % of noise and the solver have them, shadows among them."""
    return Measured(Rendered(Optics(cast_shadows=True)).surface.normals, WEB, 256)


def test_true_normals_give_true_heights(ideal: Measured) -> None:
    assert ideal.window_rms_um(128) < 0.4
    for class_index in (AGGLOMERATION, CAVITY, CRACK):
        true, found = ideal.depths_um(class_index)
        assert len(true) >= 5
        assert np.median(np.abs(found / true - 1)) < 0.05


def test_heights_that_a_camera_sees(photographed: Measured) -> None:
    """Micrometres of a web whose relief is tens: 0.2 in a window of 3 mm, 0.6 in one of 13."""
    assert photographed.window_rms_um(64) < 0.4
    assert photographed.window_rms_um(256) < 1.0


@pytest.mark.parametrize(
    ("class_index", "low", "high"),
    [(AGGLOMERATION, 0.96, 1.02), (CAVITY, 0.9, 1.08), (CRACK, 0.78, 0.95)],
    ids=["agglomeration", "cavity", "crack"],
)
def test_depths_that_a_camera_sees(photographed: Measured, class_index: int, low: float, high: float) -> None:
    """Cracks and the smallest cavities, 2 to 4 pixels wide, come out too shallow: a pixel averages over their walls,
    and lights are lost on them."""
    true, found = photographed.depths_um(class_index)
    assert len(true) >= 5
    assert (np.sign(true) == (1 if class_index == AGGLOMERATION else -1)).all()
    assert low < np.median(found / true) < high
