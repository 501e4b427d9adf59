"""Whole runs in which one row becomes several: counts, rejects, replays, estimates, budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.testing.util import assert_that
from apache_beam.transforms import environments

from tests.pipelines.support import Bench, counts_add_up, rejects_of, step
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.run.graph import RunPlan, build
from vecferry.transforms.text_split import SplitText, TextSplitSettings

SENTENCES = [f"Tide {i} comes in at noon." for i in range(40)]
DOCUMENTS: list[Any] = [
    {"id": "a", "text": "\n\n".join(SENTENCES[:5])},
    {"id": "b", "text": SENTENCES[5]},
    {"id": "c", "text": ""},
    {"id": "d", "text": "\n\n".join(SENTENCES[6:20])},
    {"id": "e", "text": f"{SENTENCES[20]}\n\nTide {'w' * 50}."},
    "{broken",
]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """Documents of one and of several paragraphs, and rows that are none."""
    bench = Bench(tmp_path, capsys)
    split = step(
        "text-splitting", "flatmap", "Split",
        sourceColumnName="text", parentColumns=["id"], chunkSize=57,
    )  # fmt: skip
    bench.job["steps"].insert(2, split)
    bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = ["chunk"]
    bench.step("Writer")["column"] = [
        {"name": "chunk_id", "type": "VarChar", "maxLength": "64", "primaryKey": True},
        {"name": "id", "type": "VarChar", "maxLength": "64"},
        {"name": "chunk", "type": "VarChar", "maxLength": "1000"},
        {"name": "chunk_index", "type": "Int64"},
        {"name": "vector", "type": "FloatVector", "dimension": "64"},
    ]
    bench.job["setting"]["errorLimit"] = {}
    bench.write_lines(DOCUMENTS)
    return bench


def one_sentence_each(bench: Bench) -> None:
    """Makes each paragraph a chunk of its own."""
    bench.step("Split")["chunkSize"] = 40
    documents = [d for d in DOCUMENTS if not isinstance(d, str) and "www" not in d["text"]]
    bench.write_lines(documents)


def chunks_of(bench: Bench) -> dict[str, str]:
    """What the target holds."""
    from pymilvus import MilvusClient

    client = MilvusClient(str(bench.folder / "vectors.db"))
    try:
        name = bench.step("Writer")["collection"]
        client.load_collection(name)
        rows = client.query(name, "chunk_id != ''", output_fields=["chunk"], limit=1000)
    finally:
        client.close()
    return {row["chunk_id"]: row["chunk"] for row in rows}


@pytest.mark.slow
def test_counts_add_up_and_a_replay_writes_the_chunks_that_were_refused(bench: Bench) -> None:
    """Documents and chunks are rejected, each by itself, and go on from the step that refused."""
    bench.step("Writer")["column"][2]["maxLength"] = "40"
    report = bench.run()
    assert counts_add_up(report)
    assert (report["rows_read"], report["rows_split"]) == (6, 4)
    refused = {(r["step"], r["reason"]): r["rows"] for r in report["rejected_by"]}
    assert refused["Split", "empty-text"] == 1
    assert refused["Extract", "invalid-json"] == 1
    chunks = {r["origin"] for r in rejects_of(report) if r["step"] == "Writer"}
    assert "rows.jsonl" in min(chunks)
    assert all("#" in origin for origin in chunks)
    first = chunks_of(bench)
    bench.step("Writer").update(collection="wider")
    bench.step("Writer")["column"][2]["maxLength"] = "200"
    again = bench.run("--replay", report["rejects"])
    assert counts_add_up(again)
    assert again["rows_written"] == len(chunks)
    assert again["embed"]["requests"] == 0
    second = chunks_of(bench)
    assert not first.keys() & second.keys()
    text = "".join({**first, **second}.values())
    assert all(sentence in text for sentence in SENTENCES[:20])


@pytest.mark.slow
def test_the_same_documents_cost_nothing_the_second_time(bench: Bench) -> None:
    """Their chunks are the same, so a vector cache knows them; a paragraph more costs one."""
    one_sentence_each(bench)
    bench.job["setting"]["vectorCache"] = {"uri": f"sqlite:///{bench.folder}/cache.db"}
    first, second = bench.run(), bench.run()
    assert (first["rows_written"], first["embed"]["inputs"]) == (20, 20)
    assert (second["rows_written"], second["embed"]["inputs"]) == (20, 0)
    more = {"id": "a", "text": DOCUMENTS[0]["text"] + "\n\n" + SENTENCES[30]}
    bench.write_lines([more, *DOCUMENTS[1:4]])
    assert bench.run()["embed"]["inputs"] == 1


@pytest.mark.slow
def test_an_estimate_counts_chunks_as_the_run_does(bench: Bench) -> None:
    """And a budget that is too small leaves chunks, not documents, for a replay."""
    one_sentence_each(bench)
    estimate = bench.call("check", "--estimate", "--json").json["estimate"]
    assert (estimate["rows"], estimate["rejected"], estimate["texts"]) == (4, 1, 20)
    assert estimate["added"] == 17
    with EndpointServer() as server:
        bench.step("Embed").update(
            modelProvider="openai", modelName="any", endpoint=server.url, apiKey="sk-test",
            dimension=64, batchSize=10,
        )  # fmt: skip
        bench.job["setting"]["budget"] = {"requests": 1}
        report = bench.run()
        assert counts_add_up(report)
        assert (report["rows_written"], report["rows_rejected"]) == (10, 11)
        bench.job["setting"].pop("budget")
        again = bench.run("--replay", report["rejects"])
        assert (again["rows_written"], again["rows_rejected"]) == (10, 1)
    assert len(chunks_of(bench)) == 20


@pytest.mark.slow
def test_a_preview_shows_the_chunks(bench: Bench) -> None:
    """Behind the step that makes them, and as they would be written."""
    one_sentence_each(bench)
    shown = bench.call("preview", "--rows", "1", "--json").json["steps"]
    stages = {stage["step"]: stage for stage in shown}
    assert [row["chunk_id"] for row in stages["Split"]["rows"]] == [f"a#{i}" for i in range(5)]
    assert len(stages["Writer"]["rows"]) == 5


def test_the_share_that_may_be_rejected_is_one_of_chunks(bench: Bench) -> None:
    """11 rejects are more than the 4 documents that were read."""
    from vecferry.pipelines.run.report import Report, over_limit

    fields = dict.fromkeys(("written", "deleted", "rejected", "dropped", "stale", "added"), 0)
    counts: dict[str, Any] = {f"rows_{name}": n for name, n in fields.items()}
    counts |= {"rows_read": 4, "rows_added": 16, "rows_split": 4, "rows_rejected": 5}
    report = Report.model_validate(
        {
            **counts, "job": "j", "run": "r", "state": "DONE", "counts": "committed",
            "rejects": None, "rejected_by": [], "embed": {}, "seconds": 1, "error": None,
        }
    )  # fmt: skip
    assert over_limit(report, None, 0.25) is None
    assert "5 of 20 rows" in (over_limit(report, None, 0.2) or "")


def test_an_id_that_all_chunks_of_a_document_share_is_refused(bench: Bench) -> None:
    """For they would replace each other."""
    bench.step("Writer")["column"][0]["name"] = "id"
    bench.step("Writer")["column"].pop(1)
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "steps[4] 'Writer' makes its id of id" in outcome.err
    assert "make the id of chunk_id" in outcome.err


def test_the_text_of_the_document_is_gone_behind_the_step(bench: Bench) -> None:
    """A later step that asks for it is told."""
    bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = ["text"]
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "needs column 'text', which no step before it gives" in outcome.err


def test_a_source_that_is_followed_is_refused(bench: Bench) -> None:
    """For a document that is gone would leave its chunks."""
    bench.sources["Db"] = {"type": "mysql", "host": "127.0.0.1", "username": "u", "password": "p"}
    bench.job["steps"][0] = step(
        "mysql-cdc", "reader", "Reader", datasource="Db", database="shop", table=["pages"],
        column=["id", "line"],
    )  # fmt: skip
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "'Split' makes several rows of one, and steps[0] 'Reader' follows" in outcome.err


def test_documents_are_refused_that_could_not_be_kept_whole(bench: Bench) -> None:
    """Another key than the step's, no step that cuts, a followed source and no versions."""
    bench.step("Writer").update(parentKey=["chunk_index"])
    assert "tells them apart by id; make both the same" in bench.call("check").err
    bench.step("Writer").update(parentKey=["id"])
    assert bench.call("check").status == 0
    del bench.job["steps"][2]
    bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = ["text"]
    bench.step("Extract")["column"] += [
        {"name": name, "fromColumn": "line", "jsonPath": f"$.{name}", "type": "STRING"}
        for name in ("chunk_id", "chunk", "chunk_index", "chunk_count")
    ]
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "has a parentKey, and no step cuts documents into chunks" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step_type", "parameter"),
    [("filter", {"where": "chunk_index < 3"}), ("deduplicate", {"columns": ["chunk"]})],
)
def test_a_step_that_leaves_chunks_out_is_refused_before_a_writer_of_documents(
    bench: Bench, step_type: str, parameter: dict[str, Any]
) -> None:
    """The rest would be an incomplete document; before the cut the step leaves out whole ones."""
    bench.step("Writer").update(parentKey=["id"])
    steps = bench.job["steps"]
    at = next(i for i, step in enumerate(steps) if step["name"] == "Split")
    step = {"name": "Less", "stepType": step_type, "category": "map", "parameter": parameter}
    steps.insert(at + 1, step)
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "leaves chunks out, and steps[5] 'Writer' writes whole documents" in outcome.err


