"""ZeroMQ contexts that end, and those that are never in the way."""

import logging
import os
import threading

import zmq

_GIVE_UP_S = 3.0
_NICEST = 19
_LOG = logging.getLogger(__name__)


def lingering(linger_ms: int) -> zmq.Context[zmq.Socket[bytes]]:
    """A context in whose sockets, once they are closed, messages have `linger_ms` to go out.

    Given to sockets before they are bound: a linger time set later does not reach the listener behind a bound address.
    Should a peer leave while the socket closes, libzmq (4.3.5) ends that connection with the listener's linger time;
    without limit, as is the default, it never ends while a message waits.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.linger = linger_ms
    return context


def lingering_behind_others(linger_ms: int) -> zmq.Context[zmq.Socket[bytes]]:
    """As `lingering`, with threads that the processor serves last: while others want all of it, they get a seventieth
    of what one of these gets. What connects, comes and goes there costs who inspects next to nothing.

    For threads of ZeroMQ alone: one that runs Python would keep the interpreter's lock while it waits for its turn.
    """
    context = lingering(linger_ms)

    def start_threads() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, _NICEST)  # of this thread, and of those it starts
        context.socket(zmq.PAIR).close()

    starting = threading.Thread(target=start_threads, name="replay start")
    starting.start()
    starting.join()
    return context


def leave(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    """Closes the sockets of a context and ends it.

    A line must be able to end: should ZeroMQ hang, the context is left behind after three seconds, with a warning that
    names `endpoint`.
    """
    leaving = threading.Thread(target=context.destroy, name="leaving", daemon=True)
    leaving.start()
    leaving.join(_GIVE_UP_S)
    if leaving.is_alive():
        _LOG.warning(
            "%s: ZeroMQ did not end within %g s and was left behind: no event is lost by it, but the address may stay "
            "in use until this process ends",
            endpoint,
            _GIVE_UP_S,
        )
