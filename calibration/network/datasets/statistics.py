"""How many pixels and objects a data set has of each class, and how large they are."""

from collections.abc import Sequence
from itertools import pairwise

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import Dataset
from calibration.network.tables import text_table
from edge.core.types import U8

AREA_EDGES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
"""Areas in pixels at which a bin of the histogram begins; the last is open."""


class ClassStatistics(msgspec.Struct, frozen=True):
    """One class: `pixels`, their `share` of all, `images` that hold it, 8-connected `components` and how many of them
    fall into each bin of AREA_EDGES. Background has no components."""

    pixels: int
    share: float
    images: int
    components: int
    area_histogram: list[int]


class Statistics(msgspec.Struct, frozen=True):
    """A data set: its name, samples, groups, and its classes by label."""

    name: str
    samples: int
    groups: int
    classes: dict[str, ClassStatistics]
    area_edges: tuple[int, ...] = AREA_EDGES

    @property
    def missing(self) -> list[str]:
        """Labels of the classes that never appear."""
        return [label for label, each in self.classes.items() if not each.pixels]


def statistics_of(dataset: Dataset) -> Statistics:
    """Read every sample once. Raises what reading raises."""
    classes = len(dataset.classes)
    pixels = np.zeros(classes, np.int64)
    images = np.zeros(classes, np.int64)
    histogram = np.zeros((classes, len(AREA_EDGES)), np.int64)
    for sample in dataset:
        here = np.bincount(sample.mask.ravel(), minlength=classes)
        pixels += here
        images += here > 0
        for k in np.flatnonzero(here[1:]) + 1:
            bins = np.searchsorted(AREA_EDGES, component_areas(sample.mask == k), side="right") - 1
            histogram[k] += np.bincount(bins, minlength=len(AREA_EDGES))
    return Statistics(
        dataset.name,
        len(dataset),
        len(dataset.groups),
        {
            label: ClassStatistics(
                int(pixels[k]),
                float(pixels[k] / max(pixels.sum(), 1)),
                int(images[k]),
                int(histogram[k].sum()),
                histogram[k].tolist(),
            )
            for k, label in enumerate(dataset.classes)
        },
    )


def component_areas(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each 8-connected component of a mask (H,W)."""
    view: U8 = np.ascontiguousarray(mask).view(np.uint8)
    _, _, figures, _ = cv2.connectedComponentsWithStats(view, connectivity=8)
    areas: NDArray[np.int64] = figures[1:, cv2.CC_STAT_AREA].astype(np.int64)
    return areas


def statistics_text(statistics: Statistics) -> str:
    """Statistics as tables."""
    sums = f"{statistics.name}: {statistics.samples} samples of {statistics.groups} groups"
    shares = text_table(
        ("class", "pixels", "share %", "images", "components"),
        [
            (label, each.pixels, 100 * each.share, each.images, *((each.components,) if at else ()))
            for at, (label, each) in enumerate(statistics.classes.items())
        ],
    )
    areas = text_table(
        ("components by area (px)", *_bin_names(statistics.area_edges)),
        [(label, *each.area_histogram) for label, each in list(statistics.classes.items())[1:]],
    )
    return f"{sums}\n\n{shares}\n\n{areas}"


def _bin_names(edges: Sequence[int]) -> list[str]:
    return [*(f"{first}-{after - 1}" for first, after in pairwise(edges)), f"{edges[-1]}-"]
