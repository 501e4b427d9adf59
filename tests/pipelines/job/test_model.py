"""Job files and data sources: what is wrong is told at once, with its path and the way out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.pipelines.support import Bench, main_job, rows
from vecferry.errors import JobError
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.model import Job, parse_job
from vecferry.pipelines.job.placeholders import fill, names_in, parse_assignments, set_value


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with a job that is right, and three rows."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(list(rows(3)))
    return bench


def _second_reader(bench: Bench) -> None:
    again = json.loads(json.dumps(bench.job["steps"][0]))
    bench.job["steps"].insert(1, {**again, "name": "Another"})


def _two_faults(bench: Bench) -> None:
    bench.step("Embed")["dimension"] = 0
    del bench.step("Writer")["collection"]


def _untrusted_endpoint(bench: Bench) -> None:
    bench.step("Embed").update(modelProvider="openai", modelName="m", endpoint="http://127.0.0.1:9")
    bench.job["setting"]["trustedEndpoints"] = ["^https://dashscope.aliyuncs.com/.*$"]


def _steps_type(bench: Bench) -> None:
    bench.job["steps"][3]["stepType"] = "milvsu"


BAD_JOBS: dict[str, tuple[Callable[[Bench], Any], list[str]]] = {
    "two readers": (_second_reader, ["one reader", "Reader", "Another"]),
    "no writer": (lambda b: b.job["steps"].pop(), ["one writer"]),
    "an unknown stepType": (_steps_type, ["steps[3]", "milvsu", "did you mean 'milvus'"]),
    "a missing collection and a dimension of 0": (
        _two_faults,
        ["steps[3].parameter.collection is missing", "steps[2].parameter", "dimension"],
    ),
    "a dimension that the model lacks": (
        lambda b: b.step("Embed").update(dimension=100),
        ["steps[2].parameter", "100", "64", "256"],
    ),
    "a source column that doesn't exist": (
        lambda b: b.step("Embed")["embeddingColumns"].update(sourceColumnNames=["texd"]),
        ["steps[2] 'Embed'", "'texd'", "did you mean 'text'"],
    ),
    "a dimension other than the collection's column": (
        lambda b: b.step("Embed").update(dimension=128),
        ["steps[3] 'Writer'", "64", "128"],
    ),
    "a placeholder without a value": (
        lambda b: b.step("Writer").update(collection="${nowhere_to_be_found}"),
        ["steps[3].parameter.collection", "${nowhere_to_be_found}", "-p nowhere_to_be_found="],
    ),
    "a data source that doesn't exist": (
        lambda b: b.step("Writer").update(datasource="Vektors"),
        ["'Vektors'", "did you mean 'Vectors'"],
    ),
    "a data source of another type": (
        lambda b: b.step("Writer").update(datasource="Files"),
        ["'Files'", "'local'", "milvus"],
    ),
    "a model that the provider local lacks": (
        lambda b: b.step("Embed").update(modelName="bge-m3"),
        ["steps[2].parameter", "'bge-m3'", "leave modelName out"],
    ),
    "a budget in a word": (
        lambda b: b.job["setting"].update(budget=7),
        ["job.setting.budget is 7", "object of keys and values"],
    ),
    "a budget of a slip": (
        lambda b: b.job["setting"].update(budget={"request": 7}),
        ["job.setting.budget", "did you mean 'requests'"],
    ),
    "a hop to an unknown step": (
        lambda b: b.job.update(order={"hops": [{"from": "Reader", "to": "Wirter"}]}),
        ["order.hops[0]", "'Wirter'", "did you mean 'Writer'"],
    ),
    "a throttle without a rate": (
        lambda b: b.job["setting"].update(speed={"throttle": True}),
        ["setting.speed", "record", "mbps"],
    ),
    "positions of a source that has none": (
        lambda b: b.job["setting"].update(positions="positions"),
        ["job.setting.positions", "reads all rows each time", "leave positions out"],
    ),
    "an endpoint that is not trusted": (
        _untrusted_endpoint,
        ["steps[2].parameter.endpoint", "127.0.0.1:9", "^https://dashscope.aliyuncs.com/.*$"],
    ),
    "an errorLimit below 0": (
        lambda b: b.job["setting"].update(errorLimit={"record": "-1"}),
        ["job.setting.errorLimit.record", "is -1", "must be 0 or more"],
    ),
}


_THEIRS = re.compile(
    r"Traceback|pydantic|https?://errors|input should|input_|validation error|value error"
    r"|valid (?:string|integer|number|list|dict|boolean)|unable to|type=|extra inputs"
    r"|field required|dictionary",
    re.IGNORECASE,
)


def theirs(text: str) -> list[str]:
    """Words and links of the library that checks settings, which help nobody who mends a job."""
    return _THEIRS.findall(text)


BAD_VALUES: list[tuple[str, str, object]] = [
    ("Embed", "modelProvider", 5),
    ("Embed", "dimension", "ten"),
    ("Embed", "dimension", 1.5),
    ("Embed", "dimension", [1]),
    ("Embed", "batchSize", 0),
    ("Embed", "batchSize", {"a": 1}),
    ("Embed", "embeddingColumns", "x"),
    ("Embed", "embeddingColumns", [3]),
    ("Embed", "embeddingColumns", {"sourceColumnNames": 7, "embeddingColumnName": "v"}),
    ("Embed", "embeddingColumns", {"sourceColumnNames": [], "embeddingColumnName": "v"}),
    ("Embed", "embeddingColumns", {"sourceColumnNames": "text", "embeddingColumnName": [1]}),
    ("Embed", "headers", "x"),
    ("Embed", "headers", ["x"]),
    ("Embed", "headers", {"a": [5]}),
    ("Embed", "body", "x"),
    ("Embed", "query", {"a": [1]}),
    ("Embed", "timeoutSeconds", "nan"),
    ("Embed", "timeoutSeconds", 0),
    ("Embed", "skipEmptyValue", "maybe"),
    ("Embed", "skipEmptyValue", 7),
    ("Embed", "price", "x"),
    ("Embed", "price", {"perMillionTokens": -1}),
    ("Embed", "overLimit", "cut"),
    ("Embed", "apiKey", ["x"]),
    ("Embed", "requestBody", True),
    ("Writer", "collection", True),
    ("Writer", "collection", {"name": "c"}),
    ("Writer", "column", 5),
    ("Writer", "column", [5]),
    ("Writer", "column", [{}]),
    ("Writer", "column", [{"name": "id", "type": "VarChar", "maxLength": "many"}]),
    ("Writer", "writeMode", 5),
    ("Reader", "object", 7),
    ("Reader", "fileFormat", "word"),
    ("Reader", "column", [{"index": "one", "type": "string"}]),
    ("Extract", "column", {"name": "x"}),
    ("Extract", "column", []),
    ("setting", "errorLimit", "x"),
    ("setting", "errorLimit", {"record": "many"}),
    ("setting", "speed", {"concurrent": 1.5}),
    ("setting", "speed", [1]),
    ("setting", "vectorCache", 5),
    ("setting", "vectorCache", {}),
    ("setting", "trustedEndpoints", 5),
    ("job", "steps", 3),
    ("job", "steps", [3]),
    ("job", "steps", [{}]),
    ("job", "steps", []),
    ("job", "name", True),
    ("job", "order", 5),
    ("job", "order", {"hops": [1]}),
    ("job", "setting", 3),
]


@pytest.mark.parametrize(("place", "name", "value"), BAD_VALUES)
def test_what_is_wrong_is_told_in_our_words(
    bench: Bench, place: str, name: str, value: object
) -> None:
    """The name of what is wrong stands there, and no sentence or link of a library."""
    parts = {"job": bench.job, "setting": bench.job["setting"]}
    (parts.get(place) or bench.step(place))[name] = value
    outcome = bench.call("check")
    assert outcome.status == 2
    assert name in outcome.err
    assert not theirs(outcome.err)


def test_the_words_of_a_library_are_known() -> None:
    """Or the tests before would prove nothing."""
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({"type": "job", "steps": [{"stepType": True}], "order": 5})
    assert len(set(theirs(str(caught.value)))) > 3


@pytest.mark.parametrize(
    "content",
    [
        [{"reader": {"name": "mysqlreader"}, "writer": {"name": "streamwriter"}}],
        {"reader": {"name": "mysqlreader"}, "writer": {"name": "streamwriter"}},
        [{"reader": {"name": "mysqlreader"}}],
        [],
        "x",
    ],
    ids=str,
)
@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_a_job_file_of_datax_is_recognised(bench: Bench, content: object, ending: str) -> None:
    """By name, with what becomes of its parts; half a file is told as well."""
    path = bench.folder / f"datax.{ending}"
    path.write_text(json.dumps({"job": {"content": content, "setting": {"speed": {"channel": 1}}}}))
    outcome = bench.line("check", str(path))
    assert outcome.status == 2
    whole = "streamwriter" in str(content)
    names = "mysqlreader to streamwriter" if whole else "to writer"
    assert f"this is a job file of DataX (job.content, {names if whole else ''}" in outcome.err
    assert names in outcome.err
    for way in ("make an entry of steps", "put each connection into a data source", "beside steps"):
        assert way in outcome.err
    assert "steps is missing" not in outcome.err


@pytest.mark.parametrize("more", [{"steps": []}, {"job": {"steps": []}}, {"job": "x"}], ids=str)
def test_no_other_document_is_taken_for_a_job_of_datax(more: dict[str, Any]) -> None:
    """It is told as what it is."""
    with pytest.raises(JobError) as caught:
        parse_job({"job": {"content": []}, **more}, values={})
    assert "DataX" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("true", 'must be a text; quote it: "true"'),
        ("False", 'must be a text; quote it: "false"'),
        ("no", None),
        ("on", None),
        ("Off", None),
        ("1.10", None),
        ("0o17", None),
        ("007", None),
        ("2026-01-01", None),
    ],
)
def test_a_word_of_yaml_stays_a_text_or_is_to_be_quoted(
    tmp_path: Path, written: str, says: str | None
) -> None:
    """Where a text is expected, what is written is what is meant."""
    path = tmp_path / "job.yaml"
    path.write_text(f"{json.dumps(main_job())[:-1]}, name: {written}}}")
    raw = parse_document(path, "job")
    if says is None:
        assert parse_job(raw, values={})[0].name == written
        return
    with pytest.raises(JobError) as caught:
        parse_job(raw, values={})
    assert str(caught.value) == f"job.name is {written.title()}: {says}"


@pytest.mark.parametrize("fault", BAD_JOBS, ids=str)
def test_a_bad_job_is_refused_with_its_path_its_value_and_the_way_out(
    bench: Bench, fault: str
) -> None:
    """Exit status 2 from check and from run, before anything is written."""
    spoil, words = BAD_JOBS[fault]
    spoil(bench)
    for command in ("check", "run"):
        outcome = bench.call(command)
        assert outcome.status == 2, outcome.out
        for word in words:
            assert word in outcome.err
        assert not theirs(outcome.err)
    assert not (bench.folder / "vectors.db").exists()
    assert not (bench.folder / "rejects").exists()


def test_faults_of_the_frame_and_of_the_steps_are_told_together(bench: Bench) -> None:
    """Whoever mends a job should not have to call it once for each fault."""
    bench.job["setting"]["errorLimit"] = {"record": "-1"}
    bench.step("Embed")["batchSize"] = "ten"
    bench.step("Writer")["writeMode"] = "replace"
    bench.job["steps"][0]["stepType"] = "fiel"
    outcome = bench.call("check")
    assert outcome.status == 2
    for path in ("errorLimit.record", "steps[0].", "steps[2].parameter", "steps[3].parameter"):
        assert path in outcome.err


def test_a_file_that_is_absent_or_outside_its_folder_is_refused_before_the_run(
    bench: Bench,
) -> None:
    """The paths of a step stay inside its data source."""
    for path, word in (("nothing.jsonl", "nothing.jsonl"), ("../sources.json", "leads out of")):
        bench.step("Reader")["object"] = [path]
        outcome = bench.call("run")
        assert outcome.status == 2
        assert word in outcome.err
    assert not (bench.folder / "vectors.db").exists()


@pytest.mark.slow
def test_a_target_that_cannot_be_written_is_refused_before_the_run(bench: Bench) -> None:
    """A folder that isn't there is named."""
    bench.sources["Vectors"]["endpoint"] = str(bench.folder / "no" / "such" / "vectors.db")
    outcome = bench.call("run")
    assert outcome.status == 2
    assert "no/such" in outcome.err


