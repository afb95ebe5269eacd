"""The line on the simulated camera: GenTL producer, Harvesters, camera process, ring, stages; and what a plant does."""

import os
from pathlib import Path

import msgspec
import pytest

from edge.core.config import CameraConfig, Config, EventsConfig, SimulatedConfig
from edge.core.errors import CameraError
from edge.core.types import Defect
from edge.service.line import configured_line
from edge.service.replay import ReplayOptions, replay
from edge.service.report import Report
from edge.service.run import run
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.producer import producer
from edge.simulation.web import RenderedWeb

LENGTH_MM, WIDTH_PX, FPS = 120.0, 256, 50.0
ADVANCE_MM, FRAME_MM = 1.6, 12.8
WEB = StrobedCamera(RenderedWeb(2024, WIDTH_PX, DENSE), LENGTH_MM)


def inspected(folder: Path, script: str = "", length_mm: float = LENGTH_MM, repeats: bool = False) -> Report:
    faults = None
    if script:
        faults = folder / "faults.toml"
        faults.write_text(script)
    simulated = SimulatedConfig(
        length_mm=LENGTH_MM, width_px=WIDTH_PX, frames_per_s=FPS, repeats=repeats, faults=faults
    )
    config = Config(
        camera=CameraConfig(device="simulated", simulated=simulated),
        events=EventsConfig(publish=f"ipc://{folder}/pub.ipc", replay=f"ipc://{folder}/router.ipc"),
    )
    with configured_line(config, quiet=True) as line:
        report = run(line, config, folder / "live", length_mm, quiet=True)
    total = report.inspected_mm + report.degraded_mm + report.uninspected_mm + report.edge_mm
    assert total == pytest.approx(report.web_mm)
    return report


def nameless(defects: list[Defect]) -> list[Defect]:
    return sorted((msgspec.structs.replace(defect, id=0) for defect in defects), key=lambda d: (d.box_mm, d.label))


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("replay")
    config = Config(events=EventsConfig(publish=f"ipc://{folder}/pub.ipc", replay=f"ipc://{folder}/router.ipc"))
    return replay(WEB, "web", "", config, folder / "report", ReplayOptions(quiet=True))


def test_the_simulated_camera_shows_the_web_of_the_replay(tmp_path: Path, replayed: Report) -> None:
    live = inspected(tmp_path)
    assert (live.frames, live.frames_lost, live.frames_unusable) == (WEB.frame_count, 0, 0)
    assert len(replayed.defects) > 30
    assert nameless(live.defects) == nameless(replayed.defects)
    assert (live.inspected_mm, live.web_mm) == (replayed.inspected_mm, replayed.web_mm)


@pytest.mark.parametrize(
    ("script", "counted", "said"),
    [
        ('kind = "lost"\nat_frame = 20\ncount = 3', ("frames_lost", 3), ""),
        ('kind = "incomplete"\nat_frame = 20\ncount = 2', ("frames_unusable", 2), "frames arrive incomplete"),
        ('kind = "dark"\nat_frame = 20\ncount = 2\nlight = 2', ("frames_unusable", 2), "a lamp did not fire"),
        ('kind = "wrong_light"\nat_frame = 20\ncount = 1\nvalue = 3', ("frames_lost", 1), "image of another light"),
    ],
    ids=["lost", "incomplete", "dark", "wrong light"],
)
def test_frames_that_cannot_be_used_are_counted_and_make_no_defect(
    tmp_path: Path, replayed: Report, script: str, counted: tuple[str, int], said: str
) -> None:
    live = inspected(tmp_path, f"[[fault]]\n{script}\n")
    name, count = counted
    assert getattr(live, name) == count
    assert said in " ".join(live.notes)
    assert live.web_mm == replayed.web_mm
    assert abs(len(live.defects) - len(replayed.defects)) <= 0.1 * len(replayed.defects)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('kind = "crash"\nat_frame = 20', "the camera process ended while streaming"),
        ('kind = "trigger_stops"\nat_frame = 20\nvalue = 0.4', ""),
        ('kind = "device_lost"\nat_frame = 20\nvalue = 2.0', "the camera"),
        ('kind = "hang"\nat_frame = 20\nvalue = 0.4', "frames arrive incomplete"),
    ],
    ids=["crash", "trigger stops", "device lost", "hang"],
)
def test_inspection_goes_on_behind_what_the_camera_did_not_see(tmp_path: Path, script: str, said: str) -> None:
    live = inspected(tmp_path, f"[[fault]]\n{script}\n", length_mm=600.0, repeats=True)
    assert live.web_mm == pytest.approx(600.0, abs=ADVANCE_MM)
    gaps = [piece for piece in live.not_inspected if piece.state == "uninspected" and piece.why not in ("start", "end")]
    assert len(gaps) == 1
    assert gaps[0].from_mm == pytest.approx(20 * ADVANCE_MM + FRAME_MM, abs=FRAME_MM)
    assert gaps[0].to_mm < 500.0
    assert any(defect.box_mm[1] > gaps[0].to_mm for defect in live.defects)
    assert said in " ".join(live.notes)


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CameraError, match="no C compiler: install gcc"):
        producer(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.cti"))
    assert os.environ["PATH"] == str(tmp_path)
