"""`foilsight swap`: orders to a line that inspects, what its events say of them, and what outlives it."""

import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fuzz.wire import message
from rendered_camera import RenderedCamera

from edge.cli import run_command
from edge.core.config import AssemblyConfig, CameraConfig, Config, EventsConfig, ServiceConfig
from edge.core.errors import ConfigError, EventsError
from edge.core.types import Coverage, Defect, Frame, Status
from edge.events import Envelope, EventWriter, Outbox
from edge.pipeline.ledger import END, START
from edge.segmentation.model import SHIPPED_MODEL
from edge.service.control import CONTROL, MOST_BYTES, Answer, ControlServer, Files, Order, Standing, ask
from edge.service.line import Line
from edge.service.metrics import open_files
from edge.service.report import OUTBOX
from edge.service.resuming import PLACE, Place
from edge.service.serving import serve
from edge.service.telling import Telling
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb

WEB = StrobedCamera(RenderedWeb(83, 256, DENSE), 40.0)
LAP_MM = 40.0
WITHOUT_ITS_FILE = b'{"do":"swap","model":"/etc/foilsight/new.onnx"}'


class EndlessCamera(RenderedCamera):
    """A web that is spliced to itself for ever, from a lap on."""

    def __init__(self, config: CameraConfig, web: StrobedCamera, fps: float, first_lap: int) -> None:
        super().__init__(config, web, fps)
        self._first_lap = first_lap

    def __enter__(self) -> "EndlessCamera":
        self._frames = endless(list(self._web.frames()), self._first_lap)
        return self


def endless(frames: list[Frame], first_lap: int) -> Iterator[Frame]:
    step_mm = frames[1].encoder_mm - frames[0].encoder_mm
    for lap in count(first_lap):
        for number, frame in enumerate(frames, lap * len(frames)):
            yield replace(frame, frame_id=number, encoder_mm=number * step_mm)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path


def config_in(folder: Path) -> Config:
    return Config(
        camera=CameraConfig(ring_mb=17),
        assembly=AssemblyConfig(strip_rows=64),
        events=EventsConfig(publish=f"ipc://{folder}/pub.ipc", replay=f"ipc://{folder}/router.ipc"),
        service=ServiceConfig(metrics_port=0),
    )


def give(folder: Path, **order: Any) -> Answer:
    return ask(folder / "state" / CONTROL, Order(**order))


def stood(answer: Answer) -> Standing:
    assert answer.refused == ""
    assert answer.standing is not None
    return answer.standing


def last_covered(folder: Path) -> int:
    """The last row that the line has told of, as it remembers about once a second."""
    kept = folder / "state" / PLACE
    return msgspec.json.decode(kept.read_bytes(), type=Place).covered_rows if kept.exists() else 0


def served(folder: Path, first_lap: int, orders: Callable[[], None]) -> list[Envelope]:
    """Serve while `orders` are given, which begin once web is covered; all events so far."""
    failures: list[BaseException] = []
    rows_before = last_covered(folder)

    def giving() -> None:
        try:
            while last_covered(folder) <= rows_before:
                time.sleep(0.05)
            orders()
        except BaseException as error:
            failures.append(error)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=giving)
    thread.start()
    camera = partial(EndlessCamera, web=WEB, fps=12.0, first_lap=first_lap)
    serve(Line(WEB.calibration, camera), config_in(folder))  # type: ignore[arg-type]
    thread.join()
    for failure in failures:
        raise failure
    with Outbox(folder / "state" / OUTBOX) as outbox:
        return list(outbox.since(0))


def another_model(folder: Path) -> Path:
    """The shipped model in another file."""
    path = folder / "another.onnx"
    note = message([(1, 2, b"note"), (2, 2, b"the same, by another name")])
    path.write_bytes(SHIPPED_MODEL.read_bytes() + message([(14, 2, note)]))
    return path


