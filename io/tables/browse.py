"""What a database holds: its schemas, their tables, columns and rows; see `vecferry.browse`.

A path is ``SCHEMA/TABLE``, or ``TABLE`` alone in the schema that the data source has.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from vecferry.browse import (
    SAMPLE,
    ColumnInfo,
    Draft,
    Entry,
    Page,
    TableInfo,
    drafted,
    parts_of,
)
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import Database, Table


class TableBrowser(abc.ABC):
    """Looks at a database; a session that the server holds to be read-only."""

    step_type: ClassVar[str]
    """The reader of such tables."""
    schema_kind: ClassVar[str]
    """What the product calls what holds tables: ``schema`` or ``database``."""

    def __init__(self, connection: TableConnection, seconds: float) -> None:
        self.connection = connection
        self._database: Database | None = None

    @abc.abstractmethod
    def connect(self) -> Database:
        """A new connection, which gives up soon."""

    @abc.abstractmethod
    def version_sql(self) -> str:
        """A query whose only value is the server's version."""

    @abc.abstractmethod
    def schemas_sql(self, after: str | None) -> str:
        """The column `name` of all schemas behind one, in order."""

    @abc.abstractmethod
    def tables_sql(self, schema: str, after: str | None) -> str:
        """The columns `name`, `kind`, `n`, `b` of all tables behind one, in order."""

    @property
    def database(self) -> Database:
        """The connection, opened when it is needed first."""
        if self._database is None:
            self._database = self.connect()
        return self._database

    def test(self) -> str:
        """Asks for the version."""
        (row,) = self.database.texts(self.version_sql())
        return f"{self.connection.where}: {next(iter(row.values()))}"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """Schemas at the top, tables within; pages are cut by the server."""
        parts = parts_of(path, (self.schema_kind,))
        sql = self.tables_sql(parts[0], after) if parts else self.schemas_sql(after)
        rows = self.database.texts(f"{sql} LIMIT {limit + 1}")
        entries = [self._entry(parts, row) for row in rows]
        more = len(entries) > limit
        return Page(entries=entries[:limit], next=entries[limit - 1].name if more else None)

    def _entry(self, parts: list[str], row: dict[str, str | None]) -> Entry:
        name = str(row["name"])
        if not parts:
            return Entry(name=name, path=name, kind=self.schema_kind, holds=True)
        kind = "view" if "view" in str(row["kind"]).lower() else "table"
        return Entry(
            name=name,
            path=f"{parts[0]}/{name}",
            kind=kind,
            rows=_estimate(row["n"]),
            bytes=_estimate(row["b"]),
        )

    def columns(self, path: str) -> TableInfo:
        """What the catalog says."""
        table = self._table(path)
        details = {n: v for n, v in (("rows", table.rows), ("bytes", table.bytes)) if v is not None}
        return TableInfo(columns=_columns(table), details={"table": table.title, **details})

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """The rows that the server gives first."""
        return self._rows(self._table(path), rows)

    def draft(self, path: str) -> Draft:
        """A reader of all columns that the table has."""
        table = self._table(path)
        columns = drafted(_columns(table), self._rows(table, SAMPLE))
        parameter: dict[str, Any] = {"table": [table.title], "column": [c.name for c in columns]}
        return Draft(step_type=self.step_type, parameter=parameter, columns=columns)

    def close(self) -> None:
        """Ends the connection."""
        if self._database is not None:
            self._database.close()

    def _table(self, path: str) -> Table:
        parts = parts_of(path, (self.schema_kind, "table"), least=1)
        return self.database.table(".".join(map(self.database.quote, parts)))

    def _rows(self, table: Table, most: int) -> list[dict[str, Any]]:
        result = self.database.stream(f"SELECT * FROM {table.sql} LIMIT {most}", narrow=None)
        found: list[dict[str, Any]] = []
        for batch in result.batches():
            for row in batch:
                cells = zip(result.names, result.converters, row, strict=True)
                found.append({n: convert([v])[0] if convert else v for n, convert, v in cells})
        self.database.rest()
        return found


def _columns(table: Table) -> list[ColumnInfo]:
    keys = {column.name for column in table.key}
    return [
        ColumnInfo(name=c.name, type=c.type, key=c.name in keys, nullable=c.nullable)
        for c in table.columns
    ]


def _estimate(text: str | None) -> int | None:
    """A number of the server; it tells -1 of a table that it knows nothing of."""
    return None if text is None or float(text) < 0 else int(float(text))
