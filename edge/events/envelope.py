"""What goes over the wire: JSON objects whose `topic` says what their `body` is.

Fields are only ever added, with defaults: an older reader skips what it does not know, a newer one fills in what is
not there.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from edge.core.clock import utc_now
from edge.core.errors import EventsError
from edge.core.types import Alarm, Coverage, Defect, Status

SCHEMA = 1
UNWRITTEN = 0
"""The number of an event that stands in no outbox."""

Body = Defect | Coverage | Alarm | Status


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where events come from: line, roll, and the SHA-256 of the model and of the calibration in use."""

    line: str
    roll: str
    model: str
    calibration: str


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="topic"):
    @property
    def topic(self) -> str:
        """The kind of message, as published."""
        return str(self.__struct_config__.tag)


class _Envelope(_Message, frozen=True, kw_only=True):
    """What every event carries.

    `stream` is the UUID of the outbox it was written to and `seq` its number there, dense from 1, or 0 for an alarm
    that could not be written there; `time` UTC in RFC 3339; the rest as in `Origin`.
    """

    schema: int = SCHEMA
    stream: str
    seq: int
    time: str
    line: str
    roll: str
    model: str
    calibration: str


class DefectEvent(_Envelope, frozen=True, kw_only=True, tag="defect"):
    """A defect opened, continued or closed."""

    body: Defect


class CoverageEvent(_Envelope, frozen=True, kw_only=True, tag="coverage"):
    """What became of some rows of web."""

    body: Coverage


class AlarmEvent(_Envelope, frozen=True, kw_only=True, tag="alarm"):
    """What a person must know."""

    body: Alarm


class StatusEvent(_Envelope, frozen=True, kw_only=True, tag="status"):
    """What the line is doing."""

    body: Status


class Heartbeat(_Message, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent at regular intervals: the number of the last event, so that a listener learns what it has missed."""

    stream: str
    last_seq: int


Envelope = DefectEvent | CoverageEvent | AlarmEvent | StatusEvent

_EVENT_OF: dict[type[Body], Callable[..., Envelope]] = {
    Defect: DefectEvent,
    Coverage: CoverageEvent,
    Alarm: AlarmEvent,
    Status: StatusEvent,
}
_DECODER: msgspec.json.Decoder[Envelope | Heartbeat] = msgspec.json.Decoder(Envelope | Heartbeat)


def envelope(body: Body, origin: Origin, stream: str, seq: int) -> Envelope:
    """The event that carries `body`, stamped with the present time."""
    return _EVENT_OF[type(body)](stream=stream, seq=seq, time=utc_now(), body=body, **msgspec.structs.asdict(origin))


def encode(message: Envelope | Heartbeat) -> bytes:
    """JSON in UTF-8."""
    return msgspec.json.encode(message)


def decode(data: bytes) -> Envelope | Heartbeat:
    """The message in JSON bytes; fields unknown here are skipped. Raises EventsError."""
    try:
        return _DECODER.decode(data)
    except (ValueError, RecursionError) as error:  # ValueError: of msgspec, or no UTF-8
        raise EventsError(f"not a Foilsight event of schema {SCHEMA}: {error}") from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of every message on the wire."""
    schema = msgspec.json.schema(Envelope | Heartbeat)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Foilsight events", **schema}
