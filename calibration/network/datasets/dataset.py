"""What every source of training data looks like: samples of image, mask and where they come from."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.core.errors import FoilsightError
from edge.core.types import F32, U8


class DatasetError(FoilsightError):
    """Images or masks that cannot be trained on; the message names the file."""


class Meta(NamedTuple):
    """`name` of a sample, and the `group` it was taken with: one roll, tile or recording. Splits keep groups whole."""

    name: str
    group: str


class Sample(NamedTuple):
    """`image` (C,H,W) f32 and `mask` (H,W) u8 of class indices."""

    image: F32
    mask: U8
    meta: Meta


class Entry(NamedTuple):
    """A sample that is read when it is asked for."""

    meta: Meta
    load: Callable[[], tuple[F32, U8]]


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order. `classes`: labels by index, background first; `channels`: names of the image's planes.

    A sample is read anew at each access. Reading raises DatasetError for an image or mask that does not fit.
    """

    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    entries: Sequence[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, at: int) -> Sample:
        meta, load = self.entries[at]
        image, mask = load()
        if image.shape[1:] != mask.shape:
            raise DatasetError(
                f"{meta.name}: mask of {_size(mask.shape)}, image of {_size(image.shape[1:])}: make them equally large"
            )
        if len(image) != len(self.channels):
            raise DatasetError(
                f"{meta.name}: {len(image)} channels, {len(self.channels)} in the others ({', '.join(self.channels)})"
            )
        if mask.max(initial=0) >= len(self.classes):
            raise DatasetError(f"{meta.name}: mask holds class {mask.max()}, there are {len(self.classes)} classes")
        return Sample(image, mask, meta)

    def __iter__(self) -> Iterator[Sample]:
        return (self[at] for at in range(len(self)))

    @property
    def groups(self) -> list[str]:
        """The groups of the samples, each once, in the order they appear."""
        return list(dict.fromkeys(entry.meta.group for entry in self.entries))

    def of_groups(self, groups: Sequence[str]) -> "Dataset":
        """The samples of some groups."""
        wanted = set(groups)
        return replace(self, entries=[entry for entry in self.entries if entry.meta.group in wanted])


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """Training and validation set without a common group; about `share` of the groups are for validation.

    Raises DatasetError where there are fewer than two groups.
    """
    groups = dataset.groups
    if len(groups) < 2:
        raise DatasetError(f"{dataset.name}: {len(groups)} group cannot be split: give validation data of its own")
    count = min(max(round(share * len(groups)), 1), len(groups) - 1)
    order = np.random.default_rng(seed).permutation(len(groups))
    return (
        dataset.of_groups([groups[at] for at in order[count:]]),
        dataset.of_groups([groups[at] for at in order[:count]]),
    )


def warn_of_shared_groups(training: Dataset, validation: Dataset) -> bool:
    """Says on the error stream where both hold samples of one group: what is measured then is better than the truth."""
    shared = sorted(set(training.groups) & set(validation.groups))
    if shared:
        more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
        print(f"warning: training and validation share {shared[0]}{more}: figures will flatter", file=sys.stderr)
    return bool(shared)


def class_pixels(masks: Sequence[U8], classes: int) -> NDArray[np.int64]:
    """Pixels (classes,) of each class in masks."""
    return sum((np.bincount(mask.ravel(), minlength=classes) for mask in masks), start=np.zeros(classes, np.int64))


def require_every_class(pixels: NDArray[np.int64], classes: Sequence[str], where: str) -> None:
    """Raises DatasetError where a class has no pixel: nothing could be learnt of it, nor its weight be told."""
    missing = [label for label, count in zip(classes, pixels, strict=True) if not count]
    if missing:
        raise DatasetError(f"{where}: holds no pixel of {', '.join(missing)}: add data or leave the class out")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
