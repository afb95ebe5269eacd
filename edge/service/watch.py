"""The thread that looks at a running line again and again, and says what it sees."""

import threading
from collections.abc import Callable

from edge.core.types import Status
from edge.service.health import Health, Sight
from edge.service.notify import ServiceManager

LOOK_S = 0.5
_MORE_TIME_US = 30_000_000
_FINISHING = "stopping: what was seen is being inspected"


class Watch:
    """While the block runs: looks at the line every `LOOK_S`, more often where the watchdog wants it.

    The service manager is told first, since it needs no disk: READY once web is inspected, or waited for; the watchdog
    only while the line is alive; after `stop`, that it takes its time to finish. Then `tell` gets a status where the
    health has changed, and `keep` is called. What these raise ends the looking, is raised by `check`, and stops the
    watchdog.
    """

    def __init__(
        self,
        health: Health,
        manager: ServiceManager,
        sight: Callable[[], Sight],
        tell: Callable[[Status], None],
        keep: Callable[[], None],
    ) -> None:
        self._health, self._manager = health, manager
        self._sight, self._tell, self._keep = sight, tell, keep
        self._is_ready = self._is_stopping = False
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def check(self) -> None:
        """Raises what has ended the looking."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """From now on the line is finishing what it has seen."""
        self._is_stopping = True
        self._manager.tell(STOPPING=1, STATUS=_FINISHING)

    def _run(self) -> None:
        watchdog_s = self._manager.watchdog_s
        every_s = LOOK_S if watchdog_s is None else min(LOOK_S, watchdog_s / 4)
        try:
            while not self._ending.wait(every_s):
                self._look()
        except BaseException as error:  # of whatever kind: the thread that inspects shall have it
            self._error = error

    def _look(self) -> None:
        sight = self._sight()
        status = self._health.look(sight)
        state = f"{self._health.state}: {self._health.detail}".removesuffix(": ")
        said: dict[str, str | int] = {"STATUS": _FINISHING if self._is_stopping else state}
        if not self._is_ready and not self._is_stopping and self._health.state in ("inspecting", "degraded"):
            self._is_ready = True
            said["READY"] = 1
        if sight.is_alive:
            said["WATCHDOG"] = 1
            if self._is_stopping or self._health.state == "starting":
                said["EXTEND_TIMEOUT_USEC"] = _MORE_TIME_US
        self._manager.tell(**said)
        if status is not None:
            self._tell(status)
        self._keep()