@pytest.mark.slow
def test_a_collection_of_another_dimension_is_refused_before_the_run(bench: Bench) -> None:
    """The collection is read first; no row is embedded for nothing."""
    assert bench.run()["rows_written"] == 3
    bench.step("Embed")["dimension"] = bench.step("Writer")["column"][2]["dimension"] = 128
    outcome = bench.call("run")
    assert outcome.status == 2
    assert "128" in outcome.err
    assert "64" in outcome.err


@pytest.mark.parametrize("form", ["no reader", "one step", "steps as an object", "no JSON"])
def test_an_error_of_the_whole_job_shows_no_key(bench: Bench, form: str) -> None:
    """What is wrong is told without the values around it, which may be secret."""
    step = {"parameter": {"apiKey": "sk-SECRETSECRET"}, "stepType": "milvus", "category": "writer"}
    steps: Any = {"no reader": [step, step], "one step": [step], "steps as an object": step}
    text = json.dumps({"type": "job", "steps": steps.get(form)})
    path = bench.folder / "spoilt.json"
    path.write_text('{"apiKey": "sk-SECRETSECRET",,' if form == "no JSON" else text)
    outcome = bench.line("check", str(path))
    assert outcome.status == 2
    assert "sk-SECRET" not in outcome.err
    assert "steps" in outcome.err or "line 1" in outcome.err


