"""The lights file: under which lights a still object was photographed, TOML."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from edge.core.errors import ImportFolderError
from edge.core.reading import is_file_name
from edge.core.toml_file import read_toml

RGB = tuple[float, float, float]

LONGEST = 1e100
"""Of directions: squares of more, or of less than one over it, are no numbers."""
STRONGEST = 1e6
"""Of intensities; the weakest is one over it."""


class Light(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One light. `direction` from the object to the light, of any length, in the frame the normals shall come out in;
    `files` the image under this light, relative to the image folder; `intensity` scalar or (red, green, blue)."""

    direction: tuple[float, float, float]
    files: str | list[str]
    intensity: float | RGB | None = None

    @property
    def file(self) -> str:
        """The one image, of lights that `load_lights` has checked."""
        return self.files if isinstance(self.files, str) else self.files[0]


class LightsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All lights, and the length of object a pixel sees where it is known."""

    light: list[Light]
    pitch_mm: Annotated[float, Meta(gt=0)] | None = None


def load_lights(path: Path) -> LightsFile:
    """Read and check a lights file. Raises ImportFolderError naming the key; lights count from 0 as in `/light/0`."""
    lights = read_toml(path, LightsFile, ImportFolderError)
    if len(lights.light) < 3:
        raise ImportFolderError(f"{path}: {len(lights.light)} lights, photometric stereo needs at least three")
    for index, light in enumerate(lights.light):
        where = f"{path}: light[{index}]"
        if not 1 / LONGEST < math.hypot(*light.direction) < LONGEST:
            raise ImportFolderError(f"{where}.direction is {list(light.direction)}: give a vector towards the light")
        if not all(1 / STRONGEST <= value <= STRONGEST for value in _values(light.intensity)):
            raise ImportFolderError(f"{where}.intensity is {light.intensity}: give numbers greater than 0, around 1")
        if isinstance(light.files, list) and len(light.files) != 1:
            raise ImportFolderError(f"{where}.files names {len(light.files)} images: a still object has one per light")
        if not is_file_name(light.file):
            raise ImportFolderError(f"{where}.files is no name that a file can have")
    return lights


def _values(intensity: float | RGB | None) -> tuple[float, ...]:
    if intensity is None:
        return ()
    return intensity if isinstance(intensity, tuple) else (intensity,)


def write_directions(path: Path, directions: NDArray[np.float64], files: Sequence[str]) -> None:
    """Write a lights file with unit `directions` (n, 3) and one image a light. Raises ImportFolderError."""
    entries = [
        f"[[light]]\ndirection = [{', '.join(f'{part:.6f}' for part in direction)}]\nfiles = {json.dumps(file)}\n"
        for direction, file in zip(directions, files, strict=True)
    ]
    try:
        path.write_text("\n".join(entries), encoding="utf-8")
    except OSError as error:
        raise ImportFolderError(f"{path}: cannot be written ({error.strerror})") from error
