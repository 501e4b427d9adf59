"""What is read of a table of Paimon that changes: each kind of table, each kind of commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.io.paimon.following import PLAIN, Changing, Follower, keyed, kinds
from tests.io.paimon.support import DATABASE, Warehouse
from vecferry.errors import JobError
from vecferry.io.paimon import PaimonSettings, ReadPaimonChanges
from vecferry.steps import Span


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty one."""
    return Warehouse(tmp_path / "warehouse")


def texts(*ids: int, text: str = "a", **more: Any) -> list[dict[str, Any]]:
    """Rows with these ids."""
    return [{"id": i, "text": f"{text}{i}", **more} for i in ids]


def test_a_full_load_is_followed_by_what_changes(warehouse: Warehouse) -> None:
    """Each key once, however many commits touched it; what is gone is a delete."""
    table = keyed(warehouse)
    table.put(*texts(*range(10)))
    follower = Follower(table)
    assert follower.round().kind == "full"
    assert follower.differences() == []
    assert follower.round().kind == "nothing"
    table.put(*texts(1, 2, 20, text="b"))
    table.put(*texts(1, 21, text="c"))
    table.delete(*texts(3, 21))
    span = follower.round()
    assert (span.kind, span.until["snapshot"]) == ("changes", 4)
    assert kinds(follower.given) == {"+U": [1, 2, 20], "-D": [3, 21]}
    assert follower.differences() == []
    assert follower.round().kind == "nothing"


def test_no_opened_file_is_kept_for_a_later_round(warehouse: Warehouse) -> None:
    """pypaimon would keep one for each file of each round, and memory would grow for hours."""
    from pypaimon.read.reader import format_pyarrow_reader

    table = keyed(warehouse)
    table.put(*texts(*range(10)))
    follower = Follower(table)
    follower.run()
    for n in range(3):
        format_pyarrow_reader._reset_file_format_dataset_cache()
        table.put(*texts(1, 2, text=f"round {n} "))
        assert follower.round().kind == "changes"
        assert format_pyarrow_reader._FILE_FORMAT_DATASET_CACHE is None


def test_a_late_row_of_a_lower_sequence_changes_nothing(warehouse: Warehouse) -> None:
    """The row as the table has it is given again, not the row that was written."""
    table = keyed(warehouse, sequence__field="at")
    table.put(*texts(1, 2, at=5))
    follower = Follower(table)
    follower.run()
    table.put(*texts(1, text="late", at=3), *texts(2, text="new", at=6))
    assert kinds(follower.run()) == {"+U": [1, 2]}
    assert {row["text"] for row in follower.there.values()} == {"a1", "new2"}
    assert follower.differences() == []


def test_a_partial_update_gives_the_whole_row(warehouse: Warehouse) -> None:
    """The file of the update holds null where the row holds a value."""
    table = keyed(warehouse, merge_engine="partial-update")
    table.put(*texts(1, 2, at=5))
    follower = Follower(table, column=["id", "text", "at"])
    follower.run()
    table.put({"id": 1, "at": 7}, {"id": 3, "text": "a3"})
    follower.run()
    assert follower.there[1,] == {"id": 1, "text": "a1", "at": 7}
    assert follower.differences() == []


def test_deletes_of_a_table_with_deletion_vectors_are_seen_before_compaction(
    warehouse: Warehouse,
) -> None:
    """pypaimon reads such a table as empty unless it merges on read."""
    table = keyed(warehouse, deletion_vectors__enabled="true")
    table.put(*texts(*range(6)))
    follower = Follower(table)
    follower.run()
    assert len(follower.there) == 6
    table.put(*texts(1, 7, text="b"))
    table.delete(*texts(2))
    assert kinds(follower.run()) == {"+U": [1, 7], "-D": [2]}
    assert follower.differences() == []


def parted(warehouse: Warehouse, **more: Any) -> Changing:
    """A table in partitions of a day, whose key is the day and the id."""
    schema = pa.schema(
        [
            pa.field("day", pa.string(), nullable=False),
            pa.field("id", pa.int64(), nullable=False),
            ("text", pa.string()),
            ("kind", pa.string()),
        ]
    )
    return keyed(warehouse, schema, keys=["day", "id"], partitions=["day"], **more)


def test_a_row_that_moves_to_another_partition_is_two_changes(warehouse: Warehouse) -> None:
    """Its key holds the partition; the same id stands in both partitions for a while."""
    table = parted(warehouse)
    table.put(*texts(1, 2, day="mon"), *texts(1, day="tue"))
    follower = Follower(table, ("day", "id"), column=["day", "id", "text"])
    follower.run()
    assert len(follower.there) == 3
    table.delete(*texts(2, day="mon"))
    table.put(*texts(2, day="tue"))
    given = follower.run()
    assert {(c.kind, c["day"], c["id"]) for c in given} == {("-D", "mon", 2), ("+U", "tue", 2)}
    assert follower.differences() == []