@pytest.mark.parametrize(
    "end", ["?token=sk-SECRET", "?sk-SECRET", "#sk-SECRET", ":99999/?sk-SECRET"]
)
def test_a_key_in_the_query_of_an_endpoint_is_not_shown_when_it_is_refused(
    bench: Bench, end: str
) -> None:
    """Some services take their key there; the message shows the rest of the address."""
    changed = {"modelProvider": "openai", "modelName": "m", "endpoint": f"http://service{end}"}
    bench.step("Embed").update(changed)
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "http://service" in outcome.err
    assert "SECRET" not in outcome.err


def test_only_a_variable_of_nearly_the_same_name_is_guessed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment is full of names that are a little like any other."""
    monkeypatch.setenv("VECTORS_API_KEY", "sk-one")
    for name, guessed in (("VECTOR_API_KEY", True), ("EMBED_API_KEY", False)):
        bench.step("Embed").update(apiKey=f"${{{name}}}")
        outcome = bench.call("check")
        assert outcome.status == 2
        assert ("did you mean 'VECTORS_API_KEY'" in outcome.err) is guessed
        assert "did you mean" not in outcome.err.replace("did you mean 'VECTORS_API_KEY'", "")


def test_a_parameter_that_nobody_asks_for_is_a_warning(bench: Bench) -> None:
    """A slip in a name would leave the default in force."""
    bench.step("Writer")["collection"] = "${collection:-texts}"
    outcome = bench.call("check", "-p", "colection=other")
    assert outcome.status == 0
    assert "-p colection" in outcome.err
    assert "did you mean 'collection'" in outcome.err


def test_a_job_that_is_no_json_is_told_with_its_line(bench: Bench) -> None:
    """The line and column of the fault are named."""
    path = bench.folder / "broken.json"
    path.write_text('{\n "type": "job",\n "steps": [,]\n}')
    outcome = bench.line("check", str(path))
    assert outcome.status == 2
    assert "line 3" in outcome.err
    assert bench.line("check", str(bench.folder / "absent.json")).status == 2


def test_an_empty_job_file_is_told_so(bench: Bench) -> None:
    """A slip of the shell's redirection, mostly."""
    path = bench.folder / "empty.yaml"
    path.write_text("")
    outcome = bench.line("check", str(path))
    assert (outcome.status, "not an empty file" in outcome.err) == (2, True)


