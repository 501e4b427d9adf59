"""A vector cache in a SQLite file, shared by many threads and processes of one machine."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vecferry.transforms.embed.cache.store import (
    KEPT_SHARE,
    DamagedError,
    MissingError,
    StoreError,
    StoreStats,
    day_text,
    today,
)

BUSY_SECONDS = 30.0
PAGE_BYTES = 16 << 10
"""Large enough for a vector or more, which otherwise lies in pieces that are read one by one."""
MEMORY_BYTES = 8 << 20
"""What SQLite may keep of the file, so that a block of vectors reads no page twice."""
_KEYS_AT_ONCE = 500  # in a statement: SQLite's oldest limit is 999 parameters
_REMOVED_AT_ONCE = 200  # few, for those who wait, and so as not to remove much too much
_COLUMNS = {"key", "vector", "used"}

log = logging.getLogger(__name__)

_MAGIC = b"SQLite format 3\x00"
_SUFFIXES = frozenset({".db", ".sqlite", ".sqlite3"})
"""By such a name a file without SQLite's beginning is taken for a cache that was damaged."""


class SqliteBackend:
    """The table `vectors` of a SQLite file. A damaged file is set aside with a warning."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        _require_cache(path)
        if not create:
            self._db = self._open_existing()
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise StoreError(f"can't make its folder: {e}", final=True) from e
        try:
            self._db = self._open()
        except DamagedError as e:
            self._set_aside(e)
            self._db = self._open()
        self._inode = path.stat().st_ino

    def get_many(self, keys: Sequence[bytes], size: int) -> dict[bytes, bytes]:
        """The values found, by key."""
        found: dict[bytes, bytes] = {}
        stale: list[tuple[int, bytes]] = []
        day = today()
        with self._lock, self._in_use():
            for at in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[at : at + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                for key, value, used in self._db.execute(
                    f"SELECT key, vector, used FROM vectors WHERE key IN ({marks})", some
                ):
                    # Damage makes other types of both.
                    found[key] = value if type(value) is bytes else str(value).encode()
                    if type(used) is not int or used < day:
                        stale.append((day, key))
            if stale:
                self._mark(stale)
        return found

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """The keys that have values; marks none as used."""
        found: set[bytes] = set()
        with self._lock, self._faults():
            for at in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[at : at + _KEYS_AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"SELECT key FROM vectors WHERE key IN ({marks})", some)
                found.update(key for (key,) in rows)
        return found

    def _mark(self, used: list[tuple[int, bytes]]) -> None:
        """Notes the day of use; a full disk or a barred file is read all the same."""
        try:
            with self._db:
                self._db.executemany("UPDATE vectors SET used = ? WHERE key = ?", used)
        except sqlite3.Error as e:
            if not _unwritable(e):
                raise

    def put_many(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Keeps values under their keys."""
        rows = [(key, value, today()) for key, value in items]
        with self._lock, self._in_use(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    def stats(self) -> StoreStats:
        """How much it holds, and since when."""
        with self._lock, self._faults():
            row = self._db.execute("SELECT count(*), min(used) FROM vectors").fetchone()
            return StoreStats(row[0], self._size(), day_text(row[1]))

    def prune(self, max_bytes: int) -> int:
        """Removes what was not used for longest until the file fits; gives how many went."""
        gone = 0
        with self._lock, self._faults():
            size = self._size()
        if size <= max_bytes:
            return gone
        while size > KEPT_SHARE * max_bytes:
            with self._lock, self._faults():
                removed = self._remove_oldest(size - KEPT_SHARE * max_bytes)
                size = self._size()
            if not removed:
                break
            gone += removed
        with self._lock, self._faults():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return gone

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._db.close()

    def _remove_oldest(self, excess: float) -> int:
        """Removes some of the entries unused for longest, about `excess` bytes; how many went."""
        with self._db:
            oldest = self._db.execute(
                "SELECT key, length(vector) FROM vectors ORDER BY used, key LIMIT ?",
                (_REMOVED_AT_ONCE,),
            ).fetchall()
            going = []
            for key, size in oldest:
                if excess <= 0:
                    break
                going.append((key,))
                excess -= size
            self._db.executemany("DELETE FROM vectors WHERE key = ?", going)
        self._db.executescript("PRAGMA incremental_vacuum")  # execute() would take one page
        return len(going)

    def _open_existing(self) -> sqlite3.Connection:
        if not self.path.exists():
            folder = self.path.absolute().parent
            while not folder.exists():
                folder = folder.parent
            if not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise StoreError(f"{folder} is not a folder that can be written to")
            raise MissingError("this file does not exist")
        if not os.access(self.path, os.R_OK | os.W_OK) or not self.path.is_file():
            raise StoreError("is not a file that can be read and written: check its rights")
        db = self._connect("rw")
        try:
            with self._faults():
                self._require_ours(db, empty=False)
        except BaseException:
            db.close()
            raise
        return db

    def _open(self) -> sqlite3.Connection:
        db = self._connect("rwc")
        try:
            with self._faults():
                self._require_ours(db, empty=True)
                db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a file that is made now
                db.execute(f"PRAGMA cache_size = {-(MEMORY_BYTES >> 10)}")
                db.execute("PRAGMA auto_vacuum = INCREMENTAL")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = NORMAL")
                with db:
                    db.execute(
                        "CREATE TABLE IF NOT EXISTS vectors "
                        "(key BLOB PRIMARY KEY, vector BLOB NOT NULL, used INTEGER NOT NULL)"
                    )
                    db.execute("CREATE INDEX IF NOT EXISTS by_use ON vectors (used)")
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        with self._faults():
            return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)

    def _require_ours(self, db: sqlite3.Connection, *, empty: bool) -> None:
        """StoreError where a database is somebody else's; MissingError also for an empty one."""
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        columns = {row[1] for row in db.execute("PRAGMA table_info(vectors)")}
        if not tables and not empty:
            raise MissingError("the file is empty")
        if columns != _COLUMNS and tables:
            raise StoreError("is a database of something else, no vector cache", final=True)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns SQLite's errors into ours."""
        try:
            yield
        except UnicodeDecodeError as e:  # of a text in the schema, or in the place of a value
            raise DamagedError(f"is damaged: {e}", final=True) from e
        except sqlite3.Error as e:
            if type(e) is sqlite3.DatabaseError:  # its subclasses are other faults
                raise DamagedError(f"is damaged: {e}", final=True) from e
            unwritable = _unwritable(e)
            raise StoreError(str(e), reads=unwritable, final=not unwritable) from e

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Sets the file aside where it proves damaged, lest each run to come fail on it."""
        try:
            with self._faults():
                yield
        except DamagedError as e:
            self._db.close()
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                self._set_aside(e)
            raise

    def _set_aside(self, e: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}-{os.getpid()}")
        log.warning("vector cache %s %s: set aside as %s", self.path, e, aside.name)
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")

    def _size(self) -> int:
        """The bytes of the pages in use."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _require_cache(path: Path) -> None:
    """Raises StoreError for a file that is not a cache, neither by content nor by name."""
    if path.suffix.lower() in _SUFFIXES or not path.is_file():
        return
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC))
    if begin and begin != _MAGIC:
        raise StoreError(
            "is not a SQLite file, so it is left alone: name another file, one that ends in .db",
            final=True,
        )


def _unwritable(e: sqlite3.Error) -> bool:
    return "full" in str(e) or "readonly" in str(e)
