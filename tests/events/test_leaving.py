"""ZeroMQ may hang when it ends: a line and a listener end all the same, and say so."""

import logging
import random
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from edge.events import Outbox, Subscriber
from edge.events.leaving import leave, lingering

from .lines import child, line, said

SAYS = "ZeroMQ did not end within 0.05 s and was left behind"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.events.leaving._GIVE_UP_S", 0.05)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Contexts that do not end until the test is over."""
    over, end = threading.Event(), zmq.Context.term
    monkeypatch.setattr(zmq.Context, "term", lambda context: over.wait() and end(context))
    yield
    over.set()
    for thread in threading.enumerate():
        if thread.name == "leaving":
            thread.join()


def test_a_context_with_a_socket_still_open_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    context = zmq.Context()
    held = zmq.Context.shadow(context.underlying).socket(zmq.PUB)  # unknown to `context`, which waits for it for ever
    leave(context, "tcp://somewhere")
    assert [(entry.levelno, entry.getMessage()[:16]) for entry in caplog.records] == [
        (logging.WARNING, "tcp://somewhere:")
    ]
    assert SAYS in caplog.text
    assert not context.closed
    held.close(linger=0)
    for thread in threading.enumerate():
        if thread.name == "leaving":
            thread.join()
    assert context.closed


def test_a_context_that_ends_says_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.events.leaving._GIVE_UP_S", 60.0)
    leave(context := zmq.Context(), "tcp://somewhere")
    assert context.closed
    assert caplog.text == ""


@pytest.mark.usefixtures("hanging")
def test_line_and_listener_end_and_name_their_address(
    outbox: Outbox, publish: str, replay: str, caplog: pytest.LogCaptureFixture
) -> None:
    for ending in (line(outbox, publish, replay), Subscriber(publish, replay)):
        caplog.clear()
        ending.close()
        assert caplog.text.count(f"{publish}: {SAYS}") == 1


HANG = """
import sys
import zmq
from edge.events import leaving
leaving._GIVE_UP_S = 0.05
context = zmq.Context()
held = zmq.Context.shadow(context.underlying).socket(zmq.PUB)
print("leaving", flush=True)
leaving.leave(context, "tcp://somewhere")
"""


def test_the_process_ends_too_and_says_so_on_its_error_stream(capfd: pytest.CaptureFixture[str]) -> None:
    with child(HANG) as process:
        assert said(process) == "leaving"
        assert process.wait(timeout=60) == 0
    error = capfd.readouterr().err
    assert error.startswith(f"tcp://somewhere: {SAYS}") and error.count("\n") == 1


def test_a_context_ends_though_its_peers_leave_at_the_same_moment(
    publish: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the linger time was set on closing, as ZeroMQ's examples do, one in thirty hung."""
    monkeypatch.setattr("edge.events.leaving._GIVE_UP_S", 10.0)
    with zmq.Context() as peers:
        peers.linger = 0
        for _ in range(100):
            context = lingering(300)
            socket = context.socket(zmq.PUB)
            while True:
                try:
                    socket.bind(publish)
                    break
                except zmq.ZMQError:  # the listener before is still going
                    time.sleep(0.001)

            def send(count: int, socket: zmq.Socket[bytes] = socket) -> None:
                for _ in range(count):
                    socket.send(bytes(3000))

            subscribers = [peers.socket(zmq.SUB) for _ in range(6)]
            for subscriber in subscribers:
                subscriber.subscribe(b"")
                subscriber.connect(publish)
            time.sleep(0.015)
            send(40)
            thread = threading.Thread(target=lambda leaving: [each.close() for each in leaving], args=[subscribers])
            thread.start()
            time.sleep(random.uniform(0, 0.002))
            send(5)
            leave(context, publish)
            thread.join()
            assert caplog.text == ""
