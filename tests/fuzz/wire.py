"""Protobuf messages with one field wrong."""

from collections.abc import Callable
from random import Random

from .damage import INTEGERS, damaged_bytes

Value = int | bytes
Fields = list[tuple[int, int, Value]]
Inside = Callable[[int, bytes, Random], bytes]
"""Damages the bytes of a field, by its number."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


def damaged_message(data: bytes, random: Random, inside: Inside) -> bytes:
    """Raises ValueError where `data` is not a message to begin with."""
    parts = fields(data)
    chosen = random.randrange(len(parts))
    number, kind, value = parts[chosen]
    match random.randrange(8):
        case 0:
            del parts[chosen]
        case 1:
            parts.insert(random.randrange(len(parts)), parts[chosen])
        case 2:
            parts[chosen] = (random.choice((number + 1, 1, 2, 5, 7, 14)), kind, value)
        case 3:
            kind = random.choice((_VARINT, _FIXED64, _FIXED32))
            parts[chosen] = (number, kind, random.choice(INTEGERS))
        case _ if isinstance(value, bytes):
            parts[chosen] = (number, kind, inside(number, value, random))
        case _:
            parts[chosen] = (number, kind, random.choice((value + 1, max(value - 1, 0), *INTEGERS)))
    return message(parts)


def damaged_inside(number: int, value: bytes, random: Random) -> bytes:
    """Damage that knows nothing of the field."""
    return damaged_bytes(value, random)


def fields(data: bytes) -> Fields:
    """Number, wire type and value of every field. Raises ValueError."""
    parts: Fields = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _varint(data, at)
            parts.append((tag >> 3, kind, number))
            continue
        length, at = _varint(data, at) if kind == _BYTES else (_WIDTHS.get(kind, len(data)), at)
        value = data[at : at + length]
        at += length
        if at > len(data):
            raise ValueError("cut short")
        parts.append((tag >> 3, kind, value if kind == _BYTES else int.from_bytes(value, "little")))
    if not parts:
        raise ValueError("nothing in it")
    return parts


def message(parts: Fields) -> bytes:
    """The message of these fields."""
    return b"".join(_field(*part) for part in parts)


def _field(number: int, kind: int, value: Value) -> bytes:
    tag = _as_varint(number << 3 | kind)
    if isinstance(value, bytes):
        return tag + _as_varint(len(value)) + value
    if kind == _VARINT:
        return tag + _as_varint(value)
    return tag + (value % (1 << 8 * _WIDTHS[kind])).to_bytes(_WIDTHS[kind], "little")


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("not a number")
