"""The jobs that AutoETL's calls write, and what can be set in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.autoetl.support import ALL_BODIES, BODY, CONNECTOR, FIELDS, KEYS, Desk, changed
from vecferry.pipelines.autoetl.resolve import resolve_file
from vecferry.pipelines.cli import autoetl
from vecferry.pipelines.job.resolve import ResolvedJob

KEY = "sk-of-these-tests"


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """A folder with bodies, and no server."""
    monkeypatch.setenv("NOTES_KEY", KEY)
    return Desk(tmp_path, capsys, monkeypatch)


def parameters(job: dict[str, Any]) -> list[dict[str, Any]]:
    """What each step says."""
    return [step["parameter"] for step in job["steps"]]


def resolved(desk: Desk, job: dict[str, Any], **assignments: str) -> ResolvedJob:
    """A job as its file is resolved."""
    (desk.folder / "job.json").write_text(json.dumps(job))
    (desk.folder / "sources.json").write_text(json.dumps(desk.sources))
    given = {path.replace("__", "."): text for path, text in assignments.items()}
    return resolve_file("job.json", data_sources="sources.json", assignments=given)


def test_the_tutorials_call_is_a_job_of_three_steps(desk: Desk) -> None:
    """Step 0 reads, step 1 embeds as the connector would, step 2 writes past the pipeline."""
    job = desk.printed(*ALL_BODIES)
    assert job == {
        "name": "notes",
        "steps": [
            {
                "stepType": "mysql-cdc",
                "category": "reader",
                "name": "Read",
                "parameter": {
                    "datasource": "Shop",
                    "table": "db.notes",
                    "column": ["t2", "id"],
                },
            },
            {
                "stepType": "embedding-transformer",
                "category": "map",
                "name": "Embed",
                "parameter": {
                    "modelProvider": "connector",
                    "modelName": "text-embedding-v4",
                    "endpoint": "https://models.example/compatible-mode/v1",
                    "apiKey": "${NOTES_KEY}",
                    "requestBody": BODY,
                    "dimension": 1024,
                    "skipEmptyValue": True,
                    "embeddingColumns": [
                        {"sourceColumnNames": ["t2"], "embeddingColumnName": "my_vector"}
                    ],
                },
            },
            {
                "stepType": "opensearch",
                "category": "writer",
                "name": "Write",
                "parameter": {
                    "datasource": "search",
                    "index": "notes",
                    "indexBody": "index.json",
                    "pipeline": "_none",
                    "columnMapping": [
                        {"sourceColName": "t2", "dstColName": "my_text"},
                        {"sourceColName": "id", "dstColName": "id"},
                        {"sourceColName": "my_vector", "dstColName": "my_vector"},
                    ],
                    "primaryKeyInfo": {"type": "specific", "column": ["id"]},
                    "jsonAsText": True,
                },
            },
        ],
        "setting": {"positions": "positions/notes"},
    }


def test_the_job_that_is_printed_is_a_job(desk: Desk) -> None:
    """Its file resolves without a warning, the key is filled, the body is the connector's."""
    found = resolved(desk, desk.printed(*ALL_BODIES))
    assert found.warnings == []
    spec = found.transformers[0].settings.endpoint_spec  # type: ignore[attr-defined]
    assert spec.url == "https://models.example/compatible-mode/v1/embeddings"
    assert spec.request_body == BODY
    assert spec.api_key.reveal() == KEY
    assert found.writer.settings.key_columns() == ["id"]


def test_no_command_shows_the_key(desk: Desk) -> None:
    """Neither from the environment, nor written out in the connector."""
    desk.put("connector", changed(CONNECTOR, credential={"api_key": KEY}))
    outcome = desk.by_map("--print-job", *ALL_BODIES)
    assert (outcome.status, KEY in outcome.out + outcome.err) == (0, False)
    assert "***" in outcome.out


