"""What the jobs of AutoETL's calls ask of a reader of tables, tried with the reader `mysql`.

It takes the same tables, columns and conditions as the reader of the log, and reads once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.autoetl.support import Desk
from tests.services.mysql8 import Mysql8
from tests.services.opensearch import OpenSearchMlServer
from tests.services.server import running

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.heavy(server=OpenSearchMlServer),
]
COLUMNS = "id INT, `from` VARCHAR(20), t2 TEXT, `a b` INT, j JSON, PRIMARY KEY (id, `from`)"
ROWS = """(1, 'x', 'aaa', 11, '{"k": [1, "ü"]}'), (2, 'y', 'bbb', 22, '[1, 2]'),
(3, 'z', NULL, 33, NULL)"""
INDEX = {
    "settings": {"number_of_replicas": 0},
    "mappings": {
        "properties": {
            "id": {"type": "integer"},
            "text": {"type": "text"},
            "t2": {"type": "text"},
            "n": {"type": "integer"},
            "limit": {"type": "integer"},
            "as_text": {"type": "keyword"},
        }
    },
}


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    """A folder beside both servers, with a table of three rows in `shop.order`."""
    database, server = running(Mysql8), running(OpenSearchMlServer)
    desk = Desk(tmp_path, capsys, monkeypatch, server.url)
    desk.sources["Shop"] = database.source
    desk.put("index", INDEX)
    database.execute(
        "DROP TABLE IF EXISTS shop.`order`",
        f"CREATE TABLE shop.`order` ({COLUMNS})",
        f"INSERT INTO shop.`order` VALUES {ROWS}",
    )
    yield desk
    server.request("DELETE", "/orders?ignore_unavailable=true")


def ferried(desk: Desk, *call: str) -> dict[str, Any]:
    """The documents by id that the job of a call writes, read once."""
    outcome = desk.command(
        *call, "--source", "Shop", "--index", "index.json", "--print-job",
        "--set", "steps.0.stepType=mysql", "--set", "setting.positions=null",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    (desk.folder / "job.json").write_text(outcome.out)
    outcome = desk.command("run", "job.json")
    assert outcome.status == 0, outcome.out + outcome.err
    found = running(OpenSearchMlServer).request("GET", "/orders/_search")["hits"]["hits"]
    return {hit["_id"]: hit["_source"] for hit in found}


def test_a_map_reads_columns_under_names_that_sql_knows(desk: Desk) -> None:
    """A table called order, a column called from, and one with a blank; an id of two columns."""
    fields = "orders.text(shop.order.t2),orders.n(shop.order.`a b`),orders.id(shop.order.id)"
    keys = "orders.id=shop.order.id,orders.origin=shop.order.from"
    assert ferried(desk, "sync-by-map", "search", fields, keys) == {
        "1,x": {"id": 1, "text": "aaa", "n": 11},
        "2,y": {"id": 2, "text": "bbb", "n": 22},
        "3,z": {"id": 3, "text": None, "n": 33},
    }


def test_a_table_call_writes_all_columns(desk: Desk) -> None:
    """Also such as the index lacks; JSON goes in as text, as MySQL writes it."""
    found = ferried(desk, "sync-by-table", "search", "shop.order", "orders", "")
    common = {"id": 1, "from": "x", "t2": "aaa", "a b": 11}
    assert found["1,x"] == {**common, "j": '{"k": [1, "ü"]}'}
    assert [found[key]["j"] for key in ("2,y", "3,z")] == ["[1, 2]", None]


def test_a_view_computes_and_selects(desk: Desk) -> None:
    """The server understands each expression and the condition."""
    statement = (
        "CREATE SEARCH VIEW orders (id, text, `limit`, as_text, PRIMARY KEY (id)) AS "
        "SELECT o.id, CONCAT(o.t2, '; ', o.`from`), CASE WHEN o.`a b` > 11 THEN 1 ELSE 0 END, "
        "o.j->>'$.k[1]' FROM shop.`order` AS o WHERE o.t2 IS NOT NULL AND o.`from` <> 'o.z'"
    )
    assert ferried(
        desk, "sync-by-view", statement, "--set", "steps.Write.parameter.batchSize=1"
    ) == {
        "1": {"id": 1, "text": "aaa; x", "limit": 0, "as_text": "ü"},
        "2": {"id": 2, "text": "bbb; y", "limit": 1, "as_text": None},
    }


def test_a_field_that_the_index_lacks_is_told_unless_the_server_may_guess(desk: Desk) -> None:
    """A name that is misspelt would otherwise be a new field."""
    call = ("sync-by-map", "search", "orders.nn(shop.order.id)", "orders.id=shop.order.id")
    with pytest.raises(AssertionError, match="has no field 'nn'"):
        ferried(desk, *call)
    found = ferried(desk, *call, "--set", "steps.Write.parameter.dynamic=true")
    assert sorted(document["nn"] for document in found.values()) == [1, 2, 3]


def test_the_job_that_is_printed_is_whole(desk: Desk) -> None:
    """Nothing but its file and the data sources is needed to run it."""
    ferried(desk, "sync-by-table", "search", "shop.order", "orders", "id,t2", "--key", "id,from")
    job = json.loads((desk.folder / "job.json").read_text())
    assert job["steps"][0]["parameter"]["column"] == ["id", "t2", "from"]
