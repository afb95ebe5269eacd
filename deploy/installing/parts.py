"""What an installation is made of, each part saying what it would change and changing it."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from installing.machine import (
    InstallError,
    Places,
    copy,
    exists,
    link,
    number_of,
    running_services,
    said,
    same,
    systemctl,
    target,
)
from installing.release import FINISHED, WARM, build_release, release_name

UNITS = ("*.service", "*.target")


class Part(Protocol):
    """What can be missing: says what it would change, or None, and changes it."""

    def missing(self) -> str | None: ...

    def change(self) -> None: ...


class Release:
    def __init__(self, places: Places, source: Path, options: argparse.Namespace) -> None:
        self.places, self.source, self.options = places, source, options
        self.path = places.releases / release_name(source)

    def missing(self) -> str | None:
        return None if (self.path / FINISHED).exists() else f"release {self.path.name} is built in {self.path}"

    def change(self) -> None:
        build_release(self.source, self.path, self.options)


class User:
    def __init__(self, places: Places, deploy: Path) -> None:
        self.places, self.wanted = places, deploy / "foilsight.sysusers"

    def missing(self) -> str | None:
        there = self.places.root / "etc/passwd"
        with suppress(FileNotFoundError):
            known = any(line.startswith("foilsight:") for line in there.read_text().splitlines())
            if known and same(self.wanted, self.places.sysusers):
                return None
        return "system user and group foilsight are made"

    def change(self) -> None:
        copy(self.wanted, self.places.sysusers)
        said(
            ["systemd-sysusers", f"--root={self.places.root}", str(self.places.sysusers)],
            "the user foilsight cannot be made",
        )


class Kernels:
    """Compiled by a short rendered web, as the service's user and into its cache: otherwise the first start would do
    it, for a minute or two, while web passes unseen. What cannot inspect that web is never switched to."""

    def __init__(self, places: Places, release: Path) -> None:
        self.places, self.release = places, release

    def missing(self) -> str | None:
        return None if (self.release / WARM).exists() else f"kernels of {self.release.name} are compiled"

    def change(self) -> None:
        cache, tried = self.places.cache, self.places.cache / "tried"
        caches = (f"HOME={cache}", f"XDG_CACHE_HOME={cache.parent}", f"NUMBA_CACHE_DIR={cache}/numba")
        as_service = ("runuser", "-u", "foilsight", "--", "env", "-i", "PATH=/usr/bin:/bin", *caches)
        program = (*as_service, str(self.release / "bin/foilsight"))
        web = str(tried / "web.mcap")
        shutil.rmtree(tried, ignore_errors=True)
        try:
            tried.mkdir()
            shutil.chown(tried, "foilsight", "foilsight")
            said([*program, "simulate", web, "--length-mm", "60", "--width-px", "256"], "no web can be rendered")
            said([*program, "replay", web, "--report", str(tried / "report")], "a rendered web cannot be inspected")
        finally:
            shutil.rmtree(tried, ignore_errors=True)
        (self.release / WARM).touch()


class Folders:
    """State and cache, where they are not the service's own yet: each camera's state is made below by systemd."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def _strange(self) -> list[Path]:
        mine = number_of(self.places, "passwd") if os.geteuid() == 0 else os.geteuid()
        folders = (self.places.state, self.places.cache)
        return [path for path in folders if not path.is_dir() or path.stat().st_uid != mine]

    def missing(self) -> str | None:
        strange = self._strange()
        return f"{', '.join(map(str, strange))} for the user foilsight" if strange else None

    def change(self) -> None:
        for path in self._strange():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o750)
            if os.geteuid() == 0:
                os.chown(path, number_of(self.places, "passwd"), number_of(self.places, "group"))


class Configuration:
    """A skeleton, where there is no camera yet. What a person wrote is never touched."""

    def __init__(self, places: Places, deploy: Path) -> None:
        self.places, self.skeleton = places, deploy / "cam.toml"

    def missing(self) -> str | None:
        return None if any(self.places.config.glob("*.toml")) else f"{self.places.config}/cam1.toml is written"

    def change(self) -> None:
        self.places.config.mkdir(parents=True, exist_ok=True)
        copy(self.skeleton, self.places.config / "cam1.toml", 0o640)
        for path in (self.places.config, self.places.config / "cam1.toml"):
            if os.geteuid() == 0:
                os.chown(path, 0, number_of(self.places, "group"))
        self.places.config.chmod(0o750)