@pytest.mark.slow
def test_with_a_parent_key_a_document_replaces_its_chunks(bench: Bench) -> None:
    """A shorter document leaves none behind, an empty one goes, and the numbers add up."""
    one_sentence_each(bench)
    bench.step("Writer").update(parentKey=["id"])
    report = bench.run()
    assert counts_add_up(report)
    assert (len(chunks_of(bench)), report["rows_deleted"]) == (20, 1)
    bench.write_lines([{"id": "a", "text": "\n\n".join(SENTENCES[:2])}, {"id": "d", "text": " "}])
    report = bench.run()
    assert counts_add_up(report)
    assert (report["rows_written"], report["rows_deleted"]) == (2, 1)
    assert sorted(chunks_of(bench)) == ["a#0", "a#1", "b#0"]


@pytest.mark.slow
def test_a_document_stays_old_if_a_service_refuses_one_of_its_chunks(bench: Bench) -> None:
    """With `keep`; with `delete` it goes; the other chunks of it are rejected by the writer."""
    one_sentence_each(bench)
    bench.step("Writer").update(parentKey=["id"])
    with EndpointServer() as server:
        bench.step("Embed").update(
            modelProvider="openai", modelName="any", endpoint=server.url, apiKey="sk-test",
            dimension=64,
        )  # fmt: skip
        bench.run()
        bench.write_lines(
            [{"id": "a", "text": "\n\n".join([*SENTENCES[30:33], "POISON is what it is."])}]
        )
        for mode, left in (("keep", 5), ("delete", 0)):
            bench.job["setting"]["onReject"] = mode
            report = bench.run()
            assert counts_add_up(report)
            refused = {(r["step"], r["reason"]): r["rows"] for r in report["rejected_by"]}
            assert refused["Writer", "incomplete-document"] == 3
            old = {k: v for k, v in chunks_of(bench).items() if k.startswith("a#")}
            assert len(old) == left
            assert all(text in SENTENCES[:5] for text in old.values())