@pytest.mark.golden
def test_a_line_is_swapped_to_the_row_and_stays_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, brighter = another_model(folder), folder / "brighter.zip"
    assert WEB.calibration.flat is not None
    replace(WEB.calibration, flat=WEB.calibration.flat * np.float32(1.02)).save(brighter)
    damaged, narrow = folder / "damaged.onnx", folder / "narrow.zip"
    damaged.write_bytes(SHIPPED_MODEL.read_bytes()[:50_000])
    StrobedCamera(RenderedWeb(83, 128, DENSE), 20.0).calibration.save(narrow)
    standings: list[Standing] = []

    def orders() -> None:
        first = stood(give(folder, do="show"))
        assert str(damaged) in give(folder, do="swap", model=str(damaged)).refused
        refused = give(folder, do="swap", calibration=str(narrow))
        assert refused.refused == f"{narrow}: width is 128, that of the calibration at work 256"
        assert refused.standing == first
        assert "nothing to go back to" in give(folder, do="back").refused
        assert "did not come with the order" in sent(folder / "state" / CONTROL, WITHOUT_ITS_FILE).refused
        standings.append(first)
        standings.append(stood(give(folder, do="swap", model=str(model))))
        model.unlink()  # the line has its own
        standings.append(stood(give(folder, do="swap", calibration=str(brighter))))
        standings.append(stood(give(folder, do="back")))
        model.write_bytes(another_model(folder).read_bytes() + message([(14, 2, message([(1, 2, b"more")]))]))
        assert stood(give(folder, do="shadow", model=str(model))).shadow is not None
        deadline_s = time.monotonic() + 30
        while (shadow := stood(give(folder, do="show")).shadow) is None or not shadow.both:
            assert time.monotonic() < deadline_s, shadow
            time.sleep(0.2)
        assert (shadow.only_live, shadow.only_shadow, shadow.problem) == (0, 0, "")
        assert run_command(["swap", "--show"]) == 0
        standings.append(stood(give(folder, do="promote")))

    events = served(folder, 0, orders)
    assert [each.next_model + each.next_calibration for each in standings] == [""] * 5
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    at_work, since = standings[3].model[:12], standings[3].since_row["model"]
    assert shown["model"] == f"{at_work}, since row {since}"
    assert shown["shadow"].startswith(standings[4].model[:12])
    assert shown["objects"].endswith(" both, 0 at work alone, 0 shadow alone")
    covered = [event for event in events if isinstance(event.body, Coverage)]
    assert covered[0].body.from_row == 0
    assert all(before.body.to_row == after.body.from_row for before, after in pairwise(covered))
    seen = [(each.model, each.calibration) for each in covered]
    changes = [at for at, (before, after) in enumerate(pairwise(seen), 1) if after != before]
    assert [seen[at] for at in changes] == [(each.model, each.calibration) for each in standings[1:]]
    rows = [covered[at].body.from_row for at in changes]
    parts = ["model", "calibration", "calibration", "model"]
    assert rows == [each.since_row[part] for each, part in zip(standings[1:], parts, strict=True)]
    said = [event.body.detail for event in events if isinstance(event.body, Status)]
    told = [detail for detail in said if "in place of" in detail]
    assert all(f"from row {row} (" in detail for row, detail in zip(rows, told, strict=True))
    bodies = [event.body for event in events if isinstance(event.body, Coverage)]
    assert {each.why for each in bodies if each.state == "uninspected"} <= {START, END}
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    opened = [event.body.id for event in events if isinstance(event.body, Defect) and event.body.phase == "opened"]
    assert opened == list(range(1, len(opened) + 1))

    def after_a_restart() -> None:
        resumed = stood(give(folder, do="show"))
        assert (resumed.model, resumed.calibration) == (standings[-1].model, standings[-1].calibration)
        assert (resumed.before_model, resumed.shadow) == (standings[1].model, None)
        assert stood(give(folder, do="back")).model == standings[1].model

    more = served(folder, 30, after_a_restart)[len(events) :]
    assert more[0].model == standings[-1].model
    assert more[-1].model == standings[1].model
    assert len(list((folder / "state" / "swapped").iterdir())) == 3
    assert not (folder / "state" / CONTROL).exists()


