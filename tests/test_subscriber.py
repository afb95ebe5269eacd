"""Each event once and in order: through kill -9 of either side, junk, greed, and a line that does not answer."""

import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.core.errors import EventsError
from edge.core.types import Alarm, Status
from edge.events import Envelope, EventWriter, Gap, Origin, Outbox, Subscriber, decode
from edge.events.envelope import Heartbeat, encode
from edge.events.places import Places
from edge.events.replay_protocol import PAGE_EVENTS

ORIGIN = Origin(line="coater 2", roll="R17", model="ab12", calibration="cd34")
ALARM = Alarm(kind="lamp", since="2026-01-01T00:00:00.000000Z", detail="light 2 is dark")


def numbered(count: int) -> list[Status]:
    return [Status(kind=str(i), since="2026-01-01T00:00:00.000000Z") for i in range(count)]


def free_endpoint() -> str:
    """A port nobody listens at, from below the range out of which the system gives connections theirs."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return f"tcp://127.0.0.1:{port}"


@pytest.fixture
def publish() -> str:
    return free_endpoint()


@pytest.fixture
def replay() -> str:
    return free_endpoint()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as box:
        yield box


def line(outbox: Outbox, publish: str, replay: str | None) -> EventWriter:
    return EventWriter(outbox, publish, 0.05, replay_endpoint=replay, **msgspec.structs.asdict(ORIGIN))


def taken(events: Subscriber, count: int) -> list[Envelope | Gap]:
    return list(islice(events, count))


# What is handed over


def test_what_was_published_before_the_subscriber_came_is_handed_over_first(
    outbox: Outbox, publish: str, replay: str
) -> None:
    with line(outbox, publish, replay) as writer, Subscriber(publish, replay) as events:
        sent = writer.publish(*numbered(2 * PAGE_EVENTS + 3))
        assert taken(events, len(sent)) == sent
        sent = writer.publish(ALARM, *numbered(5))
        assert taken(events, len(sent)) == sent


@pytest.mark.parametrize(("since", "first"), [(0, 1), (4, 5), (9, 10), (None, 10)])
def test_since_says_where_to_begin(outbox: Outbox, publish: str, replay: str, since: int | None, first: int) -> None:
    outbox.append(*numbered(9), origin=ORIGIN)
    stop = threading.Event()
    heard: list[Envelope | Gap] = []
    with line(outbox, publish, replay) as writer, Subscriber(publish, replay, since=since, stop=stop) as events:

        def hear() -> None:
            for item in events:
                heard.append(item)
                if not isinstance(item, Gap) and item.topic == "alarm":
                    stop.set()

        thread = threading.Thread(target=hear)
        thread.start()
        while not stop.wait(0.05):  # one of these is heard, whenever the subscription arrives
            writer.publish(ALARM)
        thread.join()
    if since is None:
        assert [item.topic for item in heard if not isinstance(item, Gap)] == ["alarm"]
    else:
        assert heard == list(outbox.since(since))[: len(heard)]
        assert heard[0].seq == first


def test_only_topics_asked_for_are_handed_over_whether_live_or_replayed(
    outbox: Outbox, publish: str, replay: str
) -> None:
    outbox.append(ALARM, *numbered(3), ALARM, origin=ORIGIN)
    with line(outbox, publish, replay) as writer, Subscriber(publish, replay, topics=["alarm"]) as events:
        assert [item.seq for item in taken(events, 2)] == [1, 5]
        writer.publish(*numbered(3), ALARM)
        assert [item.seq for item in taken(events, 1)] == [9]


def test_a_new_stream_is_heard_from_its_beginning_and_an_old_one_goes_on(
    tmp_path: Path, publish: str, replay: str
) -> None:
    with (
        Outbox(tmp_path / "a") as a,
        Outbox(tmp_path / "b") as b,
        Subscriber(publish, replay, since=1) as events,
    ):
        for outbox, expected in [(a, [2, 3]), (b, [1, 2, 3]), (a, [4, 5, 6])]:
            outbox.append(*numbered(2), origin=ORIGIN)
            with line(outbox, publish, replay) as writer:
                writer.publish(ALARM)
                assert [(item.stream, item.seq) for item in taken(events, len(expected))] == [
                    (outbox.stream, seq) for seq in expected
                ]


# What is remembered


def test_an_event_counts_when_the_next_is_asked_for_or_on_close_but_not_on_an_exception(
    outbox: Outbox, publish: str, replay: str, tmp_path: Path
) -> None:
    outbox.append(*numbered(6), origin=ORIGIN)
    state = tmp_path / "state.json"

    def seqs(count: int, error: type[Exception] | None = None) -> list[int]:
        try:
            with Subscriber(publish, replay, state=state) as events:
                items = taken(events, count)
                if error is not None:
                    raise error
        except ArithmeticError:
            pass
        return [item.seq for item in items if not isinstance(item, Gap)]

    with line(outbox, publish, replay):
        assert seqs(2) == [1, 2]
        assert seqs(2, ArithmeticError) == [3, 4]  # 4 was taken, but not done with
        assert seqs(1, ArithmeticError) == [4]
        assert seqs(3) == [4, 5, 6]
    assert Places(state)[outbox.stream] == 6


def test_the_caller_may_keep_the_place_himself(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(6), origin=ORIGIN)
    place = {"another stream": 17, outbox.stream: 4}
    with line(outbox, publish, replay), Subscriber(publish, replay, state=place, since=None) as events:
        assert [item.seq for item in taken(events, 2)] == [5, 6]


def test_a_place_from_before_the_first_event_is_remembered(
    outbox: Outbox, publish: str, replay: str, tmp_path: Path
) -> None:
    """Begun at the end, dead before anything came: what came meanwhile is not passed over."""
    outbox.append(*numbered(3), origin=ORIGIN)
    state = tmp_path / "state.json"
    with line(outbox, publish, replay) as writer:
        stop = threading.Event()
        events = Subscriber(publish, replay, state=state, since=None, stop=stop)
        thread = threading.Thread(target=lambda: taken(events, 1))
        thread.start()
        while not state.exists():
            stop.wait(0.01)
        stop.set()
        thread.join()
        events.__exit__(RuntimeError, RuntimeError(), None)
        writer.publish(ALARM)
        with Subscriber(publish, replay, state=state, since=None) as events:
            assert [item.seq for item in taken(events, 1)] == [4]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"places": {"a": -1}}', b'{"places": {}, "version": 2}', b"\xff\x00"]
)
def test_a_damaged_state_is_told_and_left_alone(publish: str, tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state.json"
    state.write_bytes(content)
    with pytest.raises(EventsError, match=r"state\.json: not a subscriber's state"):
        Subscriber(publish, None, state=state)
    assert state.read_bytes() == content


def test_a_state_that_cannot_be_written_is_told(outbox: Outbox, publish: str, replay: str, tmp_path: Path) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    with (
        line(outbox, publish, replay),
        pytest.raises(EventsError, match=r"state\.json: what was heard cannot be noted"),
        Subscriber(publish, replay, state=tmp_path / "nowhere" / "state.json") as events,
    ):
        taken(events, 2)


def test_the_state_stays_small_however_many_streams_there_were(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    places = Places(state)
    for i in range(500):
        places.move(f"stream {i}", i)
        places.move("always", i)
    places.save()
    assert state.stat().st_size < 4096
    again = Places(state)
    assert (again["always"], again["stream 499"]) == (499, 499)
    assert list(tmp_path.iterdir()) == [state]


# What cannot be had


def test_no_answer_is_a_gap_in_its_place_and_the_rest_goes_on(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    with line(outbox, publish, None) as writer, Subscriber(publish, replay, patience_s=0.2) as events:
        (gap,) = taken(events, 1)
        assert gap == Gap(outbox.stream, 1, 3, f"{replay} does not answer")
        sent = writer.publish(ALARM)
        assert taken(events, 1) == sent


def test_a_gap_that_is_not_accepted_is_asked_for_again(
    outbox: Outbox, publish: str, replay: str, tmp_path: Path
) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    state = tmp_path / "state.json"
    with (
        line(outbox, publish, None),
        pytest.raises(ArithmeticError),
        Subscriber(publish, replay, state=state, patience_s=0.1) as events,
    ):
        assert isinstance(next(events), Gap)
        raise ArithmeticError
    with line(outbox, publish, replay), Subscriber(publish, replay, state=state) as events:
        assert taken(events, 3) == list(outbox.since(0))


def test_a_line_that_answers_late_is_waited_for(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    with line(outbox, publish, None), Subscriber(publish, replay) as events:
        late: list[EventWriter] = []
        timer = threading.Timer(0.5, lambda: late.append(line(outbox, free_endpoint(), replay)))
        timer.start()
        assert taken(events, 3) == list(outbox.since(0))
        timer.join()
        late[0].close()


def test_events_of_a_stream_that_is_gone_are_a_gap_at_once(tmp_path: Path, publish: str, replay: str) -> None:
    with (
        Outbox(tmp_path / "old") as old,
        Outbox(tmp_path / "new") as new,
        line(new, free_endpoint(), replay),
    ):
        old.append(*numbered(2), origin=ORIGIN)
        with line(old, publish, None), Subscriber(publish, replay) as events:
            assert taken(events, 1) == [Gap(old.stream, 1, 2, f"the line has begun another stream, {new.stream}")]


def test_events_missing_from_the_outbox_are_a_gap_in_their_place(outbox: Outbox, publish: str, replay: str) -> None:
    sent = outbox.append(*numbered(9), origin=ORIGIN)
    with sqlite3.connect(outbox.path) as database:
        database.execute("DELETE FROM events WHERE seq IN (1, 2, 5)")
    database.close()
    gap = [Gap(outbox.stream, 1, 2, "not in the outbox"), Gap(outbox.stream, 5, 5, "not in the outbox")]
    with line(outbox, publish, replay), Subscriber(publish, replay) as events:
        assert taken(events, 8) == [gap[0], *sent[2:4], gap[1], *sent[5:]]


@pytest.mark.parametrize("waiting_for", ["a line", "an answer"])
def test_stop_ends_the_iteration_whatever_it_waits_for(
    outbox: Outbox, publish: str, replay: str, waiting_for: str
) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    stop = threading.Event()
    with line(outbox, publish if waiting_for == "an answer" else free_endpoint(), None):
        timer = threading.Timer(0.3, stop.set)
        timer.start()
        with Subscriber(publish, replay, stop=stop) as events:
            assert list(events) == []
    with line(outbox, publish, replay), Subscriber(publish, replay, stop=(stop := threading.Event())) as events:
        for item in events:  # in the middle of a page as well
            stop.set()
            assert item == next(outbox.since(0))


def test_a_place_beyond_the_end_is_told(outbox: Outbox, publish: str, replay: str) -> None:
    outbox.append(*numbered(3), origin=ORIGIN)
    for endpoint in (replay, None):
        with (
            line(outbox, publish, replay),
            pytest.raises(EventsError, match="ends at event 3, before the place to go on after, 7"),
            Subscriber(publish, endpoint, since=7) as events,
        ):
            next(events)
    with pytest.raises(EventsError, match="0 or more, not -1"):
        Subscriber(publish, replay, since=-1)


# The wire


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
JUNK += [b'{"since": 0, "limit": 0}', b'{"since": "all"}', b'{"since": 0, "version": 2}', b'{"a": ' + b"[" * 4000]


def test_junk_is_refused_in_words_and_does_no_harm(outbox: Outbox, publish: str, replay: str) -> None:
    sent = outbox.append(*numbered(2), origin=ORIGIN)
    with line(outbox, publish, replay), asking(replay) as ask:
        for junk in JUNK:
            (reply,) = ask(junk)
            refusal = msgspec.json.decode(reply)
            assert (refusal["reply"], refusal["version"]) == ("refused", 1)
            assert refusal["error"]
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


# kill -9

PUBLISH = """
import sys, time
from pathlib import Path
from edge.core.types import Status
from edge.events import EventWriter, Outbox
path, publish, replay, count = sys.argv[1:]
with Outbox(Path(path)) as outbox, EventWriter(
    outbox, publish, 0.05, line="", roll="", model="", calibration="", replay_endpoint=replay
) as writer:
    print("open", flush=True)
    while outbox.last_seq < int(count):
        writer.publish(*[Status(kind="running", since="")] * 4)
        time.sleep(0.002)
    sys.stdin.read()
