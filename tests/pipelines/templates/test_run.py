"""Each template that comes with vecferry runs, into and out of what it is for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.io.files import documents
from tests.io.odps.server import OdpsServer, Table
from tests.pipelines.support import Bench, counts_add_up
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.postgres import Postgres
from tests.services.server import running

ROWS = [{"id": str(i), "title": f"walk {i}", "about": f"along shore {i * 7}"} for i in range(40)]
COLUMNS = {"keyColumn": "id", "textColumns": "title,about"}


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def run(
    bench: Bench,
    name: str,
    *,
    command: str = "run",
    columns: dict[str, str] = COLUMNS,
    **given: str,
) -> Any:
    """The report, or the hits of a query."""
    options = [word for n, v in {**columns, **given}.items() for word in ("-p", f"{n}={v}")]
    own = (
        ["--rejects", str(bench.folder / "rejects")]
        if command == "run"
        else ["walk 3\nalong shore 21"]
    )
    outcome = bench.line(command, f"template:{name}", *own, "--json", *options)
    assert outcome.out, outcome.err
    return outcome.json


def done(report: dict[str, Any], rows: int) -> bool:
    """Whether all rows were read and written."""
    return (
        report["state"] == "DONE"
        and (report["rows_read"], report["rows_written"]) == (rows, rows)
        and counts_add_up(report)
    )


@pytest.mark.slow
def test_files_to_milvus_runs_and_leaves_one_copy_when_it_runs_again(bench: Bench) -> None:
    """JSON lines into a Milvus Lite file, with the model in the process; found again by a query."""
    bench.write_lines([{**row, "km": i} for i, row in enumerate(ROWS)])
    given = {
        "folder": str(bench.folder / "in"), "input": "*.jsonl", "collection": "walks",
        "milvusEndpoint": str(bench.folder / "vectors.db"), "otherColumns": "km",
        "errorLimit": "0",
    }  # fmt: skip
    assert done(run(bench, "files-to-milvus", **given), 40)
    assert done(run(bench, "files-to-milvus", **given), 40)
    bench.step("Writer")["collection"] = "walks"
    stored = bench.stored()
    assert len(stored) == 40
    assert {(r["id"], r["title"], r["km"]) for r in stored} == {
        (row["id"], row["title"], i) for i, row in enumerate(ROWS)
    }
    assert len(stored[0]["vector"]) == 256
    hits = run(bench, "files-to-milvus", command="query", **given)["hits"]
    assert hits[0]["id"] == "3"


@pytest.mark.slow
def test_files_to_milvus_reads_csv_with_whole_numbers_as_keys(bench: Bench) -> None:
    """Columns are found by the header line; the key's type is a parameter."""
    bench.write_lines(["about,id,title", *(f"{r['about']},{r['id']},{r['title']}" for r in ROWS)])
    report = run(
        bench, "files-to-milvus", folder=str(bench.folder / "in"), input="rows.jsonl",
        fileFormat="csv", keyType="Int64", collection="texts",
        milvusEndpoint=str(bench.folder / "vectors.db"),
    )  # fmt: skip
    assert done(report, 40)
    from pymilvus import MilvusClient

    client = MilvusClient(str(bench.folder / "vectors.db"))
    client.load_collection("texts")
    stored = client.query("texts", filter="id >= 0", output_fields=["title"], limit=100)
    client.close()
    assert {(r["id"], r["title"]) for r in stored} == {(int(r["id"]), r["title"]) for r in ROWS}


@pytest.mark.slow
def test_documents_to_milvus_runs_and_a_document_that_shrank_replaces_its_chunks(
    bench: Bench,
) -> None:
    """PDF and Markdown into a Milvus Lite file; found again by what a chunk says."""
    folder = bench.folder / "in"
    (folder / "deep").mkdir()
    (folder / "deep" / "a.pdf").write_bytes(documents.pdf(["The tide is out.", "It comes back."]))
    (folder / "b.md").write_text("# Birds\n\nThe oystercatcher waits.\n\nThe tern does not.\n")
    given = {
        "folder": str(folder), "collection": "chunks", "chunkSize": "25",
        "milvusEndpoint": str(bench.folder / "vectors.db"), "errorLimit": "0",
    }  # fmt: skip
    first = run(bench, "documents-to-milvus", columns={}, **given)
    assert first["state"] == "DONE"
    assert counts_add_up(first)
    assert (first["rows_read"], first["rows_written"]) == (2, 5)
    hits = run(bench, "documents-to-milvus", command="query", columns={}, **given)["hits"]
    assert len(hits) == 5
    assert {hit["path"] for hit in hits} == {"b.md", "deep/a.pdf"}
    (folder / "b.md").write_text("# Birds\n")
    second = run(bench, "documents-to-milvus", columns={}, **given)
    assert (second["rows_read"], second["rows_written"]) == (2, 3)
    hits = run(bench, "documents-to-milvus", command="query", columns={}, **given)["hits"]
    assert sorted(hit["chunk_id"] for hit in hits) == ["b.md#0", "deep/a.pdf#0", "deep/a.pdf#1"]


