"""A second model that looks at the same web as the one at work, when there is time, and is compared with it.

It decides nothing. What it is shown are windows with all their halo, each strip by itself, so that one that is left out
costs the others nothing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge.core.types import ClassMap
from edge.defects.comparing import Comparison
from edge.pipeline.changing import FittedModel
from edge.segmentation.stream import Decision


@dataclass
class ShadowCounts:
    """Strips `compared`; those `left_out` because the line had no time for them; objects that `both` models found,
    `only_live`, the one at work alone, and `only_shadow`. An object on the border of two strips counts in both."""

    compared: int = 0
    left_out: int = 0
    both: int = 0
    only_live: int = 0
    only_shadow: int = 0


class Shadow:
    """Takes decisions of a `Segmenter` (`take` is for its `beside`), never waits, and never keeps it waiting.

    One decision at a time is copied, while `has_time` says so, and decided anew in a thread of its own. What the model
    raises ends the comparing and stands in `problem`.
    """

    def __init__(self, model: FittedModel, compare: Comparison, has_time: Callable[[], bool]) -> None:
        self.model = model
        self.counts = ShadowCounts()
        self.problem: str | None = None
        self._compare, self._has_time = compare, has_time
        self._taken: Decision | None = None
        self._planes = np.empty((0, 0, 0), np.float32)
        self._filled, self._ending = threading.Semaphore(0), False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def take(self, decision: Decision) -> None:
        """Copy a decision and have it compared, or leave it out."""
        if self._taken is not None or self.problem is not None or not self._has_time():
            self.counts.left_out += 1
            return
        live = decision.class_map
        if self._planes.shape != decision.planes.shape:
            self._planes = np.empty(decision.planes.shape, np.float32)
        np.copyto(self._planes, decision.planes)
        self._taken = decision._replace(
            planes=self._planes,
            unseen=decision.unseen.copy(),
            class_map=ClassMap(live.class_index.copy(), live.score.copy(), live.first_row),
        )
        self._filled.release()

    def close(self) -> None:
        """End the thread, when it is through with what it has."""
        self._ending = True
        self._filled.release()
        self._thread.join()

    def _run(self) -> None:
        while self._filled.acquire() and not self._ending:
            try:
                self._decide()
            except Exception as error:  # whatever it is, it is the shadow's alone
                self.problem = f"{type(error).__name__}: {error}"
            self._taken = None

    def _decide(self) -> None:
        decision = self._taken
        assert decision is not None
        live = decision.class_map
        own = ClassMap(np.empty_like(live.class_index), np.empty_like(live.score), live.first_row)
        self.model.network.decide(decision.planes, decision.windows, decision.keep, own)
        own.class_index[decision.unseen] = 0
        found = self._compare(live, own)
        self.counts.compared += 1
        self.counts.both += found.both
        self.counts.only_live += found.only_first
        self.counts.only_shadow += found.only_second
