"""The installer, into the image of a machine: no root, no systemd of it is wanted."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", SOURCES / "deploy/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SYSUSERS = """
echo foilsight:x:990:990::/var/lib/foilsight:/bin/false > {root}/etc/passwd
echo foilsight:x:{group}: > {root}/etc/group
"""
SYSTEMCTL = """
mkdir -p {root}/etc/systemd/system/multi-user.target.wants
ln -s /usr/local/lib/systemd/system/foilsight.target {root}/etc/systemd/system/multi-user.target.wants/foilsight.target
"""
PYTHON = """
case "$*" in
  *version_info*) echo 3 11 /usr/bin/python3.11;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
  *" pip "*) for last; do :; done; [ ! -e "${last%?mqtt?}/broken" ] || touch "$0.broken";;
  *import*) [ ! -e "$0.broken" ] || { echo broken; exit 1; };;
esac
"""
"""An interpreter that makes empty environments, in which what has a file `broken` does not run."""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's root folder. Programs of the system do there what they are for."""
    root, programs = tmp_path / "image", tmp_path / "programs"
    for folder in (root / "etc", root / "opt", root / "run", programs):
        folder.mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    for name, text in (("systemd-sysusers", SYSUSERS), ("systemctl", SYSTEMCTL)):
        program(programs / name, text.format(root=root, group=os.getgid()))
    program(programs / "python3", PYTHON)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(programs / "python3"))
    return root


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


def checkout(folder: Path, version: str) -> Path:
    """A folder of sources that needs little time."""
    shutil.copytree(SOURCES / "deploy", folder / "deploy")
    (folder / "pyproject.toml").write_text(f'[project]\nname = "foilsight"\nversion = "{version}"\n')
    return folder


def tree(root: Path) -> dict[str, bytes | str]:
    """Everything below, as far as it can be seen."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() or path.is_symlink())
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes()  # noqa: PTH115
        for path in files
        if path.name != "foilsight-install.lock"
    }


def test_installing_twice_changes_nothing(
    installer: ModuleType, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkout(tmp_path / "one", "1.0")
    assert installer.main([str(source), f"--root={image}", "--check"]) == 1
    assert tree(image).keys() == {"etc/passwd", "etc/group"}
    assert installer.main([str(source), f"--root={image}"]) == 0
    once = tree(image)
    assert (image / "usr/local/lib/systemd/system/foilsight@.service").exists()
    assert once["usr/local/bin/foilsight"] == "/opt/foilsight/current/bin/foilsight"
    assert (image / "etc/foilsight").stat().st_mode & 0o777 == 0o750
    capsys.readouterr()
    assert installer.main([str(source), f"--root={image}"]) == 0
    assert capsys.readouterr().out == "nothing to change\n"
    assert installer.main([str(source), f"--root={image}", "--check"]) == 0
    assert tree(image) == once


def test_what_a_person_wrote_is_never_touched(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    (image / "usr/local/bin").mkdir(parents=True)
    mine = program(image / "usr/local/bin/foilsight", "echo mine\n")
    (image / "etc/foilsight").mkdir()
    (image / "etc/foilsight/coater.toml").write_text("line = 'mine'\n")
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--root={image}"]) == 0
    assert [path.name for path in (image / "etc/foilsight").iterdir()] == ["coater.toml"]
    assert installer.main(["--uninstall", f"--root={image}"]) == 0
    assert (image / "etc/foilsight/coater.toml").read_text() == "line = 'mine'\n"
    assert not (image / "opt/foilsight").exists()
    assert mine.read_text().endswith("echo mine\n")


def test_what_was_installed_goes_altogether(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--root={image}"]) == 0
    assert installer.main(["--uninstall", f"--root={image}"]) == 0
    assert tree(image).keys() == {"etc/passwd", "etc/group", "etc/foilsight/cam1.toml"}


def test_an_upgrade_goes_back_and_forth_with_its_units(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    unit = image / "usr/local/lib/systemd/system/foilsight@.service"
    current = image / "opt/foilsight/current"
    one, two, three = (checkout(tmp_path / name, name) for name in ("1.0", "2.0", "3.0"))
    (two / "deploy/foilsight@.service").write_text("[Unit]\nDescription=of the second\n")
    (one / "deploy/foilsight-bridge@.service").unlink()  # an old release may not have what a new one has
    for source in (one, two):
        assert installer.main([str(source), f"--root={image}"]) == 0
    assert "of the second" in unit.read_text()
    assert installer.main(["--roll-back", f"--root={image}"]) == 0
    assert current.readlink().name.startswith("1.0-")
    assert "of the second" not in unit.read_text()
    assert installer.main(["--roll-back", f"--root={image}"]) == 0
    assert current.readlink().name.startswith("2.0-")
    assert installer.main([str(three), f"--root={image}"]) == 0
    kept = sorted(path.name.split("-")[0] for path in (image / "opt/foilsight/releases").iterdir())
    assert kept == ["2.0", "3.0"]


def test_a_release_that_does_not_run_is_not_switched_to(
    installer: ModuleType, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--root={image}"]) == 0
    before = tree(image)
    broken = checkout(tmp_path / "two", "2.0")
    (broken / "broken").touch()
    assert installer.main([str(broken), f"--root={image}"]) == 1
    assert capsys.readouterr().err == "install.py: what was installed does not run: broken\n"
    assert tree(image) == before


def test_another_content_of_the_same_version_is_another_release(installer: ModuleType, tmp_path: Path) -> None:
    from installing.release import release_name

    source = checkout(tmp_path / "one", "1.0")
    name = release_name(source)
    assert name.startswith("1.0-")
    (source / "edge").mkdir()
    (source / "edge/cli.py").write_text("changed\n")
    assert release_name(source) != name


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{tmp}"], "neither a wheel of Foilsight nor the folder of its sources: name one of them"),
        (["{tmp}/none.whl"], "neither a wheel of Foilsight nor the folder of its sources: name one of them"),
        (["--roll-back"], "there is no release before this one"),
        (["{tmp}", "--wheelhouse={tmp}/none"], "no such folder"),
        (["{tmp}", "--python={tmp}/none"], "cannot be run (No such file or directory)"),
    ],
)
def test_what_a_person_can_get_wrong_is_one_line(
    installer: ModuleType,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    said = [argument.format(tmp=tmp_path) for argument in arguments]
    assert installer.main([*said, f"--root={image}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("install.py: ")
    assert error.count("\n") == 1
    assert complaint in error


def test_an_interpreter_of_another_version_is_refused(
    installer: ModuleType, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = program(tmp_path / "python", "echo 3 9 /usr/bin/python3.9\n")
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--root={image}", f"--python={old}"]) == 1
    assert "is Python 3.9; Foilsight runs on 3.11 to 3.14" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="is root")
def test_only_root_installs_on_this_machine(installer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert installer.main([]) == 1
    assert "only root may install" in capsys.readouterr().err


def test_an_interpreter_the_service_cannot_see_is_refused(
    installer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = program(tmp_path / "python", "echo 3 11 /home/me/python3\n")
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--python={home}", "--check"]) == 1
    assert "the service does not see what lies in a home" in capsys.readouterr().err
