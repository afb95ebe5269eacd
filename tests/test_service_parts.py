"""Parts of the service: events while the disk is full, metrics, the dashboard, the log."""

import json
import math
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.core.errors import ConfigError, EventsError
from edge.core.types import Alarm, Coverage, Defect, Frame, Surface
from edge.events import Envelope, EventWriter, Outbox, Subscriber
from edge.events.envelope import Body
from edge.service.folders import state_folder
from edge.service.health import Health, Sight
from edge.service.line import cache_folder
from edge.service.metrics import METRICS, Metrics, MetricsServer
from edge.service.resuming import Place
from edge.service.telling import MOST_WAITING, Telling

DASHBOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "foilsight.json"
SIGHT = Sight(now_s=10.0, camera="streaming", camera_detail="", heart_s=0.1, loop_s=0.1, stage_s=0.0, frames=40)


def cover(index: int, why: str = "") -> Coverage:
    return Coverage(from_row=10 * index, to_row=10 * index + 10, from_mm=0.5 * index, to_mm=0.5 * index + 0.5,
                    state="degraded" if why else "inspected", why=why)  # fmt: skip


def closed(number: int) -> Defect:
    return Defect(
        id=number, label="crack", phase="closed", box_mm=(0, 0, 1, 1), centroid_mm=(0, 0), area_mm2=1, length_mm=1,
        width_mm=1, orientation_deg=0, score_mean=1, score_max=1, contour_mm=[],
    )  # fmt: skip


class FullDisk(EventWriter):
    """A writer whose disk is full until it is not."""

    is_full = True

    def publish(self, *bodies: Body) -> list[Envelope]:
        if self.is_full:
            raise EventsError("outbox.sqlite: outbox cannot be written (database or disk is full)")
        return super().publish(*bodies)


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    with Outbox(tmp_path / "outbox.sqlite") as opened:
        yield opened


def writer_of(outbox: Outbox) -> FullDisk:
    return FullDisk(outbox, None, 1.0, line="t", roll="", model="m", calibration="c")


def test_what_the_disk_does_not_take_is_written_when_it_does(outbox: Outbox) -> None:
    with writer_of(outbox) as writer:
        telling = Telling(writer, Place())
        for index in range(40):
            telling.tell([closed(index), cover(index)])
        assert telling.problem is not None
        assert "disk is full" in telling.problem
        assert telling.waiting == 80
        writer.is_full = False
        telling.flush()
        assert (telling.problem, telling.waiting) == (None, 0)
        assert telling.place.covered_rows == 400
    events = list(outbox.since(0))
    assert [type(event.body) for event in events] == [Defect, Coverage] * 40
    assert [event.body.id for event in events if isinstance(event.body, Defect)] == list(range(40))


def test_who_listens_hears_at_once_that_events_wait_and_then_the_events(outbox: Outbox, tmp_path: Path) -> None:
    endpoint, heard, stop = f"ipc://{tmp_path}/pub.ipc", list[Any](), threading.Event()
    with FullDisk(outbox, endpoint, 0.1, line="t", roll="", model="m", calibration="c") as writer:
        telling = Telling(writer, Place())

        def listen() -> None:
            with Subscriber(endpoint, None, since=None, stop=stop) as events:
                for event in events:
                    heard.append(event)
                    if len(heard) == 1:
                        writer.is_full = True

        listening = threading.Thread(target=listen)
        listening.start()
        writer.is_full = False
        for index in range(600):
            telling.tell([cover(index)])
            if telling.problem is not None:
                break
            time.sleep(0.05)
        writer.is_full = False
        telling.flush()
        deadline_s = time.monotonic() + 30
        while outbox.last_seq not in {event.seq for event in heard}:
            assert time.monotonic() < deadline_s, heard
            time.sleep(0.02)
        stop.set()
        listening.join()
    (alarm,) = [event.body for event in heard if event.seq == 0]
    assert alarm.kind == "events_waiting"
    assert "disk is full" in alarm.detail
    seqs = [event.seq for event in heard if event.seq]
    assert seqs == list(range(seqs[0], outbox.last_seq + 1))


