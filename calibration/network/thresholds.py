"""How sure the network must be of a class, chosen on webs it was not trained on."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from calibration.network.sampling import Web
from calibration.network.unet import GRID, HALO, UNet
from edge.core.types import F32
from edge.segmentation.windows import plan_axis

STEPS = 200
"""Thresholds tried between 0 and 1."""
SLAB_ROWS = 512


def probabilities(model: UNet, surface: F32) -> Iterator[tuple[slice, F32]]:
    """Class probabilities of a surface (C,H,W) f32, slab by slab: its rows and (classes,rows,W) f32."""
    _, height, width = surface.shape
    padded = np.pad(surface, ((0, 0), (0, -height % GRID), (0, -width % GRID)), mode="edge")
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for window in plan_axis(padded.shape[1], SLAB_ROWS + 2 * HALO, HALO, GRID):
            seen = torch.from_numpy(padded[None, :, window.start : window.stop])
            logits = model(seen.to(model.mean.device))
            kept = F.softmax(logits[0], dim=0)[:, window.keep_start - window.start : window.keep_stop - window.start]
            rows = slice(window.keep_start, min(window.keep_stop, height))
            yield rows, kept[:, : rows.stop - rows.start, :width].cpu().numpy()
    model.train(was_training)


def pixel_f1(model: UNet, webs: Sequence[Web]) -> list[float]:
    """F1 over the pixels of webs for each class but background, each at its best threshold; 0 for classes not there."""
    return [float(f1.max()) for f1 in _f1_by_threshold(model, webs)]


def choose_thresholds(model: UNet, webs: Sequence[Web]) -> list[float]:
    """For each class but background the probability in (0, 1) of best pixel F1 on webs; 0.5 for classes not there.

    The middle of the best ones is taken, so that a plateau is not left by a hair.
    """
    f1 = _f1_by_threshold(model, webs)
    tried = np.arange(1, STEPS) / STEPS
    return [round(float(np.median(tried[row >= row.max() - 1e-3])), 3) if row.max() > 0 else 0.5 for row in f1]


def _f1_by_threshold(model: UNet, webs: Sequence[Web]) -> NDArray[np.float64]:
    """F1 (classes - 1, STEPS - 1) of "p >= threshold" for the thresholds 1/STEPS .. 1 - 1/STEPS."""
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
    planted = found[:, :1]
    f1: NDArray[np.float64] = 2 * found / np.maximum(found + false + planted, 1)
    return f1[:, 1:]
