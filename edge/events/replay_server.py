"""Answers "events since N" out of the outbox, beside the line and never in its way."""

import threading
from pathlib import Path

import msgspec
import zmq

from edge.core.errors import EventsError, FoilsightError
from edge.core.reading import one_line
from edge.events.guard import Guard
from edge.events.keys import LineKeys
from edge.events.leaving import leave, lingering_behind_others
from edge.events.outbox import OutboxReader
from edge.events.replay_protocol import PAGE_BYTES, PAGE_EVENTS, PROTOCOL_VERSION, PageHeader, PageRequest, Refusal

_POLL_MS = 100
_REST_S = 0.02
_LARGEST_REQUEST_BYTES = 4096
_LARGEST_ENVELOPE = 8
_WAITING_REQUESTS = 64
_WAITING_REPLIES = 4
_LINGER_MS = 500


class ReplayServer:
    """A ROUTER socket bound to `endpoint`, served by a thread of its own that reads the outbox at `path`.

    Clients are served in turn, a page at a time, and never more than 50 pages a second altogether; connections are
    served when nobody else wants the processor: however greedy they are, the line keeps it. To one that asks without
    reading, replies are dropped beyond a few pages. What is no request is answered with a `Refusal`; a frame beyond
    4 KiB costs its sender the connection, and a request behind more than 8 frames (the sender's identity and those of
    proxies on the way) is dropped. `keys` say who may ask, as `Guard` has it. Raises EventsError where the endpoint
    cannot be bound or the outbox cannot be opened, ConfigError where others may reach it and the line has no keys.
    """

    def __init__(self, path: Path, endpoint: str, keys: LineKeys | None) -> None:
        self._closing = threading.Event()
        self._endpoint = endpoint
        self._outbox = OutboxReader(path)
        self._context = lingering_behind_others(_LINGER_MS)
        self._guard: Guard | None = None
        try:
            self._guard = Guard(self._context, keys)
            self._socket = self._bound(self._guard)
        except FoilsightError:
            self._leave()
            raise
        self._thread = threading.Thread(target=self._serve, name="event replay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread, closes the outbox's reader and leaves the endpoint."""
        self._closing.set()
        self._thread.join()
        self._leave()

    def _leave(self) -> None:
        if self._guard is not None:
            self._guard.close()
        leave(self._context, self._endpoint)
        self._outbox.close()

    def _bound(self, guard: Guard) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.maxmsgsize = _LARGEST_REQUEST_BYTES
        socket.rcvhwm = _WAITING_REQUESTS
        socket.sndhwm = _WAITING_REPLIES
        guard.secure(socket, self._endpoint)
        try:
            socket.bind(self._endpoint)
        except zmq.ZMQError as error:
            raise EventsError(
                f"{self._endpoint}: events cannot be replayed there ({error.strerror}): stop what uses the address, or "
                "set another one under [events] replay"
            ) from error
        return socket

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
