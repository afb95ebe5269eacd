"""Zip files of arrays with one thing wrong, checksums right: what a flipped bit never reaches."""

import io
import re
import struct
import zipfile
import zlib
from functools import cache
from random import Random

import numpy as np

from .damage import FLOATS, INTEGERS, TEXTS, damaged_bytes
from .toml_files import damaged_toml

Members = list[tuple[str, bytes, int]]

_DESCRIPTIONS = (
    *("'<f8'", "'<f4'", "'>f8'", "'<f2'", "'<c16'", "'<i8'", "'|b1'", "'|O'", "'<U9'", "'|V8'", "'<M8[ns]'", "'<f99'"),
    *("''", "None", "{}", "0x10", "[('a', '<f8')]", "[('a', '|O')]", "('<f8', (3,))", "'<f8' * 9999999", "[" * 900),
)
_SHAPES = (
    *("()", "(0,)", "(4, 3, 0)", "(0, 3, 16)", "(4, 3, 16, 1)", "(4, 16, 3)", "(3, 3, 16)", "(-1, 3, 16)", "4", "'a'"),
    *("(1000000000,)", "(99999999999999,)", "(999999999, 999999999, 999999999)", "(4294967296, 4294967296, 16)"),
    *("(True, 3, 16)", "(1 << 40,)", "(1,) * 99999999", f"({'9' * 4000},)", "(" + "1, " * 100 + ")"),
)
_METHODS = (*[zipfile.ZIP_DEFLATED] * 18, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_LARGEST = 1 << 18
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_CENTRAL_FIELDS = (
    *[(at, "<H") for at in (8, 10, 28, 30, 32, 34)],  # flags, method, lengths of name, extra and comment, disk
    *[(at, "<I") for at in (16, 20, 24, 42)],  # checksum, packed size, size, where it lies
)
_END_FIELDS = (*[(at, "<H") for at in (8, 10, 20)], *[(at, "<I") for at in (12, 16)])


def damaged_zip(data: bytes, random: Random) -> bytes:
    """Raises ValueError where `data` is not a zip file to begin with."""
    members = _members(data)
    if not members or random.randrange(8) == 0:
        return _damaged_directory(data, random)
    chosen = random.randrange(len(members))
    name, content, method = members[chosen]
    match random.randrange(12):
        case 0:
            del members[chosen]
        case 1:
            members.append(members[chosen])
        case 2:
            members[chosen] = (random.choice(TEXTS) + random.choice(("", ".npy")), content, method)
        case 3:
            members[chosen] = (name, random.choice(members)[1], method)
        case 4:
            members[chosen] = (name, content, random.choice(_METHODS))
        case 5 if random.randrange(20) == 0:
            return _bomb(name, content)
        case 6:
            members[chosen] = (name, damaged_bytes(content, random), method)
        case _:
            damaged = damaged_toml if name.endswith(".toml") else _damaged_array
            members[chosen] = (name, damaged(content, random), method)
    return _zipped(members)


def _members(data: bytes) -> Members:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(info.compress_size > _LARGEST for info in archive.infolist()):
                raise ValueError("a bomb")
            return [(info.filename, archive.read(info), zipfile.ZIP_STORED) for info in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, OSError) as error:
        raise ValueError("not a zip file") from error


def _zipped(members: Members) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content, method in members:
            archive.NameToInfo.clear()  # names may come twice
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            info.compress_type = method
            archive.writestr(info, content)
    return out.getvalue()


def _damaged_directory(data: bytes, random: Random) -> bytes:
    """One number of the directory wrong."""
    out = bytearray(data)
    starts = [found.start() for found in re.finditer(_CENTRAL, data) if found.start() + 46 <= len(data)]
    if not starts or random.randrange(4) == 0:
        end = out.rfind(_END)
        if end >= 0 and end + 22 <= len(out):
            offset, layout = random.choice(_END_FIELDS)
            _put(out, end + offset, layout, random)
        return bytes(out)
    offset, layout = random.choice(_CENTRAL_FIELDS)
    _put(out, random.choice(starts) + offset, layout, random)
    return bytes(out)


def _put(out: bytearray, at: int, layout: str, random: Random) -> None:
    (present,) = struct.unpack_from(layout, out, at)
    value = random.choice((present + 1, present - 1, *INTEGERS))
    struct.pack_into(layout, out, at, value % (1 << 8 * struct.calcsize(layout)))


def _bomb(name: str, content: bytes) -> bytes:
    """A gigabyte of zeros in a member that says it has the size of `content`."""
    packed = _packed_megabyte() * 1024
    text, crc, packed_size = name.encode(), zlib.crc32(content), len(packed)
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, crc, packed_size, len(content), len(text), 0)
    local = _LOCAL + common + text + packed
    central = _CENTRAL + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + text
    return local + central + _END + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


@cache
def _packed_megabyte() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


def _damaged_array(content: bytes, random: Random) -> bytes:
    """An .npy file (version 1) with its description or its values wrong."""
    if content[:6] != b"\x93NUMPY" or len(content) < 10:
        return damaged_bytes(content, random)
    start = 10 + int.from_bytes(content[8:10], "little")
    values = content[start:]
    if random.randrange(2) == 0 and len(values) % 8 == 0 and values:
        return content[:start] + _damaged_values(values, random)
    header = content[10:start].decode("latin1")
    version = content[6:8]
    match random.randrange(6):
        case 0 | 1:
            header = _with(header, "'descr': ", ", 'fortran_order'", random.choice(_DESCRIPTIONS))
        case 2 | 3:
            header = _with(header, "'shape': ", ", }", random.choice(_SHAPES))
        case 4:
            order = random.choice(("True", "None", "1"))
            header = _with(header, "'fortran_order': ", ", 'shape'", order)
        case _:
            version = bytes((random.randrange(5), random.randrange(2)))
    text = header.encode("latin1")
    return content[:6] + version + min(len(text), 0xFFFF).to_bytes(2, "little") + text + values


def _with(header: str, before: str, after: str, value: str) -> str:
    start, end = header.find(before), header.find(after)
    return header if start < 0 or end < start else header[: start + len(before)] + value + header[end:]


def _damaged_values(values: bytes, random: Random) -> bytes:
    kind = random.choice((np.float64, np.float32))
    array = np.frombuffer(values, kind).copy()
    with np.errstate(all="ignore"):
        value = np.asarray(random.choice(FLOATS), np.float64).astype(kind)
        if random.randrange(3) == 0:
            array[:] = random.choice((value, array * value))
        else:
            array[random.randrange(array.size) :: random.choice((1, 3, 16, array.size))] = value
    return array.tobytes()
