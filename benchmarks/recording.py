"""How fast frames are recorded and read back, beside plain files of as many bytes.

    python -m benchmarks.recording [--json]

One run, everything measured in alternation, medians; on a temporary folder and on /dev/shm. The plain file is written
and read one frame at a time, like ours; neither is synced, so on a disk this is the page cache. The recorder process
is timed from the first frame handed over until the last one is written; a hand-over is what its producer spends on one.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from edge.core.calibration import Calibration
from edge.core.types import Frame
from edge.recording.reader import Recording
from edge.recording.recorder_process import RecorderProcess
from edge.recording.writer import RecordingWriter

HEIGHT, WIDTH, FRAMES, ROUNDS = 1024, 2048, 32, 5
MEGABYTES = HEIGHT * WIDTH * FRAMES / 1e6


def calibration() -> Calibration:
    """Four lights in a cross, no flat field."""
    directions = np.array([[0.6, 0, 0.8], [0, 0.6, 0.8], [-0.6, 0, 0.8], [0, -0.6, 0.8]])
    per_column = np.repeat(directions[:, :, None], WIDTH, axis=2)
    return Calibration(
        HEIGHT, WIDTH, per_column, np.zeros_like(per_column), None, None, 255, 0.025, 1, "made for a benchmark"
    )


def noise() -> list[Frame]:
    """As many frames as there are lights, no two alike."""
    pixels = np.random.default_rng(1).integers(0, 256, (4, HEIGHT, WIDTH), np.uint8)
    return [Frame(each, light, light, 0.8 * light, 10**9, 12.5) for light, each in enumerate(pixels)]


def plain_write(frames: list[Frame], path: Path) -> float:
    """Seconds for a plain file, one write a frame."""
    started_s = time.perf_counter()
    with path.open("xb", buffering=0) as stream:
        for index in range(FRAMES):
            stream.write(frames[index % len(frames)].pixels.data)
    return time.perf_counter() - started_s


def writer(frames: list[Frame], path: Path) -> float:
    """Seconds for a recording."""
    line = calibration()
    started_s = time.perf_counter()
    with RecordingWriter(path, line) as recording:
        for index in range(FRAMES):
            recording.write(frames[index % len(frames)])
    return time.perf_counter() - started_s


def recorder(frames: list[Frame], hand_over_s: list[float], path: Path) -> float:
    """Seconds for a recording in a process of its own; `hand_over_s` gathers what each frame cost the producer."""
    with RecorderProcess(path, calibration()) as process:
        first_s = started_s = time.perf_counter()
        for index in range(FRAMES):
            process.write(frames[index % len(frames)])
            ended_s = time.perf_counter()
            hand_over_s.append(ended_s - started_s)
            started_s = ended_s
        while process.frames < FRAMES and process.problem is None:
            time.sleep(1e-4)
        took_s = time.perf_counter() - first_s
        recorded = process.stop()
        if recorded.frames != FRAMES:
            raise SystemExit(f"recorder: {recorded}")
        return took_s


def plain_read(path: Path) -> float:
    """Seconds for a plain file, one read a frame."""
    started_s = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        while stream.read(HEIGHT * WIDTH):
            pass
    return time.perf_counter() - started_s


def reader(path: Path) -> float:
    """Seconds for a recording, checksums and all."""
    started_s = time.perf_counter()
    if sum(1 for _ in Recording(path).frames()) != FRAMES:
        raise SystemExit(f"{path}: frames are missing")
    return time.perf_counter() - started_s


def measure(folder: Path) -> dict[str, float]:
    """MB/s and, of ours, the share of the plain file's; what a hand-over and a mere copy of a frame cost, in us."""
    frames, path = noise(), folder / "benchmark.mcap"
    target = np.empty_like(frames[0].pixels)
    hand_over_s: list[float] = []
    copy_s: list[float] = []
    kinds: dict[str, tuple[Callable[[Path], float], ...]] = {  # what writes a file, then what reads it
        "plain": (partial(plain_write, frames), plain_read),
        "ours": (partial(writer, frames), reader),
        "recorder": (partial(recorder, frames, hand_over_s),),
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(1 + ROUNDS):
        for kind, steps in kinds.items():
            took_s = [step(path) for step in steps]
            path.unlink()
            for index, step_s in enumerate(took_s if number > 0 else []):  # the first round warms up
                seconds.setdefault((kind, index), []).append(step_s)
        for frame in frames:
            started_s = time.perf_counter()
            np.copyto(target, frame.pixels)
            copy_s.append(time.perf_counter() - started_s)
    rate = {key: MEGABYTES / statistics.median(each) for key, each in seconds.items()}
    return {
        "plain_write_mb_per_s": rate["plain", 0],
        "writer_mb_per_s": rate["ours", 0],
        "writer_of_plain": rate["ours", 0] / rate["plain", 0],
        "recorder_process_mb_per_s": rate["recorder", 0],
        "recorder_process_of_plain": rate["recorder", 0] / rate["plain", 0],
        "plain_read_mb_per_s": rate["plain", 1],
        "reader_mb_per_s": rate["ours", 1],
        "reader_of_plain": rate["ours", 1] / rate["plain", 1],
        "hand_over_us": 1e6 * statistics.median(hand_over_s[FRAMES:]),
        "hand_over_p99_us": 1e6 * float(np.percentile(hand_over_s[FRAMES:], 99)),
        "copy_us": 1e6 * statistics.median(copy_s),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table: dict[str, dict[str, float]] = {}
    for parent in (Path(tempfile.gettempdir()), Path("/dev/shm")):
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            table[str(parent)] = measure(Path(folder))
    if options.json:
        print(json.dumps(table))
        return
    print(f"{FRAMES} frames of {WIDTH} x {HEIGHT}, {ROUNDS} rounds" + "".join(f"{place:>12}" for place in table))
    for name in next(iter(table.values())):
        figures = (each[name] for each in table.values())
        print(f"{name:38}" + "".join(f"{value:12.2f}" if "of_plain" in name else f"{value:12.0f}" for value in figures))


if __name__ == "__main__":
    main()
