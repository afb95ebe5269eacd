"""Masks in image files: classes by index, by colour or by a threshold."""

import zlib
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.network.datasets.dataset import DatasetError
from edge.core.reading import read_file
from edge.core.toml_file import read_toml
from edge.core.types import F32, U8
from edge.recording.image_file import MAX_IMAGE_BYTES, read_image

IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".tga"}
CLASSES_FILE = "classes.toml"
_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {1: ("gray",), 3: ("red", "green", "blue")}


class ClassEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A class: its label and, where masks are coloured, its colour (red, green, blue)."""

    label: str
    colour: tuple[int, int, int] | None = None


class Classes(msgspec.Struct, forbid_unknown_fields=True):
    """`classes.toml`: a [[class]] for each class, in the order of their indices, background first."""

    entries: list[ClassEntry] = msgspec.field(name="class")

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(entry.label for entry in self.entries)

    @property
    def colours(self) -> NDArray[np.int64] | None:
        """Colours (classes, 3), None where masks hold indices."""
        colours = [entry.colour for entry in self.entries if entry.colour is not None]
        return np.array(colours) if colours else None


def load_classes(path: Path) -> Classes:
    """Read a `classes.toml`. Raises DatasetError."""
    classes = read_toml(path, Classes, DatasetError)
    coloured = [entry.colour for entry in classes.entries if entry.colour is not None]
    if len(classes.entries) < 2:
        raise DatasetError(f"{path}: names {len(classes.entries)} classes: give background and at least one more")
    if coloured and len(coloured) < len(classes.entries):
        raise DatasetError(f"{path}: give every class a colour, or none for masks that hold indices")
    if len(set(coloured)) < len(coloured):
        raise DatasetError(f"{path}: two classes have the same colour")
    return classes


def read_channels(path: Path) -> F32:
    """An image as (1 or 3, H, W) f32, white 1; colours in the order red, green, blue. Raises ImportFolderError."""
    image = read_image(path)
    scaled: F32 = image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return scaled[None] if image.ndim == 2 else np.ascontiguousarray(scaled.transpose(2, 0, 1)[::-1])


def channel_names(path: Path) -> tuple[str, ...]:
    """Names of the channels that `read_channels` gives. Raises ImportFolderError."""
    return _CHANNELS[len(read_channels(path))]


def read_mask(path: Path, colours: NDArray[np.int64] | None) -> U8:
    """Class indices (H,W) of a mask: by the colours (classes, 3) where given, else its gray values or palette indices.

    Raises DatasetError for a colour that is not among them, ImportFolderError for what is no image.
    """
    image = read_image(path)
    rgb = image[:, :, ::-1] if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    if colours is not None:
        return _index_by_colour(rgb, colours, path, "the palette")
    if image.ndim == 2:
        return image.astype(np.uint8) if image.max(initial=0) < 256 else _refuse_depth(path)
    palette = _png_palette(path)
    if palette is None:
        raise DatasetError(f"{path}: mask in colours: give each class its colour in {CLASSES_FILE}")
    return _index_by_colour(rgb, palette, path, "the file's own palette")


def read_threshold_mask(path: Path, threshold: int) -> U8:
    """1 where a gray mask is brighter than `threshold`, else 0. Raises DatasetError, ImportFolderError."""
    image = read_image(path)
    if image.ndim == 3 and not (image == image[:, :, :1]).all():
        raise DatasetError(f"{path}: a threshold needs a gray mask, this one is coloured")
    gray = image if image.ndim == 2 else image[:, :, 0]
    return (gray > threshold).astype(np.uint8)


def _index_by_colour(rgb: NDArray[np.generic], colours: NDArray[np.int64], path: Path, where: str) -> U8:
    packed = rgb.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    known, first = np.unique(colours @ np.array([1 << 16, 1 << 8, 1]), return_index=True)
    at = np.minimum(np.searchsorted(known, packed), len(known) - 1)
    wrong = known[at] != packed
    if wrong.any():
        row, column = (int(each[0]) for each in np.nonzero(wrong))
        colour = tuple(int(value) for value in rgb[row, column])
        raise DatasetError(f"{path}: colour {colour} at row {row}, column {column} is not in {where}")
    index: U8 = first[at].astype(np.uint8)
    return index


def _png_palette(path: Path) -> NDArray[np.int64] | None:
    """The palette (n, 3) of an indexed PNG, None of any other image: OpenCV gives its colours only."""
    data = read_file(path, MAX_IMAGE_BYTES, DatasetError)
    at = len(_PNG) if data.startswith(_PNG) else len(data)
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR" and body[9:10] != b"\x03":
            return None
        if kind == b"PLTE":
            if zlib.crc32(kind + body) != int.from_bytes(data[at + 8 + length : at + 12 + length]):
                raise DatasetError(f"{path}: its palette is damaged")
            return np.frombuffer(body, np.uint8).reshape(-1, 3).astype(np.int64)
        at += 12 + length
    return None


def _refuse_depth(path: Path) -> U8:
    raise DatasetError(f"{path}: gray mask with values above 255: classes are 0 to 255")
