"""The vector cache: vectors kept between runs, found by what they depend on.

A key is the digest of provider, model, dimension, parameters and input, so that a changed model
never meets an old vector. Losing the cache costs requests, never rows: a damaged file is set aside,
and a cache that fails while a job runs is left out of it, each with a warning.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from vecferry.errors import JobError
from vecferry.transforms.endpoints.base import Vector

MAX_BYTES = 4 << 30
"""Size past which the vectors that were not used for longest are removed."""
BUSY_SECONDS = 30.0
DAY = 86_400
_AT_ONCE = 500  # keys in a statement: SQLite's oldest limit is 999 parameters

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a vector cache holds; `oldest` is the day of last use of its oldest entry, or None."""

    entries: int
    bytes: int
    oldest: str | None


def sqlite_path(uri: str) -> Path:
    """The file that ``sqlite:///path`` means (four slashes for an absolute one); JobError else."""
    parts = urlsplit(uri)
    if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
        raise JobError(
            f"vectorCache uri {uri!r} is not one that can be used: write sqlite:///folder/cache.db "
            "(from the current folder), or sqlite:////folder/cache.db"
        )
    return Path(parts.path[1:])


class VectorStore:
    """Vectors in a SQLite file, shared by many threads and processes of one machine."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._lock = threading.Lock()
        self._broken = False
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as e:
            if isinstance(e, sqlite3.OperationalError):
                raise JobError(f"vector cache {path}: {e}: check the folder's rights") from e
            self._set_aside(e)
            self._db = self._open()
        self.prune()

    def get_many(self, keys: Sequence[bytes], dimension: int) -> dict[bytes, Vector]:
        """The vectors found, by key; each read-only float32 of shape (dimension,)."""
        found: dict[bytes, Vector] = {}
        today = int(time.time()) // DAY
        stale: list[bytes] = []

        def read() -> None:
            for at in range(0, len(keys), _AT_ONCE):
                some = keys[at : at + _AT_ONCE]
                marks = ",".join("?" * len(some))
                for key, blob, used in self._db.execute(
                    f"SELECT key, vector, used FROM vectors WHERE key IN ({marks})", some
                ):
                    if len(blob) == 4 * dimension:
                        found[key] = np.frombuffer(blob, dtype="<f4")
                        if used < today:
                            stale.append(key)
            if stale:
                with self._db:
                    pairs = [(today, key) for key in stale]
                    self._db.executemany("UPDATE vectors SET used = ? WHERE key = ?", pairs)

        self._try(read)
        return found

    def put_many(self, items: Iterable[tuple[bytes, Vector]]) -> None:
        """Keeps vectors under their keys."""
        today = int(time.time()) // DAY
        rows = [(key, vector.astype("<f4", copy=False).tobytes(), today) for key, vector in items]

        def write() -> None:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

        self._try(write)

    def stats(self) -> StoreStats:
        """How much it holds, and since when."""
        with self._lock:
            row = self._db.execute("SELECT count(*), min(used) FROM vectors").fetchone()
            size = self._size()
        oldest = None if row[1] is None else time.strftime("%Y-%m-%d", time.gmtime(row[1] * DAY))
        return StoreStats(row[0], size, oldest)

    def prune(self, max_bytes: int | None = None) -> int:
        """Removes what was not used for longest until the file fits; gives how many went."""
        most = self.max_bytes if max_bytes is None else max_bytes
        with self._lock:
            size, entries = self._size(), self._count()
            if size <= most or not entries:
                return 0
            going = min(entries, int(entries * (1 - 0.9 * most / size)) + 1)
            with self._db:
                self._db.execute(
                    "DELETE FROM vectors WHERE key IN "
                    "(SELECT key FROM vectors ORDER BY used, key LIMIT ?)",
                    (going,),
                )
            self._db.executescript("PRAGMA incremental_vacuum")  # execute() would take one page
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return going

    def close(self) -> None:
        """Removes what is too much, and lets go of the file."""
        if not self._broken:
            try:
                self.prune()
            except sqlite3.Error as e:
                log.warning("vector cache %s: %s", self.path, e)
        with self._lock:
            self._db.close()
            self._broken = True

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        try:
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

    def _set_aside(self, e: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}-{os.getpid()}")
        log.warning("vector cache %s is damaged (%s): set aside as %s", self.path, e, aside.name)
        for suffix in ("", "-wal", "-shm"):
            part = Path(f"{self.path}{suffix}")
            if part.exists():
                part.rename(f"{aside}{suffix}")

    def _try(self, action: Any) -> None:
        with self._lock:
            if self._broken:
                return
            try:
                action()
            except sqlite3.DatabaseError as e:
                damaged = not isinstance(e, sqlite3.OperationalError)
                self._broken = True
                self._db.close()
                if damaged:
                    self._set_aside(e)
                log.warning("vector cache %s fails, this run goes on without it: %s", self.path, e)

    def _size(self) -> int:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        return int(pages) * int(self._db.execute("PRAGMA page_size").fetchone()[0])

    def _count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM vectors").fetchone()[0])
