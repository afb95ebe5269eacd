"""TOML files that people write, read into our own types."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.core.errors import FoilsightError

T = TypeVar("T")


def read_toml(path: Path, kind: type[T], error: type[FoilsightError]) -> T:
    """Read a TOML file as `kind`; paths in it are relative to it.

    Raises `error` with one line: the file, the key by its path, and what was expected.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(tree, kind, dec_hook=_path_relative_to(path.parent))
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise error(f"{path}: not TOML ({cause})") from cause
    except msgspec.ValidationError as cause:
        raise error(f"{path}: {cause}") from cause


def _path_relative_to(folder: Path) -> Callable[[type, object], object]:
    def decode(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str):
            return folder / value
        raise msgspec.ValidationError(f"Expected a path, got {value!r}")

    return decode