@pytest.mark.parametrize(
    ("path", "value", "step", "name"),
    [
        ("steps.1.parameter.endpoint", "http://127.0.0.1:1/v1", 1, "endpoint"),
        ("steps.1.parameter.modelName", "another", 1, "modelName"),
        ("steps.1.parameter.apiKey", "${MINE}", 1, "apiKey"),
        ("steps.1.parameter.requestBody", '{"input": ${parameters.input}}', 1, "requestBody"),
        ("steps.0.parameter.chunkRows", 5, 0, "chunkRows"),
        ("steps.Write.parameter.ownsTarget", True, 2, "ownsTarget"),
    ],
)
def test_what_is_set_replaces_what_the_connector_says(
    desk: Desk, path: str, value: Any, step: int, name: str
) -> None:
    """In the job that is written, so that it is run as it is printed."""
    text = value if isinstance(value, str) else json.dumps(value)
    job = desk.printed(*ALL_BODIES, "--set", f"{path}={text}")
    assert parameters(job)[step][name] == value


def test_a_key_that_a_server_keeps_is_asked_for(desk: Desk, monkeypatch: Any) -> None:
    """By a variable, or by --set; a connector without a key needs none."""
    monkeypatch.delenv("NOTES_KEY")
    desk.put("connector", changed(CONNECTOR, credential=None))
    outcome = desk.by_map(*ALL_BODIES)
    assert outcome.status == 2
    assert "${CONNECTOR_API_KEY} has no value" in outcome.err
    job = desk.printed(*ALL_BODIES, "--set", "steps.1.parameter.apiKey=sk-by-hand-1")
    assert resolved(desk, job)
    desk.put("connector", changed(CONNECTOR, credential=None, action_headers=None))
    job = desk.printed(*ALL_BODIES)
    assert "apiKey" not in parameters(job)[1]
    assert resolved(desk, job)


def test_without_bodies_a_job_embeds_nothing(desk: Desk) -> None:
    """So the pipeline of the index, if there is one, embeds on the server."""
    reader, writer = parameters(desk.printed())
    assert reader["table"] == "db.notes"
    assert "pipeline" not in writer
    assert "indexBody" not in writer


def test_a_server_may_embed_in_place_of_the_job(desk: Desk) -> None:
    """No vector is written; the connector is then nobody's here."""
    bodies = ["--pipeline", "pipeline.json", "--index", "index.json", "--embed", "server"]
    _, writer = parameters(desk.printed(*bodies))
    assert "pipeline" not in writer
    assert [m["dstColName"] for m in writer["columnMapping"]] == ["my_text", "id"]
    assert parameters(desk.printed("--pipeline", "p", "--embed", "server"))[1]["pipeline"] == "p"
    outcome = desk.by_map("--connector", "connector.json", "--embed", "server")
    assert (outcome.status, "leaves the connector to the server" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--connector", "connector.json"], "nothing says which fields are embedded"),
        (["--connector", "none.json", "--pipeline", "pipeline.json"], "none.json"),
        (["--connector", "connector.json", "--pipeline", "a.json"], "a.json"),
        (
            ["--until", "now", "--connector", "connector.json", "--pipeline", "index.json"],
            "no processor",
        ),
    ],
)
def test_bodies_that_lack_something_say_what(
    desk: Desk, arguments: list[str], problem: str
) -> None:
    """With the option that gives it, or the file that is missing."""
    outcome = desk.by_map(*arguments)
    assert outcome.status == 2
    assert problem in outcome.err


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("notes.id(db.notes.id)", "embeds my_text, and the mapping fills id"),
        (f"{FIELDS},notes.my_vector(db.notes.v)", "field 'my_vector' is filled from 'v'"),
    ],
)
def test_a_mapping_that_does_not_fit_the_pipeline_says_why(
    desk: Desk, fields: str, problem: str
) -> None:
    """A vector is made of a field that is filled, and goes where nothing else goes."""
    outcome = desk.by_map("--print-job", *ALL_BODIES, fields=fields)
    assert (outcome.status, problem in outcome.err) == (2, True)


