"""The judge of a long run lets nothing pass but a file that serves and a refusal that helps."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge.core.errors import RecordingError

from . import judge
from .judge import BadRefusal, Hang, Tally, verdict


def refusing(message: str) -> Callable[[Path], None]:
    def use(path: Path) -> None:
        raise RecordingError(message.replace("FILE", str(path)))

    return use


def for_ever(path: Path) -> None:
    while True:
        try:
            sum(range(1000))
        except Exception:
            continue


def greedy(path: Path) -> None:
    np.empty(4 * judge.MEMORY_BYTES, np.uint8)


def greedy_and_silent(path: Path) -> None:
    try:
        greedy(path)
    except MemoryError as error:
        raise RecordingError(f"{path}: damaged") from error


def test_a_file_that_serves_and_a_refusal_that_helps_pass(tmp_path: Path) -> None:
    assert verdict(lambda path: None, tmp_path / "a", b"") is None
    assert verdict(refusing("FILE: torn"), tmp_path / "a", b"") == "/a: torn"


@pytest.mark.parametrize("message", ["torn", "FILE: torn\nin two", "FILE: \x1b[2J", "FILE: " + "x" * 9999])
def test_a_refusal_that_helps_nobody_is_a_failure(tmp_path: Path, message: str) -> None:
    with pytest.raises(BadRefusal):
        verdict(refusing(message), tmp_path / "a", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="nobody says what a process has")
@pytest.mark.parametrize("use", [greedy, greedy_and_silent])
def test_memory_on_a_file_s_word_is_a_failure(tmp_path: Path, use: Callable[[Path], None]) -> None:
    with pytest.raises(MemoryError):
        verdict(use, tmp_path / "a", b"")


def test_a_hang_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "CPU_S", 0.1)
    with pytest.raises(Hang):
        verdict(for_ever, tmp_path / "a", b"")


def test_a_tally_keeps_the_smallest_file_of_each_failure(tmp_path: Path) -> None:
    tally = Tally()
    for data in (b"long", b"x", b"longer"):
        tally.count(lambda path: path.read_bytes().index(b"z"), tmp_path / "a", data)
    tally.count(refusing("FILE: torn after 17 bytes"), tmp_path / "a", b"")
    tally.count(refusing("FILE: torn after 18 bytes"), tmp_path / "a", b"")
    assert (tally.cases, tally.accepted, tally.refusals.total(), len(tally.refusals)) == (5, 0, 2, 1)
    assert list(tally.failures.values()) == [(3, b"x")]
