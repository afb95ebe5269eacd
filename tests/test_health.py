"""The state of a line, by what is seen of it; and what the service manager is told."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.core.types import Alarm, Coverage
from edge.service.health import BLIND_S, HEART_S, HOLD_S, MOST_CHARACTERS, STALL_S, UNUSED_S, Health, Sight
from edge.service.notify import ServiceManager

CALM = Sight(now_s=100.0, camera="streaming", camera_detail="", heart_s=0.1, loop_s=0.1, stage_s=0.0)


def seen(at_s: float = 100.0, **differently: Any) -> Sight:
    return replace(CALM, now_s=at_s, **differently)


def covered(state: Any, why: str = "") -> Coverage:
    return Coverage(from_row=0, to_row=10, from_mm=0.0, to_mm=0.5, state=state, why=why)


def inspecting() -> Health:
    health = Health()
    health.hear(covered("inspected"), 100.0)
    assert health.look(seen()) is not None
    assert health.state == "inspecting"
    return health


def test_a_line_starts_until_web_has_been_inspected() -> None:
    health = Health()
    first = health.look(seen())
    assert first is not None
    assert first.kind == "starting"
    health.hear(covered("uninspected", "start"), 101.0)
    assert health.look(seen(101.0)) is None
    health.hear(covered("inspected"), 102.0)
    now = health.look(seen(102.0))
    assert now is not None
    assert now.kind == "inspecting"


def test_a_line_that_stands_waits_and_is_alive() -> None:
    health, standing = Health(), seen(camera="no trigger", camera_detail="no exposure for 2 s")
    status = health.look(standing)
    assert status is not None
    assert (status.kind, status.detail) == ("inspecting", "waiting: no exposure for 2 s")
    assert standing.is_alive


@pytest.mark.parametrize("count", ["lost", "overwritten", "doubtful", "unusable", "encoder_restarts", "restarts"])
def test_what_should_not_rise_degrades_for_a_while_and_is_told_once(count: str) -> None:
    health = inspecting()
    status = health.look(seen(101.0, **{count: 1}))
    assert status is not None
    assert status.kind == "degraded"
    assert health.look(seen(101.5, **{count: 7})) is None
    assert health.look(seen(101.4 + HOLD_S, **{count: 7})) is None
    after = health.look(seen(101.6 + HOLD_S, **{count: 7}))
    assert after is not None
    assert after.kind == "inspecting"


def test_web_that_passes_unseen_is_blindness_then_a_reason_to_look() -> None:
    health = inspecting()
    health.hear(covered("uninspected", "seen under too few lights"), 101.0)
    status = health.look(seen(101.0))
    assert status is not None
    assert status.kind == "blind"
    assert "seen under too few lights" in status.detail
    health.look(seen(101.1 + BLIND_S))
    assert health.state == "degraded"
    health.look(seen(101.1 + HOLD_S))
    assert health.state == "inspecting"


@pytest.mark.parametrize(
    ("differently", "alive"),
    [
        ({"loop_s": STALL_S}, False),
        ({"stage_s": STALL_S}, False),
        ({"heart_s": HEART_S}, False),
        ({"camera": "device lost"}, True),
        ({"camera": "failed"}, True),
        ({"camera": "starting"}, True),
    ],
)
def test_who_cannot_see_says_so_and_a_hung_line_stops_its_watchdog(differently: dict[str, Any], alive: bool) -> None:
    health, sight = inspecting(), seen(101.0, **differently)
    status = health.look(sight)
    assert status is not None
    assert status.kind == "blind"
    assert sight.is_alive == alive
    health.look(seen(101.5))
    assert health.state == "inspecting"


def test_exposures_of_which_none_can_be_used_are_blindness() -> None:
    health = Health()
    for second in range(int(UNUSED_S)):
        health.look(seen(100.0 + second, written=10 * second))
        assert health.state == "starting"
    health.look(seen(100.0 + UNUSED_S, written=100))
    assert health.state == "blind"


def test_a_lamp_that_drifts_is_a_reason_until_somebody_has_looked() -> None:
    health = inspecting()
    health.hear(Alarm(kind="lamp_drifts", since="", detail="the lamp of light 2"), 101.0)
    health.look(seen(1e6))
    assert health.state == "degraded"
    assert "the lamp of light 2" in health.detail


def test_many_faults_are_told_in_a_line_the_worst_first() -> None:
    health = inspecting()
    lamp = (
        "the lamp of light 2 gives 51.0 % less than the others since it was calibrated, flat web comes out tilted by "
    )
    health.hear(Alarm(kind="lamp_drifts", since="", detail=lamp + "11.32 degrees: clean or replace it"), 101.0)
    health.hear(covered("degraded", "not seen under light 3"), 101.0)
    health.hear(covered("uninspected", "seen under too few lights"), 101.0)
    full = "outbox.sqlite: outbox cannot be written"
    status = health.look(seen(101.0, lost=3, restarts=1, troubles=(full,), camera="device lost"))
    assert status is not None
    camera, unseen, following, more = status.detail.split("; ")
    assert (camera, unseen) == ("camera: device lost", "web passes unseen: seen under too few lights")
    assert following.startswith((full, "lamp_drifts: the lamp of light 2"))
    assert more == "and 4 more"
    assert health.look(seen(101.5, lost=3, restarts=1, doubtful=1, troubles=(full,), camera="device lost")) is None
    health.look(seen(101.0 + 2 * HOLD_S, lost=3, restarts=1, doubtful=1))
    assert health.detail.startswith("lamp_drifts: the lamp of light 2 gives 51.0 % less")
    assert len(health.detail) <= MOST_CHARACTERS


def test_a_recording_that_goes_on_is_no_reason_any_more() -> None:
    health = inspecting()
    health.hear(Alarm(kind="recording_ended", since="", detail="the disk is full"), 101.0)
    health.look(seen(1e6))
    assert (health.state, health.detail) == ("degraded", "recording_ended: the disk is full")
    health.hear(Alarm(kind="recording_back", since="", detail="web-2.mcap"), 1e6)
    health.look(seen(1e6 + 1))
    assert (health.state, health.detail) == ("inspecting", "")


def test_troubles_of_others_degrade_and_blindness_goes_before() -> None:
    health = inspecting()
    status = health.look(seen(101.0, troubles=("recording has ended: no space left",)))
    assert status is not None
    assert (status.kind, status.detail) == ("degraded", "recording has ended: no space left")
    health.look(seen(101.0, camera="device lost", troubles=("recording has ended: no space left",)))
    assert health.state == "blind"


def test_the_end_is_told() -> None:
    status = inspecting().stop("asked to")
    assert status is not None
    assert (status.kind, status.detail) == ("stopped", "asked to")


@pytest.fixture(params=["path", "abstract"])
def manager_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        if request.param == "path":
            manager.bind(str(tmp_path / "notify"))
            yield manager, str(tmp_path / "notify")
        else:
            name = f"foilsight-test-{os.getpid()}"
            manager.bind("\0" + name)
            yield manager, "@" + name


def test_the_service_manager_is_told_in_one_datagram(manager_at: tuple[socket.socket, str]) -> None:
    manager, address = manager_at
    told = ServiceManager(address)
    told.tell(READY=1, STATUS="blind:\ncamera lost")
    assert manager.recv(4096) == b"READY=1\nSTATUS=blind: camera lost"
    told.close()


def test_a_manager_that_does_not_listen_costs_nothing(manager_at: tuple[socket.socket, str]) -> None:
    _, address = manager_at
    told = ServiceManager(address)
    for _ in range(10_000):
        told.tell(WATCHDOG=1)
    told.close()
    ServiceManager(None).tell(READY=1)
    gone = ServiceManager("/nowhere/to/be/found")
    gone.tell(READY=1)
    gone.close()


@pytest.mark.parametrize(
    ("pid", "microseconds", "expected_s"),
    [("", "3000000", 3.0), ("ours", "500000", 0.5), ("1", "3000000", None), ("", "", None), ("", "0", None)],
)
def test_the_watchdog_is_ours_only(
    monkeypatch: pytest.MonkeyPatch, pid: str, microseconds: str, expected_s: float | None
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody")
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "ours" else pid)
    told = ServiceManager.from_environment()
    told.close()
    assert told.watchdog_s == expected_s
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