def test_the_last_arguments_of_a_map_are_empty_or_left_out(desk: Desk) -> None:
    """Anything else is refused in words."""
    source = ("--source", "Shop", "--print-job")
    short = desk.command("sync-by-map", "search", FIELDS, KEYS, *source)
    assert short.json == desk.printed()
    outcome = desk.command("sync-by-map", "search", FIELDS, KEYS, "a=b", "", *source)
    assert (outcome.status, "its form is not public" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("until", "continuous"), [([], True), (["--until", "now"], False)], ids=["for ever", "now"]
)
def test_a_call_runs_until_it_is_stopped_unless_it_says(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, until: list[str], continuous: bool
) -> None:
    """As `run --continuous` does."""
    monkeypatch.setenv("YOUR_API_KEY", KEY)
    told: dict[str, Any] = {}

    def run(resolved: ResolvedJob, **options: Any) -> int:
        told.update(options, job=resolved.job.name)
        return 0

    monkeypatch.setattr(autoetl.commands, "run", run)
    assert desk.by_map(*ALL_BODIES, *until).status == 0
    assert (told["job"], told["continuous"]) == ("notes", continuous)
    assert told["until"] == (until[1] if until else None)


def test_a_table_call_reads_all_columns_or_some(desk: Desk) -> None:
    """All columns go into fields of their names, also such as the mapping of the index lacks."""
    call = ("sync-by-table", "search", "db.notes", "notes")
    more = ("--source", "Shop", "--key", "id", "--print-job")
    reader, writer = parameters(desk.command(*call, "", *more).json)
    assert (reader["column"], writer["dynamic"]) == (["*"], True)
    assert writer["primaryKeyInfo"]["column"] == ["id"]
    reader, writer = parameters(desk.command(*call, "t1, `t 2`", *more).json)
    assert reader["column"] == ["t1", "`t 2`", "id"]
    assert [m["dstColName"] for m in writer["columnMapping"]] == ["t1", "t 2"]


def test_a_view_reads_expressions_and_a_condition(desk: Desk) -> None:
    """The view names the index; what is embedded may be an expression."""
    desk.put("index", {"mappings": {"properties": {"my_vector": {"dimension": 64}}}})
    statement = (
        "CREATE SEARCH VIEW notes (k, my_text, PRIMARY KEY (k)) AS "
        "SELECT n.id, CONCAT(n.a, n.b) FROM db.notes AS n WHERE n.a > 1"
    )
    outcome = desk.command(
        "sync-by-view", statement, "--source", "Shop", "--print-job", *ALL_BODIES
    )
    reader, embedding, writer = parameters(outcome.json)
    assert reader["column"] == ["id", "CONCAT(a, b) AS `my_text`"]
    assert reader["where"] == "a > 1"
    assert embedding["embeddingColumns"][0]["sourceColumnNames"] == ["my_text"]
    assert embedding["dimension"] == 64
    assert writer["primaryKeyInfo"]["column"] == ["k"]
    assert resolved(desk, outcome.json).writer.settings.key_columns() == ["id"]


def test_a_database_that_is_away_can_not_tell_its_key(desk: Desk) -> None:
    """Unless the call names it."""
    call = ("sync-by-table", "search", "db.notes", "notes", "", "--source", "Shop", "--print-job")
    outcome = desk.command(*call)
    assert outcome.status == 2
    assert "does not answer" in outcome.err
    assert "or name the columns of the id as key" in outcome.err


MAPPING = {
    "source": "Shop",
    "fields": FIELDS,
    "keys": KEYS,
    "connector": "connector.json",
    "pipeline": "pipeline.json",
    "indexBody": "index.json",
}


def test_a_job_may_have_a_mapping_in_place_of_steps(desk: Desk) -> None:
    """It is the job that the call writes, under the settings that the job adds."""
    job = {"mapping": MAPPING, "setting": {"errorLimit": {"record": 3}, "positions": "here"}}
    found = resolved(desk, job)
    written = desk.printed(*ALL_BODIES)
    assert [s.parameter for s in found.job.steps[::2]] == parameters(written)[::2]
    assert found.job.steps[1].parameter == {**parameters(written)[1], "apiKey": KEY}
    assert found.job.setting.positions == "here"
    assert found.job.setting.error_limit.record == 3
    assert found.job.name == "notes"


