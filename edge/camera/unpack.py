"""Pixel formats of the PFNC that a monochrome camera delivers, and the one copy that brings them into our arrays.

Sources: GenICam Pixel Format Naming Convention 2.4 (`p`: little-endian bit stream), GigE Vision 2.0 (`Packed`: two
pixels in three bytes, the high bits of both outside, the low bits of both in the middle byte).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from edge.core.errors import CameraError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class PixelFormat:
    """`code` of the PFNC; `bits` that a pixel may fill, least significant first; `group_px` pixels share
    `group_bytes` bytes; `layout` of the bits in them."""

    name: str
    code: int
    bits: int
    group_px: int
    group_bytes: int
    layout: Literal["plain", "10p", "12p", "10Packed", "12Packed"] = "plain"

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """Of the array that holds such pixels."""
        return np.uint8 if self.bits == 8 else np.uint16

    def line_bytes(self, width_px: int) -> int:
        """Bytes of a line without padding."""
        return width_px // self.group_px * self.group_bytes


_FORMATS = (
    PixelFormat("Mono8", 0x01080001, 8, 1, 1),
    PixelFormat("Mono10", 0x01100003, 10, 1, 2),
    PixelFormat("Mono12", 0x01100005, 12, 1, 2),
    PixelFormat("Mono14", 0x01100025, 14, 1, 2),
    PixelFormat("Mono16", 0x01100007, 16, 1, 2),
    PixelFormat("Mono10p", 0x010A0046, 10, 4, 5, "10p"),
    PixelFormat("Mono12p", 0x010C0047, 12, 2, 3, "12p"),
    PixelFormat("Mono10Packed", 0x010C0004, 10, 2, 3, "10Packed"),
    PixelFormat("Mono12Packed", 0x010C0006, 12, 2, 3, "12Packed"),
)
BY_NAME = {pixel_format.name: pixel_format for pixel_format in _FORMATS}
BY_CODE = {pixel_format.code: pixel_format for pixel_format in _FORMATS}


def pixel_format(name: str, width_px: int) -> PixelFormat:
    """The format of a name, for lines of `width_px`. Raises CameraError for one that is unknown or does not fit."""
    found = BY_NAME.get(name)
    if found is None:
        raise CameraError(f"pixel format {name} is not known here: set pixel_format to one of {', '.join(BY_NAME)}")
    if width_px % found.group_px:
        raise CameraError(f"{name} packs {found.group_px} pixels together: width_px {width_px} is no multiple of it")
    return found


def prepare(found: PixelFormat) -> None:
    """Compile what `copy_pixels` will need, so that it is not the first image that waits."""
    out = np.empty((1, found.group_px), found.dtype)
    copy_pixels(np.frombuffer(bytes(found.group_bytes), np.uint8), found, 0, out)


def copy_pixels(raw: Bytes, found: PixelFormat, padding_bytes: int, out: NDArray[Any]) -> None:
    """Copy an image out of a transport buffer: `raw` u8, lines with `padding_bytes` after each; `out` (h, w) of
    `found.dtype`. Raises CameraError where the buffer is too short for it."""
    height, width = out.shape
    line = found.line_bytes(width)
    stride = line + padding_bytes
    if len(raw) < height * stride - padding_bytes:
        raise CameraError(f"the camera's buffer of {len(raw)} bytes is too small for {width} x {height} {found.name}")
    if found.layout == "plain":
        dtype = np.dtype(found.dtype).newbyteorder("<")
        np.copyto(out, np.ndarray((height, width), dtype, raw, strides=(stride, dtype.itemsize)))
    else:
        _UNPACK[found.layout](raw, stride, out)


# Slices of a line: ten times as fast as indices into the whole.


@njit(cache=True, nogil=True)
def _unpack_10p(raw: Bytes, stride: int, out: NDArray[np.uint16]) -> None:
    groups = out.shape[1] // 4
    for row in range(out.shape[0]):
        line, pixels = raw[row * stride : row * stride + 5 * groups], out[row]
        for g in range(groups):
            b0, b1, b2, b3, b4 = line[5 * g], line[5 * g + 1], line[5 * g + 2], line[5 * g + 3], line[5 * g + 4]
            pixels[4 * g] = np.uint16(b0) | np.uint16((b1 & 0x03) << 8)
            pixels[4 * g + 1] = np.uint16(b1 >> 2) | np.uint16((b2 & 0x0F) << 6)
            pixels[4 * g + 2] = np.uint16(b2 >> 4) | np.uint16((b3 & 0x3F) << 4)
            pixels[4 * g + 3] = np.uint16(b3 >> 6) | np.uint16(b4 << 2)


@njit(cache=True, nogil=True)
def _unpack_12p(raw: Bytes, stride: int, out: NDArray[np.uint16]) -> None:
    pairs = out.shape[1] // 2
    for row in range(out.shape[0]):
        line, pixels = raw[row * stride : row * stride + 3 * pairs], out[row]
        for p in range(pairs):
            middle = line[3 * p + 1]
            pixels[2 * p] = np.uint16(line[3 * p]) | np.uint16((middle & 0x0F) << 8)
            pixels[2 * p + 1] = np.uint16(middle >> 4) | np.uint16(line[3 * p + 2] << 4)


@njit(cache=True, nogil=True)
def _unpack_10_packed(raw: Bytes, stride: int, out: NDArray[np.uint16]) -> None:
    pairs = out.shape[1] // 2
    for row in range(out.shape[0]):
        line, pixels = raw[row * stride : row * stride + 3 * pairs], out[row]
        for p in range(pairs):
            middle = line[3 * p + 1]
            pixels[2 * p] = np.uint16(line[3 * p] << 2) | np.uint16(middle & 0x03)
            pixels[2 * p + 1] = np.uint16(line[3 * p + 2] << 2) | np.uint16((middle >> 4) & 0x03)


@njit(cache=True, nogil=True)
def _unpack_12_packed(raw: Bytes, stride: int, out: NDArray[np.uint16]) -> None:
    pairs = out.shape[1] // 2
    for row in range(out.shape[0]):
        line, pixels = raw[row * stride : row * stride + 3 * pairs], out[row]
        for p in range(pairs):
            middle = line[3 * p + 1]
            pixels[2 * p] = np.uint16(line[3 * p] << 4) | np.uint16(middle & 0x0F)
            pixels[2 * p + 1] = np.uint16(line[3 * p + 2] << 4) | np.uint16(middle >> 4)


_UNPACK = {"10p": _unpack_10p, "12p": _unpack_12p, "10Packed": _unpack_10_packed, "12Packed": _unpack_12_packed}
