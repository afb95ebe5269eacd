"""What the way from a camera to a frame in hand costs: frames lost, processor, memory, time.

    python -m benchmarks.camera [--seconds 300] [--json]

Two cameras at their full rate, one after the other, through the camera process and its ring into this process, which
looks at every frame and does nothing else. `lost` exposures are gaps of the device's counter that the ring did not
make; `overwritten` are the ring's. Cores are processor time of the camera process over the time it took, the camera's
own threads in it included; `rss_slope_mib_per_h` is a line fitted to its unshared memory, its first fifth left out.
Latency is from the exposure as the shot is stamped to its frame in hand.

The camera is paced by the clock and copies out of memory: no driver, no transport.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.camera.live import LiveCamera
from edge.camera.shot import Shot
from edge.core.calibration import Calibration
from edge.core.config import CameraConfig
from edge.core.types import Frame, Pixels

BUFFERS = 32
SAMPLE_S = 0.25


@dataclass(frozen=True)
class Case:
    """A camera's size and rate."""

    width_px: int
    height_px: int
    frames_per_s: int

    def __str__(self) -> str:
        return f"{self.width_px} x {self.height_px} at {self.frames_per_s} frames/s"


CASES = (Case(2048, 256, 800), Case(4096, 1024, 100))


class PacedCamera:
    """Exposures by the clock; BUFFERS of them wait for whoever is late, what comes after those is lost."""

    connected = True
    underruns = 0

    def __init__(self, config: CameraConfig) -> None:
        self._period_ns = next(10**9 // case.frames_per_s for case in CASES if case.width_px == config.width_px)
        self._images = np.random.default_rng(1).integers(
            0, 256, (BUFFERS, config.height_px or 0, config.width_px or 0), np.uint8
        )
        self._began_ns = self._id = 0

    def __enter__(self) -> "PacedCamera":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def start(self) -> None:
        """Exposure 0 is now."""
        self._began_ns = time.monotonic_ns()

    def next_into(self, out: Pixels, deadline_s: float) -> Shot | None:
        """The next exposure that is still in a buffer."""
        late_ns = time.monotonic_ns() - self._began_ns - self._id * self._period_ns
        self._id = max(self._id, self._id + late_ns // self._period_ns - BUFFERS + 1)
        if late_ns < 0:
            time.sleep(-late_ns / 1e9)
        exposed_ns = self._began_ns + self._id * self._period_ns
        np.copyto(out, self._images[self._id % BUFFERS])
        shot = Shot(out, self._id, exposed_ns, self._id, 20.0, 0.0, self._id % 4, 1 << self._id % 4)
        self._id += 1
        return shot


def calibration(case: Case) -> Calibration:
    """Four lights in a cross, no flat field: nothing is computed of the images here."""
    directions = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8], [-0.6, 0, 0.8], [0, -0.6, 0.8]])
    per_column = np.repeat(directions[:, :, None], case.width_px, axis=2)
    return Calibration(
        case.height_px, case.width_px, per_column, np.zeros_like(per_column), None, None, 255, 0.025, 1, "benchmark"
    )


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unshared_mib(pid: int) -> float:
    """Memory of a process that is nobody else's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(case: Case, seconds: float) -> dict[str, float | str]:
    """One camera for so long, from its first frame on."""
    config = CameraConfig(width_px=case.width_px, height_px=case.height_px)
    latency_us: list[float] = []
    samples: list[tuple[float, float]] = []
    alarms: list[str] = []
    with LiveCamera(config, calibration(case), PacedCamera, lambda kind, detail: alarms.append(kind)) as camera:
        frames = camera.frames()
        first = last = next(frames)
        (pid,) = (child.pid for child in multiprocessing.active_children() if child.name == "camera")
        assert pid is not None
        began_s, began_cpu_s, own_cpu_s = time.monotonic(), cpu_s(pid), time.process_time()
        overwritten = camera.counts.overwritten
        for last in until(frames, began_s + seconds):
            latency_us.append((time.monotonic_ns() - last.exposed_ns) / 1e3)
            now_s = time.monotonic() - began_s
            if not samples or now_s > samples[-1][0] + SAMPLE_S:
                samples.append((now_s, unshared_mib(pid)))
        took_s = time.monotonic() - began_s
        cores, own_cores = (cpu_s(pid) - began_cpu_s) / took_s, (time.process_time() - own_cpu_s) / took_s
        overwritten = camera.counts.overwritten - overwritten
        scheduling = camera.status.scheduling
    settled = np.array([sample for sample in samples if sample[0] > seconds / 5])
    p50, p99, most = np.percentile(latency_us, [50, 99, 100])
    return {
        "seconds": took_s,
        "frames": len(latency_us),
        "lost": last.frame_id - first.frame_id - len(latency_us) - overwritten,
        "overwritten": overwritten,
        "alarms": len(alarms),
        "camera_process_cores": cores,
        "reader_cores": own_cores,
        "unshared_mib": samples[-1][1],
        "rss_slope_mib_per_h": 3600 * float(np.polynomial.polynomial.polyfit(*settled.T, 1)[1]),
        "latency_p50_us": float(p50),
        "latency_p99_us": float(p99),
        "latency_max_us": float(most),
        "scheduling": scheduling,
    }


def until(frames: Iterator[Frame], end_s: float) -> Iterator[Frame]:
    """The frames of a time."""
    while time.monotonic() < end_s:
        yield next(frames)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {str(case): measure(case, options.seconds) for case in CASES}
    if options.json:
        print(json.dumps(table))
        return
    print(f"{'':24}" + "".join(f"{name:>34}" for name in table))
    for name in next(iter(table.values())):
        figures = (each[name] for each in table.values())
        print(f"{name:24}" + "".join(f"{x:34}" if isinstance(x, str) else f"{x:34.2f}" for x in figures))


if __name__ == "__main__":
    main()
