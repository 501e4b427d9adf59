"""One connection to a MySQL server: its catalog, and statements whose rows are streamed."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vecferry.errors import JobError, VecferryError, is_raised_in, near, redact, shorten
from vecferry.io.common.unfit import Convert
from vecferry.io.mysql.catalog import read_table
from vecferry.io.mysql.values import BINARY, BIT, DECIMALS, INTEGERS, TEXTS, converter
from vecferry.io.tables.connection import TableConnection, tls_context
from vecferry.io.tables.database import (
    BATCH_BYTES,
    BATCH_ROWS,
    ConnectionLost,
    Refused,
    Table,
)

if TYPE_CHECKING:
    from pymysql.connections import Connection

_LOST = frozenset(
    {
        1040,  # too many connections
        1053,  # shutdown
        1152, 1158, 1159, 1160, 1161,  # the connection broke, as the server sees it
        1203, 1226,  # the user has too many connections
        1205, 1213,  # waited too long for a lock, deadlock
        1927,  # MariaDB: connection killed
        2002, 2003, 2006, 2013, 2055,  # the client's: not reached, gone, lost
        3169,  # session killed
        4031,  # disconnected by the server
    }
)  # fmt: skip
_TIMED_OUT = frozenset({1969, 3024})
_KILLED = 1317
_OF_A_COMMAND = 1220
_UNKNOWN_COLUMN = re.compile(r"Unknown column '(.+?)'")


def classify(
    error: Exception, given: TableConnection, columns: Sequence[str] = ()
) -> VecferryError:
    """What an error of PyMySQL means.

    Args:
      error: what a call of the client raised.
      given: the data source.
      columns: those of the table that is read, for hints.

    Returns:
      `ConnectionLost` if the server is away, else `Refused`, which says what to correct.
    """
    import pymysql

    arguments = error.args
    cause = getattr(error, "original_exception", None) or error
    text = redact(shorten(str(arguments[-1]) if arguments else type(error).__name__, 300))
    code = arguments[0] if arguments and isinstance(arguments[0], int) else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = cause.verify_message
        return Refused(f"the certificate of {given.where} is not trusted ({why}): {given.trust}")
    if isinstance(cause, ssl.SSLError):
        return Refused(
            f"TLS with {given.where} fails: {shorten(cause)}; let the server speak TLS 1.2 or "
            "newer (many a MySQL 5.7 does not), or set tls: off on the data source"
        )
    if code == 2026 and "doesn't support" in text:
        return Refused(
            f"{given.where} offers no TLS, and the data source asks for it: switch it on at the "
            "server, or leave tls and caCert out"
        )
    gone = code is None and isinstance(error, pymysql.err.InterfaceError | OSError)
    if gone or code == 0 or code in _LOST or "sequence number" in text:
        return ConnectionLost(f"{given.where} does not answer: {text}")
    if code == _OF_A_COMMAND and "I/O error" in text:  # MariaDB, where an event is being written
        return ConnectionLost(f"{given.where} can't read its log at this moment: {text}")
    return Refused(_refusal(code, text, given, columns))


def _refusal(code: int | None, text: str, given: TableConnection, columns: Sequence[str]) -> str:
    """What the server refuses, by the number of its error, and what to correct."""
    user = given.username
    if code == 1045:
        return (
            f"{given.where} refuses the login of user {user!r}: correct username or password "
            f"({text})"
        )
    if code in (1130, 1129):
        return f"{given.where} takes no connections from this machine: {text}"
    if code == 1044:
        return f"user {user!r} may not use the database {given.database!r}: {text}"
    if code in (1142, 1143):
        return f"user {user!r} needs the right to SELECT: {text}"
    if code == 1054:
        match = _UNKNOWN_COLUMN.search(text)
        hint = near(match[1].rpartition(".")[2].strip("`"), columns) if match else ""
        return f"{text}{hint}; correct column, where or querySql"
    if code == 1064:
        return f"the server does not understand column, where or querySql: {text}"
    if code in _TIMED_OUT:
        return (
            f"the server stopped the statement after its time limit ({text}); read smaller ranges "
            "by a splitPk with an index. Or raise max_execution_time (max_statement_time on "
            "MariaDB) for this user"
        )
    if code == _KILLED:
        return f"the statement was stopped at the server, by KILL or by its time limit ({text})"
    if code in (1290, 1792):
        return f"the session is read-only, and the statement would write: {text}"
    return f"{given.where} refuses the statement: {text}" + (f" [{code}]" if code else "")


CONNECT_SECONDS = 10
QUICK_SECONDS = 30
READ_SECONDS = 3600
"""A server may sort long before it sends the first row; a dead one is told by keep-alive."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
SHORT_VALUE = 64
"""Where a batch may come to more than `BATCH_BYTES`, longer columns than this are weighed."""