def test_the_rows_of_a_partition_that_is_overwritten_are_gone(warehouse: Warehouse) -> None:
    """pypaimon's own stream passes over an overwrite."""
    table = parted(warehouse, dynamic_partition_overwrite="false")
    table.put(*texts(1, 2, 3, day="mon"), *texts(1, day="tue"))
    follower = Follower(table, ("day", "id"), column=["day", "id", "text"])
    follower.run()
    table.write([{"day": "mon", "id": 2, "text": "b", "kind": "+I"}], overwrite={"day": "mon"})
    given = follower.run()
    assert {(c.kind, c["id"]) for c in given} == {("-D", 1), ("-D", 3), ("+U", 2)}
    assert follower.differences() == []
    table.truncate([{"day": "tue"}])
    assert kinds(follower.run()) == {"-D": [1]}
    assert follower.differences() == []


def test_all_rows_of_a_table_that_is_truncated_are_deleted(warehouse: Warehouse) -> None:
    """Also of a row that came after the last round, for a round may have been broken off."""
    table = keyed(warehouse)
    table.put(*texts(1, 2))
    follower = Follower(table)
    follower.run()
    table.put(*texts(3))
    table.truncate()
    assert kinds(follower.run()) == {"-D": [1, 2, 3]}
    assert follower.there == {}


def test_a_row_that_no_longer_meets_the_condition_is_deleted(warehouse: Warehouse) -> None:
    """And comes back with an update; the condition's column need not be read."""
    table = keyed(warehouse)
    table.put(*texts(1, 2, at=5), *texts(3, at=1))
    follower = Follower(table, where="at > 3")
    follower.run()
    assert sorted(follower.there) == [(1,), (2,)]
    table.put(*texts(1, at=2), *texts(3, at=9))
    assert kinds(follower.run()) == {"-D": [1], "+U": [3]}
    assert follower.differences(lambda row: row["at"] > 3) == []


def test_rows_of_an_append_table_are_added_and_overwritten(warehouse: Warehouse) -> None:
    """By the key that the job names."""
    warehouse.make("t", PLAIN)
    table = Changing(warehouse, "t")
    table.write(texts(1, 2))
    follower = Follower(table, key=["id"])
    follower.run()
    table.write(texts(3, 4))
    table.write(texts(5))
    assert kinds(follower.run()) == {"+U": [3, 4, 5]}
    table.write(texts(2, 6, text="b"), overwrite={})
    assert kinds(follower.run()) == {"-D": [1, 3, 4, 5], "+U": [2, 6]}
    assert follower.differences() == []


@pytest.mark.parametrize("few", [True, False])
def test_few_keys_are_looked_up_and_of_many_all_rows_are_read(
    few: bool, warehouse: Warehouse
) -> None:
    """With keys of several columns as well, whose parts stand in other rows."""
    table = parted(warehouse, bucket="1")
    ids = range(200)
    table.put(*texts(*ids, day="mon"), *texts(*ids, day="tue"))
    follower = Follower(table, ("day", "id"), column=["day", "id", "text"])
    follower.run()
    changed = range(7) if few else range(150)
    table.put(*texts(*changed, day="mon", text="b"))
    table.delete(*texts(3, day="tue"))
    given = follower.run()
    assert len(given) == len(changed) + 1
    assert follower.differences() == []


def test_rows_that_share_a_key_are_told(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    """In the full load and in a round: only the user knows a key of an append table."""
    warehouse.make("t", PLAIN)
    table = Changing(warehouse, "t")
    table.write([*texts(1, 2), *texts(2, text="b")])
    source = Follower(table, key=["id"]).source()
    assert len([row for split in source.plan().splits for row in source.read(split)]) == 3
    assert "several rows have the same id ((2,))" in caplog.text
    caplog.clear()
    table.write([*texts(7), *texts(7, text="b")])
    span = Span(kind="changes", since={"snapshot": 1}, until={"snapshot": 2}, epoch=1)
    assert len([row for split in source.plan(span).splits for row in source.read(split)]) == 2
    assert "several rows have the same id ((7,))" in caplog.text


def test_a_reader_of_a_pipeline_reads_once_what_cannot_be_followed(warehouse: Warehouse) -> None:
    """`ReadFromPaimon` takes a table without a key, though the mode is not `full`."""
    warehouse.make("t", PLAIN)
    table = Changing(warehouse, "t")
    table.write(texts(1, 2))
    source = Follower(table).source()
    assert len([row for split in source.plan().splits for row in source.read(split)]) == 2
    with pytest.raises(JobError, match="has no primary key"):
        source.check()


@pytest.mark.slow
def test_a_pipeline_of_its_own_reads_what_happened_between_two_snapshots(
    warehouse: Warehouse,
) -> None:
    """On the FnApiRunner; each key once, as it is at the second snapshot."""
    table = keyed(warehouse)
    table.put(*texts(1, 2))
    table.put(*texts(2, 3, text="b"))
    table.delete(*texts(1))
    table.put(*texts(4))
    settings = PaimonSettings.model_validate(
        {"database": DATABASE, "table": "t", "column": ["id", "text"]}
    )
    read = ReadPaimonChanges(settings=settings, connection=warehouse.connection, since=1, until=3)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = (pipeline | read).rows | beam.Map(lambda c: (c.kind, c["id"], c.get("text")))
        expected = [("-D", 1, None), ("+U", 2, "b2"), ("+U", 3, "b3")]
        assert_that(rows, equal_to(expected))
