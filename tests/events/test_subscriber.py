"""Each event once and in order; the place is remembered; what cannot be had is told."""

import sqlite3
import threading
from pathlib import Path

import pytest

from edge.core.errors import EventsError
from edge.events import Envelope, EventWriter, Gap, Outbox, Subscriber
from edge.events.places import Places
from edge.events.replay_protocol import PAGE_EVENTS

from .lines import ALARM, ORIGIN, free_endpoint, line, numbered, taken

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
    "content",
    [b"", b"[]", b'{"places": {"a": -1}}', b'{"places": {}, "version": 2}', b"\xff\x00", b'{"places": {"\xff": 1}}'],
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
    gap = [Gap(outbox.stream, 1, 2, "no longer in the outbox"), Gap(outbox.stream, 5, 5, "no longer in the outbox")]
    with line(outbox, publish, replay), Subscriber(publish, replay) as events:
        assert taken(events, 8) == [gap[0], *sent[2:4], gap[1], *sent[5:]]


def test_numbers_deleted_to_make_room_are_told_and_the_rest_follows(tmp_path: Path, publish: str, replay: str) -> None:
    with Outbox(tmp_path / "outbox.sqlite", keep_mb=0.1) as outbox:
        for body in numbered(1000):
            outbox.append(body, origin=ORIGIN)
        kept = list(outbox.since(0))
        with line(outbox, publish, replay), Subscriber(publish, replay, since=3) as events:
            gap, *rest = taken(events, 1 + len(kept))
    assert gap == Gap(outbox.stream, 4, kept[0].seq - 1, "no longer in the outbox")
    assert rest == kept
    assert kept[-1].seq == 1000


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