def target_of(
    template: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The parameters of a template that say where it writes."""
    name = f"t{uuid.uuid4().hex[:12]}"
    if template == "documents-to-milvus":
        yield {"collection": name, "milvusEndpoint": str(bench.folder / "vectors.db")}
    elif template == "documents-to-postgresql":
        postgres = running(Postgres)
        postgres.execute("CREATE EXTENSION IF NOT EXISTS vector")
        monkeypatch.setenv("PGPASSWORD", postgres.source["password"])
        given = {n: str(postgres.source[n.lower()]) for n in ("Host", "Port", "Database")}
        given["User"] = postgres.source["username"]
        yield {"table": name, **{f"postgres{n}": value for n, value in given.items()}}
        postgres.execute(f"DROP TABLE {name}")
    else:
        elastic = running(ElasticsearchServer)
        monkeypatch.setenv("ELASTICSEARCH_PASSWORD", elastic.password)
        yield {"index": name, "elasticsearchUrl": elastic.url, "username": elastic.user}
        elastic.request("DELETE", f"/{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "template",
    [
        "documents-to-milvus",
        pytest.param("documents-to-postgresql", marks=pytest.mark.service),
        pytest.param(
            "documents-to-elasticsearch",
            marks=[pytest.mark.service, pytest.mark.heavy(server=ElasticsearchServer)],
        ),
    ],
)
def test_documents_are_followed_into_each_store_and_what_is_gone_is_removed(
    template: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed document is read again, a moved one costs no vector, one that is gone goes."""
    for target in target_of(template, bench, monkeypatch):
        again = follow(template, bench, target)
        assert (again["state"], again["rows_read"]) == ("DONE", 0)


def follow(template: str, bench: Bench, target: dict[str, str]) -> dict[str, Any]:
    """Three runs over a folder; the report of the last, before which nothing changed."""
    folder = bench.folder / "in"
    texts = {
        "a.md": "# Sea\n\nThe tide is far out.\n",
        "b.txt": "The tern waits.",
        "c.txt": "Wind.",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "d.pdf").write_bytes(documents.pdf(["The ebb is low."]))
    given = {
        **target, "folder": str(folder), "chunkSize": "25", "errorLimit": "0",
        "documentMode": "full-then-incremental", "positions": str(bench.folder / "positions"),
        "vectorCache": f"sqlite:///{bench.folder}/cache.db",
    }  # fmt: skip

    def chunks() -> dict[str, str]:
        hits = run(bench, template, command="query", columns={}, **given)["hits"]
        return {hit["chunk_id"]: hit["modified"] for hit in hits}

    first = run(bench, template, columns={}, **given)
    assert counts_add_up(first)
    assert (first["rows_read"], first["rows_written"]) == (4, 5)
    before = chunks()
    assert sorted(before) == ["a.md#0", "a.md#1", "b.txt#0", "c.txt#0", "d.pdf#0"]
    assert all("20" in str(modified) for modified in before.values())
    (folder / "a.md").write_text("# Lake\n")
    (folder / "c.txt").unlink()
    (folder / "d.pdf").rename(folder / "e.pdf")
    second = run(bench, template, columns={}, **given)
    assert counts_add_up(second)
    assert (second["rows_written"], second["rows_deleted"]) == (2, 2)
    assert second["embed"]["inputs"] == 1
    assert sorted(chunks()) == ["a.md#0", "b.txt#0", "e.pdf#0"]
    third: dict[str, Any] = run(bench, template, columns={}, **given)
    return third


@pytest.mark.slow
def test_odps_to_milvus_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One partition of a table, with the keys from the environment."""
    table = Table(
        "walks", {"id": "string", "title": "string", "about": "string"},
        {"ds=1": ROWS, "ds=2": [{"id": "x", "title": "another", "about": "day"}]},
        {"ds": "string"},
    )  # fmt: skip
    with OdpsServer() as server:
        server.add(table)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", server.access_id)
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", server.access_key)
        report = run(
            bench, "odps-to-milvus", odpsEndpoint=server.endpoint, project=server.project,
            table="walks", partition="ds=1", collection="walks",
            milvusEndpoint=str(bench.folder / "vectors.db"),
        )  # fmt: skip
    assert done(report, 40)
    bench.step("Writer")["collection"] = "walks"
    assert [r["id"] for r in bench.stored()] == sorted(r["id"] for r in ROWS)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.heavy(server=ElasticsearchServer)
def test_files_to_elasticsearch_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines into an index that is made for them; a column of one's own is also stored."""
    server = running(ElasticsearchServer)
    bench.write_lines([{**row, "km": i} for i, row in enumerate(ROWS)])
    monkeypatch.setenv("ELASTICSEARCH_PASSWORD", server.password)
    given = {
        "folder": str(bench.folder / "in"), "input": "rows.jsonl", "otherColumns": "km",
        "index": f"t{uuid.uuid4().hex}", "elasticsearchUrl": server.url,
        "username": server.user,
    }  # fmt: skip
    assert done(run(bench, "files-to-elasticsearch", **given), 40)
    found = server.request("GET", f"/{given['index']}/_doc/7")["_source"]
    assert (found["title"], found["km"]) == ("walk 7", 7)
    mapping = server.request("GET", f"/{given['index']}/_mapping")
    properties = mapping[given["index"]]["mappings"]["properties"]
    assert (properties["vector"]["type"], properties["vector"]["dims"]) == ("dense_vector", 256)
    assert properties["title"]["type"] == "text"
    hits = run(bench, "files-to-elasticsearch", command="query", **given)["hits"]
    assert hits[0]["id"] == "3"
