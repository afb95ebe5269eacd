"""Which data set lies in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from calibration.network.datasets.dataset import Dataset, DatasetError
from calibration.network.datasets.folders import (
    ANNOTATIONS,
    IMAGES,
    MASKS,
    VALIDATION_SHARE,
    Part,
    Side,
    open_foil,
    open_folder,
)
from calibration.network.datasets.kept import CLASSES, NORMALS, is_kept, open_kept
from calibration.network.datasets.magnetic_tile import RUNS, open_magnetic_tile
from calibration.network.datasets.severstal import TABLE, open_severstal
from calibration.network.datasets.stacking import stack
from calibration.network.datasets.webs import open_recordings, open_rendered

WEB_CHANNELS = ("normal_x", "normal_y", "albedo")
_RENDERED = re.compile(r"rendered:(\d+)(?:-(\d+))?")


def open_dataset(
    where: str,
    *,
    threshold: int | None = None,
    defects_only: bool = False,
    part: Part = "all",
    share: float = VALIDATION_SHARE,
    side: Side = "top",
    length_mm: float = 40.0,
    width_px: int = 1024,
    channels: Sequence[str] = WEB_CHANNELS,
) -> Dataset:
    """Open the data set at a path, told by what lies there, or `rendered:FIRST-LAST`, webs of those seeds.

    A folder with `train.csv` is laid out as Severstal's, with `runs.json` as the magnetic tiles, with `annotations` as
    the battery foil, with `masks` plain; reports of `replay --keep surface,classes` are webs, as are recordings
    (`.mcap`). `A+B` lays the channels of data sets of the same samples beside each other, as of several exposures.
    `channels`: what is taken of a web's surface. Options that a layout does not know change nothing. Raises
    DatasetError and what the layouts raise.
    """
    if "+" in where and not Path(where).exists():
        return stack(
            [
                open_dataset(
                    each,
                    threshold=threshold,
                    defects_only=defects_only,
                    part=part,
                    share=share,
                    side=side,
                    length_mm=length_mm,
                    width_px=width_px,
                    channels=channels,
                )
                for each in where.split("+")
            ]
        )
    if seeds := _RENDERED.fullmatch(where):
        first = int(seeds[1])
        return open_rendered(range(first, int(seeds[2] or first) + 1), length_mm, width_px, channels)
    path = Path(where)
    if path.suffix == ".mcap":
        return open_recordings([path], channels)
    if (path / TABLE).exists():
        return open_severstal(path, defects_only)
    if (path / RUNS).exists():
        return open_magnetic_tile(path)
    if (path / ANNOTATIONS).is_dir():
        return open_foil(path, part, share, side)
    if (path / MASKS).is_dir():
        return open_folder(path, threshold)
    if kept := [folder for folder in (path, *sorted(path.glob("*/"))) if is_kept(folder)]:
        return open_kept(kept, channels)
    if recordings := sorted(path.glob("*.mcap")):
        return open_recordings(recordings, channels)
    raise DatasetError(
        f"{where}: no data set: expected {IMAGES} with {MASKS} or {ANNOTATIONS}, {TABLE}, {RUNS}, reports with "
        f"{NORMALS} and {CLASSES}, .mcap files, "
        "rendered:FIRST-LAST, or several joined by +"
    )
