"""The installer, into the image of a machine: no root, no systemd of it is wanted."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCES = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", SOURCES / "deploy/install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def image(tmp_path: Path, installer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's root folder. Its environments are empty, and systemd's tools do what they are for there."""
    root = tmp_path / "image"
    for folder in ("etc", "opt", "run"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")

    def build(source: Path, release: Path, _options: Any) -> None:
        if (source / "broken").exists():
            raise installer.InstallError("what was installed does not run: broken")
        shutil.copytree(source / "deploy", release / "deploy")
        (release / installer.FINISHED).touch()

    def said(command: list[str], problem: str) -> str:
        if command[0] == "systemd-sysusers":
            (root / "etc/passwd").write_text("foilsight:x:990:990::/var/lib/foilsight:/bin/false\n")
            (root / "etc/group").write_text(f"foilsight:x:{os.getgid()}:\n")
            return ""
        if command[0] == "systemctl":
            wants = root / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True)
            (wants / "foilsight.target").symlink_to("/usr/local/lib/systemd/system/foilsight.target")
            return ""
        return str(real(command, problem))

    real = installer.said
    monkeypatch.setattr(installer, "said", said)
    monkeypatch.setattr(installer, "build_release", build)
    return root


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
    assert (image / "etc/foilsight").stat().st_mode & 0o777 == 0o750
    capsys.readouterr()
    assert installer.main([str(source), f"--root={image}"]) == 0
    assert capsys.readouterr().out == "nothing to change\n"
    assert installer.main([str(source), f"--root={image}", "--check"]) == 0
    assert tree(image) == once


def test_what_a_person_wrote_is_never_touched(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    (image / "etc/foilsight").mkdir()
    (image / "etc/foilsight/coater.toml").write_text("line = 'mine'\n")
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--root={image}"]) == 0
    assert [path.name for path in (image / "etc/foilsight").iterdir()] == ["coater.toml"]
    assert installer.main(["--uninstall", f"--root={image}"]) == 0
    assert (image / "etc/foilsight/coater.toml").read_text() == "line = 'mine'\n"
    assert not (image / "opt/foilsight").exists()


def test_an_upgrade_goes_back_and_forth_with_its_units(installer: ModuleType, image: Path, tmp_path: Path) -> None:
    unit = image / "usr/local/lib/systemd/system/foilsight@.service"
    current = image / "opt/foilsight/current"
    one, two, three = (checkout(tmp_path / name, name) for name in ("1.0", "2.0", "3.0"))
    (two / "deploy/foilsight@.service").write_text("[Unit]\nDescription=of the second\n")
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
    source = checkout(tmp_path / "one", "1.0")
    name = installer.release_name(source)
    assert name.startswith("1.0-")
    (source / "edge").mkdir()
    (source / "edge/cli.py").write_text("changed\n")
    assert installer.release_name(source) != name


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
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho 3 9 /usr/bin/python3.9\n")
    old.chmod(0o755)
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
    home = tmp_path / "python"
    home.write_text(f"#!/bin/sh\necho {sys.version_info[0]} {sys.version_info[1]} /home/me/python3\n")
    home.chmod(0o755)
    assert installer.main([str(checkout(tmp_path / "one", "1.0")), f"--python={home}", "--check"]) == 1
    assert "the service does not see what lies in a home" in capsys.readouterr().err
