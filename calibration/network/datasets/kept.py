"""Webs that a replay kept, with the classes it decided, put right by hand: how data of one's own line begins."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from calibration.network.datasets.dataset import Dataset, DatasetError, Entry, Meta
from calibration.network.datasets.masks import CLASSES_FILE, Classes, load_classes, read_mask
from edge.core.types import F32, U8
from edge.service.pictures import palette
from edge.simulation.planting import LABELS

NORMALS, CLASSES = "normals.npy", "classes.png"
_PLANES = {"albedo": "albedo.npy", "residual": "residual.npy"}


def is_kept(folder: Path) -> bool:
    """Whether a folder is a report with planes of the surface and classes in it."""
    return (folder / NORMALS).exists() and (folder / CLASSES).exists()


def open_kept(folders: Sequence[Path], channels: Sequence[str]) -> Dataset:
    """Reports of `foilsight replay --keep surface,classes`; each is a group. Masks are in the report's own colours, or
    in those of a `classes.toml` beside the first one's, which names the classes where they are not the foil's.

    Raises DatasetError.
    """
    named = folders[0] / CLASSES_FILE
    classes = load_classes(named) if named.exists() else None
    labels = LABELS if classes is None else classes.labels
    entries = [
        Entry(Meta(folder.name, folder.name), partial(_load, folder, tuple(channels), classes)) for folder in folders
    ]
    return Dataset("kept webs", labels, tuple(channels), entries)


def _load(folder: Path, channels: tuple[str, ...], classes: Classes | None) -> tuple[F32, U8]:
    colours = None if classes is None else classes.colours
    if colours is None:
        colours = palette(len(LABELS) if classes is None else len(classes.labels))[:, ::-1].astype(np.int64)
    try:
        normals = np.load(folder / NORMALS, mmap_mode="r")
        planes = [
            normals["xyz".index(name[-1])]
            if name.startswith("normal_")
            else np.load(folder / _PLANES[name], mmap_mode="r")
            for name in channels
        ]
        return np.nan_to_num(np.stack(planes).astype(np.float32)), read_mask(folder / CLASSES, colours)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder}: is not what --keep surface,classes left ({error})") from error
