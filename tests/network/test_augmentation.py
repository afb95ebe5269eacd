"""What turns a patch over turns what it was measured from; and rare, small and difficult things are seen."""

import numpy as np
import pytest

from calibration.network.augmentation import (
    MIRRORS,
    OF_PHOTOGRAPHS,
    SYMMETRIES,
    Augmentation,
    Symmetry,
    augmentation_for,
)
from calibration.network.sampling import PatchSampler
from edge.core.calibration import Calibration
from edge.core.types import Strip
from edge.segmentation.surface_channels import CHANNELS, write_channels
from edge.surface import NumpyKernel, SurfaceSolver

SIDE = 40
AZIMUTH = np.radians([45.0, 135.0, 225.0, 315.0])
POLAR = np.radians(55.0)
LIGHTS = np.stack([np.sin(POLAR) * np.cos(AZIMUTH), np.sin(POLAR) * np.sin(AZIMUTH), np.full(4, np.cos(POLAR))], axis=1)


def surface_of(planes: np.ndarray) -> np.ndarray:
    """Channels (5, SIDE, SIDE) of four images under distant lights on the diagonals, by the solver of the line."""
    directions = np.repeat(LIGHTS[:, :, None], SIDE, axis=2)
    lights = Calibration(
        height=SIDE,
        width=SIDE,
        light_directions=directions,
        light_directions_per_row=0 * directions,
        dark=None,
        flat=None,
        white=1.0,
        pitch_mm=0.05,
        transport_sign=1,
        origin="test",
    )
    strip = Strip(
        planes=np.ascontiguousarray(planes, np.float32),
        lights_seen=np.packbits(np.ones((SIDE, 4), np.uint8), axis=1, bitorder="little"),
        source_row=np.full((4, SIDE), SIDE / 2, np.float32),
        first_row=0,
    )
    out = np.empty((len(CHANNELS), SIDE, SIDE), np.float32)
    write_channels(SurfaceSolver(lights, NumpyKernel).solve(strip), CHANNELS, slice(None), out)
    return out


def seen_by(symmetry: Symmetry) -> list[int]:
    """For each light, the one that now takes its place: where its direction points when the web is turned over."""
    turned = LIGHTS[:, [1, 0, 2]] if symmetry.transposed else LIGHTS.copy()
    turned[:, 0] *= -1 if symmetry.mirrored_x else 1
    turned[:, 1] *= -1 if symmetry.mirrored_y else 1
    return [int(np.linalg.norm(turned - light, axis=1).argmin()) for light in LIGHTS]


@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=str)
def test_a_surface_turned_over_is_the_surface_of_the_images_turned_over(symmetry: Symmetry) -> None:
    random = np.random.default_rng(5)
    slopes = random.normal(0, 0.15, (2, SIDE, SIDE))
    normals = np.stack([*slopes, np.ones((SIDE, SIDE))])
    normals /= np.linalg.norm(normals, axis=0)
    planes = 0.7 * np.einsum("kc,cyx->kyx", LIGHTS, normals) * random.normal(1, 0.01, (4, SIDE, SIDE))
    images_turned = symmetry.of_plane(planes)[seen_by(symmetry)]
    surface = surface_of(planes)
    assert np.abs(surface[CHANNELS.index("residual")]).mean() > 1e-3, "a checksum that could change its sign"
    np.testing.assert_allclose(symmetry.of_surface(surface, CHANNELS), surface_of(images_turned), atol=1e-5)


def test_a_quarter_turn_reverses_the_checksum_and_a_half_turn_does_not() -> None:
    quarter, half = Symmetry(True, True, False), Symmetry(False, True, True)
    residual = np.ones((1, 2, 2), np.float32)
    assert (quarter.of_surface(residual, ["residual"]) == -1).all()
    assert (half.of_surface(residual, ["residual"]) == 1).all()


def test_webs_keep_their_direction_of_transport_and_photographs_do_not() -> None:
    assert augmentation_for(["normal_x", "normal_y", "albedo"]).symmetries == MIRRORS
    assert augmentation_for(["gray"]) == OF_PHOTOGRAPHS
    surface = np.zeros((1, 64, 64), np.float32)
    surface[0, 30:34, 8:56] = 1  # a line along x
    truth = (surface[0] > 0).astype(np.uint8)
    for symmetries, ways in ((MIRRORS, {(48, 4)}), (SYMMETRIES, {(48, 4), (4, 48)})):
        sampler = PatchSampler([(surface, truth)], ["gray"], 2, 64, 0, Augmentation(symmetries))
        drawn, drawn_truth = sampler.draw(30)
        np.testing.assert_array_equal(drawn[:, 0] > 0, drawn_truth > 0)
        boxes = {(int(t.any(axis=0).sum()), int(t.any(axis=1).sum())) for t in drawn_truth}
        assert boxes == ways


def test_photographs_of_any_size_make_patches_with_their_truth() -> None:
    images = []
    for height, width in ((30, 200), (100, 45), (90, 90)):
        truth = np.zeros((height, width), np.uint8)
        truth[10:25, 12:30] = 1
        images.append((0.25 + 0.5 * truth[None].astype(np.float32), truth))
    drawn, truth = PatchSampler(images, ["gray"], 2, 64, 3, OF_PHOTOGRAPHS).draw(60)
    assert drawn.shape == (60, 1, 64, 64)
    levels = [
        (patch[0][mask == 1].mean(), patch[0][mask == 0].mean())
        for patch, mask in zip(drawn, truth, strict=True)
        if (mask == 1).any() and (mask == 0).any()
    ]
    assert all(inside - outside > 0.2 for inside, outside in levels), "the truth moves with its image"
    assert np.ptp([outside for _, outside in levels]) > 0.05, "brighter and darker"
    assert np.ptp((truth == 1).sum(axis=(1, 2))) > 0.3 * 15 * 18, "zoomed"


def test_a_large_component_is_not_shown_more_often_than_small_ones_of_its_class() -> None:
    truth = np.zeros((400, 400), np.uint8)
    truth[10:110, 10:110] = 1
    for at in range(4):
        truth[300:303, 20 + 90 * at : 23 + 90 * at] = 1
    sampler = PatchSampler([(np.zeros((1, 400, 400), np.float32), truth)], ["gray"], 2, 32, 0)
    _, drawn = sampler.draw(400)
    near = drawn[1::2]
    small = ((near == 1).sum(axis=(1, 2)) <= 9).mean()
    assert small > 0.7, "four of five components are small"
