"""Whether a line runs on through what a plant does to it, with every row told once and every event heard once.

    python -m benchmarks.soak [--seconds 90] [--json]

`foilsight run --service` inspects the simulated camera, which loses frames, is left dark, lit by the wrong lamp,
stands, loses its device and takes its process down, all again after each restart. From outside its camera process is
killed every 25 seconds; the line itself (SIGKILL) at a third of the time, and started again; at two thirds its disk is
full for five seconds. A subscriber listens throughout.

Exit code 1 where the ledger has a gap or says a row twice, an event was lost, doubled or out of order, the line ended
otherwise than asked to, or memory or descriptors grow.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events import Envelope, Gap, Outbox, Subscriber
from edge.service.report import OUTBOX

FPS, WIDTH_PX = 40, 256
PUBLISH, REPLAY, METRICS = 25580, 25581, 25582
KILL_CAMERA_S, WARM_S, END_S, FULL_S = 25.0, 15.0, 60.0, 5.0
MOST_SLOPE_MB_H, MOST_DESCRIPTORS = 1.0, 4
FAULTS = """
[[fault]]
kind = "lost"
at_frame = 80
count = 3
[[fault]]
kind = "incomplete"
at_frame = 160
[[fault]]
kind = "dark"
at_frame = 240
light = 1
count = 8
[[fault]]
kind = "wrong_light"
at_frame = 320
count = 4
value = 1.0
[[fault]]
kind = "trigger_stops"
at_frame = 400
value = 3.0
[[fault]]
kind = "encoder_jump"
at_frame = 560
value = -40.0
[[fault]]
kind = "device_lost"
at_frame = 640
value = 1.0
[[fault]]
kind = "crash"
at_frame = 720
"""
_LINE = "import sys; from edge.cli import main; sys.argv[0] = 'foilsight'; main()"


@dataclass
class Service:
    """The line in a process of its own, and what can be seen of it from outside."""

    folder: Path
    samples: list[tuple[int, float, float, int]] = field(default_factory=list)
    starts: int = 0

    def __post_init__(self) -> None:
        (self.folder / "faults.toml").write_text(FAULTS)
        (self.folder / "line.toml").write_text(
            f'line = "soak"\n[camera]\ndevice = "simulated"\nring_mb = 16\n[camera.simulated]\nwidth_px = {WIDTH_PX}\n'
            f'length_mm = 40\nrepeats = true\nframes_per_s = {FPS}\nfaults = "faults.toml"\n'
            f'[events]\npublish = "tcp://127.0.0.1:{PUBLISH}"\nreplay = "tcp://127.0.0.1:{REPLAY}"\n'
            f"[service]\nmetrics_port = {METRICS}\n"
        )
        self.start()

    def start(self) -> None:
        """As a service manager would."""
        environment = {**os.environ, "STATE_DIRECTORY": str(self.folder), "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, "-c", _LINE, "run", "--service", "--config", str(self.folder / "line.toml")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        self.starts += 1

    def sample(self) -> None:
        """Note memory and descriptors, where it answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{METRICS}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return
        values = dict(re.findall(r"^(foilsight_(?:resident_bytes|open_files)) (\S+)$", text, re.MULTILINE))
        memory, files = float(values["foilsight_resident_bytes"]), int(values["foilsight_open_files"])
        self.samples.append((self.starts, time.monotonic(), memory / 1e6, files))

    def kill_camera(self) -> bool:
        """SIGKILL to its camera process; whether there is one."""
        children = Path(f"/proc/{self.process.pid}/task")
        pids = {pid for task in children.iterdir() for pid in (task / "children").read_text().split()}
        for pid in pids:
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                return True
        return False

    def fill_disk(self, full: bool) -> None:
        """As if there were no room for any file to grow, or room again."""
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (4096 if full else hard, hard))

    def kill(self) -> None:
        """SIGKILL to the line, and start it again."""
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)


def run(folder: Path, seconds: float) -> tuple[Service, int, list[tuple[int, str]], int]:
    """The service after so many seconds; its exit code, what was heard of it, and how often its camera was killed."""
    heard: list[tuple[int, str]] = []
    stop = threading.Event()

    def listen() -> None:
        endpoints = (f"tcp://127.0.0.1:{PUBLISH}", f"tcp://127.0.0.1:{REPLAY}")
        with Subscriber(*endpoints, stop=stop) as events:
            heard.extend(_noted(event) for event in events)

    listening = threading.Thread(target=listen)
    listening.start()
    service, begun_s, killed, line_killed = Service(folder), time.monotonic(), 0, False
    try:
        while (passed_s := time.monotonic() - begun_s) < seconds and service.process.poll() is None:
            time.sleep(1.0)
            service.sample()
            if passed_s > (killed + 1) * KILL_CAMERA_S:
                killed += service.kill_camera()
            if not line_killed and passed_s > seconds / 3:
                line_killed = True
                service.kill()
            service.fill_disk(0 < passed_s - 2 * seconds / 3 < FULL_S)
        code = service.stop()
    finally:
        service.process.kill()
        service.process.wait()
        stop.set()
        listening.join()
    return service, code, heard, killed


