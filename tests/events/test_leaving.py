"""ZeroMQ may hang when it ends: a line and a listener end all the same, and say so."""

import logging
import threading
from collections.abc import Iterator

import pytest
import zmq

from edge.events import Outbox, Subscriber
from edge.events.leaving import leave

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
