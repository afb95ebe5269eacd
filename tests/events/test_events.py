"""No event is lost without a trace: what was not heard is known by its number."""

import queue
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import msgspec
import pytest
import zmq
from conftest import files_of_at_most

from edge.core.errors import EventsError
from edge.core.types import Status
from edge.events import Envelope, Gap, Outbox, Subscriber, decode, json_schema
from edge.events.envelope import Body, Heartbeat, encode, envelope

from .lines import ALARM, COVERAGE, DEFECT, ORIGIN, line, numbered, taken

STATUS = Status(kind="running", since="2026-01-01T00:00:00.000000Z")
BODIES: list[Body] = [DEFECT, COVERAGE, ALARM, STATUS]


def missed(stream: str, from_seq: int, to_seq: int) -> Gap:
    return Gap(stream, from_seq, to_seq, "nowhere to ask for them")


@contextmanager
def listening(publish: str, topics: Collection[str] = ()) -> Iterator["queue.Queue[Envelope | Gap | EventsError]"]:
    heard: queue.Queue[Envelope | Gap | EventsError] = queue.Queue()
    stop = threading.Event()

    def hear() -> None:
        try:
            with Subscriber(publish, None, topics=topics, stop=stop) as events:
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


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b'{"topic": "\xff"}',
        b'{"topic": "alarm", "later": ' + b"[" * 9999,
        b"[]",
        b'{"topic": "weather"}',
        b'{"topic": "defect", "seq": 1}',
    ],
)
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


# Publisher and subscriber


def test_a_late_listener_is_told_what_it_missed_then_hears_everything_in_order(outbox: Outbox, publish: str) -> None:
    with line(outbox, publish, None) as events:
        events.publish(*numbered(3))
        with listening(publish) as heard:
            assert heard.get(timeout=10) == missed(
                outbox.stream, 1, 3
            )  # nothing more was published: a heartbeat told it
            sent = events.publish(*BODIES) + events.publish(ALARM)
            assert [heard.get(timeout=10) for _ in sent] == sent
        assert list(outbox.since(3)) == sent


def test_events_of_topics_not_asked_for_are_no_gap(outbox: Outbox, publish: str) -> None:
    outbox.append(STATUS, origin=ORIGIN)
    with line(outbox, publish, None) as events, listening(publish, ["alarm"]) as heard:
        assert heard.get(timeout=10) == missed(outbox.stream, 1, 1)
        events.publish(DEFECT, COVERAGE, DEFECT)
        alarm = events.publish(ALARM)
        assert [heard.get(timeout=10)] == alarm


def test_events_lost_on_the_way_are_a_gap_and_a_new_outbox_counts_afresh(publish: str) -> None:
    events = [envelope(body, ORIGIN, "old", seq) for seq, body in enumerate(numbered(9), 1)]
    afresh = envelope(ALARM, ORIGIN, "new", 2)
    with zmq.Context() as context, context.socket(zmq.PUB) as pub, listening(publish) as heard:
        pub.linger = 0
        pub.bind(publish)

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


def test_an_address_in_use_or_no_address_is_told(outbox: Outbox, publish: str) -> None:
    with line(outbox, publish, None):
        with pytest.raises(EventsError, match=f"{publish}.*in use"):
            line(outbox, publish, None)
        with pytest.raises(EventsError, match="nonsense"):
            line(outbox, "nonsense", None)
    with line(outbox, publish, None) as events:  # the address is free again
        assert events.publish(ALARM)[0].seq == 1
    with pytest.raises(EventsError, match="nonsense"):
        Subscriber("nonsense", None)
    with pytest.raises(EventsError, match="nonsense"):
        Subscriber(publish, "nonsense")


def test_a_stranger_at_the_address_is_told(publish: str) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as pub, listening(publish) as heard:
        pub.linger = 0
        pub.bind(publish)
        while heard.empty():
            pub.send(b"hello")
        error = heard.get()
        assert isinstance(error, EventsError)
        assert publish in str(error)


def test_without_an_endpoint_events_still_reach_the_outbox(outbox: Outbox) -> None:
    with line(outbox, None, None) as events:
        assert events.publish() == []
        sent = events.publish(DEFECT)
    assert list(outbox.since(0)) == sent


def test_events_of_several_threads_go_out_in_the_order_of_their_numbers(outbox: Outbox, publish: str) -> None:
    outbox.append(STATUS, origin=ORIGIN)
    with line(outbox, publish, None, heartbeat_s=0.001) as events, listening(publish) as heard:
        assert heard.get(timeout=10) == missed(outbox.stream, 1, 1)
        threads = [threading.Thread(target=lambda: [events.publish(ALARM) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        received = [heard.get(timeout=10) for _ in range(200)]
    assert received == list(outbox.since(1))


def test_what_a_full_disk_refused_was_never_published_and_the_line_goes_on(
    outbox: Outbox, publish: str, replay: str
) -> None:
    with line(outbox, publish, replay) as writer, Subscriber(publish, replay) as events:
        before = writer.publish(ALARM)
        with files_of_at_most(100_000), pytest.raises(EventsError, match=r"cannot be written .*: check .* free space"):
            writer.publish(*[DEFECT] * 1000)
        after = writer.publish(ALARM)
        assert [event.seq for event in before + after] == [1, 2]
        assert taken(events, 2) == before + after
