"""Whether a line runs on through what a plant does to it, with every row told once and every event heard once.

    python -m benchmarks.soak [--seconds 90] [--json]

`foilsight run --service --record` inspects the simulated camera, which loses frames, is left dark, lit by the wrong
lamp and by one that dies, stands, loses its device and takes its process down, all again after each restart. From
outside its camera process is killed every 25 seconds, and its model swapped every ten, after a damaged one was offered.
In every five minutes once its clock steps back by an hour, it is held for three seconds, so that the ring runs over,
its disk is full for five seconds, and its recorder is killed; in those of the first half the line itself is killed
(SIGKILL) and started again. A subscriber listens throughout; another takes one event and then nothing for half of the
time.

Exit code 1 where the ledger has a gap or says a row twice, an event was lost, doubled or out of order, a swap was not
told or a damaged model taken, the line ended otherwise than asked to, or memory or descriptors grow.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.soak_line import END_S, Listener, Service
from edge.core.types import Alarm, Coverage, Defect, Status
from edge.events import Outbox
from edge.service.report import OUTBOX

WARMING = 1 / 3
"""Part of the time since the line's last start in which memory may still grow."""
MOST_SLOPE_MB_H, MOST_DESCRIPTORS = 1.0, 4


def run(folder: Path, seconds: float) -> tuple[Service, int, list[Listener]]:
    """The service after it was up for so many seconds, its exit code, and who listened: one without a pause, one with.

    Time in which it starts does not count, and a line that does not come up is waited for no longer than `END_S`.
    """
    service, up_s, seen_s = Service(folder), 0.0, time.monotonic()
    listeners = [Listener(service), Listener(service, stalls_s=seconds / 2)]
    faults = service.faults(seconds)
    try:
        while up_s < seconds and service.process.poll() is None and time.monotonic() - seen_s < END_S:
            time.sleep(1.0)
            service.sample()
            if service.is_up:
                now_s = time.monotonic()
                up_s, seen_s = up_s + min(now_s - seen_s, 2.0), now_s
                if faults and faults[0][0] < up_s:
                    faults.pop(0)[1]()
        code = service.stop()
    finally:
        service.process.kill()
        service.process.wait()
        for listener in listeners:
            listener.end()
    return service, code, listeners


def figures(folder: Path, seconds: float) -> dict[str, Any]:
    """Of one run."""
    service, code, (listener, stalled) = run(folder, seconds)
    heard = listener.heard
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
    warm = last[int(WARMING * len(last)) :]
    slope = (
        float(np.polyfit([at for _, at, _, _ in warm], [mb for _, _, mb, _ in warm], 1)[0]) if len(warm) > 9 else 0.0
    )
    return {
        "seconds": seconds,
        "exit_code": code,
        "line_starts": service.starts,
        "camera_killed": service.done["camera_killed"],
        "recorder_killed": service.done["recorder_killed"],
        "recordings": len(list(folder.glob("web*.mcap"))),
        "swaps": len(service.models),
        "swaps_untold": _swaps_untold(service.models, [event.model for event in events]),
        "damaged_taken": service.done["damaged_taken"],
        "events": len(events),
        "rows": dict(rows),
        "rows_missing_or_twice": sum(after.from_row != before.to_row for before, after in pairwise(covered))
        + bool(covered and covered[0].from_row),
        "seq_gaps": sum(event.seq != at for at, event in enumerate(events, 1)),
        "gaps_heard": sum(stream == "gap" for _, stream in heard),
        "heard_lost": len(set(range(1, _last_heard(heard) + 1)) - set(seqs)),
        "heard_doubled": len(seqs) - len(set(seqs)),
        "heard_disordered": sum(after <= before for before, after in pairwise(seqs)),
        "heard_late": len(stalled.heard),
        "heard_late_wrong": _disorder(stalled.heard),
        "events_waited": sum(stream == "unwritten" for _, stream in heard),
        "unheard_at_the_end": len(events) - _last_heard(heard),
        "defects_doubled": len(ids) - len(set(ids)),
        "alarms": dict(Counter(body.kind for body in bodies if isinstance(body, Alarm))),
        "states": dict(Counter(body.kind for body in bodies if isinstance(body, Status))),
        "memory_mb": [round(mb) for _, _, mb, _ in last[:: max(1, len(last) // 10)]],
        "memory_slope_mb_per_h": round(3600 * slope, 1),
        "descriptors": [max((n for *_, n in part), default=0) for part in (warm[: len(warm) // 2], warm)],
    }


def _swaps_untold(models: list[str], told: list[str]) -> int:
    """How many of the models that were ordered, one after the other, no event in their order is of."""
    found = [model for model, _ in groupby(told)]
    return sum(model not in found for model in models) + max(0, len(models) - len(found))


def _disorder(heard: list[tuple[int, str]]) -> int:
    """Events that were lost, doubled or out of order, up to the last that was heard."""
    seqs = [seq for seq, _ in heard if seq]
    return sum(seq != at for at, seq in enumerate(seqs, 1))


def _last_heard(heard: list[tuple[int, str]]) -> int:
    return max((seq for seq, _ in heard), default=0)


def wrong(found: dict[str, Any]) -> list[str]:
    """What must not be. Memory is judged by its slope only over ten minutes and more: before, it is still warming."""
    zero = ("exit_code", "swaps_untold", "damaged_taken", "gaps_heard", "heard_late_wrong",
            "rows_missing_or_twice", "seq_gaps", "heard_lost", "heard_doubled", "heard_disordered",
            "defects_doubled")  # fmt: skip
    complaints = [f"{name} is {found[name]}" for name in zero if found[name]]
    if not found["rows"].get("inspected"):
        complaints.append("nothing was inspected")
    if not found["swaps"]:
        complaints.append("no model was swapped")
    if "stopped" not in found["states"]:
        complaints.append("its end was not told")
    if found["seconds"] >= 600 and found["memory_slope_mb_per_h"] > MOST_SLOPE_MB_H:
        complaints.append(f"memory grows by {found['memory_slope_mb_per_h']} MB an hour")
    before, after = found["descriptors"]
    if after - before > MOST_DESCRIPTORS:
        complaints.append(f"descriptors grow from {before} to {after}")
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
