"""A job whose model has changed, from the command line: refused, forced, or into a new target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pymilvus import MilvusClient

from tests.io.search.test_catalog import Index, Target
from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, rows
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.io.hologres import HologresSettings
from vecferry.io.hologres.target import HOLOGRES
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.postgresql.catalog import TableCatalog, mark_in, marked, planned, read_comment
from vecferry.io.postgresql.dialect import POSTGRESQL
from vecferry.io.search.client import StatusError
from vecferry.io.sink.mark import Mark, Marking, from_json, to_json, to_text
from vecferry.pipelines.job.resolve import context_of, read_and_resolve
from vecferry.pipelines.job.retarget import TargetOptions
from vecferry.pipelines.run.launch import conclude
from vecferry.pipelines.run.report import RejectedBy, Report, make_report
from vecferry.process import RunState
from vecferry.settings import Maker
from vecferry.steps import StepContext, WriteOptions

ONE = Maker(provider="openai", model="model-a", dimension=64)
OTHER = Maker(provider="openai", model="model-b", dimension=64)


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    with EndpointServer() as server:
        yield server


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: EndpointServer) -> Bench:
    """Forty rows and a job with model-a."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(list(rows(40)))
    bench.step("Embed").update(
        modelProvider="openai", endpoint=server.url, modelName="model-a", apiKey="sk-test"
    )
    return bench


def has_model(bench: Bench, name: str) -> None:
    bench.step("Embed")["modelName"] = name


def refused(bench: Bench, *arguments: str, command: str = "run") -> str:
    """What a command line says that ends with exit status 2."""
    outcome = bench.call(command, *arguments)
    assert outcome.status == 2, outcome.out
    return outcome.err


def meant(bench: Bench, name: str) -> tuple[str, int] | None:
    """The collection that a name stands for, and how many rows it holds."""
    client = MilvusClient(str(bench.folder / "vectors.db"))
    try:
        if not client.has_collection(name):
            return None
        client.load_collection(name)
        (count,) = client.query(name, filter="", output_fields=["count(*)"])
        return client.describe_collection(name)["collection_name"], count["count(*)"]
    finally:
        client.close()


@pytest.mark.slow
def test_a_job_with_another_model_embeds_and_writes_nothing(
    bench: Bench, server: EndpointServer
) -> None:
    """Exit status 2, both models and both ways out in the message; also without a preflight."""
    assert bench.run()["rows_written"] == 40
    server.forget()
    has_model(bench, "model-b")
    bench.write_lines(list(rows(50)))
    for arguments in ([], ["--no-preflight"]):
        text = refused(bench, *arguments)
        assert "model-a of openai, 64 dimensions" in text
        assert "model-b of openai, 64 dimensions" in text
        assert "--into NEW" in text
        assert "--force" in text
    assert server.good == []
    assert "model-a of openai" in refused(bench, "--connect", command="check")
    assert meant(bench, "texts") == ("texts", 40)


@pytest.mark.slow
def test_force_writes_and_makes_the_new_model_the_targets_own(bench: Bench) -> None:
    """It is needed once; the old model is refused from then on."""
    bench.run()
    has_model(bench, "model-b")
    outcome = bench.call("run", "--force")
    assert outcome.status == 0
    assert "come among them" in outcome.err
    assert bench.run()["rows_written"] == 40
    has_model(bench, "model-a")
    assert "were made by model-b" in refused(bench)


