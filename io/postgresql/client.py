"""Connections to a server that speaks PostgreSQL's protocol, and what its errors mean."""

from __future__ import annotations

import contextlib
import queue
import re
from collections.abc import Callable, Iterator
from typing import Any

from vecferry.errors import (
    FatalError,
    JobError,
    TerminalError,
    TransientError,
    redact,
    shorten,
)
from vecferry.io.sink.store import TooLargeError
from vecferry.io.tables.settings import TableConnection

Open = Callable[[], Any]
CONNECT_SECONDS = 10


def type_of(connection: TableConnection) -> str:
    """The type of the data source."""
    return str(getattr(connection, "type", "postgresql"))


def where_of(connection: TableConnection) -> str:
    """How messages name the database."""
    kind = "Hologres" if type_of(connection) == "hologres" else "PostgreSQL"
    return f"{kind} at {connection.host}:{connection.port}/{connection.database}"


def connect(connection: TableConnection, **more: Any) -> Any:
    """A new psycopg connection whose statements commit by themselves.

    Raises:
      JobError: the login, the database or TLS is wrong.
      TransientError: the server can't be reached, or is just starting.
    """
    try:
        import psycopg
    except ImportError as e:
        name = type_of(connection)
        raise JobError(f"{name} needs psycopg: pip install 'vecferry[postgresql]'") from e
    given = {
        "host": connection.host,
        "port": connection.port,
        "dbname": connection.database,
        "user": connection.username,
        "password": str.__str__(connection.password) or None,
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "vecferry",
        "client_encoding": "UTF8",
        "keepalives_idle": 30,
        **tls_of(connection),
        **more,
    }
    try:
        return psycopg.connect(autocommit=True, **{k: v for k, v in given.items() if v is not None})
    except psycopg.Error as e:
        raise connect_error(connection, e) from None


_SSLMODES = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}


def tls_of(connection: TableConnection) -> dict[str, Any]:
    """libpq's settings of TLS."""
    given = {"sslmode": _SSLMODES[connection.tls_mode]}
    if connection.tls_mode == "verify":
        given["sslrootcert"] = connection.ca_cert or "system"
    return given


_WRONG = (
    (
        r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied for "
        r'database|role ".*" (does not exist|is not permitted)',
        "refuses the login",
    ),
    (r'database ".*" does not exist', "has no such database"),
    (r"certificate|root\.crt", "has a certificate that is not trusted (see caCert and tls)"),
    (r"does not support ssl|ssl is not", "speaks no TLS (see tls)"),
)
"""What the server or libpq says -> what it means. Everything else may pass, such as a restart."""


def connect_error(connection: TableConnection, error: Exception) -> Exception:
    """What an error on connecting means; libpq gives no code there, only words."""
    text, where = _words(error), where_of(connection)
    for pattern, meaning in _WRONG:
        if re.search(pattern, text, re.IGNORECASE):
            return JobError(f"{where} {meaning}: {text}")
    return TransientError(f"{where} can't be reached: {text}")


def _words(error: Exception) -> str:
    """The server's message and detail; of libpq's own, one line."""
    diag = getattr(error, "diag", None)
    text = getattr(diag, "message_primary", None)
    if text is None:
        lines = [line.strip() for line in str(error).splitlines() if "hint" not in line.casefold()]
        return shorten(redact(" ".join(lines)), 300)
    detail = getattr(diag, "message_detail", None)
    where = getattr(diag, "context", None) if not detail else None
    more = f" ({shorten(detail or where, 160)})" if detail or where else ""
    return shorten(redact(f"{text}{more}"), 400)


def told(error: Exception) -> str:
    """The server's words with its SQLSTATE."""
    state = getattr(error, "sqlstate", None)
    return _words(error) + (f" [{state}]" if state else "")


_REASONS = {
    "22001": "too-long",
    "22003": "out-of-range",
    "22021": "invalid-text",
    "22P05": "invalid-text",
    "22P02": "wrong-type",
    "22007": "wrong-type",
    "22008": "out-of-range",
    "23502": "null-value",
    "23505": "not-unique",
    "23503": "no-parent",
    "23514": "check-failed",
}


def classify(error: Exception) -> Exception:
    """What a failed write means, by its SQLSTATE (PostgreSQL's appendix A).

    An error that is none of the server's or of the connection's comes back as it is.
    """
    if isinstance(error, JobError):  # told by `connect`, in the middle of a run
        return FatalError(str(error), "not-allowed")
    import psycopg

    if not isinstance(error, psycopg.Error):
        return error
    state = error.sqlstate
    text = told(error)
    if state is None:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        return TransientError(f"the connection was lost: {text}") if lost else error
    if state == "53200":
        return TooLargeError(f"the server is short of memory: {text}", passing=True)
    if state == "53100":
        return FatalError(f"the server's disk is full: {text}", "no-space")
    if state == "25006":
        return FatalError(f"the database is read-only: {text}", "read-only")
    if state == "26000":
        what = "a pooler between must keep sessions (PgBouncer: pool_mode = session)"
        return FatalError(f"the connection forgets its statements, {what}: {text}", "no-session")
    if state[:2] in ("08", "25", "40", "53", "57", "58", "XX") or state in ("55P03", "55006"):
        return TransientError(text)
    if state[:2] in ("0A", "0L", "0P", "28", "3D", "3F", "42", "55"):
        return FatalError(f"the server refuses to write: {text}", "not-allowed")
    return TerminalError(f"the server refuses the row: {text}", _REASONS.get(state, "refused"))


class Pool:
    """The connections of one step in this process; threads borrow them, broken ones are dropped."""

    def __init__(self, open_one: Open) -> None:
        self._open = open_one
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closed = False

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Any]:
        """A connection; one on which anything failed but the statement itself is not kept."""
        try:
            held = self._idle.get_nowait()
        except queue.Empty:
            held = self._open()
        try:
            yield held
        finally:
            from psycopg.pq import TransactionStatus

            if (
                held.closed
                or self._closed
                or held.info.transaction_status != TransactionStatus.IDLE
            ):
                held.close()
            else:
                self._idle.put(held)

    def drop(self) -> None:
        """Closes the idle ones: after a server has gone, all of them are dead."""
        while not self._idle.empty():
            with contextlib.suppress(queue.Empty):
                self._idle.get_nowait().close()

    def close(self) -> None:
        """Closes them all."""
        self._closed = True
        self.drop()