class Units:
    def __init__(self, places: Places, deploy: Path) -> None:
        self.places = places
        files = sorted(file for pattern in UNITS for file in deploy.glob(pattern))
        self.pairs = [(file, places.units / file.name) for file in files]

    def missing(self) -> str | None:
        changed = [there.name for wanted, there in self.pairs if not same(wanted, there)]
        return f"{', '.join(changed)} in {self.places.units}" if changed else None

    def change(self) -> None:
        for wanted, there in self.pairs:
            copy(wanted, there)
        if self.places.booted:
            systemctl("daemon-reload")


COMMAND = Path("/opt/foilsight/current/bin/foilsight")


class Command:
    """`foilsight` in a shell, that of the release which runs; what else is called so there is left alone."""

    def __init__(self, places: Places) -> None:
        self.link = places.command

    def missing(self) -> str | None:
        return None if exists(self.link) else f"{self.link} leads to {COMMAND}"

    def change(self) -> None:
        self.link.parent.mkdir(parents=True, exist_ok=True)
        self.link.symlink_to(COMMAND)

    def is_ours(self) -> bool:
        return self.link.is_symlink() and self.link.readlink() == COMMAND


class Boot:
    """The target starts with the machine; which cameras belong to it, a person decides."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.link = places.root / "etc/systemd/system/multi-user.target.wants/foilsight.target"

    def missing(self) -> str | None:
        return None if self.link.is_symlink() else "foilsight.target is enabled"

    def change(self) -> None:
        said(
            ["systemctl", f"--root={self.places.root}", "enable", "foilsight.target"],
            "foilsight.target cannot be enabled",
        )
        if self.places.booted:
            systemctl("daemon-reload")
            systemctl("start", "foilsight.target")


class Current:
    """The release that runs; and the running services with it."""

    def __init__(self, places: Places, release: Path) -> None:
        self.places, self.release = places, release

    def missing(self) -> str | None:
        if target(self.places.current) == self.release.name:
            return None
        return f"{self.places.current} links to {self.release.name} (now: {target(self.places.current) or 'nothing'})"

    def change(self) -> None:
        before = target(self.places.current)
        running = running_services(self.places)
        switch(self.places, self.release.name)
        try:
            for service in running:
                systemctl("restart", service)
        except InstallError as error:
            if before is None:
                raise
            switch(self.places, before)
            systemctl("reset-failed", *running)
            systemctl("restart", *running)
            raise InstallError(f"{self.release.name} does not start, {before} goes on ({error})") from error
        if before is not None:
            link(self.places.previous, before)


class OldReleases:
    """Beside the current release only the one before is kept."""

    def __init__(self, places: Places, release: Path) -> None:
        self.places, self.release = places, release

    def _old(self) -> list[Path]:
        before = target(self.places.current)
        kept = {self.release.name, target(self.places.previous) if before == self.release.name else before}
        return [path for path in sorted(self.places.releases.glob("*")) if path.name not in kept]

    def missing(self) -> str | None:
        old = self._old()
        return f"old releases are removed: {', '.join(path.name for path in old)}" if old else None

    def change(self) -> None:
        for path in self._old():
            shutil.rmtree(path)


def switch(places: Places, name: str) -> None:
    """Make a release the current one, with its units."""
    link(places.current, name)
    units = Units(places, places.releases / name / "deploy")
    if units.missing():
        units.change()


def settle(parts: Sequence[Part], check: bool) -> int:
    """Change what is missing, in order, or only say it. Returns the exit code."""
    changes = 0
    for part in parts:
        change = part.missing()
        if change is not None:
            changes += 1
            print(f"{'would change' if check else 'changing'}: {change}", flush=True)
            if not check:
                part.change()
    if not changes:
        print("nothing to change")
    return 1 if check and changes else 0
