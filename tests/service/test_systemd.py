"""The service on a machine of its own: installed by deploy/install.py, on the simulated camera. In order."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from installed import FOILSIGHT, IMPATIENT, UNITS, Installed, installed_machine
from machine import NoMachine
from wheel import SOURCES, build_wheel

from edge.core.types import Coverage
from edge.events import Envelope, decode
from edge.recording.reader import Recording
from edge.segmentation.model import SHIPPED_MODEL
from edge.service.control import Standing
from edge.simulation.camera import StrobedCamera
from edge.simulation.planting import DENSE
from edge.simulation.web import RenderedWeb

pytestmark = [pytest.mark.service, pytest.mark.timeout(600)]
HOSTILE = 20
"""Exposure that `systemd-analyze security` gives in tenths: what is asked for at most."""
BROKEN = b"""
def run(*, config: str, service: bool) -> int:
    raise SystemExit("broken")
"""
"""A line that ends before it has compiled anything."""
ANOTHER = bytes([0x72, 10]) + b"\n\x04note\x12\x02no"
"""Metadata more in an ONNX file, which makes it another one that decides the same."""
PYTHON = "/opt/foilsight/current/bin/python"
TOLD = """
import sys
from pathlib import Path
from edge.events.outbox import OutboxReader
outbox = OutboxReader(Path("/var/lib/foilsight/cam1/outbox.sqlite"))
for event in outbox.page(int(sys.argv[1]), 1 << 30, 1 << 40)[0]:
    print(event.decode())
"""
RECORDINGS = "/var/lib/foilsight/cam1/recordings"
STARVED = """
[Unit]
StartLimitBurst=2
[Service]
MemoryMax=120M
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Iterator[Installed]:
    try:
        with installed_machine(tmp_path_factory.mktemp("machine") / "root", wheels) as there:
            yield there
    except NoMachine as reason:
        pytest.skip(str(reason))


def eventually(holds: Callable[[], object], within_s: float = 90) -> None:
    """Wait until it does."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.2)


def running_again(installed: Installed, restarts: int) -> bool:
    seen = installed.show("NRestarts", "ActiveState")
    return int(seen["NRestarts"]) >= restarts and seen["ActiveState"] == "active"


def camera_process(installed: Installed) -> str:
    """Its process identifier there; "" while there is none."""
    found = installed.machine.result("pgrep", "-f", "multiprocessing.spawn import spawn_main", "-u", "foilsight")
    return found.stdout.strip()


def messages(installed: Installed) -> list[dict[str, object]]:
    """What the service itself has said, with the journal's fields under "journal"."""
    entries = [json.loads(line) for line in installed.journal("-o", "json").splitlines()]
    said = [entry for entry in entries if entry.get("_COMM") == "foilsight" and entry["MESSAGE"].startswith("{")]
    return [json.loads(entry["MESSAGE"]) | {"journal": entry} for entry in said]


def events_since(installed: Installed, seq: int) -> list[Envelope]:
    """What the line has told after a number, from its outbox: SQLite wants to be on that machine."""
    told = [decode(line.encode()) for line in installed.machine.run(PYTHON, "-c", TOLD, str(seq)).splitlines()]
    return [event for event in told if isinstance(event, Envelope)]


def swap(installed: Installed, *arguments: str) -> Standing:
    """What is at work when the command has ended; it is given as a person would, who is root."""
    done = installed.machine.run(FOILSIGHT, "swap", *arguments, "--config", "/etc/foilsight/cam1.toml", "--json")
    return msgspec.json.decode(done, type=Standing)


def test_a_second_installation_changes_nothing(installed: Installed, wheels: Path) -> None:
    wheel = next((wheels / "first").glob("*.whl"))
    again = installed.install_wheel(wheel)
    assert (again.returncode, again.stdout) == (0, "nothing to change\n")
    assert installed.install_wheel(wheel, "--check").returncode == 0


def test_units_are_in_order_and_leave_little_to_an_intruder(installed: Installed) -> None:
    deploy, verify = SOURCES / "deploy", ("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no")
    units = ("foilsight@cam1.service", "foilsight-bridge@cam1.service", "foilsight.target")
    assert installed.machine.run(*verify, *units) == ""
    assert {path.stem for path in (deploy / "drop-ins").glob("*")} == set().union(*UNITS.values()) - {""}
    for unit, drop_ins in UNITS.items():
        for number, drop_in in enumerate(drop_ins):
            tried = f"/run/analysed/{number}/{unit}cam1.service"
            folder = installed.machine.path(f"{tried}.d")
            folder.mkdir(parents=True)
            installed.machine.path(tried).write_text((deploy / f"{unit}.service").read_text())
            if drop_in:
                (folder / "tried.conf").write_text((deploy / f"drop-ins/{drop_in}.conf").read_text())
            installed.machine.run(*verify, tried)
            analyse = ("systemd-analyze", "security", "--offline=true", f"--threshold={HOSTILE}", "--no-pager")
            installed.machine.run(*analyse, tried)


