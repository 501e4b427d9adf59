"""Changes of a data-evolution table, whose files hold some columns of some rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.io.paimon.following import Changing, Follower, kinds
from tests.io.paimon.support import Warehouse

ROWS = pa.schema([("id", pa.int64()), ("text", pa.string()), ("image", pa.large_binary())])
OPTIONS = {
    "row_tracking__enabled": "true",
    "data_evolution__enabled": "true",
    "deletion_vectors__enabled": "true",
}


@pytest.fixture
def table(tmp_path: Path) -> Changing:
    """Four rows with an image each, in a file of its own."""
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.make("t", ROWS, **OPTIONS)
    table = Changing(warehouse, "t")
    table.write(rows(1, 2, 3, 4))
    return table


def rows(*ids: int, text: str = "a") -> list[dict[str, Any]]:
    """Rows with these ids."""
    return [{"id": i, "text": f"{text}{i}", "image": bytes([i]) * 50} for i in ids]


def follower_of(table: Changing) -> Follower:
    """A sync that has loaded the table."""
    follower = Follower(table, key=["id"], column=["id", "text", "image"])
    follower.run()
    assert follower.differences() == []
    return follower


def ids_of(table: Changing, *ids: int) -> list[int]:
    """The row ids of rows."""
    builder = table.handle.new_read_builder().with_projection(["id", "_ROW_ID"])
    found = builder.new_read().to_arrow(builder.new_scan().plan().splits()).to_pylist()
    return [row["_ROW_ID"] for row in found if row["id"] in ids]


def put_texts(table: Changing, texts: dict[int, str], column: str = "text") -> None:
    """A commit that writes one column of some rows."""
    values = pa.table(
        {
            "_ROW_ID": pa.array([ids_of(table, i)[0] for i in texts], pa.int64()),
            column: pa.array(list(texts.values())),
        }
    )
    table.update(lambda u: u.with_update_type([column]).update_by_arrow_with_row_id(values))


def test_new_rows_are_upserts(table: Changing) -> None:
    """With their images."""
    follower = follower_of(table)
    table.write(rows(5, 6))
    assert kinds(follower.run()) == {"+U": [5, 6]}
    assert follower.differences() == []


def test_an_update_of_one_column_gives_the_whole_row(table: Changing) -> None:
    """The update's file has neither id nor image."""
    follower = follower_of(table)
    put_texts(table, {2: "b2"})
    given = follower.run()
    assert follower.there[2,] == {"id": 2, "text": "b2", "image": bytes([2]) * 50}
    assert {c.kind for c in given} == {"+U"}
    assert follower.differences() == []


def test_deletes_are_seen_though_no_file_changes(table: Changing) -> None:
    """A deletion vector hides the rows; also of a row that came and went since the last round."""
    follower = follower_of(table)
    table.write(rows(5, 6))
    gone = ids_of(table, 2, 3, 5)
    table.update(lambda u: u.delete_by_row_id(gone))
    assert kinds(follower.run()) == {"+U": [6], "-D": [2, 3, 5]}
    assert follower.differences() == []
    table.update(lambda u: u.delete_by_row_id(ids_of(table, 1)))
    assert kinds(follower.run()) == {"-D": [1]}
    assert follower.differences() == []


def test_a_key_that_changes_is_a_delete_and_an_upsert(table: Changing) -> None:
    """Of the same row id."""
    follower = follower_of(table)
    put_texts(table, {4: 40}, "id")  # type: ignore[dict-item]
    assert {**kinds(follower.run())}["-D"] == [4]
    assert (40,) in follower.there
    assert follower.differences() == []
