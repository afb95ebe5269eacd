"""Every event of a line, once and in order, whatever happens to the line, the listener or the network between them."""

import math
import threading
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zmq

from edge.core.errors import EventsError
from edge.events.envelope import UNWRITTEN, Envelope, Heartbeat, decode
from edge.events.guard import Handshakes, present
from edge.events.keys import ListenerKeys
from edge.events.leaving import leave, lingering
from edge.events.places import Places
from edge.events.replay_client import NoAnswer, ReplayClient

_POLL_MS = 100
_SILENCE_S = 3
_UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """Events `from_seq` to `to_seq` of `stream`, both included, exist but could not be had; `why` says it in words."""

    stream: str
    from_seq: int
    to_seq: int
    why: str


class Subscriber:
    """Iterator of events as they are published at `publish_endpoint`, and of what was missed, from `replay_endpoint`.

    Each stream (one outbox, by its UUID) is handed over in the order of its numbers, each event once; what a line could
    not write, number 0, when it comes. A line that is
    not there yet, or comes back, is waited for. What cannot be had is told as a `Gap` in its place: at once where the
    outbox no longer offers it or `replay_endpoint` is None, else after asking for `patience_s` in vain.

    An item, event or Gap, counts as handed over when the next one is asked for, or when the subscriber is closed; not
    when the `with` block ends by an exception, nor when the process dies. So an item taken but not done with is handed
    over again, and whoever will not pass over a Gap raises instead of asking for the next.

    `state` says where a restarted subscriber goes on:

    - a path: the subscriber writes its place there each time an item counts as handed over. A crash between the work on
      an item and the asking for the next hands that one item over again: at least once, and never more than one twice.
    - a mapping from stream to the last number handed over, which the caller keeps: exactly once, if he writes
      `event.stream` and `event.seq` (of a Gap: `to_seq`) in the same transaction as his own data.

    `since` says where to begin in the first stream heard, if `state` does not name it: after that number; None: with
    what is published from now on. A stream that begins later is heard from its beginning. `topics`: only these; none:
    all. `keys`: for a line that speaks with keys. Iteration ends when `stop` is set. Memory is bounded by one page of
    events and ZeroMQ's queues.

    `heard_s`: the monotonic time when anything was last heard, be it a heartbeat.

    Not to be shared between threads. Raises EventsError where an endpoint is no address, what speaks there is not
    Foilsight, the line refuses the listener, the state cannot be read or written, or the outbox ends before the place
    to go on after.
    """

    def __init__(
        self,
        publish_endpoint: str,
        replay_endpoint: str | None,
        *,
        topics: Collection[str] = (),
        state: Path | Mapping[str, int] | None = None,
        since: int | None = 0,
        patience_s: float = 60.0,
        stop: threading.Event | None = None,
        keys: ListenerKeys | None = None,
    ) -> None:
        if since is not None and since < 0:
            raise EventsError(f"the number to begin after must be 0 or more, not {since}")
        self._endpoint = publish_endpoint
        self._topics = frozenset(topics)
        self._places = Places(state)
        self._since = since
        self._stop = threading.Event() if stop is None else stop
        self._stream = ""
        self.heard_s = -math.inf
        self._context = lingering(0)
        try:
            self._socket = self._context.socket(zmq.SUB)
            self._handshakes = Handshakes(self._socket, publish_endpoint, keys)
            self._subscribe(keys)
            self._replay = (
                None
                if replay_endpoint is None
                else ReplayClient(self._context, replay_endpoint, patience_s, self._stop, keys)
            )
        except EventsError:
            leave(self._context, publish_endpoint)
            raise
        self._items = self._in_order()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Envelope | Gap:
        self._places.save()
        if self._stop.is_set():
            raise StopIteration
        for item in self._items:
            if isinstance(item, Gap) or item.seq != UNWRITTEN:
                self._places.move(item.stream, item.to_seq if isinstance(item, Gap) else item.seq)
            if isinstance(item, Gap) or not self._topics or item.topic in self._topics:
                return item
        raise StopIteration

    def close(self) -> None:
        """Counts the last item as handed over and disconnects."""
        self._disconnect()
        self._places.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._disconnect()

    def _disconnect(self) -> None:
        self._items.close()
        leave(self._context, self._endpoint)

    def _subscribe(self, keys: ListenerKeys | None) -> None:
        socket = self._socket
        # A machine that lost its power says no goodbye. Not by ZeroMQ's own heartbeat: where the queue is full because
        # its reader is slow, that goes unanswered, and libzmq (4.3.5, issue 3937) aborts the process as it reconnects.
        socket.tcp_keepalive = 1
        socket.tcp_keepalive_idle = _SILENCE_S
        socket.tcp_keepalive_intvl = 1
        socket.tcp_keepalive_cnt = _UNANSWERED
        present(socket, keys)
        socket.subscribe(b"")  # all topics: a missing number is only a gap to one who would have received it
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            raise EventsError(f"{self._endpoint}: not an address to listen at ({error.strerror})") from error

    def _in_order(self) -> Generator[Envelope | Gap, None, None]:
        while not self._stop.is_set():
            if not self._socket.poll(_POLL_MS):
                self._handshakes.check()
                continue
            message = self._received()
            if not isinstance(message, Heartbeat) and message.seq == UNWRITTEN:
                yield message
                continue
            last_seq = message.last_seq if isinstance(message, Heartbeat) else message.seq - 1
            if message.stream != self._stream:
                self._begin(message.stream, last_seq)
            yield from self._caught_up(last_seq)
            if not isinstance(message, Heartbeat):
                if message.seq == self._at + 1:
                    yield message
            elif last_seq < self._at:
                self._check_that_the_outbox_reaches_here(last_seq)

    @property
    def _at(self) -> int:
        return self._places[self._stream]

    def _received(self) -> Envelope | Heartbeat:
        data = self._socket.recv_multipart()[-1]
        self.heard_s = time.monotonic()
        try:
            return decode(data)
        except EventsError as error:
            raise EventsError(f"{self._endpoint}: {error}") from error

    def _begin(self, stream: str, last_seq: int) -> None:
        """Find the place in a stream that was not the one heard last; `last_seq` is the number its publisher is at."""
        if stream not in self._places:
            self._places.move(stream, last_seq if self._since is None else self._since)
            self._places.save()  # what comes after this moment is not passed over, even if nothing is handed over now
        self._since, self._stream = 0, stream

    def _caught_up(self, upto: int) -> Generator[Envelope | Gap, None, None]:
        """What was missed up to and including `upto`; more where the outbox has it by now."""
        while self._at < upto:
            if self._replay is None:
                yield self._gap(upto, "nowhere to ask for them")
                return
            try:
                page = self._replay.page(self._stream, self._at)
            except NoAnswer as error:
                yield self._gap(upto, str(error))
                return
            if page is None:
                return
            if page.stream != self._stream:
                yield self._gap(upto, f"the line has begun another stream, {page.stream}")
            elif not page.events:
                yield self._gap(upto, "no longer in the outbox")
            for event in page.events:
                if event.seq > self._at + 1:
                    yield self._gap(event.seq - 1, "no longer in the outbox")
                yield event

    def _gap(self, to_seq: int, why: str) -> Gap:
        return Gap(self._stream, self._at + 1, to_seq, why)

    def _check_that_the_outbox_reaches_here(self, last_seq: int) -> None:
        """A heartbeat behind the place is old, sent before a page that was asked for, or the outbox is another."""
        if self._replay is not None:
            try:
                page = self._replay.page(self._stream, self._at)
            except NoAnswer:
                return  # the next heartbeat asks again
            if page is None or page.stream != self._stream:
                return
            last_seq = page.last_seq
        if last_seq < self._at:
            raise EventsError(
                f"{self._endpoint}: the outbox ends at event {last_seq}, before the place to go on after, {self._at}: "
                "begin at a smaller number, or with a fresh state"
            )
