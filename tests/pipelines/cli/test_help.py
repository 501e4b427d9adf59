"""What helps a person at the command line: help, completion, several checks, rejects, doctor."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.support import Bench, rows


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """A folder with a job that is right, and two rows."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{**row, "text": f"text {i}"} for i, row in enumerate(rows(2))])
    monkeypatch.chdir(tmp_path)
    return bench


@pytest.mark.parametrize("names", [(), ("run",), ("templates", "show")])
def test_help_shows_what_a_command_takes(bench: Bench, names: tuple[str, ...]) -> None:
    """The same as --help behind the command; an unknown name is told as anywhere."""
    assert bench.line("help", *names).out == bench.line(*names, "--help").out
    assert "did you mean 'check'?" in bench.line("help", "chek").err


COMPLETED = {
    "vecferry ch": "check",
    "vecferry check template:files-to-m": "template:files-to-milvus",
    "vecferry check job.json --set steps.Em": "steps.Embed.",
    "vecferry check job.json --set steps.Embed.parameter.dim": "steps.Embed.parameter.dimension=",
    "vecferry check jo": "jo",
    "vecferry sources browse Fil": "Files",
}


@pytest.mark.parametrize("line", COMPLETED)
def test_a_shell_completes_commands_templates_paths_and_files(bench: Bench, line: str) -> None:
    """As bash asks: a file is left to bash itself."""
    bench.save()
    os.rename("sources.json", "datasources.yaml")
    asked = {"_VECFERRY_COMPLETE": "bash_complete", "COMP_WORDS": line}
    program = "from vecferry.pipelines.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, stdout=subprocess.PIPE,
        env={**os.environ, **asked, "COMP_CWORD": str(len(line.split()) - 1)},
    )  # fmt: skip
    kinds = {"jo": "file"}
    assert f"{kinds.get(COMPLETED[line], 'plain')},{COMPLETED[line]}" in done.stdout.split()


def test_several_jobs_are_checked_in_one_call(bench: Bench) -> None:
    """Each is told; one that is wrong does not hide the others."""
    good = bench.save()
    bad = bench.folder / "bad.json"
    bad.write_text(json.dumps({**bench.job, "steps": bench.job["steps"][:1]}))
    outcome = bench.call("check", str(bad), good)
    assert outcome.status == 2
    assert outcome.out.count("valid: ") == 2
    assert f"error: {bad}" in outcome.err


# --- rejects ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rejects_are_counted_shown_and_written_as_csv(bench: Bench) -> None:
    """By step and reason; the columns of the rows are columns of the file."""
    bench.write_lines(["no JSON", "none either", {"id": "1"}, *rows(1)])
    folder = bench.run()["rejects"]
    shown = bench.line("rejects", folder, "--rows", "1")
    assert "2 rejected by Extract: invalid-json" in shown.out
    assert shown.out.count("line='no") == 1
    counted = bench.line("rejects", str(Path(folder).parent), "--json").json
    assert counted["rows"] == sum(entry["rows"] for entry in counted["by"]) == 3
    assert len(counted["shown"]) == 3
    chosen = bench.line("rejects", folder, "--csv", "-", "--reason", "invalid-json")
    lines = list(csv.DictReader(io.StringIO(chosen.out)))
    assert [line["line"] for line in lines] == ["no JSON", "none either"]
    bench.line("rejects", folder, "--csv", "all.csv")
    assert Path("all.csv").read_text().count("Extract,") == 3
    assert "has no rejects" in bench.line("rejects", "in").err


# --- doctor -------------------------------------------------------------------------------------


def _found(bench: Bench, *given: str) -> tuple[int, dict[str, str]]:
    outcome = bench.call("doctor", *given, "--json")
    told = outcome.json["findings"]
    worst = sorted(told, key=lambda f: ("ok", "warn", "fail").index(f["status"]))
    assert all(f["repair"] for f in told if f["status"] == "warn")
    return outcome.status, {f["check"]: f["status"] for f in worst}


def test_a_machine_that_can_run_a_job_is_told_so(bench: Bench) -> None:
    """Exit status 0; without a job the machine alone is examined."""
    status, found = _found(bench)
    assert (status, found["extra"], found["disk"]) == (0, "ok", "ok")
    alone = bench.line("doctor")
    assert alone.status == 0
    assert "python" in alone.out


def test_what_a_job_misses_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is wrong, a host without a name, a service that is away, an unknown authority."""
    embed = bench.step("Embed")
    embed |= {"modelProvider": "openai", "modelName": "m", "apiKey": "k"}
    embed["endpoint"] = "http://127.0.0.1:9/v1"
    status, found = _found(bench)
    assert (status, found["connect"], found["dns"]) == (1, "fail", "ok")
    embed["endpoint"] = "https://no-such-host.invalid/v1"
    assert _found(bench)[1]["dns"] == "fail"
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret-of-mine@127.0.0.1:3128")
    shown = bench.call("doctor")
    assert "https by http://127.0.0.1:3128" in shown.out
    assert "secret-of-mine" not in shown.out
    embed["modelProvider"] = "openia"
    status, found = _found(bench)
    assert (status, found["job"]) == (1, "fail")
