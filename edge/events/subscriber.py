"""Listening to a line's events, and noticing what was missed."""

import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import zmq

from edge.core.errors import EventsError
from edge.events.envelope import Envelope, Heartbeat, decode

_POLL_MS = 100


@dataclass(frozen=True, slots=True)
class Gap:
    """Events `from_seq` to `to_seq`, both included, were published but not received; they stand in the outbox."""

    from_seq: int
    to_seq: int


def listen(endpoint: str, topics: Collection[str], stop: threading.Event) -> Iterator[Envelope | Gap]:
    """Events of the given topics as they are published at `endpoint`, and gaps, until `stop` is set.

    No topics: all of them. Whatever was published before the listener was connected is its first gap. A line that is
    not there yet, or comes back, is waited for. Raises EventsError where the endpoint is no address, or what speaks
    there is not Foilsight.
    """
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe(b"")  # all topics: a missing number is only a gap to one who would have received it
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            raise EventsError(f"{endpoint}: not an address to listen at ({error.strerror})") from error
        stream, last_seq = "", 0
        while not stop.is_set():
            if not socket.poll(_POLL_MS):
                continue
            message = _received(socket, endpoint)
            if message.stream != stream:
                stream, last_seq = message.stream, 0
            before = message.last_seq if isinstance(message, Heartbeat) else message.seq - 1
            if before > last_seq:
                yield Gap(last_seq + 1, before)
                last_seq = before
            if not isinstance(message, Heartbeat):
                last_seq = message.seq
                if not topics or message.topic in topics:
                    yield message


def _received(socket: zmq.Socket[bytes], endpoint: str) -> Envelope | Heartbeat:
    try:
        return decode(socket.recv_multipart()[-1])
    except EventsError as error:
        raise EventsError(f"{endpoint}: {error}") from error
