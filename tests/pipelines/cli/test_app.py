"""The command line: what it takes, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipelines.support import Bench, rows
from vecferry.pipelines.run.events import Event
from vecferry.pipelines.run.progress import progress_text
from vecferry.steps import Size

CLIENTS = ("apache_beam", "pymilvus", "pyarrow", "wordllama", "rich", "requests")


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder with a job that is right, and ten rows of five texts."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{**row, "text": f"text {i % 5}"} for i, row in enumerate(rows(10))])
    return bench


@pytest.mark.slow
def test_checking_a_job_imports_neither_beam_nor_a_client(bench: Bench) -> None:
    """A check must be over before a person notices it: under half a second."""
    path = bench.save()
    program = (
        "import sys\nfrom vecferry.pipelines.cli import main\n"
        f"try: main(['check', {path!r}, '-d', {str(bench.folder / 'sources.json')!r}])\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        f"print('imported', [m for m in {CLIENTS!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "imported []" in out.stdout, out.stdout + out.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "kind"), [("click", "SIGTERM"), ("pydantic", "SIGINT"), ("apache_beam", "SIGTERM")]
)
def test_a_signal_while_modules_are_imported_ends_quietly(
    bench: Bench, module: str, kind: str
) -> None:
    """A person who sees his slip at once gets status 130, and no traceback of somebody's import."""
    path = bench.save()
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.{kind})\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv[1:] = ['run', {path!r}, '-d', {str(bench.folder / 'sources.json')!r}]\n"
        "from vecferry.pipelines.main import main\n"
        "main()\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (out.returncode, out.stdout) == (130, "")
    assert out.stderr.split() in ([], ["interrupted"])


@pytest.mark.slow
def test_what_was_started_to_ignore_ctrl_c_ignores_it_from_the_first_import_on() -> None:
    """As a shell starts what is to run in the background."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "sys.argv[1:] = ['--version']\n"
        "from vecferry.pipelines.main import main\n"
        "main()\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (out.returncode, out.stderr) == (0, "")


def test_an_unknown_option_is_an_error_with_the_nearest_name(bench: Bench) -> None:
    """Beam's own parser would swallow it."""
    for wrong, right in (
        ("--limits=3", "--limit"),
        ("--direct_num_worker=1", "--direct_num_workers"),
    ):
        outcome = bench.call("run", wrong)
        assert outcome.status == 2
        assert f"did you mean '{right}'" in outcome.err
    assert not (bench.folder / "vectors.db").exists()