def figures(folder: Path, seconds: float) -> dict[str, Any]:
    """Of one run."""
    service, code, heard, killed = run(folder, seconds)
    with Outbox(folder / OUTBOX) as outbox:
        events = list(outbox.since(0))
    bodies = [event.body for event in events]
    covered = [body for body in bodies if isinstance(body, Coverage)]
    rows = Counter[str]()
    for each in covered:
        rows[each.state] += each.to_row - each.from_row
    ids = [body.id for body in bodies if isinstance(body, Defect) and body.phase == "opened"]
    seqs = [seq for seq, _ in heard if seq]
    last = [sample for sample in service.samples if sample[0] == service.starts]
    warm = [sample for sample in last if sample[1] - last[0][1] > WARM_S]
    slope = (
        float(np.polyfit([at for _, at, _, _ in warm], [mb for _, _, mb, _ in warm], 1)[0]) if len(warm) > 9 else 0.0
    )
    return {
        "seconds": seconds,
        "exit_code": code,
        "line_starts": service.starts,
        "camera_killed": killed,
        "events": len(events),
        "rows": dict(rows),
        "rows_missing_or_twice": sum(after.from_row != before.to_row for before, after in pairwise(covered))
        + bool(covered and covered[0].from_row),
        "seq_gaps": sum(event.seq != at for at, event in enumerate(events, 1)),
        "gaps_heard": sum(stream == "gap" for _, stream in heard),
        "heard_lost": len(set(range(1, _last_heard(heard) + 1)) - set(seqs)),
        "heard_doubled": len(seqs) - len(set(seqs)),
        "heard_disordered": sum(after <= before for before, after in pairwise(seqs)),
        "events_waited": sum(stream == "unwritten" for _, stream in heard),
        "unheard_at_the_end": len(events) - _last_heard(heard),
        "defects_doubled": len(ids) - len(set(ids)),
        "alarms": dict(Counter(body.kind for body in bodies if isinstance(body, Alarm))),
        "states": dict(Counter(body.kind for body in bodies if isinstance(body, Status))),
        "memory_mb": [round(mb) for _, _, mb, _ in last[:: max(1, len(last) // 10)]],
        "memory_slope_mb_per_h": round(3600 * slope, 1),
        "descriptors": [min((n for *_, n in warm), default=0), max((n for *_, n in warm), default=0)],
    }


def _noted(item: Envelope | Gap) -> tuple[int, str]:
    """Number and stream; a gap, and what the line could not write, by name."""
    if isinstance(item, Gap):
        return 0, "gap"
    return item.seq, item.stream if item.seq else "unwritten"


def _last_heard(heard: list[tuple[int, str]]) -> int:
    return max((seq for seq, _ in heard), default=0)


def wrong(found: dict[str, Any]) -> list[str]:
    """What must not be. Memory is judged by its slope only over ten minutes and more: before, it is still warming."""
    zero = ("exit_code", "gaps_heard", "rows_missing_or_twice", "seq_gaps", "heard_lost", "heard_doubled",
            "heard_disordered", "defects_doubled")  # fmt: skip
    complaints = [f"{name} is {found[name]}" for name in zero if found[name]]
    if not found["rows"].get("inspected"):
        complaints.append("nothing was inspected")
    if "stopped" not in found["states"]:
        complaints.append("its end was not told")
    if found["seconds"] >= 600 and found["memory_slope_mb_per_h"] > MOST_SLOPE_MB_H:
        complaints.append(f"memory grows by {found['memory_slope_mb_per_h']} MB an hour")
    least, most = found["descriptors"]
    if most - least > MOST_DESCRIPTORS:
        complaints.append(f"descriptors go from {least} to {most}")
    return complaints


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = figures(Path(name), options.seconds)
    complaints = wrong(found)
    if options.json:
        print(json.dumps({**found, "wrong": complaints}))
    else:
        print("\n".join(f"{key:24} {value}" for key, value in found.items()))
        print("\n".join(f"WRONG: {each}" for each in complaints) or "nothing is wrong")
    return int(bool(complaints))


if __name__ == "__main__":
    raise SystemExit(main())