@pytest.mark.slow
def test_a_new_target_takes_the_place_of_the_old_one_when_it_is_whole(bench: Bench) -> None:
    """From the first run on the job's name is an alias; a query by it answers from the new one."""
    first = bench.run("--into", "texts_1", "--switch-alias")
    assert first["notes"] == ["alias 'texts' names collection 'texts_1' now"]
    assert meant(bench, "texts") == ("texts_1", 40)
    assert bench.run()["rows_written"] == 40, "through the alias"
    has_model(bench, "model-b")
    assert "collection 'texts_1'" in refused(bench)
    bench.write_lines(list(rows(30)))
    outcome = bench.call("run", "--into", "texts_2", "--switch-alias")
    assert outcome.status == 0
    assert "alias 'texts' names collection 'texts_2' now" in outcome.out
    assert meant(bench, "texts") == ("texts_2", 30)
    assert meant(bench, "texts_1") == ("texts_1", 40)
    hits = bench.call("query", rows(7)[6]["text"], "-k", "1", "--json").json["hits"]
    assert hits[0]["id"] == "r000006"
    assert bench.run()["rows_written"] == 30


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_alias_and_says_so(bench: Bench) -> None:
    """The same command completes the new target once the cause is mended."""
    bench.run("--into", "texts_1", "--switch-alias")
    has_model(bench, "model-b")
    bench.write_lines([*rows(40), {"id": "y" * 65, "text": "t"}])
    report = bench.run("--into", "texts_2", "--switch-alias")
    assert report["state"] == "FAILED"
    assert report["error"].endswith("; alias 'texts' was not moved to 'texts_2'")
    assert meant(bench, "texts") == ("texts_1", 40)
    bench.write_lines(list(rows(45)))
    assert bench.run("--into", "texts_2", "--switch-alias")["state"] == "DONE"
    assert meant(bench, "texts") == ("texts_2", 45)


@pytest.mark.slow
def test_a_run_that_writes_nothing_leaves_the_alias(bench: Bench) -> None:
    """An empty source is more often a mistake than a wish for an empty target."""
    bench.run("--into", "texts_1", "--switch-alias")
    bench.write_lines([])
    report = bench.run("--into", "texts_2", "--switch-alias")
    assert report["state"] == "FAILED"
    assert "alias 'texts' was not moved" in report["error"]
    assert meant(bench, "texts") == ("texts_1", 40)


@pytest.mark.slow
def test_without_switch_alias_no_alias_moves(bench: Bench) -> None:
    """So that the new target can be looked at first."""
    bench.step("Writer").update(collection="texts_1", alias="now")
    bench.run()
    assert meant(bench, "now") == ("texts_1", 40)
    has_model(bench, "model-b")
    assert bench.run("--into", "texts_2")["notes"] == []
    assert meant(bench, "now") == ("texts_1", 40)
    bench.run("--into", "texts_2", "--switch-alias")
    assert meant(bench, "now") == ("texts_2", 40)
    assert meant(bench, "texts_1") == ("texts_1", 40)


@pytest.mark.slow
def test_a_name_that_is_a_collection_itself_is_refused_with_the_way_out(
    bench: Bench, server: EndpointServer
) -> None:
    """What the message says works as it is told."""
    bench.run()
    server.forget()
    has_model(bench, "model-b")
    text = refused(bench, "--into", "texts_2", "--switch-alias")
    assert "alias 'texts' is the name of a collection already" in text
    assert "client.rename_collection('texts', 'texts_old')" in text
    assert "client.create_alias('texts_2', 'texts')" in text
    assert server.good == []
    assert meant(bench, "texts_2") is None
    bench.run("--into", "texts_2")
    client = MilvusClient(str(bench.folder / "vectors.db"))
    client.rename_collection("texts", "texts_old")
    client.create_alias("texts_2", "texts")
    client.close()
    assert bench.run()["state"] == "DONE"
    assert bench.run("--into", "texts_3", "--switch-alias")["state"] == "DONE"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ignore", "recreate"])
