#!/usr/bin/python3
"""Install Foilsight as a service. As root, with the system's own Python::

    python3 deploy/install.py                       from the folder above this script
    python3 deploy/install.py foilsight.whl --wheelhouse wheels    without a network
    python3 deploy/install.py --check               what would change; exit code 1 if anything would
    python3 /opt/foilsight/current/deploy/install.py --roll-back   to the release before
    python3 /opt/foilsight/current/deploy/install.py --uninstall

A release is a virtual environment under /opt/foilsight/releases, named by its version and a digest of its contents;
`current` links to the one that runs, `previous` to the one before. Units come from the release, so that both go back
together. Running cameras are started anew with a new release; where one does not come up, the old release goes on.
What stands already is left alone: a second run changes nothing. Exit code 1: nothing was changed, or it was undone.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

ROOT = Path("/")
KEPT_APART = ("home", "root", "run/user", "tmp", "var/tmp")
"""Folders that the service cannot see: its interpreter must not live there."""
PYTHONS = ((3, 11), (3, 15))
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edge", "calibration", "deploy")
FINISHED, WARM = "finished", "warm"
"""Empty files that say a release is whole, and that its kernels are compiled."""
UNITS = ("foilsight@.service", "foilsight.target")


class InstallError(Exception):
    """One line: what, where, what to do."""


class Places:
    """Where everything lies, under the root of this machine or of an image of one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "opt/foilsight"
        self.releases, self.current, self.previous = (self.home / n for n in ("releases", "current", "previous"))
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


# What is installed: a wheel or a folder of sources.


def source_files(source: Path) -> list[tuple[str, Path]]:
    """The files that make up a release with their names; a wheel is one, with the deploy folder of this script."""
    if source.is_file():
        return [(source.name, source), *files_below(deploy_folder(source), "deploy")]
    return [file for name in SOURCES for file in files_below(source / name, name)]


def files_below(path: Path, name: str) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(name, path)]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    return [(f"{name}/{file.relative_to(path)}", file) for file in files]


def deploy_folder(source: Path) -> Path:
    return Path(__file__).resolve().parent if source.is_file() else source / "deploy"


