"""ONNX files that say something wrong of themselves, and a good one to begin with."""

import json
from random import Random

import msgspec

from edge.segmentation.model import METADATA_KEY, ModelInfo

from .damage import damaged_bytes, damaged_tree, encoded, written
from .wire import damaged_inside, damaged_message, message

_IR_VERSION, _PRODUCER, _GRAPH, _METADATA_PROPS = 1, 2, 7, 14
_KEY, _VALUE = 1, 2
_VARINT, _BYTES = 0, 2


def model_of(info: ModelInfo) -> bytes:
    """An ONNX file with this metadata and nothing to compute."""
    entry = message([(_KEY, _BYTES, METADATA_KEY.encode()), (_VALUE, _BYTES, msgspec.json.encode(info))])
    graph = message([(2, _BYTES, b"nothing")])
    says = [(_PRODUCER, _BYTES, b"fuzz"), (_GRAPH, _BYTES, graph), (_METADATA_PROPS, _BYTES, entry)]
    return message([(_IR_VERSION, _VARINT, 10), *says])


def damaged_model(data: bytes, random: Random) -> bytes:
    """Raises ValueError where `data` is not a protobuf message to begin with."""
    return damaged_message(data, random, _damaged_field)


def _damaged_field(number: int, value: bytes, random: Random) -> bytes:
    if number == _METADATA_PROPS:
        return damaged_message(value, random, _damaged_entry)
    return damaged_inside(number, value, random)


def _damaged_entry(number: int, value: bytes, random: Random) -> bytes:
    return damaged_json(value, random) if number == _VALUE else damaged_bytes(value, random)


def damaged_json(data: bytes, random: Random) -> bytes:
    """Raises ValueError where `data` is not JSON to begin with."""
    try:
        return encoded(written(damaged_tree(json.loads(data), random), ":"))
    except RecursionError as error:
        raise ValueError("too deep") from error
