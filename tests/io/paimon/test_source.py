"""Tables are read as they are, whatever their kind, and by both readers of the client."""

from __future__ import annotations

import datetime
import decimal
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.io.paimon.support import DATABASE, SCHEMA, WHY, Table, Warehouse, read, row, rows_of

pytest.importorskip("pypaimon", reason=WHY)

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that, equal_to

from vecferry.errors import FatalError, JobError
from vecferry.io.paimon import PaimonSettings, ReadFromPaimon, batches
from vecferry.io.paimon.client import classify
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

TYPES = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False), ("byte", pa.int8()), ("short", pa.int16()),
        ("int", pa.int32()), ("float", pa.float32()), ("double", pa.float64()),
        ("decimal", pa.decimal128(12, 3)), ("text", pa.string()), ("bytes", pa.binary()),
        ("flag", pa.bool_()), ("day", pa.date32()), ("clock", pa.time32("ms")),
        ("seen", pa.timestamp("us")), ("zoned", pa.timestamp("ms", "UTC")),
        ("vector", pa.list_(pa.float32())), ("tags", pa.list_(pa.string())),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("part", pa.struct([("a", pa.int64()), ("b", pa.string())])),
    ]
)  # fmt: skip


def typed(i: int) -> dict[str, Any]:
    """A row with a value of each type; every fifth has nulls."""
    if i % 5 == 4:
        return {"id": i}
    return {
        "id": i, "byte": i % 100, "short": i, "int": i * 1000, "float": i / 2, "double": i / 3,
        "decimal": decimal.Decimal(i) / 8, "text": f"tür {i}", "bytes": bytes([i % 256, 0]),
        "flag": i % 2 == 0, "day": datetime.date(2026, 1, 1) + datetime.timedelta(i),
        "clock": datetime.time(i % 24, 1), "seen": datetime.datetime(2026, 1, 1, 0, 0, 0, i),
        "zoned": datetime.datetime(2026, 1, 1, i % 24, tzinfo=datetime.UTC),
        "vector": [i, 0.5], "tags": ["a", None, str(i)], "counts": {"n": i},
        "part": {"a": i, "b": "x"},
    }  # fmt: skip


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A warehouse in a folder."""
    return Warehouse(tmp_path)


def reader_of(native: bool) -> StepContext:
    """The context of a step that reads natively, or in Python."""
    context = StepContext(step="Reader", step_type="paimon")
    context.once("native", batches._Native).works = None if native else False
    return context


def reads_natively(context: StepContext) -> bool | None:
    """Whether the step did."""
    return context.once("native", batches._Native).works


KINDS: dict[str, dict[str, Any]] = {
    "append": {},
    "deduplicate": {"keys": ["id"], "bucket": "2"},
    "sequence": {"keys": ["id"], "bucket": "2", "sequence__field": "int"},
    "partial-update": {"keys": ["id"], "bucket": "2", "merge_engine": "partial-update"},
    "deletion-vectors": {"keys": ["id"], "bucket": "2", "deletion_vectors__enabled": "true"},
    "orc": {"keys": ["id"], "bucket": "2", "file__format": "orc"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "where", [None, "int > 20000 AND NOT text LIKE '%5%'"], ids=["all", "some"]
)
def test_both_readers_give_the_same_rows(
    warehouse: Warehouse, kind: str, where: str | None
) -> None:
    """Values of each type, in the same order and under the same origins."""
    table = warehouse.make("t", TYPES, **KINDS[kind])
    table.write(map(typed, range(60)))
    if kind != "append":
        table.write(map(typed, range(20, 40)))
    found = {}
    for native in (True, False):
        context = reader_of(native)
        items = read(table.source(context=context, where=where))
        assert reads_natively(context) is native
        found[native] = {i.origin: plain(i) for i in items if isinstance(i, Change)}
    assert found[True] == found[False]
    wanted = [typed(i) for i in range(60)]
    if where is not None:
        wanted = [r for r in wanted if r.get("int", 0) > 20000 and "5" not in r["text"]]
    rows = sorted(found[True].values(), key=lambda r: r["id"])
    assert rows == [{name: r.get(name) for name in TYPES.names} for r in wanted]


def plain(change: Change) -> dict[str, Any]:
    """A row whose vectors can be compared."""
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in change.items()}


def test_a_vector_comes_as_an_array(warehouse: Warehouse) -> None:
    """As the vectors of all readers do."""
    (first,) = read(warehouse.make("t", TYPES).write([typed(1)]).source(column=["vector"]))
    assert isinstance(first, Change)
    assert first["vector"].dtype == np.float32


def test_columns_of_a_condition_need_not_be_read(warehouse: Warehouse) -> None:
    """They are read, tried and left out."""
    table = warehouse.make("t", keys=["id"], bucket="1").write(map(row, range(20)))
    assert rows_of(table.source(column=["id"], where="price >= 4.5")) == [{"id": 18}, {"id": 19}]


def test_a_partition_is_read_alone(warehouse: Warehouse) -> None:
    """Its files only; the origins name it."""
    schema = pa.schema([pa.field("day", pa.string(), nullable=False), *SCHEMA])
    table = warehouse.make("t", schema, keys=["day", "id"], partitions=["day"], bucket="1")
    table.write({"day": f"d{i % 3}", **row(i)} for i in range(30))
    source = table.source(where="day = 'd1'")
    plan = source.plan()
    assert [piece.prefix for split in plan.splits for piece in split.pieces] == ["day=d1/1:0:"]
    assert [r["id"] for r in rows_of(source)] == list(range(1, 30, 3))


def test_an_older_state_is_read_by_snapshot_tag_and_time(warehouse: Warehouse) -> None:
    """With the columns of that time."""
    table = warehouse.make("t", keys=["id"], bucket="1").write([row(1)])
    table.handle.create_tag("first")
    between = table.handle.snapshot_manager().get_latest_snapshot().time_millis
    table.write([row(2)])
    from pypaimon.schema.schema_change import SchemaChange

    name = f"{DATABASE}.t"
    warehouse.catalog.alter_table(name, [SchemaChange.rename_column("title", "heading")], False)
    table.write([{"id": 3, "heading": "new"}])
    for older in ({"snapshotId": 1}, {"tag": "first"}, {"timestamp": str(between)}):
        assert rows_of(table.source(**older)) == [row(1)]
    newest = rows_of(table.source(column=["id", "heading"]))
    assert [(r["id"], r["heading"]) for r in newest] == [(1, "row 1"), (2, "row 2"), (3, "new")]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"snapshotId": 9}, "Snapshot id '9' doesn't exist"),
        ({"tag": "none"}, "Tag 'none' doesn't exist"),
        ({"timestamp": "2001-01-01"}, "No snapshot found with timestamp"),
        ({"column": ["id", "titel"]}, "no column 'titel'; did you mean 'title'?"),
        ({"column": ["id"], "where": "pric > 1"}, "no column 'pric'; did you mean 'price'?"),
        ({"table": "bok"}, "no table in database 'shop' has the name 'bok'; did you mean 'book'?"),
        (
            {"database": "shob"},
            "no database of the catalog has the name 'shob'; did you mean 'shop'?",
        ),
    ],
)
def test_what_is_not_there_is_told_before_the_run(
    warehouse: Warehouse, more: dict[str, Any], problem: str
) -> None:
    """In words, with the nearest name, and with the step."""
    warehouse.make("book").write([row(1)])
    with pytest.raises(JobError) as caught:
        warehouse.source(**{"table": "book", **more}).check()
    assert problem in str(caught.value)
    assert "step 'Reader'" in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(warehouse: Warehouse) -> None:
    """Columns and the condition."""
    table = warehouse.make("t").write([row(1)])
    with pytest.raises(JobError) as caught:
        table.source(column=["a", "b"], where="c = 1").check()
    assert len(caught.value.problems) == 3


def test_a_warehouse_that_is_not_there_is_told(warehouse: Warehouse, tmp_path: Path) -> None:
    """As a database that is not there."""
    nowhere = Warehouse(tmp_path / "elsewhere").connection
    with pytest.raises(JobError, match="no table in database 'shop'"):
        warehouse.source("t", connection=nowhere).check()


def test_a_table_without_a_snapshot_has_no_rows(warehouse: Warehouse) -> None:
    """It was made, and never written to."""
    source = warehouse.make("t").source()
    source.check()
    assert (source.plan().splits, read(source)) == ([], [])


def test_a_split_holds_no_secret_and_no_table(tmp_path: Path) -> None:
    """A table has the token of its catalog in it: workers open their own."""
    secret = "a-key-that-is-secret"
    place = Warehouse(tmp_path, {"warehouse": str(tmp_path), "fs.s3.secret-key": secret})
    source = place.make("t", keys=["id"], bucket="1").write(map(row, range(50))).source()
    splits = pickle.dumps(source.plan().splits)
    assert secret.encode() not in splits
    assert b"FileStoreTable" not in splits


def test_batches_are_bounded_by_bytes(warehouse: Warehouse) -> None:
    """A row of a megabyte comes nearly alone, small rows by the thousand."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("picture", pa.binary())])
    random = np.random.default_rng(1)
    large = warehouse.make("large", schema).write(
        {"id": i, "picture": random.bytes(1 << 20)} for i in range(20)
    )
    small = warehouse.make("small").write(map(row, range(100)))

    def rows(table: Table) -> int:
        (split,) = table.source().plan().splits
        return batches.rows_of_a_batch(split.pieces[0].split)

    assert 1 <= rows(large) <= 8
    assert rows(small) > 100
    (split,) = large.source().plan().splits
    table = large.handle
    sizes = [
        batch.num_rows
        for native in (True, False)
        for batch in batches.Batches(table, ["id", "picture"], None, reader_of(native)).of(
            split.pieces[0].split
        )
    ]
    assert sum(sizes) == 40
    assert max(sizes) <= 8