@pytest.mark.slow
def test_a_job_with_the_step_is_one_stage(bench: Bench) -> None:
    """So it runs on all runners as any other job."""
    resolved = read_and_resolve(bench.save(), data_sources=str(bench.folder / "sources.json"))
    pipeline = beam.Pipeline("FnApiRunner")
    build(pipeline, resolved, RunPlan(run="r", rejects="rejects"))
    embedded = environments.EmbeddedPythonEnvironment.default()
    proto = pipeline.to_runner_api(default_environment=embedded)
    _, stages = fn_runner.FnApiRunner().create_stages(proto)
    names = [[t.unique_name for t in stage.transforms] for stage in stages]
    (fused,) = [own for own in names if any("Read splits" in name for name in own)]
    for part in ("Transform Extract", "Transform Split", "Transform Embed", "Write Writer"):
        assert any(name.startswith(part) for name in fused)


@pytest.mark.slow
def test_chunks_keep_the_time_of_their_document() -> None:
    """In any pipeline, in any window."""
    settings = TextSplitSettings(source_column_name="text", parent_columns=("id",), chunk_size=40)
    with beam.Pipeline("FnApiRunner") as pipeline:
        timed = (
            pipeline
            | beam.Create([(DOCUMENTS[0], 5), (DOCUMENTS[1], 70)])
            | beam.Map(lambda pair: beam.window.TimestampedValue(*pair))
            | beam.WindowInto(beam.window.FixedWindows(60))
        )
        made = timed | SplitText(settings=settings)
        told = made.rows | beam.Map(
            lambda row, at=beam.DoFn.TimestampParam: (row["chunk_id"], int(at))
        )

        def check(found: list[Any]) -> None:
            assert sorted(found) == [*((f"a#{i}", 5) for i in range(5)), ("b#0", 70)]

        assert_that(told | "All" >> beam.WindowInto(beam.window.GlobalWindows()), check)