def test_a_new_target_is_made_whatever_the_job_does_with_its_own(bench: Bench, mode: str) -> None:
    """And nothing is dropped for it, not even what a job may drop that names it itself."""
    bench.step("Writer").update(schemaCreateMode=mode, ownsTarget=True)
    assert bench.run("--into", "texts_1")["state"] == "DONE"
    bench.write_lines(list(rows(60))[40:])
    bench.run("--into", "texts_1")
    assert meant(bench, "texts_1") == ("texts_1", 60)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--switch-alias"], "say which target the alias is to name, by --into"),
        (["--into", "texts"], "this is the collection of the job itself"),
        (["--into", "no name"], "--into no name: steps[3].parameter.collection is 'no name'"),
        (["--into", "t", "--switch-alias", "--limit", "3"], "a part of the rows"),
        (["--into", "t", "--switch-alias", "--replay", "rejects/x"], "the replayed rows only"),
        (["--into", "t", "--switch-alias", "--detach"], "the launcher moves the alias"),
    ],
)
def test_options_that_make_no_sense_together_are_told(
    bench: Bench, server: EndpointServer, arguments: list[str], shown: str
) -> None:
    """Before anything is touched."""
    assert shown in refused(bench, *arguments)
    assert server.good == []
    assert not (bench.folder / "vectors.db").exists()


def test_a_launcher_that_does_not_wait_moves_no_alias() -> None:
    """It is the last thing that it would do."""
    with pytest.raises(Exception, match="--switch-alias with --detach"):
        TargetOptions(into="new", switch_alias=True).refuse_parts(detached=True)
    TargetOptions(into="new").refuse_parts(detached=True, limit=3)
    assert TargetOptions().switch_alias is False


def test_a_writer_without_a_named_target_can_not_be_sent_elsewhere(bench: Bench) -> None:
    """A connector of one's own need not know of it."""
    bench.job["steps"][3] = memory_sink.step()
    assert "this step has no target to name anew" in refused(bench, "--into", "x")


def test_tables_have_no_alias(bench: Bench) -> None:
    """Refused in words, with what to do instead; --into alone is fine."""
    bench.sources["Table"] = {
        "type": "postgresql",
        "host": "127.0.0.1",
        "username": "u",
        "database": "d",
    }
    column = [
        {"name": "id", "type": "text", "primaryKey": True},
        {"name": "vector", "type": "vector", "dimension": 64},
    ]
    parameter = {"datasource": "Table", "table": "docs", "column": column}
    bench.job["steps"][3] |= {"stepType": "postgresql", "parameter": parameter}
    text = refused(bench, "--into", "new", "--switch-alias", command="check")
    assert "a table has no alias" in text
    assert "rename the two tables" in text
    assert bench.call("check", "--into", "new").status == 0
    parameter |= {"username": "u", "password": "p"}
    parameter["connection"] = [
        {"jdbcUrl": "jdbc:postgresql://h/d", "table": [parameter.pop("table")]}
    ]
    resolved = read_and_resolve(bench.save(), data_sources=str(bench.folder / "sources.json"))
    moved = TargetOptions(into="new").apply(resolved)
    assert moved.writer.settings.table == "new"
    assert resolved.writer.settings.table == "docs"


def test_each_vector_column_has_the_maker_of_its_own_step(bench: Bench) -> None:
    """Two embedding steps, with a model and a column each."""
    first = bench.job["steps"][2]
    columns = [
        {"sourceColumnNames": ["text"], "embeddingColumnName": n} for n in ("vector", "second")
    ]
    second = {**first, "name": "Again", "parameter": {**first["parameter"], "modelName": "model-b"}}
    first["parameter"]["embeddingColumns"] = columns[:1]
    second["parameter"]["embeddingColumns"] = columns[1:]
    bench.job["steps"].insert(3, second)
    bench.step("Writer")["column"].append({"name": "second", "type": "JSON"})
    resolved = read_and_resolve(bench.save(), data_sources=str(bench.folder / "sources.json"))
    assert resolved.makers() == {"vector": ONE, "second": OTHER}
    assert context_of(resolved, resolved.writer, "run").write.makers == resolved.makers()
    assert context_of(resolved, resolved.transformers[1], "run").write.makers == {}


