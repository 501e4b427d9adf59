"""The vector cache as a run uses it, over the place that keeps its values.

A thread puts vectors into it, so that whoever fetched them can go on at once.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeVar

import numpy as np

from vecferry.errors import JobError
from vecferry.transforms.embed.cache.settings import VectorCacheSettings, shown_uri, sqlite_path
from vecferry.transforms.embed.endpoints.base import Vector

AWAY_SECONDS = 60.0
"""How long a cache that failed is left alone before it is tried again."""
DAY = 86_400
SEAL_BYTES = 8
"""What stands behind each vector: `MARK`, and the CRC-32 of key, vector and mark."""
MARK = b"crc\0"
KEPT_SHARE = 0.9
"""How much of its size a cache keeps when it is pruned, so that it need not be at once again."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class StoreError(Exception):
    """A vector cache can't do what it was asked; the text says why, without a secret.

    `reads` tells that it can still be read, `final` that trying again is useless.
    """

    def __init__(self, why: str, *, reads: bool = False, final: bool = False) -> None:
        super().__init__(why)
        self.reads, self.final = reads, final


class MissingError(StoreError):
    """The place has no vector cache yet."""


class DamagedError(StoreError):
    """What is there can't be read, and will be set aside by the run that uses it."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a vector cache holds; `oldest` is the day of last use of its oldest entry, or None."""

    entries: int
    bytes: int
    oldest: str | None


