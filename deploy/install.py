#!/usr/bin/python3
"""Install Foilsight as a service. As root, with the system's own Python::

    python3 deploy/install.py                       from the folder above this script
    python3 deploy/install.py foilsight.whl --wheelhouse wheels    without a network
    python3 deploy/install.py --check               what would change; exit code 1 if anything would
    python3 /opt/foilsight/current/deploy/install.py --roll-back   to the release before
    python3 /opt/foilsight/current/deploy/install.py --uninstall

A release is a virtual environment under /opt/foilsight/releases, named by its version and a digest of its contents;
`current` links to the one that runs, and /usr/local/bin/foilsight to its command, `previous` to the one before. Units
come from the release, so that both go back together. Running services are started anew with a new release; where one
does not come up, the old release goes on.
What stands already is left alone: a second run changes nothing. Exit code 1: nothing was changed, or it was undone.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

sys.dont_write_bytecode = True  # nothing of root's stays among a person's sources
sys.path.insert(0, str(Path(__file__).resolve().parent))

from installing.machine import ROOT, SERVICES, InstallError, Places, exists, said, systemctl, target  # noqa: E402
from installing.parts import (  # noqa: E402
    Boot,
    Command,
    Configuration,
    Current,
    Folders,
    Kernels,
    OldReleases,
    Part,
    Release,
    Units,
    User,
    settle,
)
from installing.release import FINISHED, deploy_folder  # noqa: E402

KEPT_APART = ("home", "root", "run/user", "tmp", "var/tmp")
"""Folders that the service cannot see: its interpreter must not live there."""
PYTHONS = ((3, 11), (3, 15))


def install(places: Places, options: argparse.Namespace) -> int:
    """Everything that is missing, in order. Returns the exit code."""
    release = Release(places, options.source, options)
    deploy = deploy_folder(options.source)
    parts: list[Part] = [release, User(places, deploy), Folders(places), Configuration(places, deploy)]
    if places.booted and not options.cold:
        parts.append(Kernels(places, release.path))
    parts += [Current(places, release.path), Units(places, deploy), Command(places), Boot(places)]
    parts.append(OldReleases(places, release.path))
    return settle(parts, options.check)


def roll_back(places: Places, options: argparse.Namespace) -> int:
    """To the release before; a second time, forth again."""
    name = target(places.previous)
    if name is None or not (places.releases / name / FINISHED).exists():
        raise InstallError(f"{places.previous}: there is no release before this one")
    return settle([Current(places, places.releases / name)], options.check)


def uninstall(places: Places, options: argparse.Namespace) -> int:
    """Everything but configuration and state. Returns the exit code."""
    unit_files = sorted(places.units.glob("foilsight*"))
    wants = places.root / "etc/systemd/system"
    links = [folder / "foilsight.target" for folder in wants.glob("*.wants")]  # dangling ones in an image
    links += wants.glob("foilsight.target.wants/*")
    links += [places.command] if Command(places).is_ours() else []
    gone = [path for path in (places.home, places.cache, places.sysusers, *unit_files, *links) if exists(path)]
    for path in gone:
        print(f"{'would remove' if options.check else 'removing'}: {path}", flush=True)
    if gone and not options.check:
        if places.booted:
            systemctl("stop", "foilsight*.target", *SERVICES)
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
