"""No event is lost without a trace: what was appended is on disk, what was not heard is known by its number."""

import queue
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq
from conftest import files_of_at_most

from edge.core.errors import EventsError
from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events import Envelope, EventWriter, Gap, Origin, Outbox, Subscriber, decode, json_schema
from edge.events.envelope import Body, Heartbeat, encode, envelope

ORIGIN = Origin(line="coater 2", roll="R17", model="ab12", calibration="cd34")
DEFECT = Defect(
    id=3,
    label="crack",
    phase="closed",
    box_mm=(1.0, 2.0, 3.5, 4.5),
    centroid_mm=(2.25, 3.25),
    area_mm2=0.7,
    length_mm=3.2,
    width_mm=0.4,
    orientation_deg=-45.0,
    score_mean=0.8,
    score_max=0.95,
    contour_mm=[[(1.0, 2.0), (3.5, 4.5), (1.0, 4.5)], [(1.5, 4.0)]],
)
COVERAGE = Coverage(from_row=0, to_row=256, from_mm=0.0, to_mm=12.8, state="degraded", why="frame lost")
ALARM = Alarm(kind="lamp", since="2026-01-01T00:00:00.000000Z", detail="light 2 is dark")
STATUS = Status(kind="running", since="2026-01-01T00:00:00.000000Z")
BODIES: list[Body] = [DEFECT, COVERAGE, ALARM, STATUS]


def numbered(count: int) -> list[Status]:
    return [Status(kind=str(i), since="2026-01-01T00:00:00.000000Z") for i in range(count)]


@pytest.fixture
def endpoint() -> str:
    """A port nobody listens at, from below the range out of which the system gives connections theirs."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return f"tcp://127.0.0.1:{port}"


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.sqlite") as box:
        yield box


def writer(outbox: Outbox, endpoint: str | None, heartbeat_s: float = 0.05) -> EventWriter:
    return EventWriter(outbox, endpoint, heartbeat_s, **msgspec.structs.asdict(ORIGIN))


def missed(stream: str, from_seq: int, to_seq: int) -> Gap:
    return Gap(stream, from_seq, to_seq, "nowhere to ask for them")


@contextmanager
def listening(endpoint: str, topics: Collection[str] = ()) -> Iterator["queue.Queue[Envelope | Gap | EventsError]"]:
    heard: queue.Queue[Envelope | Gap | EventsError] = queue.Queue()
    stop = threading.Event()

    def hear() -> None:
        try:
            with Subscriber(endpoint, None, topics=topics, stop=stop) as events:
                for item in events:
                    heard.put(item)
        except EventsError as error:
            heard.put(error)

    thread = threading.Thread(target=hear)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join()


# Envelope


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_an_event_comes_back_as_it_went(body: Body) -> None:
    event = envelope(body, ORIGIN, "stream", 7)
    assert decode(encode(event)) == event
    plain = msgspec.json.decode(encode(event))
    assert plain["topic"] == type(body).__name__.lower() == event.topic
    assert (plain["schema"], plain["stream"], plain["seq"], plain["roll"]) == (1, "stream", 7, "R17")
    assert plain["time"].endswith("Z")


def test_an_older_reader_skips_fields_added_later() -> None:
    event = envelope(DEFECT, ORIGIN, "stream", 7)
    plain = msgspec.json.decode(encode(event))
    plain["shift"] = "night"
    plain["body"]["depth_mm"] = 0.2
    assert decode(msgspec.json.encode(plain)) == event


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b'{"topic": "weather"}', b'{"topic": "defect", "seq": 1}'])
def test_what_is_not_an_event_is_refused(data: bytes) -> None:
    with pytest.raises(EventsError, match="not a Foilsight event"):
        decode(data)


def test_the_schema_tells_each_topic_by_its_body() -> None:
    schema = json_schema()
    definitions = schema["$defs"]
    for body in BODIES:
        event = envelope(body, ORIGIN, "stream", 7)
        definition = definitions[schema["discriminator"]["mapping"][event.topic].removeprefix("#/$defs/")]
        assert definition["properties"]["topic"] == {"enum": [event.topic]}
        plain = msgspec.json.decode(encode(event))
        assert set(definition["required"]) <= set(plain) == set(definition["properties"])
        of_body = definitions[definition["properties"]["body"]["$ref"].removeprefix("#/$defs/")]
        assert set(of_body["required"]) <= set(plain["body"]) == set(of_body["properties"])


# Outbox


def test_an_outbox_that_is_opened_again_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        first = outbox.append(DEFECT, COVERAGE, origin=ORIGIN)
    with Outbox(path) as outbox:
        assert outbox.last_seq == 2
        second = outbox.append(ALARM, origin=ORIGIN)
        assert [event.seq for event in first + second] == [1, 2, 3]
        assert {event.stream for event in first + second} == {outbox.stream}
        assert list(outbox.since(0)) == first + second
        assert list(outbox.since(2)) == second
        assert list(outbox.since(3)) == []


def test_all_of_a_long_outbox_is_read(outbox: Outbox) -> None:
    outbox.append(*numbered(1203), origin=ORIGIN)
    assert [event.body.kind for event in outbox.since(1)] == [str(i) for i in range(1, 1203)]


APPEND_FOREVER = """
import sys
from pathlib import Path
from edge.core.types import Status
from edge.events import Origin, Outbox
outbox = Outbox(Path(sys.argv[1]))
origin = Origin(line="", roll="", model="", calibration="")
while True:
    events = outbox.append(*[Status(kind="running", since="")] * 3, origin=origin)
    print(events[-1].seq, flush=True)
