"""A release: a virtual environment with Foilsight in it, made from a wheel or a folder of sources."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

from installing.machine import InstallError, said

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "edge", "calibration", "deploy")
FINISHED, WARM = "finished", "warm"
"""Empty files that say a release is whole, and that its kernels are compiled."""


def source_files(source: Path) -> list[tuple[str, Path]]:
    """The files that make up a release with their names; a wheel is one, with the deploy folder of this installer."""
    if source.is_file():
        return [(source.name, source), *files_below(deploy_folder(source), "deploy")]
    return [file for name in SOURCES for file in files_below(source / name, name)]


def files_below(path: Path, name: str) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(name, path)]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and "__pycache__" not in file.parts]
    return [(f"{name}/{file.relative_to(path)}", file) for file in files]


def deploy_folder(source: Path) -> Path:
    return Path(__file__).resolve().parents[1] if source.is_file() else source / "deploy"


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
        said([*pip, f"{source}[mqtt]"], "pip cannot install Foilsight")
        if options.site_packages is not None:
            packages = next((release / "lib").glob("python3*/site-packages"))
            (packages / "foilsight-packages.pth").write_text(f"{options.site_packages.resolve()}\n")
        shutil.copytree(deploy_folder(source), release / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        said([python, "-I", "-c", "import edge.cli, edge.service.serving"], "what was installed does not run")
        (release / FINISHED).touch()
    except BaseException:
        shutil.rmtree(release, ignore_errors=True)
        raise
