"""Asking for events again: pages, junk, floods; whoever asks, and however, the line goes on publishing."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.core.errors import EventsError
from edge.events import Envelope, Gap, Outbox, Subscriber, decode, replay_server
from edge.events.envelope import Heartbeat, encode
from edge.events.outbox import OutboxReader
from edge.events.replay_protocol import PAGE_EVENTS
from edge.events.replay_server import answer

from .lines import (
    ALARM,
    ORIGIN,
    PUBLISHER,
    child,
    free_endpoint,
    line,
    numbered,
    resident_bytes,
    resident_bytes_after,
    said,
    taken,
)


@contextmanager
def asking(replay: str) -> Iterator[Callable[[bytes], list[bytes]]]:
    """A client of nothing but ZeroMQ and JSON, as one in another language would be."""
    with zmq.Context() as context, context.socket(zmq.REQ) as request:
        request.linger = 0
        request.rcvtimeo = 10_000
        request.connect(replay)

        def ask(data: bytes) -> list[bytes]:
            request.send(data)
            return request.recv_multipart()

        yield ask


def test_a_page_is_the_very_bytes_that_were_published_and_of_bounded_size(
    outbox: Outbox, publish: str, replay: str
) -> None:
    sent = outbox.append(*numbered(3 * PAGE_EVENTS), origin=ORIGIN)
    with line(outbox, publish, replay), asking(replay) as ask:
        header, *events = ask(b'{"version": 1, "since": 41, "limit": 2, "later_field": 3}')
        assert msgspec.json.decode(header) == {
            "reply": "page",
            "version": 1,
            "stream": outbox.stream,
            "last_seq": 3 * PAGE_EVENTS,
        }
        assert events == [encode(event) for event in sent[41:43]]
        assert len(ask(b'{"since": 0, "limit": 1000000}')) == 1 + PAGE_EVENTS
        assert len(ask(b'{"since": 599}')) == 2
        assert len(ask(b'{"since": 600}')) == len(ask(b'{"since": 9000000000000000000}')) == 1
        assert len(ask(b'{"since": 0, "stream": "another"}')) == 1


JUNK = [b"", b"\xff", b"[]", b"{}", b'{"since": -1}', b'{"since": 1e99}', b'{"since": ' + b"9" * 300 + b"}"]
JUNK += [b'{"since": 0, "version": ' + b"9" * 4000 + b"}"]
JUNK += [b'{"since": 0, "limit": 0}', b'{"since": "all"}', b'{"since": 0, "version": 2}', b'{"a": ' + b"[" * 4000]
JUNK += [b'{"since": 0, "stream": "\xff"}', b'{"\xff": 0}']


def test_junk_is_refused_in_words_and_does_no_harm(outbox: Outbox, publish: str, replay: str) -> None:
    sent = outbox.append(*numbered(2), origin=ORIGIN)
    with line(outbox, publish, replay), asking(replay) as ask:
        for junk in JUNK:
            (reply,) = ask(junk)
            refusal = msgspec.json.decode(reply)
            assert (refusal["reply"], refusal["version"]) == ("refused", 1)
            assert 0 < len(refusal["error"]) < 400
            assert refusal["error"].isprintable()
        assert "version 2 is not spoken here" in msgspec.json.decode(ask(b'{"since": 0, "version": 2}')[0])["error"]
        assert [decode(event) for event in ask(b'{"since": 0}')[1:]] == sent


def test_any_frames_at_all_leave_the_line_answering(tmp_path: Path) -> None:
    replay = free_endpoint()
    with (
        Outbox(tmp_path / "outbox.sqlite") as outbox,
        line(outbox, free_endpoint(), replay),
        zmq.Context() as context,
        context.socket(zmq.DEALER) as dealer,
        asking(replay) as ask,
    ):
        dealer.linger = 0
        dealer.connect(replay)

        @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.lists(st.binary(max_size=200), min_size=1, max_size=5))
        def thrown(frames: list[bytes]) -> None:
            dealer.send_multipart(frames)
            assert b'"page"' in ask(b'{"since": 0}')[0]

        thrown()
        dealer.send(b'{"since": 0}' + b" " * 100_000)  # refused by ZeroMQ: the connection is cut
        assert b'"page"' in ask(b'{"since": 0}')[0]


def test_a_client_that_asks_without_reading_starves_nobody(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(2000), origin=ORIGIN)
    with (
        line(outbox, publish, replay) as writer,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as greedy,
        Subscriber(publish, replay) as events,
    ):
        greedy.linger = 0
        greedy.rcvhwm = 1
        greedy.connect(replay)
        for _ in range(500):
            greedy.send(b'{"since": 0}')
        assert taken(events, 2000) == list(outbox.since(0))
        sent = writer.publish(*numbered(50))
        assert taken(events, 50) == sent


def test_many_that_ask_without_reading_take_little_memory_and_delay_no_event(
    tmp_path: Path, publish: str, replay: str
) -> None:
    """Each of 8 is answered 50 times, with 256 KiB: 100 MB, were it all kept for them."""
    with (
        child(PUBLISHER, tmp_path / "outbox.sqlite", publish, replay, 4000) as publisher,
        zmq.Context() as context,
        ExitStack() as greedy,
        asking(replay) as ask,
    ):
        before = resident_bytes_after(publisher, 500)
        for _ in range(8):
            dealer = greedy.enter_context(context.socket(zmq.DEALER))
            dealer.linger, dealer.rcvhwm = 0, 1
            dealer.connect(replay)
            for _ in range(64):
                dealer.send(b'{"since": 0}')
        for _ in range(50):  # served in turn
            assert 1 < len(ask(b'{"since": 0}')) < 100
        assert resident_bytes_after(publisher, 500) - before < 40e6
        assert msgspec.json.decode(ask(b'{"since": 0}')[0])["last_seq"] == 1000


FLOOD = """
import itertools, sys, zmq
replay, request = sys.argv[1:]
context = zmq.Context()
sockets = [context.socket(zmq.DEALER) for _ in range(4)]
for socket in sockets:
    socket.connect(replay)
