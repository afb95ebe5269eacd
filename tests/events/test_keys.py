"""Who may hear a line: on its machine everybody, off it known keys only."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from edge.core.errors import ConfigError, EventsError
from edge.events import EventWriter, KeyPair, LineKeys, ListenerKeys, Outbox, Subscriber, guard
from edge.events.keys import allow_client, read_clients

from .lines import ALARM, ORIGIN, numbered, taken

LINE, CONSOLE, STRANGER = KeyPair.fresh(), KeyPair.fresh(), KeyPair.fresh()


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    path = tmp_path / "clients"
    allow_client(path, "console", CONSOLE.public)
    return path


@pytest.fixture
def guarded(outbox: Outbox, publish: str, replay: str, clients: Path) -> Iterator[EventWriter]:
    with writer(outbox, publish, replay, LineKeys(LINE, clients)) as opened:
        yield opened


def writer(outbox: Outbox, publish: str | None, replay: str | None, keys: LineKeys | None) -> EventWriter:
    return EventWriter(outbox, publish, 0.05, replay_endpoint=replay, keys=keys, **msgspec.structs.asdict(ORIGIN))


@contextmanager
def raw_client(kind: int, endpoint: str, own: KeyPair | None, line: str = LINE.public) -> Iterator[zmq.Socket[bytes]]:
    """A client of nothing but ZeroMQ, which asks for everything."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.linger = 0
        if own is not None:
            socket.curve_serverkey, socket.curve_publickey = line.encode(), own.public.encode()
            socket.curve_secretkey = own.secret.encode()
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(endpoint)
        if kind == zmq.DEALER:
            socket.send(b'{"since": 0}')
        yield socket


def test_an_allowed_listener_has_everything_from_both_addresses(
    outbox: Outbox, publish: str, replay: str, guarded: EventWriter
) -> None:
    before = guarded.publish(*numbered(300))
    with Subscriber(publish, replay, keys=ListenerKeys(CONSOLE, LINE.public)) as events:
        assert taken(events, 300) == before
        assert guarded.publish(ALARM) == taken(events, 1)


def test_the_line_s_own_key_listens_without_being_listed(publish: str, replay: str, outbox: Outbox) -> None:
    with (
        writer(outbox, publish, replay, LineKeys(LINE)) as line,
        Subscriber(publish, replay, keys=ListenerKeys(LINE, LINE.public)) as events,
    ):
        assert line.publish(ALARM) == taken(events, 1)


@pytest.mark.parametrize(
    ("own", "line"),
    [(None, LINE.public), (STRANGER, LINE.public), (CONSOLE, STRANGER.public)],
    ids=["no key", "not allowed", "wrong key of the line"],
)
def test_who_is_not_allowed_gets_nothing(
    publish: str, replay: str, guarded: EventWriter, own: KeyPair | None, line: str
) -> None:
    guarded.publish(*numbered(5))
    with (
        raw_client(zmq.SUB, publish, own, line) as hearing,
        raw_client(zmq.DEALER, replay, own, line) as asking,
        Subscriber(publish, replay, keys=ListenerKeys(CONSOLE, LINE.public)) as allowed,
    ):
        assert len(taken(allowed, 5)) == 5
        sent = guarded.publish(*numbered(20))
        assert taken(allowed, 20) == sent  # what the others were to be sent has gone out by now
        assert not hearing.poll(200)
        assert not asking.poll(0)


def test_a_listener_is_told_why_it_hears_nothing(publish: str, replay: str, guarded: EventWriter) -> None:
    stranger = ListenerKeys(STRANGER, LINE.public)
    with (
        pytest.raises(EventsError, match=r"refuses this listener's key: .*foilsight keys allow NAME") as refused,
        Subscriber(publish, replay, keys=stranger) as events,
    ):
        taken(events, 1)
    assert STRANGER.public in str(refused.value)
    assert STRANGER.secret not in repr(stranger)
    with pytest.raises(EventsError, match="with keys only"), Subscriber(publish, replay) as events:
        taken(events, 1)


