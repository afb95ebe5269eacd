"""One of four lights misled: three solve the pixel. Two did, or nobody can say which: the pixel is not trusted."""

from dataclasses import replace

import numpy as np
import pytest
from lambertian import HEIGHT, ROWS, WIDTH, angle_deg, calibration, decided, rendered, source_rows, strip_of, tilted

from edge.core.calibration import Calibration
from edge.core.types import Strip, Surface
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import IDEAL, Optics
from edge.simulation.planting import DENSE
from edge.simulation.web import MARGIN, OVERSAMPLE, RenderedWeb
from edge.surface import NumpyKernel, SurfaceSolver
from edge.surface.matrices import SHADOW


def seen(slope_deg: float = 2, noise: float = 0.0) -> tuple[Strip, np.ndarray]:
    """A strip of albedo 0.7 and its true normals."""
    normals = tilted(slope_deg)
    strip = rendered(normals, np.full((ROWS, WIDTH), 0.7), source_rows())
    noisy = strip.planes * (1 + noise * np.random.default_rng(8).standard_normal(strip.planes.shape))
    return replace(strip, planes=noisy.astype(np.float32)), normals


def spoilt(strip: Strip, lamps: list[int], factor: float = 1.0, added: float = 0.0) -> tuple[Strip, np.ndarray]:
    """A strip with every seventh pixel changed under some lamps, and which (rows, w)."""
    there = (np.arange(ROWS * WIDTH) % 7 == 3).reshape(ROWS, WIDTH)
    planes = strip.planes.copy()
    for lamp in lamps:
        planes[lamp, there] = planes[lamp, there] * np.float32(factor) + np.float32(added)
    return replace(strip, planes=planes), there


def solved(strip: Strip, lights: Calibration | None = None) -> Surface:
    return SurfaceSolver(lights or calibration()).solve(strip)


@pytest.mark.parametrize("lamp", range(4))
@pytest.mark.parametrize(("factor", "added"), [(1.0, 0.5), (1.0, 3.0), (0.02, 0.0)], ids=["glint", "saturated", "cast"])
def test_one_affected_light_is_left_out(lamp: int, factor: float, added: float) -> None:
    clean, normals = seen()
    strip, there = spoilt(clean, [lamp], factor, added)
    surface, untouched = solved(strip), solved(clean)
    assert surface.valid.all()
    assert angle_deg(surface.normals, normals)[there].max() < 0.03
    np.testing.assert_allclose(surface.albedo[there], 0.7, rtol=1e-3)
    for name in ("normals", "albedo", "residual"):
        np.testing.assert_array_equal(getattr(surface, name)[..., ~there], getattr(untouched, name)[..., ~there])


def test_the_residual_still_tells_of_the_light_that_was_left_out() -> None:
    strip, there = spoilt(seen()[0], [2], added=0.5)
    assert solved(strip).residual[there].min() > 0.2


@pytest.mark.parametrize("lamps", [[0, 1], [0, 2], [1, 3], [2, 3]])
@pytest.mark.parametrize(("factor", "added"), [(1.0, 3.0), (0.001, 0.0)], ids=["saturated", "cast"])
def test_two_affected_lights_are_too_many(lamps: list[int], factor: float, added: float) -> None:
    strip, there = spoilt(seen()[0], lamps, factor, added)
    surface = solved(strip)
    assert not surface.valid[there].any()
    assert surface.valid[~there].all()


def test_a_shadow_beside_a_glint_is_one_too_many() -> None:
    strip, there = spoilt(seen()[0], [0], factor=0.02)
    strip, _ = spoilt(strip, [1], added=0.8)
    assert not solved(strip).valid[there].any()


def test_a_partial_shadow_is_seen_but_not_believed() -> None:
    strip, there = spoilt(seen()[0], [3], factor=0.5)
    assert not solved(strip).valid[there].any()


def test_what_is_not_trusted_is_what_all_four_lights_say() -> None:
    """The network sees these pixels too: better what it was trained on than a guess."""
    centred = np.full((4, ROWS), (HEIGHT - 1) / 2)
    strip, there = spoilt(rendered(tilted(2), np.ones((ROWS, WIDTH)), centred), [3], factor=0.5)
    lights = calibration()
    g = lights.light_directions / lights.light_directions[:, 2:]
    four = np.einsum("wik,krw->irw", np.linalg.pinv(g.transpose(2, 0, 1)), strip.planes)
    surface = solved(strip)
    assert angle_deg(surface.normals, four / np.linalg.norm(four, axis=0))[there].max() < 0.01


