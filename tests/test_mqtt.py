"""The bridge to MQTT, against a real mosquitto that goes and comes back."""

import gc
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from paho.mqtt import client as paho

from edge.core.config import Config, EventsConfig, MqttConfig
from edge.core.errors import ConfigError, EventsError, FoilsightError, MissingExtra
from edge.core.types import Alarm, Status
from edge.events import EventWriter, Outbox
from edge.service.bridge import bridge, carry, topic_level

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
RUNNING = Status(kind="inspecting", since="", detail="")


def eventually(holds: Callable[[], object], within_s: float = 30) -> None:
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


class Mosquitto:
    """A broker in a process of its own; what it has it keeps through `stop`, not through `kill`."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        keeping = ("user root", "persistence true", f"persistence_location {folder}/")
        self._config.write_text("\n".join([f"listener {self.port} 127.0.0.1", *keeping, *settings, ""]))
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen([MOSQUITTO, "-c", self._config], stdout=quiet, stderr=quiet)
        eventually(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Mosquitto(folder, "allow_anonymous true")
    yield running
    running.kill()


class Plant:
    """What listens to the broker: each message as topic, body and whether it had been retained."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Any, bool]] = []
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, "plant", clean_session=False)
        self._client.on_message = self._take
        self._client.on_connect = lambda client, *_: client.subscribe("foilsight/#", 1)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        text = message.payload.decode()
        body = json.loads(text) if text.startswith("{") else text
        self.heard.append((message.topic.removeprefix("foilsight/coater 2_a/"), body, message.retain))

    def numbers(self, topic: str) -> list[int]:
        return [body["seq"] for at, body, _ in list(self.heard) if at == topic]

    def last(self, topic: str) -> Any:
        return next((body for at, body, _ in reversed(list(self.heard)) if at == topic), None)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def plant(port: int) -> Iterator[Plant]:
    with closing(Plant(port)) as opened:
        yield opened


@contextmanager
def bridged(config: Config, folder: Path, since: int | None = 0) -> Iterator[list[FoilsightError]]:
    """A bridge in a thread; the list has what it ended with."""
    stop, ended = threading.Event(), list[FoilsightError]()

    def run() -> None:
        try:
            carry(config, folder, since, stop)
        except FoilsightError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        stop.set()
        thread.join()


def settings(tmp_path: Path, port: int, **mqtt: Any) -> Config:
    events = EventsConfig(publish=f"ipc://{tmp_path}/pub", replay=f"ipc://{tmp_path}/router", heartbeat_s=0.05)
    return Config(line="coater 2/a", events=events, mqtt=MqttConfig(host="127.0.0.1", port=port, **mqtt))


@contextmanager
def line(config: Config, tmp_path: Path) -> Iterator[EventWriter]:
    events = config.events
    with (
        Outbox(tmp_path / "outbox.sqlite") as outbox,
        EventWriter(
            outbox, events.publish, 0.05, replay_endpoint=events.replay, line="", roll="", model="", calibration=""
        ) as writer,
    ):
        yield writer


def alarms(count: int) -> list[Alarm]:
    return [Alarm(kind="lamp", since="", detail=str(index)) for index in range(count)]


@needs_mosquitto
def test_every_event_arrives_though_the_broker_goes_and_the_bridge_started_anew(
    tmp_path: Path, broker: Mosquitto
) -> None:
    config = settings(tmp_path, broker.port)
    with line(config, tmp_path) as writer, plant(broker.port) as there:
        with bridged(config, tmp_path / "bridge"):
            writer.publish(RUNNING, *alarms(20))
            eventually(lambda: len(there.numbers("alarm")) == 20)
            broker.stop()
            writer.publish(*alarms(20))
            broker.start()
            eventually(lambda: set(there.numbers("alarm")) >= set(range(2, 42)))
        writer.publish(*alarms(20))
        with bridged(config, tmp_path / "bridge"):
            eventually(lambda: set(there.numbers("alarm")) >= set(range(2, 62)))
        eventually(lambda: there.last("bridge") == "offline")
        told = [body for at, body, _ in there.heard if at == "alarm"]
        assert {body["body"]["detail"] for body in told if body["seq"] == 61} == {"19"}
        numbers = list(dict.fromkeys(there.numbers("alarm")))
        assert numbers == sorted(numbers)
    with plant(broker.port) as late:
        eventually(lambda: len(late.heard) == 2)
        assert (late.last("bridge"), late.last("status")["body"]["kind"]) == ("offline", "inspecting")
        assert all(retained for _, _, retained in late.heard)


@needs_mosquitto
def test_a_broker_that_has_forgotten_everything_is_given_the_status_again(tmp_path: Path, broker: Mosquitto) -> None:
    config = settings(tmp_path, broker.port)
    with line(config, tmp_path) as writer, bridged(config, tmp_path / "bridge"):
        with plant(broker.port) as there:
            writer.publish(RUNNING)
            eventually(lambda: there.last("status"))
        broker.kill()
        (tmp_path / "broker/mosquitto.db").unlink(missing_ok=True)
        broker.start()
        with plant(broker.port) as there:
            eventually(lambda: there.last("status") and there.last("bridge") == "online")


