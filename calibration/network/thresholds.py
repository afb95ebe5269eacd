"""How sure the network must be of a class, chosen on webs it was not trained on."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibration.network.sampling import Web
from calibration.network.unet import UNet
from edge.core.types import F32, U8
from edge.segmentation.windows import plan_axis

Counts = NDArray[np.int64]
STEPS = 200
"""Thresholds tried between 0 and 1."""
SLAB_ROWS = 512


def probabilities(model: UNet, surface: F32) -> Iterator[tuple[slice, F32]]:
    """Class probabilities of a surface (C,H,W) f32, slab by slab: its rows and (classes,rows,W) f32."""
    _, height, width = surface.shape
    padded = np.pad(surface, ((0, 0), (0, -height % model.grid), (0, -width % model.grid)), mode="edge")
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
    """Pixels of each class but background (classes - 1, STEPS - 1) that are so, and that are not, where its
    probability reaches 1/STEPS .. 1 - 1/STEPS; and pixels (classes - 1, 1) that there are."""

    def __init__(self, classes: int) -> None:
        self._right = np.zeros((classes, STEPS), np.int64)
        self._wrong = np.zeros((classes, STEPS), np.int64)

    def add(self, p: F32, truth: U8) -> None:
        """Probabilities (classes,rows,W) and truth (rows,W)."""
        step = np.minimum((p * STEPS).astype(np.int64), STEPS - 1)
        for k in range(1, len(p)):
            here = truth == k
            self._right[k] += np.bincount(step[k][here], minlength=STEPS)
            self._wrong[k] += np.bincount(step[k][~here], minlength=STEPS)

    def best_f1(self) -> list[float]:
        """F1 of each class but background at its best threshold; 0 for classes not there."""
        return [float(row.max()) for row in _f1(*self._counts())]

    def best_thresholds(self, false_cost: float | None = None) -> list[float]:
        """For each class but background the best threshold; 0.5 for classes not there.

        Best is the highest pixel F1, or, with a `false_cost`, the fewest pixels that are missed or, times this cost,
        false. The middle of the best ones is taken, so that a plateau is not left by a hair.
        """
        found, false, there = self._counts()
        merit = _f1(found, false, there) if false_cost is None else (found - false_cost * false) / np.maximum(there, 1)
        tried = np.arange(1, STEPS) / STEPS
        return [
            round(float(np.median(tried[row >= row.max() - 1e-3])), 3) if any_there else 0.5
            for row, any_there in zip(merit, there[:, 0] > 0, strict=True)
        ]

    def _counts(self) -> tuple[Counts, Counts, Counts]:
        found = np.cumsum(self._right[1:, ::-1], axis=1)[:, ::-1]
        false = np.cumsum(self._wrong[1:, ::-1], axis=1)[:, ::-1]
        return found[:, 1:], false[:, 1:], found[:, :1]


def threshold_counts(model: UNet, webs: Iterable[Web]) -> ThresholdCounts:
    """Counts over the pixels of webs."""
    counts = ThresholdCounts(model.shape[1])
    for surface, truth in webs:
        for rows, p in probabilities(model, surface):
            counts.add(p, truth[rows])
    return counts


def pixel_f1(model: UNet, webs: Iterable[Web]) -> list[float]:
    """F1 over the pixels of webs for each class but background, each at its best threshold; 0 for classes not there."""
    return threshold_counts(model, webs).best_f1()


def choose_thresholds(model: UNet, webs: Iterable[Web], false_cost: float | None = None) -> list[float]:
    """For each class but background the best probability in (0, 1) on webs, as `ThresholdCounts` says."""
    return threshold_counts(model, webs).best_thresholds(false_cost)


def _f1(found: Counts, false: Counts, there: Counts) -> NDArray[np.float64]:
    f1: NDArray[np.float64] = 2 * found / np.maximum(found + false + there, 1)
    return f1