def test_bodies_may_stand_in_the_mapping(desk: Desk) -> None:
    """Placeholders of ml-commons in them are not ours."""
    inside = {
        "connector": CONNECTOR,
        "pipeline": json.loads((desk.folder / "pipeline.json").read_text()),
    }
    found = resolved(desk, {"mapping": {**MAPPING, **inside}})
    assert found.job.steps[1].parameter["requestBody"] == BODY


def test_a_cache_of_a_job_with_a_mapping_is_found(desk: Desk) -> None:
    """By the commands that look into it."""
    uri = f"sqlite:///{desk.folder}/vectors.db"
    job = {"mapping": MAPPING, "setting": {"vectorCache": {"uri": uri}}}
    (desk.folder / "job.json").write_text(json.dumps(job))
    outcome = desk.command("cache stats", "job.json")
    assert "steps" not in outcome.err
    assert "vectors.db" in outcome.err + outcome.out


def test_steps_beside_a_mapping_count(desk: Desk) -> None:
    """What a step says itself replaces what the mapping says; other transformers are added."""
    local = {
        "stepType": "embedding-transformer",
        "category": "map",
        "parameter": {
            "modelProvider": "local",
            "embeddingColumns": {"sourceColumnNames": ["t2"], "embeddingColumnName": "my_vector"},
        },
    }
    writer = {"stepType": "opensearch", "category": "writer", "parameter": {"batchSize": 7}}
    mapping = {"source": "Shop", "fields": FIELDS, "keys": KEYS}
    found = resolved(desk, {"mapping": mapping, "steps": [local, writer]})
    assert [step.kind.role for step in found.steps] == ["reader", "transformer", "writer"]
    parameter = found.job.steps[2].parameter
    assert (parameter["batchSize"], parameter["pipeline"]) == (7, "_none")
    assert {"sourceColName": "my_vector", "dstColName": "my_vector"} in parameter["columnMapping"]


def test_a_mapping_is_filled_and_set_like_a_job(desk: Desk, monkeypatch: Any) -> None:
    """Placeholders in it are filled first; --set reaches the mapping, and the steps made of it."""
    monkeypatch.setenv("TABLE", "db.other")
    mapping = {"source": "Shop", "table": "${TABLE}", "index": "notes", "key": "id", "columns": "a"}
    assignments = {"mapping__columns": "b,c", "steps__0__parameter__roundRows": "9"}
    found = resolved(desk, {"mapping": mapping}, **assignments)
    reader = found.job.steps[0].parameter
    assert (reader["table"], reader["column"]) == ("db.other", ["b", "c", "id"])
    assert reader["roundRows"] == 9


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        ({}, "mapping.source is missing"),
        ({"source": "S"}, "give one of fields, table and view"),
        ({"source": "S", "fields": "x", "view": "y"}, "it has fields and view"),
        ({"source": "S", "fields": "x"}, "fields is given without keys"),
        ({"source": "S", "table": "t"}, "table is given without index"),
        ({"source": "S", "view": "v", "columns": "a"}, "columns is for table, and it has view"),
        ({"source": "S", "fields": "x", "keys": "y", "key": "z"}, "whose key is keys"),
        ({"source": "S", "view": "v", "embed": "there"}, "must be 'here' or 'server'"),
        ("x", "mapping must be an object"),
    ],
)
def test_a_mapping_that_is_none_says_what_is_wrong(desk: Desk, mapping: Any, problem: str) -> None:
    """One of three calls, each with what it needs."""
    (desk.folder / "job.json").write_text(json.dumps({"mapping": mapping}))
    outcome = desk.command("check", "job.json")
    assert outcome.status == 2
    assert problem in outcome.err


def test_endpoints_that_nobody_trusts_are_refused(desk: Desk) -> None:
    """`setting.trustedEndpoints` also holds for what --set names."""
    setting = {"trustedEndpoints": [r"https://models\.example/.*"]}
    assert resolved(desk, {"mapping": MAPPING, "setting": setting})
    (desk.folder / "job.json").write_text(json.dumps({"mapping": MAPPING, "setting": setting}))
    outcome = desk.command(
        "check", "job.json", "--set", "steps.1.parameter.endpoint=http://127.0.0.1:1/v1"
    )
    assert outcome.status == 2
    assert "matches none of setting.trustedEndpoints" in outcome.err
