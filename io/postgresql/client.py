"""Connections to servers that speak PostgreSQL's protocol, and what errors of psycopg mean."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vecferry.errors import (
    FatalError,
    JobError,
    TerminalError,
    TransientError,
    VecferryError,
    near,
    redact,
    shorten,
)
from vecferry.io.sink.store import TooLargeError
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import ConnectionLost, Refused

if TYPE_CHECKING:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """A connection that gives up a server which is silent for `silence` seconds.

        `given_up` is then the number of the server's process.
        """

        silence: float | None
        given_up: int | None


APPLICATION = "vecferry"
CONNECT_SECONDS = 10
ANSWER_SECONDS = 120.0
"""How long a server may be silent in the middle of a request before the connection is given up."""
_KEEP_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6}
_SSL_MODES = {"off": "disable", "prefer": "prefer", "require": "require", "verify": "verify-full"}


def connect(given: TableConnection, *, silence: float | None = ANSWER_SECONDS) -> Connection:
    """A psycopg connection whose statements commit by themselves.

    Args:
      given: the data source.
      silence: the seconds after which a server that sends nothing counts as away; None is for ever.
        The attribute `silence` of the connection changes it later.

    Raises:
      JobError: psycopg is not installed.
      Refused: the login, the database or TLS is wrong.
      ConnectionLost: the server can't be reached, or is just starting.
    """
    try:
        import psycopg
    except ImportError as e:
        raise JobError(
            f"{given.product} needs the client psycopg: pip install 'vecferry[postgresql]'"
        ) from e
    try:
        return _open(given, given.database, silence)
    except psycopg.Error as e:
        if re.search(r'database ".*" does not exist', str(e)):
            names = _databases(given)
            hint = f"{near(given.database, names)}; it has {', '.join(names)}" if names else ""
            raise Refused(
                f"{given.product} at {given.place} has no database {given.database!r}{hint}"
            ) from None
        raise classify(e, given) from None


def _open(given: TableConnection, database: str, silence: float | None) -> Connection:
    tls = {"sslmode": _SSL_MODES[given.tls_mode]}
    if given.tls_mode == "verify":
        tls["sslrootcert"] = given.ca_cert or "system"
    seconds = CONNECT_SECONDS if silence is None else min(CONNECT_SECONDS, max(2, round(silence)))
    connection: Connection = _bounded_connection().connect(
        host=given.host,
        port=given.port,
        user=given.username,
        password=str.__str__(given.password) or None,
        dbname=database,
        autocommit=True,
        connect_timeout=seconds,  # less than 2 would count as 2
        client_encoding="UTF8",
        application_name=APPLICATION,
        **_KEEP_ALIVE,
        **tls,
    )
    connection.silence = silence
    return connection


def _databases(given: TableConnection) -> list[str]:
    """The databases of the server; none if the server does not tell them."""
    import psycopg

    try:
        with _open(given, "postgres", CONNECT_SECONDS) as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1"
            ).fetchall()
    except psycopg.Error:
        return []
    return [str(name) for (name,) in rows]


@functools.cache
def _bounded_connection() -> type[Connection]:
    """The class of connections that give up a silent server, for which libpq has no limit."""
    import psycopg

    class Bounded(psycopg.Connection[Any]):
        silence: float | None = None
        given_up: int | None = None
        """The number of the server's process that was given up in the middle of a request."""

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
                    elif self.silence is not None and now - since > self.silence:
                        self.given_up = self.pgconn.backend_pid
                        self.pgconn.finish()  # else psycopg would wait for the end of the answer
                        raise psycopg.OperationalError(f"it was silent for {self.silence:g} s")
                    wanted = gen.send(ready)
            except StopIteration as e:
                return e.value  # type: ignore[no-any-return]

    return Bounded  # type: ignore[return-value]


def end_backends(connection: Connection, numbers: Sequence[int]) -> None:
    """Ends processes of the server whose connections were given up.

    A process that goes on later would else carry out an old request after newer ones. The server
    may refuse; raises psycopg's error if the connection broke.
    """
    import psycopg

    statement = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid = ANY(%s) AND usename = current_user AND application_name = %s"
    )
    try:
        connection.execute(statement, [list(numbers), APPLICATION])
    except psycopg.Error as e:
        if e.sqlstate is None:
            raise


