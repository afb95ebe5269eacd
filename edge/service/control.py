"""Orders to a line that runs, from this machine only: who may open its socket file may give them.

One JSON object there, one back, as datagrams of a connection (SOCK_SEQPACKET). The file lies in the line's state
folder, is the line's user's own (0600), and is no address of the events.

Files that an order names come with it, opened by whoever gives it: a service sees neither their folders nor what only
that person may read.
"""

import os
import socket
import stat
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.core.errors import ConfigError, EventsError
from edge.core.reading import is_file_name, one_line

CONTROL = "control.sock"
MOST_BYTES = 8192
_PATIENCE_S = 2.0
"""Whoever connects and says nothing is not waited for."""
_POLL_S = 0.2
_LONGEST_ADDRESS = 107
_MOST_FILES = 2

FileName = Annotated[str, Meta(max_length=1024)]
Files = Mapping[str, int]
"""Descriptors of the files that came with an order, by the names it has for them."""


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`swap`: from the next strip on by `model`, by `calibration`, or both, absolute file names; `back`: by what was at
    work before; `shadow`: let `model` look on, or, where it is empty, none; `promote`: by the shadow; `show`: nothing.
    """

    do: Literal["show", "swap", "back", "shadow", "promote"]
    model: FileName = ""
    calibration: FileName = ""
    version: Literal[1] = 1

    @property
    def names(self) -> list[str]:
        """Of the files that come with it, in their order."""
        return [name for name in (self.model, self.calibration) if name]


class Comparing(msgspec.Struct, frozen=True, kw_only=True):
    """A model in the shadow and how it compares, as in `ShadowCounts`."""

    model: str
    compared: int
    left_out: int
    both: int
    only_live: int
    only_shadow: int
    problem: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is at work, by SHA-256; `next_*`: what will be from the next strip on; `before_*`: what `back` returns to,
    empty where there is nothing; `since_row`: the web row from which what is at work decides, by what has changed."""

    model: str
    calibration: str
    next_model: str = ""
    next_calibration: str = ""
    before_model: str = ""
    before_calibration: str = ""
    since_row: dict[str, int] = {}
    shadow: Comparing | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """`refused`: why nothing was done, empty where it was."""

    refused: str = ""
    standing: Standing | None = None
    version: Literal[1] = 1


Obey = Callable[[Order, Files], Answer]


def answered(data: bytes, files: Sequence[int], obey: Obey) -> bytes:
    """The answer to a message, whatever it holds and whatever came with it."""
    try:
        order = msgspec.json.decode(data, type=Order)
        for name in order.names:
            if not (is_file_name(name) and name.startswith("/")):
                raise ValueError(f"{one_line(name)!r} is not the absolute name of a file")
        return msgspec.json.encode(obey(order, dict(zip(order.names, files, strict=False))))
    except (ValueError, RecursionError) as error:  # of msgspec, or no UTF-8
        return msgspec.json.encode(Answer(refused=f"not an order: {one_line(error)}"))


class ControlServer:
    """Answers orders at `path`, one after the other, in a thread of its own.

    A message beyond `MOST_BYTES` is refused, one that does not come within two seconds is not waited for. A file left
    behind by a line that was killed is replaced. Raises EventsError where there is no listening there.
    """

    def __init__(self, path: Path, obey: Obey) -> None:
        self._path, self._obey = path, obey
        self._ending = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _clear(path)
            os.fchmod(self._socket.fileno(), 0o600)  # before there is a file: nobody else may ever open it
            self._socket.bind(str(path))
            self._socket.listen(4)
        except OSError as error:
            self._socket.close()
            reason = "the name is too long" if len(str(path)) > _LONGEST_ADDRESS else error.strerror or str(error)
            raise EventsError(f"{path}: orders cannot be taken there ({reason}): set STATE_DIRECTORY") from error
        self._socket.settimeout(_POLL_S)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, when it has answered, and remove the file."""
        self._ending.set()
        self._thread.join()
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _serve(self) -> None:
        while not self._ending.is_set():
            with suppress(TimeoutError):
                connection, _ = self._socket.accept()
                with connection, suppress(OSError):  # whoever has gone gets no answer
                    connection.settimeout(_PATIENCE_S)
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        data, files, *_ = socket.recv_fds(connection, MOST_BYTES + 1, _MOST_FILES)
        try:
            if len(data) > MOST_BYTES:
                connection.send(msgspec.json.encode(Answer(refused=f"not an order: more than {MOST_BYTES} bytes")))
            else:
                connection.send(answered(data, files, self._obey))
        finally:
            for file in files:
                os.close(file)


def _clear(path: Path) -> None:
    """Remove what a dead line has left. Raises OSError where one lives, or something else lies there."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def ask(path: Path, order: Order, patience_s: float = 300.0) -> Answer:
    """Give an order, with the files it names, to the line that listens at `path`.

    Raises ConfigError where a file cannot be opened, EventsError where no line listens, or what answers is none.
    """
    with ExitStack() as stack:
        files = [_opened(name, stack) for name in order.names]
        try:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            connection.settimeout(patience_s)
            connection.connect(str(path))
            socket.send_fds(connection, [msgspec.json.encode(order)], files)
            return msgspec.json.decode(connection.recv(1 << 20), type=Answer)
        except OSError as error:
            raise EventsError(
                f"{path}: no line takes orders there ({error.strerror or error}): is it running as a service, with "
                "this configuration, and are you its user, or root?"
            ) from error
        except (ValueError, RecursionError) as error:
            raise EventsError(f"{path}: not a Foilsight line ({one_line(error)})") from error


def _opened(name: str, stack: ExitStack) -> int:
    try:
        return stack.enter_context(Path(name).open("rb")).fileno()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror})") from error
