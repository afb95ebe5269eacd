"""A machine of its own for the service: a real systemd as the first process of new namespaces.

Its root is this machine's own, under a throw-away overlay in memory, so that interpreter, compiler and tools are there
and nothing it writes stays. It has its own processes, mounts, hostname and control groups, and this machine's network.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_V1 = ("systemd", "memory", "pids")
"""Hierarchies that a machine with the first version of control groups needs beside `unified`."""
_BOOT_S, _OFF_S = 30.0, 10.0
_SYSTEMD = "/lib/systemd/systemd"
_NOT_HERE = (
    "systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket "
    "systemd-networkd.service systemd-resolved.service systemd-timesyncd.service systemd-logind.service "
    "systemd-modules-load.service systemd-sysctl.service systemd-remount-fs.service getty.target networking.service "
    "systemd-update-utmp.service systemd-update-utmp-runlevel.service apt-daily.timer apt-daily-upgrade.timer"
)
"""What would reach for the devices, the network or the kernel of the machine below."""
_INSIDE = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$M"
mkdir "$M/upper" "$M/work" "$M/root"
R=$M/root
mount -t overlay -o "lowerdir=/,upperdir=$M/upper,workdir=$M/work" overlay "$R"
mount -t proc proc "$R/proc"
mount --bind "$R/proc/sys" "$R/proc/sys"
mount -o remount,bind,ro "$R/proc/sys"
mount -t sysfs -o ro sysfs "$R/sys"
for d in run tmp dev; do mount -t tmpfs -o mode=755 "$d" "$R/$d"; done
chmod 1777 "$R/tmp"
mkdir -p "$R/dev/pts" "$R/dev/shm" "$R/below"
for d in null zero full random urandom tty; do cp -a "/dev/$d" "$R/dev/$d"; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$R/dev/pts"
mount -t tmpfs -o mode=1777 shm "$R/dev/shm"
for pair in ptmx=pts/ptmx fd=/proc/self/fd stdin=/proc/self/fd/0 stdout=/proc/self/fd/1 stderr=/proc/self/fd/2; do
  ln -s "${pair#*=}" "$R/dev/${pair%%=*}"
done
if [ -n "$V1" ]; then
  mount -t tmpfs -o mode=755 cgroup "$R/sys/fs/cgroup"
  for c in $V1; do
    mkdir "$R/sys/fs/cgroup/$c"
    case $c in systemd) kind=none,name=systemd;; *) kind=$c;; esac
    mount -t cgroup -o "$kind" cgroup "$R/sys/fs/cgroup/$c"
  done
  mkdir "$R/sys/fs/cgroup/unified"
  mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup/unified"
else
  mount -t cgroup2 -o nsdelegate cgroup2 "$R/sys/fs/cgroup"
fi
rm -rf "$R"/etc/systemd/system/*.wants "$R"/etc/systemd/system/*.requires "$R/var/log/journal"
: > "$R/etc/fstab"
: > "$R/etc/machine-id"
for unit in $HIDDEN; do ln -sf /dev/null "$R/etc/systemd/system/$unit"; done
echo "$BINDS" | while read -r from to; do
  [ -n "$from" ] || continue
  mkdir -p "$R$to"
  mount --bind "$from" "$R$to"
done
cd "$R"
pivot_root . below
exec chroot . /bin/sh -c 'umount -l /below; mount --make-rshared /; exec env -i container=machine \
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$0" --system --unit=multi-user.target' "$SYSTEMD"
"""


class NoMachine(Exception):
    """Why none can be had here."""


class Machine:
    """Booted by `boot`, gone after `off`. `folder`: empty, for the overlay; `binds`: folders of this machine to be seen
    elsewhere in that one."""

    def __init__(self, folder: Path, binds: Mapping[Path, str]) -> None:
        self._folder, self._binds = folder, binds
        self._log = folder.with_suffix(".console")
        self._name = f"machine-{os.getpid()}"
        self._unshare: subprocess.Popen[bytes] | None = None
        self._init = 0

    def boot(self) -> None:
        """Raises NoMachine."""
        _require()
        folder = self._folder
        folder.mkdir()
        groups = self._groups()
        for group in groups:
            group.mkdir(exist_ok=True)
        into = " && ".join(f"echo $$ > {group}/cgroup.procs" for group in groups)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "M": str(folder),
            "V1": "" if _unified() else " ".join(_V1),
            "HIDDEN": _NOT_HERE,
            "BINDS": "\n".join(f"{source} {there}" for source, there in self._binds.items()),
            "SYSTEMD": _SYSTEMD,
            "INSIDE": _INSIDE,
        }
        namespaces = "--mount --pid --uts --ipc --cgroup --fork --kill-child=SIGKILL"
        with self._log.open("wb") as log:
            self._unshare = subprocess.Popen(
                ["/bin/sh", "-c", f'{into} && exec unshare {namespaces} /bin/sh -c "$INSIDE"'],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_boot()

    def _wait_for_boot(self) -> None:
        assert self._unshare is not None
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        until = time.monotonic() + _BOOT_S
        while time.monotonic() < until:
            if self._unshare.poll() is not None:
                break
            with suppress(OSError, ValueError, IndexError):
                self._init = int(children.read_text().split()[0])
                if Path(f"/proc/{self._init}/comm").read_text().strip() == "systemd":
                    state = self.run("systemctl", "is-system-running", check=False)
                    if state.strip() in ("running", "degraded"):
                        return
            time.sleep(0.05)
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        self.off()
        raise NoMachine(f"systemd does not boot in namespaces here: {' '.join(last) or 'no message'}")

    def run(self, *command: str, check: bool = True) -> str:
        """What a command says there, on both streams. Raises CalledProcessError where it fails."""
        done = self.result(*command)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}: {done.stdout}")
        return done.stdout

    def result(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """As `run`, whatever the exit code."""
        enter = ("nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-C")
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "TERM=dumb")
        return subprocess.run(
            [*enter, *clean, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=280,
            check=False,
        )

    def path(self, inside: str) -> Path:
        """Where a file of that machine is to be had from here."""
        return Path(f"/proc/{self._init}/root") / inside.lstrip("/")

    def off(self) -> None:
        """Kill what is left there, and sweep the control groups."""
        if self._unshare is not None:
            with suppress(ProcessLookupError):
                os.kill(self._init or self._unshare.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._unshare.wait(_OFF_S)
            self._unshare.kill()
            self._unshare.wait()
        for group in self._groups():
            _sweep(group)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _groups(self) -> list[Path]:
        if _unified():
            return [_CGROUPS / self._name]
        return [_CGROUPS / hierarchy / self._name for hierarchy in ("unified", *_V1)]


def _unified() -> bool:
    return (_CGROUPS / "cgroup.controllers").exists()


def _require() -> None:
    if os.geteuid() != 0:
        raise NoMachine("wants root, to boot a systemd in namespaces of its own")
    for tool in ("unshare", "nsenter", "pivot_root", "systemctl", _SYSTEMD):
        if shutil.which(tool) is None:
            raise NoMachine(f"{tool} is not installed")
    if not _unified() and not (_CGROUPS / "unified/cgroup.procs").exists():
        raise NoMachine("no control groups of the second version here")
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--cgroup", "--fork", "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        raise NoMachine(f"no namespaces here: {tried.stderr.strip()}")


def _sweep(group: Path) -> None:
    """Remove a control group and those below, once their processes are gone."""
    until = time.monotonic() + _OFF_S
    while group.exists() and time.monotonic() < until:
        for folder in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        with suppress(OSError):
            group.rmdir()
        time.sleep(0.02)
