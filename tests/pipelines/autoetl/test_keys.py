"""The key of a table that a call does not name is asked of the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.autoetl.support import Desk
from tests.services.mysql8 import Mysql8
from tests.services.server import running

pytestmark = pytest.mark.service
TABLES = {
    "autoetl_one": "id INT PRIMARY KEY, my_text TEXT",
    "autoetl_two": "a INT, b VARCHAR(9), my_text TEXT, PRIMARY KEY (b, a)",
    "autoetl_unique": "a INT NOT NULL, my_text TEXT, UNIQUE (a)",
    "autoetl_none": "a INT, my_text TEXT",
}


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A folder whose data source Shop is a real database with four tables."""
    server = running(Mysql8)
    desk = Desk(tmp_path, capsys, monkeypatch)
    desk.sources["Shop"] = server.source
    for name, columns in TABLES.items():
        server.execute(f"CREATE TABLE IF NOT EXISTS shop.{name} ({columns})")
    return desk


@pytest.mark.parametrize(
    ("table", "keys"),
    [
        ("shop.autoetl_one", ["id"]),
        ("autoetl_two", ["b", "a"]),
        ("`shop`.`autoetl_unique`", ["a"]),
    ],
)
def test_the_id_is_the_primary_key_of_the_table(desk: Desk, table: str, keys: list[str]) -> None:
    """Or a unique key without nulls; its columns are read also where a call leaves them out."""
    more = ("--source", "Shop", "--print-job")
    reader, writer = (
        step["parameter"]
        for step in desk.command("sync-by-table", "search", table, "i", "my_text", *more).json[
            "steps"
        ]
    )
    assert writer["primaryKeyInfo"]["column"] == keys
    assert reader["column"] == ["my_text", *keys]
    view = f"CREATE SEARCH VIEW i AS SELECT t.my_text AS x FROM {table} t"
    steps = desk.command("sync-by-view", view, *more).json["steps"]
    assert steps[1]["parameter"]["primaryKeyInfo"]["column"] == keys


def test_a_table_without_a_key_is_refused(desk: Desk) -> None:
    """A change could not be found again."""
    outcome = desk.command(
        "sync-by-table", "search", "shop.autoetl_none", "i", "", "--source", "Shop", "--print-job"
    )
    assert outcome.status == 2
    assert "it has no primary key" in outcome.err
