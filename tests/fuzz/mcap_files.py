"""Recordings with one thing wrong, lengths, checksums and index right: what a flipped bit never reaches.

Layout: https://mcap.dev/spec. A file is taken apart into its records, and a chunk into the records in it; the summary
is either left as it was, or written anew to fit.
"""

import struct
import zlib
from collections import defaultdict
from dataclasses import dataclass, field, replace
from io import BytesIO
from random import Random

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Footer, McapRecord, Message, Metadata, MetadataIndex, Statistics

from .damage import INTEGERS, TEXTS, damaged_bytes
from .model_files import damaged_json
from .wire import damaged_inside, damaged_message
from .zip_files import damaged_zip

_MAGIC = b"\x89MCAP0\r\n"
_FRAME_ID = 7
_FIRST_ROWS = ("-1", "5", "1000", "100000000", "9" * 12, "9" * 18, "9" * 4400, "1_0", " 3", "", "x")


@dataclass(frozen=True)
class Record:
    """`content` without opcode and length; `inside` the records of a chunk."""

    opcode: int
    content: bytes
    inside: list["Record"] = field(default_factory=list)
    compression: str = ""


def damaged_mcap(data: bytes, random: Random) -> bytes:
    """Raises ValueError where `data` is not MCAP to begin with."""
    records, summary = _parsed(data)
    if not records:
        raise ValueError("no records")
    if summary and random.randrange(6) == 0:
        return _joined(records) + damaged_bytes(summary, random)
    change = _with_one_damaged if random.randrange(5) else _rearranged
    records = change(records, random)
    if summary and random.randrange(8) == 0:
        return _joined(records) + summary
    return _joined(records) + (_summary_of(records) if random.randrange(8) else b"")


def _rearranged(records: list[Record], random: Random) -> list[Record]:
    """One record left out, doubled, moved or out of its chunk."""
    records = records.copy()
    chosen = random.randrange(len(records))
    record = records[chosen]
    if record.inside and random.randrange(2):
        records[chosen] = replace(record, inside=_rearranged(record.inside, random))
        return records
    match random.randrange(5):
        case 0:
            del records[chosen]
        case 1:
            records[chosen:chosen] = [record] * random.choice((1, 1, 8))
        case 2:
            records.insert(random.randrange(len(records)), records.pop(chosen))
        case 3 if record.inside:
            records[chosen : chosen + 1] = record.inside
        case _ if record.inside:
            records[chosen] = replace(record, compression=random.choice(("lz4", "zstd", "bomb", "brotli")))
        case _:
            records[chosen] = replace(record, opcode=random.randrange(20))
    return records


def _with_one_damaged(records: list[Record], random: Random) -> list[Record]:
    records = records.copy()
    chosen = random.randrange(len(records))
    record = records[chosen]
    if record.inside:
        records[chosen] = replace(record, inside=_with_one_damaged(record.inside, random))
    else:
        records[chosen] = replace(record, content=_damaged_content(record, random))
    return records


def _damaged_content(record: Record, random: Random) -> bytes:
    if random.randrange(6) == 0:
        return damaged_bytes(record.content, random)
    match record.opcode:
        case Opcode.METADATA:
            return _damaged_metadata(record.content, random)
        case Opcode.ATTACHMENT:
            return _damaged_attachment(record.content, random)
        case Opcode.MESSAGE:
            return _damaged_frame_or_image(record.content, random)
        case Opcode.CHANNEL:
            channel = Channel.read(_stream(record.content))
            match random.randrange(3):
                case 0:
                    topics = ("/frame", "/light/0", "/light/9", "/truth/classes", "/truth/defects", *TEXTS)
                    channel.topic = _text(random.choice(topics))
                case 1:
                    channel.id = random.choice((1, 2, 3, 0xFFFF))
                case _:
                    channel.schema_id = random.choice((0, 1, 2, 0xFFFF))
            return _content(channel)
        case _:
            return damaged_bytes(record.content, random)


def _damaged_metadata(content: bytes, random: Random) -> bytes:
    record = Metadata.read(_stream(content))
    keys = [*record.metadata, "web_mm", "frames_dropped", "lost_bytes"]
    match random.randrange(8):
        case 0:
            record.name = _text(random.choice(TEXTS))
        case 1:
            record.metadata.pop(random.choice(keys), None)
        case _:
            values = (*TEXTS, "inf", "1e300", "1e999", "-5", "-0", "0", "5e-324", "٣", "0x10", "1.5")
            record.metadata[random.choice(keys)] = _text(random.choice(values))
    return _content(record)


def _damaged_attachment(content: bytes, random: Random) -> bytes:
    stream = _stream(content)
    head = stream.read(16)
    name, media_type = stream.read_prefixed_string(), stream.read_prefixed_string()
    data = stream.read(stream.read8())
    data = damaged_zip(data, random)
    if random.randrange(10) == 0:
        name = _text(random.choice(TEXTS))
    builder = RecordBuilder()
    builder.write(head)
    builder.write_prefixed_string(name)
    builder.write_prefixed_string(media_type)
    builder.write8(random.choice(INTEGERS) if random.randrange(10) == 0 else len(data))
    builder.write(data)
    builder.write4(0)
    return bytes(builder.end())


