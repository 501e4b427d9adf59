"""Templates: parameters are checked, values go in as values, secrets are never shown."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from tests.io.paimon.support import WHY as LAKE
from tests.pipelines.support import Bench, Outcome
from vecferry.errors import JobError
from vecferry.pipelines.job.documents import parse_document
from vecferry.pipelines.job.placeholders import fill
from vecferry.pipelines.templates.insert import insert
from vecferry.pipelines.templates.job import render_template, resolve_template
from vecferry.pipelines.templates.library import (
    OWN_FOLDER,
    find_templates,
    load_template,
    read_template,
)
from vecferry.pipelines.templates.metadata import Parameter
from vecferry.pipelines.templates.values import choose_values

NAMES = sorted(p.stem for p in OWN_FOLDER.glob("*.yaml"))
NEEDED = {
    "files-to-milvus": {"input": "a.jsonl", "collection": "c"},
    "files-to-elasticsearch": {"input": "a.jsonl", "index": "i"},
    "documents-to-milvus": {"collection": "c"},
    "documents-to-elasticsearch": {"index": "i"},
    "documents-to-postgresql": {"table": "t"},
    "mysql-to-opensearch": {
        "mysqlHost": "127.0.0.1", "mysqlDatabase": "d", "mysqlUser": "u", "table": "t",
        "index": "i",
    },
    "mysql-cdc-to-opensearch": {
        "mysqlHost": "127.0.0.1", "mysqlDatabase": "d", "mysqlUser": "u", "table": "t",
        "index": "i",
    },
    "paimon-to-elasticsearch": {
        "catalogUri": "http://127.0.0.1:1", "warehouse": "lake", "accessKeyId": "an-id-of-a-key",
        "accessKeySecret": "a-secret-key", "database": "d", "table": "t", "index": "i",
        "region": "cn-hangzhou",
    },
    "odps-to-milvus": {
        "odpsEndpoint": "http://127.0.0.1:1/api", "project": "p", "accessId": "an-id",
        "accessKey": "a-secret-key", "table": "t", "collection": "c",
    },
}  # fmt: skip
COLUMNS = {"keyColumn": "id", "textColumns": "title,body"}
HOSTILE = [
    'x"}, {"stepType": "mysql"',
    "x\n  stepType: mysql",
    "${HOME}",
    "${collection}",
    "a: b # c",
    "*alias",
    "&anchor !!python/object:os.system",
    "it's {{ 7 * 7 }}",
]


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


def parameters(name: str, **more: str) -> dict[str, str]:
    """What a template of ours needs at least, and more."""
    return {**NEEDED[name], **({} if _of_documents(name) else COLUMNS), **more}


def _of_documents(name: str) -> bool:
    """Whether a template reads documents, whose columns are always the same."""
    return name.startswith("documents-")


def options(given: dict[str, str]) -> Iterator[str]:
    """The parameters as the command line has them."""
    for name, value in given.items():
        yield from ("-p", f"{name}={value}")


def check(bench: Bench, name: str, given: dict[str, str]) -> Outcome:
    return bench.line("check", f"template:{name}", *options(given))


def parameter(**more: Any) -> Parameter:
    return Parameter.model_validate({"name": "p", "label": "P", "helpText": "a p", **more})


def saved(folder: Path, text: str, name: str = "own") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


OWN = """
metadata:
  name: Own
  description: A template of a user.
  parameters:
    - {name: word, label: Word, helpText: a word, regexes: ["[a-z]+"]}
job:
  steps: ["${word}"]
