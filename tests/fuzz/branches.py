"""Atheris on one target, in this process: `python -m tests.fuzz.branches TARGET CASES TALLY`, for `engines`."""

import os
import pickle
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from random import Random

import atheris

# Numba could not compile what is instrumented, and is not asked to.
with atheris.instrument_imports(include=["edge", "mcap"]):
    from .judge import Tally
    from .progress import Progress
    from .targets import TARGETS, file_for

_MAX_BYTES = 1 << 16
_PLAIN_SHARE = 4  # one mutation in so many is libFuzzer's own


def main(name: str, cases: int, out: Path) -> None:
    """Judge `cases` files and leave the tally in `out`. Ends the process."""
    warnings.simplefilter("error")
    target, tally, seen, stack = TARGETS[name], Tally(), Progress(name, cases), ExitStack()
    corpus = out.parent / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(target.seeds()):
        (corpus / str(index)).write_bytes(seed)
    path = stack.enter_context(file_for(name))

    def judge(data: bytes) -> None:
        tally.count(target.use, path, data)
        seen(tally)
        if tally.cases == cases:
            out.write_bytes(pickle.dumps(tally))
            stack.close()
            os._exit(0)  # libFuzzer has no other way to end well

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(_PLAIN_SHARE) == 0:
            return bytes(atheris.Mutate(data, max_size))
        return target.damaged(bytes(data), random)[:max_size]

    options = [f"-max_len={_MAX_BYTES}", "-rss_limit_mb=0", "-mutate_depth=1", "-seed=1", f"-artifact_prefix={corpus}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
