"""How far a long run is, a line every ten seconds."""

import time

from .judge import Tally


class Progress:
    """Called after each case."""

    def __init__(self, name: str, cases: int) -> None:
        self._name, self._cases = name, cases
        self._told = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        if time.monotonic() - self._told > 10:
            self._told = time.monotonic()
            failed = sum(times for times, _ in tally.failures.values())
            print(f"{self._name}: {tally.cases:,} of {self._cases:,}, {failed} failed", flush=True)
