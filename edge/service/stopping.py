"""Ctrl-C and SIGTERM as a wish, not an accident: work ends at the next frame, with everything in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_WISHES = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_when_asked() -> Iterator[threading.Event]:
    """While the block runs the first ctrl-C or SIGTERM only sets the event; a second one acts as usual."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in _WISHES}

    def as_usual() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        as_usual()

    for number in _WISHES:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        as_usual()
