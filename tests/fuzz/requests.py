"""What anybody may send to the line's ROUTER: answered with a page of what follows, or refused in words."""

import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random

import msgspec

from edge.core.errors import EventsError
from edge.core.types import Status
from edge.events import Origin, Outbox, decode
from edge.events.outbox import OutboxReader
from edge.events.replay_protocol import PAGE_EVENTS, PageHeader, PageRequest, Refusal
from edge.events.replay_server import answer

from .damage import damaged_tree, encoded, written

_EVENTS = 20
_ORIGIN = Origin(line="", roll="", model="", calibration="")


@cache
def _outbox() -> OutboxReader:
    """One that stays open, without the file it was written to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outbox.sqlite")
        with Outbox(path) as outbox:
            outbox.append(*[Status(kind="inspecting", since="")] * _EVENTS, origin=_ORIGIN)
            return OutboxReader(path)


@cache
def requests() -> list[bytes]:
    """Good ones."""
    whole = PageRequest(stream=_outbox().stream, since=7, limit=PAGE_EVENTS)
    return [b'{"since": 0}', msgspec.json.encode(whole), msgspec.json.encode(PageRequest(since=2**63 - 1, limit=2**70))]


def damaged_request(data: bytes, random: Random) -> bytes:
    """With a field or value wrong. Raises ValueError where `data` is no JSON to begin with."""
    return encoded(written(damaged_tree(json.loads(data), random), ":"))


def ask(path: Path) -> None:
    """Raises EventsError where the request is refused."""
    data = path.read_bytes()
    header, *events = answer(_outbox(), data)
    reply = msgspec.json.decode(header, type=PageHeader | Refusal)
    if isinstance(reply, Refusal):
        assert not events
        raise EventsError(f"{path}: {reply.error}")
    asked = msgspec.json.decode(data, type=PageRequest)
    is_ours = asked.stream in ("", reply.stream)
    expected = range(asked.since + 1, min(asked.since + asked.limit, _EVENTS) + 1) if is_ours else range(0)
    assert [getattr(decode(event), "seq", None) for event in events] == list(expected)
    assert reply.last_seq == _EVENTS
