"""The template of a database sync, carried out: a table into an index, followed."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.io.mysql_cdc.syncs import Followed
from tests.pipelines.support import Bench, counts_add_up
from tests.services.mysql8 import Mysql8
from tests.services.opensearch import OpenSearchServer
from tests.services.server import running


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.heavy(server=OpenSearchServer)
def test_mysql_cdc_to_opensearch_follows_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run loads all, the next one what changed and what went; nothing more is needed."""
    server, table = running(OpenSearchServer), Followed(running(Mysql8))
    for n in range(20):
        table.insert(f"r{n}", f"walk {n}")
    index, source = f"log-{uuid.uuid4().hex[:8]}", table.server.source
    monkeypatch.setenv("MYSQL_PASSWORD", source["password"])
    given = {
        "taskName": index, "positions": str(tmp_path / "state"), "mysqlHost": source["host"],
        "mysqlPort": source["port"], "mysqlUser": source["username"],
        "mysqlDatabase": "shop", "table": table.name, "keyColumn": "id", "textColumns": "text",
        "otherColumns": "n", "opensearchUrl": server.url, "index": index, "engine": "lucene",
        "errorLimit": "0",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in ("-p", f"{name}={value}")]
    bench = Bench(tmp_path, capsys)

    def run() -> Any:
        own = ["--json", "--rejects", str(tmp_path / "rejects"), *options]
        outcome = bench.line("run", "template:mysql-cdc-to-opensearch", *own)
        assert outcome.status == 0, outcome.err
        assert source["password"] not in outcome.out + outcome.err
        return outcome.json

    assert run()["rows_written"] == 20
    table.update("r1", "a walk by the sea")
    table.delete("r2")
    table.move("r3", "r30", "walk 3")
    changed = run()
    assert (changed["rows_read"], changed["rows_deleted"]) == (3, 2)
    assert counts_add_up(changed)
    server.request("POST", f"/{index}/_refresh")
    hits = server.request("GET", f"/{index}/_search?size=100")["hits"]["hits"]
    assert {hit["_id"]: hit["_source"]["text"] for hit in hits} == table.rows()
    table.run("DROP TABLE {}")
