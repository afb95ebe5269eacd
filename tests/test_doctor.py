"""`foilsight doctor`, on machines that are written down here."""

import json
import os
import socket
import time
from pathlib import Path

import pytest
from conftest import Foilsight
from msgspec.structs import replace

from edge.core.config import CameraConfig, Config, EventsConfig, ServiceConfig, SimulatedConfig
from edge.events.keys import KeyPair
from edge.service import doctor, machine
from edge.service.machine import Finding


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def limits(locked: str, priority: str) -> dict[str, str]:
    return {
        "proc/self/limits": "Limit                     Soft Limit           Hard Limit           Units\n"
        f"Max locked memory         {locked:<21}{locked:<21}bytes\n"
        f"Max realtime priority     {priority:<21}{priority:<21}\n"
    }


def card(name: str, mtu: int, state: str = "up") -> dict[str, str]:
    folder = f"sys/class/net/{name}"
    return {f"{folder}/mtu": f"{mtu}\n", f"{folder}/operstate": f"{state}\n", f"{folder}/device/vendor": "0x8086\n"}


def test_a_processor_that_slows_down_between_frames(tmp_path: Path) -> None:
    cpus = {f"sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor": "performance\n" for n in range(2)}
    assert machine.governor(write(tmp_path, cpus)).level == "ok"
    slow = machine.governor(write(tmp_path, {"sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n"}))
    assert (slow.level, slow.found) == ("warn", "performance, powersave")
    assert "cpupower" in slow.advice


def test_too_few_cores() -> None:
    assert [machine.cores(count).level for count in (2, 4, 32)] == ["warn", "ok", "ok"]


def test_limits_on_locked_memory_and_priority(tmp_path: Path) -> None:
    root = write(tmp_path, limits("8388608", "0"))
    assert machine.memory_lock(256, root).found == "8.4 MB, ring_mb = 256"
    assert machine.memory_lock(256, root).level == machine.real_time(20, root).level == "warn"
    root = write(tmp_path, limits("unlimited", "20"))
    assert machine.memory_lock(256, root).level == machine.real_time(20, root).level == "ok"


def test_a_ring_that_finds_no_room(tmp_path: Path) -> None:
    (tmp_path / "dev/shm").mkdir(parents=True)
    assert machine.shared_memory(0.001, tmp_path).level == "ok"
    assert machine.shared_memory(1e9, tmp_path).level == "fail"


@pytest.mark.parametrize(
    ("cards", "level"),
    [
        (card("eth0", 1500), "warn"),
        (card("eth0", 1500) | card("eth1", 9000), "ok"),
        (card("eth0", 1500) | card("eth1", 9000, "down"), "warn"),
        (card("eth1", 9000, "down"), "fail"),
        ({"sys/class/net/lo/mtu": "65536\n", "sys/class/net/lo/operstate": "up\n"}, "fail"),
    ],
)
def test_small_packets(tmp_path: Path, cards: dict[str, str], level: str) -> None:
    assert machine.network_cards(write(tmp_path, cards)).level == level


def test_a_small_receive_buffer(tmp_path: Path) -> None:
    buffer = "proc/sys/net/core/rmem_max"
    assert machine.receive_buffer(write(tmp_path, {buffer: "212992\n"})).level == "warn"
    assert machine.receive_buffer(write(tmp_path, {buffer: "134217728\n"})).level == "ok"


def test_the_advice_for_the_network_suffices(tmp_path: Path) -> None:
    """What the suggested settings give is what the checks ask for."""
    deploy = Path(__file__).resolve().parents[1] / "deploy"
    lines = (deploy / "sysctl.d/60-foilsight-gige.conf").read_text().splitlines()
    said = dict(line.split(" = ") for line in lines if " = " in line and not line.startswith("#"))
    given = write(tmp_path, {"proc/sys/net/core/rmem_max": said["net.core.rmem_max"]})
    assert machine.receive_buffer(given).level == "ok"
    link = (deploy / "network/60-foilsight-gige.link").read_text()
    mtu = int(link.split("MTUBytes=")[1].split()[0])
    assert machine.network_cards(write(tmp_path, card("eth0", mtu))).level == "ok"


def test_a_clock_nobody_sets() -> None:
    assert [machine.clock(lambda state=state: state).level for state in (0, 5)] == ["ok", "warn"]


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    assert machine.folder("state folder", tmp_path / "not" / "yet").level == "ok"
    file = tmp_path / "file"
    file.touch()
    refused = machine.folder("state folder", file)
    assert (refused.level, refused.found) == ("fail", f"{file} cannot be written by this user")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert machine.folder("state folder", tmp_path / "state").level == "fail"


