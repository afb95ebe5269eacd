"""What a line that runs for months tells, whatever becomes of the disk it is to be kept on."""

import threading
import time
from collections import deque
from collections.abc import Iterable
from itertools import groupby, islice
from operator import itemgetter

from edge.core.clock import utc_now
from edge.core.errors import EventsError
from edge.core.types import Alarm, Coverage
from edge.events.envelope import Body, Origin
from edge.events.publisher import EventWriter
from edge.service.report import joined
from edge.service.resuming import Place

MOST_WAITING = 5_000
_BATCH = 500
_AGAIN_S = 1.0


class Telling:
    """Writes events in their order. Where they cannot be written they wait in memory, `waiting` of them, and are
    written as soon as that is possible again; it is tried once a second. That they wait is announced to who listens.

    Beyond `MOST_WAITING` coverage of one kind is put together and the oldest of the rest are left out, which an alarm
    tells when they can be written again. `problem`: why nothing can be written at this moment; `place`: after the last
    event written; `origin`: of what is told from now on, whenever it is written. From any thread.
    """

    def __init__(self, writer: EventWriter, place: Place) -> None:
        self.problem: str | None = None
        self.place = place
        self.lost = 0
        self.origin = writer.origin
        self._writer = writer
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Origin, Body]] = deque()
        self._again_s = 0.0
        self._untold_lost = 0

    @property
    def waiting(self) -> int:
        """Events in memory."""
        return len(self._waiting)

    def tell(self, bodies: Iterable[Body]) -> None:
        """Write and publish events, now or later."""
        with self._lock:
            self._waiting.extend((self.origin, body) for body in bodies)
            if self.problem is None or time.monotonic() >= self._again_s:
                self._write()
            if len(self._waiting) > MOST_WAITING:
                self._make_room()

    def flush(self) -> None:
        """Try once more to write what waits, before the end."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        try:
            if self._untold_lost and self._waiting:
                detail = f"{self._untold_lost} events could be written nowhere and are lost"
                alarm = Alarm(kind="events_lost", since=utc_now(), detail=detail)
                self.place = self.place.after(self._writer.publish(alarm))
                self._untold_lost = 0
            while self._waiting:
                self._writer.origin, waiting = next(groupby(islice(self._waiting, _BATCH), itemgetter(0)))
                batch = [body for _, body in waiting]
                self.place = self.place.after(self._writer.publish(*batch))
                for _ in batch:
                    self._waiting.popleft()
            self.problem = None
        except EventsError as error:
            if self.problem is None:
                self._writer.announce(Alarm(kind="events_waiting", since=utc_now(), detail=str(error)))
            self.problem = str(error)
            self._again_s = time.monotonic() + _AGAIN_S

    def _make_room(self) -> None:
        covered = [
            (origin, body)
            for origin, waiting in groupby(self._waiting, itemgetter(0))
            for body in joined([body for _, body in waiting if isinstance(body, Coverage)])
        ]
        others = [each for each in self._waiting if not isinstance(each[1], Coverage)]
        kept = [*others[-MOST_WAITING // 3 :], *covered[-MOST_WAITING // 3 :]]
        lost = len(others) + len(covered) - len(kept)
        self.lost += lost
        self._untold_lost += lost
        self._waiting = deque(kept)
