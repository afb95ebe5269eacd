"""Two ways to think of bad files: Hypothesis by chance, and Atheris along the branches of the code that reads them."""

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from .judge import Tally
from .targets import TARGETS, Target, file_for

Seen = Callable[[Tally], None]


@st.composite
def damaged_files(draw: st.DrawFn, target: Target, *, shrinkable: bool) -> bytes:
    """A good file with something wrong. Shrinkable ones take longer to think of."""
    return target.damaged(draw(st.sampled_from(target.seeds())), draw(st.randoms(use_true_random=not shrinkable)))


def run_hypothesis(name: str, cases: int, seen: Seen) -> Tally:
    """Judge `cases` files, whatever they come to; `seen` is called after each."""
    target, tally = TARGETS[name], Tally()
    with file_for(name) as path:

        @settings(
            max_examples=cases,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(damaged_files(target, shrinkable=False))
        def judge(data: bytes) -> None:
            tally.count(target.use, path, data)
            seen(tally)

        judge()
    return tally


def run_atheris(name: str, cases: int, seen: Seen) -> Tally:
    """The same in a process of its own, as Atheris ends the process it runs in. That tells how far it is itself."""
    with tempfile.TemporaryDirectory() as folder:
        out, said = Path(folder, "tally"), Path(folder, "said")
        command = [sys.executable, "-m", "tests.fuzz.branches", name, str(cases), str(out)]
        with said.open("wb") as stderr:
            ended = subprocess.run(command, stderr=stderr, cwd=Path(__file__).parents[2], check=False)
        if not out.exists():
            raise RuntimeError(f"Atheris ended with {ended.returncode}: {said.read_text()[-3000:]}")
        tally: Tally = pickle.loads(out.read_bytes())
    return tally


ENGINES: dict[str, Callable[[str, int, Seen], Tally]] = {"hypothesis": run_hypothesis, "atheris": run_atheris}
