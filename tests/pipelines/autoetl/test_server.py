"""AutoETL's calls and PolarSearch's definitions against a real OpenSearch with ml-commons."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipelines.autoetl.support import (
    ALL_BODIES,
    CONNECTOR,
    INDEX,
    KEYS,
    Desk,
    changed,
    without_trusted,
)
from tests.services.mysql8 import Mysql8
from tests.services.opensearch import OpenSearchMlServer
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.heavy(server=OpenSearchMlServer),
]
KEY = "sk-test-of-notes"
SETUP = (*ALL_BODIES, "--trusted", "trusted.json", "--model-group", "group.json", "--json")
OTHERS = {"plugins.ml_commons.trusted_connector_endpoints_regex": ["^https://others/.*$"]}
ROWS = [
    {"id": 1, "t1": 11, "t2": "aaa", "j": None},
    {"id": 2, "t1": 22, "t2": "bbb", "j": None},
    {"id": 3, "t1": 33, "t2": "ccc", "j": None},
]


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """What makes vectors, for both."""
    with EndpointServer(key=KEY, max_inputs=10) as server:
        yield server


class Table:
    """The table `db.t` of a real database."""

    def __init__(self) -> None:
        self.server = running(Mysql8)
        columns = "id INT PRIMARY KEY, t1 INT, t2 TEXT, j JSON"
        self.server.execute(
            "DROP DATABASE IF EXISTS db", "CREATE DATABASE db", f"CREATE TABLE db.t ({columns})"
        )

    def insert(self, row: dict[str, Any]) -> None:
        """A new row."""
        values = [json.dumps(v) if isinstance(v, dict) else v for v in row.values()]
        self._run(f"INSERT INTO db.t ({', '.join(row)}) VALUES ({_marks(row)})", *values)

    def change(self, key: int, **values: Any) -> None:
        """Other values of the row of a key."""
        pairs = ", ".join(f"{name} = %s" for name in values)
        self._run(f"UPDATE db.t SET {pairs} WHERE id = %s", *values.values(), key)

    def delete(self, key: int) -> None:
        """The row is gone."""
        self._run("DELETE FROM db.t WHERE id = %s", key)

    def _run(self, sql: str, *values: Any) -> None:
        with self.server.client() as client, client.cursor() as cursor:
            cursor.execute(sql, values)


def _marks(row: dict[str, Any]) -> str:
    return ", ".join(["%s"] * len(row))


class Search(Desk):
    """A desk beside a real server, with a table that is followed."""

    def __init__(self, server: OpenSearchMlServer, endpoint: EndpointServer, *given: Any) -> None:
        self.server = server
        super().__init__(*given, endpoint=self.server.url)
        self.url = f"127.0.0.1:{endpoint.port}"
        url = "http://${parameters.endpoint}/v1/embeddings"
        parameters = {**CONNECTOR["parameters"], "endpoint": self.url}
        names = {"name": f"connector {self.url}", "parameters": parameters}
        self.put("connector", changed(CONNECTOR, action_url=url, **names))
        self.put("group", {"name": "notes group"})
        self.pipeline = f"pipeline-{endpoint.port}"
        self.put("index", self.index_body())
        self.table = Table()
        self.sources["Shop"] = {**self.table.server.source, "database": "db"}
        self.index = f"notes-{endpoint.port}"

    def index_body(self, **fields: Any) -> dict[str, Any]:
        """The index with more fields."""
        settings = {"index": {"knn": True, "default_pipeline": self.pipeline}}
        properties = {**INDEX["mappings"]["properties"], **fields}
        return {"settings": settings, "mappings": {"properties": properties}}

    def set_up(self, *more: str) -> list[dict[str, Any]]:
        """Runs ``polarsearch setup``; gives what became of each step."""
        outcome = self.command("polarsearch setup", "search", self.index, *SETUP, *more)
        assert outcome.status == 0, outcome.err
        assert KEY not in outcome.out + outcome.err
        steps: list[dict[str, Any]] = outcome.json["steps"]
        return steps

    def ferried(self, *more: str, fields: str = "id,t2>my_text") -> dict[str, Any]:
        """Follows the table into the index up to now; gives the report."""
        pairs = [field.partition(">")[::2] for field in fields.split(",")]
        mapped = ",".join(f"{self.index}.{to or column}(db.t.{column})" for column, to in pairs)
        outcome = self.by_map(
            "--until", "now", "--json", *more,
            fields=mapped, keys=KEYS.replace("notes", self.index, 1).replace("db.notes", "db.t"),
        )  # fmt: skip
        assert outcome.status == 0, outcome.out + outcome.err
        report: dict[str, Any] = outcome.json
        return report

    def documents(self) -> dict[str, dict[str, Any]]:
        """All documents by id."""
        self.server.request("POST", f"/{self.index}/_refresh")
        hits = self.server.request("GET", f"/{self.index}/_search?size=100")["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}


@pytest.fixture
def search(
    endpoint: EndpointServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Search]:
    """A server without a list of trusted endpoints, and a table of three rows."""
    for name in ("NOTES_KEY", "CONNECTOR_API_KEY"):
        monkeypatch.setenv(name, KEY)
    with without_trusted() as server:
        desk = Search(server, endpoint, tmp_path, capsys, monkeypatch)
        for row in ROWS:
            desk.table.insert(row)
        yield desk


def is_of(document: dict[str, Any], text: str) -> bool:
    """Whether a document holds the vector of a text, as JSON keeps its numbers."""
    found = np.asarray(document["my_vector"], dtype=np.float32)
    return bool(np.allclose(found, vector_of(text, 1024), rtol=1e-6))


def test_a_second_setup_finds_all_that_the_first_has_made(
    search: Search, endpoint: EndpointServer
) -> None:
    """Step by step, with the same ids; each id stands in the definition after it."""
    first = search.set_up()
    again = search.set_up()
    assert [s["what"] for s in first if s["new"] and s["what"] != "model group"] == [
        "trusted endpoints", "connector", "model", "deployed model", "pipeline", "index",
    ]  # fmt: skip
    assert not any(s["new"] for s in again)
    assert [s["id"] for s in again] == [s["id"] for s in first]
    ids = {s["what"]: s["id"] for s in first}
    model = search.server.request("GET", f"/_plugins/_ml/models/{ids['model']}")
    assert model["connector_id"] == ids["connector"]
    assert model["model_group_id"] == ids["model group"]
    pipeline = search.server.request("GET", f"/_ingest/pipeline/{search.pipeline}")
    processor = pipeline[search.pipeline]["processors"][0]["text_embedding"]
    assert processor["model_id"] == ids["model"]
    assert endpoint.sent() == ["hello world"] * 2


def test_a_setup_that_was_cut_off_is_completed(search: Search) -> None:
    """What is missing is made, and what is there stays."""
    first = {s["what"]: s["id"] for s in search.set_up()}
    search.server.request("DELETE", f"/{search.index}")
    search.server.request("DELETE", f"/_ingest/pipeline/{search.pipeline}")
    second = search.set_up()
    assert [s["what"] for s in second if s["new"]] == ["pipeline", "index"]
    assert {s["what"]: s["id"] for s in second} == first


def test_trusted_endpoints_of_others_stay(search: Search) -> None:
    """The list grows; it is never replaced."""
    key = "plugins.ml_commons.trusted_connector_endpoints_regex"
    others = {"persistent": {key: ["^https://others/.*$"]}}
    search.server.request("PUT", "/_cluster/settings", others)
    search.set_up()
    found = search.server.request("GET", "/_cluster/settings?flat_settings=true")
    assert found["persistent"][key] == ["^https://others/.*$", r"^http://127\.0\.0\.1:.*$"]


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("connector", {"parameters": {"model": "other"}}, "does not do what the body says"),
        ("index", {"settings": {}}, "names no pipeline: add settings.index.default_pipeline"),
        ("trusted", {"persistent": {}}, "no persistent plugins.ml_commons"),
        ("group", {}, "has no name"),
    ],
)
def test_a_setup_that_can_not_be_says_why(
    search: Search, name: str, body: dict[str, Any], problem: str
) -> None:
    """Something else under the name is never changed."""
    search.set_up()
    before = json.loads((search.folder / f"{name}.json").read_text())
    search.put(name, {**before, **body} if name == "connector" else body)
    outcome = search.command("polarsearch setup", "search", search.index, *SETUP)
    assert outcome.status == 2
    assert problem in outcome.err


def test_the_tutorials_call_fills_the_index_with_vectors(
    search: Search, endpoint: EndpointServer
) -> None:
    """From files alone: the index is made, the match query finds the row, changes follow."""
    report = search.ferried(*ALL_BODIES)
    assert (report["rows_written"], report["embed"]["requests"]) == (3, 1)
    assert list(endpoint.good[0].request) == ["model", "input"]
    query = {"query": {"match": {"my_text": "aaa"}}}
    (hit,) = search.server.request("POST", f"/{search.index}/_search", query)["hits"]["hits"]
    assert hit["_source"]["id"] == 1
    assert len(hit["_source"]["my_vector"]) == 1024
    search.table.change(1, t1=12, t2="ddd")
    search.table.delete(2)
    search.table.change(3, id=4, t1=44)
    search.ferried(*ALL_BODIES)
    documents = search.documents()
    assert {key: d["my_text"] for key, d in documents.items()} == {"1": "ddd", "4": "ccc"}
    assert all(is_of(document, document["my_text"]) for document in documents.values())
    assert endpoint.sent() == ["aaa", "bbb", "ccc", "ddd"]


def test_vectors_equal_those_that_the_server_makes(
    search: Search, endpoint: EndpointServer
) -> None:
    """Bit by bit; here in one request, there in one for each row. The bodies are on the server."""
    search.set_up()
    endpoint.forget()
    search.ferried("--pipeline", search.pipeline)
    here = search.documents()
    assert len(endpoint.good) == 1
    ours = dict(endpoint.good[0].request, input=None)
    search.server.request("DELETE", f"/{search.index}")
    search.set_up()
    endpoint.forget()
    search.ferried("--embed", "server", "--set", "setting.positions=other")
    there = search.documents()
    assert len(endpoint.good) == 3
    theirs = dict(endpoint.good[0].request, input=None)
    assert ours == theirs
    assert here == there
    assert all(is_of(document, document["my_text"]) for document in here.values())


def test_null_texts_have_no_vector(search: Search, endpoint: EndpointServer) -> None:
    """Here as on the server; nothing is rejected."""
    search.table.insert({"id": 5, "t1": 5, "t2": None})
    report = search.ferried(*ALL_BODIES)
    assert (report["rows_written"], report["rows_rejected"]) == (4, 0)
    assert search.documents()["5"] == {"id": 5, "my_text": None, "my_vector": None}
    assert None not in endpoint.sent()


def test_json_goes_in_as_text_but_into_objects(search: Search) -> None:
    """AutoETL's way."""
    search.put("index", search.index_body(as_text={"type": "text"}, as_object={"type": "object"}))
    search.table.insert({"id": 6, "t2": "j", "j": {"k": [1, 2], "ü": "x"}})
    search.ferried(*ALL_BODIES, fields="id,t2>my_text,j>as_text,j>as_object")
    found = search.documents()["6"]
    assert (found["as_text"], found["as_object"]) == (
        '{"k": [1, 2], "ü": "x"}',
        {"k": [1, 2], "ü": "x"},
    )


