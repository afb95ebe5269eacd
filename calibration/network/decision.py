"""From which probability and which area on something is called a defect, so that few clean images raise an alarm."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.core.errors import ConfigError
from edge.core.types import F32, U8

THRESHOLDS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
"""Probabilities tried: honest ones of what is hard to tell are low."""
AREAS = np.append(np.unique(np.geomspace(1, 1 << 20, 64).round().astype(np.int64)), 1 << 40)
"""Smallest areas tried, in pixels; the last lets nothing pass."""
UNDECIDED = (7, 0)
"""Threshold and area of a class that the images do not hold."""
LEAST_LOSS = 1e-6


class Decision(NamedTuple):
    """For each class but background: the smallest probability of a pixel and the smallest area of a component.

    `alarms`: share of the clean images in which something is then still called a defect.
    """

    thresholds: list[float]
    min_areas_px: list[int]
    alarms: float


class DecisionCounts:
    """What each class would find in images, and in how many clean ones, by threshold and smallest area.

    Each class is counted as if it were alone. Where several reach their thresholds the most probable one takes the
    pixel, which makes the others' components smaller: no more images raise an alarm than are counted.
    """

    def __init__(self, classes: int) -> None:
        shape = (classes - 1, len(THRESHOLDS), len(AREAS))
        self._right = np.zeros(shape)
        self._called = np.zeros(shape)
        self._there = np.zeros((classes - 1, 1, 1))
        self._largest_of_clean: list[NDArray[np.int64]] = []

    def add(self, p: F32, truth: U8) -> None:
        """An image: probabilities (classes,H,W) and truth (H,W)."""
        for k in range(len(p) - 1):
            is_so = truth == k + 1
            self._there[k] += np.count_nonzero(is_so)
            for step, threshold in enumerate(THRESHOLDS):
                areas, right = _components(p[k + 1] >= threshold, is_so)
                if not areas.size:
                    break
                at = np.searchsorted(AREAS, areas, side="right") - 1
                self._called[k, step] += np.bincount(at, areas, len(AREAS))
                self._right[k, step] += np.bincount(at, right, len(AREAS))
        if not truth.any():
            self.add_clean(p)

    def add_clean(self, p: F32) -> None:
        """What is found (classes,H,W) in a clean image, of which nothing but alarms is counted."""
        nothing = np.zeros(p.shape[1:], np.bool_)
        largest = np.zeros(self._called.shape[:2], np.int64)
        for k, of_class in enumerate(p[1:]):
            for step, threshold in enumerate(THRESHOLDS):
                largest[k, step] = _components(of_class >= threshold, nothing)[0].max(initial=0)
        self._largest_of_clean.append(largest)

    def best(self, most_alarms: float, false_cost: float | None = None) -> Decision:
        """The best decision by which a share of at most `most_alarms` of the clean images raises an alarm.

        Best is the highest pixel F1 of each class, or with a `false_cost` the fewest pixels that are missed or, times
        this cost, false. From there on, the class that ends most alarms for the merit it loses is decided more
        strictly, until they are few enough. Raises ConfigError without clean images.
        """
        if not self._largest_of_clean:
            raise ConfigError("no clean image to count alarms on: add images without defects, or leave --clean-alarms")
        merit = self._merit(false_cost)
        calls = np.stack(self._largest_of_clean)[..., None] >= AREAS
        calls = calls.reshape(len(calls), *merit.shape)
        classes = np.arange(len(merit))
        chosen = np.array([_middle_of_best(row) for row in merit])
        chosen[self._there.ravel() == 0] = np.ravel_multi_index(UNDECIDED, self._grid)
        while (now := calls[:, classes, chosen]).any(axis=1).mean() > most_alarms:
            ended = now.sum(axis=0)[:, None] - calls.sum(axis=0)
            lost = np.maximum(merit[classes, chosen][:, None] - merit, LEAST_LOSS)
            k, better = np.unravel_index(np.argmax(ended / lost), merit.shape)
            chosen[k] = better
        steps, sizes = np.unravel_index(chosen, self._grid)
        return Decision(THRESHOLDS[steps].tolist(), AREAS[sizes].tolist(), float(now.any(axis=1).mean()))

    @property
    def _grid(self) -> tuple[int, int]:
        return len(THRESHOLDS), len(AREAS)

    def _merit(self, false_cost: float | None) -> NDArray[np.float64]:
        """(classes - 1, thresholds x areas)"""
        right, called = (np.cumsum(each[..., ::-1], axis=2)[..., ::-1] for each in (self._right, self._called))
        if false_cost is None:
            merit = 2 * right / np.maximum(called + self._there, 1)
        else:
            merit = (right - false_cost * (called - right)) / np.maximum(self._there, 1)
        return merit.reshape(len(merit), -1)


def without_small(called: U8, min_areas_px: list[int]) -> U8:
    """A class map (H,W) in which 8-connected components of class k smaller than `min_areas_px[k - 1]` are background.

    None are where there are no smallest areas.
    """
    kept = called
    for k, least in enumerate(min_areas_px, start=1):
        if least > 1 and (called == k).any():
            mask = (called == k).view(np.uint8)
            _, labels, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            small = figures[:, cv2.CC_STAT_AREA] < least
            small[0] = False
            kept = np.where(small[labels], np.uint8(0), kept)
    return kept


def _middle_of_best(merit: NDArray[np.float64]) -> int:
    """So that a plateau is not left by a hair."""
    best = np.flatnonzero(merit >= merit.max() - 1e-3)
    return int(best[len(best) // 2])


def _components(mask: NDArray[np.bool_], is_so: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Area of each 8-connected component of a mask (H,W), and how many of its pixels are so."""
    if not mask.any():
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    count, labels, figures, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    return figures[1:, cv2.CC_STAT_AREA].astype(np.int64), np.bincount(labels[is_so], minlength=count)[1:]