@pytest.mark.slow
def test_options_of_beam_pass_and_so_does_anything_after_dashes(bench: Bench) -> None:
    """``--job_name`` is Beam's; after ``--`` even an unknown one passes."""
    outcome = bench.call("run", "--json", "--job_name=nightly")
    assert outcome.status == 0, outcome.err
    path = str(bench.folder / "job.json")
    outcome = bench.line(
        "run", path, "--json", "-d", str(bench.folder / "sources.json"),
        "--rejects", str(bench.folder / "rejects"), "--", "--some_option_of_a_runner=1",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err


def test_an_unknown_command_is_an_error_with_the_nearest_name(bench: Bench) -> None:
    """A slip of the finger costs no look into the manual."""
    outcome = bench.line("chekc", "job.json")
    assert outcome.status == 2
    assert "did you mean 'check'" in outcome.err


def test_a_runner_that_does_not_exist_is_refused(bench: Bench) -> None:
    """In words, with the nearest one, before anything runs."""
    outcome = bench.call("run", "--runner", "FlikRunner")
    assert outcome.status == 2
    assert "did you mean 'FlinkRunner'" in outcome.err


def test_a_column_that_nothing_takes_is_told_once(bench: Bench) -> None:
    """It may have been forgotten in the writer; one that a step works on was not."""
    assert bench.call("check").err == ""
    reader, writer = bench.job["steps"][0]["parameter"], bench.job["steps"][-1]
    reader["column"] = [*reader["column"], {"name": "km", "value": "7"}]
    for _ in range(2):
        told = bench.call("check")
        assert told.status == 0
        assert told.err.count("'km', which no other step takes, so it is not written") == 1
    writer["parameter"]["columnMapping"] = [
        {"sourceColName": name, "dstColName": name} for name in ("id", "vector")
    ]
    told = bench.call("check")
    assert "steps[1] 'Extract' gives" not in told.err, "what it gives is embedded"
    writer["stepType"] = "opensearch"
    writer["parameter"] = {"datasource": "Open", "index": "i", "dynamic": True, "column": [
        {"name": "id", "type": "keyword", "primaryKey": True},
        {"name": "vector", "type": "knn_vector", "dimension": 64},
    ]}  # fmt: skip
    bench.sources["Open"] = {"type": "opensearch", "endpoint": "http://127.0.0.1:9"}
    assert "km" not in bench.call("check").err, "such a writer takes each column"


@pytest.mark.slow
def test_preview_shows_rows_after_each_step_and_writes_nothing(bench: Bench) -> None:
    """The last stage is the record as the server would get it."""
    outcome = bench.call("preview", "--rows", "2", "--json")
    assert outcome.status == 0, outcome.err
    stages = {s["step"]: s["rows"] for s in outcome.json["steps"]}
    assert list(stages) == ["Reader", "Extract", "Embed", "Writer"]
    assert {len(found) for found in stages.values()} == {2}
    assert set(stages["Writer"][0]) == {"id", "text", "vector"}
    assert not (bench.folder / "vectors.db").exists()
    text = bench.call("preview", "--rows", "1").out
    assert "after Embed:" in text
    assert "64 floats" in text


def test_preview_of_the_source_reads_only_what_it_shows(bench: Bench) -> None:
    """No step after the reader is made, no model loaded."""
    outcome = bench.call("preview", "--source", "--rows", "3", "--json")
    assert [(s["step"], len(s["rows"])) for s in outcome.json["steps"]] == [("Reader", 3)]


def test_preview_shows_what_would_be_rejected(bench: Bench) -> None:
    """A bad row is told beside the good ones, and writes no reject."""
    bench.write_lines(["no JSON", *rows(1)])
    outcome = bench.call("preview", "--rows", "2")
    assert "rejected (invalid-json)" in outcome.out
    assert not (bench.folder / "rejects").exists()


@pytest.mark.slow
def test_a_preview_does_not_wait_long_for_an_endpoint_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sits before it: ten minutes are for runs, whatever the job says."""
    monkeypatch.setattr("vecferry.pipelines.run.dryrun.PATIENCE", 0.5)
    bench.step("Embed").update(
        modelProvider="openai", modelName="m", endpoint="http://127.0.0.1:9/v1",
        retryDeadlineSeconds=900,
    )  # fmt: skip
    outcome = bench.call("preview")
    assert outcome.status == 2
    assert "gave up after" in outcome.err
    assert "127.0.0.1:9" in outcome.err


def test_a_preview_of_nothing_says_so(bench: Bench) -> None:
    """An empty file has no rows, which is not an error."""
    bench.write_lines([])
    assert "after Reader:\n  (no rows)" in bench.call("preview").out


def test_estimate_counts_what_a_run_would_send(bench: Bench) -> None:
    """Rows, distinct texts and requests are counted, and no endpoint is called."""
    bench.step("Embed").update(
        modelProvider="bailian", modelName="text-embedding-v4", apiKey="sk-none", batchSize=2
    )
    outcome = bench.call("check", "--estimate", "--json")
    assert outcome.status == 0, outcome.err
    estimate = outcome.json["estimate"]
    assert (estimate["rows"], estimate["texts"], estimate["distinct_texts"]) == (10, 10, 5)
    assert estimate["requests"] == 3
    assert estimate["tokens"] > 0


def test_estimate_counts_a_row_without_text_as_rejected(bench: Bench) -> None:
    """It would be rejected before any request, as the run does it."""
    bench.write_lines([*rows(2), {"id": "e", "text": ""}])
    estimate = bench.call("check", "--estimate", "--json").json["estimate"]
    assert (estimate["rows"], estimate["rejected"], estimate["texts"]) == (3, 1, 2)


@pytest.mark.parametrize("command", [("check", "--estimate"), ("preview", "--source")])
def test_a_damaged_source_is_a_wrong_job_where_nothing_runs(
    bench: Bench, command: tuple[str, str]
) -> None:
    """No row was written, so the exit status is that of a check; the file is named."""
    step = bench.step("Reader")
    step.pop("column", None)
    step.update(fileFormat="json")
    outcome = bench.call(*command)
    assert (outcome.status, "not a sound JSON document" in outcome.err) == (2, True), outcome.err


@pytest.mark.slow
def test_check_connect_names_every_end_that_fails(bench: Bench) -> None:
    """Source, endpoint and target are all tried, and told together."""
    bench.step("Embed").update(
        modelProvider="openai", modelName="m", endpoint="http://127.0.0.1:9/v1"
    )
    bench.step("Reader")["object"] = ["absent.jsonl"]
    outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "absent.jsonl" in outcome.err
    assert "127.0.0.1:9" in outcome.err


def test_check_connect_passes_where_all_ends_answer(bench: Bench) -> None:
    """It changes nothing: no collection is made."""
    outcome = bench.call("check", "--connect")
    assert outcome.status == 0, outcome.err
    assert "answer" in outcome.out
    assert not (bench.folder / "vectors.db").exists()


def test_a_report_that_cannot_be_written_is_told_before_the_run(bench: Bench) -> None:
    """A night's run must not end in a missing folder."""
    outcome = bench.call("run", "--report", str(bench.folder / "no" / "report.json"))
    assert outcome.status == 2
    assert not (bench.folder / "vectors.db").exists()


def test_rejects_that_cannot_be_written_are_told_before_the_run(bench: Bench) -> None:
    """A file in the place of the folder would lose the first reject."""
    outcome = bench.line(
        "run", bench.save(), "-d", str(bench.folder / "sources.json"),
        "--rejects", str(bench.folder / "job.json"),
    )  # fmt: skip
    assert outcome.status == 2
    assert "--rejects" in outcome.err
    assert not (bench.folder / "vectors.db").exists()


def test_check_says_of_rejects_what_a_run_will(bench: Bench) -> None:
    """A folder that can't be made is told by both; a good one is not made by a check."""
    bad, good = str(bench.folder / "job.json"), str(bench.folder / "new" / "rejects")
    sources = ("-d", str(bench.folder / "sources.json"))
    for command in (["check"], ["check", "--connect"], ["run"]):
        outcome = bench.line(*command, bench.save(), *sources, "--rejects", bad)
        assert (outcome.status, "--rejects" in outcome.err) == (2, True)
    for more in ((), ("--connect",)):
        assert bench.line("check", bench.save(), *sources, "--rejects", good, *more).status == 0
    assert not (bench.folder / "new").exists()


@pytest.mark.slow
def test_a_run_prints_its_counts(bench: Bench) -> None:
    """For people a few lines, and the same report as JSON in a file."""
    path = bench.folder / "report.json"
    outcome = bench.call("run", "--report", str(path))
    assert outcome.status == 0
    assert "job: DONE" in outcome.out
    report = json.loads(path.read_text())
    assert (report["rows_written"], report["embed"]["inputs"]) == (10, 5)


def test_the_progress_line_tells_counts_rate_and_time_left() -> None:
    """The time left is known where the source knows its size."""
    counts = {"rows-read": 500, "rows-written": 400, "bytes-read": 1000, "embed-requests": 50}
    event = Event(
        kind="progress", at=0.0, phase="running", stopping=False, seconds=10.0, counts=counts,
        rejects={("Extract", "invalid-json"): 1}, size=Size(bytes=4000),
    )  # fmt: skip
    text = progress_text(event)
    assert "running: 500 read  400 written  1 rejected  50 requests" in text
    assert "50 rows/s  ETA 30s" in text
    assert "ETA" not in progress_text(replace(event, size=Size()))
    assert "finishing what was read" in progress_text(replace(event, stopping=True))


@pytest.mark.slow
def test_verbose_tells_what_a_run_does(bench: Bench) -> None:
    """Without ``-v`` nothing of it is said."""
    quiet = bench.call("run")
    assert "making the target ready" not in quiet.err
    outcome = bench.line(
        "-v", "run", str(bench.folder / "job.json"), "-d", str(bench.folder / "sources.json"),
        "--rejects", str(bench.folder / "rejects"),
    )  # fmt: skip
    assert "making the target ready" in outcome.err


def test_a_replay_of_nothing_is_refused(bench: Bench) -> None:
    """A folder without rejects is told as such."""
    outcome = bench.call("run", "--replay", str(bench.folder))
    assert outcome.status == 2
    assert "has no rejects" in outcome.err
    (bench.folder / "part-x.jsonl").write_text('{"broken\n')
    outcome = bench.call("run", "--replay", str(bench.folder))
    assert outcome.status == 2
    assert "line 1 is not a reject" in outcome.err


def test_a_query_for_nothing_is_refused_before_it_costs_a_call(bench: Bench) -> None:
    """An empty text has no direction to look in."""
    outcome = bench.line("query", bench.save(), " ", "-d", str(bench.folder / "sources.json"))
    assert (outcome.status, "TEXT is empty" in outcome.err) == (2, True)


def test_a_query_of_a_target_that_is_not_there_says_so(bench: Bench) -> None:
    """The way out is to run the job first."""
    outcome = bench.call("query", "anything")
    assert outcome.status == 2
    assert "texts" in outcome.err


def test_version_and_templates_are_listed(bench: Bench) -> None:
    """What there is can be asked without a job."""
    assert "0.1.0" in bench.line("--version").out
    names = [t["name"] for t in bench.line("templates", "list", "--json").json["templates"]]
    assert "files-to-milvus" in names
