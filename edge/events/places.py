"""Where a subscriber is in every stream it has heard, kept in a small file if so wished."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.errors import EventsError

_STREAMS = 64


class _State(msgspec.Struct, frozen=True, kw_only=True):
    version: Literal[1] = 1
    places: dict[str, Annotated[int, Meta(ge=0)]]


class Places:
    """The last number handed over of each of the 64 streams heard of last, by stream.

    `kept` a path: read from that file if it exists, and written there by `save`; one subscriber a file. `kept` a
    mapping: begun from it and kept nowhere. Raises EventsError where the file cannot be read or written.
    """

    def __init__(self, kept: Path | Mapping[str, int] | None) -> None:
        self._path = kept if isinstance(kept, Path) else None
        self._places = _read(kept) if isinstance(kept, Path) else dict(kept or {})
        self._saved = dict(self._places)

    def __contains__(self, stream: str) -> bool:
        return stream in self._places

    def __getitem__(self, stream: str) -> int:
        return self._places[stream]

    def move(self, stream: str, seq: int) -> None:
        """From now on at `seq` in `stream`."""
        self._places.pop(stream, None)
        self._places[stream] = seq
        if len(self._places) > _STREAMS:
            del self._places[next(iter(self._places))]

    def save(self) -> None:
        """Replace the file in one step: after a crash or a power cut it is the old one or the new one, whole."""
        if self._path is None or self._places == self._saved:
            return
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(_State(places=self._places)))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            raise EventsError(
                f"{self._path}: what was heard cannot be noted ({error.strerror}): check the folder, its free space "
                "and who may write there"
            ) from error
        self._saved = dict(self._places)


def _read(path: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_State).places
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EventsError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise EventsError(
            f"{path}: not a subscriber's state ({error}): name another file, or delete it to hear every event again"
        ) from error
