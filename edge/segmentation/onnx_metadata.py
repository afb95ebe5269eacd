"""The metadata of an ONNX file, read from the protobuf wire format.

A model is a `ModelProto` (onnx.proto3): field 1 `ir_version` (varint), field 7 `graph`, field 14 `metadata_props`, a
repeated `StringStringEntryProto` of field 1 `key` and field 2 `value`. Only these are looked at, without copying
the weights.
"""

from collections.abc import Iterator

_IR_VERSION, _GRAPH, _METADATA_PROPS = 1, 7, 14
_KEY, _VALUE = 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_metadata(data: bytes) -> dict[str, str]:
    """The metadata of an ONNX model's bytes. Raises ValueError where they are not an ONNX model."""
    metadata: dict[str, str] = {}
    seen: set[int] = set()
    for field, value in _fields(memoryview(data)):
        seen.add(field)
        if field == _METADATA_PROPS and isinstance(value, memoryview):
            entry = {key: bytes(text) for key, text in _fields(value) if isinstance(text, memoryview)}
            metadata[entry.get(_KEY, b"").decode()] = entry.get(_VALUE, b"").decode()
    if not {_IR_VERSION, _GRAPH} <= seen:
        raise ValueError("no graph in it")
    return metadata


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one message: numbers for varints, bytes for everything of a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {kind}")
        if at + length > len(message):
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if at >= len(message):
            raise ValueError("it ends in the middle of a number")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number is too long")
