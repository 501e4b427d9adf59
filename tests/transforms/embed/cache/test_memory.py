"""The LFU cache makes the choices of a naive exact one, in constant time, within its bytes."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecferry.transforms.embed.cache.memory import ENTRY_BYTES, LfuCache


class NaiveLfu:
    """Scans everything on every eviction: fewest uses first, then longest unused."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.entries: dict[str, list[int]] = {}  # key -> [value, uses, last use, weight]
        self.clock = 0

    def touch(self, key: str) -> None:
        self.clock += 1
        self.entries[key][1] += 1
        self.entries[key][2] = self.clock

    def evict(self, most: int) -> None:
        while sum(e[3] for e in self.entries.values()) > most:
            del self.entries[min(self.entries, key=lambda k: self.entries[k][1:3])]

    def get(self, key: str) -> int | None:
        if key not in self.entries:
            return None
        self.touch(key)
        return self.entries[key][0]

    def put(self, key: str, value: int, size: int) -> None:
        weight = size + ENTRY_BYTES
        if weight > self.max_bytes:
            self.entries.pop(key, None)
        elif key in self.entries:
            self.entries[key][0], self.entries[key][3] = value, weight
            self.touch(key)
            self.evict(self.max_bytes)
        else:
            self.evict(self.max_bytes - weight)
            self.entries[key] = [value, 0, 0, weight]
            self.touch(key)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.integers(0, 600))), max_size=120
)


@pytest.mark.slow
@given(OPERATIONS, st.integers(0, 2500))
def test_its_choices_equal_those_of_a_naive_exact_lfu(operations, max_bytes):
    """After each step of a random trace both caches hold the same entries and give the same."""
    cache: LfuCache[str, int] = LfuCache(max_bytes)
    naive = NaiveLfu(max_bytes)
    for n, (key, size) in enumerate(operations):
        if size is None:
            assert cache.get(key) == naive.get(key)
        else:
            cache.put(key, n, size)
            naive.put(key, n, size)
        assert {k for k in "abcdefgh" if k in cache} == set(naive.entries)
        assert cache.stats().bytes == sum(e[3] for e in naive.entries.values()) <= max_bytes


def test_it_counts_hits_misses_and_evictions():
    """What the counters say is what happened."""
    cache: LfuCache[str, int] = LfuCache(2 * (ENTRY_BYTES + 10))
    assert cache.put("a", 1, 10) == 0
    assert cache.put("b", 2, 10) == 0
    assert cache.get("a") == 1
    assert cache.put("c", 3, 10) == 1
    assert cache.get("b") is None
    assert cache.peek("c") == 3
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses, stats.evictions) == (2, 1, 1, 1)


def test_a_cache_of_no_bytes_keeps_nothing():
    """`cacheBytes: 0` turns the cache off."""
    cache: LfuCache[str, int] = LfuCache(0)
    cache.put("a", 1, 1)
    assert len(cache) == 0


def test_many_threads_leave_its_books_in_order():
    """Under contention the bytes counted are the bytes of the entries held."""
    cache: LfuCache[int, int] = LfuCache(50 * (ENTRY_BYTES + 8))

    def work(seed: int) -> None:
        for i in range(3000):
            key = (i * seed) % 97
            if cache.get(key) is None:
                cache.put(key, key, 8)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 7, 11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert stats.bytes == stats.entries * (ENTRY_BYTES + 8)
    assert stats.hits + stats.misses == 4 * 3000


def _seconds_of(entries: int) -> float:
    cache: LfuCache[int, int] = LfuCache(entries * (ENTRY_BYTES + 8))
    for i in range(entries):
        cache.put(i, i, 8)
    best = float("inf")
    for _ in range(5):
        base = len(cache) + cache.stats().evictions
        start = time.thread_time()
        for i in range(2000):
            cache.put(base + i, i, 8)
            cache.get(base + i)
        best = min(best, time.thread_time() - start)
    return best


@pytest.mark.slow
@pytest.mark.alone
def test_reading_and_evicting_take_as_long_with_many_entries_as_with_few():
    """The time of an operation does not grow with the cache (its memory gets colder, no more)."""
    assert _seconds_of(100_000) < 4 * _seconds_of(1_000)