def test_a_glint_is_not_told_from_an_attached_shadow() -> None:
    """A wall so steep that the far light hardly reaches it: its light is too bright, or the other has lost a part."""
    strip, there = spoilt(seen()[0], [0], added=1.2)
    planes = strip.planes.copy()
    planes[2, there] = 0.15
    assert not solved(replace(strip, planes=planes)).valid[there].any()


@pytest.mark.parametrize("lamp", range(4))
def test_slopes_that_turn_away_from_a_light_are_solved_by_the_others(lamp: int) -> None:
    azimuth, polar = lamp * np.pi / 2, np.radians(35.2)  # the lamps stand at 55 degrees
    normals, middle = tilted(3), slice(90, 110)
    wall = [-np.sin(polar) * np.cos(azimuth), -np.sin(polar) * np.sin(azimuth), np.cos(polar)]
    normals[:, :, middle] = np.array(wall)[:, None, None]
    surface = solved(rendered(normals, np.ones((ROWS, WIDTH)), source_rows()))
    assert surface.valid[:, middle].mean() > 0.9
    assert angle_deg(surface.normals, normals)[surface.valid == 1].max() < 0.5


@pytest.mark.parametrize("lamp", range(4))
def test_a_shadow_is_believed_on_steep_ground_where_the_albedo_is_usual(lamp: int) -> None:
    clean, normals = seen(slope_deg=25)
    strip, there = spoilt(clean, [lamp], factor=0.01)
    surface = solved(strip)
    assert surface.valid.all()
    assert angle_deg(surface.normals, normals)[there].max() < 0.3


def test_a_shadow_is_not_believed_where_the_albedo_is_low_too() -> None:
    clean, _ = seen(slope_deg=25)
    strip, there = spoilt(clean, [0, 1, 2, 3], factor=0.7)
    strip, _ = spoilt(strip, [1], factor=0.01)
    surface = solved(strip)
    assert not surface.valid[there].any()
    assert surface.valid[~there].all()


def test_a_light_that_looks_dark_beside_a_glint_is_not_taken_for_a_shadow() -> None:
    """A wall of 30 degrees: what reaches it from behind is less than a twentieth of a strong glint."""
    clean, normals = seen()
    wall = np.broadcast_to(np.array([0.5, 0, np.sqrt(0.75)])[:, None, None], normals.shape)
    walls = rendered(wall, np.full((ROWS, WIDTH), 0.7), source_rows())
    glints, there = spoilt(walls, [0], added=1.0)
    surface = solved(replace(clean, planes=np.where(there, glints.planes, clean.planes)))
    assert not surface.valid[there].any()
    assert surface.valid[~there].all()


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_a_lamp_that_has_changed_everywhere_is_no_fault_of_a_pixel(factor: float) -> None:
    clean, _ = seen(noise=0.01)
    dimmed = replace(clean, planes=clean.planes * np.array([1, factor, 1, 1], np.float32)[:, None, None])
    assert solved(dimmed).valid.all()


def test_a_light_whose_loss_leaves_three_in_one_plane_is_not_left_out() -> None:
    polar = np.radians([-50, 0, 50])
    directions = [[np.sin(a), 0, np.cos(a)] for a in polar] + [[0, 0.8, 0.6]]
    vectors = np.repeat(np.array(directions)[:, :, None], WIDTH, axis=2)
    lights = replace(calibration(), light_directions=vectors, light_directions_per_row=0 * vectors)
    for lamp, spared in ((3, False), (1, True)):
        strip, there = spoilt(strip_of(np.ones((4, ROWS, WIDTH))), [lamp], added=2.0)
        surface = solved(strip, lights)
        assert surface.valid[there].any() == spared
        assert surface.valid[~there].all()


def planes_of(camera: StrobedCamera) -> np.ndarray:
    """What each light shows of the web at one place, corrected: (4, h, w)."""
    frames, lights = next(iter(camera.exposures())), camera.calibration
    assert lights.dark is not None
    assert lights.flat is not None
    return np.stack([(f.pixels - lights.dark[k]) / (lights.flat[k] - lights.dark[k]) for k, f in enumerate(frames)])