"""


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    acknowledged = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", APPEND_FOREVER, path], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(20):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            rest = child.stdout.read().rpartition("\n")[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        with Outbox(path) as outbox:
            assert outbox.last_seq >= acknowledged
            assert [event.seq for event in outbox.since(0)] == list(range(1, outbox.last_seq + 1))
            assert outbox.last_seq % 3 == 0


def test_a_full_disk_is_told_and_leaves_no_hole(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.append(DEFECT, origin=ORIGIN)
        with (
            files_of_at_most(100_000),
            pytest.raises(EventsError, match=r"outbox\.sqlite: outbox cannot be written"),
        ):
            outbox.append(*[DEFECT] * 1000, origin=ORIGIN)
        assert [event.seq for event in outbox.append(ALARM, origin=ORIGIN)] == [2]
        assert [event.topic for event in outbox.since(0)] == ["defect", "alarm"]


def test_a_locked_outbox_is_told(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(EventsError, match="locked"):
            outbox.append(DEFECT, origin=ORIGIN)
        other.close()
        assert outbox.append(DEFECT, origin=ORIGIN)[0].seq == 1


def test_files_that_cannot_be_an_outbox_are_told_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(EventsError, match="nowhere"):
        Outbox(tmp_path / "nowhere" / "outbox.sqlite")
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to look like one\n" * 100)
    with pytest.raises(EventsError, match=r"notes\.txt.*not a database"):
        Outbox(text)
    foreign = tmp_path / "foreign.sqlite"
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE stock (part TEXT)")
    database.close()
    before = foreign.read_bytes()
    with pytest.raises(EventsError, match="not an outbox"):
        Outbox(foreign)
    assert foreign.read_bytes() == before


# Publisher and subscriber


def test_a_late_listener_is_told_what_it_missed_then_hears_everything_in_order(outbox: Outbox, endpoint: str) -> None:
    with writer(outbox, endpoint) as events:
        events.publish(*numbered(3))
        with listening(endpoint) as heard:
            assert heard.get(timeout=10) == missed(
                outbox.stream, 1, 3
            )  # nothing more was published: a heartbeat told it
            sent = events.publish(*BODIES) + events.publish(ALARM)
            assert [heard.get(timeout=10) for _ in sent] == sent
        assert list(outbox.since(3)) == sent


def test_events_of_topics_not_asked_for_are_no_gap(outbox: Outbox, endpoint: str) -> None:
    outbox.append(STATUS, origin=ORIGIN)
    with writer(outbox, endpoint) as events, listening(endpoint, ["alarm"]) as heard:
        assert heard.get(timeout=10) == missed(outbox.stream, 1, 1)
        events.publish(DEFECT, COVERAGE, DEFECT)
        alarm = events.publish(ALARM)
        assert [heard.get(timeout=10)] == alarm


def test_events_lost_on_the_way_are_a_gap_and_a_new_outbox_counts_afresh(endpoint: str) -> None:
    events = [envelope(body, ORIGIN, "old", seq) for seq, body in enumerate(numbered(9), 1)]
    afresh = envelope(ALARM, ORIGIN, "new", 2)
    with zmq.Context() as context, context.socket(zmq.PUB) as pub, listening(endpoint) as heard:
        pub.linger = 0
        pub.bind(endpoint)

        def send(message: Envelope | Heartbeat) -> None:
            pub.send_multipart([message.topic.encode(), encode(message)])

        while heard.empty():  # until the subscription has arrived
            send(events[0])
        for message in (events[3], events[4], Heartbeat(stream="old", last_seq=5), Heartbeat(stream="old", last_seq=8)):
            send(message)
        send(events[8])
        send(afresh)
        items = []
        while not items or items[-1] != afresh:
            items.append(heard.get(timeout=10))
        assert [item for item in items if item != events[0]] == [
            missed("old", 2, 3),
            events[3],
            events[4],
            missed("old", 6, 8),
            events[8],
            missed("new", 1, 1),
            afresh,
        ]


def test_an_address_in_use_or_no_address_is_told(outbox: Outbox, endpoint: str) -> None:
    with writer(outbox, endpoint):
        with pytest.raises(EventsError, match=f"{endpoint}.*in use"):
            writer(outbox, endpoint)
        with pytest.raises(EventsError, match="nonsense"):
            writer(outbox, "nonsense")
    with writer(outbox, endpoint) as events:  # the address is free again
        assert events.publish(ALARM)[0].seq == 1
    with pytest.raises(EventsError, match="nonsense"):
        Subscriber("nonsense", None)
    with pytest.raises(EventsError, match="nonsense"):
        Subscriber(endpoint, "nonsense")


def test_a_stranger_at_the_address_is_told(endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as pub, listening(endpoint) as heard:
        pub.linger = 0
        pub.bind(endpoint)
        while heard.empty():
            pub.send(b"hello")
        error = heard.get()
        assert isinstance(error, EventsError)
        assert endpoint in str(error)


def test_without_an_endpoint_events_still_reach_the_outbox(outbox: Outbox) -> None:
    with writer(outbox, None) as events:
        assert events.publish() == []
        sent = events.publish(DEFECT)
    assert list(outbox.since(0)) == sent


def test_events_of_several_threads_go_out_in_the_order_of_their_numbers(outbox: Outbox, endpoint: str) -> None:
    outbox.append(STATUS, origin=ORIGIN)
    with writer(outbox, endpoint, heartbeat_s=0.001) as events, listening(endpoint) as heard:
        assert heard.get(timeout=10) == missed(outbox.stream, 1, 1)
        threads = [threading.Thread(target=lambda: [events.publish(ALARM) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        received = [heard.get(timeout=10) for _ in range(200)]
    assert received == list(outbox.since(1))