def test_the_camera_starts_and_says_what_it_does(installed: Installed) -> None:
    installed.machine.run("systemctl", "start", "foilsight@cam1")
    seen = installed.show("ActiveState", "StatusText", "NRestarts", "User")
    assert (seen["ActiveState"], seen["NRestarts"], seen["User"]) == ("active", "0", "foilsight")
    assert seen["StatusText"].startswith(("inspecting", "degraded"))
    eventually(lambda: any("mm" in message for message in messages(installed)))
    entry = next(message for message in messages(installed) if message["message"] == "health")
    journal = entry["journal"]
    assert isinstance(journal, dict)
    assert journal["FOILSIGHT_INSTANCE"] == "cam1"
    assert journal["SYSLOG_IDENTIFIER"] == "foilsight@cam1"
    assert journal["PRIORITY"] == "6"
    assert {"strip", "frame"} <= next(message.keys() for message in messages(installed) if "mm" in message)


@pytest.mark.skipif(not Path("/usr/sbin/mosquitto").exists(), reason="mosquitto is not installed")
def test_a_bridge_hands_on_what_a_line_with_keys_tells(installed: Installed) -> None:
    installed.machine.run("systemd-run", "--unit=broker", "/usr/sbin/mosquitto", "-p", "25573")
    installed.machine.run("systemctl", "start", "foilsight-bridge@cam1")
    heard = {"StatusText": "the line is heard; the broker is connected", "ActiveState": "active"}
    eventually(lambda: installed.show(*heard, unit="foilsight-bridge@cam1") == heard)
    place = installed.machine.path("/var/lib/foilsight/bridge-cam1/bridge.json")
    eventually(place.exists)
    before = place.read_text()
    eventually(lambda: place.read_text() != before)
    installed.machine.run("systemctl", "stop", "foilsight-bridge@cam1", "broker")
    assert installed.show("Result", unit="foilsight-bridge@cam1") == {"Result": "success"}


def test_a_killed_camera_process_is_replaced_by_the_line_itself(installed: Installed) -> None:
    main = installed.show("MainPID")
    killed = camera_process(installed)
    installed.machine.run("kill", "-9", killed)
    eventually(lambda: camera_process(installed) not in ("", killed))
    eventually(lambda: any("was replaced" in str(message.get("detail")) for message in messages(installed)))
    assert installed.show("MainPID") == main
    assert running_again(installed, 0)


def test_a_killed_line_goes_on_where_it_was_on_the_web(installed: Installed) -> None:
    installed.machine.run("systemctl", "kill", "--kill-whom=main", "-s", "KILL", "foilsight@cam1")
    eventually(lambda: running_again(installed, 1))
    starts = [message["from_mm"] for message in messages(installed) if message["message"] == "starting"]
    assert starts[0] == 0
    assert isinstance(starts[-1], float)
    assert starts[-1] > 0


def test_a_hung_line_is_started_anew_by_its_watchdog(installed: Installed) -> None:
    installed.machine.run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", "foilsight@cam1")
    eventually(lambda: running_again(installed, 2))
    assert "Watchdog timeout" in installed.journal()


def test_a_line_is_swapped_from_a_technician_s_own_folder(installed: Installed) -> None:
    """Of what lies in a home folder or in /tmp, and only root may read, the unit sees nothing."""
    home, there = installed.machine.path("/root"), "/tmp/brighter.zip"
    (home / "new.onnx").write_bytes(SHIPPED_MODEL.read_bytes() + ANOTHER)
    (home / "shipped.onnx").write_bytes(SHIPPED_MODEL.read_bytes())
    (home / "damaged.onnx").write_bytes(SHIPPED_MODEL.read_bytes()[:50_000])
    calibration = StrobedCamera(RenderedWeb(1, 256, DENSE), 40.0).calibration
    assert calibration.flat is not None
    replace(calibration, flat=calibration.flat * np.float32(1.02)).save(installed.machine.path(there))
    for path in (home / "new.onnx", installed.machine.path(there)):
        path.chmod(0o600)
    first = swap(installed)
    before = events_since(installed, 0)[-1].seq
    standings = [
        swap(installed, "/root/new.onnx"),
        swap(installed, "--calibration", there),
        swap(installed, "--back"),
    ]
    refused = installed.machine.result(FOILSIGHT, "swap", "/root/damaged.onnx", "--config", "/etc/foilsight/cam1.toml")
    assert (refused.returncode, "/root/damaged.onnx: not an ONNX model" in refused.stdout) == (2, True)
    assert swap(installed, "--shadow", "/root/shipped.onnx").shadow is not None
    standings.append(swap(installed, "--promote"))
    assert [each.next_model + each.next_calibration for each in standings] == [""] * 4
    assert standings[-1].model == first.model

    def covered() -> list[tuple[Coverage, tuple[str, str]]]:
        told = events_since(installed, before)
        return [(each.body, (each.model, each.calibration)) for each in told if isinstance(each.body, Coverage)]

    eventually(lambda: covered()[-1][1] == (first.model, first.calibration))
    rows = covered()
    assert {body.state for body, _ in rows} == {"inspected"}
    assert all(body.to_row == following.from_row for (body, _), (following, _) in pairwise(rows))
    changes = [after for earlier, after in pairwise(rows) if earlier[1] != after[1]]
    assert [used for _, used in changes] == [(each.model, each.calibration) for each in standings]
    parts = ("model", "calibration", "calibration", "model")
    since = [each.since_row[part] for each, part in zip(standings, parts, strict=True)]
    assert [body.from_row for body, _ in changes] == since


