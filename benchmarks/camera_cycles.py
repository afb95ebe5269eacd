"""What starting and stopping a camera, and opening and closing one, leaves behind in memory.

    python -m benchmarks.camera_cycles [--starts 1000] [--opens 200] [--json]

A simulated camera through its GenTL producer, Harvesters and our adapter; each cycle takes one image. Both have a
process to themselves, which does nothing else. `kib_a_cycle`: a line fitted to the unshared memory of the process after
each cycle, the first fifth left out; `in_halves_kib`: by how much it grew in the first and in the second half of the
others; `ms_a_cycle`: the median.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from ctypes import CDLL
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edge.camera.genicam import GenICamCamera
from edge.core.config import CameraConfig
from edge.simulation.camera import Rig, StrobedCamera
from edge.simulation.planting import CLEAN
from edge.simulation.producer import FILM_VARIABLE, producer, write_film
from edge.simulation.web import RenderedWeb

WIDTH_PX, HEIGHT_PX, FRAMES_PER_S = 1024, 256, 800.0
_M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt. Left to itself the threshold rises, and how many freed buffers stay in the heap is chance."""


@dataclass(frozen=True)
class Growth:
    """Of a process while it does the same again and again."""

    cycles: int
    kib_a_cycle: float
    in_halves_kib: tuple[float, float]
    ms_a_cycle: float


def unshared_kib() -> int:
    """Memory of this process that is nobody else's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def growth(cycle: Callable[[], None], cycles: int) -> Growth:
    """Over so many cycles, at least ten."""
    memory_kib, took_ms = np.zeros(cycles), np.zeros(cycles)
    for index in range(cycles):
        began_s = time.perf_counter()
        cycle()
        took_ms[index] = 1e3 * (time.perf_counter() - began_s)
        memory_kib[index] = unshared_kib()
    settled = memory_kib[cycles // 5 :]
    first, middle, last = settled[0], settled[len(settled) // 2], settled[-1]
    slope = np.polynomial.polynomial.polyfit(np.arange(len(settled)), settled, 1)[1]
    return Growth(cycles, float(slope), (float(middle - first), float(last - middle)), float(np.median(took_ms)))


def take_one(camera: GenICamCamera) -> None:
    """Start it, wait for an image, stop it."""
    camera.start()
    if camera.next_into(np.empty(camera.shape, camera.dtype), 5.0) is None:
        raise RuntimeError("no image")
    camera.stop()


def starts_and_stops(camera: GenICamCamera, cycles: int) -> Growth:
    """Of one open camera."""
    with camera:
        return growth(lambda: take_one(camera), cycles)


def opens_and_closes(camera: GenICamCamera, cycles: int) -> Growth:
    """Each with one start and stop."""

    def one_opening() -> None:
        with camera:
            take_one(camera)

    return growth(one_opening, cycles)


def measure(of: Callable[[GenICamCamera, int], Growth], cycles: int, folder: Path) -> Growth:
    """One of the two above, in a process of its own."""
    film = folder / "film"
    if not film.exists():
        web = StrobedCamera(RenderedWeb(79, WIDTH_PX, CLEAN), 20.0, Rig(height_px=HEIGHT_PX))
        write_film(film, web, CameraConfig().encoder_mm_per_count, FRAMES_PER_S, repeats=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_measured, of, cycles, film, producer(folder)).result()


def _measured(of: Callable[[GenICamCamera, int], Growth], cycles: int, film: Path, compiled: Path) -> Growth:
    os.environ[FILM_VARIABLE] = str(film)
    CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 17)
    return of(GenICamCamera(CameraConfig(device="simulated"), [compiled]), cycles)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--opens", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = {
            "start and stop": measure(starts_and_stops, options.starts, Path(folder)),
            "open and close": measure(opens_and_closes, options.opens, Path(folder)),
        }
    if options.json:
        print(json.dumps({name: asdict(grown) for name, grown in table.items()}))
        return
    for name, grown in table.items():
        halves = " and ".join(f"{kib:.0f}" for kib in grown.in_halves_kib)
        print(f"{name}, {grown.cycles} times: {grown.kib_a_cycle:.1f} KiB each ({halves} KiB in halves), ", end="")
        print(f"{grown.ms_a_cycle:.1f} ms each")


if __name__ == "__main__":
    main()
