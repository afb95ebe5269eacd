"""Whether a flood at the address where events are asked for again slows a line that inspects.

    python -m benchmarks.flood [--rounds 8] [--metres 1.6] [--width-px 512] [--json]

A line inspects as fast as it can on one core, and writes and publishes its events. A process on another core floods its
replay address: clients that ask for everything again and again and read it, others that never read, garbage in requests
and on the wire, connections that come and go. Each kind of flood lasts for so many metres of web, and so does the quiet
before and behind it, in which that process spins and talks to nobody.

Each stretch is held against the mean of its two quiet neighbours: how fast the line was by the wall, which is worth
something on a machine that is otherwise idle, and what part of a core the flood took, by the processor time of all
threads of the line, on any. Median over the rounds, and the quartiles. Exit code 1 where a kind takes more than
`MOST_CORE` by its median, or where the line was slower than `LEAST_SPEED` in three rounds out of four.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flooder import KINDS, QUIET, Flooder
from benchmarks.laps import Laps
from benchmarks.memory import resident_mb
from benchmarks.soak_line import free_ports
from edge.core.config import Config
from edge.core.types import Alarm, Coverage, Defect, Frame, Status
from edge.events import EventWriter, Outbox
from edge.pipeline.inspection import Inspection
from edge.segmentation.model import load_model
from edge.segmentation.openvino import OpenVinoBackend

LEAST_SPEED, MOST_CORE = 0.97, 0.05
KEPT_EVENTS, KEPT_BYTES = 5_000, 1_000
SETTLE_S, WARM_S = 1.5, 5.0


@dataclass(frozen=True)
class Stretch:
    """So much web: in how many seconds of the wall, and of the processor, by all threads of the line."""

    kind: str
    wall_s: float
    cpu_s: float
    rss_mb: float


class Line:
    """A line that inspects one lap after another and publishes what it finds."""

    def __init__(self, laps: Laps, inspection: Inspection) -> None:
        self._inspection = inspection
        self._frames: Iterator[Frame] = laps.frames(1e6)

    def run(self, kind: str, *, seconds: float = 0.0, metres: float = 0.0) -> Stretch:
        """Inspect for at least so long, and at least so much web."""
        wall_s, cpu_s, end_mm = time.perf_counter(), time.process_time(), self._inspection.web_mm + 1000 * metres
        while self._inspection.web_mm < end_mm or time.perf_counter() - wall_s < seconds:
            self._inspection.push(next(self._frames))
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
        return Stretch(kind, wall_s, cpu_s, resident_mb(os.getpid()) or 0.0)


@contextmanager
def opened(width_px: int) -> Iterator[tuple[Line, str]]:
    """A line with events enough to be asked for, and the address where they are."""
    publish, replay = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    model, laps = load_model(None), Laps(width_px, "production")
    old = [Status(kind="old", since="", detail="x" * KEPT_BYTES)] * 100
    with (
        tempfile.TemporaryDirectory() as folder,
        Outbox(Path(folder) / "outbox.sqlite") as outbox,
        EventWriter(
            outbox,
            publish,
            1.0,
            replay_endpoint=replay,
            line="flooded",
            roll="",
            model=model.digest,
            calibration=laps.calibration.digest,
        ) as writer,
    ):
        for _ in range(KEPT_EVENTS // len(old)):
            writer.publish(*old)

        def publish_all(bodies: Sequence[Defect | Coverage | Alarm]) -> None:
            writer.publish(*bodies)

        with Inspection(laps.calibration, model.info, OpenVinoBackend(model), Config(), publish_all) as inspection:
            yield Line(laps, inspection), replay


def measured(line: Line, flooder: Flooder, rounds: int, metres: float) -> list[Stretch]:
    """Quiet, flood, quiet and so on, each kind of flood so many times, in turn."""
    line.run("warm", seconds=WARM_S)
    stretches = []
    for kind in (*(kind for flood in KINDS * rounds for kind in (QUIET, flood)), QUIET):
        flooder.turn_to(kind)
        line.run("settles", seconds=SETTLE_S)
        stretches.append(line.run(kind, metres=metres))
        print(
            "{0.kind:8}{0.wall_s:8.2f} s{0.cpu_s:8.2f} s of CPU".format(stretches[-1]),
            file=sys.stderr,
            flush=True,
        )
    return stretches


def figures(stretches: list[Stretch]) -> dict[str, Any]:
    """By kind of flood: how fast the line was, by that of the quiet before and behind it."""
    found: dict[str, Any] = {"quiet_s": [], "kinds": {}}
    for before, flood, behind in zip(stretches[::2], stretches[1::2], stretches[2::2], strict=False):
        each = found["kinds"].setdefault(flood.kind, {"speed": [], "core": [], "rss_mb": 0.0})
        each["speed"].append((before.wall_s + behind.wall_s) / 2 / flood.wall_s)
        each["core"].append((flood.cpu_s - (before.cpu_s + behind.cpu_s) / 2) / flood.wall_s)
        each["rss_mb"] = max(each["rss_mb"], flood.rss_mb - before.rss_mb)
        found["quiet_s"].append(before.wall_s)
    for each in found["kinds"].values():
        for name in ("speed", "core"):
            each[name] = {f"p{part}": float(np.percentile(each[name], part)) for part in (25, 50, 75)}
    return found


def wrong(found: dict[str, Any]) -> list[str]:
    """What must not be."""
    complaints = []
    for kind, each in found["kinds"].items():
        speed, core = each["speed"]["p75"], each["core"]["p50"]
        if speed < LEAST_SPEED:
            complaints.append(f"{kind}: {speed:.3f} of the speed in quiet, and less in three rounds out of four")
        if core > MOST_CORE:
            complaints.append(f"{kind}: takes {core:.3f} of a core")
    return complaints


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--metres", type=float, default=1.6)
    parser.add_argument("--width-px", type=int, default=512)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("the line and who floods it want a core each")
    os.sched_setaffinity(0, {cores[0]})
    with opened(options.width_px) as (line, replay), Flooder(replay, cores[1]) as flooder:
        found = figures(measured(line, flooder, options.rounds, options.metres))
    complaints = wrong(found)
    if options.json:
        print(json.dumps({**found, "wrong": complaints}))
    else:
        for kind, each in found["kinds"].items():
            speed, core = ("{p50:.3f} ({p25:.3f} to {p75:.3f})".format(**each[name]) for name in ("speed", "core"))
            print(f"{kind:8} speed {speed}, takes {core} of a core, {each['rss_mb']:+.0f} MB")
        print("\n".join(f"WRONG: {each}" for each in complaints) or "nothing is wrong")
    return int(bool(complaints))


if __name__ == "__main__":
    raise SystemExit(main())
