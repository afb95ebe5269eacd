"""What floods a line in `benchmarks.flood`, and how its figures are judged."""

import os
import time
from pathlib import Path

import pytest
from events.lines import line, numbered

from benchmarks import table
from benchmarks.flood import Stretch, figures, wrong
from benchmarks.flooder import KINDS, QUIET, Flooder
from benchmarks.soak_line import free_ports
from edge.events import Outbox, Subscriber, replay_server
from edge.events.outbox import OutboxReader
from edge.events.replay_server import answer
from edge.service.metrics import resident_bytes


def test_no_flood_is_answered_more_often_than_agreed_nor_kept_in_memory_nor_outlasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = 0

    def counting(reader: OutboxReader, request: bytes) -> list[bytes]:
        nonlocal answered
        answered += 1
        return answer(reader, request)

    monkeypatch.setattr(replay_server, "answer", counting)
    publish, replay = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    with Outbox(tmp_path / "outbox.sqlite") as outbox, line(outbox, publish, replay) as writer:
        writer.publish(*numbered(1000))
        with Flooder(replay, max(os.sched_getaffinity(0))) as flooder:
            for kind in KINDS:
                flooder.turn_to(kind)
                before, began_s, resident = answered, time.monotonic(), resident_bytes()
                while time.monotonic() - began_s < 0.4:
                    writer.publish(*numbered(1))
                    time.sleep(0.02)
                assert answered - before <= 50 * (time.monotonic() - began_s) + 2, kind
                assert resident_bytes() - resident < 30e6, kind
            flooder.turn_to(QUIET)
        with Subscriber(publish, replay, since=990) as events:
            assert next(events) == next(outbox.since(990))


def test_a_flood_is_held_against_the_quiet_before_and_behind_it() -> None:
    quiet = Stretch(QUIET, 1.0, 1.0, 100.0)
    junk, storm = Stretch("junk", 1.0, 1.04, 101.0), Stretch("storm", 1.25, 1.0, 100.0)
    found = figures([quiet, junk, quiet, storm, quiet])
    assert found["kinds"]["junk"]["core"]["p50"] == pytest.approx(0.04)
    assert found["kinds"]["storm"]["speed"]["p50"] == pytest.approx(0.8)
    assert wrong(found) == ["storm: 0.800 of the speed in quiet, and less in three rounds out of four"]
    ((_, row),) = table.ROWS["flood"](found)
    assert row == "0.80 of its speed in quiet; 0.04 of a core for the flood"
    greedy = figures([quiet, Stretch("pages", 1.0, 1.1, 100.0), quiet])
    assert wrong(greedy) == ["pages: takes 0.100 of a core"]