@needs_mosquitto
def test_a_line_that_falls_silent_and_a_bridge_that_dies_are_seen(tmp_path: Path, broker: Mosquitto) -> None:
    config = settings(tmp_path, broker.port)
    text = f"line = 'coater 2/a'\n[events]\npublish = '{config.events.publish}'\nreplay = '{config.events.replay}'\n"
    path = tmp_path / "line.toml"
    path.write_text(f"{text}heartbeat_s = 0.05\n[mqtt]\nhost = '127.0.0.1'\nport = {broker.port}\n")
    program = "import sys; from edge.cli import main; main(['bridge', '--config', sys.argv[1]])"
    environment = os.environ | {"STATE_DIRECTORY": str(tmp_path / "bridge")}
    command = [sys.executable, "-c", program, str(path)]
    with plant(broker.port) as there, subprocess.Popen(command, env=environment) as process:
        try:
            with line(config, tmp_path):
                eventually(lambda: there.last("bridge") == "online")
            eventually(lambda: there.last("bridge") == "silent")
        finally:
            process.kill()
        eventually(lambda: there.last("bridge") == "offline")


@needs_mosquitto
def test_a_broker_that_refuses_ends_the_bridge_in_one_line_and_no_event_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "users").write_text("line:secret\n")
    subprocess.run(["mosquitto_passwd", "-U", folder / "users"], check=True)
    (folder / "rights").write_text("user line\ntopic write foilsight/+/status\ntopic write foilsight/+/bridge\n")
    strict = Mosquitto(folder, f"password_file {folder}/users", f"acl_file {folder}/rights")
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "wrong").write_text("wrong\n")
    config = settings(tmp_path, strict.port, user="line", password_file=tmp_path / "password")
    try:
        with line(config, tmp_path) as writer:
            writer.publish(RUNNING)
            wrong = replace(config, mqtt=replace(config.mqtt, password_file=tmp_path / "wrong"))
            for refused, words in (
                (wrong, "refuses the connection .*check .mqtt. user and password"),
                (config, "does not take"),
            ):
                with bridged(refused, tmp_path / "bridge") as ended:
                    writer.publish(*alarms(1))
                    eventually(lambda ended=ended: ended)
                with pytest.raises(EventsError, match=words):
                    raise ended[0]
            place = json.loads((tmp_path / "bridge/bridge.json").read_text())["places"]
            assert list(place.values()) == [1]
    finally:
        strict.kill()


@needs_mosquitto
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")  # paho leaves it open
def test_a_broker_is_spoken_to_over_tls_if_its_certificate_is_known(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    certificate = ("-subj", "/CN=plant", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    keys = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key", "-out", "ca")
    subprocess.run(["openssl", "req", "-x509", *keys, *certificate], cwd=folder, check=True, capture_output=True)
    secure = Mosquitto(folder, "allow_anonymous true", f"certfile {folder}/ca", f"keyfile {folder}/key")
    try:
        stranger = settings(tmp_path, secure.port, tls=True)
        with bridged(stranger, tmp_path / "bridge") as ended:
            eventually(lambda: ended)
        assert "certificate is not trusted (self-signed certificate)" in str(ended[0])
        ended.clear()
        gc.collect()  # what paho leaves open is warned of here
        config = settings(tmp_path, secure.port, tls=True, ca=folder / "ca")
        with line(config, tmp_path) as writer, bridged(config, tmp_path / "bridge"):
            writer.publish(RUNNING)
            eventually((tmp_path / "bridge/bridge.json").exists)
            eventually(lambda: ": 1" in (tmp_path / "bridge/bridge.json").read_text().replace(":1", ": 1"))
    finally:
        secure.kill()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mqtt.host: which broker"),
        ("[mqtt]\nhost = 'x'\nport = 0\n", r"\$\.mqtt\.port"),
        ("[mqtt]\nhost = 'x'\npassword_file = 'none'\n", "none: cannot be read"),
        ("[mqtt]\nhost = 'x'\ntls = true\nca = 'line.toml'\n", "line.toml: not certificates"),
    ],
)
def test_a_bridge_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    path = tmp_path / "line.toml"
    path.write_text(text)
    with pytest.raises((ConfigError, EventsError), match=words) as refused:
        bridge(config=path)
    assert "\n" not in str(refused.value)


def test_a_line_s_name_is_one_level_of_a_topic() -> None:
    assert topic_level("coater 2/a+#\n") == "coater 2_a___"


def test_without_paho_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("edge.service.bridge", "edge.service.mqtt"):
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(MissingExtra, match=r"paho-mqtt is not installed: run  pip install 'foilsight\[mqtt\]'"):
        importlib.import_module("edge.service.bridge")
