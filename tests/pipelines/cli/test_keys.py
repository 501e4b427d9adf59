"""Keys and other values that come into a job from outside, as the command line has them."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows
from vecferry.errors import redact


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job whose embedding needs a key."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(3))
    bench.step("Embed").update(modelProvider="bailian", modelName="text-embedding-v4")
    return bench


@pytest.fixture(autouse=True)
def _environment_of_one_test_only() -> Generator[None]:
    """An env file puts its variables into the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_a_key_that_is_written_out_gives_a_warning_with_the_usual_variable(bench: Bench) -> None:
    """The warning does not show the key."""
    bench.step("Embed")["apiKey"] = "sk-0123456789"
    outcome = bench.call("check")
    assert outcome.status == 0
    assert "warning: steps[2].parameter.apiKey is a key that is written out" in outcome.err
    assert "write ${DASHSCOPE_API_KEY} and set that variable" in outcome.err
    assert "sk-01234" not in outcome.err + outcome.out


@pytest.mark.parametrize(
    ("written", "more"),
    [
        ("${KEY}", ("-p", "KEY=sk-0123456789")),
        ("${env:SOME_KEY}", ()),
        ("${SOME_KEY:-sk-0123456789}", ()),
    ],
)
def test_a_key_from_outside_gives_none(
    bench: Bench, written: str, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes from."""
    monkeypatch.setenv("SOME_KEY", "sk-9876543210")
    bench.step("Embed")["apiKey"] = written
    assert (bench.call("check", *more).err, redact("sk-9876543210")) in (
        ("", "sk-9876543210"),
        ("", "***"),
    )


@pytest.mark.parametrize(
    ("provider", "variable"), [("bailian", "DASHSCOPE_API_KEY"), ("openai", "OPENAI_API_KEY")]
)
def test_where_a_key_is_missing_the_usual_variable_is_named(
    bench: Bench, provider: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that the provider's own clients read."""
    monkeypatch.delenv(variable, raising=False)
    bench.step("Embed").update(modelProvider=provider)
    outcome = bench.call("check")
    assert (outcome.status, f'"apiKey": "${{{variable}}}"' in outcome.err) == (2, True)


def test_a_data_source_without_its_key_names_the_usual_variable(bench: Bench) -> None:
    """Of stores whose tools have one."""
    bench.sources["Files"] = {
        "type": "oss",
        "endpoint": "oss-cn-hangzhou.aliyuncs.com",
        "bucket": "b",
    }
    bench.step("Reader")["object"] = ["a.jsonl"]
    for step in bench.job["steps"]:
        step["stepType"] = {"file": "oss"}.get(step["stepType"], step["stepType"])
    outcome = bench.call("check")
    assert outcome.status == 2
    assert "accessKeyId is missing (" in outcome.err
    assert 'add it, such as "${OSS_ACCESS_KEY_ID}"' in outcome.err


def env_file(bench: Bench, text: str) -> str:
    """The path of an env file with a text."""
    path = bench.folder / "some.env"
    path.write_text(text)
    return str(path)


def test_an_env_file_gives_what_the_environment_lacks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment wins, and nothing in a value is expanded."""
    monkeypatch.setenv("GIVEN", "environment")
    path = env_file(
        bench,
        "# keys\nexport EMBED_KEY='sk-${GIVEN}-$x'\nGIVEN=file\nEMPTY=\nQUOTED=\"a b\" # why\n",
    )
    bench.step("Embed")["apiKey"] = "${EMBED_KEY}"
    assert bench.call("check", "--env-file", path).status == 0
    assert {n: os.environ[n] for n in ("EMBED_KEY", "GIVEN", "EMPTY", "QUOTED")} == {
        "EMBED_KEY": "sk-${GIVEN}-$x",
        "GIVEN": "environment",
        "EMPTY": "",
        "QUOTED": "a b",
    }
    assert "sk-${GIVEN}" not in redact("refused sk-${GIVEN}-$x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\n=2\n", "line 2 is not NAME=VALUE"),
        ("A=1\nB\n", "line 2: B has no value; write B=VALUE"),
        (None, "cannot be read"),
    ],
)
def test_an_env_file_that_is_wrong_ends_the_command(
    bench: Bench, text: str | None, said: str
) -> None:
    """With the line."""
    path = env_file(bench, text) if text is not None else str(bench.folder / "none.env")
    outcome = bench.call("check", "--env-file", path)
    assert (outcome.status, said in outcome.err) == (2, True)


@pytest.mark.parametrize("job_option", [(), ("--set", "name=other")])
def test_a_run_reads_the_files_of_its_day(bench: Bench, job_option: tuple[str, ...]) -> None:
    """The path of the job is that of the business date; a parameter may move it."""
    bench.step("Embed").update(modelProvider="local", modelName=None, dimension=64)
    bench.write_lines(rows(2), "news_20251031.jsonl")
    bench.write_lines(rows(3), "news_20251030.jsonl")
    at = ("--at", "2025-11-01T02:30", "--time-zone", "Asia/Shanghai", *job_option)
    bench.step("Reader")["object"] = ["news_$bizdate.jsonl"]
    assert estimated(bench, *at) == 2
    bench.step("Reader")["object"] = ["news_${day}.jsonl"]
    assert estimated(bench, *at, "-p", "day=$[yyyymmdd-2]") == 3


def estimated(bench: Bench, *arguments: str) -> Any:
    """How many rows a job would read."""
    outcome = bench.call("check", "--estimate", "--json", *arguments)
    assert outcome.status == 0, outcome.err
    return outcome.json["estimate"]["rows"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at", "now"), "names no time zone"),
        (("--time-zone", "UTC"), "give --at TIME as well"),
        ((), "$bizdate has no value: give the time of the schedule"),
    ],
)
def test_a_schedule_is_a_time_in_a_zone(
    bench: Bench, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is guessed."""
    monkeypatch.delenv("VECFERRY_TIME_ZONE", raising=False)
    bench.step("Reader")["object"] = ["news_$bizdate.jsonl"]
    outcome = bench.call("check", *arguments)
    assert (outcome.status, said in outcome.err) == (2, True)
