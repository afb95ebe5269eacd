"""How late an event is: from the last strobe that lit a piece of web to its event at a subscriber in another process.

    python -m benchmarks.latency [--speed-m-per-min V] [--seconds 60] [--config F] [--out DIR] [--json]
    python -m benchmarks.latency --compare A.json B.json

The simulated camera, its process and ring, the line, its publisher and a subscriber in a process of its own. Without a
speed, the largest one is searched at which no row of web is lost or seen under fewer lights, held for a minute, and
latency is taken at 80 % of it. Latency counts for the row where a defect was found, so the wait until the web has moved
on by a strip and the network's halo is in it; `mm` is how far the web moved meanwhile. Stages are medians over strips.
`cores` is processor time of the inspecting process over the time it took. Asked for: p99.9 within three times p50, and
p50 within the time in which the web moves on by a strip and the halo, and two strips are computed.

--out leaves latency.json, with every latency, and latency.html. --compare says of two such files what changed by more
than the runs' own parts differ among each other.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.latency_page import write_page
from benchmarks.latency_run import Run, measured
from edge.core.config import Config, load_config

TRIAL_S, HELD_S = 12.0, 60.0
SLOWEST, FINEST = 1.0, 0.05
"""Web speed at which a search begins (m/min), and the part of the largest to which that is found."""
LOADED = 0.8
PARTS = 10
TAIL = 3.0
"""By how many times p50 the slowest thousandth may begin later."""


def largest_speed(config: Config, say: Callable[[str], None]) -> Run:
    """The fastest run without a row lost: doubled until one is, then halved in between, then held."""

    def tried(speed: float, seconds: float) -> Run:
        run = measured(config, speed, seconds)
        say(f"{speed:.2f} m/min for {seconds:.0f} s: " + ("every row whole" if run.whole else "rows lost"))
        return run

    good, bad = 0.0, SLOWEST
    while tried(bad, TRIAL_S).whole:
        good, bad = bad, 2 * bad
    if not good:
        raise SystemExit(f"{SLOWEST:g} m/min is too fast for this machine already")
    while bad - good > FINEST * good:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if tried(middle, TRIAL_S).whole else (good, middle)
    while not (held := tried(good, HELD_S)).whole:
        good *= 1 - FINEST
    return held


def compared(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """What differs between two results by more than twice what their parts differ among each other."""
    lines = []
    for name, percent in (("p50", 50), ("p99", 99)):
        parts = [np.array_split(np.array(result["run"]["ms"]), PARTS) for result in (one, other)]  # type: ignore[index]
        figures = [[float(np.percentile(part, percent)) for part in each if len(part)] for each in parts]
        means, errors = zip(*((np.mean(each), np.std(each) / np.sqrt(len(each))) for each in figures), strict=True)
        change, noise = means[1] - means[0], 2 * float(np.hypot(*errors))
        verdict = "noise" if abs(change) <= noise else "slower" if change > 0 else "faster"
        lines.append(f"{name}: {means[0]:.1f} -> {means[1]:.1f} ms, {change:+.1f} +- {noise:.1f}: {verdict}")
    return lines


def asked(run: Run) -> dict[str, tuple[float, float]]:
    """What is asked of latency: the figure and the most it may be, in ms."""
    at = run.percentiles()
    return {
        f"p99.9, {TAIL:g} times p50": (at["p99.9"], TAIL * at["p50"]),
        "p50, strip, halo and two strips computed": (at["p50"], run.strip_ms + run.halo_ms + 2 * run.computing_ms),
    }


def summary(run: Run, fastest: Run | None, width_mm: float) -> str:
    """The figures in words."""
    at = run.percentiles()
    lines = [
        f"{len(run.ms)} defects opened within {run.seconds:.0f} s at {run.speed_m_per_min:.2f} m/min, "
        f"{run.lost_exposures} exposures lost, {run.rows_not_whole} of {run.rows} rows not whole",
        "latency ms   " + "  ".join(f"{name} {ms:.1f}" for name, ms in at.items()),
        "        mm   " + "  ".join(f"{name} {ms * run.mm_per_ms:.1f}" for name, ms in at.items()),
        "stages ms    " + "  ".join(f"{name} {ms:.1f}" for name, ms in run.stages_ms.items()),
        *(
            f"{what}: {ms:.1f} of {most:.1f} ms, {'met' if ms <= most else 'NOT MET'}"
            for what, (ms, most) in asked(run).items()
        ),
        f"a strip passes in {run.strip_ms:.0f} ms, the halo in {run.halo_ms:.0f}; {run.cores:.2f} cores, "
        f"{run.rss_mb:.0f} MB; {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
    ]
    if fastest is not None:
        per_100_mm = fastest.speed_m_per_min * width_mm / 100
        lines.insert(
            0,
            f"largest speed {fastest.speed_m_per_min:.2f} m/min on {width_mm:.1f} mm of width, held for "
            f"{fastest.seconds:.0f} s ({per_100_mm:.2f} m/min at a width of 100 mm)",
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, or compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed-m-per-min", type=float, help="left out, the largest speed is searched")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--config", type=Path, help="the line's; its camera is the simulated one")
    parser.add_argument("--out", type=Path, help="folder for latency.json and latency.html")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="JSON")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    if options.compare:
        print("\n".join(compared(*(json.loads(path.read_text()) for path in options.compare))))
        return
    config = load_config(options.config)
    fastest = None
    if options.speed_m_per_min is None:
        fastest = largest_speed(config, lambda words: print(words, file=sys.stderr, flush=True))
    speed = options.speed_m_per_min or LOADED * fastest.speed_m_per_min
    run = measured(config, speed, options.seconds)
    width_mm = config.camera.simulated.width_px * 0.05
    result = {
        "width_mm": width_mm,
        "run": asdict(run),
        "fastest": fastest and _without_events(fastest),
        "latency_ms": run.percentiles(),
        "asked_ms": {what: {"found": ms, "most": most} for what, (ms, most) in asked(run).items()},
    }
    words = summary(run, fastest, width_mm)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "latency.json").write_text(json.dumps(result))
        write_page(options.out / "latency.html", words, run.ms, run.stages_ms, run.strip_ms, run.mm_per_ms)
    print(json.dumps({**result, "run": _without_events(run)}) if options.json else words)


def _without_events(run: Run) -> dict[str, object]:
    """All but what each event took."""
    return {name: value for name, value in asdict(run).items() if name != "ms"}


if __name__ == "__main__":
    main()
