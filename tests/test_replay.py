"""From a recorded web to defect events, as a user runs it."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Foilsight

from edge.core.config import Config, DefectsConfig, EventsConfig
from edge.core.types import ClassMap, FrameSource
from edge.core.web_axes import WebAxes
from edge.defects.joiner import DefectJoiner
from edge.recording.reader import Recording
from edge.recording.writer import RecordingWriter
from edge.service.evaluate import evaluate
from edge.service.replay import ReplayOptions, replay
from edge.service.report import Report
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import CLEAN, DENSE, LABELS, blade_trail
from edge.simulation.web import RenderedWeb

pytestmark = pytest.mark.golden


@pytest.fixture
def config() -> Config:
    """Events on addresses of this test's own."""
    with socket.socket() as one, socket.socket() as other:
        ports = []
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    return Config(events=EventsConfig(publish=f"tcp://127.0.0.1:{ports[0]}", replay=f"tcp://127.0.0.1:{ports[1]}"))


@pytest.fixture
def replayed(config: Config) -> Callable[..., Report]:
    """Replay quietly into a folder."""

    def run(source: FrameSource, folder: Path, keep: str = "") -> Report:
        return replay(source, "web", "roll 1", config, folder, ReplayOptions(keep=frozenset(keep.split()), quiet=True))

    return run


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


def test_report_says_what_became_of_the_web(recording: Path, tmp_path: Path, replayed: Callable[..., Report]) -> None:
    report = replayed(Recording(recording), tmp_path, "surface classes")
    parts = report.inspected_mm + report.degraded_mm + report.uninspected_mm + report.edge_mm
    assert parts == pytest.approx(report.web_mm)
    assert report.web_mm == pytest.approx(Recording(recording).web_mm, abs=0.06)
    assert report.uninspected_mm == 0
    assert {d.label for d in report.defects} == {"agglomeration", "crack", "cavity", "blade_trail"}
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["web_mm"] == report.web_mm
    assert set(written["latency_ms"]) == {"p50", "p99", "p999", "max"}
    rows = round(report.web_mm / 0.05)
    normals, albedo = np.load(tmp_path / "normals.npy"), np.load(tmp_path / "albedo.npy")
    assert normals.shape == (3, rows, 512) and normals.dtype == np.float32
    assert albedo.shape == np.load(tmp_path / "residual.npy").shape == (rows, 512)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-5)
    assert cv2.imread(str(tmp_path / "classes.png")).shape == (rows, 512, 3)
    assert not list(tmp_path.glob(".*.part"))


def test_events_tell_the_same_as_the_report(recording: Path, tmp_path: Path, replayed: Callable[..., Report]) -> None:
    report = replayed(Recording(recording), tmp_path)
    events = events_of(tmp_path)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["roll"] for event in events} == {"roll 1"}
    assert {event["calibration"] for event in events} == {Recording(recording).calibration.digest}
    coverage = [event["body"] for event in events if event["topic"] == "coverage"]
    assert coverage[0]["from_row"] == 0
    assert all(one["to_row"] == other["from_row"] for one, other in pairwise(coverage))
    assert coverage[-1]["to_mm"] == pytest.approx(report.web_mm)
    phases: dict[int, list[str]] = {}
    for event in events:
        if event["topic"] == "defect":
            phases.setdefault(event["body"]["id"], []).append(event["body"]["phase"])
            assert sum(len(polygon) for polygon in event["body"]["contour_mm"]) <= 256
    for each in phases.values():
        assert each[0] == "opened" and each[-1] == "closed"
        assert set(each[1:-1]) <= {"continued"}


def test_replaying_twice_gives_the_same_events_but_for_times(
    recording: Path, tmp_path: Path, replayed: Callable[..., Report]
) -> None:
    runs = []
    for name in ("first", "second"):
        replayed(Recording(recording), tmp_path / name)
        events = events_of(tmp_path / name)
        runs.append([{k: v for k, v in event.items() if k not in ("time", "stream")} for event in events])
    assert runs[0] == runs[1]
    replayed(Recording(recording), tmp_path / "second")
    assert len(events_of(tmp_path / "second")) == len(runs[1]), "an earlier replay's events must not stay"


