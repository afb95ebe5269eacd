"""What the way from a camera to a frame in hand costs: frames lost, processor, memory, time.

    python -m benchmarks.camera [--seconds 300] [--json]

Two simulated cameras at their full rate, one after the other, from the GenTL producer through Harvesters, the camera
process and its ring into this process, which names the light of every frame and does nothing else. Chunks are on.
`lost` exposures are gaps of the device's counter that the ring did not make; `overwritten` are the ring's: this process
did not get the processor for as long as the ring lasts (`ring_s`). Cores are processor time over the time it took, in
the camera process with the simulated camera's own thread. `rss_slope_mib_per_h`: a line fitted to the unshared memory
of that process, the first fifth left out. Latency is from the exposure as the shot is stamped to its frame in hand.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edge.camera.genicam import GenICamCamera
from edge.camera.live import LiveCamera
from edge.core.calibration import Calibration
from edge.core.config import CameraConfig
from edge.core.types import Frame
from edge.simulation.camera import Motion, Rig, StrobedCamera
from edge.simulation.planting import CLEAN
from edge.simulation.producer import FILM_VARIABLE, producer, write_film
from edge.simulation.web import RenderedWeb

EXPOSURES = 16
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


def film(case: Case, path: Path) -> Calibration:
    """Some web for the simulated camera to look at again and again; returns the calibration."""
    web = RenderedWeb(79, case.width_px, CLEAN)
    advance_px = case.height_px / 8
    length_mm = (case.height_px + (EXPOSURES - 1) * advance_px) * web.pitch_mm
    camera = StrobedCamera(web, length_mm, Rig(height_px=case.height_px), Motion(advance_px))
    write_film(path, camera, CameraConfig().encoder_mm_per_count, case.frames_per_s, repeats=True)
    return camera.calibration


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def unshared_mib(pid: int) -> float:
    """Memory of a process that is nobody else's."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(case: Case, seconds: float, folder: Path) -> dict[str, float | str]:
    """One camera for so long, from its first frame on."""
    config = CameraConfig(device="simulated")
    calibration = film(case, folder / "film")
    os.environ[FILM_VARIABLE] = str(folder / "film")
    open_camera = partial(GenICamCamera, producers=[producer(folder)])
    latency_us: list[float] = []
    samples: list[tuple[float, float]] = []
    alarms: list[str] = []
    with LiveCamera(config, calibration, open_camera, lambda kind, _: alarms.append(kind)) as camera:
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
        scheduling, underruns = camera.status.scheduling, camera.status.underruns
    settled = np.array([sample for sample in samples if sample[0] > seconds / 5])
    p50, p99, most = np.percentile(latency_us, [50, 99, 100])
    return {
        "seconds": took_s,
        "frames": len(latency_us),
        "lost": last.frame_id - first.frame_id - len(latency_us) - overwritten,
        "overwritten": overwritten,
        "underruns": underruns,
        "ring_s": config.ring_mb * 1e6 / (case.width_px * case.height_px) / case.frames_per_s,
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
    with tempfile.TemporaryDirectory() as folder:
        table = {str(case): measure(case, options.seconds, Path(folder)) for case in CASES}
    if options.json:
        print(json.dumps(table))
        return
    print(f"{'':24}" + "".join(f"{name:>34}" for name in table))
    for name in next(iter(table.values())):
        figures = (each[name] for each in table.values())
        print(f"{name:24}" + "".join(f"{x:34}" if isinstance(x, str) else f"{x:34.2f}" for x in figures))


if __name__ == "__main__":
    main()
