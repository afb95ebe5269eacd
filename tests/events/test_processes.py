"""Each event exactly once and in order, whichever process is killed, stopped or slow, and for how long."""

import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from edge.events import Envelope, Gap, Outbox, Subscriber, decode

from .lines import ALARM, ORIGIN, PUBLISHER, child, line, numbered, resident_bytes_after, said, taken

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


# Stopped and slow

HEAR = """
import resource, sys, time
from pathlib import Path
from edge.events import Gap, Subscriber
heard, hurry, publish, replay, last = *map(Path, sys.argv[1:3]), *sys.argv[3:]
with Subscriber(publish, replay) as events, heard.open("w", buffering=1) as file:
    for event in events:
        assert not isinstance(event, Gap), event
        print(event.seq, file=file)
        if event.seq == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print("hears", flush=True)
        if event.seq == int(last):
            break
        if not hurry.exists():
            time.sleep(0.02)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("how", ["stopped", "slow"])
def test_a_listener_stopped_or_slow_has_each_event_and_nobody_hoards_them(
    tmp_path: Path, publish: str, replay: str, how: str
) -> None:
    """67 MB of events: the first third fills the queues on the way, the rest must fill nobody's memory."""
    heard, hurry, count = tmp_path / "heard", tmp_path / "hurry", 60_000

    with (
        child(PUBLISHER, tmp_path / "outbox.sqlite", publish, replay, 800) as publisher,
        child(HEAR, heard, hurry, publish, replay, count) as listener,
    ):
        resident_bytes_after(publisher, 100)
        assert said(listener) == "hears"
        if how == "stopped":
            listener.send_signal(signal.SIGSTOP)
        full = resident_bytes_after(publisher, 19_900)
        assert resident_bytes_after(publisher, count - 20_000) - full < 8e6
        hurry.touch()
        listener.send_signal(signal.SIGCONT)
        assert int(said(listener)) * 1024 < 16e6
    assert heard.read_text() == "".join(f"{seq}\n" for seq in range(1, count + 1))


def test_a_listener_whose_queue_stays_full_lives_on(tmp_path: Path, outbox: Outbox, publish: str, replay: str) -> None:
    """With ZeroMQ's heartbeat its process was aborted, where the line was silent after it had filled the queue."""
    heard, hurry, count = tmp_path / "heard", tmp_path / "hurry", 20_000
    with (
        line(outbox, publish, replay, heartbeat_s=3600) as writer,
        child(HEAR, heard, hurry, publish, replay, count) as listener,
    ):
        while not heard.exists() or not heard.stat().st_size:
            writer.publish(ALARM)
            time.sleep(0.05)
        writer.publish(*numbered(count - 1 - outbox.last_seq))
        time.sleep(6)
        hurry.touch()
        time.sleep(1)
        writer.publish(ALARM)
        assert said(listener) == "hears"
        said(listener)
    assert heard.read_text() == "".join(f"{seq}\n" for seq in range(1, count + 1))
