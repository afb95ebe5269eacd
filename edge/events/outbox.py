"""The outbox: a SQLite file in which every event stands, numbered, before anybody is told of it.

Write-ahead log with synchronous=FULL: what `append` has returned survives a crash and a power cut.
Numbers are never used twice: however small the outbox is kept, its last event stays.
"""

import sqlite3
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.core.errors import EventsError
from edge.events.envelope import Body, Envelope, Heartbeat, Origin, decode, encode, envelope

_APPLICATION_ID = 0x464F494C
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED_S = 1.0
_BATCH = 100
_PAGE_AFTER = "SELECT payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
_DELETE_OLDEST = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE seq < ? ORDER BY seq LIMIT ?)"
_LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events"


class Outbox:
    """Events on disk, numbered from 1 without gaps; reopening the file goes on with its stream and number.

    `keep_mb` bounds the file: where it would grow beyond, the oldest events are deleted, and whoever asks for them is
    told by the numbers. None keeps every event. A file that is larger when opened does not shrink, but does not grow.

    One process writes, any may read (`OutboxReader`). `path` is the file, `stream` its UUID. Raises EventsError where
    the file cannot be opened, is not an outbox, is locked by another process, damaged, or cannot be written. What could
    not be written has no number: it may be appended again.
    """

    def __init__(self, path: Path, keep_mb: float | None = None) -> None:
        self.path = path
        self._keep_bytes = float("inf") if keep_mb is None else keep_mb * 1e6
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
            self._delete_oldest(before=self._last_seq())
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
            self._delete_oldest(before=first)
        return events

    def since(self, seq: int) -> Iterator[Envelope]:
        """The events after number `seq` that are still kept, in order. Raises EventsError."""
        while True:
            with self._lock, _explained(self.path, "read"):
                rows = self._db.execute(_PAGE_AFTER, (seq, _BATCH)).fetchall()
            if not rows:
                return
            for (payload,) in rows:
                event = self._decoded(payload)
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

    def _decoded(self, payload: bytes) -> Envelope:
        try:
            event = decode(payload)
        except EventsError as error:
            raise EventsError(f"{self.path}: an event in the outbox is damaged: {error}") from error
        assert not isinstance(event, Heartbeat)
        return event

    def _delete_oldest(self, before: int) -> None:
        while self._used_bytes() > self._keep_bytes:
            if self._db.execute(_DELETE_OLDEST, (before, _BATCH)).rowcount == 0:
                return

    def _used_bytes(self) -> int:
        pages = self._number("PRAGMA page_count") - self._number("PRAGMA freelist_count")
        return pages * self._number("PRAGMA page_size")

    def _last_seq(self) -> int:
        return self._number(_LAST_SEQ)

    def _number(self, query: str) -> int:
        return int(str(self._scalar(query)))

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

    def page(self, seq: int, limit: int, limit_bytes: int) -> tuple[list[bytes], int]:
        """Events after number `seq`, encoded, and the last number there is. Raises EventsError.

        At most `limit` events, and none after the one that brings them to `limit_bytes`.
        """
        payloads: list[bytes] = []
        with _explained(self._path, "read"), closing(self._db.execute(_PAGE_AFTER, (seq, limit))) as rows:
            for (payload,) in rows:
                payloads.append(payload)
                limit_bytes -= len(payload)
                if limit_bytes <= 0:
                    break
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
        what_to_do = (
            "the file is damaged: move it away, a fresh one is begun in its place"
            if getattr(error, "sqlite_errorcode", None) in _DAMAGED
            else "check the folder, its free space, who may write there, and that no other Foilsight uses it"
        )
        raise EventsError(f"{path}: outbox cannot be {doing} ({error}): {what_to_do}") from error