def marking(found: Any, job: Any, *, rows: bool = True, **more: Any) -> Marking:
    """A job that fills a field of each name from the column of that name."""
    context = StepContext(step="W", step_type="x", write=WriteOptions(makers=job, **more))
    filled = dict.fromkeys([*(found or {}), *job])
    there = None if found is None else Mark(found)
    return Marking(context, "index 'i'", there, {n: n for n in filled}, lambda: not rows)


def test_one_of_two_vector_fields_is_refused_by_itself() -> None:
    """The message names it, and not the one that fits."""
    (text,) = marking({"a": ONE, "b": ONE}, {"a": ONE, "b": OTHER}).refusals()
    assert "the vectors of 'b'" in text
    forced = marking({"a": ONE, "b": ONE}, {"a": ONE, "b": OTHER}, force=True)
    assert forced.to_write() == Mark({"a": ONE, "b": OTHER})


def test_a_field_that_is_new_is_marked_while_there_are_no_rows() -> None:
    """Beside what the mark says already; with rows only by force."""
    assert marking({"a": ONE}, {"b": OTHER}, rows=False).to_write() == Mark({"a": ONE, "b": OTHER})
    assert marking({"a": ONE}, {"b": OTHER}).to_write() is None
    assert "'b'" in marking({"a": ONE}, {"b": OTHER}).remarks()[0]
    assert marking({"a": ONE}, {"b": OTHER}, force=True).to_write() == Mark({"a": ONE, "b": OTHER})
    assert marking({"a": ONE}, {"a": ONE}).to_write() is None
    assert marking(None, {}, rows=False).to_write() is None


@pytest.mark.parametrize(
    "value",
    [None, "", "{", "[]", 7, {}, {"vectors": 3}, b"\xff"],
)
def test_what_is_no_mark_counts_as_none(value: Any) -> None:
    """A user may have put anything there."""
    assert from_json(value) is None


def test_a_mark_comes_back_as_it_went_and_a_later_versions_is_read() -> None:
    """What is not known in it is passed over, and so is an entry that is broken."""
    mark = Mark({"véctor": ONE, "b": OTHER}, 7)
    assert from_json(to_text(mark)) == mark
    later = to_json(mark)
    later["vectors"]["b"] = {"provider": "x"}
    later["vectors"]["véctor"]["revision"] = 3
    later["more"] = True
    assert from_json(later) == Mark({"véctor": ONE}, 7)


def test_the_mark_of_a_job_that_is_no_sync_stays_as_it_was() -> None:
    """Byte for byte; and what is not an epoch is none."""
    vectors = '{"vectors":{"a":{"provider":"openai","model":"model-a","dimension":64}}'
    assert to_text(Mark({"a": ONE})) == vectors + "}"
    assert to_text(Mark({"a": ONE}, 0)) == vectors + ',"epoch":0}'
    assert from_json(vectors + "}") == Mark({"a": ONE})
    for told in ('"3"', "-1", "true", "1.5", "null"):
        assert from_json(f'{vectors},"epoch":{told}}}') == Mark({"a": ONE})


def test_what_makes_the_vectors_changes_without_the_epoch() -> None:
    """A job that forces its model upon a target leaves the epoch of its changes there."""
    context = StepContext(
        step="W", step_type="x", write=WriteOptions(makers={"a": OTHER}, force=True)
    )
    marking = Marking(context, "index 'i'", Mark({"a": ONE}, 5), {"a": "a"}, lambda: False)
    assert marking.to_write() == Mark({"a": OTHER}, 5)


@pytest.mark.parametrize("comment", ["", "orders of the shop", "a\nb\n", "it's {1}\nvecferry: no"])
def test_a_comment_keeps_what_its_owner_wrote(comment: str) -> None:
    """The mark is a line below, and is replaced where it stands."""
    once = marked(comment, Mark({"a": ONE}))
    twice = marked(once + "\nadded later", Mark({"a": OTHER}))
    assert mark_in(comment) is None
    assert mark_in(once) == Mark({"a": ONE})
    assert mark_in(twice) == Mark({"a": OTHER})
    assert comment in twice
    assert "added later" in twice
    assert "model-a" not in twice


