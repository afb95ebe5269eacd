"""Stages in threads of their own, joined by short queues through which a fixed number of slots go round."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Stages(Generic[Slot]):
    """Each slot that is sent goes through all stages in turn, each in a thread of its own, in the order sent.

    `take` an idle slot, fill it, `send` it; behind the last stage it is idle again. All slots are made beforehand, so
    there is never more under way than there are slots, and no stage ever waits to hand on: it waits for work only.

    `timed` gets the name of a stage and the seconds it took, in its thread, each time it has done its work.

    What a stage raises ends all: stages behind it finish what they were handed before, and whoever sends gets the
    error from `take`, `check` or `finish`, when all threads have ended.
    """

    def __init__(
        self,
        slots: Iterable[Slot],
        stages: Sequence[tuple[str, Callable[[Slot], None]]],
        timed: Callable[[str, float], None],
    ) -> None:
        self._idle: SimpleQueue[Slot | None] = SimpleQueue()
        for slot in slots:
            self._idle.put(slot)
        self._slots = self._idle.qsize()
        self._timed = timed
        self._inboxes: list[SimpleQueue[Slot | None]] = [SimpleQueue() for _ in stages]
        self._failure: BaseException | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(number, name, work), name=name, daemon=True)
            for number, (name, work) in enumerate(stages)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def under_way(self) -> int:
        """How many slots are not idle at this moment."""
        return max(0, self._slots - self._idle.qsize())

    def take(self) -> Slot:
        """An idle slot, as soon as there is one. Raises as `check`."""
        self.check()
        while (slot := self._idle.get()) is None:
            self.check()
        return slot

    def send(self, slot: Slot) -> None:
        """Hand a slot that was taken to the first stage. Never waits."""
        self._inboxes[0].put(slot)

    def check(self) -> None:
        """Raises what a stage has raised, with all threads ended; ValueError after the end."""
        if self._closed or self._failure is not None:
            self.finish()
            raise ValueError("the stages have ended, nothing can be sent any more")

    def finish(self) -> None:
        """Wait until all that was sent is done and the threads have ended. Raises what a stage has raised."""
        self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """As `finish`, whatever a stage has raised. May be called again."""
        self._closed = True
        self._inboxes[0].put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, name: str, work: Callable[[Slot], None]) -> None:
        """Take slots, do the work, hand on; `None` is the last to come and to be handed on."""
        behind = [*self._inboxes, self._idle][number + 1]
        try:
            while (slot := self._inboxes[number].get()) is not None:
                began_s = time.perf_counter()
                work(slot)
                self._timed(name, time.perf_counter() - began_s)
                behind.put(slot)
        except BaseException as error:  # of whatever kind: the thread that sends shall have it
            self._failure = self._failure or error
        behind.put(None)