_SESSION = (
    "SET SESSION time_zone = '+00:00'",
    # Do not hang up on a slow consumer; the default is a minute.
    f"SET SESSION net_write_timeout = {READ_SECONDS}",
    # So that a zero date can stand in a comparison.
    "SET SESSION sql_mode = REPLACE(REPLACE(@@sql_mode, 'NO_ZERO_IN_DATE', ''), 'NO_ZERO_DATE', ''"
    ")",
    "SET SESSION max_sort_length = 8192",
    "SET SESSION TRANSACTION READ ONLY",
)
_BAD_DATABASE, _UNKNOWN_VARIABLE = 1049, 1193


def connect(given: TableConnection, read_seconds: float, database: str | None) -> Connection:
    """A connection of PyMySQL that gives bytes; PyMySQL's errors are for `classify`.

    Args:
      given: the data source, which says how the connection is kept private.
      read_seconds: the longest silence of the server while an answer is awaited.
      database: the database to use; None for none.
    """
    from pymysql.connections import Connection

    class Sharing(Connection):
        """In the mode `prefer`, PyMySQL makes a context of its own for each connection."""

        def _create_ssl_ctx(self, asked: object) -> ssl.SSLContext:
            return tls_context(given)

    more: dict[str, Any] = {} if database is None else {"database": database}
    if given.tls_mode == "off":
        more["ssl_disabled"] = True
    elif given.tls_mode != "prefer":
        more["ssl"] = tls_context(given)
    password = given.password
    return Sharing(
        host=given.host,
        port=given.port,
        user=given.username,
        password=str.__str__(password),
        charset="utf8mb4",
        use_unicode=False,
        conv={},
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=read_seconds,
        write_timeout=QUICK_SECONDS,
        **more,
    )


def keep_alive(connection: Connection) -> None:
    """Lets the system find out that the other end of a connection is dead."""
    sock = connection._sock
    with contextlib.suppress(OSError):
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@contextlib.contextmanager
def explained(given: TableConnection, columns: Sequence[str] = ()) -> Iterator[None]:
    """Turns what PyMySQL raises within into errors of ours, see `classify`."""
    import pymysql

    try:
        yield
    except VecferryError:
        raise
    except (pymysql.MySQLError, OSError) as e:
        raise classify(e, given, columns) from e
    except Exception as e:
        if not is_raised_in("pymysql", e):
            raise
        raise ConnectionLost(
            f"{given.where} sent what is not MySQL's protocol ({shorten(e)}): correct "
            "host and port, or see what stands between"
        ) from e


class MySqlDatabase:
    """A `Database` of MySQL or MariaDB; the session is read-only, its time zone is UTC."""

    batch_rows: int = BATCH_ROWS

    def __init__(self, connection: TableConnection, *, quick: bool = False) -> None:
        try:
            import pymysql
        except ImportError as e:
            raise JobError("MySQL needs the client PyMySQL: pip install 'vecferry[mysql]'") from e
        self._pymysql, self._settings = pymysql, connection
        self._columns: tuple[str, ...] = ()
        self._result: MySqlResult | None = None
        read_seconds = QUICK_SECONDS if quick else READ_SECONDS
        with self._explained():
            self._connection = self._connect(read_seconds)
            try:
                self._begin()
            except BaseException:
                self._connection.close()
                raise

    def _begin(self) -> None:
        keep_alive(self._connection)
        self.maria = "mariadb" in self._connection.server_version.lower()
        for statement in _SESSION:
            self._execute(statement)
        if not self.maria:
            self._try("SET SESSION information_schema_stats_expiry = 0")

    def quote(self, name: str) -> str:
        """In backticks."""
        return "`" + name.replace("`", "``") + "`"

    def unquoted(self, name: str) -> str:
        """Without backticks."""
        quoted = len(name) > 2 and name[0] == name[-1] == "`"
        return name[1:-1].replace("``", "`") if quoted else name

    def table(self, name: str) -> Table:
        """From information_schema."""
        table = read_table(self, self._settings, name)
        self._columns = tuple(c.name for c in table.columns)
        return table

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """All rows, read at once."""
        with self._explained():
            cursor = self._execute(sql)
            names = [d[0] for d in cursor.description]
            return [
                {n: None if v is None else v.decode("utf-8", "replace") for n, v in found}
                for found in (zip(names, row, strict=True) for row in cursor.fetchall())
            ]

    def run(self, sql: str) -> None:
        """A statement without rows."""
        with self._explained():
            self._execute(sql)

    def literals(self, sql: str) -> list[tuple[str | None, ...]]:
        """All rows, read at once."""
        with self._explained():
            cursor = self._execute(sql)
            fields = cursor._result.fields
            return [
                tuple(
                    None if v is None else self.literal(f, v)
                    for f, v in zip(fields, row, strict=True)
                )
                for row in cursor.fetchall()
            ]

    def literal(self, field: Any, value: bytes) -> str:
        """A value of a result as SQL."""
        if field.type_code in INTEGERS or field.type_code in DECIMALS:
            return value.decode()
        if field.type_code in TEXTS and field.charsetnr == BINARY:
            return f"X'{value.hex()}'"
        try:
            return self.text_literal(value.decode())
        except UnicodeDecodeError:
            return f"CONVERT(X'{value.hex()}' USING utf8mb4)"

    def text_literal(self, text: str) -> str:
        """A text as SQL."""
        return str(self._connection.escape(text))

    def estimate(self, table: Table, condition: str) -> float:
        """What EXPLAIN expects."""
        found = self.texts(f"EXPLAIN SELECT 1 FROM {table.sql} WHERE {condition}")[0]
        kept = float(found.get("filtered") or 100) / 100
        return float(found.get("rows") or 0) * kept

    def count(self, sql: str, seconds: float) -> int | None:
        """With the server's own limit for a statement."""
        name = "max_statement_time" if self.maria else "max_execution_time"
        limit = int(seconds if self.maria else seconds * 1000)
        self._try(f"SET SESSION {name} = {limit}")
        try:
            (found,) = self.texts(sql)
        except Refused:
            return None
        finally:
            self._try(f"SET SESSION {name} = DEFAULT")
        return int(next(iter(found.values())) or 0)

    def explain(self, sql: str) -> None:
        """EXPLAIN."""
        self.texts(f"EXPLAIN {sql}")

    def stream(self, sql: str, *, narrow: bool | None) -> MySqlResult:
        """Unbuffered: rows wait at the server until they are taken."""
        with self._explained():
            cursor = self._connection.cursor(self._pymysql.cursors.SSCursor)
            try:
                cursor.execute(sql)
                self._result = MySqlResult(self, cursor)
            except BaseException:
                _abandon(self._connection, cursor)
                raise
            return self._result

    def rest(self) -> None:
        """Nothing is left open."""
        self._result = None

    def close(self) -> None:
        """Closes the socket: closing the cursor would read the rest of the result first."""
        if self._result is not None:
            _abandon(self._connection, self._result.cursor)
            self._result = None
        if self._connection.open:
            self._connection.close()

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self._settings, self._columns)

    def _execute(self, sql: str) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(sql)
        return cursor

    def _try(self, sql: str) -> None:
        """Runs a statement that servers of other versions may not know."""
        try:
            with self._explained():
                self._execute(sql)
        except Refused:
            return

    def _connect(self, read_seconds: int, database: bool = True) -> Any:
        given = self._settings
        try:
            return connect(given, read_seconds, (given.database or None) if database else None)
        except self._pymysql.MySQLError as e:
            if not database or e.args[0] != _BAD_DATABASE:
                raise
        self._connection = self._connect(QUICK_SECONDS, database=False)
        names = [str(next(iter(r.values()))) for r in self.texts("SHOW DATABASES")]
        self._connection.close()
        raise Refused(
            f"{given.product} at {given.place} has no database {given.database!r}"
            f"{near(given.database, names)}; user {given.username!r} sees {', '.join(names)}"
        )


