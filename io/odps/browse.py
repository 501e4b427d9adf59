"""What a MaxCompute project holds; see `vecferry.browse`.

A path is ``TABLE``, or ``TABLE/PARTITION`` with the partition as ``ds=20260101,region=cn``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

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
from vecferry.io.odps.client import OdpsClient
from vecferry.io.odps.partitions import spec_of
from vecferry.io.odps.settings import OdpsConnection, OdpsSettings
from vecferry.io.odps.source import OdpsSource
from vecferry.process import end_run
from vecferry.steps import RunContext, StepContext


class OdpsBrowser:
    """Tables of a project, and their partitions."""

    def __init__(self, connection: OdpsConnection, seconds: float) -> None:
        self._connection = connection
        self._context = StepContext(
            step="PATH", step_type="odps", shared=RunContext(), retry_deadline=seconds
        )
        self._client = OdpsClient(_settings("t", [], ["*"]), connection, self._context, seconds)

    def test(self) -> str:
        """Lists a table."""
        project = self._connection.project
        found = self._client.call("the tables", lambda: list(islice(self._tables(None), 1)))
        some = "tables" if found else "no table yet"
        return f"MaxCompute at {self._connection.endpoint}, project {project}: {some}"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """Tables at the top, partitions in a table that has them."""
        parts = parts_of(path, ("table",))
        if not parts:
            listed = lambda: page_of(self._tables(after), limit, after)  # noqa: E731
            return self._client.call("the tables", listed)
        table = self._client.table(parts[0])
        names = map(spec_of, self._client.partitions(table)) if _keys(table) else ()
        entries = (Entry(name=name, path=f"{parts[0]}/{name}", kind="partition") for name in names)
        return page_of(entries, limit, after)

    def _tables(self, after: str | None) -> Iterator[Entry]:
        for table in self._client.odps.list_tables(project=self._connection.project):
            yield Entry(name=table.name, path=table.name, kind="table", holds=True)

    def columns(self, path: str) -> TableInfo:
        """The columns of a table, those of its partitions last."""
        name, partition = self._place(path)
        table = self._client.table(name)
        self._require(table, partition)
        details: dict[str, str | int | bool] = {"table": name}
        if partition:
            details["partition"] = partition
        return TableInfo(columns=_columns(table), details=details)

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """The first rows of a table, or of a partition; of one partition if none is named."""
        name, partition = self._place(path)
        table = self._client.table(name)
        self._require(table, partition)
        if _keys(table) and not partition:
            partitions = self._client.partitions(table)
            if not partitions:
                return []
            partition = spec_of(partitions[-1])
        columns = [c.name for c in _columns(table)]  # "*" leaves out those of partitions
        settings = _settings(name, [partition] if partition else [], columns)
        return first_rows(OdpsSource(settings, self._connection, self._context), rows)

    def draft(self, path: str) -> Draft:
        """A reader of all columns; of all partitions, if none is named."""
        name, partition = self._place(path)
        table = self._client.table(name)
        columns = drafted(_columns(table), self.sample(path, SAMPLE))
        parameter: dict[str, Any] = {"table": name, "column": [c.name for c in columns]}
        if _keys(table):
            parameter["partition"] = [partition or f"{_keys(table)[0]}=*"]
        return Draft(step_type="odps", parameter=parameter, columns=columns)

    def _require(self, table: Any, partition: str) -> None:
        """Raises JobError for a partition that the table does not have."""
        known = [spec_of(p) for p in self._client.partitions(table)] if partition else []
        if partition and partition not in known:
            raise not_there("partition", partition, known)

    def close(self) -> None:
        """Forgets what was opened."""
        end_run(self._context.run)

    def _place(self, path: str) -> tuple[str, str]:
        name, *rest = parts_of(path, ("table", "partition"), least=1)
        return name, rest[0] if rest else ""


def _settings(table: str, partition: list[str], column: list[str]) -> OdpsSettings:
    given = {"table": table, "column": column, "partition": partition}
    return OdpsSettings.model_validate({n: v for n, v in given.items() if v})


def _keys(table: Any) -> list[str]:
    return [column.name for column in table.table_schema.partitions]


def _columns(table: Any) -> list[ColumnInfo]:
    schema = table.table_schema
    return [
        ColumnInfo(
            name=column.name,
            type=str(column.type),
            nullable=column.nullable,
        )
        for column in (*schema.simple_columns, *schema.partitions)
    ]
