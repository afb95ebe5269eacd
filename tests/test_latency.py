"""The latency benchmark counts from the right strobe, and tells change from noise."""

import time

import numpy as np
import pytest

from benchmarks.latency import asked, compared, summary
from benchmarks.latency_run import FRAME_MM, STAGES, Run, Stamped, Told, latencies_ms
from edge.core.config import Config
from edge.core.types import F32, U8, Coverage, Defect
from edge.segmentation.model import load_model
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import CLEAN
from edge.simulation.web import RenderedWeb

ADVANCE_MM, INTERVAL_NS = 1.6, 100_000_000
FRAMES = [(500 + index * ADVANCE_MM, index * INTERVAL_NS, index % 4) for index in range(40)]


def opened(last_mm: float, phase: str = "opened") -> Defect:
    return Defect(
        id=1, label="crack", phase=phase, box_mm=(1, last_mm - 1, 2, last_mm), centroid_mm=(1.5, last_mm), area_mm2=1,
        length_mm=1, width_mm=1, orientation_deg=0, score_mean=1, score_max=1, contour_mm=[],
    )  # fmt: skip


def kept(bodies: list[Defect | Coverage]) -> Told:
    told = Told()
    for body in bodies:
        told.add([body])
    return told


def test_latency_counts_from_the_last_of_the_lights_that_see_the_row_best() -> None:
    """Frame 10 has its middle on the row: of its neighbours, frames 9, 11 and 8 or 12 are nearest of their lights."""
    row_mm = 10 * ADVANCE_MM + FRAME_MM / 2
    (ms,) = latencies_ms(kept([opened(row_mm)]).opened, {1: 20 * INTERVAL_NS}, FRAMES, 0)
    assert ms in (pytest.approx(900), pytest.approx(800))


def test_only_what_was_opened_after_the_start_and_arrived_counts() -> None:
    told = kept([opened(10.0, "closed"), opened(FRAME_MM), opened(40.0)]).opened
    assert len(latencies_ms(told, {1: 10**9, 2: 10**9, 3: 4 * 10**9}, FRAMES, 15 * INTERVAL_NS)) == 1
    assert latencies_ms(told, {}, FRAMES, 0) == []


def test_degraded_rows_at_the_ends_of_a_roll_are_no_loss() -> None:
    def degraded(from_mm: float, to_mm: float) -> Coverage:
        rows = round(from_mm / 0.05), round(to_mm / 0.05)
        return Coverage(
            from_row=rows[0], to_row=rows[1], from_mm=from_mm, to_mm=to_mm, state="degraded", why="three lights"
        )

    assert kept([degraded(1.6, 3.2), degraded(50.0, 60.0), degraded(96.8, 98.4)]).rows_at_ends(0.05) == 64


def run_of(ms: np.ndarray) -> dict[str, object]:
    return {"run": {"ms": ms.tolist()}}


def test_a_change_is_told_from_noise() -> None:
    rng = np.random.default_rng(1)
    one, same, slower = (rng.normal(mean, 10, 400) for mean in (100, 100, 110))
    assert all("noise" in line for line in compared(run_of(one), run_of(same)))
    assert "slower" in compared(run_of(one), run_of(slower))[0]
    assert "faster" in compared(run_of(slower), run_of(one))[0]


def test_a_run_that_found_nothing_is_not_whole() -> None:
    assert not run_with([]).whole


def run_with(ms: list[float]) -> Run:
    """At 1 mm a second, a strip of 200 ms, a halo of 70 ms, 40 ms of computing."""
    stages_ms = {"camera": 1.0, "assembly, surface": 8.0, "wait": 500.0, "segmentation": 30.0}
    stages_ms["defects, outbox, publish"] = 2.0
    return Run(0.06, ms, len(ms), 0, 0, 100, stages_ms, 200.0, 70.0, 1.0, 100.0, 60.0)


def test_a_late_tail_and_a_late_median_are_each_told() -> None:
    (tail, most_tail), (median, most_median) = asked(run_with([300.0] * 2000)).values()
    assert (tail, most_tail) == (300.0, 900.0) and (median, most_median) == (300.0, 200.0 + 70.0 + 2 * 40.0)
    assert "NOT MET" not in summary(run_with([300.0] * 2000), None, 50.0)
    assert summary(run_with([300.0] * 997 + [950.0] * 3), None, 50.0).count("NOT MET") == 1
    assert summary(run_with([360.0] * 2000), None, 50.0).count("NOT MET") == 1


class Slow:
    """Takes 20 ms to find nothing."""

    name, precision = "slow", "f32"

    def infer(self, surface: F32) -> tuple[U8, U8]:
        time.sleep(0.02)
        nothing = np.zeros(surface[:, 0].shape, np.uint8)
        return nothing, nothing


def test_each_stage_of_a_strip_is_stamped() -> None:
    """The one that is known to be slow is told to be, and no strip has left before it was exposed."""
    camera = StrobedCamera(RenderedWeb(1, 64, CLEAN), 80.0)
    with Stamped(camera.calibration, load_model(None).info, Slow(), Config(), lambda bodies: None) as line:
        for frame in camera.frames():
            line.push(frame)
        line.finish()
    stages_ms = line.stages_ms(0)
    assert tuple(stages_ms) == STAGES
    assert stages_ms["segmentation"] >= 20 and min(stages_ms.values()) >= 0
    assert line.stages_ms(1 << 62) == {}
