"""`foilsight keys`, and what a configuration's keys mean."""

from pathlib import Path

import pytest

from edge.cli import run_command
from edge.core.config import load_config
from edge.core.errors import ConfigError
from edge.events.keys import KeyPair, LineKeys, ListenerKeys
from edge.service.keys import CREDENTIAL, line_keys, listener_keys


def config(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(f"[events]\n{text}")
    return path


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    KeyPair.fresh().write(tmp_path / "line.key")
    return KeyPair.read(tmp_path / "line.key")


def test_keys_are_made_shown_and_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, line = tmp_path / "console.key", config(tmp_path, "clients = 'clients'\n")
    assert run_command(["keys", "make", str(key)]) == 0
    public = capsys.readouterr().out.strip()
    assert public == KeyPair.read(key).public
    assert run_command(["keys", "show", str(key)]) == 0
    assert capsys.readouterr().out.strip() == public
    allow = ["keys", "allow", "console", public, "--config", str(line)]
    assert run_command(allow) == 0
    assert run_command(allow) == 0
    assert capsys.readouterr().out == f"{tmp_path}/clients: console may listen\n" + (
        f"{tmp_path}/clients: console may listen already\n"
    )
    assert (tmp_path / "clients").read_text() == f'console = "{public}"\n'


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], pair: KeyPair) -> None:
    line = config(tmp_path, "")
    for command, words in (
        (["keys", "make", str(tmp_path / "line.key")], "File exists"),
        (["keys", "show", str(line)], "others may read this secret key"),
        (["keys", "allow", "console", pair.public, "--config", str(line)], "events.clients: name the file"),
    ):
        assert run_command(command) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


def test_a_line_takes_its_key_from_the_configuration_or_from_systemd(
    tmp_path: Path, pair: KeyPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load_config(config(tmp_path, "")).events
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert line_keys(plain) is None
    assert listener_keys(plain) is None
    named = load_config(config(tmp_path, "secret_key = 'line.key'\nclients = 'clients'\n")).events
    assert line_keys(named) == LineKeys(pair, tmp_path / "clients")
    assert listener_keys(named) == ListenerKeys(pair, pair.public)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert line_keys(plain) is None
    (tmp_path / "line.key").rename(tmp_path / CREDENTIAL).chmod(0o440)  # as systemd leaves it
    assert line_keys(plain) == LineKeys(pair, None)


def test_a_listener_elsewhere_has_a_key_of_its_own(tmp_path: Path, pair: KeyPair) -> None:
    line = KeyPair.fresh().public
    there = load_config(config(tmp_path, f"secret_key = 'line.key'\nline_key = '{line}'\n")).events
    assert listener_keys(there) == ListenerKeys(pair, line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clients = 'clients'", "wants a key of the line's own"),
        ("secret_key = 'none.key'", "none.key: cannot be read"),
        ("line_key = 'short'", r"\$\.events\.line_key"),
        ("line_key = '0123456789012345678901234567890123456789'", "wants one of his own"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        events = load_config(config(tmp_path, f"{text}\n")).events
        line_keys(events)
        listener_keys(events)
