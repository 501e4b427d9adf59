"""What a sync of a Paimon table does where its position no longer leads anywhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from pypaimon.schema.schema_change import SchemaChange

from tests.io.paimon.following import KEYED, PLAIN, Changing, Follower, keyed, kinds
from tests.io.paimon.support import DATABASE, Warehouse
from vecferry.errors import JobError
from vecferry.io.paimon import consumer


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """An empty one."""
    return Warehouse(tmp_path / "warehouse")


@pytest.fixture
def table(warehouse: Warehouse) -> Changing:
    """A table of three rows."""
    table = keyed(warehouse)
    table.put(*texts(1, 2, 3))
    return table


def texts(*ids: int, text: str = "a") -> list[dict[str, Any]]:
    """Rows with these ids."""
    return [{"id": i, "text": f"{text}{i}"} for i in ids]


def loaded(table: Changing, **parameters: Any) -> Follower:
    """A sync that has loaded the table."""
    follower = Follower(table, **parameters)
    follower.run()
    return follower


def expect_error(words: str) -> Any:
    """A JobError with these words."""
    return pytest.raises(JobError, match=re.escape(words))


def test_a_snapshot_that_has_expired_leads_to_a_full_load_in_a_new_epoch(table: Changing) -> None:
    """It is told as a gap: what was deleted meanwhile is known to nobody."""
    follower = loaded(table)
    table.delete(*texts(2))
    table.put(*texts(4))
    table.expire(3)
    span = follower.round()
    assert (span.kind, span.fresh, span.gap) == ("full", True, True)
    assert "snapshot 1 has expired" in span.why
    assert follower.differences() == []
    assert follower.position is not None
    assert follower.position.epoch == 2


def test_a_table_that_was_empty_and_lost_its_first_snapshots_is_loaded(
    warehouse: Warehouse,
) -> None:
    """The position is before the first snapshot."""
    table = keyed(warehouse)
    follower = loaded(table)
    assert follower.there == {}
    table.put(*texts(1))
    assert kinds(follower.run()) == {"+U": [1]}
    other = loaded(keyed(Warehouse(warehouse.connection.local_path() + "2")))
    other.table.put(*texts(1))
    other.table.put(*texts(2))
    other.table.expire(2)
    assert other.round().gap
    assert other.differences() == []


def test_a_table_that_was_rolled_back_is_loaded_anew(table: Changing) -> None:
    """Also where it was written on, and its snapshots have the numbers of before."""
    table.put(*texts(4))
    follower = loaded(table)
    table.handle.rollback_to(1)
    span = follower.round()
    assert (span.fresh, span.gap) == (True, True)
    assert "rolled back: its last snapshot is 1, and 2 was read" in span.why
    assert follower.differences() == []
    table.put(*texts(5))
    follower.run()
    table.handle.rollback_to(1)
    table.put(*texts(6))
    assert follower.position is not None
    assert follower.position.at["snapshot"] == table.last
    span = follower.round()
    assert "snapshot 2 is another one" in span.why
    assert follower.differences() == []


def test_a_table_that_was_made_anew_is_another_one(table: Changing) -> None:
    """Though its name, its columns and the numbers of its snapshots are the same."""
    before = Follower(table).source().identity()
    follower = loaded(table)
    table.warehouse.catalog.drop_table(f"{DATABASE}.t", False)
    table.warehouse.make("t", KEYED, keys=["id"], bucket="2", rowkind__field="kind")
    table.put(*texts(7))
    assert follower.source().identity() != before
    span = follower.round()
    assert (span.fresh, span.why) == (True, "another table")
    assert follower.differences() == []


def test_a_column_that_was_renamed_stops_the_sync_and_is_named(table: Changing) -> None:
    """Before anything is written; with the new name in the job the sync goes on."""
    follower = loaded(table)
    table.alter(SchemaChange.rename_column("text", "body"))
    with expect_error("column 'text' is called 'body' now; write 'body'"):
        follower.round()
    with expect_error("column 'text' is called 'body' now"):
        follower.source().check()
    follower.parameters["column"] = ["id", "body"]
    table.write([{"id": 9, "body": "b9", "kind": "+I"}])
    assert kinds(follower.run()) == {"+U": [9]}


def test_a_column_that_was_dropped_stops_the_sync(table: Changing) -> None:
    """A handle of before would read it as null."""
    follower = loaded(table, column=["id", "text", "at"])
    table.alter(SchemaChange.drop_column("at"))
    with expect_error("column 'at' was dropped; leave it out"):
        follower.round()


def test_a_column_of_the_condition_that_was_renamed_is_named(table: Changing) -> None:
    """It is needed as well."""
    follower = loaded(table, where="at is null")
    table.alter(SchemaChange.rename_column("at", "moment"))
    with expect_error("column 'at' is called 'moment' now"):
        follower.round()


def test_a_column_that_was_dropped_and_made_anew_is_another_one(table: Changing) -> None:
    """All its values are other ones, and no commit has touched them."""
    follower = loaded(table)
    table.alter(SchemaChange.drop_column("text"))
    table.alter(SchemaChange.add_column("text", _type("STRING")))
    span = follower.round()
    assert (span.fresh, span.gap) == (True, False)
    assert "'text' was dropped, and another one has its name" in span.why
    assert follower.differences() == []
    assert follower.there[1,] == {"id": 1, "text": None}


def test_columns_may_be_added_and_widened(table: Changing) -> None:
    """Rows of older files have null, or the wider value."""
    table.put({"id": 4, "text": "a4", "at": 7})
    follower = loaded(table, column=["id", "text", "at"])
    table.alter(SchemaChange.add_column("more", _type("STRING")))
    table.alter(SchemaChange.update_column_type("at", _type("DOUBLE")))
    table.write([{"id": 5, "text": "a5", "at": 1.5, "kind": "+I", "more": "x"}])
    assert kinds(follower.run()) == {"+U": [5]}
    assert follower.differences() == []
    assert follower.there[5,]["at"] == 1.5


def _type(name: str) -> Any:
    from pypaimon.schema.data_types import AtomicType

    return AtomicType(name)


def test_incremental_reading_needs_a_position(table: Changing) -> None:
    """One that a user gives, as a snapshot or a time."""
    follower = Follower(table, scanMode="incremental")
    with expect_error("vecferry position set"):
        follower.round()
    source = follower.source()
    place = source.parse_until("1")
    assert source.parse_until("2100-01-01T00:00:00Z") == place
    with expect_error("keeps no snapshot from before 2001-01-01"):
        source.parse_until("2001-01-01")
    with expect_error("has no snapshot 7: its last one is 1"):
        source.parse_until("7")
    with expect_error("is neither a snapshot nor a time"):
        source.parse_until("yesterday")
    from vecferry.positions import Position

    follower.position = Position(epoch=1, identity=source.identity(), phase="changes", at=place)
    table.put(*texts(4))
    assert kinds(follower.run()) == {"+U": [4]}


@pytest.mark.parametrize("options", [{"merge_engine": "first-row"}, {"bucket": "-2"}])
def test_a_table_whose_rows_only_compaction_shows_is_refused(
    options: dict[str, str], warehouse: Warehouse
) -> None:
    """Unless it keeps a changelog, which tells what compaction has shown."""
    table = keyed(warehouse, **options)
    with expect_error("shows rows by compaction only"):
        Follower(table).round()


def test_an_append_table_needs_a_key(warehouse: Warehouse) -> None:
    """Only the user knows one."""
    warehouse.make("t", PLAIN)
    with expect_error("has no primary key; name the columns that tell its rows apart in `key`"):
        Follower(Changing(warehouse, "t")).round()


def test_a_full_load_comes_in_parts_and_its_rows_have_its_version(warehouse: Warehouse) -> None:
    """What is written meanwhile comes afterwards."""
    table = keyed(warehouse, bucket="4")
    table.put(*texts(*range(40)))
    follower = Follower(table, roundRows=8)
    first = follower.round()
    assert first.part is not None
    assert first.part[1] > 2
    table.put(*texts(1, text="b"))
    while (span := follower.round()).kind == "full":
        assert span.until["snapshot"] == 1
    assert span.kind == "changes"
    assert follower.differences() == []
    assert {v & (1 << 52) - 1 for v in follower.versions.values()} == {3, 5}


def test_a_round_ends_at_a_commit_once_enough_rows_were_touched(table: Changing) -> None:
    """A commit is never cut; `until` is never passed."""
    follower = loaded(table, roundRows=3)
    for n in range(4):
        table.put(*texts(n, n + 10))
    assert [follower.round().until["snapshot"] for _ in range(2)] == [3, 5]
    table.put(*texts(1))
    table.put(*texts(2))
    place = follower.source().parse_until("6")
    assert follower.round(place).until["snapshot"] == 6
    assert follower.round(place).kind == "nothing"
    follower.run()
    assert follower.differences() == []


def test_the_lag_is_told_in_snapshots(table: Changing) -> None:
    """And how old the first of them is."""
    follower = loaded(table)
    assert follower.position is not None
    assert follower.source().lag(follower.position).amount == 0
    table.put(*texts(4))
    table.put(*texts(5))
    lag = follower.source().lag(follower.position)
    assert (lag.amount, lag.unit) == (2, "snapshots")
    assert lag.seconds is not None
    assert 0 <= lag.seconds < 600


def test_the_rows_of_some_keys_are_read_as_they_were_and_as_they_are(table: Changing) -> None:
    """For a replay of rejects; absent rows are left out."""
    follower = loaded(table)
    table.put(*texts(2, text="b"))
    source = follower.source()
    then = source.fetch([(2,), (9,)], follower.position)
    assert [(c["text"], c.version) for c in then] == [("a2", (1 << 52) + 3)]  # type: ignore[union-attr,call-overload]
    assert [c["text"] for c in source.fetch([(2,)], None)] == ["b2"]  # type: ignore[call-overload]


def test_a_comparison_reads_the_whole_table_with_versions(table: Changing) -> None:
    """Of epoch 0 and the newest snapshot; a reader in the mode `full` gives none."""
    table.put(*texts(2, text="b"))
    for mode, versions in (("full-then-incremental", {5}), ("full", {None})):
        source = Follower(table, scanMode=mode).source()
        found = [c for split in source.plan().splits for c in source.read(split)]
        assert {c.version for c in found} == versions  # type: ignore[union-attr]


def test_a_consumer_keeps_what_was_not_read(table: Changing) -> None:
    """It names the snapshot of the position: the files that the next commit removes are needed."""
    follower = loaded(table)
    source = follower.source()
    assert follower.position is not None
    assert source.hold("night job/1", follower.position.at) is None
    assert table.consumers() == {"night_job_1": 1}
    table.put(*texts(4))
    follower.run()
    assert source.hold("night job/1", follower.position.at) is None
    assert table.consumers() == {"night_job_1": 2}
    assert source.release("night job/1") is None
    assert table.consumers() == {}


def test_a_consumer_that_the_table_forgot_is_written_again(
    table: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some minutes later, though the position has not moved (`consumer.expiration-time`)."""
    follower = loaded(table)
    source = follower.source()
    assert follower.position is not None
    source.hold("night", follower.position.at)
    table.handle.consumer_manager().delete_consumer("night")
    source.hold("night", follower.position.at)
    assert table.consumers() == {}
    monkeypatch.setattr(consumer, "RENEW_SECONDS", 0.0)  # as if they had passed
    source.hold("night", follower.position.at)
    assert table.consumers() == {"night": 1}


def test_a_consumer_that_may_not_be_written_is_told_of(
    table: Changing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; the sync goes on."""
    from pypaimon.consumer.consumer_manager import ConsumerManager

    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", "consumer")

    monkeypatch.setattr(ConsumerManager, "reset_consumer", denied)
    follower = loaded(table)
    source = follower.source()
    assert follower.position is not None
    note = source.hold("night", follower.position.at)
    assert note is not None
    assert "snapshot.time-retained" in note
    assert source.hold("night", follower.position.at) is None
