"""Ending a ZeroMQ context, which does not always end by itself."""

import logging
import threading

import zmq

_GIVE_UP_S = 3.0
_LOG = logging.getLogger(__name__)


def leave(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, linger_ms: int = 0) -> None:
    """Closes the sockets of a context and ends it; what still waits in them has `linger_ms` to go out.

    Ending a context (libzmq 4.3.5) was seen to hang for ever about once in 2,000 times when peers left at the same
    moment, whatever the linger time. A line must be able to end: after three seconds the context is left behind, with a
    warning that names `endpoint`.
    """
    leaving = threading.Thread(target=context.destroy, args=(linger_ms,), name="leaving", daemon=True)
    leaving.start()
    leaving.join(_GIVE_UP_S)
    if leaving.is_alive():
        _LOG.warning(
            "%s: ZeroMQ did not end within %g s and was left behind: no event is lost by it, but the address may stay "
            "in use until this process ends",
            endpoint,
            _GIVE_UP_S,
        )
