"""Tables of Paimon for tests, written by pypaimon into a folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.source import SPLIT_BYTES, PaimonSource
from vecferry.rows import Change, Reject
from vecferry.steps import Source, StepContext

WHY = "not ours: the environment with the lake's client runs this"
"""Why a test is skipped where pypaimon is not installed, since it wants an older pyarrow."""

DATABASE = "shop"

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("title", pa.string()), ("price", pa.float64())]
)


def row(i: int, title: str = "row") -> dict[str, Any]:
    """A row of a table with `SCHEMA`."""
    return {"id": i, "title": f"{title} {i}", "price": i / 4}


class Warehouse:
    """A warehouse, and the tables that a test makes there.

    `options` are those of the catalog; by default it is a folder.
    """

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        from pypaimon import CatalogFactory

        self.options = dict(options or {"warehouse": str(folder)})
        self.catalog = CatalogFactory.create(self.options)
        self.catalog.create_database(DATABASE, True)

    @property
    def connection(self) -> PaimonConnection:
        """The data source of a job."""
        return PaimonConnection.model_validate({"type": "paimon", "options": self.options})

    def make(
        self,
        name: str,
        schema: pa.Schema = SCHEMA,
        *,
        keys: Sequence[str] = (),
        partitions: Sequence[str] = (),
        **options: str,
    ) -> Table:
        """A new table; an option is written ``merge_engine`` for ``merge-engine``."""
        from pypaimon import Schema

        given = {n.replace("__", ".").replace("_", "-"): v for n, v in options.items()}
        made = Schema.from_pyarrow_schema(
            schema,
            primary_keys=list(keys) or None,
            partition_keys=list(partitions) or None,
            options=given,
        )
        self.catalog.create_table(f"{DATABASE}.{name}", made, False)
        return Table(self, name)

    def source(
        self,
        table: str,
        *,
        context: StepContext | None = None,
        split_bytes: int = SPLIT_BYTES,
        connection: Any = None,
        **parameters: Any,
    ) -> PaimonSource:
        """The reader of a table, in full unless the parameters say otherwise."""
        given = {"database": DATABASE, "table": table, "scanMode": "full", **parameters}
        return PaimonSource(
            PaimonSettings.model_validate(given),
            connection or self.connection,
            context or StepContext(step="Reader", step_type="paimon"),
            split_bytes=split_bytes,
        )


class Table:
    """A table that a test writes to."""

    def __init__(self, warehouse: Warehouse, name: str) -> None:
        self.warehouse, self.name = warehouse, name

    @property
    def handle(self) -> Any:
        """pypaimon's table, loaded anew."""
        return self.warehouse.catalog.get_table(f"{DATABASE}.{self.name}")

    def write(self, rows: Iterable[Mapping[str, Any]], *, overwrite: Any = None) -> Table:
        """One commit."""
        table = self.handle
        from pypaimon.schema.data_types import PyarrowFieldParser

        schema = PyarrowFieldParser.from_paimon_schema(table.fields)
        builder = table.new_batch_write_builder()
        if overwrite is not None:
            builder = builder.overwrite(overwrite)
        write, commit = builder.new_write(), builder.new_commit()
        write.write_arrow(pa.Table.from_pylist(list(rows), schema))
        commit.commit(write.prepare_commit())
        write.close()
        commit.close()
        return self

    def source(self, **more: Any) -> PaimonSource:
        """The reader of this table."""
        return self.warehouse.source(self.name, **more)


def read(source: Source) -> list[Change | Reject]:
    """All that a source gives."""
    return [item for split in source.plan().splits for item in source.read(split)]


def rows_of(source: Source) -> list[dict[str, Any]]:
    """The rows that a source gives, in the order of their ids."""
    found = [dict(item) for item in read(source) if isinstance(item, Change)]
    return sorted(found, key=lambda row: row["id"])
