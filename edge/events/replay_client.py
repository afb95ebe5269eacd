"""Asks the line for events again, as often as it takes."""

import threading
import time
from dataclasses import dataclass

import msgspec
import zmq

from edge.core.errors import EventsError
from edge.events.envelope import Envelope, Heartbeat, decode
from edge.events.guard import present
from edge.events.keys import ListenerKeys
from edge.events.replay_protocol import PageHeader, PageRequest, Refusal

_POLL_MS = 100
_TRY_S = 2.0
_PAUSE_S = 0.2
_REPLY: msgspec.json.Decoder[PageHeader | Refusal] = msgspec.json.Decoder(PageHeader | Refusal)


class NoAnswer(EventsError):
    """The line did not send the events that were asked for; the message says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some events of `stream`, in order, and the last number in its outbox."""

    stream: str
    last_seq: int
    events: list[Envelope]


class ReplayClient:
    """Asks at `endpoint` until it is answered, `patience_s` have passed, or `stop` is set.

    A try that fails is made anew on a fresh socket: an answer that comes too late goes nowhere.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        patience_s: float,
        stop: threading.Event,
        keys: ListenerKeys | None,
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._stop = stop
        self._keys = keys
        self._socket = self._connected()

    def page(self, stream: str, since: int) -> Page | None:
        """Events of `stream` after `since`, as many as fit a page; None where told to stop. Raises NoAnswer."""
        request = msgspec.json.encode(PageRequest(stream=stream, since=since))
        give_up_s = time.monotonic() + self._patience_s
        while True:
            try:
                self._socket.send(request)
                return self._reply(min(give_up_s, time.monotonic() + _TRY_S))
            except NoAnswer:
                self._socket.close()
                self._socket = self._connected()
                if self._stop.wait(_PAUSE_S):
                    return None
                if time.monotonic() > give_up_s:
                    raise

    def _connected(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        present(socket, self._keys)
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise EventsError(f"{self._endpoint}: not an address to ask at ({error.strerror})") from error
        return socket

    def _reply(self, give_up_s: float) -> Page:
        while not self._socket.poll(_POLL_MS):
            if time.monotonic() > give_up_s or self._stop.is_set():
                raise NoAnswer(f"{self._endpoint} does not answer")
        header, *payloads = self._socket.recv_multipart()
        try:
            reply = _REPLY.decode(header)
            events = [decode(payload) for payload in payloads]
        except (ValueError, RecursionError, EventsError) as error:
            raise NoAnswer(f"{self._endpoint}: not a page of Foilsight events: {error}") from error
        if isinstance(reply, Refusal):
            raise NoAnswer(f"{self._endpoint} refuses: {reply.error}")
        return Page(reply.stream, reply.last_seq, [event for event in events if not isinstance(event, Heartbeat)])
