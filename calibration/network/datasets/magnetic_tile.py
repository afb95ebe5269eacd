"""Magnetic tiles (Huang et al. 2018): photographs of tiles under several exposures, masks of five kinds of defect."""

from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.datasets.masks import read_threshold_mask
from edge.core.reading import read_file
from edge.core.types import F32, U8
from edge.recording.image_file import read_gray

RUNS = "runs.json"
FREE = "MT_Free"
FOLDERS = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven", FREE)
CLASSES = ("background", *(name.removeprefix("MT_").lower() for name in FOLDERS if name != FREE))
THRESHOLD = 127
"""Masks are not binary: what is brighter is defect."""
_MAX_RUNS_BYTES = 1 << 24


def open_magnetic_tile(folder: Path) -> Dataset:
    """A folder for each class and `runs.json`: lists of files by folder; a list is one tile, which is a group.

    Raises DatasetError where it is damaged or a file of the folders is in no run.
    """
    try:
        data = read_file(folder / RUNS, _MAX_RUNS_BYTES, DatasetError)
        runs = msgspec.json.decode(data, type=dict[str, list[list[str]]])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DatasetError(f"{folder / RUNS}: expected lists of files by folder ({error})") from error
    entries = []
    for name in FOLDERS:
        of_run = {file: at for at, run in enumerate(runs.get(name, [])) for file in run}
        k = 0 if name == FREE else CLASSES.index(name.removeprefix("MT_").lower())
        for image in sorted((folder / name).glob("*.jpg")):
            if image.name not in of_run:
                raise DatasetError(f"{folder / RUNS}: says nothing of {name}/{image.name}")
            meta = Meta(f"{name}/{image.name}", f"{name}/{of_run[image.name]}")
            entries.append(Entry(meta, partial(_load, image, k)))
    if not entries:
        raise DatasetError(f"{folder}: holds none of {', '.join(FOLDERS)}")
    return Dataset(folder.name, CLASSES, ("gray",), entries)


def _load(image: Path, k: int) -> tuple[F32, U8]:
    gray = read_gray(image)[None] / np.float32(255)
    mask = read_threshold_mask(image.with_suffix(".png"), THRESHOLD)
    return gray, mask * np.uint8(k)
