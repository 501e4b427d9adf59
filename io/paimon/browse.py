"""What a catalog of Paimon holds; see `vecferry.browse`. A path is ``DATABASE/TABLE``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from vecferry.browse import (
    SAMPLE,
    ColumnInfo,
    Draft,
    Entry,
    Page,
    TableInfo,
    drafted,
    first_rows,
    not_there,
    page_of,
    parts_of,
)
from vecferry.io.paimon.client import PaimonClient, open_catalog
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.source import PaimonSource
from vecferry.process import end_run
from vecferry.steps import RunContext, StepContext

T = TypeVar("T")


class PaimonBrowser:
    """Databases of a catalog, and tables in them."""

    def __init__(self, connection: PaimonConnection, seconds: float) -> None:
        self._connection = connection
        self._context = StepContext(
            step="PATH", step_type="paimon", shared=RunContext(), retry_deadline=seconds
        )

    def test(self) -> str:
        """Lists the databases."""
        databases = self._asked(lambda catalog: list(catalog.list_databases()))
        where = self._connection.options["uri" if self._connection.is_rest else "warehouse"]
        return f"Paimon at {where}: {len(databases)} databases"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """Databases at the top, tables within."""
        parts = parts_of(path, ("database",))
        databases = self._asked(lambda catalog: list(catalog.list_databases()))
        if not parts:
            found = (Entry(name=n, path=n, kind="database", holds=True) for n in databases)
            return page_of(found, limit, after)
        (database,) = parts
        if database not in databases:
            raise not_there("database", database, databases)
        tables = self._asked(lambda catalog: list(catalog.list_tables(database)))
        entries = (Entry(name=n, path=f"{database}/{n}", kind="table") for n in tables)
        return page_of(entries, limit, after)

    def columns(self, path: str) -> TableInfo:
        """The newest schema, with the primary key."""
        settings = _settings(path)
        table = PaimonClient(settings, self._connection, self._context).table()
        details: dict[str, str | int | bool] = {"table": settings.full_name}
        if table.partition_keys:
            details["partitions"] = ", ".join(table.partition_keys)
        return TableInfo(columns=_columns(table), details=details)

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """The first rows of the newest snapshot; none of a table without one."""
        source = PaimonSource(_settings(path), self._connection, self._context)
        return first_rows(source, rows)

    def draft(self, path: str) -> Draft:
        """A reader of all columns."""
        columns = drafted(self.columns(path).columns, self.sample(path, SAMPLE))
        database, table = parts_of(path, ("database", "table"), least=2)
        parameter = {"database": database, "table": table, "column": [c.name for c in columns]}
        return Draft(step_type="paimon", parameter=parameter, columns=columns)

    def close(self) -> None:
        """Forgets what was opened."""
        end_run(self._context.run)

    def _asked(self, ask: Callable[[Any], T]) -> T:
        client = PaimonClient(_settings("x/x"), self._connection, self._context)
        return client.call("the catalog", lambda: ask(open_catalog(self._connection)))


def _settings(path: str) -> PaimonSettings:
    database, table = parts_of(path, ("database", "table"), least=2)
    return PaimonSettings.model_validate({"database": database, "table": table, "column": ["*"]})


def _columns(table: Any) -> list[ColumnInfo]:
    return [
        ColumnInfo(
            name=field.name,
            type=str(field.type),
            key=field.name in table.primary_keys,
            nullable=field.type.nullable,
        )
        for field in table.fields
    ]