@pytest.mark.parametrize("kind", ["persistent", "transient"])
def test_the_trusted_list_is_the_servers_own(search: Search, kind: str) -> None:
    """It is written into the job, and refuses another endpoint; the job's own list adds to it."""
    key = "plugins.ml_commons.trusted_connector_endpoints_regex"
    setting = {kind: {key: ["^https://only/.*$"]}}
    search.server.request("PUT", "/_cluster/settings", setting)
    assert search.printed(*ALL_BODIES)["setting"]["trustedEndpoints"] == ["^https://only/.*$"]
    outcome = search.by_map(*ALL_BODIES, "--until", "now")
    assert outcome.status == 2
    assert "matches none of setting.trustedEndpoints (^https://only/.*$)" in outcome.err
    mapping = {
        "source": "Shop", "fields": f"{search.index}.my_text(db.t.t2)",
        "keys": f"{search.index}.id=db.t.id", "connector": "connector.json",
        "pipeline": "pipeline.json", "indexBody": "index.json",
    }  # fmt: skip
    own = {"trustedEndpoints": ["http://127.0.0.1:.*"]}
    (search.folder / "job.json").write_text(json.dumps({"mapping": mapping, "setting": own}))
    outcome = search.command("check", "job.json")
    assert outcome.status == 0, outcome.err


