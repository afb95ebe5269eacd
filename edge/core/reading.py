"""Files from anywhere: their bytes, none of them trusted, and what is wrong with them in words fit for one line."""

import os
import stat
from pathlib import Path

from edge.core.errors import FoilsightError

_LINE_CHARACTERS = 300
_NAME_CHARACTERS = 1024


def read_file(path: Path, most_bytes: int, error: type[FoilsightError]) -> bytes:
    """The whole of a file. Raises `error` where it cannot be read, is no regular file or has more than `most_bytes`."""
    try:
        _check(path.stat(), path, most_bytes, error)
        return path.read_bytes()
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause


def read_opened(file: int, name: Path, most_bytes: int, error: type[FoilsightError]) -> bytes:
    """As `read_file`, where somebody else has opened it: `file` is a descriptor, `name` what errors call it."""
    try:
        _check(os.fstat(file), name, most_bytes, error)
        with os.fdopen(os.dup(file), "rb") as stream:
            stream.seek(0)
            return stream.read()
    except OSError as cause:
        raise error(f"{name}: cannot be read ({cause.strerror})") from cause


def _check(about: os.stat_result, name: Path, most_bytes: int, error: type[FoilsightError]) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise error(f"{name}: cannot be read (not a file)")
    if about.st_size > most_bytes:
        raise error(f"{name}: {about.st_size:,} bytes, more than the {most_bytes:,} that such a file may have")


def one_line(text: object) -> str:
    """`text` as a part of a message: what cannot be printed is left out, what goes on and on is cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= _LINE_CHARACTERS else f"{line[:_LINE_CHARACTERS]}…"


def is_file_name(text: str) -> bool:
    """Whether a file or folder can be named so, and the name be told."""
    return 0 < len(text) <= _NAME_CHARACTERS and text.isprintable()
