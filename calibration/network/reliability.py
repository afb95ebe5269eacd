"""Whether probabilities are what they say."""

import numpy as np
from numpy.typing import NDArray

BINS = 15


class Reliability:
    """Counts how often predictions of a probability came true.

    `error` is the expected calibration error (Naeini et al. 2015): over bins of equal width, the mean over predictions
    of how far a bin's mean probability is from its share of true ones. None before there is any.
    """

    def __init__(self) -> None:
        self._count, self._sum, self._true = (np.zeros(BINS) for _ in range(3))

    def add(self, probability: NDArray[np.floating], came_true: NDArray[np.bool_]) -> None:
        """Predictions and outcomes, of one shape."""
        p = probability.ravel()
        at = np.minimum((p * BINS).astype(np.intp), BINS - 1)
        self._count += np.bincount(at, minlength=BINS)
        self._sum += np.bincount(at, weights=p, minlength=BINS)
        self._true += np.bincount(at, weights=came_true.ravel(), minlength=BINS)

    @property
    def error(self) -> float | None:
        total = self._count.sum()
        return float(np.abs(self._sum - self._true).sum() / total) if total else None
