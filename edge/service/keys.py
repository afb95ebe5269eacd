"""`foilsight keys make | show | allow`, and which keys a configuration means."""

import os
from pathlib import Path

from edge.core.config import EventsConfig, load_config
from edge.core.errors import ConfigError
from edge.events.keys import KeyPair, LineKeys, ListenerKeys, allow_client
from edge.service.answering import EXIT_DONE

CREDENTIAL = "events.key"
"""Name of the secret key where systemd hands it over (LoadCredential=)."""


def make(out: Path) -> int:
    """Make a key pair: for a line, or for who listens to it from another machine.

    Parameters
    ----------
    out
        File for the secret key, which stays on this machine. The public key, for others, is printed.
    """
    pair = KeyPair.fresh()
    pair.write(out)
    print(pair.public)
    return EXIT_DONE


def show(key: Path) -> int:
    """Print the public key of a secret one.

    Parameters
    ----------
    key
        File that `keys make` has written.
    """
    print(KeyPair.read(key).public)
    return EXIT_DONE


def allow(name: str, public_key: str, *, config: Path) -> int:
    """Let a client listen to a line; from its next attempt on, without a restart. To shut it out, remove its line from
    the list and restart the service.

    Parameters
    ----------
    name
        What to call the client.
    public_key
        What `keys make` or `keys show` has printed on the client's machine, in single quotes.
    config
        Configuration (TOML) of the line, with the list of clients under [events] clients.
    """
    clients = load_config(config).events.clients
    if clients is None:
        raise ConfigError(f"{config}: events.clients: name the file that is to list who may listen")
    is_new = allow_client(clients, name, public_key)
    print(f"{clients}: {name} may listen" + ("" if is_new else " already"))
    return EXIT_DONE


def line_keys(events: EventsConfig) -> LineKeys | None:
    """The keys of a line, None where it has none. Raises ConfigError."""
    own = _own_pair(events)
    if own is None and events.clients is not None:
        raise ConfigError(f"{events.clients}: a list of clients wants a key of the line's own: events.secret_key")
    return None if own is None else LineKeys(own, events.clients)


def listener_keys(events: EventsConfig) -> ListenerKeys | None:
    """The keys to listen with: one's own to a line elsewhere (`line_key`), or the line's own where the configuration is
    the line's; None where it has none. Raises ConfigError."""
    own = _own_pair(events)
    if own is None and events.line_key is not None:
        raise ConfigError("events.line_key: who listens with keys wants one of his own: events.secret_key")
    return None if own is None else ListenerKeys(own, events.line_key or own.public)


def _own_pair(events: EventsConfig) -> KeyPair | None:
    if events.secret_key is not None:
        return KeyPair.read(events.secret_key)
    given = credential(CREDENTIAL)
    return None if given is None else KeyPair.read(given, is_private=False)  # systemd sees to that


def credential(name: str) -> Path | None:
    """What systemd hands over under a name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder or "", name)
    return path if folder and path.exists() else None
