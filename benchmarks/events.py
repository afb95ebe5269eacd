"""Whether every listener has every event exactly once, whatever it went through, and what that costs the line.

    python -m benchmarks.events [--minutes 3] [--rate 300] [--json]

A line publishes coverage events at a rate while four processes listen: one *steady*; one *stopped* (SIGSTOP) for the
minutes; one *slow* for as long, which sleeps so as to keep up with half the rate; one *killed* (SIGKILL) every ten
seconds and started again where it was. Then all hurry, while ten more ask for everything again and again. Latencies are
of that line: *insert* into the outbox (on the temporary folder's disk), *publish* the whole call. Exit code 1 if an
event was lost, came twice or out of order.
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.core.types import Coverage
from edge.events import Envelope, EventWriter, Gap, Origin, Outbox, Subscriber
from edge.events.envelope import Body

PUBLISH, REPLAY = "tcp://127.0.0.1:25570", "tcp://127.0.0.1:25571"
ORIGIN = Origin(line="benchmark", roll="1", model="a" * 64, calibration="b" * 64)
QUIET_S, FLOODED_S, KILL_S, CATCH_UP_S = 10, 10, 10, 300
FLOODING = 10
PHASES = ("quiet", "stalled", "flooded")
PROCESSES = multiprocessing.get_context("spawn")


class TimedOutbox(Outbox):
    """An outbox that knows how long its last insert took."""

    took_s = 0.0

    def append(self, *bodies: Body, origin: Origin) -> list[Envelope]:
        """As in `Outbox`."""
        started_s = time.perf_counter()
        events = super().append(*bodies, origin=origin)
        self.took_s = time.perf_counter() - started_s
        return events


def covered(index: int) -> Coverage:
    """100 mm of web inspected."""
    row, mm = 2000 * index, 100.0 * index
    return Coverage(from_row=row, to_row=row + 2000, from_mm=mm, to_mm=mm + 100, state="inspected")


def line(outbox_path: Path, rate: float, control: Connection) -> None:
    """Publish at a rate until told to stop; until then, `control` tells the phase to book latencies under."""
    latencies = {phase: {"insert": array("d"), "publish": array("d")} for phase in PHASES}
    phase, index = PHASES[0], 0
    with (
        TimedOutbox(outbox_path) as outbox,
        EventWriter(outbox, PUBLISH, 1.0, replay_endpoint=REPLAY, **msgspec.structs.asdict(ORIGIN)) as writer,
    ):
        control.send("ready")
        next_s = time.perf_counter()
        while True:
            if control.poll():
                phase = control.recv()
                if phase == "stop":
                    break
            time.sleep(max(0.0, next_s - time.perf_counter()))
            next_s += 1 / rate
            started_s = time.perf_counter()
            writer.publish(covered(index))
            latencies[phase]["publish"].append(time.perf_counter() - started_s)
            latencies[phase]["insert"].append(outbox.took_s)
            index += 1
        control.send((index, latencies))
        control.recv()  # goes on answering until all have heard all


def listen(heard: Path, pause_s: float, hurry: Event) -> None:
    """Note every event by one write of one line, which is its place as well; pause after each until all may hurry."""
    place = {}
    if heard.exists():
        whole = heard.read_bytes().rpartition(b"\n")[0]
        heard.write_bytes(whole + b"\n" * bool(whole))
        stream, _, seq = whole.rpartition(b"\n")[2].partition(b" ")
        place = {stream.decode(): int(seq)} if whole else {}
    with Subscriber(PUBLISH, REPLAY, state=place) as events, heard.open("ab", buffering=0) as file:
        for event in events:
            assert not isinstance(event, Gap), event
            file.write(f"{event.stream} {event.seq}\n".encode())
            if pause_s and not hurry.is_set():
                time.sleep(pause_s)


def flood(until: Event) -> None:
    """Ask for all there is, ten at once, again and again."""

    def ask() -> None:
        while not until.is_set():
            with Subscriber(PUBLISH, REPLAY, stop=stop) as events:
                for event in events:
                    if until.is_set() or (not isinstance(event, Gap) and event.seq % 20_000 == 0):
                        break

    stop = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(FLOODING)]
    for thread in threads:
        thread.start()
    until.wait()
    stop.set()
    for thread in threads:
        thread.join()


def resident_mb(pid: int | None) -> float:
    """Memory of a process in use, 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except FileNotFoundError:
        return 0.0


