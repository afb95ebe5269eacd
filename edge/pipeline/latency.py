"""Times by how often they occur, in the same memory however many there are."""

import math

import numpy as np

_SHORTEST_MS, _LONGEST_MS, _STEP = 1e-3, 1e8, 1.01
_BINS = math.ceil(math.log(_LONGEST_MS / _SHORTEST_MS, _STEP)) + 1


class Latencies:
    """Counts of times in bins that are 1 % wide, from a microsecond to a day."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._most_ms = 0.0

    def add(self, ms: float, times: int) -> None:
        """Count a time so many times."""
        within = min(max(ms, _SHORTEST_MS), _LONGEST_MS)
        self._counts[int(math.log(within / _SHORTEST_MS, _STEP))] += times
        self._most_ms = max(self._most_ms, ms)

    def _percentile_ms(self, percent: float) -> float:
        """The time that so many percent of all do not exceed, to 1 %; 0 where there is none."""
        up_to = np.cumsum(self._counts)
        if up_to[-1] == 0:
            return 0.0
        at = int(np.searchsorted(up_to, max(1.0, percent / 100 * up_to[-1])))
        return min(_SHORTEST_MS * _STEP ** (at + 1), self._most_ms)

    def summary_ms(self) -> dict[str, float]:
        """p50, p99, p999 and max."""
        at = {"p50": 50.0, "p99": 99.0, "p999": 99.9}
        return {**{name: self._percentile_ms(percent) for name, percent in at.items()}, "max": self._most_ms}