def test_blobs_come_as_bytes(warehouse: Warehouse) -> None:
    """Each whole, from files of their own. The table's option counts for nothing."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("picture", pa.large_binary())])
    options = {
        "row_tracking__enabled": "true", "data_evolution__enabled": "true",
        "blob_as_descriptor": "true",
    }  # fmt: skip
    table = warehouse.make("t", schema, **options)
    pictures = [bytes([i]) * (10_000 + i) for i in range(20)]
    table.write({"id": i, "picture": p} for i, p in enumerate(pictures))
    for native in (True, False):
        assert [r["picture"] for r in rows_of(table.source(context=reader_of(native)))] == pictures


def test_a_value_that_python_cannot_hold_is_a_reject(warehouse: Warehouse) -> None:
    """The rows beside it come, and the origins stay."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("seen", pa.timestamp("us"))])
    table = warehouse.make("t", schema)
    days = [0, 10**17 * 9, 86_400 * 10**6]
    handle = table.handle
    builder = handle.new_batch_write_builder()
    write, commit = builder.new_write(), builder.new_commit()
    columns = {
        "id": pa.array(range(3)),
        "seen": pa.array(days, pa.int64()).cast(pa.timestamp("us")),
    }
    write.write_arrow(pa.table(columns, schema=schema))
    commit.commit(write.prepare_commit())
    source = table.source(key=["id"])
    good, bad, better = read(source)
    assert isinstance(bad, Reject)
    assert (bad.reason, bad.origin, bad.key) == ("wrong-type", "1:0:1", {"id": 1})
    assert "column 'seen'" in bad.message
    assert [good.origin, better.origin] == ["1:0:0", "1:0:2"]
    assert source.counts.values["rows-read"] == 3


