"""What one model finds and another does not, object by object."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.core.config import DefectsConfig
from edge.core.types import ClassMap
from edge.defects.rules import worth_reporting
from edge.defects.runs import I64, connect, find_runs, no_runs


class Difference(NamedTuple):
    """Numbers of objects: of either map that meet one of the same class in the other; of the first alone; of the
    second alone."""

    both: int
    only_first: int
    only_second: int


class Comparison:
    """Compares two class maps of the same rows by their 8-connected components; those not worth reporting by the rules
    do not count, but may be met. Arguments as of `DefectJoiner`."""

    def __init__(self, labels: Sequence[str], rules: DefectsConfig, pitch_mm: float) -> None:
        self._min_area, self._min_score = worth_reporting(labels, rules, pitch_mm)

    def __call__(self, first: ClassMap, second: ClassMap) -> Difference:
        """Of the objects that both have, those of the first map are counted."""
        same = (first.class_index == second.class_index) & (first.class_index != 0)
        met, alone = self._count(first, same)
        return Difference(met, alone, self._count(second, same)[1])

    def _count(self, class_map: ClassMap, same: NDArray[np.bool_]) -> tuple[int, int]:
        """Objects with pixels where `same`, and without."""
        runs = find_runs(class_map.class_index, class_map.score)
        if not runs.row.size:
            return 0, 0
        component, sums = connect(no_runs(), np.zeros(0, np.int64), runs)
        upto = np.concatenate([[0], np.cumsum(same.ravel())])
        at: I64 = runs.row * class_map.class_index.shape[1]
        shared = np.bincount(component, upto[at + runs.stop] - upto[at + runs.start], len(sums.area))
        counts = (sums.area >= self._min_area[sums.class_index]) & (sums.score_max >= self._min_score[sums.class_index])
        return int((counts & (shared > 0)).sum()), int((counts & (shared == 0)).sum())
