"""What `foilsight doctor` asks of the machine: each check looks at one thing under a root folder.

`root` is "/" but in tests, which bring a /proc, /sys and /run of their own.
"""

import ctypes
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

ROOT = Path("/")
JUMBO_BYTES, SOCKET_BYTES = 8000, 32 << 20
"""From these on a network card's packets and a socket's buffer are fit for a camera."""
MANY_CORES = 4
_TRIED_MB = 64
_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""
_UNLIMITED = "unlimited"


class Finding(msgspec.Struct, frozen=True):
    """One line of the table: what was looked at, how it is, what was found, and what to do about it."""

    check: str
    level: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""


def governor(root: Path = ROOT) -> Finding:
    """Whether the processor's clock is kept up between two frames."""
    files = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    governors = sorted({file.read_text().strip() for file in files})
    if not governors:
        return Finding("CPU governor", "ok", "none: the clock is not ours to set here")
    if governors == ["performance"]:
        return Finding("CPU governor", "ok", "performance")
    return Finding(
        "CPU governor", "warn", ", ".join(governors), "cpupower frequency-set --governor performance, at every start"
    )


def cores(count: int) -> Finding:
    """Whether there are enough for camera, stages and network beside each other."""
    if count >= MANY_CORES:
        return Finding("CPU cores", "ok", f"{count}")
    return Finding("CPU cores", "warn", f"{count}", f"camera, stages and network together want {MANY_CORES}")


def memory_lock(ring_mb: float, root: Path = ROOT) -> Finding:
    """Whether as much memory as the ring's may be locked."""
    limit = _limit(root, "Max locked memory")
    if limit is None or limit >= ring_mb * 1e6:
        return Finding("memory lock", "ok", _UNLIMITED if limit is None else f"{limit / 1e6:.0f} MB")
    advice = "LimitMEMLOCK= of the service, or  ulimit -l  in this shell"
    return Finding("memory lock", "warn", f"{limit / 1e6:.1f} MB, ring_mb = {ring_mb:g}", advice)


def real_time(priority: int, root: Path = ROOT) -> Finding:
    """Whether the camera process may go before everything else."""
    limit = _limit(root, "Max realtime priority")
    if limit is None or limit >= priority:
        return Finding("real-time priority", "ok", f"up to {_UNLIMITED if limit is None else int(limit)}")
    advice = "deploy/drop-ins/realtime.conf for the service: a busy machine makes the camera wait without it"
    return Finding("real-time priority", "warn", f"up to {int(limit)}, the camera process asks for {priority}", advice)


def _limit(root: Path, name: str) -> float | None:
    """A soft limit of this process; None: unlimited."""
    for line in (root / "proc/self/limits").read_text().splitlines():
        if line.startswith(name):
            soft = line[len(name) :].split()[0]
            return None if soft == _UNLIMITED else float(soft)
    return None


def shared_memory(ring_mb: float, root: Path = ROOT) -> Finding:
    """Whether the ring finds room in shared memory."""
    free_mb = shutil.disk_usage(root / "dev/shm").free / 1e6
    found = f"{free_mb:,.0f} MB free in /dev/shm, ring_mb = {ring_mb:g}"
    if free_mb >= ring_mb * 1.05:
        return Finding("shared memory", "ok", found)
    return Finding("shared memory", "fail", found, "mount -o remount,size=2G /dev/shm, or a smaller ring_mb")


def network_cards(root: Path = ROOT) -> Finding:
    """Whether a card that is up carries packets large enough for a camera on Ethernet."""
    sizes = {}
    for card in sorted((root / "sys/class/net").glob("*")):
        if (card / "device").exists() and _text(card / "operstate") == "up":
            sizes[card.name] = int(_text(card / "mtu"))
    found = ", ".join(f"{name} {size} bytes" for name, size in sizes.items()) or "no network card is up"
    if any(size >= JUMBO_BYTES for size in sizes.values()):
        return Finding("packet size (MTU)", "ok", found)
    advice = "deploy/network/60-foilsight-gige.link, and jumbo frames in the switch"
    return Finding("packet size (MTU)", "warn" if sizes else "fail", found, advice)


def receive_buffer(root: Path = ROOT) -> Finding:
    """Whether a socket may hold what comes in while the machine is busy."""
    size = int(_text(root / "proc/sys/net/core/rmem_max"))
    found = f"{size / 2**20:.1f} MiB at most"
    if size >= SOCKET_BYTES:
        return Finding("receive buffer", "ok", found)
    return Finding("receive buffer", "warn", found, "deploy/sysctl.d/60-foilsight-gige.conf")


def _text(file: Path) -> str:
    return file.read_text().strip()


def clock(state: Callable[[], int] | None = None) -> Finding:
    """Whether anything keeps the clock right: events carry the time of day."""
    if (state or _adjtimex)() == _UNSYNCHRONISED:
        return Finding("clock", "warn", "not synchronised", "apt install chrony, or  timedatectl set-ntp true")
    return Finding("clock", "ok", "synchronised")


def _adjtimex() -> int:
    """State of the kernel's clock; nothing is changed."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))


def folder(name: str, path: Path) -> Finding:
    """Whether this user may write into a folder, or make it."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Finding(name, "ok", f"{path}")
    return Finding(name, "fail", f"{path} cannot be written by this user", f"chown it, or ask as the user of {there}")


def free_space(path: Path, keep_mb: float) -> Finding:
    """Whether the events that are to be kept find room."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    free_mb = shutil.disk_usage(there).free / 1e6
    found = f"{free_mb / 1e3:,.1f} GB at {there}, events keep up to {keep_mb / 1e3:g} GB"
    if free_mb < 1000:
        return Finding("free space", "fail", found, "make room: inspection goes on without a disk, recording does not")
    if free_mb < keep_mb + 1000:
        return Finding("free space", "warn", found, "make room, or a smaller events.keep_mb")
    return Finding("free space", "ok", found)


def disk_speed(path: Path, web_mb_per_m: float) -> Finding:
    """How fast the web may run while it is recorded there, by writing for a moment."""
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    tried = there / f".foilsight-doctor-{os.getpid()}"
    block = os.urandom(1 << 20)
    try:
        with tried.open("wb", buffering=0) as out:
            started = time.perf_counter()
            for _ in range(_TRIED_MB):
                out.write(block)
            os.fsync(out.fileno())
            seconds = time.perf_counter() - started
    except OSError as error:
        return Finding("disk speed", "fail", f"{there} cannot be written ({error.strerror})", "see the state folder")
    finally:
        tried.unlink(missing_ok=True)
    return recording_speed(_TRIED_MB * 1.048576 / seconds, web_mb_per_m)


def recording_speed(disk_mb_per_s: float, web_mb_per_m: float) -> Finding:
    """What a disk's speed means for recording."""
    speed = disk_mb_per_s / web_mb_per_m
    found = f"{disk_mb_per_s:,.0f} MB/s, the web makes {web_mb_per_m:,.0f} MB a metre: recorded up to {speed:.2g} m/s"
    if speed >= 1:
        return Finding("disk speed", "ok", found)
    return Finding("disk speed", "warn", found, "a faster disk, if faster webs are to be recorded")
