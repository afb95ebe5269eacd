"""`foilsight run --service`: what the service manager, the outbox and Prometheus see of a line."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rendered_camera import RenderedCamera

from edge.core.config import CameraConfig, Config, EventsConfig, ServiceConfig
from edge.core.types import Alarm, Coverage, Defect, Frame, Status
from edge.events import Envelope, Outbox
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend
from edge.service import health as health_module
from edge.service.health import Health
from edge.service.line import Line
from edge.service.notify import ServiceManager
from edge.service.report import OUTBOX
from edge.service.resuming import BEHIND_A_RESTART, NOT_RUNNING
from edge.service.serving import serve
from edge.service.watch import Watch
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb

WEB = StrobedCamera(RenderedWeb(83, 512, DENSE), 60.0)
GRAFANA = Path(__file__).parents[1] / "deploy" / "grafana" / "foilsight.json"
ORIGIN: dict[str, Any] = {"line": "t", "roll": "", "model": "m", "calibration": "c"}


@dataclass(frozen=True)
class FurtherOn:
    """The web again, where the encoder says so."""

    web: StrobedCamera
    encoder_mm: float

    def frames(self) -> Iterator[Frame]:
        return (replace(frame, encoder_mm=frame.encoder_mm + self.encoder_mm) for frame in self.web.frames())


class Manager:
    """A service manager that listens, and has the line stopped once it waits for more web, and `may_stop`."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("")
        self.address = "@" + self.socket.getsockname()[1:].decode()
        self.heard: list[str] = []
        self.may_stop = threading.Event()
        self.may_stop.set()
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        while self.heard[-1:] != ["over"]:
            lines = self.socket.recv(4096).decode().splitlines()
            self.heard += lines
            if any("inspecting: waiting" in line for line in lines) and self.may_stop.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
                self.may_stop.clear()

    def __enter__(self) -> "Manager":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"over", "\0" + self.address[1:])
        self._thread.join()
        self.socket.close()

    def wait_for(self, line: str, since: int) -> None:
        """Until a line is heard after so many."""
        deadline_s = time.monotonic() + 60
        while line not in self.heard[since:]:
            assert time.monotonic() < deadline_s, self.heard[-5:]
            time.sleep(0.05)


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with Manager() as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", listening.address)
        yield listening


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(health_module, "HOLD_S", 1.0)
    events = EventsConfig(publish=f"ipc://{tmp_path}/pub.ipc", replay=f"ipc://{tmp_path}/router.ipc")
    return Config(camera=CameraConfig(ring_mb=17), events=events, service=ServiceConfig(metrics_port=0))


def line_at(encoder_mm: float) -> Line:
    camera = partial(RenderedCamera, web=FurtherOn(WEB, encoder_mm), fps=100.0)
    return Line(WEB.calibration, camera)  # type: ignore[arg-type]


def told(folder: Path) -> list[Envelope]:
    with Outbox(folder / "state" / OUTBOX) as outbox:
        return list(outbox.since(0))


def bodies(events: list[Envelope], kind: type) -> list[Any]:
    return [event.body for event in events if isinstance(event.body, kind)]


@pytest.mark.golden
def test_a_line_tells_its_manager_and_goes_on_where_it_was(
    tmp_path: Path, config: Config, manager: Manager, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    serve(line_at(0.0), config)
    manager.wait_for("STATUS=stopped: asked to", 0)
    said = list(manager.heard)
    assert said.count("READY=1") == 1
    assert said.index("READY=1") < said.index("WATCHDOG=1", said.index("READY=1")) < said.index("STOPPING=1")
    output = capfd.readouterr()
    assert output.out == ""
    lines = [json.loads(each) for each in output.err.splitlines()]
    assert {"message": "health", "level": "info", "state": "stopped", "detail": "asked to"}.items() <= lines[-1].items()
    assert {"frame", "strip", "mm"} <= lines[-1].keys()
    first = told(tmp_path)
    rows = bodies(first, Coverage)[-1].to_row
    assert rows == round(WEB.web_mm / WEB.web.pitch_mm)

    monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
    manager.may_stop.set()
    serve(line_at(WEB.web_mm + 40.0), config)
    events = told(tmp_path)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    covered = bodies(events, Coverage)
    assert [each.from_row for each in covered] == [0, *(each.to_row for each in covered[:-1])]
    (gap,) = [each for each in covered if each.why == NOT_RUNNING]
    assert (gap.from_mm, gap.to_mm) == (pytest.approx(WEB.web_mm), pytest.approx(WEB.web_mm + 40.0))
    assert covered[covered.index(gap) + 1].why == BEHIND_A_RESTART
    assert covered[-1].to_row == 2 * rows + 800
    opened = [each.id for each in bodies(events, Defect) if each.phase == "opened"]
    assert opened == list(range(1, len(opened) + 1))
    again = [each for each in bodies(events[len(first) :], Defect) if each.phase == "closed" and not each.merged_into]
    before = [each for each in bodies(first, Defect) if each.phase == "closed" and not each.merged_into]
    assert len(again) == len(before) > 10
    for one, other in zip(before, again, strict=True):
        assert other.centroid_mm[1] == pytest.approx(one.centroid_mm[1] + WEB.web_mm + 40.0)
    assert [each.kind for each in bodies(events, Status)].count("stopped") == 2
    assert {each.kind for each in bodies(events, Alarm)} <= {"no_trigger"}


class Hanging:
    """A backend whose network does not answer at the second window, until it may."""

    def __init__(self, model: Any) -> None:
        self._inner = OpenVinoBackend(model, "auto")
        self.name, self.precision = self._inner.name, self._inner.precision
        self.windows = 0
        self.hangs, self.may = threading.Event(), threading.Event()

    def infer(self, surface: Any) -> Any:
        self.windows += 1
        if self.windows == 2:
            self.hangs.set()
            assert self.may.wait(60)
        return self._inner.infer(surface)


@pytest.mark.golden
def test_a_stage_that_hangs_stops_the_watchdog_and_says_blind(
    tmp_path: Path, config: Config, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Hanging(load_model(None))
    monkeypatch.setattr("edge.service.serving.open_backend", lambda *_: (backend, []))
    monkeypatch.setattr(health_module, "STALL_S", 1.0)
    manager.may_stop.clear()
    while_hung: list[str] = []

    def look() -> None:
        assert backend.hangs.wait(60)
        time.sleep(2.5)
        before = len(manager.heard)
        time.sleep(1.5)
        while_hung.extend(manager.heard[before:])
        manager.may_stop.set()
        backend.may.set()

    looking = threading.Thread(target=look)
    looking.start()
    serve(line_at(0.0), config)
    looking.join()
    assert while_hung
    assert not [line for line in while_hung if not line.startswith("STATUS=blind: ")], while_hung
    manager.wait_for("WATCHDOG=1", manager.heard.index(while_hung[-1]))
    covered = bodies(told(tmp_path), Coverage)
    assert [each.from_row for each in covered] == [0, *(each.to_row for each in covered[:-1])]


def test_a_look_that_fails_ends_the_line_and_its_watchdog(manager: Manager) -> None:
    def fails() -> Any:
        raise ZeroDivisionError

    telling = ServiceManager(manager.address)
    with Watch(Health(), telling, fails, print, print) as watch:
        deadline_s = time.monotonic() + 20
        with pytest.raises(ZeroDivisionError):
            while time.monotonic() < deadline_s:
                watch.check()
                time.sleep(0.01)
    telling.close()
    assert manager.heard == []