def test_free_space_against_what_is_to_be_kept(tmp_path: Path) -> None:
    assert machine.free_space(tmp_path, 1e12).level in ("warn", "fail")
    assert "events keep up to 10 GB" in machine.free_space(tmp_path, 10_000).found


def test_a_disk_slower_than_the_web(tmp_path: Path) -> None:
    assert machine.recording_speed(500, 250).found.endswith("recorded up to 2 m/s")
    assert [machine.recording_speed(speed, 250).level for speed in (500, 100)] == ["ok", "warn"]
    assert machine.disk_speed(tmp_path, 1e-6).level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_the_rate_of_a_recording() -> None:
    config = Config(camera=CameraConfig(device="simulated", simulated=SimulatedConfig(width_px=1000)))
    assert doctor.web_mb_per_m(config, None) == pytest.approx(8 * 1000 * 1000 / 0.05 / 1e6)


def test_a_port_that_somebody_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        events = EventsConfig(publish=f"tcp://127.0.0.1:{port}", replay="ipc:///tmp/nobody")
        (found,) = doctor.ports(Config(events=events, service=ServiceConfig(metrics_port=0)))
    assert (found.level, "in use" in found.found) == ("warn", True)
    (found,) = doctor.ports(Config(events=events, service=ServiceConfig(metrics_port=0)))
    assert found.level == "ok"


def test_an_address_of_another_machine_cannot_be_had() -> None:
    events = EventsConfig(publish="tcp://192.0.2.1:5570", replay="ipc:///tmp/nobody")
    (found,) = doctor.ports(Config(events=events, service=ServiceConfig(metrics_port=0)))
    assert found.level == "fail"


def test_producers_that_are_missing_or_do_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENICAM_GENTL64_PATH", raising=False)
    (none,) = doctor.producers([])
    assert (none.level, none.found) == ("fail", "none is named")
    (tmp_path / "broken.cti").write_bytes(b"no library")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GENICAM_GENTL64_PATH", str(tmp_path / "empty"))
    broken, empty = doctor.producers([tmp_path])
    assert broken.level == empty.level == "fail"
    assert "broken.cti" in broken.found
    assert empty.found.endswith("no .cti in this folder")


def test_a_calibration_that_is_none(tmp_path: Path) -> None:
    found, calibration = doctor.calibrated(tmp_path / "missing.zip")
    assert (found.level, calibration) == ("fail", None)
    assert doctor.calibrated(None)[0].level == "fail"


def crash(_: None) -> None:
    os.abort()


def hang(_: None) -> None:
    time.sleep(60)


def test_what_crashes_or_hangs_becomes_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.apart(crash, None) == "crashed when it was asked (exit code -6)"
    monkeypatch.setattr(doctor, "_ANSWER_S", 0.5)
    assert doctor.apart(hang, None).startswith("no answer within")


def test_no_compiler_for_the_simulated_camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.compiler().level == "ok"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert doctor.compiler() == Finding(
        "C compiler", "fail", "none, and the simulated camera wants one", "apt install gcc"
    )


def test_the_command_tells_all_and_fails_where_something_fails(foilsight: Foilsight, tmp_path: Path) -> None:
    config = tmp_path / "line.toml"
    config.write_text('[camera]\ndevice = "simulated"\nring_mb = 1\n[events]\nkeep_mb = 1\n')
    done = foilsight("doctor", "--config", config, "--state", tmp_path, "--json")
    findings = [Finding(**finding) for finding in json.loads(done.stdout)]
    failed = [finding for finding in findings if finding.level == "fail"]
    assert done.returncode == (1 if failed else 0)
    assert {finding.check for finding in findings} >= {"C compiler", "network", "disk speed", "clock", "port"}
    assert all(finding.advice for finding in findings if finding.level != "ok")
    config.write_text("[segmentation]\nmodel = 'none.onnx'\n")
    done = foilsight("doctor", "--config", config, "--state", tmp_path)
    assert done.returncode == 1
    assert "none.onnx" in done.stdout
    assert "none is named" in done.stdout


def test_addresses_open_to_other_machines_want_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    everywhere = EventsConfig(publish="tcp://0.0.0.0:5570")
    assert doctor.listeners(Config()).level == "ok"
    assert doctor.listeners(Config(events=everywhere)).level == "fail"
    KeyPair.fresh().write(tmp_path / "line.key")
    keyed = replace(everywhere, secret_key=tmp_path / "line.key")
    assert doctor.listeners(Config(events=keyed)).found == "with known keys only"
    (tmp_path / "line.key").chmod(0o644)
    assert "others may read" in doctor.listeners(Config(events=keyed)).found
