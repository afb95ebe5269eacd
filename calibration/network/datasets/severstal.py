"""Steel strips as the Severstal competition laid them out: `train_images` and `train.csv` of run lengths."""

import csv
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.datasets.masks import channel_names, read_channels
from calibration.network.datasets.run_length import decode, encode
from calibration.network.datasets.table_file import read_table
from edge.core.types import F32, U8

TABLE, IMAGES = "train.csv", "train_images"
CLASSES = ("background", "class_1", "class_2", "class_3", "class_4")
SHAPE = (256, 1600)
"""Of every image, rows and columns. Runs of an image of another size would fall anywhere: such images are refused."""


def open_severstal(folder: Path, defects_only: bool = False) -> Dataset:
    """`train.csv` with ImageId, ClassId, EncodedPixels (or ImageId_ClassId) and `train_images`; classes 1 to 4.

    Images that the table does not name have no defect; `defects_only` leaves them out. Raises DatasetError,
    ImportFolderError.
    """
    runs = _load_table(folder / TABLE)
    images = sorted((folder / IMAGES).glob("*.jpg")) + sorted((folder / IMAGES).glob("*.png"))
    known = {image.name for image in images}
    for name in runs:
        if name not in known:
            raise DatasetError(f"{folder / TABLE}: names {name}, which is not in {folder / IMAGES}")
    images = [image for image in images if not defects_only or runs.get(image.name)]
    if not images:
        raise DatasetError(f"{folder / IMAGES}: holds no images{' with defects' if defects_only else ''}")
    entries = [
        Entry(Meta(image.name, image.name), partial(_load, image, runs.get(image.name, {}), folder / TABLE))
        for image in images
    ]
    return Dataset(folder.name, CLASSES, channel_names(images[0]), entries)


def write_predictions(path: Path, predictions: Iterable[tuple[str, U8]]) -> None:
    """Write class maps (name, (H,W) u8) as a table that `open_severstal` and the competition read.

    A row for each class that an image holds. Raises DatasetError where the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("ImageId", "ClassId", "EncodedPixels"))
            for name, classes in predictions:
                table.writerows((name, k, encode(classes == k)) for k in np.unique(classes) if k)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from error


def _load(image: Path, runs: dict[int, str], table: Path) -> tuple[F32, U8]:
    surface = read_channels(image)
    if surface.shape[1:] != SHAPE:
        raise DatasetError(f"{image}: {surface.shape[1]} x {surface.shape[2]}, expected {SHAPE[0]} x {SHAPE[1]}")
    mask = np.zeros(SHAPE, np.uint8)
    for k, text in runs.items():
        try:
            here = decode(text, SHAPE)
        except DatasetError as error:
            raise DatasetError(f"{table}: {image.name}, class {k}: {error}") from error
        if mask[here].any():
            raise DatasetError(f"{table}: {image.name}: class {k} overlaps class {mask[here].max()}")
        mask[here] = k
    return surface, mask


def _load_table(path: Path) -> dict[str, dict[int, str]]:
    """Runs by image and class; rows without runs are left out."""
    runs: dict[str, dict[int, str]] = {}
    for number, line in read_table(path):
        name, label, text = line.get("ImageId"), line.get("ClassId"), line.get("EncodedPixels")
        if name is None:
            name, _, label = (line.get("ImageId_ClassId") or "").rpartition("_")
        if not name or label not in ("1", "2", "3", "4") or text is None:
            raise DatasetError(f"{path}: line {number}: expected ImageId, ClassId 1 to 4, EncodedPixels")
        if int(label) in runs.get(name, {}):
            raise DatasetError(f"{path}: line {number}: class {label} of {name} a second time")
        if text.strip():
            runs.setdefault(name, {})[int(label)] = text
    return runs
