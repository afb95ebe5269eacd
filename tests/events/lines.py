"""What the tests of events share: a line that publishes, who listens to it, and processes of both."""

import random
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec

from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events import Envelope, EventWriter, Gap, Origin, Outbox, Subscriber

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


def numbered(count: int) -> list[Status]:
    """Bodies no two of which are alike."""
    return [Status(kind=str(i), since="2026-01-01T00:00:00.000000Z") for i in range(count)]


def free_endpoint() -> str:
    """A port nobody listens at, from below the range out of which the system gives connections theirs."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return f"tcp://127.0.0.1:{port}"


def line(outbox: Outbox, publish: str | None, replay: str | None, heartbeat_s: float = 0.05) -> EventWriter:
    """A line that publishes what is in its outbox."""
    return EventWriter(outbox, publish, heartbeat_s, replay_endpoint=replay, **msgspec.structs.asdict(ORIGIN))


def taken(events: Subscriber, count: int) -> list[Envelope | Gap]:
    """The next items a subscriber hands over."""
    return list(islice(events, count))


@contextmanager
def child(program: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A Python program in a process of its own, killed at the end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    """The next line a process prints. Raises AssertionError where it has ended."""
    assert process.stdout is not None
    text = process.stdout.readline()
    assert text, "the process ended"
    return text.rstrip("\n")


PUBLISHER = """
import sys
from pathlib import Path
from edge.core.types import Status
from edge.events import EventWriter, Outbox
path, publish, replay, event_bytes = sys.argv[1:]
body = Status(kind="running", since="", detail="x" * int(event_bytes))
with Outbox(Path(path)) as outbox, EventWriter(
    outbox, publish, 0.05, line="", roll="", model="", calibration="", replay_endpoint=replay
) as writer:
    for count in sys.stdin:
        for _ in range(int(count) // 100):
            writer.publish(*[body] * 100)
        print(Path("/proc/self/statm").read_text().split()[1], flush=True)
"""


def resident_bytes() -> int:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def resident_bytes_after(publisher: "subprocess.Popen[str]", events: int) -> int:
    """What a process of PUBLISHER has in memory once it has published so many more, as fast as it can."""
    assert publisher.stdin is not None
    print(events, file=publisher.stdin, flush=True)
    return int(said(publisher)) * resource.getpagesize()
