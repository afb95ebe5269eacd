"""The line that `benchmarks.soak` is about, in a process of its own, and those who listen to it."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from edge.core.errors import EventsError
from edge.events import Envelope, Gap, Subscriber
from edge.segmentation.model import SHIPPED_MODEL
from edge.service.control import CONTROL, Answer, Order, ask

FPS, WIDTH_PX = 40, 256
KILL_CAMERA_S, SWAP_S, CYCLE_S = 25.0, 10.0, 300.0
END_S, FULL_S, HELD_S, CLOCK_BACK_S = 60.0, 5.0, 3.0, 3600.0
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
kind = "lamp_dying"
at_frame = 480
light = 2
count = 15
value = 0.05
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
_LINE = """
import datetime, pathlib, sys
import edge.core.clock
step = pathlib.Path(sys.argv[-1]).with_name("clock_step")
class Stepped(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(seconds=float(step.read_text()))
if __name__ == "__main__":
    edge.core.clock.datetime = Stepped
    from edge.cli import main
    sys.argv[0] = "foilsight"
    main()
"""
"""The command, by a clock for people that can be stepped."""
_ANOTHER = bytes([0x72, 10]) + b"\n\x04note\x12\x02no"
"""Metadata more in an ONNX file, which makes it another one that decides the same."""


@dataclass
class Service:
    """The line in a process of its own, what can be done to it from outside, and what can be seen of it there."""

    folder: Path
    samples: list[tuple[int, float, float, int]] = field(default_factory=list)
    starts: int = 0
    is_up: bool = False
    done: Counter[str] = field(default_factory=Counter)
    models: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=lambda: free_ports(3))

    def __post_init__(self) -> None:
        (self.folder / "faults.toml").write_text(FAULTS)
        (self.folder / "clock_step").write_text("0")
        shipped = SHIPPED_MODEL.read_bytes()
        (self.folder / "damaged.onnx").write_bytes(shipped[: len(shipped) // 2])
        (self.folder / "another.onnx").write_bytes(shipped + _ANOTHER)
        publish, replay, metrics = self.ports
        (self.folder / "line.toml").write_text(
            f'line = "soak"\n[camera]\ndevice = "simulated"\nring_mb = 4\n[camera.simulated]\nwidth_px = {WIDTH_PX}\n'
            f'length_mm = 40\nrepeats = true\nframes_per_s = {FPS}\nfaults = "faults.toml"\n'
            f'[events]\npublish = "tcp://127.0.0.1:{publish}"\nreplay = "tcp://127.0.0.1:{replay}"\n'
            f"[service]\nmetrics_port = {metrics}\n"
        )
        self.start()

    def start(self) -> None:
        """As a service manager would."""
        environment = {
            **os.environ,
            "STATE_DIRECTORY": str(self.folder),
            "OMP_WAIT_POLICY": "passive",
            "PYTHONFAULTHANDLER": "1",
        }
        options = ["--service", "--record", str(self.folder / "web.mcap"), "--config", str(self.folder / "line.toml")]
        command = [sys.executable, "-c", _LINE, "run", *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        self.starts += 1
        self.is_up = False

    def sample(self) -> None:
        """Note memory and descriptors, where it answers, and whether it has begun to inspect."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[2]}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            return
        self.is_up = 'foilsight_health{state="starting"} 0' in text
        values = dict(re.findall(r"^(foilsight_(?:resident_bytes|open_files)) (\S+)$", text, re.MULTILINE))
        memory, files = float(values["foilsight_resident_bytes"]), int(float(values["foilsight_open_files"]))
        self.samples.append((self.starts, time.monotonic(), memory / 1e6, files))

    def faults(self, seconds: float) -> list[tuple[float, Callable[[], None]]]:
        """What is done to it, and when; a line that is not up is let alone. In the second half it itself is not killed,
        so that its memory is seen for as long."""
        cycle_s = min(seconds, CYCLE_S)
        often = [(each, at) for each, every_s in ((self.kill_camera, KILL_CAMERA_S), (self.swap, SWAP_S))
                 for at in np.arange(every_s, seconds, every_s)]  # fmt: skip
        once = [(self.kill, 1 / 3), (self.step_clock, 0.45), (self.hold, 0.55), (self.fill_disk, 2 / 3),
                (self.kill_recorder, 0.85)]  # fmt: skip
        for begin_s in np.arange(0, seconds - cycle_s / 2, cycle_s):
            first = int(begin_s >= seconds / 2)
            often += [(each, begin_s + part * cycle_s) for each, part in once[first:]]
            often.append((self.empty_disk, begin_s + 2 / 3 * cycle_s + FULL_S))
        return sorted(((at_s, each) for each, at_s in often), key=itemgetter(0))

    def kill_camera(self) -> None:
        """SIGKILL to its camera process, where there is one."""
        self.done["camera_killed"] += self._kill_child(records=False)

    def kill_recorder(self) -> None:
        """SIGKILL to its recorder, where there is one."""
        self.done["recorder_killed"] += self._kill_child(records=True)

    def _kill_child(self, records: bool) -> bool:
        children = Path(f"/proc/{self.process.pid}/task")
        pids = {pid for task in children.iterdir() for pid in (task / "children").read_text().split()}
        for pid in pids:
            is_ours = b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
            if is_ours and records == _is_recorder(pid):
                os.kill(int(pid), signal.SIGKILL)
                return True
        return False

    def swap(self) -> None:
        """Another model and the shipped one in turn, where the line takes orders; before, a damaged one."""
        another = len(self.models) % 2 == 0
        try:
            refused = self._order("damaged.onnx").refused
            answer = self._order("another.onnx" if another else str(SHIPPED_MODEL))
        except EventsError:
            return
        self.done["damaged_taken"] += not refused
        if answer.standing is not None and not answer.refused:
            self.models.append(answer.standing.next_model or answer.standing.model)

    def _order(self, model: str) -> Answer:
        return ask(self.folder / CONTROL, Order(do="swap", model=str(self.folder / model)), patience_s=30.0)

    def step_clock(self) -> None:
        """Back by an hour."""
        step, fresh = self.folder / "clock_step", self.folder / "clock_step.new"
        fresh.write_text(str(float(step.read_text()) - CLOCK_BACK_S))
        fresh.replace(step)

    def hold(self) -> None:
        """As if it got no processor: the ring runs over meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(HELD_S)
        self.process.send_signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """As if there were no room for any file to grow."""
        self._limit_files(4096)

    def empty_disk(self) -> None:
        """There is room again."""
        self._limit_files(resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)[1])

    def _limit_files(self, size: int) -> None:
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def kill(self) -> None:
        """SIGKILL to the line, and start it again."""
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        """SIGTERM, with room on the disk; its exit code."""
        if self.process.poll() is None:
            self.empty_disk()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)


def free_ports(count: int) -> list[int]:
    """Of this machine's own address, free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _is_recorder(pid: str) -> bool:
    """Whether a process has a recording open."""
    opened = (each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir())
    return any(file.suffix == ".mcap" for file in opened)


@dataclass
class Listener:
    """Hears all events of a line from the first on; takes one, and then none for `stalls_s`."""

    service: Service
    stalls_s: float = 0.0
    heard: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        publish, replay, _ = (f"tcp://127.0.0.1:{port}" for port in self.service.ports)
        with Subscriber(publish, replay, stop=self._stop) as events:
            for event in events:
                self.heard.append(_noted(event))
                if len(self.heard) == 1:
                    self._stop.wait(self.stalls_s)

    def end(self) -> None:
        """No more."""
        self._stop.set()
        self._thread.join()


def _noted(item: Envelope | Gap) -> tuple[int, str]:
    """Number and stream; a gap, and what the line could not write, by name."""
    if isinstance(item, Gap):
        return 0, "gap"
    return item.seq, item.stream if item.seq else "unwritten"