class Refusing:
    """A server that knows no comments."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def execute(self, statement: str, parameters: Any = None) -> Any:
        self.statements.append(statement)
        raise psycopg.errors.UndefinedFunction("no function obj_description")


def test_a_server_that_tells_no_comment_is_written_to_and_keeps_it() -> None:
    """What a user wrote there would be lost by writing over it unread."""
    settings = HologresSettings.model_validate({"table": "t", "column": ["id"]})
    server = Refusing()
    assert read_comment(server, '"t"') is None
    assert mark_in(None) is None
    catalog = TableCatalog(server, settings, "a test", HOLOGRES, POSTGRESQL)
    catalog.remember(planned(settings), Mark({"a": ONE}))
    assert all(s.startswith("SELECT") for s in server.statements)


def limited(may_read: bool) -> Target:
    """An index without a mark, for a user who may not change its mapping, nor perhaps read."""
    vector = {"type": "knn_vector", "dimension": 64, "method": {"space_type": "l2"}}
    fields = {"id": {"type": "keyword"}, "vector": vector}
    refusal = StatusError(403, "security_exception", "not for this user")
    column = [
        {"name": "id", "type": "keyword", "primaryKey": True},
        {"name": "vector", "type": "knn_vector", "dimension": 64},
    ]
    target = Target(
        OpenSearchSettings.model_validate({"index": "docs", "column": column}),
        OpenSearchConnection(endpoint="http://h"),
        StepContext(
            step="Writer", step_type="opensearch", write=WriteOptions(makers={"vector": ONE})
        ),
    )
    target.cluster = Index(
        {
            ("GET", "/"): {"version": {"number": "2.19.1"}},
            ("GET", "/docs/_mapping"): {"docs": {"mappings": {"properties": fields}}},
            ("POST", "/docs/_refresh"): refusal,
            ("GET", "/docs/_count"): {"count": 0} if may_read else refusal,
            ("PUT", "/docs/_mapping"): refusal,
        }
    )
    return target


def test_a_user_with_few_rights_writes_without_a_mark(caplog: pytest.LogCaptureFixture) -> None:
    """That the mark could not be kept is told; an unreadable mark does not stop the job."""
    target = limited(may_read=True)
    target.check()
    target.prepare()
    assert "what makes the vectors was not kept" in caplog.text
    caplog.clear()
    target = limited(may_read=False)
    target.check()
    target.prepare()
    assert "has no mark" in caplog.text
    assert ("PUT", "/docs/_mapping") not in target.cluster.calls


class Switching:
    """A target with something left to do."""

    def __init__(self) -> None:
        self.concluded = False

    def conclude(self) -> list[str]:
        self.concluded = True
        return ["done"]

    def unfinished(self) -> str:
        return "alias 'a' was not moved"


def ended(state: Any, error: str | None) -> Report:
    return make_report(
        job="j", run="r", state=state, run_state=RunState(), rejects="", seconds=1, error=error
    )


def test_only_a_run_that_is_done_moves_an_alias() -> None:
    """One that was interrupted has written a part, and one that rejected all its rows nothing."""
    target = Switching()
    report = conclude(target, ended("CANCELLED", "interrupted"))
    assert (report.error, target.concluded) == ("interrupted; alias 'a' was not moved", False)
    lines = [RejectedBy(step="Read", reason="invalid-json", rows=3)]
    barren = ended("DONE", None).model_copy(update={"rejected_by": lines, "rows_read": 3})
    report = conclude(target, barren)
    assert (report.state, target.concluded) == ("FAILED", False)
    assert "no row was written" in str(report.error)
    assert "alias 'a' was not moved" in str(report.error)
    assert conclude(target, ended("DONE", None)).notes == ["done"]
    assert target.concluded
