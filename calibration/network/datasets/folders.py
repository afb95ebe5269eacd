"""Folders that people fill: `images` beside `masks`, and the layout of the battery-foil data set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.datasets.masks import (
    CLASSES_FILE,
    IMAGE_ENDINGS,
    channel_names,
    load_classes,
    read_channels,
    read_mask,
    read_threshold_mask,
)
from calibration.network.datasets.table_file import read_table
from edge.core.types import F32, U8
from edge.service.pictures import palette
from edge.simulation.planting import LABELS

IMAGES, MASKS, ANNOTATIONS, REGIONS = "images", "masks", "annotations", "regions.csv"
Loader = Callable[[Path, Path], tuple[F32, U8]]
Part = Literal["all", "train", "validation"]
Side = Literal["top", "bottom", "left", "right"]
VALIDATION_SHARE = 0.33
"""Of each foil image, from its top: the thesis's validation region."""


class Region(NamedTuple):
    """A rectangle of pixels, half-open."""

    rows: slice
    columns: slice


def open_folder(folder: Path, threshold: int | None = None) -> Dataset:
    """`images/NAME` and `masks/NAME.png`, classes by `classes.toml`; a subfolder of `images` is a group.

    With `threshold` masks are gray and what is brighter is class 1; `classes.toml` may then be left out. Images beside
    no subfolder are each a group of their own. Raises DatasetError, ImportFolderError.
    """
    images = _images_in(folder / IMAGES)
    labels: tuple[str, ...] = ("background", "defect")
    colours = None
    if threshold is None or (folder / CLASSES_FILE).exists():
        classes = load_classes(folder / CLASSES_FILE)
        labels, colours = classes.labels, classes.colours
    if threshold is not None and len(labels) != 2:
        raise DatasetError(f"{folder / CLASSES_FILE}: a threshold tells two classes apart, {len(labels)} are named")

    def load(image: Path, mask: Path) -> tuple[F32, U8]:
        found = read_mask(mask, colours) if threshold is None else read_threshold_mask(mask, threshold)
        return read_channels(image), found

    return Dataset(folder.name, labels, channel_names(images[0]), _pairs(folder, images, MASKS, load))


def open_foil(folder: Path, part: Part = "all", share: float = VALIDATION_SHARE, side: Side = "top") -> Dataset:
    """The battery-foil layout: `images/NAME`, `annotations/NAME.png` in colours, `regions.csv` of what counts.

    `regions.csv` (name, first_row, first_column, rows, columns) gives each image's region of interest; without the
    file, whole images. `part`: validation is the `share` of each region at its `side`, train is the rest. Colours come
    from `classes.toml`, else those of our own pictures, in the thesis's order of classes. Raises DatasetError,
    ImportFolderError.
    """
    if not 0 < share < 1:
        raise DatasetError(f"validation share {share}: must lie between 0 and 1")
    images = _images_in(folder / IMAGES)
    labels, colours = tuple(LABELS), palette(len(LABELS))[:, ::-1].astype(np.int64)
    if (folder / CLASSES_FILE).exists():
        classes = load_classes(folder / CLASSES_FILE)
        if classes.colours is None:
            raise DatasetError(f"{folder / CLASSES_FILE}: annotations are in colours: give every class its own")
        labels, colours = classes.labels, classes.colours
    inside = _load_regions(folder / REGIONS) if (folder / REGIONS).exists() else None

    def load(image: Path, mask: Path) -> tuple[F32, U8]:
        surface, truth = read_channels(image), read_mask(mask, colours)
        if surface.shape[1:] != truth.shape:
            return surface, truth
        region = _region_of(image.name, inside, truth.shape, folder)
        kept = cut(region, part, share, side)
        return surface[:, kept.rows, kept.columns], truth[kept.rows, kept.columns]

    return Dataset(folder.name, labels, channel_names(images[0]), _pairs(folder, images, ANNOTATIONS, load))


def cut(region: Region, part: Part, share: float = VALIDATION_SHARE, side: Side = "top") -> Region:
    """The training or validation part of a region: validation is `share` of it at its `side`, train the rest."""
    if part == "all":
        return region
    along = region.rows if side in ("top", "bottom") else region.columns
    size = round(share * (along.stop - along.start))
    at_start = side in ("top", "left")
    border = along.start + size if at_start else along.stop - size
    first = (part == "validation") == at_start
    kept = slice(along.start, border) if first else slice(border, along.stop)
    return Region(kept, region.columns) if along is region.rows else Region(region.rows, kept)


def _images_in(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not images:
        raise DatasetError(f"{folder}: holds no images (PNG, TIFF, TGA, BMP or JPEG)")
    return images


def _pairs(folder: Path, images: list[Path], masks: str, load: Loader) -> list[Entry]:
    entries = []
    for image in images:
        name = image.relative_to(folder / IMAGES)
        mask = (folder / masks / name).with_suffix(".png")
        if not mask.is_file():
            raise DatasetError(f"{mask}: missing: every image needs its mask")
        group = name.parent.as_posix() if name.parent != Path() else name.as_posix()
        entries.append(Entry(Meta(name.as_posix(), f"{folder.name}/{group}"), partial(load, image, mask)))
    return entries


def _load_regions(path: Path) -> dict[str, NDArray[np.int64]]:
    """Region of interest by image name: first row, first column, rows, columns."""
    regions: dict[str, NDArray[np.int64]] = {}
    for number, line in read_table(path):
        try:
            values = [int(line[key] or "") for key in ("first_row", "first_column", "rows", "columns")]
            regions[line["name"] or ""] = np.array(values, np.int64)
        except (KeyError, ValueError, OverflowError) as error:
            raise DatasetError(
                f"{path}: line {number}: expected name, first_row, first_column, rows, columns"
            ) from error
    return regions


def _region_of(name: str, regions: dict[str, NDArray[np.int64]] | None, shape: tuple[int, ...], folder: Path) -> Region:
    if regions is None:
        return Region(slice(0, shape[0]), slice(0, shape[1]))
    if name not in regions:
        raise DatasetError(f"{folder / REGIONS}: says nothing of {name}")
    row, column, rows, columns = map(int, regions[name])
    if min(row, column) < 0 or min(rows, columns) < 1 or row + rows > shape[0] or column + columns > shape[1]:
        raise DatasetError(f"{folder / REGIONS}: the region of {name} leaves its image of {shape[0]} x {shape[1]}")
    return Region(slice(row, row + rows), slice(column, column + columns))
