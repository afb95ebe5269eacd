"""Events go to the outbox first and to whoever listens second, so that what was heard can always be read again."""

import threading
from types import TracebackType
from typing import Self

import zmq

from edge.core.errors import EventsError, FoilsightError
from edge.events.envelope import UNWRITTEN, Body, Envelope, Heartbeat, Origin, encode, envelope
from edge.events.guard import Guard
from edge.events.keys import LineKeys
from edge.events.leaving import leave, lingering
from edge.events.outbox import Outbox
from edge.events.replay_server import ReplayServer

_HIGH_WATER_MARK = 1000
_LINGER_MS = 500


class EventWriter:
    """Writes events to an outbox, then publishes them as [topic, JSON] on a ZeroMQ PUB socket bound to `endpoint`.

    `endpoint` None: not published. `replay_endpoint`, if given, is where a `ReplayServer` answers out of the outbox.
    Every `heartbeat_s` seconds, and once on closing, a heartbeat tells the last number.
    A slow listener never delays the line, nor does it grow: beyond 1,000 waiting messages that listener misses some,
    and the numbers tell it so.
    `origin` is what events say of where they come from, and may be set between two of them.
    The outbox stays open when the writer closes. Raises EventsError where an endpoint cannot be bound.

    With `keys` only known clients hear or ask, as `Guard` has it; without, both endpoints must be on this machine
    (ConfigError).

    Any thread may publish: one lock guards both outbox and socket, so events go out in the order of their numbers, and
    the socket passes from thread to thread behind that lock's memory barrier as ZeroMQ requires.
    """

    def __init__(
        self,
        outbox: Outbox,
        endpoint: str | None,
        heartbeat_s: float,
        *,
        line: str,
        roll: str,
        model: str,
        calibration: str,
        replay_endpoint: str | None = None,
        keys: LineKeys | None = None,
    ) -> None:
        self._outbox = outbox
        self.origin = Origin(line=line, roll=roll, model=model, calibration=calibration)
        self._heartbeat_s = heartbeat_s
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._last_seq = outbox.last_seq
        self._context = lingering(_LINGER_MS)
        self._name = endpoint or ""
        self._guard: Guard | None = None
        try:
            self._guard = Guard(self._context, keys)
            self._socket = None if endpoint is None else self._bound(endpoint, self._guard)
            self._replay = None if replay_endpoint is None else ReplayServer(outbox.path, replay_endpoint, keys)
        except FoilsightError:
            self._leave()
            raise
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        if self._socket is not None:
            self._heart.start()

    def publish(self, *bodies: Body) -> list[Envelope]:
        """Writes the events to the outbox in one transaction, then publishes them. Raises EventsError."""
        if not bodies:
            return []
        with self._lock:
            events = self._outbox.append(*bodies, origin=self.origin)
            self._last_seq = events[-1].seq
            for event in events:
                self._send(event)
        return events

    def announce(self, body: Body) -> None:
        """Publishes what cannot be written, with number 0: who listens now hears of it, nobody can ask for it later."""
        with self._lock:
            self._send(envelope(body, self.origin, self._outbox.stream, UNWRITTEN))

    def close(self) -> None:
        """Tells the last number once more and leaves the endpoints; waits half a second for slow listeners."""
        self._closing.set()
        if self._heart.is_alive():
            self._heart.join()
        if self._replay is not None:
            self._replay.close()
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _leave(self) -> None:
        if self._guard is not None:
            self._guard.close()
        leave(self._context, self._name)

    def _bound(self, endpoint: str, guard: Guard) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.PUB)
        socket.sndhwm = _HIGH_WATER_MARK
        guard.secure(socket, endpoint)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise EventsError(
                f"{endpoint}: events cannot be published there ({error.strerror}): stop what uses the address, or set "
                "another one under [events] publish"
            ) from error
        return socket

    def _send(self, message: Envelope | Heartbeat) -> None:
        if self._socket is not None:
            self._socket.send_multipart([message.topic.encode(), encode(message)])

    def _beat(self) -> None:
        closing = False
        while not closing:
            closing = self._closing.wait(self._heartbeat_s)
            with self._lock:
                self._send(Heartbeat(stream=self._outbox.stream, last_seq=self._last_seq))