def test_a_column_that_is_renamed_meanwhile_ends_the_run(warehouse: Warehouse) -> None:
    """A worker that opens the table later must not read nulls, nor another column."""
    from pypaimon.schema.schema_change import SchemaChange

    table = warehouse.make("t").write([row(1)])
    source = table.source(column=["id", "title"])
    splits = source.plan().splits
    change = [SchemaChange.rename_column("title", "heading")]
    warehouse.catalog.alter_table(f"{DATABASE}.t", change, False)
    with pytest.raises(FatalError, match="column 'title' was renamed or dropped"):
        list(table.source(column=["id", "title"]).read(splits[0]))


def test_files_of_an_expired_snapshot_are_told(warehouse: Warehouse, tmp_path: Path) -> None:
    """They are gone when a worker wants them."""
    table = warehouse.make("t").write([row(1)])
    source = table.source(context=reader_of(False))
    splits = source.plan().splits
    for file in tmp_path.rglob("data-*.parquet"):
        file.unlink()
    with pytest.raises(FatalError, match="its snapshot has expired"):
        list(source.read(splits[0]))


def test_a_table_of_paimon_0_9_is_told(warehouse: Warehouse, tmp_path: Path) -> None:
    """Its manifests lack fields that the client requires."""
    import fastavro

    table = warehouse.make("t").write([row(1)])
    for path in tmp_path.rglob("manifest/manifest-*"):
        if "list" in path.name:
            continue
        with path.open("rb") as file:
            entries = fastavro.reader(file)
            schema, records = entries.writer_schema, list(entries)
        (of_file,) = [f for f in schema["fields"] if f["name"] == "_FILE"]
        of_file["type"]["fields"] = [
            f for f in of_file["type"]["fields"] if f["name"] != "_VALUE_STATS_COLS"
        ]
        with path.open("wb") as file:
            fastavro.writer(file, schema, records)
    with pytest.raises(JobError, match=r"shop\.t was written by Paimon 0\.9 or older"):
        table.source().check()


def test_what_only_compaction_shows_is_told(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows of a table that keeps first rows are seen once they were compacted."""
    table = warehouse.make("t", keys=["id"], bucket="1", merge_engine="first-row")
    table.write([row(1)]).source().check()
    assert "those that were not compacted yet are not read" in caplog.text


def test_an_error_of_our_own_stays_as_it_is(warehouse: Warehouse) -> None:
    """Only what the client raises becomes an error in words."""
    error = TypeError("a fault")
    assert classify(error, warehouse.connection) is error


@pytest.mark.slow
def test_the_transform_reads_in_a_plain_pipeline(warehouse: Warehouse) -> None:
    """Rows and rejects are two outputs; workers open the table by themselves."""
    warehouse.make("t", keys=["id"], bucket="3").write(map(row, range(100)))
    settings = {"database": DATABASE, "table": "t", "column": ["id"], "scanMode": "full"}
    reads = ReadFromPaimon(
        settings=PaimonSettings.model_validate(settings), connection=warehouse.connection
    )
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        outputs = pipeline | reads
        numbers = outputs.rows | beam.Map(lambda row: row["id"])
        assert_that(numbers, equal_to(range(100)))
        assert_that(outputs.rejected, equal_to([]), label="no rejects")
