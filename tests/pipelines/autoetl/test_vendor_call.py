"""The vendor's tutorial, word for word: its call, its bodies, its query."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.autoetl.support import Desk, without_trusted
from tests.services.mysql8 import Mysql8, MysqlServer
from tests.services.opensearch import OpenSearchMlServer
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of

JOBS = os.environ.get("VECFERRY_VENDOR_JOBS")
pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.heavy(server=OpenSearchMlServer),
    pytest.mark.skipif(not JOBS, reason="not ours: VECFERRY_VENDOR_JOBS names no folder"),
]
FOLDER = Path(JOBS or "nowhere") / "polarsearch"
KEY = "sk-of-the-tutorial"
INDEX = "test_index"


def call() -> list[str]:
    """The arguments of the statement."""
    statement = (FOLDER / "tutorial.sql").read_text().partition("call dbms_etl.sync_by_map(")[2]
    return re.findall(r'"([^"]*)"', statement)


def query() -> Any:
    """The query that the tutorial ends with."""
    return json.loads((FOLDER / "search.json").read_text())


@pytest.fixture
def server() -> Iterator[OpenSearchMlServer]:
    """A server without the index."""
    with without_trusted() as server:
        yield server
        server.request("DELETE", f"/{INDEX}?ignore_unavailable=true")


def statements() -> list[str]:
    """The statements before the call: a database, a table, three rows."""
    before = (FOLDER / "tutorial.sql").read_text().partition("call dbms_etl")[0]
    return [statement for part in before.split(";") if (statement := part.strip())]


@pytest.fixture
def database() -> Iterator[MysqlServer]:
    """A database as the tutorial makes it."""
    database = running(Mysql8)
    database.execute("DROP DATABASE IF EXISTS db", *statements())
    yield database
    database.execute("DROP DATABASE db")


def test_the_tutorial_runs_word_for_word(
    server: OpenSearchMlServer,
    database: MysqlServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its three rows are found, with 1,024 dimensions; so are an update, a delete, another key."""
    monkeypatch.setenv("YOUR_API_KEY", KEY)
    desk = Desk(tmp_path, capsys, monkeypatch, server.url)
    desk.sources["Shop"] = {k: v for k, v in database.source.items() if k != "database"}

    def ferried(endpoint: EndpointServer) -> None:
        outcome = desk.command(
            "sync-by-map", *call(), "--source", "Shop",
            "--connector", str(FOLDER / "connector.json"),
            "--pipeline", str(FOLDER / "ingest-pipeline.json"),
            "--index", str(FOLDER / "index.json"),
            "--set", f"steps.1.parameter.endpoint={endpoint.url}",
            "--until", "now",
        )  # fmt: skip
        assert outcome.status == 0, outcome.out + outcome.err
        assert KEY not in outcome.out + outcome.err
        server.request("POST", f"/{INDEX}/_refresh")

    def found(text: str) -> list[dict[str, Any]]:
        body = json.loads(json.dumps(query()).replace("aaa", text))
        hits = server.request("POST", f"/{INDEX}/_search", body)["hits"]["hits"]
        return [hit["_source"] for hit in hits]

    with EndpointServer(key=KEY) as endpoint:
        ferried(endpoint)
        (document,) = found("aaa")
        assert document["id"] == 1
        assert document["my_vector"] == pytest.approx(vector_of("aaa", 1024).tolist(), rel=1e-6)
        assert len(endpoint.good) == 1
        for change, before, after in (
            ("UPDATE db.test_table SET t2 = 'ddd' WHERE id = 1", "aaa", ("ddd", 1)),
            ("DELETE FROM db.test_table WHERE id = 2", "bbb", None),
            ("UPDATE db.test_table SET id = 4 WHERE id = 3", "", ("ccc", 4)),
        ):
            database.execute(change)
            ferried(endpoint)
            assert found(before) == []
            if after is not None:
                assert [document["id"] for document in found(after[0])] == [after[1]]
        assert endpoint.sent() == ["aaa", "bbb", "ccc", "ddd"]
