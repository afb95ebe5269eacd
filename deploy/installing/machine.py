"""The machine that is installed on: where everything lies there, and what is done to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path("/")
SERVICES = ("foilsight@*.service", "foilsight-bridge@*.service")


class InstallError(Exception):
    """One line: what, where, what to do."""


class Places:
    """Where everything lies, under the root of this machine or of an image of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "opt/foilsight"
        self.releases, self.current, self.previous = (self.home / n for n in ("releases", "current", "previous"))
        self.command = root / "usr/local/bin/foilsight"
        self.units = root / "usr/local/lib/systemd/system"
        self.sysusers = root / "usr/local/lib/sysusers.d/foilsight.conf"
        self.config = root / "etc/foilsight"
        self.state = root / "var/lib/foilsight"
        self.cache = root / "var/cache/foilsight"

    @property
    def booted(self) -> bool:
        """Whether a systemd runs here that must be told."""
        return self.root == ROOT and Path("/run/systemd/system").is_dir()


def said(command: Sequence[str], problem: str) -> str:
    """Standard output of a command that sees no packages of this environment. Raises InstallError where it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise InstallError(f"{problem}: {command[0]} cannot be run ({error.strerror})") from error
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or ["no message"]
        raise InstallError(f"{problem}: {errors[0]}")
    return done.stdout


def running_services(places: Places) -> list[str]:
    """Instances that run or are about to."""
    if not places.booted:
        return []
    states = "--state=active,activating,reloading"
    listed = systemctl("list-units", states, "--plain", "--no-legend", *SERVICES)
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def systemctl(*arguments: str) -> str:
    return said(["systemctl", *arguments], f"systemctl {' '.join(arguments)}")


def target(path: Path) -> str | None:
    """Name of the release that a link leads to, None where there is none."""
    return path.readlink().name if path.is_symlink() else None


def link(path: Path, name: str) -> None:
    """Let a link lead to a release, in one step."""
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(Path("releases") / name)
    new.replace(path)


def same(wanted: Path, there: Path) -> bool:
    return there.is_file() and there.read_bytes() == wanted.read_bytes()


def copy(source: Path, there: Path, mode: int = 0o644) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, there)
    there.chmod(mode)


def number_of(places: Places, database: str) -> int:
    """Number of the user (`passwd`) or group foilsight, of this machine or of the image; -1 where there is none."""
    for entry in (places.root / "etc" / database).read_text().splitlines():
        if entry.startswith("foilsight:"):
            return int(entry.split(":")[2])
    return -1


def exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()