@contextlib.contextmanager
def session(
    given: TableConnection, step: str, silence: float | None = ANSWER_SECONDS
) -> Iterator[Connection]:
    """A connection for one task, closed in the end.

    Each error of the server is a JobError; its cause is a `TransientError` if the same may pass
    later.
    """
    try:
        held = connect(given, silence=silence)
    except (TransientError, FatalError) as e:
        raise JobError(f"step {step!r}: {e}") from e
    import psycopg

    try:
        with held:
            yield held
    except psycopg.Error as e:
        found = classify(e, given)
        if isinstance(found, TransientError):
            way = "run again once the server can do it"
        else:
            way = f"correct what the job names there, or the rights of user {given.username!r}"
        raise JobError(f"step {step!r}: {given.where}: {words(e)}; {way}") from found


LOST, FATAL, ROW, MEMORY = "lost", "fatal", "row", "memory"


class Meaning(NamedTuple):
    """What an SQLSTATE means on a write, the short reason, and what the server is said to do.

    A reader takes LOST and MEMORY for a server that is away, and all else for a refusal.
    """

    kind: str
    reason: str = ""
    words: str = ""


_MEANINGS = {
    "08": Meaning(LOST),
    "0A": Meaning(FATAL, "not-allowed"),
    "0L": Meaning(FATAL, "not-allowed"),
    "0P": Meaning(FATAL, "not-allowed"),
    "22001": Meaning(ROW, "too-long"),
    "22003": Meaning(ROW, "out-of-range"),
    "22021": Meaning(ROW, "invalid-text"),
    "22P05": Meaning(ROW, "invalid-text"),
    "22P02": Meaning(ROW, "wrong-type"),
    "22007": Meaning(ROW, "wrong-type"),
    "22008": Meaning(ROW, "out-of-range"),
    "23502": Meaning(ROW, "null-value"),
    "23505": Meaning(ROW, "not-unique"),
    "23503": Meaning(ROW, "no-parent"),
    "23514": Meaning(ROW, "check-failed"),
    "25": Meaning(LOST),
    "25006": Meaning(FATAL, "read-only", "the database or the session is read-only"),
    "26000": Meaning(
        FATAL,
        "no-session",
        "the connection forgets its statements, a pooler between must keep sessions (PgBouncer: "
        "pool_mode = session)",
    ),
    "28": Meaning(FATAL, "not-allowed"),
    "3D": Meaning(FATAL, "not-allowed"),
    "3F": Meaning(FATAL, "not-allowed"),
    "40": Meaning(LOST),
    "42": Meaning(FATAL, "not-allowed"),
    "53": Meaning(LOST),
    "53100": Meaning(FATAL, "no-space", "the server's disk is full"),
    "53200": Meaning(MEMORY, "too-large", "the server is short of memory"),
    "55": Meaning(FATAL, "not-allowed"),
    "55006": Meaning(LOST),
    "55P03": Meaning(LOST),
    "57": Meaning(LOST),
    "58": Meaning(LOST),
    "XX": Meaning(LOST),
}
"""An SQLSTATE, or the class in its first two characters (PostgreSQL's appendix A)."""

_LOST_TO_READ = ("53100",)
_REFUSED_TO_READ = ("57014", "XX")
"""What a reader takes otherwise: another try would stop or fail at the same place."""

_PASSING = re.compile(r"starting up|shutting down|recovery mode|too many|remaining connection")
_LOGIN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|permission denied for "
    r'database|role ".*" (?:does not exist|is not permitted)'
)
_COLUMN = re.compile(r'column "?(?:[\w]+\.)?([^"]+?)"? does not exist')