def started(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A fresh process."""
    process = PROCESSES.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@dataclass
class Listener:
    """One that listens, what it has heard, and its memory."""

    heard: Path
    pause_s: float
    hurry: Event
    starts: int = 0
    peak_mb: float = 0.0
    caught_up_s: float | None = None
    process: BaseProcess = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Go on where the file ends."""
        self.process = started(listen, self.heard, self.pause_s, self.hurry)
        self.starts += 1

    def kill_and_restart(self) -> None:
        """As by SIGKILL."""
        self.process.kill()
        self.process.join()
        self.start()

    def last_seq(self) -> int:
        """The number heard last."""
        if not self.heard.exists():
            return 0
        with self.heard.open("rb") as file:
            file.seek(max(0, self.heard.stat().st_size - 100))
            lines = file.read().splitlines()
        return int(lines[-1].split()[1]) if lines else 0

    def figures(self, published: int) -> dict[str, float | None]:
        """What was heard against what was published."""
        seqs = [int(text.split()[1]) for text in self.heard.read_text().splitlines()]
        times = Counter(seqs)
        return {
            "received": len(seqs),
            "duplicates": sum(times.values()) - len(times),
            "losses": published - len(times),
            "out_of_order": sum(after <= before for before, after in pairwise(seqs)),
            "starts": self.starts,
            "caught_up_after_s": self.caught_up_s,
            "peak_mb": round(self.peak_mb, 1),
        }


def watch(seconds: float, publisher: BaseProcess, listeners: dict[str, Listener], kill: bool = False) -> list[float]:
    """Let it run; the publisher's memory in MB each second. `kill`: the one to be killed, again and again."""
    resident, begun_s = [], time.monotonic()
    while (passed_s := time.monotonic() - begun_s) < seconds:
        resident.append(round(resident_mb(publisher.pid), 1))
        for each in listeners.values():
            each.peak_mb = max(each.peak_mb, resident_mb(each.process.pid))
        if kill and int(passed_s) % KILL_S == KILL_S - 1:
            listeners["killed"].kill_and_restart()
        time.sleep(1.0)
    return resident


def catch_up(listeners: dict[str, Listener], seq: int) -> None:
    """Wait until all have heard a number; note how long each took."""
    begun_s = time.monotonic()
    while any(each.caught_up_s is None and each.process.is_alive() for each in listeners.values()):
        passed_s = time.monotonic() - begun_s
        if passed_s > CATCH_UP_S:
            return
        for each in listeners.values():
            if each.caught_up_s is None and each.last_seq() >= seq:
                each.caught_up_s = round(passed_s, 2)
        time.sleep(0.02)


def summary(latencies: dict[str, dict[str, "array[float]"]]) -> dict[str, dict[str, float]]:
    """Percentiles in ms by phase."""
    return {
        phase: {
            f"{name}_ms_p{percent}": round(1e3 * float(np.percentile(seconds, percent)), 3)
            for name, seconds in kinds.items()
            for percent in (50, 99)
        }
        for phase, kinds in latencies.items()
    }


def measure(folder: Path, minutes: float, rate: float) -> dict[str, Any]:
    """The whole run; its figures."""
    control, other = PROCESSES.Pipe()
    publisher = started(line, folder / "outbox.sqlite", rate, other)
    control.recv()
    hurry, flooded = PROCESSES.Event(), PROCESSES.Event()
    pauses_s = {"steady": 0.0, "stopped": 0.0, "slow": 2 / rate, "killed": 0.0}
    listeners = {name: Listener(folder / name, pause_s, hurry) for name, pause_s in pauses_s.items()}
    resident = watch(QUIET_S, publisher, listeners)

    control.send("stalled")
    stopped = listeners["stopped"].process.pid
    assert stopped
    os.kill(stopped, signal.SIGSTOP)
    resident += watch(60 * minutes, publisher, listeners, kill=True)
    os.kill(stopped, signal.SIGCONT)
    hurry.set()
    catch_up(listeners, listeners["steady"].last_seq())

    control.send("flooded")
    flooding = started(flood, flooded)
    resident += watch(FLOODED_S, publisher, listeners)
    flooded.set()
    flooding.join()
    control.send("stop")
    published, latencies = control.recv()
    resident += watch(QUIET_S, publisher, listeners)

    for each in listeners.values():
        each.process.kill()
        each.process.join()
    control.send("done")
    publisher.join()
    return {
        "minutes": minutes,
        "rate_per_s": rate,
        "published": published,
        "listeners": {name: each.figures(published) for name, each in listeners.items()},
        "latency": summary(latencies),
        "publisher_rss_mb": resident,
    }


def show(figures: dict[str, Any]) -> None:
    """The table."""
    print(f"{figures['published']:,} events published in {figures['minutes']} minutes at {figures['rate_per_s']}/s")
    columns = list(figures["listeners"]["steady"])
    print(f"{'':10}" + "".join(f"{name:>19}" for name in columns))
    for name, row in figures["listeners"].items():
        print(f"{name:10}" + "".join(f"{row[column]!s:>19}" for column in columns))
    for phase, row in figures["latency"].items():
        print(f"{phase:10}" + "   ".join(f"{name} {value:.3f}" for name, value in row.items()))
    rss = figures["publisher_rss_mb"]
    print(f"publisher's memory, MB, each tenth of the time: {', '.join(map(str, rss[:: max(1, len(rss) // 10)]))}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="for which one is stopped and one slow")
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        figures = measure(Path(name), options.minutes, options.rate)
    print(json.dumps(figures)) if options.json else show(figures)
    wrong = ("duplicates", "losses", "out_of_order")
    return int(any(row[key] for row in figures["listeners"].values() for key in wrong))


if __name__ == "__main__":
    raise SystemExit(main())
