"""What the service manager is told: the protocol of sd_notify(3), and nothing where nobody listens."""

import os
import socket
from contextlib import suppress
from typing import Self


class ServiceManager:
    """Sends assignments as datagrams to `address`: a path, or "@name" in the abstract name space; None: to nobody.

    `watchdog_s`: within how long a sign of life is expected, None where it is not. A datagram that is not taken is
    dropped: the line never waits for its manager.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        self._socket: socket.socket | None = None
        if address:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls) -> Self:
        """As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say, which are taken away: they are not for children."""
        address, microseconds, pid = (
            os.environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        )
        for_us = microseconds.isdecimal() and pid in ("", str(os.getpid()))
        return cls(address or None, int(microseconds) / 1e6 if for_us and int(microseconds) else None)

    def tell(self, **assignments: str | int) -> None:
        """Send assignments, say READY=1, together in one datagram. A text loses its line breaks."""
        if self._socket is None:
            return
        lines = (f"{name}={' '.join(str(value).split())}" for name, value in assignments.items())
        with suppress(OSError):  # nobody listens (any more), or its queue is full
            self._socket.sendto("\n".join(lines).encode(), self._address)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