"""

CONSUME = """
import sys
from pathlib import Path
from edge.events import Gap, Subscriber
heard, publish, replay, state = Path(sys.argv[1]), *sys.argv[2:]
place = {}
if state:
    place = Path(state)
else:  # one write of one line is the event and the place in one: a torn last line never happened
    whole = heard.read_bytes().rpartition(b"\\n")[0] if heard.exists() else b""
    heard.write_bytes(whole + b"\\n" * bool(whole))
    if whole:
        stream, seq = whole.rpartition(b"\\n")[2].split()
        place = {stream.decode(): int(seq)}
with Subscriber(publish, replay, state=place) as events, heard.open("ab", buffering=0) as file:
    for event in events:
        assert not isinstance(event, Gap), event
        file.write(f"{event.stream} {event.seq}\\n".encode())
        print(event.seq, flush=True)
"""


@contextmanager
def child(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_to(process: "subprocess.Popen[str]", seq: int) -> None:
    assert process.stdout is not None
    for text in process.stdout:
        if int(text) >= seq:
            return
    raise AssertionError(f"ended before event {seq}")


@pytest.mark.parametrize(("kept_by", "count", "kills"), [("caller", 8000, 20), ("subscriber", 1200, 10)])
def test_a_listener_killed_again_and_again_has_each_event(
    tmp_path: Path, publish: str, replay: str, kept_by: str, count: int, kills: int
) -> None:
    heard = tmp_path / "heard"
    state = tmp_path / "state.json" if kept_by == "subscriber" else ""
    with child(PUBLISH, tmp_path / "outbox.sqlite", publish, replay, count):
        for kill in range(1, kills + 2):
            with child(CONSUME, heard, publish, replay, state) as listener:
                read_to(listener, kill * count // (kills + 1))
                listener.send_signal(signal.SIGKILL)
    seqs = [int(text.split()[1]) for text in heard.read_text().splitlines()]
    times = Counter(seqs)
    assert sorted(times) == list(range(1, seqs[-1] + 1))
    assert seqs[-1] == count
    if kept_by == "caller":
        assert seqs == sorted(times)  # exactly once
    else:
        assert seqs == sorted(seqs)  # the event being worked on when the kill came, and only that one, comes twice
        assert sum(times.values()) <= count + kills
        assert max(times.values()) <= 2


def test_a_line_killed_and_restarted_on_the_same_outbox_loses_nothing(
    tmp_path: Path, publish: str, replay: str
) -> None:
    path = tmp_path / "outbox.sqlite"
    heard: list[Envelope | Gap] = []
    with Subscriber(publish, replay) as events:
        for upto in (400, 800, 1200, 1600):
            with child(PUBLISH, path, publish, replay, 1600) as publisher:
                heard += taken(events, upto - len(heard))
                publisher.send_signal(signal.SIGKILL)
    with Outbox(path) as outbox:
        assert heard == list(outbox.since(0))
        assert len(heard) == 1600


LISTEN = """
import sys
from edge.service.listening import print_events
publish, replay, since = sys.argv[1:]
print_events(publish, ["alarm"], True, replay=replay, since=int(since))
"""


def test_listening_since_a_number_prints_what_was_missed_and_ends_with_ctrl_c(
    outbox: Outbox, publish: str, replay: str
) -> None:
    sent = outbox.append(ALARM, *numbered(3), ALARM, ALARM, origin=ORIGIN)
    with line(outbox, publish, replay), child(LISTEN, publish, replay, 1) as listener:
        assert listener.stdout is not None
        assert [decode(listener.stdout.readline().encode()) for _ in range(2)] == sent[4:]
        listener.send_signal(signal.SIGINT)
        assert listener.stdout.read() == ""
        assert listener.wait(timeout=60) == 0
