"""The rows of a statement of a PostgreSQL server, as they come."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from vecferry.errors import VecferryError
from vecferry.io.postgresql_types import PgType, Unfit, converter, shown
from vecferry.io.table_database import BATCH_BYTES, BATCH_ROWS, Convert

_INTEGERS = frozenset({20, 21, 23})
_SHORT = frozenset({16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 2950})
"""Booleans, numbers, times and UUIDs, whose values have few bytes."""
_LONG = frozenset({"json", "jsonb", "vector", "halfvec"})
"""Beside arrays, types whose values say nothing of their length."""


class Server(Protocol):
    """What a result asks of its connection."""

    @property
    def types(self) -> dict[int, PgType]:
        """pg_type, by oid."""

    def explained(self) -> contextlib.AbstractContextManager[None]:
        """Errors of the client within are raised as ours."""

    def literal(self, value: Any) -> str:
        """A value of a row as SQL."""


class PostgresResult:
    """The rows of a statement; `rows` is None where a cursor at the server is fetched from.

    Else they come from the socket `piece` at a time.
    """

    def __init__(
        self, database: Server, cursor: Any, rows: Iterator[Any] | None, piece: int = 1
    ) -> None:
        self._database, self._cursor, self._rows, self._piece = database, cursor, rows, piece
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
                        rows = self._cursor.fetchmany(BATCH_ROWS)
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
        while size <= BATCH_BYTES and begin < BATCH_ROWS:
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

    def literal(self, at: int, value: Any) -> str:
        """Exact; texts in quotes take the type that they are compared with."""
        return self._database.literal(value)

    def text(self, at: int, value: Any) -> str:
        """Text, or hexadecimal for bytes."""
        if type(value) is Unfit:
            return shown(value.raw)
        return value.hex() if isinstance(value, bytes) else str(value)

    def raw(self, at: int, value: Any) -> Any:
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