@pytest.mark.slow
def test_the_elements_of_a_list_are_rows_that_are_counted_rejected_and_replayed(
    bench: Bench,
) -> None:
    """An id of the row alone is refused; one made of the element's number is not."""
    steps = bench.job["steps"]
    steps[2] = step(
        "json-extracting", "flatmap", "Each",
        column=[{"name": "item", "fromColumn": "line", "jsonPath": "$.of", "type": "JSON",
                 "explode": True}],
    )  # fmt: skip
    text = [{"name": "chunk", "fromColumn": "item", "jsonPath": "$.text", "type": "STRING"}]
    steps.insert(3, step("json-extracting", "flatmap", "Text", column=text))
    bench.step("Extract")["column"].pop()
    bench.step("Writer")["column"] = [
        {"name": "id", "type": "VarChar", "maxLength": "64", "primaryKey": True},
        {"name": "chunk", "type": "VarChar", "maxLength": "40"},
        {"name": "vector", "type": "FloatVector", "dimension": "64"},
    ]
    lists = [[{"text": "a" * n} for n in (5, 50, 6)], [], [{"no": 1}, {"text": "b"}]]
    bench.write_lines([{"id": f"d{i}", "of": of} for i, of in enumerate(lists)])
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "makes its id of id, which all rows that steps[2] 'Each' makes" in outcome.err
    named = {"operation": "id", "column": "chunk_id", "fromColumns": ["id", "item_index"]}
    steps.insert(4, step("edit", "map", "Name", rules=[named]))
    bench.step("Writer")["column"][0]["name"] = "chunk_id"
    report = bench.run()
    assert counts_add_up(report)
    assert (report["rows_read"], report["rows_split"], report["rows_written"]) == (3, 2, 3)
    rejects = {(r["step"], r["reason"], r["origin"].partition("#")[2]) for r in rejects_of(report)}
    assert rejects == {
        ("Each", "empty-list", ""), ("Text", "no-match", "0"), ("Writer", "too-long", "1")
    }  # fmt: skip
    bench.step("Writer").update(collection="wider")
    bench.step("Writer")["column"][1]["maxLength"] = "200"
    again = bench.run("--replay", report["rejects"])
    assert counts_add_up(again)
    assert list(chunks_of(bench).values()) == ["a" * 50]


def test_elements_of_a_chunk_are_refused_before_a_writer_of_documents(bench: Bench) -> None:
    """The writer could not know how many rows a document has."""
    bench.step("Writer").update(parentKey=["id"])
    each = {"name": "item", "fromColumn": "chunk", "jsonPath": "$", "type": "JSON", "explode": True}
    bench.job["steps"].insert(3, step("json-extracting", "flatmap", "Each", column=[each]))
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "makes several rows of a chunk, and steps[5] 'Writer' writes whole documents" in (
        outcome.err
    )