def test_a_disk_that_stays_full_costs_defects_but_neither_memory_nor_the_ledger(outbox: Outbox) -> None:
    with writer_of(outbox) as writer:
        telling = Telling(writer, Place())
        for index in range(3 * MOST_WAITING):
            telling.tell([closed(index), cover(index, "not seen under light 1" if index >= MOST_WAITING else "")])
            assert telling.waiting <= MOST_WAITING + 2
        writer.is_full = False
        telling.flush()
    events = [event.body for event in outbox.since(0)]
    covered = [body for body in events if isinstance(body, Coverage)]
    assert [each.from_row for each in covered] == [0, *(each.to_row for each in covered[:-1])]
    assert covered[-1].to_row == 30 * MOST_WAITING
    (alarm,) = [body for body in events if isinstance(body, Alarm)]
    assert alarm.kind == "events_lost"
    kept = [body.id for body in events if isinstance(body, Defect)]
    assert kept == list(range(3 * MOST_WAITING - len(kept), 3 * MOST_WAITING))
    merged = next(int(word) for word in alarm.detail.split() if word.isdecimal())
    assert merged == telling.lost == 3 * MOST_WAITING - len(kept)


def counted() -> Metrics:
    metrics = Metrics(["background", "crack", 'odd"one'], 2, 255.0)
    metrics.took("segmentation", 0.03)
    metrics.took("segmentation", 0.3)
    metrics.add_frame(Frame(np.full((32, 32), 51, np.uint8), 1, 0, 0.0, 0, 10.0))
    flat = np.zeros((3, 32, 32), np.float32)
    residual = np.full((32, 32), 0.01, np.float32)
    residual[0] = np.nan
    metrics.add_surface(Surface(flat, residual, residual, np.ones((32, 32), np.uint8), 0))
    metrics.add_event(closed(1))
    metrics.add_event(cover(0))
    metrics.add_event(Alarm(kind="dark", since="", detail=""))
    metrics.causes, metrics.queues = {"lost": 3}, {"ring": 7}
    metrics.shadow_strips, metrics.shadow_objects = {"compared": 9}, {"live": 2}
    metrics.look(SIGHT, 100.0)
    metrics.look(replace(SIGHT, now_s=12.0), 160.0)
    return metrics


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """As Prometheus reads them: name and labels, value."""
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_metrics_say_what_was_counted() -> None:
    shown = samples(counted().text(Health()))
    for name, labels, value in (
        ("health", {"state": "starting"}, 1),
        ("health", {"state": "blind"}, 0),
        ("frames_total", {}, 40),
        ("frames_lost_total", {"cause": "lost"}, 3),
        ("queue_depth", {"queue": "ring"}, 7),
        ("shadow_strips_total", {"what": "compared"}, 9),
        ("shadow_objects_total", {"found": "live"}, 2),
        ("stage_seconds_bucket", {"stage": "segmentation", "le": "0.025"}, 0),
        ("stage_seconds_bucket", {"stage": "segmentation", "le": "0.05"}, 1),
        ("stage_seconds_bucket", {"stage": "segmentation", "le": "+Inf"}, 2),
        ("stage_seconds_count", {"stage": "segmentation"}, 2),
        ("web_speed_mm_per_s", {}, 30),
        ("coverage_mm_total", {"state": "inspected"}, 0.5),
        ("lamp_level", {"light": "1"}, 0.2),
        ("checksum_level", {}, float(np.float32(0.01))),
        ("defects_total", {"class": "crack"}, 1),
        ("defects_total", {"class": 'odd"one'}, 0),
        ("alarms_total", {"kind": "dark"}, 1),
        ("events_total", {"topic": "defect"}, 1),
    ):
        assert shown[f"foilsight_{name}", frozenset(labels.items())] == value, (name, labels)


