"""An index that a job creates just as its user has written it, in the job or in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.io.search.support import Store, rows, settings, write
from tests.pipelines.support import Bench
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.settings import Maker
from vecferry.steps import StepContext, WriteOptions

BODY: dict[str, Any] = {
    "settings": {
        "index": {
            "refresh_interval": "30s",
            "analysis": {"analyzer": {"default": {"type": "standard"}}},
        }
    },
    "mappings": {
        "_meta": {"team": "ours"},
        "properties": {
            "id": {"type": "keyword"},
            "name": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
            "embedding": {"type": "dense_vector", "dims": 768},
        },
    },
}
JOBS = os.environ.get("VECFERRY_VENDOR_JOBS")


def of(body: object, **more: object) -> ElasticsearchSettings:
    return ElasticsearchSettings.model_validate({"index": "i", "indexBody": body, **more})


def test_a_body_is_an_object_a_text_or_a_file(tmp_path: Path) -> None:
    """Whoever gives it asks for the index to be created."""
    path = tmp_path / "index.json"
    path.write_text(json.dumps(BODY))
    for given in (BODY, json.dumps(BODY), str(path)):
        found = of(given)
        assert (found.index_body, found.creates, found.recreates) == (BODY, True, False)
    assert not settings().creates


@pytest.mark.parametrize(
    ("given", "more", "shown"),
    [
        ("nowhere.json", {}, "can't be read (No such file or directory): name a file of JSON"),
        ('{"mappings": ', {}, "indexBody is not JSON"),
        ("[1]", {}, "can't be read"),
        ({"maping": {}}, {}, "did you mean 'mappings'?; there are settings, mappings, aliases"),
        (BODY, {"settings": {"number_of_shards": 1}}, "settings stands beside indexBody"),
        (BODY, {"dstDynamic": "strict"}, "dstDynamic stands beside indexBody"),
        (BODY, {"schemaCreateMode": "ignore"}, "leave one of them out"),
    ],
)
def test_a_body_that_can_not_be_meant_is_refused(given: object, more: dict, shown: str) -> None:
    """Before anything is asked of a server."""
    with pytest.raises(ValidationError) as caught:
        of(given, **more)
    assert shown in str(caught.value)


@pytest.fixture
def lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with 40 rows of three columns."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(["id,name", *(f"k{i},walk number {i}" for i in range(40))], "rows.csv")
    return bench


def job(body: object, endpoint: str, index: str) -> dict[str, Any]:
    """Rows of a file, their names embedded, into the fields of their own names."""
    return {
        "type": "job",
        "version": "2.0",
        "name": index,
        "steps": [
            {
                "stepType": "file", "category": "reader", "name": "Read",
                "parameter": {
                    "datasource": "Files", "object": "rows.csv", "fileFormat": "csv",
                    "skipHeader": True, "column": ["id", "name"],
                },
            },
            {
                "stepType": "embedding-transformer", "category": "map", "name": "Embed",
                "parameter": {
                    "modelProvider": "aiSearch", "modelName": "ops-m2-encoder", "dimension": 768,
                    "endpoint": endpoint, "apiKey": "sk-test",
                    "embeddingColumns": {
                        "sourceColumnNames": ["name"], "embeddingColumnName": "embedding",
                    },
                },
            },
            {
                "stepType": "elasticsearch", "category": "writer", "name": "Write",
                "parameter": {
                    "datasource": "Target", "index": index, "indexBody": body,
                    "primaryKeyInfo": {"type": "pk", "column": ["id"]},
                },
            },
        ],
    }  # fmt: skip


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.heavy(server=ElasticsearchServer)
@pytest.mark.parametrize("whose", ["ours", "the vendor's"])
def test_an_index_is_created_as_written_and_its_rows_are_found_at_once(
    lines: Bench, whose: str
) -> None:
    """By a job that lists no column; its field of vectors says no similarity, which is cosine.

    Though the index makes rows visible after 30 s, a run that ends does so before.
    """
    if whose != "ours" and not JOBS:
        pytest.skip("not ours: VECFERRY_VENDOR_JOBS names no folder")
    path = lines.folder / "index.json"
    path.write_text(json.dumps(BODY))
    if whose != "ours":
        path = Path(str(JOBS)) / "elasticsearch-index.json"
    body, index = json.loads(path.read_text()), f"body-{whose[:3]}"
    server = running(ElasticsearchServer)
    lines.sources["Target"] = {
        "type": "elasticsearch", "endpoint": server.url, "username": server.user,
        "password": server.password,
    }  # fmt: skip
    with EndpointServer(default_dimension=768) as endpoint:
        host = endpoint.url.removesuffix("/v1")
        lines.job = job(str(path), host, index)
        report = lines.run()
        assert (report["state"], report["rows_written"]) == ("DONE", 40), report["error"]
        found = server.request("POST", f"/{index}/_search", {"size": 0})
        assert found["hits"]["total"]["value"] == 40, "without a refresh by this test"
        answer = lines.call("query", "walk number 7", "--json")
        assert answer.status == 0, answer.err
        best = answer.json["hits"][0]
        assert (best["id"], best["name"]) == ("k7", "walk number 7")
    made = server.request("GET", f"/{index}")[index]
    meta = made["mappings"].pop("_meta")
    written = dict(body["mappings"])
    assert meta.items() >= written.pop("_meta", {}).items()
    assert "ops-m2-encoder" in json.dumps(meta)
    assert _names(made["mappings"]) >= _names(written)
    assert _names(made["settings"]) >= _names(body["settings"])
    assert "index.gc_deletes" not in _names(made["settings"])


def _names(part: Any, prefix: str = "") -> set[str]:
    """The dotted names of all that a body says."""
    if not isinstance(part, dict):
        return {f"{prefix}{part}".lower()}
    return {name for key, value in part.items() for name in _names(value, f"{prefix}{key}.")}


@pytest.mark.service
@pytest.mark.slow
def test_a_body_that_the_rows_would_not_fit_is_refused_before_it_is_created(store: Store) -> None:
    """A vector that no field of it takes, a type that the job says otherwise."""
    field = "knn_vector" if store.kind == "opensearch" else "dense_vector"
    size = "dimension" if store.kind == "opensearch" else "dims"
    body = {"mappings": {"properties": {"id": {"type": "keyword"}, "v": {"type": field, size: 8}}}}
    plain: dict[str, Any] = {"schemaCreateMode": "createIfNotExist", "indexBody": body}
    target = store.target(prepared=False, column=[], **plain)
    made = {"vector": 8}
    target.context = StepContext(
        step="Writer",
        step_type=store.kind,
        write=WriteOptions(
            made=made, makers={"vector": Maker(provider="p", model="m", dimension=8)}
        ),
    )
    with pytest.raises(JobError, match="takes the vectors of column 'vector'"):
        target.check()
    wrong = store.target(
        prepared=False, column=[{"name": "id", "type": "long", "primaryKey": True}], **plain
    )
    with pytest.raises(JobError, match="is a keyword, and the job says long"):
        wrong.prepare()
    assert store.server.request("GET", f"/{target.settings.index}*") == {}


@pytest.mark.service
@pytest.mark.slow
def test_a_run_that_is_concluded_shows_its_rows(store: Store) -> None:
    """Whatever the index's own interval is; who may not refresh waits for that one."""
    target = store.target(settings={"refresh_interval": "1h"})
    assert len(write(target, rows(5))[0]) == 5
    assert target.conclude() == []
    found = store.server.request("POST", f"/{target.settings.index}/_search", {"size": 0})
    assert found["hits"]["total"]["value"] == 5
