"""Reads PostgreSQL tables into rows, without Beam."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

from vecferry.errors import VecferryError
from vecferry.io.common.unfit import Convert
from vecferry.io.postgresql.catalog import planned_rows, quote, source_table
from vecferry.io.postgresql.client import classify, connect
from vecferry.io.postgresql.values import PgType, Unfit, converter, register, shown
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import BATCH_BYTES, BATCH_ROWS, Database, Refused, Table
from vecferry.io.tables.source import TableSource

_INTEGERS = frozenset({20, 21, 23})
_SHORT = frozenset({16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 2950})
"""Booleans, numbers, times and UUIDs, whose values have few bytes."""
_LONG = frozenset({"json", "jsonb", "vector", "halfvec"})
"""Beside arrays, types whose values say nothing of their length."""


class Server(Protocol):
    """What a result asks of its connection."""

    batch_rows: int

    @property
    def types(self) -> dict[int, PgType]:
        """pg_type, by oid."""

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Errors of the client within are raised as ours."""

    def literal(self, value: object) -> str:
        """A value of a row as SQL."""


class PostgresResult:
    """The rows of a statement; `rows` is None where a cursor at the server is fetched from.

    Else they come from the socket `piece` at a time.
    """

    def __init__(
        self, database: Server, cursor: Any, rows: Iterator[Any] | None, piece: int = 1
    ) -> None:
        self._database, self._cursor, self._rows, self._piece = database, cursor, rows, piece
        self._batch_rows = database.batch_rows
        # Without a row the client tells no columns of a stream.
        described = cursor.description or ()
        self.names = [d.name for d in described]
        self.converters: list[Convert | None] = [
            converter(d.type_code, database.types, d.name) for d in described
        ]
        self.int_at = frozenset(i for i, d in enumerate(described) if d.type_code in _INTEGERS)
        known = [database.types.get(d.type_code) for d in described]
        self._long = {i for i, d in enumerate(described) if d.type_code not in _SHORT}
        self._nested = [i for i, t in enumerate(known) if t and (t.element or t.name in _LONG)]

    def batches(self) -> Iterator[list[Sequence[Any]]]:
        """Rows as tuples of values, an `Unfit` in place of one that can't be loaded."""
        while True:
            rows: list[Sequence[Any]] = []
            try:
                with self._database.explained():
                    if self._rows is None:
                        rows = self._cursor.fetchmany(self._batch_rows)
                    else:
                        self._gather(self._rows, rows)
            except VecferryError:
                if rows:
                    yield rows
                raise
            if not rows:
                return
            yield rows

    def _gather(self, source: Iterator[Any], rows: list[Sequence[Any]]) -> None:
        size = begin = 0
        while size <= BATCH_BYTES and begin < self._batch_rows:
            rows.extend(itertools.islice(source, self._piece))
            if len(rows) == begin:
                return
            piece, begin = rows[begin:], len(rows)
            for at, column in enumerate(zip(*piece, strict=True)):
                if at in self._long:
                    size += sum([len(v) for v in column if isinstance(v, str | bytes)])
            if self._nested:
                sent = self._cursor.pgresult
                size += sum(
                    len(sent.get_value(row, at) or b"")
                    for row in range(sent.ntuples)
                    for at in self._nested
                )

    def literal(self, at: int, value: object) -> str:
        """Exact; texts in quotes take the type that they are compared with."""
        return self._database.literal(value)

    def text(self, at: int, value: object) -> str:
        """Text, or hexadecimal for bytes."""
        if type(value) is Unfit:
            return shown(value.raw)
        return value.hex() if isinstance(value, bytes) else str(value)

    def raw(self, at: int, value: object) -> object:
        """Text where it is text."""
        if type(value) is list:
            return [self.raw(at, v) for v in value]
        raw = value.raw if type(value) is Unfit else value
        if not isinstance(raw, bytes):
            return raw
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


QUICK_SECONDS = 30
PIECE = 8
"""Rows of a query that come from the socket together, however long they are."""
READ_SECONDS = 3600
"""A server may sort long before it sends the first row."""

_SESSION = (
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
    "SET standard_conforming_strings = on",
    # Do not hang up on a slow consumer.
    "SET idle_in_transaction_session_timeout = 0",
)