def test_events_that_wait_for_the_disk_keep_the_model_they_are_of(tmp_path: Path) -> None:
    class FullDisk(EventWriter):
        is_full = True

        def publish(self, *bodies: Any) -> list[Envelope]:
            if self.is_full:
                raise EventsError("disk is full")
            return super().publish(*bodies)

    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        with FullDisk(outbox, None, 1.0, line="t", roll="", model="a", calibration="c") as writer:
            telling = Telling(writer, Place())
            for row in range(40):
                if row == 15:
                    telling.origin = msgspec.structs.replace(telling.origin, model="b")
                telling.tell([Coverage(from_row=row, to_row=row + 1, from_mm=0, to_mm=1, state="inspected")])
            writer.is_full = False
            telling.flush()
        assert [event.model for event in outbox.since(0)] == ["a"] * 15 + ["b"] * 25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    def obey(order: Order, files: Files) -> Answer:
        return Answer(refused=" ".join(f"{name} {os.pread(file, 100, 0).decode()}" for name, file in files.items()))

    serving = ControlServer(tmp_path / CONTROL, obey)
    yield tmp_path / CONTROL
    serving.close()


def sent(path: Path, data: bytes) -> Answer:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        connection.send(data)
        return msgspec.json.decode(connection.recv(1 << 16), type=Answer)


def test_orders_are_taken_from_the_lines_own_user_only(server: Path) -> None:
    assert stat.S_IMODE(server.stat().st_mode) == 0o600
    assert ask(server, Order(do="show")).refused == ""


def test_files_come_opened_with_their_order_and_are_closed_behind_it(server: Path, tmp_path: Path) -> None:
    model, calibration = tmp_path / "new.onnx", tmp_path / "new.zip"
    model.write_text("weights")
    calibration.write_text("lights")
    both = Order(do="swap", model=str(model), calibration=str(calibration))
    before = open_files()
    for _ in range(5):
        assert ask(server, both).refused == f"{model} weights {calibration} lights"
    assert sent(server, msgspec.json.encode(both)).refused == ""  # named, and not handed over
    deadline_s = time.monotonic() + 20
    while open_files() > before:
        assert time.monotonic() < deadline_s, "descriptors are left open"
        time.sleep(0.01)
    with pytest.raises(ConfigError, match=r"gone\.onnx: cannot be read \(No such file"):
        ask(server, Order(do="shadow", model=str(tmp_path / "gone.onnx")))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xff\xfe", "not an order"),
        (b'{"do":"stop"}', "Invalid enum value 'stop'"),
        (b'{"do":"show","run":"rm"}', "unknown field `run`"),
        (b"[" * 5000, "not an order"),
        (b'{"do":"show"}' + b" " * MOST_BYTES, f"more than {MOST_BYTES} bytes"),
    ],
)
def test_what_is_no_order_is_refused_and_the_next_one_taken(server: Path, data: bytes, why: str) -> None:
    assert why in sent(server, data).refused
    assert ask(server, Order(do="show")).refused == ""


def test_whoever_connects_and_says_nothing_is_not_waited_for(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.service.control._PATIENCE_S", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(server))
        assert ask(server, Order(do="show"), patience_s=20.0).refused == ""


def test_two_lines_do_not_take_orders_in_one_place_but_a_dead_one_makes_way(server: Path, tmp_path: Path) -> None:
    with pytest.raises(EventsError, match=r"orders cannot be taken there \(Address already in use\)"):
        ControlServer(server, lambda order, files: Answer())
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(left))
    ControlServer(left, lambda order, files: Answer()).close()
    assert not left.exists()


def test_without_a_line_the_command_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["swap", "--back"]) == 2
    assert "no line takes orders there" in capsys.readouterr().err
    assert run_command(["swap", "--back", "--promote"]) == 2
    assert "one change at a time" in capsys.readouterr().err
