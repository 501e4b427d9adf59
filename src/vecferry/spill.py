"""Rows on disk, given back by their keys: what is too many for memory, met side by side.

Rows of two sides come in any order. They leave grouped by key: SQLite sorts them in a file of its
own, in constant memory. So nobody relies on an order that both sides would have in common.

Stands apart from `vecferry.io.sink.reconcile` because a run compares a source and a target by it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import threading
from collections.abc import Hashable, Iterator
from hashlib import blake2b
from itertools import groupby
from types import TracebackType
from typing import NamedTuple, Self

from vecferry.errors import JobError

DIGEST_BYTES = 16
"""Of a key: two of a billion keys are one with a chance of 1 in 10^21."""
SEEN_IN_MEMORY = 500_000
"""Keys that `SeenKeys` holds in memory, about 50 MB; more are on disk."""
_CACHE_KIB = 16 << 10
_AT_ONCE = 1000


class Met(NamedTuple):
    """What both sides said of one key; each in the order in which it came, empty if nothing."""

    digest: bytes
    left: list[bytes]
    right: list[bytes]


class Spill:
    """A file that lives as long as this object, in the folder for temporary files.

    Each call raises JobError where the disk is full or can't be written.
    """

    def __init__(self) -> None:
        self._folder = _folder()
        self._rows: list[tuple[bytes, int, bytes]] = []
        self._db = _database(self._folder.name)
        self._db.execute("CREATE TABLE met (digest BLOB, side INTEGER, data BLOB)")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def left(self, key: Hashable, data: bytes = b"") -> None:
        """Adds what the left side says of a key."""
        self._add(key, 0, data)

    def right(self, key: Hashable, data: bytes = b"") -> None:
        """Adds what the right side says of a key."""
        self._add(key, 1, data)

    def meet(self) -> Iterator[Met]:
        """All keys, each once, in an order of no meaning; nothing may be added any more."""
        with _told():
            self._flush()
            found = self._db.execute("SELECT digest, side, data FROM met ORDER BY digest, side")
            for digest, rows in groupby(found, lambda row: row[0]):
                sides: tuple[list[bytes], list[bytes]] = ([], [])
                for _, side, data in rows:
                    sides[side].append(data)
                yield Met(digest, *sides)

    def close(self) -> None:
        """Removes the file."""
        self._db.close()
        self._folder.cleanup()

    def _add(self, key: Hashable, side: int, data: bytes) -> None:
        self._rows.append((digest_of(key), side, data))
        if len(self._rows) >= _AT_ONCE:
            with _told():
                self._flush()

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO met VALUES (?, ?, ?)", self._rows)
        self._rows.clear()


class SeenKeys:
    """The keys that were seen so far: the last ones in memory, the others in a file.

    Threads may share it. The file is made once there are too many keys for memory.
    """

    def __init__(self, in_memory: int = SEEN_IN_MEMORY) -> None:
        self._most = in_memory
        self._recent: set[bytes] = set()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def add(self, key: Hashable) -> bool:
        """Whether a key is new; it is not new the next time. Raises JobError for a full disk."""
        digest = digest_of(key)
        with self._lock:
            if digest in self._recent:
                return False
            if self._db is not None and self._stored(self._db, digest):
                return False
            self._recent.add(digest)
            if len(self._recent) >= self._most:
                with _told():
                    self._store()
            return True

    def _stored(self, db: sqlite3.Connection, digest: bytes) -> bool:
        with _told():
            found = db.execute("SELECT 1 FROM seen WHERE digest = ?", (digest,)).fetchone()
        return found is not None

    def _store(self) -> None:
        if self._db is None:
            self._folder = _folder()
            self._db = _database(self._folder.name, shared=True)
            self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
            self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO seen VALUES (?)", [(d,) for d in sorted(self._recent)])
        self._recent.clear()

    def close(self) -> None:
        """Forgets all keys, and removes the file."""
        with self._lock:
            self._recent.clear()
            if self._db is not None and self._folder is not None:
                self._db.close()
                self._folder.cleanup()
                self._db = self._folder = None


class Findings:
    """What was found of keys, on disk, to be asked for by the key; otherwise as `Spill`."""

    def __init__(self) -> None:
        self._folder = _folder()
        self._db = _database(self._folder.name)
        self._db.execute(
            "CREATE TABLE found (digest BLOB PRIMARY KEY, kind TEXT, key BLOB, told TEXT,"
            " family BLOB) WITHOUT ROWID"
        )
        self._db.execute("CREATE INDEX families ON found (family) WHERE family != x''")
        self._db.execute("BEGIN")

    def add(self, digest: bytes, kind: str, key: str, told: str = "", family: bytes = b"") -> None:
        """Adds what was found of a key, and what a person is told of it.

        `key` is a text that its caller reads again. What was found of the key before is replaced.
        Keys of one `family` can be taken together.
        """
        row = (digest, kind, _bytes(key), told, family)
        with _told():
            self._db.execute("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?)", row)

    def take(self, digest: bytes) -> list[tuple[bytes, str, str]]:
        """Removes what was found of a key; gives the digest, the kind and the key, if anything."""
        return self._taken("digest = ?", digest)

    def take_family(self, family: bytes) -> list[tuple[bytes, str, str]]:
        """The same for all keys of a family."""
        return self._taken("family = ? AND family != x''", family)

    def _taken(self, which: str, value: bytes) -> list[tuple[bytes, str, str]]:
        with _told():
            found = self._db.execute(
                f"DELETE FROM found WHERE {which} RETURNING digest, kind, key", (value,)
            ).fetchall()
        return [(at, kind, key.decode("utf-8", "surrogatepass")) for at, kind, key in found]

    def some(self, kind: str, most: int) -> list[tuple[str, str]]:
        """At most so many keys of which this was found, and what is told of each."""
        with _told():
            found = self._db.execute(
                "SELECT key, told FROM found WHERE kind = ? LIMIT ?", (kind, most)
            ).fetchall()
        return [(key.decode("utf-8", "surrogatepass"), told) for key, told in found]

    def kind_of(self, digest: bytes) -> str | None:
        """What was found of a key; None if nothing."""
        with _told():
            found = self._db.execute("SELECT kind FROM found WHERE digest = ?", (digest,))
            row = found.fetchone()
        return None if row is None else str(row[0])

    def keys(self, kind: str) -> Iterator[str]:
        """The keys of which this was found."""
        with _told():
            for (key,) in self._db.execute("SELECT key FROM found WHERE kind = ?", (kind,)):
                yield key.decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Removes the file."""
        self._db.close()
        self._folder.cleanup()


def _folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="vecferry-spill-")
    except OSError as e:
        raise _no_room(e) from e


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _database(folder: str, *, shared: bool = False) -> sqlite3.Connection:
    """A database that nobody else opens, and that need not outlive this process.

    If it is `shared`, several threads use it, one at a time.
    """
    db = sqlite3.connect(f"{folder}/rows.db", isolation_level=None, check_same_thread=not shared)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
        db.execute(f"PRAGMA {pragma}")
    return db


def digest_of(key: Hashable) -> bytes:
    """What a key of whole numbers, texts, None and tuples of such is called in a spill."""
    return blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise _no_room(e) from e


def _no_room(error: Exception) -> JobError:
    return JobError(
        f"rows can't be kept on disk in {tempfile.gettempdir()}: {error}; make room there, or name "
        "another folder by TMPDIR (and SQLITE_TMPDIR)"
    )