class MySqlResult:
    """The rows of a statement; values are the bytes of the text protocol."""

    def __init__(self, database: MySqlDatabase, cursor: Any) -> None:
        self._database, self.cursor = database, cursor
        if cursor._result.description is None:
            raise Refused("the statement gives no rows: a querySql must be a SELECT")
        self._fields = cursor._result.fields
        self.names = [f.name for f in self._fields]
        self.converters: list[Convert | None] = [
            converter(f.type_code, f.charsetnr, f.name) for f in self._fields
        ]
        self.int_at = frozenset(i for i, f in enumerate(self._fields) if f.type_code in INTEGERS)
        most = sum(f.length for f in self._fields) * database.batch_rows
        longer = [i for i, f in enumerate(self._fields) if f.length > SHORT_VALUE]
        self._long = longer if most > BATCH_BYTES else []

    def batches(self) -> Iterator[list[Sequence[Any]]]:
        """Rows as tuples of bytes."""
        take, long = self.cursor.read_next, self._long
        while True:
            rows: list[Sequence[Any]] = []
            size = 0
            try:
                with self._database._explained():
                    for _ in range(self._database.batch_rows):
                        row = take()
                        if row is None:
                            break
                        rows.append(row)
                        if long:
                            size += sum(len(row[i] or b"") for i in long)
                            if size > BATCH_BYTES:
                                break
            except VecferryError:
                if rows:
                    yield rows
                raise
            if not rows:
                return
            yield rows

    def literal(self, at: int, value: Any) -> str:
        """Numbers as they are, bytes in hexadecimal, all else in quotes."""
        return self._database.literal(self._fields[at], value)

    def text(self, at: int, value: Any) -> str:
        """Text, or hexadecimal for bytes."""
        field = self._fields[at]
        if field.type_code == BIT or (field.type_code in TEXTS and field.charsetnr == BINARY):
            return str(value.hex())
        return str(value.decode("utf-8", "backslashreplace"))

    def raw(self, at: int, value: Any) -> object:
        """Text where it is text."""
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value


def _abandon(connection: Any, cursor: Any) -> None:
    """Makes a cursor forget its result, which it would otherwise read to the end."""
    if cursor._result is not None:
        cursor._result.unbuffered_active = False
        cursor._result.connection = None
    cursor.connection = None
    connection._result = None
