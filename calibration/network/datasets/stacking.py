"""Several exposures of the same images as the channels of one."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry
from edge.core.types import F32, U8


def stack(datasets: Sequence[Dataset]) -> Dataset:
    """Data sets of the same samples, by name and order, with their channels one after another.

    Raises DatasetError where samples or classes differ; reading raises it where masks do.
    """
    first = datasets[0]
    names = [[entry.meta.name for entry in dataset.entries] for dataset in datasets]
    for dataset, found in zip(datasets[1:], names[1:], strict=True):
        if dataset.classes != first.classes:
            raise DatasetError(f"{dataset.name}: classes {'/'.join(dataset.classes)}, in {first.name} others")
        if found != names[0]:
            odd = min(set(found) ^ set(names[0]), default="their order")
            raise DatasetError(
                f"{dataset.name} and {first.name} hold different images ({odd}): give each every exposure"
            )
    joined = "+".join(dataset.name for dataset in datasets)
    channels = tuple(f"{channel} {at}" for at, dataset in enumerate(datasets, 1) for channel in dataset.channels)
    entries = [Entry(entry.meta, partial(_load, datasets, at)) for at, entry in enumerate(first.entries)]
    return Dataset(joined, first.classes, channels, entries)


def _load(datasets: Sequence[Dataset], at: int) -> tuple[F32, U8]:
    samples = [dataset[at] for dataset in datasets]
    name, mask = samples[0].meta.name, samples[0].mask
    for dataset, sample in zip(datasets, samples, strict=True):
        if sample.mask.shape != mask.shape or (sample.mask != mask).any():
            raise DatasetError(f"{dataset.name}, {name}: its mask is another than in {datasets[0].name}")
    return np.concatenate([sample.image for sample in samples]), mask
