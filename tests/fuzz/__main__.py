"""`python -m tests.fuzz [TARGET ...] --cases 100000 --engine hypothesis|atheris`."""

import argparse
import hashlib
import os
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: matrices here are of 3 by 4

from .engines import ENGINES
from .judge import Tally
from .progress import Progress
from .targets import TARGETS


def main() -> int:
    """Run, print what became of the cases, leave one file of each failure in --failures; 1 where there are any."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Bad files into everything that reads one.")
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help="all of them if none is given")
    parser.add_argument("--cases", type=int, default=100_000, help="of each target (100000)")
    parser.add_argument("--engine", choices=ENGINES, default="hypothesis")
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for files that failed")
    parser.add_argument("--messages", action="store_true", help="print every distinct refusal")
    asked = parser.parse_args()
    warnings.simplefilter("error")
    failed = False
    for name in asked.target or TARGETS:
        start = time.monotonic()
        tally = ENGINES[asked.engine](name, asked.cases, Progress(name, asked.cases))
        print(f"{asked.engine} {_summary(name, tally)}, {time.monotonic() - start:.0f} s", flush=True)
        for message, times in tally.refusals.most_common() if asked.messages else ():
            print(f"    {times:7}  {message}")
        for what, (times, data) in tally.failures.items():
            failed = True
            asked.failures.mkdir(exist_ok=True)
            file = asked.failures / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            file.write_bytes(data)
            print(f"    FAILED {times} times: {what}: {file}")
    return int(failed)


def _summary(name: str, tally: Tally) -> str:
    return (
        f"{name}: {tally.cases:,} cases, {tally.accepted:,} accepted, {tally.refusals.total():,} refused "
        f"in {len(tally.refusals)} ways, {sum(times for times, _ in tally.failures.values())} failed"
    )


if __name__ == "__main__":
    sys.exit(main())
