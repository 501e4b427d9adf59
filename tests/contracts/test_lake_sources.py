"""The contract of sources on tables of Paimon, one of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import SCHEMA, WHY, Table, Warehouse, row
from vecferry.steps import Source
from vecferry.testing import SourceContract, SourcePlace

pytest.importorskip("pypaimon", reason=WHY)

MANY = 300


class Rows(SourcePlace):
    """A table that holds the rows of `row`."""

    def __init__(self, table: Table, rows: list[dict[str, Any]], where: str | None = None) -> None:
        self.table, self._rows, self.where = table, rows, where

    def source(self, parts: int = 1) -> Source:
        size = sum(p.bytes for s in self._cut(1 << 40) for p in s.pieces)
        return self.table.source(split_bytes=size // parts, where=self.where)

    def _cut(self, split_bytes: int) -> list[Any]:
        return self.table.source(split_bytes=split_bytes).plan().splits

    def rows(self) -> list[dict[str, Any]]:
        return self._rows

    def missing(self) -> Source:
        return self.table.warehouse.source("no_such_table")


def keyed(warehouse: Warehouse, **options: str) -> Rows:
    """A table with a key, a third of which was written three times."""
    table = warehouse.make("keyed", keys=["id"], **options)
    table.write(row(i) for i in range(MANY))
    table.write(row(i, "better") for i in range(0, MANY, 3))
    table.write(row(i, "best") for i in range(0, MANY, 3))
    titles = ("best", "row", "row")
    return Rows(table, [row(i, titles[i % 3]) for i in range(MANY)])


def appended(warehouse: Warehouse, **options: str) -> Rows:
    """A table without a key, of seven files."""
    table = warehouse.make("appended", **options)
    for n in range(7):
        table.write(row(i) for i in range(n, MANY, 7))
    return Rows(table, [row(i) for i in range(MANY)])


def partitioned(warehouse: Warehouse) -> Rows:
    """Three partitions of a table with a key of two columns."""
    schema = pa.schema([pa.field("day", pa.string(), nullable=False), *SCHEMA])
    table = warehouse.make(
        "partitioned", schema, keys=["day", "id"], partitions=["day"], bucket="2"
    )
    rows = [{"day": f"d{i % 3}", **row(i)} for i in range(MANY)]
    table.write(rows).write(rows[:50])
    return Rows(table, rows)


def filtered(warehouse: Warehouse) -> Rows:
    """Rows that meet a condition on a column that is not part of the key."""
    place = keyed(warehouse, bucket="2")
    rows = [r for r in place.rows() if r["title"].startswith("best") or r["id"] >= 250]
    return Rows(place.table, rows, "title LIKE 'best%' OR NOT id < 250")


KINDS = {
    "keyed": lambda w: keyed(w, bucket="3"),
    "dynamic-buckets": lambda w: keyed(w, bucket="-1"),
    "appended": appended,
    "appended-in-buckets": lambda w: appended(w, bucket="2", bucket_key="id"),
    "partitioned": partitioned,
    "filtered": filtered,
}


class TestPaimon(SourceContract):
    """Tables in a folder, each kind of them."""

    @pytest.fixture(params=KINDS)
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Rows:
        return KINDS[request.param](Warehouse(tmp_path))