def test_a_line_that_is_started_again_keeps_its_swap_and_records_where_its_drop_in_says(installed: Installed) -> None:
    swapped, copy = swap(installed, "--back"), installed.machine.path("/root/new.onnx")
    copy.unlink()
    installed.drop_in("foilsight@", "record", (SOURCES / "deploy/drop-ins/record.conf").read_text())
    installed.machine.run("systemctl", "daemon-reload")
    installed.machine.run("systemctl", "restart", "foilsight@cam1")
    assert swap(installed).model == swapped.model
    recording = installed.machine.path(f"{RECORDINGS}/web.mcap")
    eventually(lambda: recording.exists() and recording.stat().st_size > 1e6)
    assert swap(installed, "--back").model == swapped.before_model


def test_an_upgrade_that_does_not_start_leaves_the_old_release_running(installed: Installed, wheels: Path) -> None:
    before = installed.machine.run("readlink", "/opt/foilsight/current")
    broken = build_wheel(wheels / "broken", {"edge/service/line_commands.py": BROKEN})
    done = installed.install_wheel(broken, "--cold")
    assert done.returncode == 1
    assert f"does not start, {Path(before.strip()).name} goes on" in done.stdout
    assert installed.machine.run("readlink", "/opt/foilsight/current") == before
    assert installed.show("ActiveState") == {"ActiveState": "active"}


def test_a_stop_is_orderly_and_in_time(installed: Installed) -> None:
    installed.machine.run("systemctl", "stop", "foilsight@cam1")
    assert installed.show("Result", "ActiveState") == {"Result": "success", "ActiveState": "inactive"}
    assert messages(installed)[-1]["state"] == "stopped"
    assert installed.machine.result("pgrep", "-u", "foilsight").stdout == ""
    for path in installed.machine.path(RECORDINGS).iterdir():
        recording = Recording(path)
        assert (recording.torn, recording.frames_dropped) == (False, 0)


def test_an_upgrade_can_be_rolled_back(installed: Installed, wheels: Path) -> None:
    before = installed.machine.run("readlink", "/opt/foilsight/current")
    newer = build_wheel(wheels / "newer", {"edge/newer.py": b""})
    done = installed.install_wheel(newer, "--cold")
    assert done.returncode == 0, done.stdout
    after = installed.machine.run("readlink", "/opt/foilsight/current")
    assert after != before
    kept = {Path(path.strip()).name for path in (before, after)}
    assert set(installed.machine.run("ls", "/opt/foilsight/releases").split()) == kept
    assert installed.install("--roll-back").returncode == 0
    assert installed.machine.run("readlink", "/opt/foilsight/current") == before


def test_a_line_that_outgrows_its_memory_is_killed_and_given_up_in_the_end(installed: Installed) -> None:
    installed.drop_in("foilsight@", "impatient", IMPATIENT + STARVED)
    installed.machine.run("systemctl", "daemon-reload")
    assert installed.machine.result("systemctl", "start", "foilsight@cam1").returncode != 0
    eventually(lambda: installed.show("ActiveState") == {"ActiveState": "failed"})
    eventually(lambda: "Start request repeated too quickly" in installed.journal())
    assert installed.show("Result")["Result"] in ("oom-kill", "signal", "start-limit-hit")
    assert "status=9/KILL" in installed.journal("-n", "20")


def test_what_is_uninstalled_leaves_configuration_and_state(installed: Installed) -> None:
    done = installed.install("--uninstall")
    assert done.returncode == 0
    assert "kept: /etc/foilsight, /var/lib/foilsight" in done.stdout
    assert installed.machine.path("/etc/foilsight/cam1.toml").exists()
    assert installed.machine.path("/var/lib/foilsight/cam1/outbox.sqlite").exists()
    assert not installed.machine.path("/opt/foilsight").exists()
    assert "foilsight" not in installed.machine.run("systemctl", "list-unit-files", "foilsight*", check=False)
