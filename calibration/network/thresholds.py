"""How sure the network must be of a class, chosen on webs it was not trained on."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibration.network.augmentation import continued
from calibration.network.networks.network import LineNetwork
from calibration.network.sampling import Web
from edge.core.types import F32, U8
from edge.segmentation.windows import plan_axis

Counts = NDArray[np.int64]
STEPS = 200
THRESHOLDS = np.arange(1, STEPS) / STEPS
"""Those tried."""
SLAB_ROWS = 512


def probabilities(model: LineNetwork, surface: F32, *, mirrored: bool = False) -> Iterator[tuple[slice, F32]]:
    """Class probabilities of a surface (C,H,W) f32, slab by slab: its rows and (classes,rows,W) f32.

    `mirrored`: how it goes on beyond its edges, as `continued` says.
    """
    _, height, width = surface.shape
    padded = continued(surface, model.grid, mirrored)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for window in plan_axis(padded.shape[1], SLAB_ROWS + 2 * model.halo, model.halo, model.grid):
            seen = torch.from_numpy(padded[None, :, window.start : window.stop])
            logits = model(seen.to(model.mean.device))
            kept = F.softmax(logits[0], dim=0)[:, window.keep_start - window.start : window.keep_stop - window.start]
            rows = slice(window.keep_start, min(window.keep_stop, height))
            yield rows, kept[:, : rows.stop - rows.start, :width].cpu().numpy()
    model.train(was_training)


class ThresholdCounts:
    """Pixels of each defect, and of all else, by the probability that they were given of it."""

    def __init__(self, defects: int) -> None:
        self._right = np.zeros((defects, STEPS), np.int64)
        self._wrong = np.zeros((defects, STEPS), np.int64)

    def add(self, p: F32, truth: U8) -> None:
        """Probabilities of the defects (defects,rows,W) and truth (rows,W), 0 for background."""
        step = np.minimum((p * STEPS).astype(np.int64), STEPS - 1)
        for k, steps in enumerate(step):
            here = truth == k + 1
            self._right[k] += np.bincount(steps[here], minlength=STEPS)
            self._wrong[k] += np.bincount(steps[~here], minlength=STEPS)

    @property
    def found(self) -> Counts:
        """Pixels (defects, THRESHOLDS) of a defect where its probability reaches a threshold."""
        return _reaching(self._right)

    @property
    def false(self) -> Counts:
        """Other pixels (defects, THRESHOLDS) where it does."""
        return _reaching(self._wrong)

    @property
    def there(self) -> Counts:
        """Pixels (defects, 1) of a defect."""
        return self._right.sum(axis=1, keepdims=True)

    @property
    def elsewhere(self) -> Counts:
        """All other pixels (defects, 1)."""
        return self._wrong.sum(axis=1, keepdims=True)

    @property
    def f1(self) -> NDArray[np.float64]:
        """F1 (defects, THRESHOLDS); 0 for defects not there."""
        f1: NDArray[np.float64] = 2 * self.found / np.maximum(self.found + self.false + self.there, 1)
        return f1

    def best_thresholds(self, false_cost: float | None = None) -> list[float]:
        """For each defect the best threshold; 0.5 for those not there.

        Best is the highest pixel F1, or, with a `false_cost`, the fewest pixels that are missed or, times this cost,
        false. The middle of the best ones is taken, so that a plateau is not left by a hair.
        """
        there = self.there
        merit = self.f1 if false_cost is None else (self.found - false_cost * self.false) / np.maximum(there, 1)
        return [
            round(float(np.median(THRESHOLDS[row >= row.max() - 1e-3])), 3) if any_there else 0.5
            for row, any_there in zip(merit, there[:, 0] > 0, strict=True)
        ]


def threshold_counts(model: LineNetwork, webs: Iterable[Web]) -> ThresholdCounts:
    """Counts over the pixels of webs."""
    counts = ThresholdCounts(model.shape[1] - 1)
    for surface, truth in webs:
        for rows, p in probabilities(model, surface):
            counts.add(p[1:], truth[rows])
    return counts


def pixel_f1(model: LineNetwork, webs: Iterable[Web]) -> list[float]:
    """F1 over the pixels of webs for each class but background, each at its best threshold; 0 for classes not there."""
    best: list[float] = threshold_counts(model, webs).f1.max(axis=1).tolist()
    return best


def choose_thresholds(model: LineNetwork, webs: Iterable[Web], false_cost: float | None = None) -> list[float]:
    """For each class but background the best probability in (0, 1) on webs, as `ThresholdCounts` says."""
    return threshold_counts(model, webs).best_thresholds(false_cost)


def _reaching(counts: Counts) -> Counts:
    return np.cumsum(counts[:, ::-1], axis=1)[:, -2::-1]
