"""Tables of the MaxCompute server of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from odps.tunnel.io.types import odps_type_to_arrow_type
from odps.types import validate_data_type


def arrow_type(kind: str, *, of_instance: bool = False) -> pa.DataType:
    """How a column is sent; the instance tunnel sends a TIMESTAMP as a struct."""
    if kind == "json":
        return pa.string()
    found = odps_type_to_arrow_type(validate_data_type(kind))
    if of_instance and pa.types.is_timestamp(found) and found.unit == "ns":
        return pa.struct([("sec", pa.int64()), ("nano", pa.int32())])
    return found


class Rows:
    """The rows of a table or partition, held in memory."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return self.table.num_rows

    def read(
        self, start: int, count: int, columns: list[str], step: int
    ) -> Iterator[pa.RecordBatch]:
        """Record batches of at most `step` rows."""
        part = self.table.select(columns).slice(start, count).combine_chunks()
        yield from part.to_batches(max_chunksize=step)


class Endless:
    """As many rows as one likes, all of one batch that is sent over and over."""

    def __init__(self, batch: pa.RecordBatch, rows: int) -> None:
        self.batch, self.rows = batch, rows

    def __len__(self) -> int:
        return self.rows

    def read(
        self, start: int, count: int, columns: list[str], step: int
    ) -> Iterator[pa.RecordBatch]:
        """The batch as often as it takes; `step` is its own size."""
        chosen = self.batch.select(columns)
        while count > 0:
            yield chosen.slice(0, min(count, chosen.num_rows))
            count -= chosen.num_rows


@dataclass
class Table:
    """A table; `columns` and `keys` are name to type, `rows` spec (``pt=1``) to a list of dicts."""

    name: str
    columns: dict[str, str]
    rows: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    kind: str = "MANAGED_TABLE"
    primary_key: list[str] | None = None
    modified: int = 1_700_000_000

    def __post_init__(self) -> None:
        self.rows = {spec: self.held(rows) for spec, rows in self.rows.items()}

    def held(self, rows: Any) -> Any:
        """Rows given as dicts, as they are kept."""
        if not isinstance(rows, list):
            return rows
        fields = [pa.field(n, arrow_type(k)) for n, k in self.columns.items()]
        return Rows(pa.Table.from_pylist(rows, schema=pa.schema(fields)))

    def all_rows(self) -> pa.Table:
        """All partitions, with their keys as columns."""
        parts = []
        for spec, rows in self.rows.items():
            part = rows.table
            for pair in filter(None, spec.split(",")):
                key, value = pair.split("=")
                kind = arrow_type(self.keys[key])
                filled = pa.array([value] * len(rows), pa.string()).cast(kind)
                part = part.append_column(pa.field(key, kind), filled)
            parts.append(part)
        return pa.concat_tables(parts)

    def schema(self, *names: str) -> dict[str, Any]:
        """The table's columns as JSON, only those in `names` where some are given."""

        def columns(of: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "type": k} for n, k in of.items() if not names or n in names]

        return {"columns": columns(self.columns), "partitionKeys": columns(self.keys)}


def wide_batch(rows: int = 4096) -> pa.RecordBatch:
    """A batch for benches: an id, a text of about 100 characters, a number and a time."""
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(range(rows), pa.int64()),
            "text": [
                f"row {i} tells at some length of thing {i * 7919} " + "x" * 60 for i in range(rows)
            ],
            "price": pa.array([i / 7 for i in range(rows)], pa.float64()),
            "seen": pa.array([1_700_000_000_000 + i for i in range(rows)], pa.timestamp("ms")),
        }
    )


WIDE = {"id": "bigint", "text": "string", "price": "double", "seen": "datetime"}
