"""The line as it runs: camera process, ring, stages, events."""

import json
import multiprocessing
import resource
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import genicam
import msgspec
import pytest
from conftest import Foilsight
from rendered_camera import RenderedCamera

from edge.core.config import CameraConfig, Config, EventsConfig
from edge.core.types import Defect
from edge.recording.reader import Recording
from edge.service.line import Line
from edge.service.replay import ReplayOptions, replay
from edge.service.run import record, run
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb

WEB = StrobedCamera(RenderedWeb(83, 512, DENSE), 80.0)
FPS = 100.0


def config_for(folder: Path) -> Config:
    events = EventsConfig(publish=f"ipc://{folder}/pub.ipc", replay=f"ipc://{folder}/router.ipc")
    return Config(camera=CameraConfig(ring_mb=17), events=events)


def line_for(**options: Any) -> Line:
    return Line(WEB.calibration, partial(RenderedCamera, web=WEB, fps=FPS, **options))


def nameless(defects: list[Defect]) -> list[Defect]:
    return sorted((msgspec.structs.replace(defect, id=0) for defect in defects), key=lambda d: d.box_mm)


def test_a_live_web_gives_the_defects_of_its_replay(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    live = run(line_for(), config, tmp_path / "live", length_mm=WEB.web_mm, quiet=True)
    replayed = replay(WEB, "web", "", config, tmp_path / "replay", ReplayOptions(quiet=True))
    assert live.frames == replayed.frames == WEB.frame_count
    assert live.frames_lost == 0
    assert len(replayed.defects) > 20
    assert nameless(live.defects) == nameless(replayed.defects)
    assert (live.inspected_mm, live.uninspected_mm, live.web_mm) == (
        replayed.inspected_mm,
        replayed.uninspected_mm,
        replayed.web_mm,
    )


def test_frames_of_lamps_plugged_in_the_wrong_way_are_never_used(tmp_path: Path) -> None:
    line = line_for(cross_wired=True, signalled=signal.SIGTERM)
    live = run(line, config_for(tmp_path), tmp_path / "live", quiet=True)
    assert live.defects == []
    assert live.inspected_mm == live.degraded_mm == 0
    assert any("image of another light" in note for note in live.notes)


def test_a_signal_ends_the_line_with_its_report(tmp_path: Path) -> None:
    live = run(line_for(signalled=signal.SIGINT), config_for(tmp_path), tmp_path / "live", quiet=True)
    assert live.stopped
    assert live.web_mm > 0
    assert json.loads((tmp_path / "live" / "report.json").read_bytes())["stopped"]


def test_what_is_recorded_is_what_the_camera_saw(tmp_path: Path) -> None:
    out = tmp_path / "live.mcap"
    recorded = record(line_for(), config_for(tmp_path), out, length_mm=WEB.web_mm, quiet=True)
    assert (recorded.frames, recorded.dropped, recorded.problem) == (WEB.frame_count, 0, None)
    for seen, frame in zip(WEB.frames(), Recording(out).frames(), strict=True):
        assert (frame.light, frame.encoder_mm) == (seen.light, pytest.approx(seen.encoder_mm))
        assert (frame.pixels == seen.pixels).all()


@pytest.mark.parametrize("disk_is_full", [False, True])
def test_a_line_that_records_goes_on_inspecting_where_the_disk_is_full(tmp_path: Path, disk_is_full: bool) -> None:
    out = tmp_path / "live.mcap"

    def fill_disk() -> None:
        while not out.exists() or not out.stat().st_size:
            time.sleep(0.01)
        (recorder,) = [each for each in multiprocessing.active_children() if each.name == "recorder"]
        assert recorder.pid is not None
        resource.prlimit(recorder.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    filling = threading.Thread(target=fill_disk if disk_is_full else lambda: None)
    filling.start()
    line = Line(WEB.calibration, partial(RenderedCamera, web=WEB, fps=20.0))
    live = run(line, config_for(tmp_path), tmp_path / "live", length_mm=WEB.web_mm, quiet=True, out=out)
    filling.join()
    assert live.frames == WEB.frame_count
    assert live.uninspected_mm == 0
    assert any("live.mcap" in note for note in live.notes) == disk_is_full
    if not disk_is_full:
        assert Recording(out).frame_count == WEB.frame_count


def test_a_line_without_camera_or_calibration_says_what_is_missing(tmp_path: Path, foilsight: Foilsight) -> None:
    empty, without = tmp_path / "empty.toml", tmp_path / "without.toml"
    empty.write_text("")
    without.write_text('[camera]\ndevice = "x"\n')
    for config, missing in ((empty, "camera.device"), (without, "calibration")):
        done = foilsight("run", "--config", config)
        assert done.returncode == 2
        assert done.stderr.startswith(f"foilsight: {missing}: ")
        assert done.stderr.count("\n") == 1


def test_cameras_are_listed_with_what_each_can_do(tmp_path: Path, foilsight: Foilsight) -> None:
    """Against the producer that comes with the genicam package, whose cameras have no trigger."""
    producer = Path(str(genicam.__file__)).parent / "viky.cti"
    if not producer.exists():
        pytest.skip("this genicam package brings no producer")
    config = tmp_path / "config.toml"
    config.write_text(f'[camera]\nproducers = ["{producer}"]\n')
    done = foilsight("cameras", "--config", config)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stdout.splitlines() if not line.startswith(" ")]) == 3
    assert done.stdout.count("cannot be used as configured: this camera lets nobody set its trigger") == 3


def test_the_simulated_camera_is_listed_with_its_plan(tmp_path: Path, foilsight: Foilsight) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[camera]\ndevice = "simulated"\n[camera.simulated]\nlength_mm = 20.0\nwidth_px = 64\n')
    done = foilsight("cameras", "--config", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("simulated\n")
    assert "    SequencerMode = On\n" in done.stdout
