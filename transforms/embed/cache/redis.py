"""A vector cache in Redis, shared by workers on many machines.

Each value is a string under `PREFIX` and its key in hexadecimal. For each size of values a sorted
set says on which day each was last used. The sets bound the cache: they give its size without a
look at the values, and tell what to remove. Values have no time to live.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vecferry.errors import is_raised_in, redact, shorten
from vecferry.redis_access import redis_client
from vecferry.transforms.embed.cache.store import (
    KEPT_SHARE,
    StoreError,
    StoreStats,
    day_text,
    today,
)

PREFIX = "vecferry:v1:"
SIZES = f"{PREFIX}sizes"
PRUNING = f"{PREFIX}pruning"
PRUNING_SECONDS = 60
"""For so long others leave pruning to a process that may have died at it."""
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 5.0
_WRITTEN_AT_ONCE = 256
_REMOVED_AT_ONCE = 1000
_OVERHEAD = 280  # the key, its entry in Redis's table and in ours; measured with Redis 7


def entry_bytes(size: int) -> int:
    """The memory that Redis takes for a value of `size` bytes, with its key and its day of use.

    Its allocator has four sizes between two powers of two, and gives the next one.
    """
    step = 1 << max(4, (size + 7).bit_length() - 3)
    return -(-(size + 8) // step) * step + _OVERHEAD


class RedisBackend:
    """Strings and sorted sets of one Redis database."""

    def __init__(self, uri: str) -> None:
        self._redis = redis_client(
            uri,
            "a vector cache",
            connect_seconds=CONNECT_SECONDS,
            answer_seconds=ANSWER_SECONDS,
        )
        with _faults():
            try:
                # What every lookup needs; two keys, as a node of a cluster refuses those.
                self._redis.mget([_value_name(b""), SIZES])
                self._redis.smembers(SIZES)
            except BaseException:
                self._redis.close()
                raise

    def get_many(self, keys: Sequence[bytes], size: int) -> dict[bytes, bytes]:
        """The values found, by key."""
        if not keys:
            return {}
        with _faults():
            values = self._look_up(_lookup(keys, size))
        return {k: v for k, v in zip(keys, values, strict=True) if v is not None}

    def holds(self, keys: Sequence[bytes]) -> set[bytes]:
        """The keys that have values; marks none as used."""
        with _faults():
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.exists(_value_name(key))
            return {key for key, there in zip(keys, pipe.execute(), strict=True) if there}

    def _look_up(self, request: bytes) -> list[bytes | None]:
        """Sends a request that `_lookup` made, again where a kept connection proves closed."""
        pool = self._redis.connection_pool
        connection = pool.get_connection()

        def ask() -> list[bytes | None]:
            connection.send_packed_command([request])
            values: list[bytes | None] | Exception = _answer(connection)
            _answer(connection)  # a full or read-only server can't mark what was used
            if isinstance(values, Exception):
                raise values
            return values

        try:
            answer: list[bytes | None] = connection.retry.call_with_retry(
                ask, lambda _: connection.disconnect()
            )
            return answer
        except BaseException:
            connection.disconnect()  # an answer may still come, and is not the next one's
            raise
        finally:
            pool.release(connection)

    def put_many(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Keeps values under their keys, each with its day of use in one transaction."""
        by_size: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        for key, value in items:
            by_size[len(value)].append((key, value))
        for size, same in by_size.items():
            for at in range(0, len(same), _WRITTEN_AT_ONCE):
                some = same[at : at + _WRITTEN_AT_ONCE]
                with _faults(writing=True):
                    pipe = self._redis.pipeline(transaction=True)
                    pipe.sadd(SIZES, size)
                    pipe.zadd(_days_name(size), {key.hex(): today() for key, _ in some})
                    pipe.mset({_value_name(key): value for key, value in some})
                    pipe.execute()

    def stats(self) -> StoreStats:
        """How much it holds, and since when; what Redis itself has evicted counts until pruned."""
        sizes = self._oldest()
        entries = sum(count for count, _ in sizes.values())
        oldest = min((day for _, day in sizes.values()), default=None)
        return StoreStats(entries, _room(sizes), day_text(oldest))

    def prune(self, max_bytes: int) -> int:
        """Removes what was not used for longest until it fits; gives how many went."""
        if _room(self._oldest()) <= max_bytes or not self._is_my_turn():
            return 0
        try:
            return self._shrink(max_bytes)
        finally:
            with _faults(writing=True):
                self._redis.unlink(PRUNING)

    def _is_my_turn(self) -> bool:
        """Whether nobody else prunes, or is done soon; several at once would remove too much."""
        until = time.monotonic() + ANSWER_SECONDS
        with _faults(writing=True):
            while not self._redis.set(PRUNING, 1, nx=True, ex=PRUNING_SECONDS):
                if time.monotonic() > until:
                    return False
                time.sleep(0.05)
        return True

    def _shrink(self, max_bytes: int) -> int:
        sizes, gone = self._oldest(), 0
        if _room(sizes) <= max_bytes:
            return gone
        while (excess := _room(sizes) - KEPT_SHARE * max_bytes) > 0:
            size, (_, day) = min(sizes.items(), key=lambda item: item[1][1])
            going = int(excess // entry_bytes(size)) + 1
            gone += self._remove(size, day, min(going, _REMOVED_AT_ONCE))
            sizes = self._oldest()
        return gone

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _oldest(self) -> dict[int, tuple[int, float]]:
        """For each size of values how many there are, and the day of use of the oldest."""
        with _faults():
            sizes = sorted(int(size) for size in self._redis.smembers(SIZES))
            pipe = self._redis.pipeline(transaction=False)
            for size in sizes:
                pipe.zcard(_days_name(size))
                pipe.zrange(_days_name(size), 0, 0, withscores=True)
            answers = iter(pipe.execute())
            found = {size: (next(answers), next(answers)) for size in sizes}
        return {size: (n, oldest[0][1]) for size, (n, oldest) in found.items() if oldest}

    def _remove(self, size: int, day: float, most: int) -> int:
        """Removes at most `most` values that were last used on `day`; gives how many went."""
        days = _days_name(size)
        with _faults(writing=True):
            names = self._redis.zrangebyscore(days, day, day, start=0, num=most)
            if not names:
                return 0
            pipe = self._redis.pipeline(transaction=True)
            pipe.zrem(days, *names)
            pipe.unlink(*(PREFIX.encode() + name for name in names))
            return int(pipe.execute()[0])


def _room(sizes: dict[int, tuple[int, float]]) -> int:
    return sum(count * entry_bytes(size) for size, (count, _) in sizes.items())


def _lookup(keys: Sequence[bytes], size: int) -> bytes:
    """The request for values, which marks them as used today: MGET and ZADD … XX.

    Written here in the protocol of Redis, because the client takes longer for it than for all the
    rest of a lookup.
    """
    names = [key.hex() for key in keys]
    length = len(_value_name(keys[0]))
    gets = [f"${length}\r\n{PREFIX}{name}\r\n" for name in names]
    day, days = str(today()), _days_name(size)
    mark = f"${len(day)}\r\n{day}\r\n${2 * len(keys[0])}\r\n"
    marks = [f"{mark}{name}\r\n" for name in names]
    return "".join(
        (
            f"*{len(names) + 1}\r\n$4\r\nMGET\r\n",
            *gets,
            f"*{2 * len(names) + 3}\r\n$4\r\nZADD\r\n${len(days)}\r\n{days}\r\n$2\r\nXX\r\n",
            *marks,
        )
    ).encode()


def _answer(connection: Any) -> Any:
    """The next answer of a server; an error that it answers is given, and not raised."""
    from redis.exceptions import ResponseError

    try:
        return connection.read_response()
    except ResponseError as e:
        return e


def _value_name(key: bytes) -> str:
    return PREFIX + key.hex()


def _days_name(size: int) -> str:
    return f"{PREFIX}used:{size}"


@contextmanager
def _faults(*, writing: bool = False) -> Iterator[None]:
    """Turns the errors of Redis and its client into ours.

    What a server answers to a write (it is full, a replica, or the user may not) says nothing of
    reading.
    """
    from redis import exceptions as errors

    try:
        yield
    except (errors.AuthenticationError, errors.AuthorizationError) as e:
        raise StoreError(
            f"user or password are wrong or missing: {_words(e)}", final=True
        ) from None
    except errors.TimeoutError as e:
        raise StoreError(f"no answer within {ANSWER_SECONDS:g} s: {_words(e)}") from None
    except (errors.ClusterCrossSlotError, errors.MovedError) as e:
        raise StoreError(
            f"is a node of a cluster, give the address of a proxy: {_words(e)}", final=True
        ) from None
    except (errors.RedisError, OSError) as e:
        reads = writing and isinstance(e, errors.ResponseError)
        raise StoreError(_words(e), reads=reads) from None
    except Exception as e:
        if not is_raised_in("redis", e):
            raise
        raise StoreError(f"sent what is not Redis's protocol: {_words(e)}") from e


def _words(e: Exception) -> str:
    return redact(shorten(e))