"""


def test_the_templates_that_are_promised_are_there() -> None:
    """These tests also know each."""
    assert sorted(NEEDED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_template_with_what_it_needs_is_a_valid_job(bench: Bench, name: str) -> None:
    """Without a warning, as no template names a key that nobody knows."""
    if name.startswith("paimon-"):
        pytest.importorskip("pypaimon", reason=LAKE)
    synced = "-cdc-" in name or name.startswith("paimon-")
    more = {"positions": "state"} if synced else {}
    outcome = check(bench, name, parameters(name, **more))
    assert (outcome.status, outcome.err) == (0, "")
    steps = "Read → Split → Embed → Write" if _of_documents(name) else "Read → Embed → Write"
    assert outcome.out.startswith(f"{name}: valid: {steps}")


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_of_a_template_does_something(name: str) -> None:
    """A parameter that is given, or given otherwise, changes the job or its data sources."""
    template = load_template(name)
    before = template.filled(choose_values(template.metadata, parameters(name), {}))
    for one in template.metadata.parameters:
        given = parameters(name, **{one.name: _another(one)})
        known = {p.name: p for p in template.metadata.parameters}
        child = one
        while child.parent_name:
            given[child.parent_name] = child.parent_trigger_values[0]
            child = known[child.parent_name]
        values: dict[str, str | None] = {}
        for other in known.values():
            triggers = other.parent_trigger_values
            if triggers and values.get(other.parent_name or "") not in triggers:
                given.pop(other.name, None)
                continue
            if other.needed:
                given.setdefault(other.name, "other")
            values[other.name] = given.get(other.name, other.default_value)
        after = template.filled(choose_values(template.metadata, given, {}))
        assert after != before, one.name


def _another(one: Parameter) -> str:
    if one.enum_options:
        return next(o.value for o in one.enum_options if o.value != one.default_value)
    if one.param_type == "BOOLEAN":
        return "false" if one.default_value == "true" else "true"
    if one.param_type == "NUMBER":
        return "77"
    tries = ("other", "redis://other", "https://other.example")
    return next(t for t in tries if all(re.fullmatch(r, t) for r in one.regexes))


@pytest.mark.slow
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", NAMES)
def test_no_value_changes_the_structure_of_a_job(name: str, value: str) -> None:
    """Quotes, line breaks and placeholders in a value stay in the place that it fills."""
    free = "folder" if _of_documents(name) else "keyColumn"
    plain, hostile = (
        load_template(name).filled(
            choose_values(
                load_template(name).metadata, parameters(name, **{free: given}), {"HOME": "/root"}
            )
        )
        for given in ("word", value)
    )
    assert "word" in orjson.dumps(plain).decode()
    assert _replaced(plain, "word", value) == hostile


def _replaced(part: Any, old: str, new: str) -> Any:
    if isinstance(part, dict):
        return {k: _replaced(v, old, new) for k, v in part.items()}
    if isinstance(part, list | tuple):
        return type(part)(_replaced(v, old, new) for v in part)
    return new if part == old else part


@pytest.mark.parametrize("value", HOSTILE)
def test_a_rendered_job_means_what_the_template_means(value: str) -> None:
    """Written to a file and read again, also with a placeholder in a value."""
    given = parameters("files-to-milvus", keyColumn=value)
    job, sources = render_template("files-to-milvus", parameters=given)
    reread = yaml.safe_load(yaml.safe_dump([job, sources], allow_unicode=True))
    template = load_template("files-to-milvus")
    filled, problems = fill(reread, {"HOME": "/root", "collection": "wrong"})
    assert problems == []
    assert tuple(filled) == template.filled(choose_values(template.metadata, given, {}))


def test_all_that_is_wrong_with_parameters_is_told_at_once(bench: Bench) -> None:
    """Each with its name, value, rule and way out; nothing is read for it."""
    outcome = check(
        bench,
        "files-to-milvus",
        {
            "inptu": "a", "dimension": "many", "collection": "9-9", "header": "true",
            "fileFormat": "jsonln", "keyColumn": "id", "textColumns": " , ", "concurrent": "0",
        },
    )  # fmt: skip
    assert outcome.status == 2
    told = outcome.err.splitlines()
    expected = [
        r"no parameter 'inptu'; did you mean 'input'\?",
        r"parameter input is missing: give -p input=…",
        r"-p fileFormat is 'jsonln': must be one of .*did you mean 'jsonl'\?",
        r"-p header is given, and means nothing here: it is for fileFormat csv",
        r"parameter textColumns is missing",
        r"-p dimension is 'many': must be a number",
        r"-p collection is '9-9': must match .*Collection: letters",
        r"-p concurrent is '0': must match",
    ]
    assert [e for e in expected if not any(re.search(e, line) for line in told)] == []
    assert len(told) == len(expected)


@pytest.mark.parametrize("command", ["run", "check", "preview", "query"])
def test_every_command_that_takes_a_job_checks_parameters_first(
    bench: Bench, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exit status 2, and nothing is written."""
    monkeypatch.chdir(bench.folder)
    text = ["anything"] if command == "query" else []
    outcome = bench.line(command, "template:files-to-milvus", *text, "-p", "dimension=many")
    assert outcome.status == 2
    assert "-p dimension is 'many'" in outcome.err
    assert not Path("rejects").exists()


