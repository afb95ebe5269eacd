"""What was appended is on disk, in order and with its number, or its writer was told that it is not."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from itertools import product
from pathlib import Path
from random import Random

import pytest
from conftest import files_of_at_most

from edge.core.errors import EventsError
from edge.events import Outbox
from edge.events.envelope import encode
from edge.events.outbox import OutboxReader
from edge.events.replay_server import answer

from .lines import ALARM, COVERAGE, DEFECT, ORIGIN, numbered


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


def test_the_oldest_events_make_room_and_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path, keep_mb=0.2) as outbox:
        for _ in range(200):
            outbox.append(*numbered(10), origin=ORIGIN)
        kept = [event.seq for event in outbox.since(0)]
        assert 100 < kept[0] < 1900
        assert kept == list(range(kept[0], 2001))
    assert 0.15e6 < path.stat().st_size < 0.25e6
    with Outbox(path, keep_mb=0.001) as outbox:  # smaller than any outbox: the last event stays, whatever is asked
        assert [event.seq for event in outbox.since(0)] == [2000]
        assert [event.seq for event in outbox.append(*numbered(3), origin=ORIGIN)] == [2001, 2002, 2003]
        assert [event.seq for event in outbox.since(0)] == [2001, 2002, 2003]


def test_a_damaged_outbox_is_told_and_gives_no_wrong_event(tmp_path: Path) -> None:
    good = tmp_path / "good.sqlite"
    with Outbox(good) as outbox:
        events = outbox.append(*[DEFECT, COVERAGE] * 60, origin=ORIGIN)
    content, random, told = good.read_bytes(), Random(1), 0
    for page, rubbish in product(range(0, len(content), 4096), (bytes(4096), random.randbytes(4096))):
        bad = tmp_path / f"{page}-{rubbish[0]}.sqlite"
        bad.write_bytes(content[:page] + rubbish + content[page + 4096 :])
        try:
            with Outbox(bad) as outbox:
                assert list(outbox.since(0)) == events
                assert answer(OutboxReader(bad), b'{"since": 0}')[1:] == [encode(event) for event in events]
                appended = outbox.append(ALARM, origin=ORIGIN)
                assert list(outbox.since(0)) == events + appended
        except EventsError as error:
            told += 1
            assert str(bad) in str(error)
            assert re.search("move it away|name another file", str(error))
    assert told > 4


def test_an_event_damaged_inside_is_told_by_the_file(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    with Outbox(path) as outbox:
        outbox.append(ALARM, ALARM, origin=ORIGIN)
    path.write_bytes(path.read_bytes().replace(b'"alarm"', b'"al\xffrm"', 1))
    with Outbox(path) as outbox, pytest.raises(EventsError, match=r"outbox\.sqlite: an event in the outbox is damaged"):
        list(outbox.since(0))


FILL = """
import subprocess, sys
from pathlib import Path
from edge.core.errors import EventsError
from edge.core.types import Status
from edge.events import Origin, Outbox
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True)
origin = Origin(line="", roll="", model="", calibration="")
room = folder / "room"
room.write_bytes(bytes(200_000))
with Outbox(folder / "outbox.sqlite") as outbox:
    written = 0
    try:
        while True:
            written = outbox.append(*[Status(kind="running", since="")] * 7, origin=origin)[-1].seq
    except EventsError as error:
        print(error)
    room.unlink()
    after = outbox.append(*[Status(kind="running", since="")] * 7, origin=origin)
    assert after[0].seq == written + 1
    assert [event.seq for event in outbox.since(0)] == list(range(1, written + 8))
with Outbox(folder / "outbox.sqlite") as outbox:
    assert outbox.last_seq == written + 7
print("whole")
"""
MAY_MOUNT = shutil.which("unshare") and not subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode


@pytest.mark.skipif(not MAY_MOUNT, reason="may not mount a small disk here")
def test_a_disk_that_is_really_full_is_told_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    command = ["unshare", "-Urm", sys.executable, "-c", FILL, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r".*outbox\.sqlite: outbox cannot be written \(.*full.*\): check .* free space.*\nwhole\n", done.stdout
    )
