"""Asking for events again: one request, one reply, over ZeroMQ (REQ or DEALER towards the line's ROUTER).

Request, one frame of JSON: the events of `stream` after number `since`, at most `limit` of them::

    {"version": 1, "stream": "<UUID, or empty for whichever the line has>", "since": 41, "limit": 200}

Reply, a frame of JSON and one more frame for each event, byte for byte as it was published::

    {"reply": "page", "version": 1, "stream": "<UUID>", "last_seq": 977}    event 42    event 43    ...
    {"reply": "refused", "version": 1, "error": "what was wrong with the request"}

`last_seq` is the last number in the outbox: ask again until it is reached. A page may hold fewer events than asked for
(at most 200, and no more once they come to 256 KiB), and holds none where nothing comes after `since` or the line has
begun another stream than the one asked for. Old events are deleted in time: a number that is passed over is gone.

As for events, fields are only ever added, with defaults; a change that is more than that counts `version` up.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

PROTOCOL_VERSION = 1
PAGE_EVENTS = 200
PAGE_BYTES = 256 * 1024
_LARGEST_SEQ = 2**63 - 1


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The events of `stream` (empty: whichever there is) after number `since`, at most `limit`."""

    version: int = PROTOCOL_VERSION
    stream: str = ""
    since: Annotated[int, Meta(ge=0, le=_LARGEST_SEQ)]
    limit: Annotated[int, Meta(ge=1)] = PAGE_EVENTS


class PageHeader(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="page"):
    """Before the events of a page: whose they are, and the last number there is."""

    version: int = PROTOCOL_VERSION
    stream: str
    last_seq: int


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag_field="reply", tag="refused"):
    """Instead of a page: what was wrong with the request."""

    version: int = PROTOCOL_VERSION
    error: str