def test_an_unknown_template_names_the_nearest_and_all(bench: Bench) -> None:
    """A path is not the name of a template."""
    outcome = bench.line("run", "template:files-to-milvsu")
    assert outcome.status == 2
    assert "did you mean 'files-to-milvus'?; there are documents-to-elasticsearch" in outcome.err
    assert bench.line("run", "template:../templates/files-to-milvus").status == 2


def test_a_problem_of_the_job_is_told_as_of_any_job(bench: Bench) -> None:
    """Parameters that are right one by one may not fit together."""
    given = parameters("files-to-milvus", modelProvider="bailian", modelName="text-embedding-v4")
    outcome = check(bench, "files-to-milvus", given)
    assert outcome.status == 2
    assert "apiKey is missing: bailian needs one" in outcome.err


SECRET = "a-very-secret-token"


@pytest.mark.slow
@pytest.mark.parametrize("where", ["given", "environment"])
@pytest.mark.parametrize("command", ["check", "render", "preview"])
def test_a_secret_is_never_shown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, command: str, where: str
) -> None:
    """Neither in what is printed nor in what is wrong with another parameter."""
    given = parameters("files-to-milvus", milvusEndpoint="http://127.0.0.1:1", input=SECRET)
    if where == "given":
        given["milvusToken"] = SECRET
    else:
        monkeypatch.setenv("MILVUS_TOKEN", SECRET)
    start = ["templates", "render", "files-to-milvus"] if command == "render" else [command]
    more = [] if command == "render" else ["template:files-to-milvus"]
    for wrong in ({}, {"dimension": SECRET}):
        outcome = bench.line(*start, *more, *options({**given, **wrong}))
        assert SECRET not in outcome.err
        if command == "render" and not wrong:
            assert "token: ${MILVUS_TOKEN}" in outcome.out


