"""Keys of a line and of those who listen to it, as ZeroMQ's CURVE has them: 40 characters of Z85 each.

A pair is kept as its secret half, in a file that nobody else may read; the public half follows from it. A list of
clients is a TOML file of `name = "public key"`, a line each.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import zmq

from edge.core.config import CURVE_KEY, CurveKey
from edge.core.errors import ConfigError
from edge.core.reading import read_file
from edge.core.toml_file import read_toml

_KEY, _NAME = re.compile(CURVE_KEY), re.compile(r"[0-9A-Za-z_-]+")
_FILE_BYTES = 64
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class KeyPair:
    """Both halves, in Z85."""

    public: str
    secret: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Self:
        """A new pair, whose public key no command line takes for an option."""
        while True:
            public, secret = (half.decode() for half in zmq.curve_keypair())
            if public[0].isalnum():
                return cls(public, secret)

    @classmethod
    def read(cls, path: Path, is_private: bool = True) -> Self:
        """The pair whose secret half is in a file; `is_private`: refuse one that others may read.

        Raises ConfigError.
        """
        secret = read_file(path, _FILE_BYTES, ConfigError).decode("ascii", "replace").strip()
        if is_private and path.stat().st_mode & _OTHERS:
            raise ConfigError(f"{path}: others may read this secret key: chmod 600 {path}")
        if not _KEY.match(secret):
            raise ConfigError(f"{path}: not a secret key: foilsight keys make {path}.new  makes one")
        return cls(zmq.curve_public(secret.encode()).decode(), secret)

    def write(self, path: Path) -> None:
        """Keep the secret half in a new file that only its owner may read. Raises ConfigError."""
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{self.secret}\n")
        except OSError as error:
            raise ConfigError(f"{path}: a key cannot be kept there ({error.strerror}): name another file") from error


@dataclass(frozen=True)
class LineKeys:
    """What a line that speaks CURVE needs: its own pair, and the list of clients; without one only who has the line's
    own pair may listen."""

    own: KeyPair
    clients: Path | None = None


@dataclass(frozen=True)
class ListenerKeys:
    """What a listener needs: its own pair, and the public key of the line, which nobody else can pretend to be."""

    own: KeyPair
    line: str


def read_clients(path: Path) -> dict[str, str]:
    """Public key by name of client. Raises ConfigError."""
    return read_toml(path, dict[str, CurveKey], ConfigError)


def allow_client(path: Path, name: str, public: str) -> bool:
    """Add a client to a list, which is begun where there is none; False where it stands there already.

    Raises ConfigError where the name is another client's, or name or key are none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: a client's name has letters, digits, _ and - only")
    if not _KEY.match(public):
        raise ConfigError(f"{public!r}: not a public key: it has 40 characters, as  foilsight keys show  tells it")
    known = read_clients(path) if path.exists() else {}
    if name in known:
        if known[name] == public:
            return False
        raise ConfigError(f"{path}: {name} is there with another key: remove that line, or choose another name")
    try:
        with path.open("a+b") as file:
            file.write(f'{"" if _ends_a_line(path) else chr(10)}{name} = "{public}"\n'.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
    return True


def _ends_a_line(path: Path) -> bool:
    data = path.read_bytes()
    return not data or data.endswith(b"\n")
