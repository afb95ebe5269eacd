"""Images of a data set as a training sees them: read once where memory allows, and what all of them hold together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import Dataset, DatasetError
from edge.core.types import F32, U8

KEEP_BYTES = 2 << 30


class Images:
    """Pairs of image (C,H,W) f32 and mask (H,W) u8, kept in memory until KEEP_BYTES are full, then read anew."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._kept: dict[int, tuple[F32, U8]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, at: int) -> tuple[F32, U8]:
        if at in self._kept:
            return self._kept[at]
        image, mask, _ = self.dataset[at]
        size = image.nbytes + mask.nbytes
        if self._bytes + size <= KEEP_BYTES:
            self._kept[at] = image, mask
            self._bytes += size
        return image, mask


@dataclass(frozen=True)
class Survey:
    """`mean` and `std` of each channel, `sizes` (n,2) of the images and `defective` (n,), whether each has a defect."""

    mean: list[float]
    std: list[float]
    sizes: NDArray[np.int64]
    defective: NDArray[np.bool_]


def survey(images: Images) -> Survey:
    """Look at every image once. Raises DatasetError for values that are not numbers."""
    channels = len(images.dataset.channels)
    total, squares, pixels = np.zeros(channels), np.zeros(channels), 0
    sizes, defective = [], []
    for at in range(len(images)):
        image, mask = images[at]
        if not np.isfinite(image).all():
            raise DatasetError(f"{images.dataset.entries[at].meta.name}: holds values that are not numbers")
        total += image.sum(axis=(1, 2), dtype=np.float64)
        squares += np.square(image, dtype=np.float64).sum(axis=(1, 2))
        pixels += mask.size
        sizes.append(mask.shape)
        defective.append(bool(mask.any()))
    if not pixels:
        raise DatasetError(f"{images.dataset.name}: holds no images")
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 1e-6))
    return Survey(mean.tolist(), std.tolist(), np.array(sizes), np.array(defective))


def intensity_channels(channels: Sequence[str]) -> list[int]:
    """Which channels hold brightness: all but the components of a normal."""
    return [at for at, name in enumerate(channels) if not name.startswith("normal_")]
