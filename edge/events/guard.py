"""Who may hear a line: anybody on this machine; off it, or where the line has keys, only known clients, by CURVE."""

import ipaddress
import logging
import time
from pathlib import Path

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import recv_monitor_message

from edge.core.errors import ConfigError, EventsError
from edge.events.keys import LineKeys, ListenerKeys, read_clients

_DOMAIN = "foilsight"
_LOCAL_TRANSPORTS = ("ipc", "inproc")
_LOCAL_HOSTS = ("localhost", "lo")
_TELL_EVERY_S = 10.0
_IN_VAIN = 20
_LOG = logging.getLogger(__name__)


class Guard:
    """Admits clients to the sockets of `context` that `secure` has been given: those in the list, and who has the
    line's own pair.

    The list counts as it stands when a client connects; while it cannot be read, as it last could. Who is connected
    stays so. A thread of its own answers ZeroMQ's questions (ZAP). `keys` None: only for addresses on this machine.
    Raises ConfigError where the list cannot be read to begin with.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: LineKeys | None) -> None:
        self._keys = keys
        self._authenticator: ThreadAuthenticator | None = None
        if keys is not None:
            clients = _Clients(keys)
            self._authenticator = ThreadAuthenticator(context)
            self._authenticator.configure_curve_callback(_DOMAIN, clients)
            self._authenticator.start()

    def secure(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Before a socket is bound. Raises ConfigError where `endpoint` is open to other machines and the line has no
        keys."""
        # With a domain libzmq (4.3.5) refuses who speaks as before ZMTP 3, as most garbage seems to: where it comes
        # while a socket closes, an assertion of libzmq would end the process.
        socket.zap_domain = _DOMAIN.encode()
        if self._keys is None:
            if leaves_this_machine(endpoint):
                raise ConfigError(
                    f"{endpoint}: events leave this machine only for known keys: make one (foilsight keys make) and "
                    "name it under [events] secret_key, or use 127.0.0.1"
                )
            return
        socket.curve_server = True
        socket.curve_secretkey = self._keys.own.secret.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # nobody is let in should the thread be gone

    def close(self) -> None:
        """End the thread; before the context ends."""
        if self._authenticator is not None:
            self._authenticator.stop()


class _Clients:
    """Asked by the authenticator about each key."""

    def __init__(self, keys: LineKeys) -> None:
        self._own, self._path = keys.own.public, keys.clients
        self._told_s = -_TELL_EVERY_S
        self._stamp: tuple[int, int] | None = None
        self._known: frozenset[str] = frozenset()
        if keys.clients is not None:
            self._read(keys.clients)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether the public key `key` may connect."""
        if self._path is not None:
            try:
                self._read(self._path)
            except ConfigError as error:
                self._tell("the list of clients counts as it was read last: %s", error)
        public = key.decode()
        if public == self._own or public in self._known:
            return True
        self._tell("refused a listener: if it may listen, foilsight keys allow NAME '%s'", public)
        return False

    def _read(self, path: Path) -> None:
        try:
            about = path.stat()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        stamp = about.st_mtime_ns, about.st_size
        if stamp != self._stamp:
            self._known = frozenset(read_clients(path).values())
            self._stamp = stamp

    def _tell(self, words: str, about: object) -> None:
        """Not for each of a flood of strangers."""
        if time.monotonic() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.monotonic()
            _LOG.warning(words, about)


def present(socket: zmq.Socket[bytes], keys: ListenerKeys | None) -> None:
    """Before a listener's socket is connected."""
    if keys is not None:
        socket.curve_serverkey = keys.line.encode()
        socket.curve_publickey = keys.own.public.encode()
        socket.curve_secretkey = keys.own.secret.encode()


class Handshakes:
    """How the line answered a listener's `socket`; `check` now and then, from the socket's thread."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str, keys: ListenerKeys | None) -> None:
        self._endpoint, self._keys = endpoint, keys
        self._vain = 0
        self._monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )

    def check(self) -> None:
        """Raises EventsError where the line has refused for good: ZeroMQ does not ask again."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                public = self._keys.own.public if self._keys else ""
                raise EventsError(
                    f"{self._endpoint}: the line refuses this listener's key: on the line's machine, foilsight keys "
                    f"allow NAME '{public}'"
                )
            if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                raise EventsError(
                    f"{self._endpoint}: "
                    + (
                        "what answers there speaks without keys: leave out [events] secret_key and line_key"
                        if self._keys
                        else "the line is heard with keys only: [events] secret_key and line_key (foilsight keys make)"
                    )
                )
            self._vain = 0 if event == zmq.EVENT_HANDSHAKE_SUCCEEDED else self._vain + 1
            if self._vain == _IN_VAIN and self._keys:
                _LOG.warning("%s: what answers there has not the key of the line: check line_key", self._endpoint)


def leaves_this_machine(endpoint: str) -> bool:
    """Whether other machines can reach a socket bound there."""
    transport, _, address = endpoint.partition("://")
    host = address.rpartition(":")[0].strip("[]")
    if not address or transport in _LOCAL_TRANSPORTS or host in _LOCAL_HOSTS:
        return False
    try:
        return transport != "tcp" or not ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, or every interface: *
        return True