def classify(
    error: Exception, given: TableConnection, columns: Sequence[str] | None = None
) -> Exception:
    """What an error of psycopg means; one that is neither the server's nor the line's comes back.

    Args:
      error: what a call of the client raised.
      given: the data source.
      columns: what a reader reads, for hints; None if rows are written.

    Returns:
      `ConnectionLost` or another `TransientError`: the call may pass later. `TooLargeError`: the
      batch may pass in halves. `FatalError`: every row would meet it. `TerminalError`: a row is
      at fault.
    """
    import psycopg

    if isinstance(error, VecferryError):
        return error
    reading = columns is not None
    if not isinstance(error, psycopg.Error):
        lost = reading and isinstance(error, OSError)
        return ConnectionLost(f"{given.where} does not answer: {shorten(error)}") if lost else error
    text, state = words(error), error.sqlstate
    if state is None:
        refused = _refused_connection(text, given)
        if refused is not None:
            return refused
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return ConnectionLost(f"{given.where} does not answer: {text}")
        return Refused(f"the client of {given.where}: {text}") if reading else error
    meaning = _MEANINGS.get(state) or _MEANINGS.get(state[:2]) or Meaning(ROW, "refused")
    if columns is not None:
        return _of_reading(meaning.kind, state, text, given, columns)
    if meaning.kind == LOST:
        return TransientError(f"{given.where} can't do it now: {text}")
    if meaning.kind == MEMORY:
        return TooLargeError(f"{meaning.words}: {text}", passing=True)
    if meaning.kind == FATAL:
        return FatalError(
            f"{meaning.words or 'the server refuses to write'}: {text}", meaning.reason
        )
    return TerminalError(f"the server refuses the row: {text}", meaning.reason or "refused")


def _refused_connection(text: str, given: TableConnection) -> Refused | None:
    """What to correct if a connection is refused for good; libpq gives words, and no SQLSTATE."""
    low = text.casefold()
    if _PASSING.search(low):
        return None
    if _LOGIN.search(low):
        return Refused(
            f"{given.where} refuses the login of user {given.username!r}: correct username or "
            f"password ({text})"
        )
    if "certificate" in low or "root.crt" in low:
        return Refused(f"the certificate of {given.where} is not trusted ({text}): {given.trust}")
    if "does not support ssl" in low or "ssl is not" in low:
        return Refused(
            f"{given.where} offers no TLS, and the data source asks for it: switch it on at the "
            "server, or leave tls and caCert out"
        )
    return None


def _of_reading(
    kind: str, state: str, text: str, given: TableConnection, columns: Sequence[str]
) -> VecferryError:
    """The error of a statement that reads."""
    passes = kind in (LOST, MEMORY) or state in _LOST_TO_READ
    if passes and not state.startswith(_REFUSED_TO_READ):
        return ConnectionLost(f"{given.where} can't answer now: {text}")
    if state == "42703":
        match = _COLUMN.search(text)
        hint = near(match[1], columns) if match else ""
        return Refused(f"{text}{hint}; correct column, where or querySql")
    if state == "42P01":
        return Refused(f"{text}; correct table or querySql")
    if state == "42501":
        return Refused(f"user {given.username!r} needs the right to SELECT: {text}")
    if state == "57014":
        return Refused(
            f"the server stopped the statement, by its time limit or on demand ({text}); read "
            "smaller ranges by a splitPk with an index. Or raise statement_timeout for this user"
        )
    if state == "25006":
        return Refused(f"the session is read-only, and the statement would write: {text}")
    if state[:2] == "42":
        return Refused(f"the server does not understand column, where or querySql: {text}")
    return Refused(f"{given.where} refuses the statement: {text}")


def words(error: psycopg.Error) -> str:
    """The server's message with its detail and SQLSTATE; of libpq's own words, one line."""
    primary, state = error.diag.message_primary, error.sqlstate
    if primary is None:
        lines = [line.strip() for line in str(error).splitlines() if "hint" not in line.casefold()]
        return shorten(redact(" ".join(lines)), 300)
    detail = error.diag.message_detail or error.diag.context
    more = f" ({shorten(detail, 160)})" if detail else ""
    return shorten(redact(f"{primary}{more}"), 400) + (f" [{state}]" if state else "")