def test_a_wrong_key_of_the_line_is_told_and_the_line_waited_for(
    publish: str, guarded: EventWriter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(guard, "_IN_VAIN", 2)
    stop = threading.Event()
    with Subscriber(publish, None, keys=ListenerKeys(CONSOLE, STRANGER.public), stop=stop) as events:
        listening = threading.Thread(target=lambda: list(events))
        listening.start()
        until_s = time.monotonic() + 30
        while "check line_key" not in caplog.text and time.monotonic() < until_s:
            time.sleep(0.02)
        assert listening.is_alive()
        stop.set()
        listening.join()
    assert "has not the key of the line: check line_key" in caplog.text


def test_who_is_allowed_later_need_not_wait_for_a_restart(
    publish: str, replay: str, guarded: EventWriter, clients: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(EventsError), Subscriber(publish, replay, keys=ListenerKeys(STRANGER, LINE.public)) as events:
        taken(events, 1)
    assert f"foilsight keys allow NAME '{STRANGER.public}'" in caplog.text
    allow_client(clients, "mes", STRANGER.public)
    sent = guarded.publish(ALARM)
    with Subscriber(publish, replay, keys=ListenerKeys(STRANGER, LINE.public)) as events:
        assert taken(events, 1) == sent


def test_a_list_spoilt_while_the_line_runs_lets_in_who_was_in_it(
    publish: str, replay: str, guarded: EventWriter, clients: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clients.write_text("console = \n")
    sent = guarded.publish(ALARM)
    with (
        caplog.at_level(logging.WARNING),
        Subscriber(publish, replay, keys=ListenerKeys(CONSOLE, LINE.public)) as events,
    ):
        assert taken(events, 1) == sent
    assert f"counts as it was read last: {clients}" in caplog.text


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://0.0.0.0:5570", "tcp://*:5570", "tcp://192.0.2.1:1", "tcp://eth0:1", "tcp://[::]:1", "ws://192.0.2.1:1"],
)
def test_off_the_machine_only_with_keys(outbox: Outbox, publish: str, endpoint: str) -> None:
    for addresses in ((endpoint, None), (publish, endpoint)):
        with pytest.raises(ConfigError, match="only for known keys") as refused:
            writer(outbox, *addresses, None)
        assert str(refused.value).startswith(endpoint)
        assert "\n" not in str(refused.value)


def test_with_keys_every_address_is_open_to_known_listeners(outbox: Outbox, publish: str) -> None:
    everywhere = publish.replace("127.0.0.1", "0.0.0.0")
    with (
        writer(outbox, everywhere, None, LineKeys(LINE)) as line,
        Subscriber(publish, None, keys=ListenerKeys(LINE, LINE.public)) as events,
        raw_client(zmq.SUB, publish, None) as stranger,
    ):
        line.publish(ALARM)
        assert taken(events, 1)
        assert not stranger.poll(100)


def test_a_key_is_kept_so_that_nobody_else_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "line.key"
    LINE.write(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyPair.read(path) == LINE
    with pytest.raises(ConfigError, match=r"cannot be kept there \(File exists\)"):
        STRANGER.write(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others may read this secret key: chmod 600"):
        KeyPair.read(path)
    assert KeyPair.read(path, is_private=False) == LINE


@pytest.mark.parametrize(
    "content",
    ["", "short", "x" * 41, "é" * 20, f"{LINE.secret}\n{LINE.secret}"],
    ids=["empty", "short", "long", "not ASCII", "two keys"],
)
def test_what_is_no_key_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "line.key"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        KeyPair.read(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert str(refused.value).isprintable()


def test_a_list_of_clients_grows_by_a_line_and_keeps_what_a_person_wrote(tmp_path: Path) -> None:
    path = tmp_path / "clients"
    path.write_text("# the plant's\nmes = '" + STRANGER.public + "'")
    assert allow_client(path, "console", CONSOLE.public)
    assert not allow_client(path, "console", CONSOLE.public)
    assert read_clients(path) == {"mes": STRANGER.public, "console": CONSOLE.public}
    assert path.read_text().startswith("# the plant's\n")
    with pytest.raises(ConfigError, match="there with another key"):
        allow_client(path, "console", LINE.public)
    for name, key, words in (("a b", LINE.public, "a client's name"), ("a", LINE.public[1:], "not a public key")):
        with pytest.raises(ConfigError, match=words):
            allow_client(path, name, key)
    assert len(path.read_text().splitlines()) == 3


def test_a_line_without_a_list_it_was_told_of_does_not_start(outbox: Outbox, publish: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        writer(outbox, publish, None, LineKeys(LINE, tmp_path / "none"))
    files = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ConfigError):
        writer(outbox, publish, None, LineKeys(LINE, tmp_path / "none"))
    assert len(list(Path("/proc/self/fd").iterdir())) == files
