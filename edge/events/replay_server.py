"""Answers "events since N" out of the outbox, beside the line and never in its way."""

import threading
from pathlib import Path

import msgspec
import zmq

from edge.core.errors import EventsError
from edge.core.reading import one_line
from edge.events.guard import Guard
from edge.events.outbox import OutboxReader
from edge.events.replay_protocol import PAGE_BYTES, PAGE_EVENTS, PROTOCOL_VERSION, PageHeader, PageRequest, Refusal

_POLL_MS = 100
_REST_S = 0.01
_LARGEST_REQUEST_BYTES = 4096
_LARGEST_ENVELOPE = 8
_WAITING_REQUESTS = 64
_WAITING_REPLIES = 4


class ReplayServer:
    """A ROUTER socket bound to `endpoint`, served by a thread of its own that reads the outbox at `path`.

    Clients are served in turn, a page at a time, and never more than 100 pages a second altogether: however greedy they
    are, the line keeps the processor. To one that asks without reading, replies are dropped beyond a few pages. What is
    no request is answered with a `Refusal`; a frame beyond 4 KiB costs its sender the connection, and a request behind
    more than 8 frames (the sender's identity and those of proxies on the way) is dropped. `guard` says who may ask.
    Raises EventsError where the endpoint cannot be bound or the outbox cannot be opened.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], path: Path, endpoint: str, guard: Guard) -> None:
        self._closing = threading.Event()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.maxmsgsize = _LARGEST_REQUEST_BYTES
        self._socket.rcvhwm = _WAITING_REQUESTS
        self._socket.sndhwm = _WAITING_REPLIES
        guard.secure(self._socket, endpoint)
        self._outbox = OutboxReader(path)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self._socket.close()
            self._outbox.close()
            raise EventsError(
                f"{endpoint}: events cannot be replayed there ({error.strerror}): stop what uses the address, or set "
                "another one under [events] replay"
            ) from error
        self._thread = threading.Thread(target=self._serve, name="event replay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and closes the outbox's reader; the socket goes with its context."""
        self._closing.set()
        self._thread.join()
        self._outbox.close()

    def _serve(self) -> None:
        while not self._closing.is_set():
            if self._socket.poll(_POLL_MS):
                *envelope, request = self._socket.recv_multipart()
                if len(envelope) <= _LARGEST_ENVELOPE:
                    self._socket.send_multipart([*envelope, *answer(self._outbox, request)])
                self._closing.wait(_REST_S)


def answer(outbox: OutboxReader, request: bytes) -> list[bytes]:
    """The frames that answer one request, whatever it holds: a page, or a refusal that says why."""
    try:
        return _page(outbox, request)
    except (ValueError, RecursionError, EventsError) as error:  # ValueError: of msgspec, or no UTF-8
        return [msgspec.json.encode(Refusal(error=one_line(error)))]


def _page(outbox: OutboxReader, request: bytes) -> list[bytes]:
    asked = msgspec.json.decode(request, type=PageRequest)
    if asked.version != PROTOCOL_VERSION:
        raise EventsError(f"version {asked.version} is not spoken here, version {PROTOCOL_VERSION} is")
    limit = min(asked.limit, PAGE_EVENTS) if asked.stream in ("", outbox.stream) else 0
    events, last_seq = outbox.page(asked.since, limit, PAGE_BYTES)
    return [msgspec.json.encode(PageHeader(stream=outbox.stream, last_seq=last_seq)), *events]
