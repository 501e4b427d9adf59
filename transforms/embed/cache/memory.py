"""A cache that keeps what is used most often, within a budget of bytes.

Least frequently used, exactly: the entry with the lowest use count is evicted first. Of equal
counts it is the one whose last use is the oldest. Reading, storing and evicting take the same time
whatever the number of entries. Entries of one count stand together in the order of their last
use, and the groups form a list in the order of their counts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES = 400
"""What an entry costs beyond key and value: its record, two dict slots and two object headers."""


class _Group:
    """The entries of one use count, by their last use, between those of less and of more uses."""

    __slots__ = ("entries", "less", "more", "uses")

    def __init__(self, uses: int) -> None:
        self.uses = uses
        self.entries: OrderedDict[Hashable, None] = OrderedDict()
        self.less: _Group = self
        self.more: _Group = self


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds and how it did; `bytes` is an estimate."""

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int


class LfuCache(Generic[K, V]):
    """Keeps at most `max_bytes` of values, the most frequently used ones; for any thread.

    An entry weighs its `size` plus `ENTRY_BYTES`. A value heavier than the whole cache is not
    kept; with ``max_bytes=0`` nothing is.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: dict[K, list[object]] = {}  # key -> [value, group, weight]
        self._ring = _Group(0)  # a sentinel: its `more` is the group of the fewest uses
        self._bytes = self._hits = self._misses = self._evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The value stored under `key`, which counts as a use, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            self._promote(key, entry)
            return entry[0]  # type: ignore[return-value]

    def peek(self, key: K) -> V | None:
        """The value stored under `key` or None, without counting anything."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]  # type: ignore[return-value]

    def put(self, key: K, value: V, size: int) -> int:
        """Stores a value of `size` bytes, key included; gives how many others had to go.

        Storing under a key that is there replaces the value and counts as a use.
        """
        with self._lock:
            return self._put(key, value, size)

    def put_many(self, items: Iterable[tuple[K, V, int]]) -> int:
        """`put` for each of (key, value, size) in one go."""
        with self._lock:
            evicted, entries, put = 0, self._entries, self._put
            first = self._ring.more
            for key, value, size in items:
                weight = size + ENTRY_BYTES
                room = self.max_bytes - weight
                if key in entries or room < 0 or first.uses != 1 or first is not self._ring.more:
                    evicted += put(key, value, size)
                    first = self._ring.more
                    continue
                # Another entry among those of one use, as nearly all of many are.
                if self._bytes > room:
                    evicted += self._evict(room)
                    if first is not self._ring.more:
                        evicted += put(key, value, size)
                        first = self._ring.more
                        continue
                first.entries[key] = None
                entries[key] = [value, first, weight]
                self._bytes += weight
            return evicted

    def stats(self) -> CacheStats:
        """The counters since the cache was made."""
        with self._lock:
            return CacheStats(
                len(self._entries), self._bytes, self._hits, self._misses, self._evictions
            )

    def clear(self) -> None:
        """Lets go of every entry; the counters stay."""
        with self._lock:
            self._entries.clear()
            self._ring = _Group(0)
            self._bytes = 0

    def close(self) -> None:
        """Same as `clear`."""
        self.clear()

    def _put(self, key: K, value: V, size: int) -> int:
        weight = size + ENTRY_BYTES
        entry = self._entries.get(key)
        if weight > self.max_bytes:
            if entry is not None:
                self._drop(key)
            return 0
        if entry is not None:
            self._bytes += weight - entry[2]  # type: ignore[operator]
            entry[0], entry[2] = value, weight
            self._promote(key, entry)
            return self._evict(self.max_bytes)
        evicted = self._evict(self.max_bytes - weight)
        group = self._ring.more
        if group.uses != 1:
            group = self._insert(1, self._ring)
        group.entries[key] = None
        self._entries[key] = [value, group, weight]
        self._bytes += weight
        return evicted

    def _promote(self, key: K, entry: list[object]) -> None:
        group: _Group = entry[1]  # type: ignore[assignment]
        uses = group.uses + 1
        after = group.more
        if after.uses != uses:
            after = self._insert(uses, group)
        del group.entries[key]
        if not group.entries:
            self._unlink(group)
        after.entries[key] = None
        entry[1] = after

    def _evict(self, most: int) -> int:
        evicted = 0
        while self._bytes > most:
            group = self._ring.more
            key, _ = group.entries.popitem(last=False)
            if not group.entries:
                self._unlink(group)
            self._bytes -= self._entries.pop(key)[2]  # type: ignore[arg-type, operator, call-overload]
            evicted += 1
        self._evictions += evicted
        return evicted

    def _drop(self, key: K) -> None:
        _, group, weight = self._entries.pop(key)
        del group.entries[key]  # type: ignore[attr-defined]
        if not group.entries:  # type: ignore[attr-defined]
            self._unlink(group)  # type: ignore[arg-type]
        self._bytes -= weight  # type: ignore[operator]

    def _insert(self, uses: int, less: _Group) -> _Group:
        group = _Group(uses)
        group.less, group.more = less, less.more
        less.more.less = group
        less.more = group
        return group

    def _unlink(self, group: _Group) -> None:
        group.less.more, group.more.less = group.more, group.less
