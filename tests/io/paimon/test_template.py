"""The template of a lake sync, carried out: a table into an index, followed, images included."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import DATABASE, WHY, Warehouse

pytest.importorskip("pypaimon", reason=WHY)

from tests.pipelines.support import Bench, counts_add_up
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.images.support import png


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def run(bench: Bench, **given: str) -> Any:
    """The report."""
    options = [word for n, v in given.items() for word in ("-p", f"{n}={v}")]
    own = ["--rejects", str(bench.folder / "rejects"), "--json"]
    outcome = bench.line("run", "template:paimon-to-elasticsearch", *own, *options)
    assert outcome.out, outcome.err
    return outcome.json


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.heavy(server=ElasticsearchServer)
def test_paimon_to_elasticsearch_follows_a_table_with_texts_and_images(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key of two columns is joined; a run loads all, the next one what changed and what went."""
    server = running(ElasticsearchServer)
    schema = pa.schema(
        [
            pa.field("day", pa.string(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            ("title", pa.string()), ("pic", pa.binary()), ("kind", pa.string()),
        ]
    )  # fmt: skip
    warehouse = Warehouse(bench.folder / "warehouse")
    options = {"bucket": "1", "rowkind__field": "kind"}
    table = warehouse.make("t", schema, keys=["day", "id"], **options)
    first = [
        {"day": "mon", "id": str(i), "title": f"walk {i}", "pic": png(i), "kind": "+I"}
        for i in range(8)
    ]
    table.write(first)
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", server.password)
    monkeypatch.setenv("IMAGE_EMBEDDING_API_KEY", "sk-test")
    index = f"lake-{uuid.uuid4().hex[:8]}"
    with EndpointServer(default_dimension=768) as endpoint:
        given = {
            "taskName": index, "positions": str(bench.folder / "state"),
            "metastore": "filesystem", "warehouse": str(bench.folder / "warehouse"),
            "access": "none", "database": DATABASE, "table": "t",
            "keyColumn": "day", "moreKeyColumns": "id", "textColumns": "title",
            "imageProvider": "aiSearch", "imageColumn": "pic", "imageModel": "ops-m2-encoder",
            "imageEndpoint": endpoint.url.removesuffix("/v1"), "elasticsearchUrl": server.url,
            "username": server.user, "index": index, "createIndex": "true", "ownsTarget": "true",
        }  # fmt: skip
        report = run(bench, **given)
        assert (report["state"], report["rows_written"]) == ("DONE", 8), report
        assert counts_add_up(report)
        table.write([{**first[3], "title": "a new walk"}, {**first[5], "kind": "-D"}])
        report = run(bench, **given)
        assert (report["rows_written"], report["rows_deleted"]) == (1, 1), report
        assert len(endpoint.sent()) == 8, "the pictures are known"
    found = server.request("POST", f"/{index}/_search", {"size": 20})["hits"]["hits"]
    texts = {hit["_id"]: hit["_source"]["title"] for hit in found}
    assert texts == {
        f"mon|{i}": "a new walk" if i == 3 else f"walk {i}" for i in range(8) if i != 5
    }
    assert {name for hit in found for name in hit["_source"]} >= {"vector", "image_vector"}
    assert not any("pic" in hit["_source"] for hit in found)
