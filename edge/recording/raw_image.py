"""foxglove.RawImage in protobuf encoding: how pixels lie in a recording, so that Foxglove shows them as they are.

Field numbers: https://github.com/foxglove/foxglove-sdk, schemas/proto/foxglove/RawImage.proto. The descriptor is built
here, so no generated code is needed; it stands in every recording and decodes it without Foilsight.
"""

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from edge.core.types import Pixels

SCHEMA_NAME = "foxglove.RawImage"
_FIELD = descriptor_pb2.FieldDescriptorProto
_FIELDS = (
    ("timestamp", 1, _FIELD.TYPE_MESSAGE),
    ("width", 2, _FIELD.TYPE_FIXED32),
    ("height", 3, _FIELD.TYPE_FIXED32),
    ("encoding", 4, _FIELD.TYPE_STRING),
    ("step", 5, _FIELD.TYPE_FIXED32),
    ("data", 6, _FIELD.TYPE_BYTES),
    ("frame_id", 7, _FIELD.TYPE_STRING),
)
_DATA = next(number for name, number, _ in _FIELDS if name == "data")
_NAMES = {number: name for name, number, _ in _FIELDS}
_ENCODINGS: dict[np.dtype[Any], str] = {np.dtype("u1"): "mono8", np.dtype("<u2"): "mono16"}
_DTYPES = {encoding: dtype for dtype, encoding in _ENCODINGS.items()}
_WIRE_BYTES, _WIRE_FIXED32 = 2, 5


def _descriptors() -> descriptor_pb2.FileDescriptorSet:
    timestamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    image = descriptor_pb2.FileDescriptorProto(
        name="foxglove/RawImage.proto", package="foxglove", syntax="proto3", dependency=[timestamp.name]
    )
    message = image.message_type.add(name="RawImage")
    for name, number, kind in _FIELDS:
        message.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    message.field[0].type_name = ".google.protobuf.Timestamp"
    return descriptor_pb2.FileDescriptorSet(file=[timestamp, image])


SCHEMA = _descriptors()
_pool = descriptor_pool.DescriptorPool()
for _file in SCHEMA.file:
    _pool.AddSerializedFile(_file.SerializeToString())
_RawImage = message_factory.GetMessageClass(_pool.FindMessageTypeByName(SCHEMA_NAME))


def encode(pixels: Pixels, utc_ns: int, frame_id: str = "") -> bytes:
    """A RawImage message of `pixels` (h, w) u8 or u16 taken at `utc_ns`.

    The pixels are copied once: protobuf's own serializer would copy them three times.
    """
    seconds, nanos = divmod(utc_ns, 1_000_000_000)
    before = _RawImage(
        timestamp={"seconds": seconds, "nanos": nanos},
        width=pixels.shape[1],
        height=pixels.shape[0],
        encoding=_ENCODINGS[pixels.dtype],
        step=pixels.shape[1] * pixels.dtype.itemsize,
    )
    data = np.ascontiguousarray(pixels)
    after = _RawImage(frame_id=frame_id)
    return b"".join((before.SerializeToString(), _data_prefix(data.nbytes), data.data, after.SerializeToString()))


def _data_prefix(length: int) -> bytes:
    """Key and length of the field `data` in protobuf's wire format."""
    prefix = bytearray([_DATA << 3 | _WIRE_BYTES])
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def decode(message: bytes) -> tuple[Pixels, str]:
    """Pixels (h, w) u8 or u16 and `frame_id` of a RawImage message. Raises ValueError where it is not one.

    The pixels are a read-only view of `message`; u16 at an odd address is copied, kernels expect alignment.
    """
    fields = _wire_fields(message)
    dtype = _DTYPES.get(_text(fields, "encoding"))
    width, height = fields.get("width", 0), fields.get("height", 0)
    data = fields.get("data", b"")
    if dtype is None or not isinstance(width, int) or not isinstance(height, int) or isinstance(data, int):
        raise ValueError("not an image in mono8 or mono16")
    if len(data) != width * height * dtype.itemsize:
        raise ValueError(f"{len(data)} bytes are no image of {width} x {height} pixels")
    pixels = np.require(np.frombuffer(data, dtype).reshape(height, width), requirements="A")
    pixels.flags.writeable = False
    return pixels, _text(fields, "frame_id")


def _text(fields: dict[str, int | memoryview], name: str) -> str:
    value = fields.get(name, memoryview(b""))
    if isinstance(value, int):
        raise ValueError(f"{name} is not text")
    return bytes(value).decode()


def _wire_fields(message: bytes) -> dict[str, int | memoryview]:
    """The fields of a message by name, byte fields as views: protobuf's own parser would copy the pixels twice."""
    view, at = memoryview(message), 0
    fields: dict[str, int | memoryview] = {}
    while at < len(view):
        key, at = _varint(view, at)
        value: int | memoryview
        if key & 7 == _WIRE_BYTES:
            length, at = _varint(view, at)
            value = view[at : at + length]
        elif key & 7 == _WIRE_FIXED32:
            length = 4
            value = int.from_bytes(view[at : at + 4], "little")
        else:
            raise ValueError("not a RawImage message")
        at += length
        fields[_NAMES.get(key >> 3, "")] = value
    if at != len(view):
        raise ValueError("image message is cut short")
    return fields


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 64:
        byte = view[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("image message is cut short")