def test_two_lines_of_one_process_count_for_themselves() -> None:
    counted()
    fresh = samples(Metrics(["background", "crack"], 2, 255.0).text(Health()))
    assert fresh["foilsight_defects_total", frozenset({("class", "crack")})] == 0
    assert math.isnan(fresh["foilsight_checksum_level", frozenset()]), "a residual that nobody has measured"


def test_every_metric_is_described_once_and_shown_in_the_text_format() -> None:
    text = counted().text(Health())
    sample = re.compile(r'[a-z_]+(\{[a-z]+="(\\.|[^"\\])*"(,[a-z]+="(\\.|[^"\\])*")*\})? [-+.e0-9]+')
    for name, (kind, meaning) in METRICS.items():
        assert text.count(f"# TYPE {name} {kind}\n") == 1
        assert text.count(f"# HELP {name} {meaning}\n") == 1
        assert name.endswith("_total") == (kind == "counter")
    assert all(sample.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))


def test_metrics_are_served_on_this_machine_only() -> None:
    server = MetricsServer(0, lambda: "foilsight_frames_total 1\n")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=5) as answer:
            assert answer.read() == b"foilsight_frames_total 1\n"
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/../etc/passwd", timeout=5)
        refused.value.close()
        with pytest.raises(ConfigError, match="metrics_port"):
            MetricsServer(server.port, lambda: "")
        listening = Path("/proc/net/tcp").read_text().splitlines()
        ours = [line.split()[1] for line in listening if line.split()[1].endswith(f":{server.port:04X}")]
        assert "0100007F" in {address.partition(":")[0] for address in ours}
        assert "00000000" not in {address.partition(":")[0] for address in ours}
    finally:
        server.close()


def queries(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["expr"]] if "expr" in node else []
        return own + [query for value in node.values() for query in queries(value)]
    return [query for value in node for query in queries(value)] if isinstance(node, list) else []


def test_the_dashboard_asks_only_for_what_there_is() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {name for query in queries(dashboard) for name in re.findall(r"foilsight_\w+", query)}
    shown = {line.partition("{")[0].split()[0] for line in counted().text(Health()).splitlines() if line[0] != "#"}
    assert asked <= shown
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert set(METRICS) <= families | {"foilsight_web_mm_total"}, "a metric that nobody looks at"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in panels}) == len(panels)


LOGS = """
import logging
from edge.service.logging import service_log
log = service_log(line="coater 2")
log.warning("alarm", kind="dark", mm=12.5)
logging.getLogger("edge.events").warning("left %s behind", "tcp")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("fault")
"""


@pytest.mark.parametrize("journal", [False, True])
def test_the_log_is_a_json_object_a_line(journal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stderr.splitlines()
    if journal:
        assert [line[:3] for line in lines] == ["<4>", "<4>", "<3>"]
        lines = [line[3:] for line in lines]
    alarm, handed, fault = map(json.loads, lines)
    assert (alarm["message"], alarm["kind"], alarm["mm"], alarm["line"]) == ("alarm", "dark", 12.5, "coater 2")
    assert (handed["message"], handed["logger"], handed["line"]) == ("left tcp behind", "edge.events", "coater 2")
    assert "ZeroDivisionError" in fault["exception"]
    assert done.stdout == ""


def test_a_log_that_nobody_takes_ends_nothing() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", LOGS], stderr=full, timeout=60, check=False)
    assert done.returncode == 0


def test_folders_are_those_that_systemd_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/foilsight/cam1:/var/lib/other")
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/foilsight")
    assert (state_folder("a line"), cache_folder()) == (Path("/var/lib/foilsight/cam1"), Path("/var/cache/foilsight"))
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder("coater/2") == tmp_path / "foilsight" / "coater_2"
