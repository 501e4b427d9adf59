"""Tables that the reference implementation wrote are read as it reads them, at each snapshot."""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pypaimon", reason="not ours: the environment with the lake's client runs this")

from tests.io.paimon.reference import COLUMNS, KINDS
from tests.io.paimon.support import read, rows_of
from tests.services.paimon import PaimonServer, Table
from tests.services.server import running
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.source import PaimonSource
from vecferry.rows import Reject
from vecferry.steps import StepContext

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def server() -> PaimonServer:
    return running(PaimonServer)


@pytest.fixture
def make(server: PaimonServer, tmp_path: Path) -> Any:
    """Makes a table in a warehouse of the test's own."""

    def made(columns: dict[str, str] = COLUMNS, key: Any = ("id",), **more: Any) -> Table:
        catalog = {"metastore": "filesystem", "warehouse": str(tmp_path)}
        name = f"shop.t{uuid.uuid4().hex[:8]}"
        options = {"bucket": "2", **more.pop("options", {})}
        if options["bucket"] == "-1" and not key:
            del options["bucket"]
        return Table(server, catalog, name, columns, key, options=options, **more).create()

    return made


def source(table: Table, **parameters: Any) -> PaimonSource:
    """The reader of a table, in full."""
    database, name = table.name.split(".")
    given = {"database": database, "table": name, "scanMode": "full", **parameters}
    return PaimonSource(
        PaimonSettings.model_validate(given),
        PaimonConnection.model_validate({"options": dict(table.catalog)}),
        StepContext(step="Reader", step_type="paimon", retry_deadline=5),
    )


def by_id(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["id"])


def changed(table: Table, *, deletes: bool) -> None:
    """Four commits, with updates, nulls, late sequences and deletes, and two compactions."""
    table.upsert(*([i, f"text {i}", 10] for i in range(20)))
    table.upsert(*([i, f"again {i}", 5 if i % 2 else 20] for i in range(0, 20, 3)))
    table.compact()
    table.upsert([3, None, 30], [4, "four", None], [99, "new", 1])
    if deletes:
        table.commit(("-D", [5, "gone", 50]), ("-D", [6, "gone", 50]), ("+I", [100, "more", 1]))
    table.compact()
    table.upsert([7, "last", 60])


@pytest.mark.parametrize("kind", KINDS)
def test_each_snapshot_is_read_as_the_reference_implementation_reads_it(
    make: Any, kind: str
) -> None:
    """Before and after compaction, whatever merges the rows of a key.

    With deletion vectors we read as well what is not compacted yet, and the original does not.
    """
    options, deletes = KINDS[kind]
    table = make(options=options)
    changed(table, deletes=deletes)
    snapshots = table.snapshots()
    assert {name for _, name in snapshots} == {"APPEND", "COMPACT"}
    for number, _ in snapshots:
        at = number
        if kind == "deletion vectors":
            at = next(n for n, name in snapshots if n >= number and name == "COMPACT")
        expected = by_id(table.rows(at))
        assert expected or kind.startswith("first rows")
        assert rows_of(source(table, snapshotId=number)) == expected, number
    assert rows_of(source(table)) == by_id(table.rows())


def test_an_append_table_gives_each_row_as_often_as_it_was_written(make: Any) -> None:
    """It has no key by which one would replace another."""
    table = make(key=(), options={"bucket": "-1"})
    table.upsert([1, "a", 1], [2, "b", 2])
    table.upsert([1, "a", 1])
    assert rows_of(source(table)) == by_id(table.rows())
    assert len(table.rows()) == 3


def test_partitions_with_a_key_of_two_columns_are_read_and_overwritten(make: Any) -> None:
    """An overwrite replaces the rows of its partition; a condition may name the partition."""
    columns = {"day": "STRING NOT NULL", **COLUMNS}
    table = make(columns, key=("day", "id"), partitions=("day",))
    table.upsert(["mon", 1, "a", 1], ["mon", 2, "b", 2], ["tue", 1, "c", 3])
    table.overwrite({"day": "mon"}, ["mon", 3, "d", 4])
    assert rows_of(source(table)) == by_id(table.rows())
    assert rows_of(source(table, where="day = 'tue'", column=["id", "text"])) == [
        {"id": 1, "text": "c"}
    ]
    table.truncate()
    assert rows_of(source(table)) == table.rows() == []


def test_values_of_all_types_are_those_that_were_written(make: Any) -> None:
    """As Python has them; bytes are an image's, whole."""
    columns = {
        "id": "BIGINT NOT NULL", "yes": "BOOLEAN", "tiny": "TINYINT", "small": "SMALLINT",
        "whole": "INT", "real": "FLOAT", "double": "DOUBLE", "price": "DECIMAL(10, 2)",
        "day": "DATE", "at": "TIMESTAMP(3)", "fixed": "CHAR(3)", "name": "VARCHAR(40)",
        "image": "BYTES",
    }  # fmt: skip
    table = make(columns)
    image = bytes(range(256)) * 5000
    values = [
        1, True, -5, 300, 70_000, 0.5, 0.1, "12.50", "2026-01-31", "2026-01-31T10:20:30.123",
        "abc", "déjà 漢字", base64.b64encode(image).decode(),
    ]  # fmt: skip
    table.upsert(values, [2, *[None] * 12])
    first, second = rows_of(source(table))
    assert first == {
        "id": 1, "yes": True, "tiny": -5, "small": 300, "whole": 70_000, "real": 0.5,
        "double": 0.1, "price": decimal.Decimal("12.50"), "day": datetime.date(2026, 1, 31),
        "at": datetime.datetime(2026, 1, 31, 10, 20, 30, 123_000), "fixed": "abc",
        "name": "déjà 漢字", "image": image,
    }  # fmt: skip
    assert second == {"id": 2, **dict.fromkeys(list(columns)[1:])}


def test_columns_are_those_of_the_newest_schema(make: Any) -> None:
    """Also of rows that were written before one was added, renamed, widened or dropped."""
    table = make({**COLUMNS, "old": "STRING"})
    table.upsert([1, "a", 7, "x"])
    table.alter(
        ("add", "more", "STRING"), ("rename", "text", "words"), ("widen", "n", "BIGINT"),
        ("drop", "old"),
    )  # fmt: skip
    expected = [{"id": 1, "words": "a", "n": 7, "more": None}]
    assert rows_of(source(table)) == expected


def test_a_snapshot_that_has_expired_is_told(make: Any) -> None:
    """The newest is read; the one that is gone is named."""
    table = make()
    for i in range(4):
        table.upsert([i, "x", i])
    assert table.expire(retain=1) > 0
    assert len(rows_of(source(table))) == 4
    with pytest.raises(Exception, match="1"):
        read(source(table, snapshotId=1))


def test_a_rolled_back_table_has_the_rows_of_that_snapshot(make: Any) -> None:
    """And what was written on."""
    table = make()
    table.upsert([1, "a", 1])
    table.upsert([1, "b", 2], [2, "c", 3])
    table.rollback(1)
    table.upsert([5, "d", 4])
    found = read(source(table))
    assert not any(isinstance(item, Reject) for item in found)
    assert rows_of(source(table)) == by_id(table.rows())
    assert [row["id"] for row in rows_of(source(table))] == [1, 5]