def test_a_transient_list_that_hides_the_persistent_one_is_told(search: Search) -> None:
    """Else setup would say that it made what has no effect; what is on the list is enough."""
    transient = {"transient": OTHERS}
    search.server.request("PUT", "/_cluster/settings", transient)
    outcome = search.command("polarsearch setup", "search", search.index, *SETUP)
    assert outcome.status == 2
    assert "has a transient value, which hides the persistent one" in outcome.err


def test_a_pattern_that_only_java_reads_trusts_nothing(search: Search) -> None:
    """A warning tells; the other patterns hold."""
    key = "plugins.ml_commons.trusted_connector_endpoints_regex"
    setting = {"persistent": {key: [r"^https://\p{Alpha}+/.*$", "^http://127.*$"]}}
    search.server.request("PUT", "/_cluster/settings", setting)
    outcome = search.by_map(*ALL_BODIES, "--print-job")
    assert outcome.json["setting"]["trustedEndpoints"] == ["^http://127.*$"]
    assert "it trusts nothing here" in outcome.err


def test_an_endpoint_that_the_server_does_not_trust_is_told(search: Search) -> None:
    """In the server's words."""
    search.put("trusted", {"persistent": OTHERS})
    outcome = search.command("polarsearch setup", "search", search.index, *SETUP)
    assert outcome.status == 2
    assert "not matching the trusted connector endpoint regex" in outcome.err


def test_without_a_list_of_the_server_nothing_is_refused(search: Search) -> None:
    """The plugin's own default is not taken, of which 127.0.0.1 is not a part."""
    job = search.printed(*ALL_BODIES)
    assert "trustedEndpoints" not in job["setting"]


def test_a_pipeline_that_is_not_there_is_told(search: Search) -> None:
    """By its name, and that of the server; so is a model."""
    outcome = search.by_map("--pipeline", "nowhere")
    assert (outcome.status, "'nowhere' does not exist" in outcome.err) == (2, True)
    outcome = search.by_map("--pipeline", "pipeline.json")
    assert (outcome.status, "its model '<id>' is not on OpenSearch" in outcome.err) == (2, True)
