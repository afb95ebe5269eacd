"""The outbox: a SQLite file in which every event stands, numbered, before anybody is told of it.

Write-ahead log with synchronous=FULL: what `append` has returned survives a crash and a power cut.
"""

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.core.errors import EventsError
from edge.events.envelope import Body, Envelope, Heartbeat, Origin, decode, encode, envelope

_APPLICATION_ID = 0x464F494C
_LOCKED_S = 1.0
_PAGE = 500
_PAGE_AFTER = "SELECT payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events"


class Outbox:
    """Events on disk, numbered from 1 without gaps; reopening the file goes on with its stream and number.

    One process writes, any may read (`OutboxReader`). `path` is the file, `stream` its UUID. Raises EventsError where
    the file cannot be opened, is not an outbox, is locked by another process, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with _explained(self.path, "opened"):
            self._db = sqlite3.connect(path, timeout=_LOCKED_S, isolation_level=None, check_same_thread=False)
        try:
            with _explained(self.path, "opened"):
                self._prepare()
        except EventsError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._transaction():
            if self._scalar("PRAGMA application_id") != _APPLICATION_ID:
                if self._scalar("SELECT count(*) FROM sqlite_master"):
                    raise EventsError(f"{self.path}: a database, but not an outbox: name another file")
                self._db.execute("CREATE TABLE meta (stream TEXT NOT NULL)")
                self._db.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, topic TEXT, payload BLOB)")
                self._db.execute("INSERT INTO meta VALUES (?)", (str(uuid.uuid4()),))
                self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            self.stream = str(self._scalar("SELECT stream FROM meta"))
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")

    @property
    def last_seq(self) -> int:
        """The number of the last event, 0 where there is none."""
        with self._lock, _explained(self.path, "read"):
            return self._last_seq()

    def append(self, *bodies: Body, origin: Origin) -> list[Envelope]:
        """Writes events in one transaction, all or none, and returns them with their numbers. Raises EventsError."""
        with self._lock, _explained(self.path, "written"), self._transaction():
            first = self._last_seq() + 1
            events = [envelope(body, origin, self.stream, seq) for seq, body in enumerate(bodies, first)]
            self._db.executemany(
                "INSERT INTO events VALUES (?, ?, ?)", [(event.seq, event.topic, encode(event)) for event in events]
            )
        return events

    def since(self, seq: int) -> Iterator[Envelope]:
        """The events after number `seq`, in order. Raises EventsError."""
        while True:
            with self._lock, _explained(self.path, "read"):
                rows = self._db.execute(_PAGE_AFTER, (seq, _PAGE)).fetchall()
            if not rows:
                return
            for (payload,) in rows:
                event = decode(payload)
                assert not isinstance(event, Heartbeat)
                seq = event.seq
                yield event

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_seq(self) -> int:
        return int(str(self._scalar(_LAST_SEQ)))

    def _scalar(self, query: str) -> object:
        (value,) = self._db.execute(query).fetchone()
        return value

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


class OutboxReader:
    """Reads, on a connection of its own, an outbox that another thread or process may be writing to.

    One thread at a time. Raises EventsError where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _explained(path, "opened"):
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
            )
        try:
            with _explained(path, "read"):
                (self.stream,) = self._db.execute("SELECT stream FROM meta").fetchone()
        except EventsError:
            self._db.close()
            raise

    def page(self, seq: int, limit: int) -> tuple[list[bytes], int]:
        """At most `limit` events after number `seq`, encoded, and the last number there is. Raises EventsError."""
        with _explained(self._path, "read"):
            payloads = [payload for (payload,) in self._db.execute(_PAGE_AFTER, (seq, limit))]
            (last_seq,) = self._db.execute(_LAST_SEQ).fetchone()
        return payloads, int(last_seq)

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


@contextmanager
def _explained(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise EventsError(
            f"{path}: outbox cannot be {doing} ({error}): check the folder, its free space, who may write there, and "
            "that no other Foilsight uses it"
        ) from error
