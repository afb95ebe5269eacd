"""Run a benchmark and keep its figures, from which `python -m benchmarks.table` writes the README's table.

    python -m benchmarks.keep NAME [OPTIONS OF THE BENCHMARK]

Leaves benchmarks/results/NAME.json: the command, machine, commit and time, and what the benchmark prints with --json.
A benchmark that fails leaves what was there.
"""

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

BENCHMARKS = Path(__file__).parent
RESULTS = BENCHMARKS / "results"


class Kept(msgspec.Struct, frozen=True):
    """Figures of a benchmark, and what gave them: `when` is UTC, in RFC 3339."""

    command: str
    machine: str
    commit: str
    when: str
    figures: dict[str, Any]


def kept(name: str, options: list[str]) -> Kept:
    """Run a benchmark of this folder. Raises SystemExit where it does not exist, fails or prints no figures."""
    if not (BENCHMARKS / f"{name}.py").exists():
        raise SystemExit(f"no benchmark is called {name}: see {BENCHMARKS}")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    command = ["-m", f"benchmarks.{name}", *options]
    ran = subprocess.run([sys.executable, *command, "--json"], stdout=subprocess.PIPE, check=False)
    if ran.returncode:
        raise SystemExit(f"benchmarks.{name} ended with {ran.returncode}: nothing is kept")
    return Kept(shlex.join(["python", *command]), machine(), commit(), when, json.loads(ran.stdout))


def machine() -> str:
    """Processor, cores and memory of this machine, in words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU")
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    vectors = next((f", {name}" for flag, name in (("amx_bf16", "AMX"), ("avx512f", "AVX-512")) if flag in flags), "")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{processor}{vectors}, {os.cpu_count()} cores, {memory_gb:.0f} GB"


def commit() -> str:
    """The commit checked out, with a + where tracked files differ from it; "unknown" outside a clone."""
    command = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    try:
        said = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def main() -> None:
    """Run, keep."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    name = sys.argv[1]
    result = kept(name, sys.argv[2:])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")


if __name__ == "__main__":
    main()
