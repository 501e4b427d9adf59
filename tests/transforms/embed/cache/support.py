"""What the tests of vector caches share: a place of each kind, and how it is spoiled."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import redis

from tests.services.redis_server import RedisServer
from vecferry.transforms.embed.cache.settings import cache_settings
from vecferry.transforms.embed.cache.store import (
    DAY,
    Backend,
    VectorStore,
    older_seal,
    open_backend,
)

KEY_BYTES = 20
MIB = 1 << 20


def key_of(i: int) -> bytes:
    """A key, as long as those of the engine."""
    return i.to_bytes(KEY_BYTES, "big")


def vector(value: float, dimension: int = 256) -> np.ndarray:
    """A vector of one number."""
    return np.full(dimension, value, np.float32)


def pairs(first: int, last: int, dimension: int = 256) -> list[tuple[bytes, np.ndarray]]:
    """Keys and vectors from `first` up to `last`."""
    return [(key_of(i), vector(i, dimension)) for i in range(first, last)]


def flipped(value: bytes, place: int, bit: int) -> bytes:
    """`value` with one bit turned."""
    changed = bytearray(value)
    changed[place] ^= 1 << bit
    return bytes(changed)


class Place(Protocol):
    """Somewhere vectors can be kept, and what only a test does to it."""

    uri: str

    def backdate(self, keys: list[bytes], days: int) -> None:
        """Makes entries look as if they were last used so many days ago."""

    def cut_short(self, key: bytes) -> None:
        """Leaves half of a value."""

    def fill_with_nan(self, key: bytes) -> None:
        """Leaves a value of the right size that is not a vector."""

    def flip(self, key: bytes, place: int, bit: int) -> None:
        """Turns one bit of a value, and of nothing else."""

    def used_bytes(self) -> int:
        """How much room is really taken."""


class SqlitePlace:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cache.db"
        self.uri = f"sqlite:///{self.path}"

    def _execute(self, sql: str, rows: list[Any]) -> None:
        db = sqlite3.connect(self.path)
        with db:
            db.executemany(sql, rows)
        db.close()

    def backdate(self, keys: list[bytes], days: int) -> None:
        day = int(time.time()) // DAY - days
        self._execute("UPDATE vectors SET used = ? WHERE key = ?", [(day, k) for k in keys])

    def cut_short(self, key: bytes) -> None:
        sql = "UPDATE vectors SET vector = substr(vector, 1, length(vector) / 2) WHERE key = ?"
        self._execute(sql, [(key,)])

    def fill_with_nan(self, key: bytes) -> None:
        nan = older_seal(key, vector(np.nan).tobytes())
        self._execute("UPDATE vectors SET vector = ? WHERE key = ?", [(nan, key)])

    def flip(self, key: bytes, place: int, bit: int) -> None:
        db = sqlite3.connect(self.path)
        (value,) = db.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        db.close()
        sql = "UPDATE vectors SET vector = ? WHERE key = ?"
        self._execute(sql, [(flipped(value, place, bit), key)])

    def used_bytes(self) -> int:
        return self.path.stat().st_size


class RedisPlace:
    """An empty database of a server."""

    def __init__(self, server: RedisServer) -> None:
        self.uri = server.uri
        self.client = redis.Redis.from_url(server.uri)
        self.client.flushall()
        self._empty = self.client.info("memory")["used_memory"]

    def backdate(self, keys: list[bytes], days: int) -> None:
        day = int(time.time()) // DAY - days
        for name in self.client.scan_iter("vecferry:v1:used:*"):
            self.client.zadd(name, {key.hex(): day for key in keys}, xx=True)

    def cut_short(self, key: bytes) -> None:
        name = f"vecferry:v1:{key.hex()}"
        value = self.client.get(name)
        self.client.set(name, value[: len(value) // 2])

    def fill_with_nan(self, key: bytes) -> None:
        self.client.set(f"vecferry:v1:{key.hex()}", older_seal(key, vector(np.nan).tobytes()))

    def flip(self, key: bytes, place: int, bit: int) -> None:
        name = f"vecferry:v1:{key.hex()}"
        self.client.set(name, flipped(self.client.get(name), place, bit))

    def used_bytes(self) -> int:
        return int(self.client.info("memory")["used_memory"]) - self._empty


def store_at(uri: str, **more: Any) -> VectorStore:
    """A vector cache as a run has it."""
    return VectorStore(cache_settings(uri, **more))


def backend_at(uri: str) -> Backend:
    """What is under it."""
    return open_backend(uri, create=True)
