"""MCAP from anywhere: what the library believes of a file, held against the file."""

import io
import struct

import msgspec
from mcap.exceptions import McapError
from mcap.records import Chunk, McapRecord
from mcap.stream_reader import breakup_chunk

# What the library lets through when bytes are missing or not what they should be.
DAMAGE = (McapError, msgspec.MsgspecError, struct.error, ValueError, KeyError, OverflowError, RecursionError)


class BoundedFile(io.BufferedReader):
    """A file that is never asked for more than it has: memory is taken before the bytes are looked for."""

    def __init__(self, raw: io.RawIOBase, size_bytes: int) -> None:
        super().__init__(raw)
        self._size_bytes = size_bytes

    def read(self, length: int | None = -1, /) -> bytes:
        """As of any file."""
        return super().read(self._size_bytes if length is None else min(length, self._size_bytes))


def parts_of(chunk: Chunk) -> list[McapRecord]:
    """The records in a chunk, its checksum verified. Raises one of DAMAGE, also for a chunk that is compressed, as a
    recording's are not: what is not packed cannot grow."""
    if chunk.compression:
        raise ValueError("a compressed chunk")
    return breakup_chunk(chunk, validate_crc=True)
