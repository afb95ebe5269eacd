"""How sure the network must be of a class, chosen on webs it was not trained on."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibration.network.sampling import Web
from calibration.network.unet import UNet
from edge.core.types import F32
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


def pixel_f1(model: UNet, webs: Iterable[Web]) -> list[float]:
    """F1 over the pixels of webs for each class but background, each at its best threshold; 0 for classes not there."""
    return [float(f1.max()) for f1 in _f1(*_counts_by_threshold(model, webs))]


def choose_thresholds(model: UNet, webs: Iterable[Web], false_cost: float | None = None) -> list[float]:
    """For each class but background the best probability in (0, 1) on webs; 0.5 for classes not there.

    Best is the highest pixel F1, or, with a `false_cost`, the fewest pixels that are missed or, times this cost, false.
    The middle of the best ones is taken, so that a plateau is not left by a hair.
    """
    found, false, there = _counts_by_threshold(model, webs)
    merit = _f1(found, false, there) if false_cost is None else (found - false_cost * false) / np.maximum(there, 1)
    tried = np.arange(1, STEPS) / STEPS
    return [
        round(float(np.median(tried[row >= row.max() - 1e-3])), 3) if any_there else 0.5
        for row, any_there in zip(merit, there[:, 0] > 0, strict=True)
    ]


def _f1(found: Counts, false: Counts, there: Counts) -> NDArray[np.float64]:
    f1: NDArray[np.float64] = 2 * found / np.maximum(found + false + there, 1)
    return f1


def _counts_by_threshold(model: UNet, webs: Iterable[Web]) -> tuple[Counts, Counts, Counts]:
    """Pixels (classes - 1, STEPS - 1) of "p >= threshold" that are so and that are not, for the thresholds 1/STEPS ..
    1 - 1/STEPS, and pixels (classes - 1, 1) that there are."""
    classes = model.shape[1]
    right = np.zeros((classes, STEPS), np.int64)
    wrong = np.zeros((classes, STEPS), np.int64)
    for surface, truth in webs:
        for rows, p in probabilities(model, surface):
            step = np.minimum((p * STEPS).astype(np.int64), STEPS - 1)
            for k in range(1, classes):
                here = truth[rows] == k
                right[k] += np.bincount(step[k][here], minlength=STEPS)
                wrong[k] += np.bincount(step[k][~here], minlength=STEPS)
    found = np.cumsum(right[1:, ::-1], axis=1)[:, ::-1]
    false = np.cumsum(wrong[1:, ::-1], axis=1)[:, ::-1]
    return found[:, 1:], false[:, 1:], found[:, :1]