@pytest.mark.parametrize("where", ["given", "environment"])
def test_a_secret_can_be_left_to_workers(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What is submitted then names the variable that `show` names, and a worker fills it."""
    given = parameters("files-to-milvus", milvusEndpoint="http://127.0.0.1:1")
    if where == "given":
        given["milvusToken"] = SECRET
    else:
        monkeypatch.setenv("MILVUS_TOKEN", SECRET)
    resolved = resolve_template("template:files-to-milvus", parameters=given)
    assert SECRET.encode() in pickle.dumps(resolved.writer.connection)
    submitted = pickle.dumps(resolved.with_references("run").writer.connection)
    assert SECRET.encode() not in submitted
    assert b"${MILVUS_TOKEN}" in submitted


def test_a_secret_that_is_wrong_is_told_without_its_value() -> None:
    """Its rule says enough."""
    secret = parameter(regexes=["[0-9]+"], customMetadata={"secret": "true"})
    metadata = load_template("files-to-milvus").metadata.model_copy(
        update={"parameters": (secret,)}
    )
    with pytest.raises(JobError, match=r"-p p is \*\*\*: must match \[0-9\]\+") as raised:
        choose_values(metadata, {"p": "hunter2"}, {})
    assert "hunter2" not in str(raised.value)


def test_a_secret_that_is_missing_has_its_place_in_what_is_rendered(bench: Bench) -> None:
    """One need not know a key to look at a job; to run it, one must."""
    given = {k: v for k, v in parameters("odps-to-milvus").items() if not k.startswith("access")}
    shown = bench.line("templates", "render", "odps-to-milvus", *options(given), "--json").json
    source = shown["dataSources"]["template-source"]
    assert source["accessKey"] == "${ALIBABA_CLOUD_ACCESS_KEY_SECRET}"
    outcome = check(bench, "odps-to-milvus", given)
    assert outcome.status == 2
    assert "-p accessKey=…, or set ALIBABA_CLOUD_ACCESS_KEY_SECRET" in outcome.err


@pytest.mark.parametrize(
    ("metadata", "text", "value"),
    [
        ({}, "7", "7"),
        ({"paramType": "NUMBER"}, "7", 7),
        ({"paramType": "NUMBER"}, "-0.5", -0.5),
        ({"paramType": "BOOLEAN"}, "True", True),
        ({"customMetadata": {"form": "list"}}, "a, b,", ["a", "b"]),
        ({"customMetadata": {"form": "list"}}, '["a,b"]', ["a,b"]),
        ({"paramType": "ENUM", "enumOptions": [{"value": "x"}]}, "x", "x"),
    ],
)
def test_a_value_has_the_type_of_its_parameter(metadata: Any, text: str, value: Any) -> None:
    """So a number is a number in the job, not a text."""
    parsed = parameter(**metadata).parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({"paramType": "NUMBER"}, "nan"),
        ({"paramType": "NUMBER"}, "1e999"),
        ({"paramType": "BOOLEAN"}, "yes"),
        ({"customMetadata": {"form": "list"}}, "[1]"),
        ({"customMetadata": {"form": "list"}}, '["a"'),
        ({"customMetadata": {"form": "list"}, "regexes": ["[a-z]"]}, "a,B"),
        ({"regexes": ["[a-z]+"]}, "abc\n"),
    ],
)
def test_a_value_that_breaks_its_rule_is_refused(metadata: Any, text: str) -> None:
    """The rule holds for the whole text, and for each text of a list."""
    with pytest.raises(ValueError, match="must"):
        parameter(**metadata).parse(text)


def test_what_has_no_value_is_left_out() -> None:
    """A key, an item, and a mapping that loses all of its keys; what was empty stays."""
    part = {
        "key": "${no}", "text": "a ${no}", "items": ["${no}", "x"], "lost": {"a": {"b": "${no}"}},
        "empty": {}, "each": [{"$each": "no", "$item": "${item}"}], "kept": "a ${yes}",
    }  # fmt: skip
    assert insert(part, {"yes": 1}) == {
        "items": ["x"], "empty": {}, "each": [], "kept": "a 1",
    }  # fmt: skip


def test_a_condition_chooses_a_part_or_leaves_it_out() -> None:
    """As a value, as an item, and around what makes several items; by whether there is a value."""
    part = {
        "steps": [
            "read",
            {"$if": "image", "$then": {"embeds": "${image}"}},
            {"$if": "no", "$then": "never", "$else": "write"},
        ],
        "mode": {"$if": "flag", "$then": "new", "$else": "old"},
        "rest": {"$if": "off", "$then": {"a": "${image}"}},
        "list": {"$if": "image", "$then": ["id", {"$each": "names", "$item": "${item}"}]},
        "spread": ["id", {"$if": "names", "$then": {"$each": "names", "$item": "${item}"}}],
        "empty": {"$if": "none", "$then": 1, "$else": {"$if": "zero", "$then": "${zero}"}},
    }
    values = {
        "image": "pic",
        "flag": True,
        "off": False,
        "names": ["a", "b"],
        "none": [],
        "zero": 0,
    }
    assert insert(part, values) == {
        "steps": ["read", {"embeds": "pic"}, "write"],
        "mode": "new",
        "list": ["id", "a", "b"],
        "spread": ["id", "a", "b"],
        "empty": 0,
    }


def test_a_template_of_ones_own_is_found_by_option_and_environment(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first folder that has a name counts; a broken one is listed, and refused when asked."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        saved(tmp_path / folder, OWN.replace("name: Own", f"name: {folder}"))
    saved(tmp_path / "two", "metadata: {name: x}\njob: {}\n", "broken")
    dirs = ["--template-dir", str(tmp_path / "two"), "--template-dir", str(tmp_path / "one")]
    listed = {
        t["name"]: t for t in bench.line("templates", "list", "--json", *dirs).json["templates"]
    }
    assert listed["own"]["title"] == "two"
    assert "description is missing" in listed["broken"]["problem"]
    assert set(NAMES) < set(listed)
    assert bench.line("templates", "show", "broken", *dirs).status == 2
    monkeypatch.setenv("VECFERRY_TEMPLATES", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    assert bench.line("templates", "show", "own", "--json").json["name"] == "one"
    assert bench.line("templates", "list", "--template-dir", str(tmp_path / "no")).status == 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("${word}", "${wrd}"), r"\$\{wrd\} is not a parameter in metadata; did you mean 'word'"),
        (("${word}", "${word:-x}"), "the default belongs into metadata"),
        (("${word}", "x"), "parameter 'word' is used nowhere"),
        (('["[a-z]+"]', '["["]'), "is not a regular expression"),
        (("label: Word, ", ""), r"metadata\.parameters\[0\]\.label is missing"),
        (("label: Word", "lable: x, label: Word"), "did you mean 'label'"),
        (("label: Word", "label: Word, defaultValue: '9'"), r"defaultValue '9' must match"),
        (("label: Word", "label: W, paramType: NUMBR"), "did you mean 'NUMBER'"),
        (("label: Word", "label: W, paramType: ENUM"), "enumOptions belong together"),
        (
            ("label: Word", "label: W, parentName: x, parentTriggerValues: [y]"),
            "'x' is not a param",
        ),
        (
            ("label: Word", "label: W, defaultValue: a, customMetadata: {secret: 'true'}"),
            "a secret has no default",
        ),
        (('["${word}"]', '[{$each: word, $item: "${item}"}]'), r"\$each: word is not a list"),
        (('["${word}"]', '{$each: word, $item: "${item}"}'), "must be an item of a list"),
        (('["${word}"]', "[{$if: word}]"), r"\$if: word leads to nothing: add \$then or \$else"),
        (('["${word}"]', "[{$if: word, name: x, $then: y}]"), r"\$if: word has name beside it"),
        (('["${word}"]', '["${word}", {$then: x}]'), r"\$then stands without \$if"),
        (('["${word}"]', '["${word}", {$if: wrod, $then: x}]'), "did you mean 'word'"),
        (('["${word}"]', '["${word}", {$if: [word], $then: x}]'), "not the name of a parameter"),
        (("name: word", "name: item"), r"name is 'item': stands for an item of a list"),
        (("job:", "jobs:"), "a template is a mapping with metadata and job"),
        (("job:", "more: {}\njob:"), "'more' is not a part of a template"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(
    tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    """With the file, before any parameter is looked at."""
    assert change[0] in OWN
    path = saved(tmp_path, OWN.replace(*change))
    with pytest.raises(JobError, match=problem) as raised:
        read_template(path)
    assert all(str(path) in p for p in raised.value.problems)


def test_metadata_of_a_flex_template_are_taken_as_they_are(tmp_path: Path) -> None:
    """Also with what only Dataflow needs, and types of Google's own pickers."""
    text = OWN.replace("  name: Own", "  name: Own\n  streaming: false").replace(
        "label: Word", "label: Word, paramType: GCS_READ_FILE, groupName: Source, hiddenUi: false"
    )
    metadata = read_template(saved(tmp_path, text)).metadata
    assert metadata.parameters[0].parse("word") == "word"
    assert metadata.as_flex()["parameters"][0]["paramType"] == "GCS_READ_FILE"


def test_a_vector_cache_that_a_template_names_can_be_looked_at(bench: Bench) -> None:
    """By the same parameters as the job."""
    cache = f"sqlite:///{bench.folder}/cache.db"
    given = parameters("files-to-milvus", vectorCache=cache)
    outcome = bench.line("cache", "stats", "template:files-to-milvus", *options(given))
    assert outcome.status == 2
    assert "cache.db" in outcome.err


def test_metadata_are_shown_in_the_form_of_a_flex_template(bench: Bench) -> None:
    """Names and types are Dataflow's, and custom metadata are texts, as its API wants them."""
    shown = bench.line("templates", "show", "odps-to-milvus", "--json").json
    raw = parse_document(OWN_FOLDER / "odps-to-milvus.yaml", "template")["metadata"]
    assert [p["name"] for p in shown["parameters"]] == [p["name"] for p in raw["parameters"]]
    keys = {key for p in shown["parameters"] for key in p}
    assert keys <= {
        "name", "label", "helpText", "isOptional", "regexes", "paramType", "customMetadata",
        "groupName", "parentName", "parentTriggerValues", "enumOptions", "defaultValue", "hiddenUi",
    }  # fmt: skip
    custom = [v for p in shown["parameters"] for v in p.get("customMetadata", {}).values()]
    assert {type(v) for v in custom} == {str}
    assert all(isinstance(p.get("defaultValue", ""), str) for p in shown["parameters"])


def test_a_table_describes_every_parameter(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, type, default and help, whole at any width."""
    monkeypatch.setenv("COLUMNS", "400")
    out = bench.line("templates", "show", "files-to-elasticsearch").out
    for one in load_template("files-to-elasticsearch").metadata.parameters:
        assert re.search(rf"^{one.name}\s+{one.type_shown}\s", out, re.MULTILINE), one.name
    assert "else taken from $ELASTICSEARCH_PASSWORD" in out


@pytest.mark.parametrize("name", NAMES)
def test_templates_mean_the_same_by_the_same_name(name: str) -> None:
    """A parameter that two templates share is described alike, but for where columns go."""
    others = {key: p for n in NAMES if n != name for key, p in _ungrouped(n).items()}
    apart = {key for key, p in _ungrouped(name).items() if others.get(key, p) != p}
    assert apart <= {"source", "target", "otherColumns", "where"}


def _ungrouped(name: str) -> dict[str, Parameter]:
    given = load_template(name).metadata.parameters
    return {p.name: p.model_copy(update={"group_name": None}) for p in given}


def test_rendered_files_are_not_written_over_others(bench: Bench, tmp_path: Path) -> None:
    """A datasources.yaml that is there may be one's own."""
    (tmp_path / "datasources.yaml").write_text("Mine: {}")
    given = options(parameters("files-to-milvus"))
    outcome = bench.line(
        "templates", "render", "files-to-milvus", *given, "--output", str(tmp_path)
    )
    assert outcome.status == 2
    assert "would be lost" in outcome.err
    assert (tmp_path / "datasources.yaml").read_text() == "Mine: {}"
    assert not (tmp_path / "files-to-milvus.yaml").exists()


def test_a_data_source_of_ones_own_takes_its_placeholders_from_p(bench: Bench) -> None:
    """Also a name that the template has no parameter for."""
    bench.sources["Files"]["path"] = "${where}"
    sources = bench.folder / "sources.json"
    sources.write_bytes(orjson.dumps(bench.sources))
    given = {**parameters("files-to-milvus"), "source": "Files", "where": str(bench.folder)}
    outcome = bench.line("check", "template:files-to-milvus", *options(given), "-d", str(sources))
    assert (outcome.status, outcome.err) == (0, "")


def test_set_changes_the_filled_job(bench: Bench) -> None:
    """For what a template has no parameter for; its value is taken as it is."""
    given = parameters("files-to-milvus")
    changed = bench.line(
        "check", "template:files-to-milvus", *options(given), "--set",
        "steps.Embed.parameter.batchSize=0",
    )  # fmt: skip
    assert changed.status == 2
    assert "batchSize is 0" in changed.err


def test_a_pipe_in_a_folder_of_templates_is_not_waited_for(tmp_path: Path) -> None:
    """Opening one waits for whoever writes into it."""
    os.mkfifo(tmp_path / "mine.yaml")
    assert "mine" not in find_templates([tmp_path])
