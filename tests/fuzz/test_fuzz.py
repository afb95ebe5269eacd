"""A short run of the long one: see `python -m tests.fuzz`."""

from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, given, settings

from .engines import damaged_files, run_atheris
from .judge import verdict
from .targets import TARGETS, file_for

CASES = 300
CASES_BY_BRANCHES = 600


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_are_taken(name: str) -> None:
    with file_for(name) as path:
        for seed in TARGETS[name].seeds():
            assert verdict(TARGETS[name].use, path, seed) is None


@pytest.mark.parametrize("name", TARGETS)
def test_bad_files_are_refused_in_one_line_or_serve(name: str) -> None:
    @settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(damaged_files(TARGETS[name], shrinkable=True))
    def judge(data: bytes) -> None:
        verdict(TARGETS[name].use, path, data)

    with file_for(name) as path:
        judge()


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: it has wheels for Linux on x86_64")
@pytest.mark.parametrize("name", TARGETS)
def test_bad_files_down_every_branch_are_refused_in_one_line_or_serve(name: str) -> None:
    tally = run_atheris(name, CASES_BY_BRANCHES, lambda _: None)
    assert tally.cases == CASES_BY_BRANCHES
    assert tally.accepted > 0
    assert not {what: (times, data[:200]) for what, (times, data) in tally.failures.items()}