def _damaged_frame_or_image(content: bytes, random: Random) -> bytes:
    message = Message.read(_stream(content), len(content))
    match random.randrange(10):
        case 0:
            message.sequence = random.choice(INTEGERS) % (1 << 32)
        case 1:
            message.channel_id = random.choice((0, 1, 2, 3, 0xFFFF))
        case 2:
            message.log_time = random.choice(INTEGERS)
        case _ if message.data[:1] == b"{":
            message.data = damaged_json(message.data, random)
        case _:
            message.data = damaged_message(message.data, random, _damaged_image_field)
    return _content(message)


def _damaged_image_field(number: int, value: bytes, random: Random) -> bytes:
    if number == _FRAME_ID:
        return f"first_row={random.choice(_FIRST_ROWS)}".encode()
    return damaged_inside(number, value, random)


# --- taking apart and joining


def _parsed(data: bytes) -> tuple[list[Record], bytes]:
    """The records up to and with DataEnd, and all after it as it is."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not MCAP")
    records, rest = _records(data[len(_MAGIC) :])
    for index, record in enumerate(records):
        if record.opcode == Opcode.DATA_END:
            return records[: index + 1], _joined(records[index + 1 :])[len(_MAGIC) :] + rest
    return records, rest


def _records(data: bytes) -> tuple[list[Record], bytes]:
    """Whole records, and what is left after them."""
    records: list[Record] = []
    at = 0
    while at + 9 <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        if at + 9 + length > len(data):
            break
        content = data[at + 9 : at + 9 + length]
        records.append(Record(opcode, content, _inside(content) if opcode == Opcode.CHUNK else []))
        at += 9 + length
    return records, data[at:]


def _inside(content: bytes) -> list[Record]:
    try:
        chunk = Chunk.read(_stream(content))
    except (McapError, struct.error, ValueError, OverflowError) as error:
        raise ValueError("not a chunk") from error
    return [] if chunk.compression else _records(chunk.data)[0]


def _joined(records: list[Record]) -> bytes:
    return _MAGIC + b"".join(map(_bytes, records))


def _bytes(record: Record) -> bytes:
    content = _content(_chunk(record)) if record.inside else record.content
    return struct.pack("<BQ", record.opcode, len(content)) + content


def _chunk(record: Record) -> Chunk:
    data = b"".join(map(_bytes, record.inside))
    times = [struct.unpack_from("<Q", part.content, 6)[0] for part in _messages(record)] or [0]
    match record.compression:
        case "lz4":
            packed = lz4.frame.compress(data)
        case "zstd":
            packed = zstandard.compress(data)
        case "bomb":
            packed = _BOMB
        case _:
            packed = data
    return Chunk(
        compression="zstd" if record.compression == "bomb" else record.compression,
        data=packed,
        message_start_time=min(times),
        message_end_time=max(times),
        uncompressed_crc=zlib.crc32(data),
        uncompressed_size=1 << 30 if record.compression == "bomb" else len(data),
    )


_BOMB = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))


def _messages(chunk: Record) -> list[Record]:
    return [part for part in chunk.inside if part.opcode == Opcode.MESSAGE and len(part.content) >= 22]


def _summary_of(records: list[Record]) -> bytes:
    """The summary section that a writer would put behind these records, ended by `records`' own DataEnd."""
    at = len(_MAGIC)
    counts: dict[int, int] = defaultdict(int)
    described, indexes = [], []
    for record in records:
        length = len(_bytes(record))
        parts = record.inside or [record]
        described += [part for part in parts if part.opcode in (Opcode.SCHEMA, Opcode.CHANNEL)]
        if record.inside:
            channels = [struct.unpack_from("<H", part.content)[0] for part in _messages(record)]
            for channel in channels:
                counts[channel] += 1
            indexes.append(_bytes_of(_chunk_index(_chunk(record), at, length, channels)))
        elif record.opcode == Opcode.METADATA:
            indexes.append(_bytes_of(MetadataIndex(offset=at, length=length, name="")))
        at += length
    statistics = Statistics(
        attachment_count=1,
        channel_count=len(described),
        channel_message_counts=counts,
        chunk_count=len(indexes),
        message_count=sum(counts.values()),
        message_end_time=0,
        message_start_time=0,
        metadata_count=1,
        schema_count=1,
    )
    body = b"".join([*map(_bytes, described), _bytes_of(statistics), *indexes])
    return body + _bytes_of(Footer(summary_start=at, summary_offset_start=0, summary_crc=0)) + _MAGIC


def _chunk_index(chunk: Chunk, at: int, length: int, channels: list[int]) -> ChunkIndex:
    return ChunkIndex(
        chunk_length=length,
        chunk_start_offset=at,
        compression=chunk.compression,
        compressed_size=len(chunk.data),
        message_end_time=chunk.message_end_time,
        message_index_length=0,
        message_index_offsets=dict.fromkeys(channels, at),
        message_start_time=chunk.message_start_time,
        uncompressed_size=chunk.uncompressed_size,
    )


def _stream(content: bytes) -> ReadDataStream:
    return ReadDataStream(BytesIO(content))


def _content(record: McapRecord) -> bytes:
    return _bytes_of(record)[9:]


def _bytes_of(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
