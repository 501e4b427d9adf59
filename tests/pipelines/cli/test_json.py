"""``--json``: one JSON object on standard output, whatever a command came to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.pipelines.support import Bench, rows
from vecferry.errors import FatalError, JobError, TransientError, VecferryError, keep_secret
from vecferry.pipelines.cli import commands
from vecferry.pipelines.cli.app import app
from vecferry.pipelines.job.problems import Problem


def all_commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, by what a person writes."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, *path, name)
        else:
            yield (*path, name), command


WITH_JSON = {
    path: command
    for path, command in all_commands(app)
    if any("--json" in parameter.opts for parameter in command.params)
}
ERRORS: dict[str, tuple[BaseException, int, str]] = {
    "several problems": (JobError(["a.b is missing: add it", "c: is wrong; mend it"]), 2, "a.b"),
    "an error of a server": (TransientError("http://h answers 502"), 1, "502"),
    "an error that ends all": (FatalError("step 'X': a wrong key"), 1, "a wrong key"),
    "a plain error": (VecferryError("what \x1b[31m \ud800 steers"), 1, "steers"),
    "a usage error": (click.UsageError("unexpected argument 'x'"), 2, "unexpected"),
    "a full disk": (OSError(28, "No space left on device"), 1, "No space left"),
    "an unforeseen error": (ZeroDivisionError("by zero"), 1, "ZeroDivisionError"),
    "a key in an error": (JobError("the key sk-0123456789abcdef is refused"), 2, "is refused"),
    "an interrupt": (KeyboardInterrupt(), 130, "interrupted"),
}


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with a job that is right."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(list(rows(3)))
    return bench


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("path", WITH_JSON, ids=" ".join)
def test_each_error_of_each_command_is_one_object(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], what: str
) -> None:
    """With the status that it has without --json, the words, and no secret."""
    keep_secret("sk-0123456789abcdef")
    error, status, words = ERRORS[what]

    def fail(*_: Any, **__: Any) -> None:
        raise error

    def leave() -> None:
        raise SystemExit(130)

    command = WITH_JSON[path]
    monkeypatch.setattr(command, "callback", fail)
    monkeypatch.setattr(commands, "leave", leave)
    needed = [
        word
        for parameter in command.params
        if parameter.required
        for word in (["x"] if isinstance(parameter, click.Argument) else [parameter.opts[0], "x"])
    ]
    told = bench.line(*path, *needed, "--json")
    assert told.status == status
    assert words in str(told.json["errors"])
    assert set(told.json["errors"][0]) == {"path", "value", "rule", "repair", "message"}
    assert told.json["warnings"] == []
    assert "0123456789" not in told.out


@pytest.mark.parametrize("path", WITH_JSON, ids=" ".join)
def test_a_wrong_option_of_each_command_is_one_object(bench: Bench, path: tuple[str, ...]) -> None:
    """Click finds it before the command begins."""
    told = bench.line(*path, "--no-such-option", "--json")
    assert (told.status, len(told.json["errors"])) == (2, 1)


@pytest.mark.parametrize("command", ["run", "check", "preview", "query", "status", "verify"])
@pytest.mark.parametrize("job", ["no such file", "not JSON", "no steps", "no such source"])
def test_a_wrong_job_is_one_object(bench: Bench, command: str, job: str) -> None:
    """As real files bring it."""
    path = bench.save()
    if job == "no such file":
        path = "missing.yaml"
    elif job == "not JSON":
        Path(path).write_text("{")
    elif job == "no steps":
        Path(path).write_text("{}")
    more = ["text"] if command == "query" else []
    told = bench.line(command, path, *more, "--json")
    assert told.status == 2
    assert told.json["errors"]
    assert [e["message"] for e in told.json["errors"]] == [
        line.removeprefix("error: ") for line in told.err.splitlines() if "error: " in line
    ]


def test_what_a_command_finds_stands_beside_its_warnings(bench: Bench) -> None:
    """The object of a command that did well has no errors."""
    bench.job["settings"] = {}
    told = bench.call("check", "--json")
    assert (told.status, told.json["errors"], told.json["job"]) == (0, [], "job")
    assert told.json["warnings"] == [
        "job.settings is not known and is passed over; did you mean 'setting'?"
    ]
    for line in (["templates", "list"], ["templates", "show", "files-to-milvus"]):
        assert bench.line(*line, "--json").json["errors"] == []


def test_a_warning_of_one_command_is_not_told_by_the_next(bench: Bench) -> None:
    """Several command lines may run in one process."""
    bench.job["settings"] = {}
    assert bench.call("check", "--json").json["warnings"]
    del bench.job["settings"]
    assert bench.call("check", "--json").json["warnings"] == []


@pytest.mark.parametrize(
    ("sentence", "path", "rule", "repair"),
    [
        ("job.a.b is missing: add it", "job.a.b", "is missing", "add it"),
        ("--rejects x: is odd; name another", "--rejects x", "is odd", "name another"),
        ("steps[0] 'R': is odd", "steps[0] 'R'", "is odd", None),
        ("it failed", None, "it failed", None),
        ("gave up, as http://h:1/ said no: so", None, "gave up, as http://h:1/ said no: so", None),
        ("unknown 'x'; did you mean 'y'?", None, "unknown 'x'", "did you mean 'y'?"),
        ("a.b is 'x': is odd; known are y", "a.b", "is 'x': is odd; known are y", None),
    ],
)  # fmt: skip
def test_a_sentence_is_taken_apart(
    sentence: str, path: str | None, rule: str, repair: str | None
) -> None:
    """Most errors of a launcher are sentences of one form."""
    problem = Problem.of(sentence)
    assert (str(problem), problem.path, problem.rule, problem.repair) == (
        sentence, path, rule, repair
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"steps": []}, ("job.steps", None, "must have at least 2 item(s)", None)),
        (
            {"setting": {"errorLimit": {"record": "many"}}},
            ("job.setting.errorLimit.record", "many", "must be a whole number", None),
        ),
        (
            {"setting": {"budget": {"request": 3}}},
            (
                "job.setting.budget", None, "budget bounds nothing: add requests, tokens or money, "
                "or leave it out", "did you mean 'requests'?",
            ),
        ),
    ],
)  # fmt: skip
def test_a_problem_of_a_field_has_its_parts(
    bench: Bench, change: dict[str, Any], found: tuple[Any, ...]
) -> None:
    """Where, what stands there, what is wrong, what to do."""
    bench.job |= change
    (error, *_) = bench.call("check", "--json").json["errors"]
    assert (error["path"], error["value"], error["rule"], error["repair"]) == found


def _rename(of: dict[str, Any], old: str, new: str) -> None:
    of[new] = of.pop(old)


@pytest.mark.parametrize(
    ("where", "right", "wrong", "path"),
    [
        ("step", "parameter", "parameters", "job.steps[1].parameters"),
        ("step", "parameter", "paramter", "job.steps[1].paramter"),
        ("step", "stepType", "stepTyp", "job.steps[1].stepTyp"),
        ("step", "category", "categroy", "job.steps[1].categroy"),
        ("Embed", "embeddingColumns", "embedingColumns", "steps[2].parameter.embedingColumns"),
        ("Embed", "modelProvider", "modelProvidr", "steps[2].parameter.modelProvidr"),
        ("Writer", "collection", "colection", "steps[3].parameter.colection"),
        (
            "column", "embeddingColumnName", "embeddingColumnname",
            "steps[2].parameter.embeddingColumns[0].embeddingColumnname",
        ),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_told_once(
    bench: Bench, where: str, right: str, wrong: str, path: str
) -> None:
    """Not as a key that is missing, and another that is passed over."""
    holders = {
        "step": bench.job["steps"][1],
        "column": bench.step("Embed")["embeddingColumns"],
        "Embed": bench.step("Embed"),
        "Writer": bench.step("Writer"),
    }
    _rename(holders[where], right, wrong)
    told = bench.call("check", "--json")
    (error,) = told.json["errors"]
    assert error["path"] == path
    assert error["message"] == (
        f"{path}: is not known, and {right} is missing; did you mean {right!r}?"
    )


def test_a_missing_key_beside_an_unlike_one_is_missing(bench: Bench) -> None:
    """A guess must be likely."""
    bench.step("Writer").pop("collection")
    bench.step("Writer")["comment"] = "mine"
    (error,) = bench.call("check", "--json").json["errors"]
    assert (error["path"], error["repair"]) == ("steps[3].parameter.collection", "add it")
