"""Truevision TGA images, which OpenCV does not read: gray and true colour, plain or run-length encoded.

Layout: Truevision TGA File Format Specification, version 2.0 (1991).
"""

import struct

import numpy as np

from edge.core.types import U8

_HEADER = struct.Struct("<BBBHHBHHHHBB")
_TRUE_COLOUR, _GRAY, _RUN_LENGTH = 2, 3, 8
_BITS = {_TRUE_COLOUR: (24, 32), _GRAY: (8,)}
_FROM_RIGHT, _FROM_TOP = 0x10, 0x20


def decode_tga(data: bytes) -> U8:
    """Image (h, w) gray, or (h, w, 3 or 4) in OpenCV's channel order BGR(A). Raises ValueError where it is none."""
    if len(data) < _HEADER.size:
        raise ValueError("shorter than a TGA header")
    id_length, colour_map, kind, _, map_length, map_bits, _, _, width, height, bits, descriptor = _HEADER.unpack_from(
        data
    )
    if bits not in _BITS.get(kind & ~_RUN_LENGTH, ()):
        raise ValueError(f"TGA of type {kind} with {bits} bits, readable are gray of 8 and true colour of 24 or 32")
    start = _HEADER.size + id_length + (map_length * ((map_bits + 7) // 8) if colour_map else 0)
    channels = bits // 8
    size = width * height * channels
    pixels = _unpack(data, start, size, channels) if kind & _RUN_LENGTH else data[start : start + size]
    if size == 0 or len(pixels) != size:
        raise ValueError("TGA is cut short")
    image = np.frombuffer(pixels, np.uint8).reshape((height, width, channels) if channels > 1 else (height, width))
    if not descriptor & _FROM_TOP:
        image = image[::-1]
    if descriptor & _FROM_RIGHT:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _unpack(data: bytes, at: int, size: int, channels: int) -> bytearray:
    """`size` bytes of run-length packets: fewer where `data` ends early, more where the last packet is too long."""
    out = bytearray()
    while len(out) < size and at < len(data):
        count, repeated = (data[at] & 0x7F) + 1, data[at] & 0x80
        length = channels if repeated else channels * count
        piece = data[at + 1 : at + 1 + length]
        out += piece * count if repeated else piece
        at += 1 + length
    return out
