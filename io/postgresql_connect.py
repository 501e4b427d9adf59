"""Connections of psycopg that don't wait for ever: libpq has no limit for an answer."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

from vecferry.io.table_settings import TableConnection

CONNECT_SECONDS = 10
KEEP_ALIVE = {"keepalives_idle": 60, "keepalives_interval": 10, "keepalives_count": 6}

_SSL_MODES = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}


def connect(given: TableConnection, database: str) -> Any:
    """A connection to one of the server's databases; raises psycopg's errors."""
    more: dict[str, Any] = {"sslmode": _SSL_MODES[given.tls_mode]}
    if given.tls_mode == "verify":
        more["sslrootcert"] = given.ca_cert or "system"
    return _bounded_connection().connect(
        host=given.host,
        port=given.port,
        user=given.username,
        password=str.__str__(given.password) or None,
        dbname=database,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        client_encoding="UTF8",
        application_name="vecferry",
        **KEEP_ALIVE,
        **more,
    )


@functools.cache
def _bounded_connection() -> Any:
    """The class of such connections; it ends one whose server was silent for `silence` seconds."""
    import psycopg

    class Bounded(psycopg.Connection[Any]):
        silence: float = 3600.0

        def wait(self, gen: Any, *arguments: Any, **more: Any) -> Any:
            try:
                wanted = next(gen)
            except StopIteration as e:  # most rows are here already
                return e.value
            return super().wait(self._heard(gen, wanted), *arguments, **more)

        def _heard(self, gen: Any, wanted: Any) -> Iterator[Any]:
            since = time.monotonic()
            try:
                while True:
                    ready = yield wanted
                    now = time.monotonic()
                    if ready:
                        since = now
                    elif now - since > self.silence:
                        self.pgconn.finish()  # else psycopg would wait for the end of the answer
                        raise psycopg.OperationalError(f"it was silent for {self.silence:g} s")
                    wanted = gen.send(ready)
            except StopIteration as e:
                return e.value  # type: ignore[no-any-return]

    return Bounded
