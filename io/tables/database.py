"""What a database gives to a reader of tables: a catalog, streams of rows, and errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from vecferry.errors import FatalError, TransientError
from vecferry.io.common.unfit import Convert

BATCH_ROWS = 1024
BATCH_BYTES = 4 << 20
"""Rows are taken from a server until their long values come to this, or to `BATCH_ROWS` rows."""


class ConnectionLost(TransientError):
    """The server is away, or the connection to it broke."""


class Refused(FatalError):
    """The server answered, and will not do what the job asks for."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    `ordered`: the server sorts its values as it compares them, and a literal of one is exact. So
    ranges and "the rows behind this one" can be asked for. `exact`: two different values
    differ as texts as well.
    """

    name: str
    type: str
    nullable: bool
    integer: bool
    ordered: bool
    exact: bool


@dataclass(frozen=True)
class Table:
    """A table or view: `key` is its primary key, or a unique one without nulls, else empty.

    `indexed` are names of columns that come first in an index. `rows` and `bytes` are the server's
    estimates. `narrow`: no value of it is long, so many rows can be fetched at once. `path` are the
    names of its database and its own where the names themselves may hold dots, else empty.
    """

    title: str
    sql: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    indexed: frozenset[str]
    rows: int | None
    bytes: int | None
    narrow: bool = False
    path: tuple[str, ...] = ()


class Result(Protocol):
    """The rows of a statement as they come from the server.

    `converters` has None for a column whose values are right as they are. `int_at` are the places
    of columns of whole numbers.
    """

    names: list[str]
    converters: list[Convert | None]
    int_at: frozenset[int]

    def batches(self) -> Iterator[list[Sequence[Any]]]:
        """Rows, some at a time; those that came before a connection broke are given first."""

    def literal(self, at: int, value: object) -> str:
        """A value of the column `at` as SQL, exactly."""

    def text(self, at: int, value: object) -> str:
        """A value of the column `at` as a short text, for an origin."""

    def raw(self, at: int, value: object) -> object:
        """A value of the column `at` as it came, text where it is valid text."""


class Database(Protocol):
    """One connection to a database, used by one thread.

    Every method raises `ConnectionLost` if the server is away. If the server refuses, `Refused` or
    `JobError` says why. `batch_rows` is the most rows that a result gives together.
    """

    batch_rows: int

    def quote(self, name: str) -> str:
        """A name as SQL."""

    def unquoted(self, name: str) -> str:
        """A name without the quotes that a job may have put around it."""

    def table(self, name: str) -> Table:
        """What the catalog knows of a table; JobError names the nearest one."""

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """A small result, all of it as texts."""

    def literals(self, sql: str) -> list[tuple[str | None, ...]]:
        """A small result, its values as SQL literals, null as None."""

    def estimate(self, table: Table, condition: str) -> float:
        """About how many rows meet a condition; by the server's statistics, at once."""

    def count(self, sql: str, seconds: float) -> int | None:
        """The number that a query of one number gives; None where it takes longer."""

    def explain(self, sql: str) -> None:
        """Lets the server check a statement without running it."""

    def stream(self, sql: str, *, narrow: bool | None) -> Result:
        """Runs a statement whose rows are then taken one after the other."""

    def rest(self) -> None:
        """Ends what a result that was read to its end has left open."""

    def close(self) -> None:
        """Ends the connection at once, also in the middle of a result, and reads no more of it."""


class Closeable(Protocol):
    """A connection of any client."""

    def close(self) -> None:
        """Ends the connection."""


C = TypeVar("C", bound=Closeable)


class Pool(Generic[C]):
    """The idle connections of one step in this process, by the number of the step's database.

    Opening a connection, with TLS, costs as much as reading many rows. Used by many threads.
    """

    def __init__(self) -> None:
        self._idle: list[tuple[int, C]] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, group: int = 0) -> C | None:
        """A connection that nobody uses, to be given back or closed; None if none is idle."""
        with self._lock:
            for i, (at, connection) in enumerate(self._idle):
                if at == group:
                    del self._idle[i]
                    return connection
        return None

    def give(self, connection: C, group: int = 0) -> None:
        """Keeps a connection on which nothing is left open."""
        with self._lock:
            if not self._closed:
                self._idle.append((group, connection))
                return
        connection.close()

    def drop(self) -> None:
        """Closes the idle connections: if one broke, the others are likely to be dead as well."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def close(self) -> None:
        """Closes the idle connections, and from now on each one that is given back."""
        self._closed = True
        self.drop()
