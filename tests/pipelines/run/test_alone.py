"""Two runs of one job into one target: the second says who runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows
from vecferry.errors import JobError
from vecferry.pipelines.autoetl.resolve import resolve_file
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.alone import alone

HOLDER = """
import sys
from vecferry.pipelines.autoetl.resolve import resolve_file
from vecferry.pipelines.run.alone import alone
with alone(resolve_file(sys.argv[1], data_sources=sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A folder with a job; runs say elsewhere that they run."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(3))
    return bench


def resolved(bench: Bench) -> ResolvedJob:
    """The job of the folder."""
    return resolve_file(bench.save(), data_sources=str(bench.folder / "sources.json"))


def holder(bench: Bench) -> subprocess.Popen[str]:
    """A process that runs the job until its standard input ends."""
    line = [sys.executable, "-c", HOLDER, bench.save(), str(bench.folder / "sources.json")]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def runs(bench: Bench) -> list[str]:
    """The files that say who runs."""
    return os.listdir(bench.folder / "config/vecferry/runs")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["its end", "a kill"])
def test_the_second_run_says_who_runs_until_that_one_has_ended(bench: Bench, end: str) -> None:
    """However that one ended; with the option, both run."""
    process = holder(bench)
    try:
        outcome = bench.call("run")
        assert outcome.status == 2
        said = f"into collection 'texts' already, by process {process.pid} of {os.uname().nodename}"
        assert said in outcome.err
        assert f"in {os.getcwd()}, since 20" in outcome.err
        assert "wait for its end, or give --concurrent-runs" in outcome.err
        assert bench.run("--concurrent-runs")["rows_written"] == 3
        if end == "a kill":
            process.kill()
    finally:
        process.communicate("")
    assert bench.run()["rows_written"] == 3
    assert runs(bench) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("job", "name"), "another"),
        (("step", "collection"), "another"),
        (("source", "endpoint"), "another.db"),
    ],
)
def test_other_jobs_and_targets_are_others(bench: Bench, path: tuple[str, str], value: str) -> None:
    """The same job into another target may run, and another job into the same one."""
    where, key = path
    with alone(resolved(bench)):
        with pytest.raises(JobError, match="is being run into collection"):
            alone(resolved(bench)).__enter__()
        places: dict[str, dict[str, Any]] = {
            "job": bench.job,
            "step": bench.step("Writer"),
            "source": bench.sources["Vectors"],
        }
        places[where][key] = value if where != "source" else str(bench.folder / value)
        with alone(resolved(bench)):
            assert len(runs(bench)) == 2
    assert runs(bench) == []


def test_what_else_changes_in_a_job_does_not_matter(bench: Bench) -> None:
    """The rows would be the same."""
    with alone(resolved(bench)):
        bench.step("Embed")["batchSize"] = 5
        with pytest.raises(JobError):
            alone(resolved(bench)).__enter__()


def test_where_nothing_can_be_said_a_run_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose file system is read-only."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/proc/none")
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/proc/none")
    with alone(resolved(bench)), alone(resolved(bench)):
        pass
    assert not Path("/proc/none").exists()