def fine_vectors(web: RenderedWeb, rows: int) -> np.ndarray:
    """Albedo * normal of the fine samples (3, fine rows, fine columns)."""
    height, albedo = web.fine(0, rows)
    inner, before, after = (slice(MARGIN + by, by - MARGIN) for by in (0, -1, 1))
    step = 2 * web.pitch_mm / OVERSAMPLE
    slope_x = (height[inner, after] - height[inner, before]) / step
    slope_y = (height[after, inner] - height[before, inner]) / step
    vectors = np.stack([-slope_x, -slope_y, np.ones_like(slope_x)])
    vectors *= albedo[inner, inner] / np.linalg.norm(vectors, axis=0)
    return vectors


def pixels_of(fine: np.ndarray) -> np.ndarray:
    """Means over the fine samples of each pixel (..., rows, w)."""
    *before, rows, columns = fine.shape
    return fine.reshape(*before, rows // OVERSAMPLE, OVERSAMPLE, columns // OVERSAMPLE, OVERSAMPLE).mean(axis=(-3, -1))


def true_vectors(web: RenderedWeb, rows: int) -> np.ndarray:
    """Mean of albedo * normal over each pixel (3, rows, w)."""
    return pixels_of(fine_vectors(web, rows))


class Rendered:
    """Dense web under some optics with 1 % noise: what the kernel makes of it, what four lights alone would, and by
    how much of the albedo each light is off what a matt surface that it reaches would send back."""

    def __init__(self, optics: Optics) -> None:
        web, rows = RenderedWeb(32, 1536, DENSE), 256
        camera = StrobedCamera(web, 14.4, Rig(height_px=rows, bits=16, noise=False, optics=optics), Motion())
        fine = fine_vectors(web, rows)
        self.lights, self.b = camera.calibration, pixels_of(fine)
        rho = np.linalg.norm(self.b, axis=0)
        q = planes_of(camera)
        z = self.lights.light_directions[:, 2:]
        g, by_row = self.lights.light_directions / z, self.lights.light_directions_per_row
        by_row = (by_row - g * by_row[:, 2:]) / z
        r = np.arange(rows) - (rows - 1) / 2
        matt = np.einsum("kiw,irw->krw", g, self.b) + np.einsum("r,kiw,irw->krw", r, by_row, self.b)
        self.off = (q - matt) / rho
        below = [np.maximum(-np.einsum("iw,irw->rw", np.repeat(gk, OVERSAMPLE, axis=1), fine), 0) for gk in g]
        self.turned_away = np.stack([pixels_of(fine_part) for fine_part in below]) / rho
        noise = 0.01 * np.sqrt(np.maximum(q, 0.02)) * np.random.default_rng(0).standard_normal(q.shape)
        self.strip = Strip(
            planes=np.minimum(q + noise, q.max()).astype(np.float32),
            lights_seen=np.full((rows, 1), 15, np.uint8),
            source_row=np.tile(np.arange(rows, dtype=np.float32), (4, 1)),
            first_row=0,
        )
        self.surface = SurfaceSolver(self.lights).solve(self.strip)
        self.error_deg = angle_deg(self.surface.normals, self.b / rho)
        inverse = np.linalg.pinv(g.transpose(2, 0, 1)).transpose(1, 2, 0)
        four = np.einsum("ikw,krw->irw", inverse, self.strip.planes - np.einsum("r,kiw,irw->krw", r, by_row, self.b))
        self.plain_error_deg = angle_deg(four / np.linalg.norm(four, axis=0), self.b / rho)

    def affected_by_one(self, kind: str) -> np.ndarray:
        """(rows, w): where one light is off, and by a glint; or in shadow: dark, attached in part or cast in part."""
        size = np.abs(self.off)
        there = (size.max(axis=0) > 0.06) & (np.sort(size, axis=0)[2] < 0.03)
        at = size.argmax(axis=0)[None]
        q, off, attached = (np.take_along_axis(x, at, 0)[0] for x in (self.strip.planes, self.off, self.turned_away))
        glint = off - attached > np.maximum(attached, 0.03)
        dark = ~glint & (q <= SHADOW * self.strip.planes.max(axis=0))
        by_slope = attached > np.abs(off - attached)
        kinds = {
            "glint": glint,
            "dark": dark,
            "attached": ~glint & ~dark & by_slope,
            "cast": ~glint & ~dark & ~by_slope,
        }
        return there & kinds[kind]


GLOSS = Optics(gloss=1.0, roughness=0.1, cast_shadows=True)
SHEEN = Optics(gloss=0.6, roughness=0.2, cast_shadows=True)
SHADOWS = Optics(cast_shadows=True)


@pytest.fixture(scope="module")
def glossy() -> Rendered:
    return Rendered(GLOSS)


@pytest.fixture(scope="module")
def sheen() -> Rendered:
    return Rendered(SHEEN)


@pytest.fixture(scope="module")
def shadowed() -> Rendered:
    return Rendered(SHADOWS)


@pytest.fixture(scope="module")
def matt() -> Rendered:
    return Rendered(IDEAL)


def test_rendered_glints_of_one_light_lose_three_quarters_of_their_error_and_more(glossy: Rendered) -> None:
    affected = (glossy.off > 0.06).sum(axis=0) == 1
    affected &= np.sort(np.abs(glossy.off), axis=0)[2] < 0.03
    assert affected.sum() > 1000
    assert glossy.plain_error_deg[affected].mean() > 5
    assert glossy.error_deg[affected].mean() < 0.25 * glossy.plain_error_deg[affected].mean()
    assert glossy.surface.valid[affected].mean() > 0.9


@pytest.mark.parametrize(
    ("web", "kind", "most_error", "least_valid"),
    [
        ("glossy", "glint", 0.15, 0.9),
        ("sheen", "glint", 0.24, 0.95),
        ("shadowed", "dark", 0.25, 0.8),
        ("shadowed", "attached", 1.03, 0.0),
        ("shadowed", "cast", 1.02, 0.0),
    ],
)
def test_what_is_reached_where_one_light_is_affected(
    web: str, kind: str, most_error: float, least_valid: float, request: pytest.FixtureRequest
) -> None:
    """Why partial shadows keep the error of four lights is said in `edge.surface.fallback`."""
    shown: Rendered = request.getfixturevalue(web)
    affected = shown.affected_by_one(kind)
    assert affected.sum() > 100
    assert shown.error_deg[affected].mean() < most_error * shown.plain_error_deg[affected].mean()
    assert shown.surface.valid[affected].mean() > least_valid


@pytest.mark.parametrize(("web", "least"), [("glossy", 0.45), ("sheen", 0.22), ("shadowed", 0.84)])
def test_what_is_reached_where_two_lights_are_affected(web: str, least: float, request: pytest.FixtureRequest) -> None:
    """Of those pixels so many are not trusted. More: see `edge.surface.fallback`."""
    shown: Rendered = request.getfixturevalue(web)
    affected = np.sort(np.abs(shown.off), axis=0)[2] > 0.06
    assert affected.sum() > 100
    assert 1 - shown.surface.valid[affected].mean() > least
    assert shown.error_deg[affected].mean() < shown.plain_error_deg[affected].mean()


def test_rendered_pixels_with_two_affected_lights_get_no_worse(glossy: Rendered) -> None:
    affected = (np.abs(glossy.off) > 0.06).sum(axis=0) >= 2
    assert affected.sum() > 500
    assert glossy.error_deg[affected].mean() < glossy.plain_error_deg[affected].mean()


@pytest.mark.parametrize("web", ["glossy", "matt"])
def test_unaffected_web_stays_as_it_was(web: str, request: pytest.FixtureRequest) -> None:
    shown: Rendered = request.getfixturevalue(web)
    fine = np.abs(shown.off).max(axis=0) < 0.03
    assert fine.mean() > 0.9
    changed = np.abs(shown.error_deg - shown.plain_error_deg) > 0.01
    assert changed[fine].mean() < 1e-3
    assert shown.surface.valid[fine].mean() > 0.9999
    assert np.median(shown.error_deg[fine]) == pytest.approx(np.median(shown.plain_error_deg[fine]), rel=1e-3)


def test_the_kernel_equals_the_reference_on_glossy_relief(glossy: Rendered) -> None:
    reference = SurfaceSolver(glossy.lights, NumpyKernel).solve(glossy.strip)
    steady = decided(glossy.lights, glossy.strip, reference)
    assert steady.mean() > 0.999
    np.testing.assert_array_equal(glossy.surface.valid[steady], reference.valid[steady])
    np.testing.assert_allclose(glossy.surface.normals[:, steady], reference.normals[:, steady], atol=1e-5)
    np.testing.assert_allclose(glossy.surface.albedo[steady], reference.albedo[steady], rtol=1e-5, atol=1e-6)
