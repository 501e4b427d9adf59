"""What the errors of psycopg mean to a reader: the server is away, or it refuses, in words."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator
from typing import Any

from vecferry.errors import VecferryError, near, redact, shorten
from vecferry.io.tables.database import ConnectionLost, Refused
from vecferry.io.tables.settings import TableConnection

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


_LOST_CLASSES = ("08", "53", "58")
_LOST = {"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "25P03", "57P05"}
"""Conflicts, a restart, and connections that the server ended."""
_STARTING = ("starting up", "shutting down", "recovery mode", "too many", "remaining connection")
_COLUMN = re.compile(r'column "?(?:[\w]+\.)?([^"]+?)"? does not exist')


def explained(
    error: Exception, connection: TableConnection, columns: tuple[str, ...] = ()
) -> VecferryError:
    """The error to raise for one of psycopg's; `columns` are those of the table being read."""
    state = getattr(error, "sqlstate", None)
    text = words_of(error)
    place = connection.place
    if state is None:
        return _of_connection(error, text, connection)
    if state[:2] in _LOST_CLASSES or state in _LOST:
        return ConnectionLost(f"the PostgreSQL server {place} does not answer: {text}")
    if state == "42703":
        match = _COLUMN.search(text)
        hint = near(match[1], columns) if match else ""
        return Refused(f"{text}{hint}; correct column, where or querySql")
    if state == "42P01":
        return Refused(f"{text}; correct table or querySql")
    if state == "42501":
        return Refused(f"user {connection.username!r} needs the right to SELECT: {text}")
    if state == "57014":
        return Refused(
            f"the server stopped the statement, by its time limit or on demand ({text}): read "
            "smaller ranges by a splitPk with an index, or raise statement_timeout for this user"
        )
    if state == "25006":
        return Refused(f"the session is read-only, and the statement would write: {text}")
    if state[:2] == "42":
        return Refused(f"the server does not understand column, where or querySql: {text}")
    return Refused(f"the PostgreSQL server {place} refuses ({state}): {text}")


def _of_connection(error: Exception, text: str, connection: TableConnection) -> VecferryError:
    low = text.casefold()
    place = connection.place
    if not any(w in low for w in _STARTING):
        if "certificate" in low:
            way = (
                f"caCert ({connection.ca_cert}) must name the authority that signed it, and host "
                "must be a name in it"
                if connection.ca_cert
                else "name the file of the authority that signed it as caCert"
            )
            return Refused(f"the certificate of the server {place} is not trusted ({text}): {way}")
        if "does not support ssl" in low:
            return Refused(
                f"the PostgreSQL server {place} offers no TLS, and the data source asks for it: "
                "switch it on at the server, or leave tls and caCert out"
            )
        if "fatal" in low and ("password" in low or "role " in low or "pg_hba" in low):
            return Refused(
                f"{place} refuses user {connection.username!r}: correct username or password "
                f"({text})"
            )
    import psycopg

    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ConnectionLost(f"the PostgreSQL server {place} does not answer: {text}")
    return Refused(f"the PostgreSQL client: {text}")


def words_of(error: Any) -> str:
    """The server's message, or the client's on one line."""
    diag = getattr(error, "diag", None)
    text = getattr(diag, "message_primary", None) or str(error)
    return redact(shorten(text, 300))