for count in itertools.count():
    for socket in sockets:
        try:
            socket.send(request.encode(), zmq.DONTWAIT)
        except zmq.Again:
            pass
    if count == 10_000:
        print("flooding", flush=True)
"""


@pytest.mark.parametrize("request_text", ['{"since": 0}', "x" * 4000], ids=["pages", "junk"])
def test_a_flood_of_requests_takes_little_of_the_line_s_processor_and_memory(
    outbox: Outbox, publish: str, replay: str, request_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = 0

    def counting(reader: OutboxReader, request: bytes) -> list[bytes]:
        nonlocal answered
        answered += 1
        return answer(reader, request)

    monkeypatch.setattr(replay_server, "answer", counting)
    with line(outbox, publish, replay) as writer:
        writer.publish(*numbered(1000))
        with child(FLOOD, replay, request_text) as flooding:
            assert said(flooding) == "flooding"
            before, at_s, resident = answered, time.monotonic(), resident_bytes()
            while time.monotonic() - at_s < 1:
                writer.publish(ALARM)
                time.sleep(0.02)
            assert 0 < answered - before <= 50 * (time.monotonic() - at_s) + 2
            assert resident_bytes() - resident < 20e6
        with asking(replay) as ask:
            assert msgspec.json.decode(ask(b'{"since": 0}')[0])["last_seq"] == outbox.last_seq


def niceness() -> dict[str, int]:
    """Of ZeroMQ's threads in this process, by their ids; a thread says that it is one soon after its start."""
    tasks = [task for task in Path("/proc/self/task").iterdir() if (task / "comm").read_text().startswith("ZMQbg")]
    return {task.name: os.getpriority(os.PRIO_PROCESS, int(task.name)) for task in tasks}


def niceness_of_newcomers(before: dict[str, int]) -> set[int]:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        found = {nice for thread, nice in niceness().items() if thread not in before}
        if found:
            return found
        time.sleep(0.01)
    return set()


def test_who_connects_to_ask_again_waits_behind_the_line_and_no_event_does(
    outbox: Outbox, publish: str, replay: str
) -> None:
    before, ours = niceness(), os.getpriority(os.PRIO_PROCESS, 0)
    with line(outbox, publish, None):
        assert niceness_of_newcomers(before) == {ours}
    before = niceness()
    with line(outbox, None, replay):
        assert niceness_of_newcomers(before) == {19}


BEGINS_AND_ENDS = """
import sys
from pathlib import Path
from edge.events import EventWriter, Outbox
path, publish, replay = sys.argv[1:]
about = {"line": "", "roll": "", "model": "", "calibration": ""}
with Outbox(Path(path)) as outbox:
    for _ in range(10):
        EventWriter(outbox, publish, 1.0, replay_endpoint=replay, **about).close()
        print("ended", flush=True)
"""


def test_garbage_on_the_wire_does_not_end_a_line_that_ends(tmp_path: Path, publish: str, replay: str) -> None:
    ports, over = [int(each.rpartition(":")[2]) for each in (publish, replay)], threading.Event()

    def throw() -> None:
        while not over.is_set():
            with ExitStack() as connections:
                for port in ports * 20:
                    connection = connections.enter_context(socket.socket())
                    connection.setblocking(False)
                    connection.connect_ex(("127.0.0.1", port))
                    with suppress(OSError):
                        connection.send(random.randbytes(1000))

    throwing = threading.Thread(target=throw)
    throwing.start()
    try:
        with child(BEGINS_AND_ENDS, tmp_path / "outbox.sqlite", publish, replay) as process:
            for _ in range(10):
                assert said(process) == "ended"
    finally:
        over.set()
        throwing.join()


def test_several_subscribers_hear_the_same(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(700), origin=ORIGIN)
    heard: list[list[Envelope | Gap]] = []

    def hear() -> None:
        with Subscriber(publish, replay) as events:
            heard.append(taken(events, 750))

    with line(outbox, publish, replay) as writer:
        threads = [threading.Thread(target=hear) for _ in range(4)]
        for thread in threads:
            thread.start()
        for body in numbered(50):
            writer.publish(body)
        for thread in threads:
            thread.join()
        assert heard == [list(outbox.since(0))] * 4


def test_an_address_in_use_is_told_and_leaves_nothing_open(outbox: Outbox, publish: str, replay: str) -> None:
    with line(outbox, publish, replay), pytest.raises(EventsError, match=f"{replay}.*in use"):
        line(outbox, free_endpoint(), replay)
    with line(outbox, publish, replay) as writer:  # the addresses are free again
        assert writer.publish(ALARM)[0].seq == 1


def test_a_stranger_at_the_replay_address_is_told(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(ALARM, origin=ORIGIN)
    with zmq.Context() as context, context.socket(zmq.ROUTER) as stranger:
        stranger.linger = 0
        stranger.bind(replay)
        stop = threading.Event()

        def answer() -> None:
            while not stop.is_set():
                if stranger.poll(20):
                    address, _ = stranger.recv_multipart()
                    stranger.send_multipart([address, encode(Heartbeat(stream="x", last_seq=3))])

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with line(outbox, publish, None), Subscriber(publish, replay, patience_s=0.1) as events:
                (gap,) = taken(events, 1)
        finally:
            stop.set()
            thread.join()
    assert isinstance(gap, Gap)
    assert f"{replay}: not a page of Foilsight events" in gap.why
