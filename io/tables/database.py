"""Keeps connections between splits: opening one, with TLS, costs as much as reading many rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vecferry.errors import FatalError, TransientError

BATCH_ROWS = 1024
BATCH_BYTES = 4 << 20
"""Rows are taken from a server until their long values come to this, or to `BATCH_ROWS` rows."""

Convert = Callable[[Sequence[Any]], Sequence[Any]]
"""From the values of a column as a client gives them to those of rows; raises `UnfitValue`."""


class UnfitValue(ValueError):
    """A value that a row can't hold; `reason` is the short word of the reject."""

    def __init__(self, message: str, reason: str = "unfit-value") -> None:
        super().__init__(message)
        self.reason = reason


class ConnectionLost(TransientError):
    """The server is away, or the connection to it broke."""


class Refused(FatalError):
    """The server answered, and will not do what the job asks for."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    `ordered`: the server sorts its values as it compares them, and a literal of one is exact, so
    that ranges and "the rows behind this one" can be asked for. `exact`: two different values
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
    estimates. `narrow`: no value of it is long, so many rows can be fetched at once.
    """

    title: str
    sql: str
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    indexed: frozenset[str]
    rows: int | None
    bytes: int | None
    narrow: bool = False


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

    def literal(self, at: int, value: Any) -> str:
        """A value of the column `at` as SQL, exactly."""

    def text(self, at: int, value: Any) -> str:
        """A value of the column `at` as a short text, for an origin."""

    def raw(self, at: int, value: Any) -> Any:
        """A value of the column `at` as it came, text where it is valid text."""


class Database(Protocol):
    """One connection to a database, used by one thread.

    Every method raises `ConnectionLost` where the server is away, and `Refused` or `JobError`, in
    words, where it says no.
    """

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


class Connections:
    """The idle connections of one step in this process, by number of the step's database."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, Database]] = []
        self._lock = threading.Lock()
        self._closed = False

    def take(self, group: int) -> Database | None:
        """One that nobody uses, to be given back or closed; None where there is none."""
        with self._lock:
            for i, (at, database) in enumerate(self._idle):
                if at == group:
                    del self._idle[i]
                    return database
        return None

    def give(self, group: int, database: Database) -> None:
        """Keeps one whose last result was read to its end."""
        database.rest()
        with self._lock:
            if not self._closed:
                self._idle.append((group, database))
                return
        database.close()

    def drop(self) -> None:
        """Closes the idle ones: when one broke, the others are likely dead as well."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, database in idle:
            database.close()

    def close(self) -> None:
        """Closes the idle ones, and from now on every one that is given back."""
        self._closed = True
        self.drop()