def release_name(source: Path) -> str:
    """Version and digest of contents, `0.1.0-1a2b3c4d`. Raises InstallError where `source` is not Foilsight."""
    if source.is_file() and source.name.startswith("foilsight-") and source.suffix == ".whl":
        version = source.name.split("-")[1]
    elif (source / "pyproject.toml").is_file():
        import tomllib

        project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
        if project["name"] != "foilsight":
            raise InstallError(f"{source}: holds {project['name']}, not Foilsight")
        version = project["version"]
    else:
        raise InstallError(f"{source}: neither a wheel of Foilsight nor the folder of its sources: name one of them")
    digest = hashlib.sha256()
    for name, file in source_files(source):
        digest.update(name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return f"{version}-{digest.hexdigest()[:8]}"


def build_release(source: Path, release: Path, options: argparse.Namespace) -> None:
    """A virtual environment with Foilsight in it, and what deploys it; what does not get finished is removed."""
    shutil.rmtree(release, ignore_errors=True)
    python = str(release / "bin/python")
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    if options.wheelhouse is not None:
        pip += ["--no-index", "--find-links", str(options.wheelhouse)]
    if options.site_packages is not None:
        pip += ["--no-index", "--no-deps"]
    try:
        said(
            [str(options.python), "-m", "venv", str(release)],
            "no virtual environment can be made (on Debian: apt install python3-venv)",
        )
        said([*pip, str(source)], "pip cannot install Foilsight")
        if options.site_packages is not None:
            packages = next((release / "lib").glob("python3*/site-packages"))
            (packages / "foilsight-packages.pth").write_text(f"{options.site_packages.resolve()}\n")
        shutil.copytree(deploy_folder(source), release / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        said([python, "-I", "-c", "import edge.cli, edge.service.serving"], "what was installed does not run")
        (release / FINISHED).touch()
    except BaseException:
        shutil.rmtree(release, ignore_errors=True)
        raise


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
        self.pairs = [(deploy / name, places.units / name) for name in UNITS]

    def missing(self) -> str | None:
        changed = [there.name for wanted, there in self.pairs if not same(wanted, there)]
        return f"{', '.join(changed)} in {self.places.units}" if changed else None

    def change(self) -> None:
        for wanted, there in self.pairs:
            copy(wanted, there)
        if self.places.booted:
            systemctl("daemon-reload")


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
    """The release that runs; and the running cameras with it."""

    def __init__(self, places: Places, release: Path) -> None:
        self.places, self.release = places, release

    def missing(self) -> str | None:
        if target(self.places.current) == self.release.name:
            return None
        return f"{self.places.current} links to {self.release.name} (now: {target(self.places.current) or 'nothing'})"

    def change(self) -> None:
        before = target(self.places.current)
        running = running_cameras(self.places)
        switch(self.places, self.release.name)
        try:
            for camera in running:
                systemctl("restart", camera)
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


def running_cameras(places: Places) -> list[str]:
    """Instances that run or are about to."""
    if not places.booted:
        return []
    states = "--state=active,activating,reloading"
    listed = systemctl("list-units", states, "--plain", "--no-legend", "foilsight@*.service")
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


# What a person asks for.


def install(places: Places, options: argparse.Namespace) -> int:
    """Everything that is missing, in order. Returns the exit code."""
    release = Release(places, options.source, options)
    deploy = deploy_folder(options.source)
    parts: list[Part] = [release, User(places, deploy), Folders(places), Configuration(places, deploy)]
    if places.booted and not options.cold:
        parts.append(Kernels(places, release.path))
    parts += [Current(places, release.path), Units(places, deploy), Boot(places), OldReleases(places, release.path)]
    return settle(parts, options.check)


def settle(parts: Sequence[Part], check: bool) -> int:
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


def roll_back(places: Places, options: argparse.Namespace) -> int:
    """To the release before; a second time, forth again."""
    name = target(places.previous)
    if name is None or not (places.releases / name / FINISHED).exists():
        raise InstallError(f"{places.previous}: there is no release before this one")
    return settle([Current(places, places.releases / name)], options.check)


def uninstall(places: Places, options: argparse.Namespace) -> int:
    """Everything but configuration and state. Returns the exit code."""
    unit_files = [places.units / name for name in UNITS]
    wants = places.root / "etc/systemd/system"
    links = [*wants.glob("*.wants/foilsight.target"), *wants.glob("foilsight.target.wants/*")]
    gone = [path for path in (places.home, places.cache, places.sysusers, *unit_files, *links) if exists(path)]
    for path in gone:
        print(f"{'would remove' if options.check else 'removing'}: {path}", flush=True)
    if gone and not options.check:
        if places.booted:
            systemctl("stop", "foilsight*.target", "foilsight@*.service")
        for path in gone:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        with suppress(OSError):
            (wants / "foilsight.target.wants").rmdir()
        if places.booted:
            systemctl("daemon-reload")
    if not gone:
        print("nothing to remove")
    kept = [path for path in (places.config, places.state) if path.exists()]
    if kept:
        print(f"kept: {', '.join(map(str, kept))} and the user foilsight, whose files they are")
    return 1 if options.check and gone else 0


def exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def wanted(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line. Raises InstallError."""
    parser = argparse.ArgumentParser(description="Install Foilsight as a service.", epilog="See the top of this file.")
    parser.add_argument("source", nargs="?", type=Path, help="wheel or folder of sources; default: above this script")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--roll-back", dest="do", action="store_const", const=roll_back, help="to the release before")
    what.add_argument(
        "--uninstall", dest="do", action="store_const", const=uninstall, help="all but configuration and state"
    )
    parser.add_argument("--check", action="store_true", help="only say what would change; exit code 1 if anything")
    parser.add_argument("--wheelhouse", type=Path, help="folder of wheels to take packages from, instead of a network")
    parser.add_argument("--site-packages", type=Path, help="folder that has the packages Foilsight needs already")
    parser.add_argument("--cold", action="store_true", help="let the first start compile the kernels, a minute or two")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="interpreter; default: this one")
    parser.add_argument("--root", type=Path, default=ROOT, help="an image of a machine to install into")
    options = parser.parse_args(arguments)
    options.do = options.do or install
    options.root = options.root.resolve()
    if options.root == ROOT and os.geteuid() != 0:
        raise InstallError("only root may install a service: sudo python3 deploy/install.py")
    if options.do is install:
        options.source = (options.source or Path(__file__).parent.parent).resolve()
        for folder in (options.wheelhouse, options.site_packages):
            if folder is not None and not folder.is_dir():
                raise InstallError(f"{folder}: no such folder")
        check_python(options)
    return options


def check_python(options: argparse.Namespace) -> None:
    """Raises InstallError where the interpreter is too old, too new, or out of the service's sight."""
    ask = "import os, sys; print(sys.version_info[0], sys.version_info[1], os.path.realpath(sys.executable))"
    major, minor, where = said([str(options.python), "-I", "-c", ask], f"{options.python}").split(maxsplit=2)
    first, end = PYTHONS
    if not first <= (int(major), int(minor)) < end:
        raise InstallError(
            f"{options.python} is Python {major}.{minor}; Foilsight runs on {first[0]}.{first[1]} to"
            f" {end[0]}.{end[1] - 1}: name one with --python"
        )
    if options.root == ROOT and where.strip().lstrip("/").startswith(tuple(f"{name}/" for name in KEPT_APART)):
        raise InstallError(
            f"{where.strip()}: the service does not see what lies in a home or temporary folder: name the system's"
            " interpreter with --python /usr/bin/python3"
        )


@contextmanager
def alone(places: Places) -> Iterator[None]:
    """One installer at a time."""
    run = places.root / "run"
    run.mkdir(exist_ok=True)
    with (run / "foilsight-install.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InstallError("another installer is at work: wait for it") from error
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    os.umask(0o022)
    try:
        options = wanted(arguments)
        places = Places(options.root)
        if options.check:
            return int(options.do(places, options))
        with alone(places):
            return int(options.do(places, options))
    except InstallError as error:
        print(f"install.py: {error}", file=sys.stderr)
    except OSError as error:
        print(f"install.py: {error.filename or 'system'}: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
