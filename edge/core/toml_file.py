"""TOML files that people write, read into our own types."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.core.errors import FoilsightError
from edge.core.reading import is_file_name, one_line, read_file

T = TypeVar("T")

MAX_FILE_BYTES = 64 << 10
"""A key of n parts takes tomllib n² steps: seconds at this size, hours at a megabyte."""


def read_toml(path: Path, kind: type[T], error: type[FoilsightError]) -> T:
    """Read a TOML file as `kind`; paths in it are relative to it.

    Raises `error` with one line: the file, the key by its path, and what was expected.
    """
    data = read_file(path, MAX_FILE_BYTES, error)
    try:
        tree = tomllib.loads(data.decode("utf-8"))
        return msgspec.convert(tree, kind, dec_hook=_path_relative_to(path.parent))
    except msgspec.ValidationError as cause:  # a ValueError too
        raise error(f"{path}: {one_line(cause)}") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{path}: not TOML ({one_line(cause)})") from cause


def _path_relative_to(folder: Path) -> Callable[[type, object], object]:
    def decode(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str) and is_file_name(value):
            return folder / value
        raise msgspec.ValidationError(f"Expected a path, got {value!r}")

    return decode
