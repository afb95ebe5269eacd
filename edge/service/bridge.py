"""`foilsight bridge`: every event of a line to an MQTT broker, as JSON, as it was published.

foilsight/LINE/defect | coverage | alarm    at least once: `stream` and `seq` tell what came twice
foilsight/LINE/status                       retained: what the line was doing last
foilsight/LINE/gap                          events that can be had no more: stream, from_seq, to_seq, why
foilsight/LINE/bridge                       retained: online; silent (nothing is heard of the line); offline
"""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

import msgspec

from edge.core.config import Config, load_config
from edge.core.errors import ConfigError, EventsError
from edge.core.reading import read_file
from edge.events.envelope import Envelope, StatusEvent, encode
from edge.events.subscriber import Gap, Subscriber
from edge.service.answering import EXIT_DONE
from edge.service.folders import state_folder
from edge.service.keys import credential, listener_keys
from edge.service.logging import service_log
from edge.service.mqtt import Broker
from edge.service.notify import ServiceManager
from edge.service.options import require
from edge.service.stopping import stop_when_asked

PLACE = "bridge.json"
PASSWORD = "mqtt.password"
"""Name of the password where systemd hands it over (LoadCredential=)."""
ONLINE, SILENT, OFFLINE = "online", "silent", "offline"
_SILENT_HEARTBEATS = 5
_PASSWORD_BYTES = 4096


def bridge(*, config: Path, since: int | None = None) -> int:
    """Hand every event to an MQTT broker, until ctrl-C or SIGTERM; started again, it goes on where it was. Needs the
    extra [mqtt].

    Parameters
    ----------
    config
        Configuration (TOML): [mqtt] says which broker, [events] where the line is heard.
    since
        Where it has not been before: begin after the event of this number; 0 for all there are. Left out: what comes
        from now on.
    """
    require(since is None or since >= 0, "--since", "0 or more")
    settings = load_config(config)
    if not settings.mqtt.host:
        raise ConfigError(f"{config}: mqtt.host: which broker are events to go to?")
    service_log(line=settings.line)
    with stop_when_asked() as stop:
        carry(settings, state_folder(settings.line), since, stop)
    return EXIT_DONE


def carry(config: Config, state: Path, since: int | None, stop: threading.Event) -> None:
    """Hand events over until `stop` is set, and keep the place in the folder `state`.

    Raises FoilsightError where the broker or the line refuses, or the place cannot be kept.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EventsError(f"{state}: the place cannot be kept there ({error.strerror}): set STATE_DIRECTORY") from error
    topics = f"foilsight/{topic_level(config.line)}"
    keys, events = listener_keys(config.events), config.events
    client_id = f"foilsight-{topic_level(config.line)}-{socket.gethostname()}"
    with (
        suppress(_Stopped),
        closing(ServiceManager.from_environment()) as manager,
        Broker(config.mqtt, _password(config), client_id, f"{topics}/bridge", OFFLINE, stop) as broker,
        Subscriber(events.publish, events.replay, state=state / PLACE, since=since, stop=stop, keys=keys) as heard,
        _Watch(heard, broker, manager, _SILENT_HEARTBEATS * events.heartbeat_s) as watch,
    ):
        manager.tell(READY=1)
        for item in heard:
            with watch.busy():
                _hand_over(item, topics, broker)


class _Stopped(Exception):
    """Told to end before an item was handed over: it does not count as such."""


def _hand_over(item: Envelope | Gap, topics: str, broker: Broker) -> None:
    if isinstance(item, Gap):
        done = broker.publish(f"{topics}/gap", msgspec.json.encode(item))
    else:
        done = broker.publish(f"{topics}/{item.topic}", encode(item), retain=isinstance(item, StatusEvent))
    if not done:
        raise _Stopped


class _Watch:
    """Tells the broker whether the line is heard, and the service manager how it goes, from a thread of its own."""

    def __init__(self, heard: Subscriber, broker: Broker, manager: ServiceManager, silence_s: float) -> None:
        self._heard, self._broker, self._manager, self._silence_s = heard, broker, manager, silence_s
        self._busy, self._handed_s = False, time.monotonic()
        self._said, self._told = "", ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """While something that was heard is handed over, the line is not listened to, nor silent."""
        self._busy = True
        yield
        self._busy, self._handed_s = False, time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            last_s = max(self._heard.heard_s, self._handed_s)
            is_silent = not self._busy and time.monotonic() - last_s > self._silence_s
            self._tell(SILENT if is_silent else ONLINE)
            if self._ended.wait(min(1.0, self._silence_s / 2)):
                return

    def _tell(self, word: str) -> None:
        if word != self._said:
            self._broker.say(word)
            self._said = word
        line = "nothing is heard of the line" if word == SILENT else "the line is heard"
        status = f"{line}; the broker is {'connected' if self._broker.is_connected else 'away: events wait'}"
        if status != self._told:
            self._manager.tell(STATUS=status)
            self._told = status


def _password(config: Config) -> str | None:
    path = config.mqtt.password_file or credential(PASSWORD)
    if path is None:
        return None
    data = read_file(path, _PASSWORD_BYTES, ConfigError)
    try:
        return data.decode().rstrip("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a password in UTF-8") from error


def topic_level(name: str) -> str:
    """A name as one level of a topic."""
    return re.sub(r"[/+#\x00-\x1f]", "_", name)
