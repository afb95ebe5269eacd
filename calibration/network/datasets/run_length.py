"""Masks as run lengths, as in the Severstal competition.

"start length start length ...": pixels count from 1, down the columns first; pairs are sorted and do not overlap.
"""

import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import DatasetError


def decode(runs: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask (H,W) of runs. Raises DatasetError for runs that are unsorted, overlap or leave the image."""
    try:
        numbers = np.array(runs.split(), dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise DatasetError("run lengths hold something else than whole numbers") from error
    if len(numbers) % 2:
        raise DatasetError(f"run lengths are pairs of start and length, {len(numbers)} numbers are not")
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    stops = starts + lengths
    pixels = shape[0] * shape[1]
    if (starts < 0).any() or (lengths < 1).any() or (starts > pixels).any() or (lengths > pixels).any():
        raise DatasetError("run lengths start at 1 and are at least 1 long, inside the image")
    if (starts[1:] < starts[:-1]).any():
        at = int(np.flatnonzero(starts[1:] < starts[:-1])[0]) + 1
        raise DatasetError(f"run {at + 1} starts before run {at}: they must be sorted")
    if (starts[1:] < stops[:-1]).any():
        at = int(np.flatnonzero(starts[1:] < stops[:-1])[0]) + 1
        raise DatasetError(f"runs {at} and {at + 1} overlap")
    if len(stops) and stops[-1] > pixels:
        raise DatasetError(f"the last run ends at pixel {stops[-1]}, the image of {shape[0]} x {shape[1]} has {pixels}")
    changes = np.zeros(pixels + 1, np.int8)
    np.add.at(changes, starts, 1)
    np.subtract.at(changes, stops, 1)
    flat = np.cumsum(changes[:-1], dtype=np.int8).astype(bool)
    return flat.reshape(shape, order="F")


def encode(mask: NDArray[np.bool_]) -> str:
    """Runs of a mask (H,W); empty where the mask is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask.ravel(order="F"), [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {stop - start}" for start, stop in zip(starts, stops, strict=True))
