"""Dark and flat field from good web, and the camera's linearity: rendered and made-up frames of known truth."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Foilsight
from numpy.typing import NDArray

from benchmarks.normals import solve
from calibration.response import fit_dark, fit_flat, fit_linearity
from edge.core.calibration import Calibration
from edge.core.errors import CalibrationError
from edge.core.types import Frame
from edge.recording.reader import Recording
from edge.recording.writer import RecordingWriter
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.optics import Optics
from edge.simulation.planting import CLEAN, PRODUCTION
from edge.simulation.web import RenderedWeb

AMBIENT = 0.05
RIG = Rig(height_px=128, optics=Optics(ambient=AMBIENT, vignetting=0.3))
MOTION = Motion(advance_px=16.0)
WIDTH = 128


def quiet(_done: int) -> None:
    pass


@dataclass
class Exposures:
    """`count` frames of lights 0..3 in turn, their counts `level` (n, h, w) times texture of 4 %."""

    calibration: Calibration
    level: NDArray[np.float64]
    count: int
    advance_mm: float = 1.0
    exposure_us: float = 20.0
    texture: float = 0.04
    web_mm: float | None = None

    def frames(self) -> Iterator[Frame]:
        rng = np.random.default_rng(7)
        lights = self.calibration.lights
        for index in range(self.count):
            seen = self.level[index % lights] * rng.normal(1, self.texture, self.level.shape[1:])
            pixels = np.clip(np.rint(seen), 0, self.calibration.white).astype(np.uint8)
            yield Frame(pixels, index % lights, index, index * self.advance_mm, index, self.exposure_us)


def write(path: Path, source: Exposures | StrobedCamera, calibration: Calibration) -> Path:
    with RecordingWriter(path, calibration) as writer:
        for frame in source.frames():
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def camera() -> StrobedCamera:
    return StrobedCamera(RenderedWeb(5, WIDTH, replace(PRODUCTION, stains=200.0)), 1000.0, RIG, MOTION)


@pytest.fixture(scope="module")
def truth(camera: StrobedCamera) -> Calibration:
    """The true calibration, stray light included."""
    exact = camera.calibration
    assert exact.dark is not None and exact.flat is not None
    stray = np.float32(AMBIENT * (RIG.flat_level - RIG.dark_level) * RIG.white)
    return replace(exact, dark=exact.dark + stray, flat=exact.flat + stray)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, camera: StrobedCamera, truth: Calibration) -> tuple[Path, Path]:
    """A metre of web and its dark frames, recorded with a calibration that knows nothing of the flat field."""
    folder = tmp_path_factory.mktemp("flat")
    assert truth.dark is not None
    unknowing = replace(truth, dark=None, flat=None)
    dark = Exposures(truth, truth.dark.astype(float), 40)
    return write(folder / "web.mcap", camera, unknowing), write(folder / "dark.mcap", dark, unknowing)


def median_error_deg(camera: StrobedCamera, calibration: Calibration) -> float:
    """Of the normals of a web replayed with a calibration."""

    class Replayed(StrobedCamera):
        @property
        def calibration(self) -> Calibration:  # type: ignore[override]
            return calibration

        def frames(self) -> Iterator[Frame]:
            return camera.frames()

    solved = solve(Replayed(camera.web, camera.length_mm, camera.rig, camera.motion))
    true = camera.web.normals(0, solved.normals.shape[1])
    error = np.degrees(np.arccos(np.clip((solved.normals * true).sum(axis=0), -1, 1)))
    return float(np.median(error[solved.whole]))


def test_flat_of_a_rendered_web_is_nearly_the_true_one(
    tmp_path: Path, foilsight: Foilsight, recorded: tuple[Path, Path], truth: Calibration
) -> None:
    web, dark = recorded
    out = tmp_path / "line.zip"
    done = foilsight("calibrate", "flat", web, "--dark", dark, "--out", out)
    assert done.returncode == 0, done.stderr
    fitted = Calibration.load(out)
    assert fitted.flat is not None and fitted.dark is not None
    assert truth.flat is not None and truth.dark is not None
    error = (fitted.flat - fitted.dark) / (truth.flat - truth.dark) - 1
    assert 100 * np.sqrt((error**2).mean()) < 0.7
    assert 100 * np.abs(error.mean(axis=(1, 2)) - error.mean()).max() < 0.25, "lamps against each other"
    [fit] = fitted.fits
    assert (fit.what, fit.sources) == ("flat", ["web.mcap", "dark.mcap"])
    assert 0.5 < fit.scores["error_percent"] / (100 * error.std()) < 2
    other = StrobedCamera(RenderedWeb(9, WIDTH, PRODUCTION), 60.0, RIG, MOTION)
    assert median_error_deg(other, fitted) < 1.2 * median_error_deg(other, truth)


def test_directions_of_a_lights_file_are_taken(
    tmp_path: Path, foilsight: Foilsight, recorded: tuple[Path, Path]
) -> None:
    web, dark = recorded
    vectors = ("[2, 0, 2]", "[0, 1, 1]", "[-1, 0, 1]", "[0, -1, 1]")
    lights = tmp_path / "lights.toml"
    lights.write_text("".join(f'[[light]]\ndirection = {vector}\nfiles = "x.png"\n' for vector in vectors))
    out = tmp_path / "line.zip"
    done = foilsight("calibrate", "flat", web, "--dark", dark, "--out", out, "--lights", lights)
    assert done.returncode == 0, done.stderr
    fitted = Calibration.load(out)
    assert np.allclose(fitted.light_directions[0, :, 17], [0.5**0.5, 0, 0.5**0.5])
    again = tmp_path / "again.zip"
    done = foilsight("calibrate", "flat", web, "--dark", dark, "--out", again, "--base", out)
    assert done.returncode == 0, done.stderr
    refitted = Calibration.load(again)
    assert np.array_equal(refitted.light_directions, fitted.light_directions), "those of the base"
    assert [fit.sources for fit in refitted.fits] == [["web.mcap", "dark.mcap"]], "the latest flat field's alone"
    lights.write_text("".join(f'[[light]]\ndirection = {vector}\nfiles = "x.png"\n' for vector in vectors[:3]))
    refused = foilsight("calibrate", "flat", web, "--dark", dark, "--out", out, "--lights", lights)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "has 3 lights" in refused.stderr


LEVEL = np.full((4, 16, 48), 110.0) * np.linspace(0.8, 1.2, 48)
DARK = np.full((4, 16, 48), 4.0, np.float32)


@pytest.fixture(scope="module")
def small() -> Calibration:
    return StrobedCamera(RenderedWeb(1, 48, CLEAN), 20.0, Rig(height_px=16)).calibration


def test_a_blade_trail_through_a_third_of_the_web_leaves_no_trace(small: Calibration) -> None:
    class Trailed(Exposures):
        def frames(self) -> Iterator[Frame]:
            for frame in super().frames():
                pixels = frame.pixels.copy()
                if frame.frame_id > 2 * self.count / 3:
                    pixels[:, 20:23] = 250
                yield replace(frame, pixels=pixels)

    field = fit_flat(Trailed(small, LEVEL, 1200), DARK, "web", quiet)
    signal = field.flat - field.dark
    assert abs(signal[:, :, 20:23].mean() / (LEVEL - DARK)[:, :, 20:23].mean() - 1) < 0.005


def test_memory_does_not_grow_with_the_web(small: Calibration) -> None:
    peaks = []
    for count in (400, 1600):
        tracemalloc.start()
        fit_flat(Exposures(small, LEVEL, count), DARK, "web", quiet)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 20}, "light 0 has 5 frames"),
        ({"count": 80, "texture": 0.2}, "mm of web are too few"),
        ({"advance_mm": 0.0}, "stood still"),
        ({"level": LEVEL * 3}, "light 0 saturates"),
        ({"level": DARK.astype(float) + 1}, "hardly brighter than the dark"),
        (
            {"level": np.where(np.arange(48) == 7, DARK, LEVEL)},
            "light 0 does not reach 16 pixels, the first at row 0, col",
        ),
    ],
)
def test_what_makes_no_flat_field_is_refused(small: Calibration, change: dict[str, object], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        fit_flat(replace(Exposures(small, LEVEL, 400), **change), DARK, "web", quiet)  # type: ignore[arg-type]


def test_a_light_without_dark_frames_is_named(small: Calibration) -> None:
    with pytest.raises(CalibrationError, match="dark: 7 dark frames of light 3"):
        fit_dark(Exposures(small, DARK.astype(float), 31), "dark")


def steps(small: Calibration, exposures_us: list[float], bend: float = 0.0) -> list[Exposures]:
    """A camera whose counts sag by the part `bend` of full scale at half of it."""
    levels = [4 + 2.4 * exposure for exposure in exposures_us]
    sagging = [level - bend * 255 * (1 - (level / 127.5 - 1) ** 2) for level in levels]
    ones = np.ones((4, 16, 48))
    return [
        Exposures(small, ones * level, 8, exposure_us=us, texture=0.01)
        for us, level in zip(exposures_us, sagging, strict=True)
    ]


def test_a_straight_camera_is_found_straight_and_a_bent_one_bent(small: Calibration) -> None:
    times = [1.0, 20.0, 40.0, 60.0, 80.0, 95.0]
    straight = fit_linearity(steps(small, times), quiet)
    assert straight.worst_percent < 0.1
    assert np.allclose(straight.slopes, 2.4, rtol=0.01)
    bent = fit_linearity(steps(small, times, bend=0.03), quiet)
    line = np.polynomial.Polynomial.fit(times, bent.counts[0], 1)
    expected = 100 * np.abs(bent.counts[0] - line(np.array(times))).max() / 255
    assert bent.worst_percent == pytest.approx(expected, abs=0.1)
    assert bent.worst_percent > 1


@pytest.mark.parametrize(
    ("exposures_us", "says"),
    [
        ([10.0, 30.0, 50.0, 70.0], "4 exposure times"),
        ([10.0, 30.0, 50.0, 70.0, 120.0], "120 us under light 0 saturate 100.0 %"),
        ([10.0, 12.0, 14.0, 16.0, 18.0], "counts under light 0 go from 28 to 47 of 255"),
    ],
)
def test_a_series_to_judge_nothing_by_is_refused(small: Calibration, exposures_us: list[float], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        fit_linearity(steps(small, exposures_us), quiet)


def test_linearity_is_told_and_kept(tmp_path: Path, foilsight: Foilsight, small: Calibration) -> None:
    series = steps(small, [1.0, 20.0, 40.0, 60.0, 80.0, 95.0], bend=0.03)
    paths = [write(tmp_path / f"{index}.mcap", one, small) for index, one in enumerate(series)]
    out = tmp_path / "line.zip"
    done = foilsight("calibrate", "linearity", *paths, "--out", out)
    assert done.returncode == 1, done.stderr
    assert "bent" in done.stdout
    [fit] = Calibration.load(out).fits
    assert fit.scores["deviation_percent"] > 1
    assert Recording(paths[0]).calibration.digest == small.digest