class Backend(Protocol):
    """Where a vector cache keeps its values; used by many threads and processes at once.

    Each method raises StoreError where the place fails.
    """

    def get_many(self, keys: Sequence[bytes], size: int) -> dict[bytes, bytes]:
        """The values found, by key, and marks them as used today; `size` is what each should be."""

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """The keys that have values; marks none as used."""

    def put_many(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Keeps values under their keys, in place of what is there."""

    def stats(self) -> StoreStats:
        """How much it holds, and since when."""

    def prune(self, max_bytes: int) -> int:
        """Removes what was not used for longest until it fits; gives how many went."""

    def close(self) -> None:
        """Lets go of files and connections."""


def today() -> int:
    """The number of this day; what was used on one day is equally old."""
    return int(time.time()) // DAY


def day_text(day: int | float | None) -> str | None:
    """A day's number as a date, ``2026-11-21``."""
    return None if day is None else time.strftime("%Y-%m-%d", time.gmtime(day * DAY))


def open_backend(uri: str, *, create: bool) -> Backend:
    """The place at a vector cache's URI; StoreError where it can't be used.

    Without `create` nothing is made, and a file that does not exist is a MissingError. Raises
    JobError if the client that is needed isn't installed.
    """
    if uri.startswith("sqlite:"):
        from vecferry.transforms.embed.cache.sqlite import SqliteBackend

        return SqliteBackend(sqlite_path(uri), create=create)
    from vecferry.transforms.embed.cache.redis import RedisBackend

    return RedisBackend(uri)


class Held:
    """What a vector cache holds already, for an estimate: nothing is made, and nothing marked.

    A cache that is missing or that fails holds nothing; a failure is told by one warning.
    """

    def __init__(self, settings: VectorCacheSettings) -> None:
        self._settings = settings
        self._open: Backend | None = None
        self._failed = False

    def of(self, keys: Sequence[bytes]) -> set[bytes]:
        """Those of the keys that have values."""
        if self._failed:
            return set()
        try:
            if self._open is None:
                self._open = open_backend(self._settings.uri, create=False)
            return self._open.holds(keys)
        except MissingError:
            self._failed = True
        except StoreError as e:
            self._failed = True
            shown = shown_uri(self._settings.uri)
            log.warning("vector cache %s: %s: the estimate leaves it out", shown, e)
        return set()

    def close(self) -> None:
        """Lets go of files and connections."""
        if self._open is not None:
            self._open.close()


class _Breaker:
    """Whether something may be tried: not for a while after it failed, and then by one thread."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        if not self._until:
            return True
        with self._lock:
            if time.monotonic() < self._until:
                return False
            self._until = time.monotonic() + AWAY_SECONDS
            return True

    def trip(self, *, final: bool) -> None:
        with self._lock:
            self._until = math.inf if final else time.monotonic() + AWAY_SECONDS

    def heal(self) -> None:
        if self._until:
            self._until = 0.0


class VectorStore:
    """A vector cache as a run uses it: whatever fails in it costs requests, never rows.

    Opened on first use, by any thread; a failure is told once, by a warning.
    """

    def __init__(self, settings: VectorCacheSettings) -> None:
        self._settings = settings
        self.shown = shown_uri(settings.uri)
        self._lock = threading.Lock()
        self._pruning = threading.Lock()
        self._open: Backend | None = None
        self._closed = False
        self._all, self._writes = _Breaker(), _Breaker()
        self._told: set[str] = set()
        self._damaged = 0
        self._writer = Writer(self._write)
        self._unpruned = 0
        self._slack = max(settings.max_bytes // 16, 1 << 20)

    def check(self) -> None:
        """Tries to open it without making anything; JobError where a run could not use it."""
        try:
            open_backend(self._settings.uri, create=False).close()
        except (MissingError, DamagedError):
            return  # the run makes it; what is damaged it sets aside
        except StoreError as e:
            raise JobError(f"vector cache {self.shown}: {e}") from e

    def get_many(self, keys: Sequence[bytes], dimension: int) -> dict[bytes, Vector]:
        """The vectors found, by key; each read-only float32 of shape (dimension,)."""
        size = 4 * dimension + SEAL_BYTES
        blobs = self._try(lambda backend: backend.get_many(keys, size), self._all)
        found: dict[bytes, Vector] = {}
        if not blobs:
            return found
        crc32, frombuffer = zlib.crc32, np.frombuffer
        for key, blob in blobs.items():
            # The hot loop of a run that knows all: no copy, and no call that can be spared.
            sealed = len(blob) == size and crc32(blob, crc32(key)) == _RESIDUE
            if sealed or _is_older(key, blob, size):
                found[key] = frombuffer(blob, _FLOAT32, dimension)
            else:
                self._tell_damaged(key, blob, dimension)
        return found

    def _tell_damaged(self, key: bytes, blob: bytes, dimension: int) -> None:
        with self._lock:
            self._damaged += 1
        whole = len(blob) == 4 * dimension + SEAL_BYTES
        fault = "a wrong checksum, or numbers that are none," if whole else f"{len(blob)} bytes"
        self._tell(
            "damaged",
            f"has a damaged value, {fault} where {dimension} numbers and their checksum are due: "
            "such values are passed over and made anew",
        )

    def take_damaged(self) -> int:
        """How many values were found damaged since this was asked last."""
        if not self._damaged:
            return 0
        with self._lock:
            damaged, self._damaged = self._damaged, 0
        return damaged

    def put_many(self, items: Iterable[tuple[bytes, Vector]]) -> None:
        """Keeps vectors under their keys."""
        self._write(_blobs(items))

    def put_later(self, items: Iterable[tuple[bytes, Vector]]) -> None:
        """Lets a thread keep vectors, by `close` at the latest; waits only while it is behind."""
        self._writer.put(_blobs(items))

    def close(self) -> None:
        """Writes what waits, removes what is too much, and lets go of files and connections."""
        self._writer.close()
        with self._lock:
            self._closed = True
            backend, self._open = self._open, None
        if backend is None:
            return
        try:
            if self._all.allows() and self._writes.allows():
                backend.prune(self._settings.max_bytes)
        except StoreError as e:
            log.warning("vector cache %s: %s", self.shown, e)
        finally:
            backend.close()

    def _write(self, blobs: list[tuple[bytes, bytes]]) -> None:
        if not blobs:
            return
        self._try(lambda backend: backend.put_many(blobs), self._all, self._writes)
        self._unpruned += sum(len(blob) for _, blob in blobs)  # a lost addition does no harm
        if self._unpruned >= self._slack:
            self._prune()

    def _prune(self) -> None:
        if not self._pruning.acquire(blocking=False):
            return
        try:
            self._unpruned = 0
            most = self._settings.max_bytes
            self._try(lambda backend: backend.prune(most), self._all, self._writes)
        finally:
            self._pruning.release()

    def _backend(self) -> Backend | None:
        with self._lock:
            if self._open is None and not self._closed:
                self._open = open_backend(self._settings.uri, create=True)
            return self._open

    def _try(self, action: Callable[[Backend], T], *breakers: _Breaker) -> T | None:
        """What `action` gives, or None where the cache is closed, away or fails."""
        if not all(breaker.allows() for breaker in breakers):
            return None
        try:
            backend = self._backend()
            result = None if backend is None else action(backend)
        except (StoreError, JobError) as error:
            # A JobError: its client isn't installed here, though the launcher had it.
            e = error if isinstance(error, StoreError) else StoreError(str(error), final=True)
            if self._closed:
                return None
            if e.reads:
                self._writes.trip(final=e.final)
                self._tell("writes", f"takes no vectors ({e}): this run only reads from it")
            else:
                self._all.trip(final=e.final)
                again = "" if e.final else ", and tries it again from time to time"
                self._tell("all", f"fails ({e}): this run goes on without it{again}")
            return None
        for breaker in breakers:
            breaker.heal()
        return result

    def _tell(self, what: str, message: str) -> None:
        with self._lock:
            new = what not in self._told
            self._told.add(what)
        if new:
            log.warning("vector cache %s %s", self.shown, message)


def seal(key: bytes, value: bytes) -> bytes:
    """`value` as a vector cache keeps it under `key`: with a checksum of both behind it.

    Raises ValueError where one of its numbers is not finite; so what is sealed needs no look.
    """
    if not np.isfinite(np.frombuffer(value, _FLOAT32)).all():
        raise ValueError("a vector with numbers that are not finite is not kept")
    marked = value + MARK
    return marked + zlib.crc32(marked, zlib.crc32(key)).to_bytes(4, "little")


def older_seal(key: bytes, value: bytes) -> bytes:
    """`value` as vector caches kept it at first, with a checksum that takes three times as long.

    What was kept so is still good, if its numbers are finite.
    """
    return value + blake2b(value, key=key, digest_size=SEAL_BYTES).digest()


_RESIDUE = zlib.crc32(zlib.crc32(b"").to_bytes(4, "little"))
"""The CRC-32 of whatever has its own CRC-32 behind it; so a seal is checked without a copy."""
_FLOAT32 = np.dtype("<f4")


def _is_older(key: bytes, blob: bytes, size: int) -> bool:
    if len(blob) != size:
        return False
    value = blob[:-SEAL_BYTES]
    finite = np.isfinite(np.frombuffer(value, _FLOAT32)).all()
    return blob == older_seal(key, value) and bool(finite)


def _blobs(items: Iterable[tuple[bytes, Vector]]) -> list[tuple[bytes, bytes]]:
    return [(key, seal(key, vector.astype("<f4", copy=False).tobytes())) for key, vector in items]


Items = list[tuple[bytes, bytes]]

MOST_BYTES = 16 << 20
"""How much may wait to be written, so that memory stays flat however slow the cache is."""
MOST_WAITING = 1000
"""How many vectors may wait: what a process that is killed has paid for, and nobody has kept."""


class Writer:
    """Calls `write` in a thread of its own with all that has come in the meantime.

    The thread starts with the first `put`. A process that ends without `close` loses what waits,
    at most `MOST_WAITING` vectors and the items of one `put`; these are asked for again.
    """

    def __init__(self, write: Callable[[Items], None]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._waiting: Items = []
        self._bytes = self._count = 0  # of what waits or is being written
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, items: Items) -> None:
        """Leaves items to be written; waits while there is too much already."""
        size = _size(items)
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(size, len(items)))
            if self._closed:
                return
            self._waiting += items
            self._bytes += size
            self._count += len(items)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="vecferry-vector-cache", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _has_room(self, size: int, count: int) -> bool:
        held, number = self._bytes + size, self._count + count
        return not self._count or (held <= MOST_BYTES and number <= MOST_WAITING)

    def close(self) -> None:
        """Waits until all is written; what comes later is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                items, self._waiting = self._waiting, []
            if not items:
                return
            try:
                self._write(items)
            except Exception:  # the thread must live, or those who put would wait for ever
                log.exception("vectors could not be put into the vector cache")
            with self._changed:
                self._bytes -= _size(items)
                self._count -= len(items)
                self._changed.notify_all()


def _size(items: Items) -> int:
    return sum(len(value) for _, value in items)
