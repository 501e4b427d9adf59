"""Positions in Redis: one hash, whose fields are the names.

Apart from `vecferry.pipelines.run.positions` because a test of positions needs no job. A field is
created by HSETNX, which never overwrites. Each value begins with the server's own time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vecferry.errors import FatalError, TransientError, is_raised_in, redact, shorten
from vecferry.positions.place import NEAR, Pace
from vecferry.redis_access import redis_client, shown_uri

PREFIX = "vecferry:positions:v1:"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0

_PASSING = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN")
"""How answers begin that tell of the server's own trouble."""

log = logging.getLogger(__name__)


class RedisPlace:
    """A hash for the positions called `name`. Nothing is connected to before it is needed."""

    def __init__(self, uri: str, name: str, pace: Pace = NEAR) -> None:
        self.where = f"{shown_uri(uri)}/{name}"
        self.pace = pace
        self._key = PREFIX + name
        self._redis: Any = redis_client(
            uri, "positions", connect_seconds=CONNECT_SECONDS, answer_seconds=ANSWER_SECONDS
        )

    def names(self, prefix: str = "") -> list[str]:
        """The fields of the hash."""
        with self._faults():
            found = [field.decode() for field in self._redis.hkeys(self._key)]
        return [name for name in found if name.startswith(prefix)]

    def read(self, name: str) -> bytes | None:
        """A field's value without the time before it."""
        value = self._value(name)
        return None if value is None else value.partition(b"\n")[2]

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """A field that did not exist; how lasting that is, is a matter of the server's settings."""
        with self._faults():
            value = f"{self._now()}\n".encode() + data
            return bool(self._redis.hsetnx(self._key, name, value))

    def remove(self, name: str) -> None:
        """Removes the field."""
        with self._faults():
            self._redis.hdel(self._key, name)

    def age(self, name: str) -> float | None:
        """By the server's clock."""
        value = self._value(name)
        if value is None:
            return None
        with self._faults():
            return self._now() - float(value.partition(b"\n")[0])

    def check(self) -> None:
        """Warns of a server that may evict positions to make room."""
        try:
            with self._faults():
                memory = self._redis.info("memory")
        except FatalError:  # not everybody may ask
            return
        policy = str(memory.get("maxmemory_policy", ""))
        if memory.get("maxmemory") and policy.startswith("allkeys"):
            log.warning(
                "positions %s: this Redis removes keys of any kind when it is full (%s), positions "
                "among them; set maxmemory-policy to one that begins with volatile",
                self.where,
                policy,
            )

    def close(self) -> None:
        """Closes the connections."""
        self._redis.close()

    def _value(self, name: str) -> bytes | None:
        with self._faults():
            value = self._redis.hget(self._key, name)
        return None if value is None else bytes(value)

    def _now(self) -> float:
        seconds, millionths = self._redis.time()
        return int(seconds) + int(millionths) / 1e6

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turns the errors of Redis and its client into ours."""
        from redis import exceptions as errors

        def told(e: Exception) -> str:
            return f"positions {self.where}: {redact(shorten(e))}"

        try:
            yield
        except (errors.AuthenticationError, errors.AuthorizationError) as e:
            raise FatalError(f"{told(e)}; correct user and password") from None
        except errors.NoPermissionError as e:
            raise FatalError(f"{told(e)}; grant the user what lies below {PREFIX}*") from None
        except (errors.ClusterCrossSlotError, errors.MovedError) as e:
            raise FatalError(f"{told(e)}; give the address of a cluster's proxy") from None
        except (errors.ReadOnlyError, errors.OutOfMemoryError) as e:
            raise TransientError(f"{told(e)}; positions need a primary with room") from None
        except errors.ResponseError as e:
            passing = str(e).startswith(_PASSING)
            raise (TransientError if passing else FatalError)(told(e)) from None
        except (errors.RedisError, OSError) as e:
            raise TransientError(told(e)) from None
        except Exception as e:
            if not is_raised_in("redis", e):
                raise
            raise FatalError(f"{told(e)}; what answers there is not a Redis") from e
