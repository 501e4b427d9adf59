"""How commands end: in words, on any terminal, and never because a reader left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.support import Bench
from vecferry.errors import keep_secret
from vecferry.pipelines.cli import commands
from vecferry.pipelines.run.logic import require_proxies
from vecferry.process import end_run, run_scope

STEERS = "\x1b[2J\x9b31m"


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A job, its rows and its data sources."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": "1", "text": "a"}, {"id": "2", "text": "b"}])
    return bench


def program(bench: Bench, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Runs vecferry as a process; its streams are pipes."""
    return subprocess.run(
        [sys.executable, "-m", "vecferry.pipelines.main", *arguments],
        env={**os.environ, **more},
        capture_output=True,
        check=False,
        cwd=bench.folder,
    )


# --- names --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["../../x", "/tmp/x", "a/b\\c", "..", "x\x1b[2J\ny", "a[1]*?", "é" * 200, "s3://b/x", "灯 塔"],
)
def test_a_jobs_name_is_not_a_path(bench: Bench, name: str) -> None:
    """Its rejects lie in the folder of rejects, whatever the job is called; a replay finds them."""
    bench.job["name"] = name
    bench.job["setting"]["errorLimit"] = {"record": "9"}
    bench.write_lines(["no JSON", {"id": "1", "text": "a"}])
    report = bench.run()
    assert report["rows_rejected"] == 1
    assert report["job"] == name
    folder = bench.folder / "rejects"
    inside = [path for path in folder.iterdir() if list(path.glob("part-*.jsonl"))]
    assert [str(path) for path in inside] == [report["rejects"]]
    again = bench.run("--replay", report["rejects"])
    assert again["rows_read"] == 1


# --- terminals ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_of_a_row_or_a_name_reaches_a_terminal_raw(bench: Bench) -> None:
    """Neither values, nor names of columns and steps, nor keys that a job got wrong."""
    bench.write_lines([{"id": f"1{STEERS}", "text": f"a{STEERS}"}, f"no JSON {STEERS}"])
    bench.job["name"] = f"job{STEERS}"
    bench.job["steps"][0]["name"] = f"Reader{STEERS}"
    bench.job[f"extra{STEERS}"] = 1
    for command in ("check", "preview", "run"):
        for more in ((), ("--json",)):
            outcome = bench.call(command, *more)
            assert not set("\x1b\x9b") & set(outcome.out + outcome.err), command
            if more:
                assert f"job{STEERS}" in json.dumps(outcome.json) or outcome.json
    bench.job["steps"][1]["stepType"] = f"x{STEERS}"
    assert not set("\x1b\x9b") & set(bench.call("check").err)
    assert not set("\x1b\x9b") & set(bench.line("check", f"no-such-{STEERS}.json").err)
    assert not set("\x1b\x9b") & set(bench.line(f"no-such-{STEERS}").err)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "ascii", "cp1252", "utf-8"])
def test_what_a_terminal_can_not_show_is_escaped(bench: Bench, encoding: str) -> None:
    """JSON stays JSON with the same texts."""
    bench.write_lines([{"id": "1", "text": "灯塔 🙂 größe"}])
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    job, sources = bench.save(), str(bench.folder / "sources.json")
    shown = program(bench, "preview", job, "-d", sources, **environment)
    assert (shown.returncode, shown.stderr) == (0, b"")
    shown.stdout.decode(encoding)
    as_json = program(bench, "preview", job, "-d", sources, "--json", **environment)
    stages = json.loads(as_json.stdout.decode(encoding))["steps"]
    assert stages[1]["rows"][0]["text"] == "灯塔 🙂 größe"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["check"], ["preview"], ["preview", "--json"], ["schema"], ["templates", "list"]],
)
def test_a_closed_pipe_is_not_a_failure(bench: Bench, arguments: list[str]) -> None:
    """As with `| head -1`: who reads has seen enough."""
    if arguments[0] in ("check", "preview"):
        arguments = [*arguments, bench.save(), "-d", str(bench.folder / "sources.json")]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "vecferry.pipelines.main", *arguments],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert ended.stderr == b""
    assert ended.returncode == 0


@pytest.mark.parametrize("value", ["x" * 9000, "rain " * 2000, "灯塔" * 4000])
@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("steps.0.stepType", "is unknown; known are"),
        ("steps.0.parameter.datasource", "is not in"),
        ("steps.0.parameter.fileFormat", "is not a file format"),
        ("steps.2.parameter.embeddingColumns.sourceColumnNames", "which no step before it gives"),
        ("steps.3.parameter.column.0.type", "use"),
        ("setting.errorLimit.record", "must be a whole number"),
    ],
)
def test_a_long_value_does_not_hide_what_is_wrong_with_it(
    bench: Bench, where: str, words: str, value: str
) -> None:
    """Its middle is left out."""
    outcome = bench.call("check", "--set", f"{where}={value}")
    assert outcome.status == 2
    assert words in outcome.err
    assert max(map(len, outcome.err.splitlines())) < 1500


# --- ends ---------------------------------------------------------------------------------------