def test_truth_is_read_where_it_is_asked_for_and_no_more(tmp_path: Path) -> None:
    rows, width, piece = 40_000, 64, 1000
    truth = np.random.default_rng(1).integers(0, 5, (rows, width), np.uint8)
    camera = StrobedCamera(RenderedWeb(1, width, CLEAN), 20.0, Rig(height_px=16))
    path = tmp_path / "long.mcap"
    with RecordingWriter(path, camera.calibration) as writer:
        for frame in camera.frames():
            writer.write(frame)
        for first_row in range(0, rows, piece):
            writer.write_truth_classes(first_row, truth[first_row : first_row + piece])
    recording = Recording(path)
    tracemalloc.start()
    assert recording.has_truth
    for first_row, count in ((0, 5), (990, 20), (1999, 1), (17_950, 2100), (rows - 3, 3)):
        np.testing.assert_array_equal(recording.truth_rows(first_row, count), truth[first_row : first_row + count])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < truth.nbytes / 2
    assert not recording.truth_rows(rows, 10).any(), "nothing was said of web beyond the truth"
    assert recording.truth_rows(rows - 1, 2).shape == (2, width)


def test_unseen_dense_web_is_found(config: Config) -> None:
    camera = StrobedCamera(RenderedWeb(78, 1024, DENSE), 120.0, Rig())
    truth = camera.web.classes(0, camera.rows)
    result = evaluate(camera, truth, config, quiet=True)
    assert result.planted > 100 and result.object_recall is not None and result.object_precision is not None
    assert result.object_recall >= 0.9
    assert result.object_precision >= 0.9
    elsewhere = evaluate(camera, np.roll(truth, (211, 307), axis=(0, 1)), config, quiet=True)
    assert elsewhere.object_recall is not None and elsewhere.object_precision is not None
    assert elsewhere.object_recall < 0.2 and elsewhere.object_precision < 0.3, "the comparison must be able to fail"


@pytest.fixture
def one_crack_more(recording: Path, tmp_path: Path) -> Path:
    """The recording with a crack in its truth that is not in the web, whatever a network finds."""
    source, path = Recording(recording), tmp_path / "more.mcap"
    truth = source.truth_rows(0, round(source.web_mm / source.calibration.pitch_mm))
    free = cv2.erode((truth == 0).astype(np.uint8), np.ones((90, 30)))
    row, column = np.argwhere(free[400:800])[0] + (400, 0)
    truth[row - 30 : row + 30, column - 2 : column + 2] = LABELS.index("crack")
    with RecordingWriter(path, source.calibration) as writer:
        for frame in source.frames():
            writer.write(frame)
        writer.write_truth_classes(0, truth)
    return path


