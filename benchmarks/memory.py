"""What a long replay keeps in memory: its resident size along the web, and how much that grows a metre.

    python -m benchmarks.memory [--metres 50] [--width-px 1024] [--recording F.mcap] [--json]

Writes a recording (0.16 GB a metre at 1,024 px; it is deleted again) of one rendered metre of production web after
another, then replays it in a process of its own, report and pictures included, and looks at that process's VmRSS each
second, and at how far it has read. Growth: least squares over all but the first tenth.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.laps import Laps
from edge.recording.writer import RecordingWriter

EVERY_M = 5.0
_REPLAY = "import sys; from edge.cli import main; sys.argv[0] = 'foilsight'; main()"


@dataclass(frozen=True)
class Sample:
    """Resident size at a place on the web."""

    metres: float
    rss_mb: float


def record(path: Path, width_px: int, metres: float) -> None:
    """Write the recording."""
    laps = Laps(width_px, "production")
    with RecordingWriter(path, laps.calibration) as writer:
        for frame in laps.frames(metres):
            writer.write(frame)


def replayed(recording: Path, metres: float, report: Path) -> list[Sample]:
    """Replay in a process of its own and look at it each second. Raises RuntimeError where the replay fails."""
    command = [sys.executable, "-c", _REPLAY, "replay", str(recording), "--report", str(report), "--json"]
    samples: list[Sample] = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        while running.poll() is None:
            time.sleep(1.0)
            rss_mb, part = resident_mb(running.pid), part_read(running.pid, recording)
            if rss_mb is None or part is None:
                continue
            if not samples or part * metres // EVERY_M > samples[-1].metres // EVERY_M:
                print(f"{part * metres:6.1f} m {rss_mb:8.1f} MB", file=sys.stderr, flush=True)
            samples.append(Sample(part * metres, rss_mb))
    if running.returncode != 0:
        raise RuntimeError(f"the replay ended with {running.returncode}")
    return samples


def part_read(pid: int, recording: Path) -> float | None:
    """How much of a recording a process has read; None where it does not have it open."""
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if link.readlink() == recording.resolve():
                position = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().split()[1]
                return int(position) / recording.stat().st_size
    except OSError:
        pass  # it has just ended, or closed the file
    return None


def resident_mb(pid: int) -> float | None:
    """VmRSS of a process, None when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:")), None)


def figures(samples: list[Sample]) -> dict[str, Any]:
    """All figures of one run."""
    metres, rss_mb = np.array([(each.metres, each.rss_mb) for each in samples]).T
    warm = metres >= 0.1 * metres[-1]
    slope, _ = np.polyfit(metres[warm], rss_mb[warm], 1)
    marks = np.arange(EVERY_M, metres[-1] + 1e-9, EVERY_M)
    return {
        "metres": float(metres[-1]),
        "seconds": len(samples),
        "rss_mb": {f"{mark:g} m": float(rss_mb[np.searchsorted(metres, mark)]) for mark in marks},
        "most_mb": float(rss_mb.max()),
        "least_warm_mb": float(rss_mb[warm].min()),
        "growth_mb_per_metre": float(slope),
    }


def main() -> None:
    """Record, replay, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metres", type=float, default=50.0)
    parser.add_argument("--width-px", type=int, default=1024)
    parser.add_argument("--recording", type=Path, help="where to write it, a file that is not there yet")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the lines")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = options.recording or Path(folder) / "long.mcap"
        record(recording, options.width_px, options.metres)
        try:
            found = figures(replayed(recording, options.metres, Path(folder) / "report"))
        finally:
            recording.unlink()
    if options.json:
        print(json.dumps(found))
        return
    print("  ".join(f"{at}: {mb:.0f} MB" for at, mb in found["rss_mb"].items()))
    print(
        f"most {found['most_mb']:.0f} MB; {found['growth_mb_per_metre']:+.2f} MB a metre over {found['metres']:.1f} m"
    )


if __name__ == "__main__":
    main()