def test_what_nobody_foresaw_is_one_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit status 1 and without secrets; -v shows where."""
    keep_secret("a-secret-of-this-test-1")

    def fails(*_: object, **__: object) -> None:
        raise KeyError("first line\nsecond with a-secret-of-this-test-1")

    monkeypatch.setattr(commands, "check", fails)
    outcome = bench.call("check")
    assert outcome.status == 1
    assert len(outcome.err.splitlines()) == 1
    assert "KeyError" in outcome.err
    assert "fault of vecferry" in outcome.err
    assert "a-secret-of" not in outcome.err
    loud = bench.line(
        "-v", "check", bench.save(), "--data-sources", str(bench.folder / "sources.json")
    )
    assert "Traceback" in loud.err
    assert "a-secret-of" not in loud.err


@pytest.mark.parametrize(
    "error",
    [RecursionError("deep"), MemoryError(), OSError(28, "No space left"), ValueError("\ud800")],
)
def test_any_error_ends_in_words(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Also where the error has no words of its own."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(commands, "check", fails)
    outcome = bench.call("check")
    assert (outcome.status, len(outcome.err.splitlines())) == (1, 1)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("steps.²", "number from 0 to 3"),
        ("steps[³]", "number from 0 to 3"),
        ("steps[٣]", "number from 0 to 3"),
        ("steps[x]", "number from 0 to 3"),
        ("steps.٣", "number from 0 to 3"),
        ("steps." + "9" * 5000, "number from 0 to 3"),
        ("steps.-1", "number from 0 to 3"),
        ("type.x", "can't be set"),
        ("steps.0.parameter.column.x", "number from 0 to"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(bench: Bench, path: str, words: str) -> None:
    """With exit status 2."""
    outcome = bench.call("check", "--set", f"{path}=1")
    assert outcome.status == 2
    assert words in outcome.err


def test_a_deep_value_of_the_command_line_is_told(bench: Bench) -> None:
    """As a deep file is."""
    outcome = bench.call("check", "--set", "name=" + "[" * 900 + "]" * 900)
    assert outcome.status == 2
    assert "100 deep" in outcome.err


@pytest.mark.parametrize(
    "value",
    [
        "http://[",
        "http://h:99999",
        "http://h:port",
        "ftp://h:21",
        "http://",
        "http://a b:80",
        "h:0",
    ],
)
def test_a_proxy_that_no_client_can_use_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """With exit status 2, by each command that connects."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    for command in ("run", "preview"):
        outcome = bench.call(command)
        assert outcome.status == 2
        assert "HTTPS_PROXY" in outcome.err
    assert bench.call("check").status == 0


@pytest.mark.parametrize(
    "value", ["http://h:80", "h:3128", "socks5h://h", "http://u:p@h:1", "", "https://[::1]:8"]
)
def test_a_proxy_that_clients_take_is_taken(value: str) -> None:
    """In each of the spellings that are in use."""
    environment = {"http_proxy": value, "ALL_PROXY": value, "no_proxy": "["}
    assert require_proxies(environment) is None  # type: ignore[func-returns-value]


def test_the_end_of_a_run_closes_all_that_there_is(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever can't be closed is told afterwards."""
    closed: list[str] = []

    class Closes:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name, self.error = name, error

        def close(self) -> None:
            closed.append(self.name)
            if self.error is not None:
                raise self.error

    faults = [OSError("full"), None, ValueError("half closed"), None, RuntimeError("gone")]
    for number, fault in enumerate(faults):
        run_scope("closing").get(number, lambda n=number, e=fault: Closes(str(n), e))
    end_run("closing")
    assert sorted(closed) == ["0", "1", "2", "3", "4"]
    assert [word in caplog.text for word in ("full", "half closed", "gone")] == [True] * 3


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this machine has no /dev/full")
def test_a_report_that_can_not_be_written_fails_the_run(bench: Bench) -> None:
    """The report is printed, with what is wrong."""
    outcome = bench.call("run", "--json", "--report", "/dev/full")
    assert outcome.status == 1
    assert outcome.json["state"] == "FAILED"
    assert outcome.json["rows_written"] == 2
    assert "--report /dev/full" in outcome.json["error"]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this machine has no /dev/full")
def test_rejects_that_can_not_be_written_fail_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reject is not lost in silence: the run has FAILED, and its report says why."""
    from vecferry.pipelines.run import rejects

    made = rejects._Part.__init__

    def on_a_full_disk(self: object, folder: str) -> None:
        made(self, folder)  # type: ignore[arg-type]
        self._file = open("/dev/full", "ab")  # type: ignore[attr-defined] # noqa: SIM115

    monkeypatch.setattr(rejects._Part, "__init__", on_a_full_disk)
    bench.write_lines(["no JSON", {"id": "1", "text": "a"}])
    report = bench.run("--report", str(bench.folder / "report.json"))
    assert report["state"] == "FAILED"
    assert "can't be written" in report["error"]
    assert "No space left" in report["error"]
    assert json.loads((bench.folder / "report.json").read_text())["state"] == "FAILED"


def test_what_click_refuses_is_printable(bench: Bench) -> None:
    """A command line may hold anything."""
    outcome = bench.line("check", "--no-such-option\x1b[2J")
    assert outcome.status == 2
    assert "\x1b" not in outcome.err


def test_a_look_that_was_given_up_does_not_break_the_end_of_the_command() -> None:
    """The process ends with the status of the command, and takes nothing down beside the look."""
    program = """
import atexit, threading
from vecferry.errors import JobError
from vecferry.pipelines import main
from vecferry.pipelines.cli import app
from vecferry.pipelines.job.look import within

def run_line(told):
    print("said")
    try:
        within(0.01, "Shop", threading.Event().wait)
    except JobError:
        return 2

app.run_line = run_line
atexit.register(print, "the interpreter was taken down beside the look")
main.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "said\n"), ended.stderr