def test_evaluation_leaves_a_page_of_what_went_wrong(
    one_crack_more: Path, tmp_path: Path, foilsight: Foilsight
) -> None:
    (tmp_path / "c.toml").write_text("[defects.classes.agglomeration]\nmin_area_mm2 = 1000.0\n")
    plain = foilsight("evaluate", one_crack_more, "--config", tmp_path / "c.toml", "--json")
    done = foilsight("evaluate", one_crack_more, "--config", tmp_path / "c.toml", "--report", tmp_path / "e", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(plain.stdout)
    assert set(json.loads(done.stdout)) == {
        *("object_recall", "object_precision", "planted", "events", "uninspected", "false_in_degraded", "per_class"),
    }
    assert json.loads(done.stdout)["per_class"]["agglomeration"]["planted"] == 0, "none is that large"
    crack = json.loads(done.stdout)["per_class"]["crack"]
    assert 0 < crack["found"] < crack["planted"]
    page = (tmp_path / "e" / "evaluation.html").read_text()
    pictures = re.findall(r'src="(objects/missed_crack_[^"]+)"', page)
    assert pictures and all((tmp_path / "e" / name).stat().st_size for name in pictures)
    found, planted = (
        (panel.max(axis=2) - panel.min(axis=2) > 60).mean()
        for panel in np.hsplit(cv2.imread(str(tmp_path / "e" / pictures[0]))[30:310], 6)[4:]
    )
    assert planted > found, "what was missed shows in the truth and not in the events"


def test_long_blade_trail_is_one_defect(tmp_path: Path, replayed: Callable[..., Report]) -> None:
    trail = blade_trail(6.0, 20.0, 400.0, half_width_mm=0.2, steepest_deg=12.0, sway_mm=0.1)
    camera = StrobedCamera(RenderedWeb(5, 256, CLEAN, extra=(trail,)), 450.0, Rig())
    report = replayed(camera, tmp_path)
    bodies = [event["body"] for event in events_of(tmp_path) if event["topic"] == "defect"]
    assert [body["phase"] for body in bodies if body["phase"] != "continued"] == ["opened", "closed"]
    (defect,) = report.defects
    assert defect.label == "blade_trail"
    assert defect.length_mm == pytest.approx(400.4, abs=1.0)


def test_long_blade_trail_is_measured_from_truth_masks() -> None:
    trail = blade_trail(6.0, 20.0, 400.0, half_width_mm=0.2, steepest_deg=12.0)
    web = RenderedWeb(5, 256, CLEAN, extra=(trail,))
    joiner = DefectJoiner(LABELS, DefectsConfig(), WebAxes(web.pitch_mm), web.width_px)
    found = []
    for first_row in range(0, 9000, 250):
        classes = web.classes(first_row, 250)
        found += joiner.push(ClassMap(classes, np.full_like(classes, 255), first_row))
    found += joiner.finish()
    assert [defect.phase for defect in found if defect.phase != "continued"] == ["opened", "closed"]
    reach = 2 * 0.92 * 0.2
    assert found[-1].length_mm == pytest.approx(400.0 + reach, abs=0.2)
    assert found[-1].width_mm == pytest.approx(reach, abs=0.2)


def test_rendered_recording_shows_its_truth(recording: Path, tmp_path: Path, foilsight: Foilsight) -> None:
    done = foilsight("replay", recording, "--report", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    (sheet, *_) = [cv2.imread(str(path)) for path in (tmp_path / "r" / "defects").glob("agglomeration*.png")]
    panels = np.hsplit(sheet[30:310, : sheet.shape[1] // 5 * 5], 5)
    found, planted = ((panel.max(axis=2) - panel.min(axis=2) > 60).mean() for panel in panels[3:])
    assert found > 0.05 and planted == pytest.approx(found, rel=0.3), "what was found and what was planted, in colour"


def test_torn_recording_is_said_to_be_torn(recording: Path, tmp_path: Path, foilsight: Foilsight) -> None:
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(recording.read_bytes()[: recording.stat().st_size // 2])
    done = foilsight("replay", torn, "--report", tmp_path / "r", "--json")
    assert "torn" in json.loads(done.stdout)["notes"][0]
    assert "torn" in (tmp_path / "r" / "report.html").read_text()


def test_page_shows_what_it_links_to(recording: Path, tmp_path: Path, replayed: Callable[..., Report]) -> None:
    replayed(Recording(recording), tmp_path)
    page = (tmp_path / "report.html").read_text()
    files = set(re.findall(r'(?:src|href)="([^"#:]+)"', page))
    assert {"roll_map.png", "roll_albedo.png", "events.jsonl", "report.json"} < files
    assert any(name.startswith("sections/") for name in files) and any(name.startswith("defects/") for name in files)
    assert all((tmp_path / name).stat().st_size for name in files)
    assert not re.search(r"https?://", page), "nothing is fetched"


def test_clean_web_is_said_to_be_seen_and_clean(tmp_path: Path, replayed: Callable[..., Report]) -> None:
    report = replayed(StrobedCamera(RenderedWeb(3, 256, CLEAN), 40.0, Rig(transport_sign=-1)), tmp_path)
    assert report.defects == []
    page = (tmp_path / "report.html").read_text()
    assert "Nothing found" in page and f"{report.seen_mm:.1f} mm of web, 12.8 mm wide, were inspected" in page


def test_lost_frames_show_in_the_report(recording: Path, tmp_path: Path, replayed: Callable[..., Report]) -> None:
    class Lossy:
        calibration = Recording(recording).calibration
        web_mm = None

        def frames(self) -> Any:
            return (f for f in Recording(recording).frames() if not 14 <= f.frame_id < 25)

    report = replayed(Lossy(), tmp_path)
    assert report.frames_lost == 11
    assert sum(each.to_mm - each.from_mm for each in report.not_inspected) == pytest.approx(
        report.degraded_mm + report.uninspected_mm + report.edge_mm
    )
    assert "inside the roll were not seen" in (tmp_path / "report.html").read_text()
    assert report.uninspected_mm > 0 and report.degraded_mm > 0
    parts = report.inspected_mm + report.degraded_mm + report.uninspected_mm + report.edge_mm
    assert parts == pytest.approx(report.web_mm)


def test_command_line_prints_one_json_object(recording: Path, tmp_path: Path, foilsight: Foilsight) -> None:
    done = foilsight("replay", recording, "--report", tmp_path / "r", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["backend"] == "openvino" and report["defects"]
    assert (tmp_path / "r" / "roll_map.png").stat().st_size > 10_000


def test_ctrl_c_ends_cleanly_with_a_report(recording: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from edge.cli import main; main()", "replay", str(recording)]
    command += ["--rate", "0.004", "--report", str(tmp_path / "r")]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    outbox = tmp_path / "r" / "outbox.sqlite"
    for _ in range(300):
        if outbox.exists():
            break
        time.sleep(0.1)
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, complaint = running.communicate(timeout=60)
    assert running.returncode == 1, complaint
    assert "Traceback" not in complaint
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["stopped"] and report["web_mm"] < 60