def test_a_step_that_set_misnames_is_told_with_the_names_there_are(bench: Bench) -> None:
    """The nearest one is guessed."""
    outcome = bench.call("check", "--set", "steps.Embd.parameter.batchSize=3")
    assert outcome.status == 2
    assert "a name of Reader, Extract, Embed, Writer; did you mean 'Embed'?" in outcome.err


@pytest.mark.parametrize(
    ("name", "text", "shown"),
    [
        ("job.json", '{"type": "job", "setting": {"a": 1, "a": 2}}', "the key 'a' is there twice"),
        ("job.yaml", "type: job\nsteps: []\ntype: job\n", "line 3: the key 'type' is there twice"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(
    bench: Bench, tmp_path: Path, name: str, text: str, shown: str
) -> None:
    """One of the two values would be lost in silence otherwise."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(JobError, match=shown):
        parse_document(path, "job")


def test_yaml_merges_and_overrides_as_yaml_says(tmp_path: Path) -> None:
    """`<<` brings in the keys of an anchor, and a key beside it wins."""
    path = tmp_path / "job.yaml"
    path.write_text("base: &b {a: 1, c: 3}\none: {<<: *b, a: 2}\n")
    assert parse_document(path, "job")["one"] == {"a": 2, "c": 3}


def test_a_key_that_nobody_knows_is_a_warning_with_the_nearest_name(bench: Bench) -> None:
    """The job runs all the same: the vendor's jobs carry keys of its editor."""
    bench.step("Embed")["batchSizes"] = 8
    outcome = bench.call("check")
    assert outcome.status == 0
    assert "steps[2].parameter.batchSizes" in outcome.err
    assert "did you mean 'batchSize'" in outcome.err


def test_yaml_and_json_say_the_same(bench: Bench) -> None:
    """A job may be YAML, and its name is the file's stem where it has none."""
    path = bench.folder / "nightly.yaml"
    path.write_text(json.dumps(bench.job))  # JSON is YAML
    bench.save()
    outcome = bench.line(
        "check", str(path), "--data-sources", str(bench.folder / "sources.json"), "--json"
    )
    assert outcome.json["job"] == "nightly"


def test_a_body_of_requests_keeps_the_placeholders_of_others() -> None:
    """Of a step's `requestBody` alone, and of its text alone."""
    body = '{"input": ${parameters.input}}'
    assert fill({"requestBody": body, "a": "${b}"}, {"b": "c"}) == (
        {"requestBody": body, "a": "c"},
        [],
    )
    assert fill({"requestBody": {"a": "${b}"}}, {"b": "c"})[0] == {"requestBody": {"a": "c"}}
    assert names_in({"requestBody": body, "a": ["${b}"]}) == {"b"}


def test_placeholders_are_filled_from_parameters_then_environment_then_default() -> None:
    """``${a:-b}`` has a default; what is left is told with its path."""
    filled, problems = fill(
        {"a": "${x}-${y:-none}", "b": [{"c": "${z}"}], "n": 3}, {"x": "1", "z": "2"}
    )
    assert (filled, problems) == ({"a": "1-none", "b": [{"c": "2"}], "n": 3}, [])
    _, problems = fill({"b": [{"c": "${lost}"}]}, {})
    assert problems[0].startswith("b[0].c: ${lost}")


@pytest.mark.parametrize("step", ["steps.1", "steps[1]", "steps.E"])
def test_set_takes_a_position_or_the_name_of_a_step(step: str) -> None:
    """Numbers are taken as numbers, other texts as they are."""
    job = {"steps": [{"name": "R"}, {"name": "E", "parameter": {}}]}
    set_value(job, f"{step}.parameter.batchSize", "8")
    assert job["steps"][1]["parameter"] == {"batchSize": 8}
    with pytest.raises(JobError, match=r"not have 'parametre'.*did you mean 'parameter'"):
        set_value(job, "steps.1.parametre.x", "1")
    with pytest.raises(JobError, match=r"not have 'setting'.*--set 'setting=\{…\}'"):
        set_value(job, "setting.errorLimit.record", "0")


def test_numbers_come_as_texts(bench: Bench) -> None:
    """``"record": "0"`` and ``"concurrent": "3"`` are numbers, as DataWorks writes them."""
    bench.job["setting"] = {"errorLimit": {"record": "0"}, "speed": {"concurrent": "3"}}
    job, warnings = parse_job(bench.job, values={})
    assert (job.setting.error_limit.record, job.setting.speed.concurrent) == (0, 3)
    assert warnings == []


@pytest.mark.slow
def test_the_schema_takes_every_job_that_the_models_take(bench: Bench) -> None:
    """It is valid JSON Schema, and knows the parameters of each stepType."""
    from jsonschema import Draft202012Validator

    schema = bench.line("schema").json
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors(bench.job))
    for example in Path("examples").glob("*.json"):
        assert not list(validator.iter_errors(json.loads(example.read_text())))
    bench.step("Reader").update(column=["*"])
    bench.step("Writer")["column"][1]["type"] = "varchar"
    assert not list(validator.iter_errors(bench.job))
    bench.step("Embed")["batchSize"] = "many"
    assert list(validator.iter_errors(bench.job))


def test_a_parameter_without_an_equals_sign_is_told_without_its_value() -> None:
    """What stands behind a colon may be the password."""
    with pytest.raises(JobError, match="must be NAME=VALUE") as e:
        parse_assignments(("PASSWORD:hunter22",), "-p")
    assert "PASSWORD…" in str(e.value)
    assert "hunter22" not in str(e.value)