class PostgresDatabase:
    """A `Database` of PostgreSQL; the session is read-only, its time zone is UTC."""

    batch_rows: int = BATCH_ROWS

    def __init__(
        self, connection: TableConnection, *, quick: bool = False, silence: float = READ_SECONDS
    ) -> None:
        self._settings = connection
        self._columns: tuple[str, ...] = ()
        self._types: dict[int, PgType] = {}
        self._connection = connect(connection, silence=QUICK_SECONDS if quick else silence)
        try:
            with self.explained():
                self._begin(quick)
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, quick: bool) -> None:
        for statement in _SESSION:
            self._connection.execute(statement)
        if self._connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Else the server would stop at the first text that is not UTF-8.
            self._connection.execute("SET client_encoding = 'SQL_ASCII'")
        if quick:
            self._connection.execute(f"SET statement_timeout = {QUICK_SECONDS * 1000}")

    def quote(self, name: str) -> str:
        """In double quotes."""
        return quote(name)

    def unquoted(self, name: str) -> str:
        """Without double quotes."""
        quoted = len(name) > 2 and name[0] == name[-1] == '"'
        return name[1:-1].replace('""', '"') if quoted else name

    def table(self, name: str) -> Table:
        """From pg_catalog."""
        table = source_table(self, self._settings, name)
        self._columns = tuple(c.name for c in table.columns)
        return table

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """All rows, read at once."""
        with self.explained():
            cursor = self._connection.cursor()
            found = []
            # Not `execute`, which would also run what stands behind a semicolon in a job's SQL.
            for _ in cursor.stream(_sent(sql)):
                row, names = cursor.pgresult, [d.name for d in cursor.description or ()]
                values = (row.get_value(0, at) for at in range(len(names)))
                found.append({n: _text(v) for n, v in zip(names, values, strict=True)})
            return found

    def literals(self, sql: str) -> list[tuple[str | None, ...]]:
        """All rows, read at once."""
        self._know_types()
        with self.explained():
            rows = self._connection.execute(_sent(sql)).fetchall()
        return [tuple(None if v is None else self.literal(v) for v in row) for row in rows]

    def literal(self, value: object) -> str:
        """A value of a row as SQL."""
        if type(value) is Unfit:
            return self.text_literal(value.raw.decode("utf-8", "surrogateescape"))
        if isinstance(value, str):
            return self.text_literal(value)
        from psycopg import sql

        return str(sql.Literal(value).as_string(self._connection))

    def text_literal(self, text: str) -> str:
        """A text as SQL, of whatever type it is compared with."""
        return "'" + text.replace("'", "''") + "'"

    def estimate(self, table: Table, condition: str) -> float:
        """What the planner expects."""
        return planned_rows(self, f"SELECT 1 FROM {table.sql} WHERE {condition}")

    def count(self, sql: str, seconds: float) -> int | None:
        """With the server's own limit for a statement."""
        with self.explained():
            self._connection.execute(f"SET statement_timeout = {int(seconds * 1000)}")
        try:
            (found,) = self.texts(sql)
        except Refused:
            return None
        finally:
            with contextlib.suppress(VecferryError), self.explained():
                self._connection.execute("SET statement_timeout TO DEFAULT")
        return int(next(iter(found.values())) or 0)

    def explain(self, sql: str) -> None:
        """EXPLAIN."""
        self.texts(f"EXPLAIN {sql}")

    def stream(self, sql: str, *, narrow: bool | None) -> PostgresResult:
        """By a cursor at the server; where values may be long, few at a time from the socket."""
        self._know_types()
        with self.explained():
            if narrow:
                self.rest()
                self._connection.execute("BEGIN READ ONLY")
                cursor = self._connection.cursor(name="vecferry")
                cursor.execute(_sent(sql))
                return PostgresResult(self, cursor, None)
            cursor = self._connection.cursor()
            size = 1 if narrow is False else self._piece()
            rows = cursor.stream(_sent(sql), size=size)
            first = next(rows, None)
            return PostgresResult(
                self, cursor, rows if first is None else itertools.chain([first], rows), size
            )

    def _piece(self) -> int:
        """How many rows of unknown length are taken together: more than one cost far less."""
        from psycopg import capabilities

        return PIECE if capabilities.has_stream_chunked() else 1

    def rest(self) -> None:
        """Ends the transaction of a cursor."""
        with contextlib.suppress(VecferryError), self.explained():
            if self._connection.info.transaction_status:
                self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Closes the socket, also in the middle of a result."""
        self._connection.close()

    @property
    def types(self) -> dict[int, PgType]:
        """pg_type, by oid."""
        return self._types

    def _know_types(self) -> None:
        if self._types:
            return
        rows = self.texts(
            "SELECT oid, typname AS n, typtype AS k, typelem AS e FROM pg_type "
            "WHERE typtype <> 'c' OR typrelid NOT IN "
            "(SELECT oid FROM pg_class WHERE relkind <> 'c')"
        )
        self._types = {
            int(r["oid"] or 0): PgType(str(r["n"]), str(r["k"]), int(r["e"] or 0)) for r in rows
        }
        register(self._connection, self._types)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the client within are raised as ours."""
        import psycopg

        try:
            yield
        except VecferryError:
            raise
        except (psycopg.Error, OSError) as e:
            raise classify(e, self._settings, self._columns) from e


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")


def _sent(sql: str) -> bytes:
    """A statement as it is sent; a key that is not valid text goes back as it came."""
    return sql.encode("utf-8", "surrogateescape")


class PostgresSource(TableSource):
    """The reader of the stepType postgresql."""

    kind: ClassVar[str] = "postgresql"
    read_seconds: float = READ_SECONDS
    """How long a server may be silent before the next row."""

    def connect(self, connection: TableConnection, *, quick: bool = False) -> Database:
        """A connection of psycopg."""
        return PostgresDatabase(connection, quick=quick, silence=self.read_seconds)
