"""Runs in several processes of this machine: the same rows, counts and rejects as one process.

Signals, kills and bounds of the whole run hold over the sum of the processes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.effort import spread
from tests.pipelines.run.kept import KIND, kept, writers
from tests.pipelines.support import ROOT, counts_add_up, environment, rejects_of, step
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.pipelines import registry
from vecferry.pipelines.cli import main
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.processes import Own, Workers
from vecferry.pipelines.run.workers import WorkersRun, workers_for
from vecferry.process import end_run
from vecferry.steps import Plan, Size
from vecferry.testing.scripted import KINDS as SCRIPTED
from vecferry.testing.scripted import ScriptedTable

pytestmark = pytest.mark.slow

MORE = ["--workers", "3"]
WAYS = ["shared", "dealt", "both", "gathered"]
"""Who reads and writes: the workers; the launcher reads one split and deals its rows; the launcher
does both; the launcher writes."""


class Job:
    """A job in a folder: files, the model of this process, and a folder in which rows are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.started = folder, list[subprocess.Popen[str]]()
        self.into, self.said = 0, ""
        (folder / "in").mkdir()
        columns = [{"name": n, "index": i, "type": "string"} for i, n in enumerate(("id", "text"))]
        self.job: dict[str, Any] = {
            "type": "job",
            "version": "2.0",
            "name": "ferry",
            "steps": [
                step("file", "reader", "Read", datasource="Files", object=["rows*"]),
                step(
                    "embedding-transformer", "flatmap", "Embed", modelProvider="local",
                    dimension=64, embeddingColumns={
                        "sourceColumnNames": ["text"], "embeddingColumnName": "vector",
                    },
                ),
                step("keep", "writer", "Keep", column=["id", "text", "vector"]),
            ],
            "setting": {"errorLimit": {"record": "1000"}},
        }  # fmt: skip
        self.reader, self.embed, self.keep = (s["parameter"] for s in self.job["steps"])
        self.reader |= {"fileFormat": "csv", "skipHeader": True, "column": columns}

    def write(self, files: int, rows: int, kind: str = "csv", refused: int = 0) -> None:
        """Files of `rows` rows each, of which the first `refused` become rejects."""
        self.reader["fileFormat"] = kind
        if kind != "csv":
            self.reader.pop("skipHeader", None)
        if kind == "parquet":
            self.reader["column"] = [{"name": n, "type": "string"} for n in ("id", "text")]
        for number in range(files):
            texts = [f"row {i} of file {number} tells" for i in range(rows)]
            texts[:refused] = [f"REFUSE {i} of {number}" for i in range(refused)]
            table = pa.table({"id": [f"{number}-{i}" for i in range(rows)], "text": texts})
            path = self.folder / "in" / f"rows{number}.{kind}"
            if kind == "csv":
                pyarrow.csv.write_csv(table, path)
            elif kind == "parquet":
                pyarrow.parquet.write_table(table, path)
            else:
                path.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))

    def prepare(self, way: str, rows: int, refused: int = 0) -> None:
        """`rows` rows in all, for one of the `WAYS` to share a job."""
        files = 1 if way in ("dealt", "both") else 6
        self.write(files=files, rows=rows // files, refused=refused)
        self.keep["alone"] = way in ("gathered", "both")

    @property
    def out(self) -> Path:
        """Where the last run has kept its rows."""
        return self.folder / f"out{self.into}"

    def line(self, *more: str) -> list[str]:
        """The words of a command line, into a new folder."""
        self.into += 1
        self.keep["folder"] = str(self.out)
        (self.folder / "job.json").write_text(json.dumps(self.job))
        sources = {"Files": {"type": "local", "path": str(self.folder / "in")}}
        (self.folder / "sources.json").write_text(json.dumps(sources))
        own = ["-d", str(self.folder / "sources.json"), "--rejects", str(self.folder / "rejects")]
        return ["run", str(self.folder / "job.json"), *own, "--json", *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Starts a run in a process of its own."""
        command = [sys.executable, "-m", "tests.pipelines.run.kept", "-v", *self.line(*more)]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kills what a test that failed has left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Its runs are over at the end."""
    with registry.using(registry.Registry()) as own:
        own.register(KIND)
        made = Job(tmp_path)
        yield made
        made.end()


def run(job: Job, capture: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """Runs a job with this process as its launcher; gives its report."""
    capture.readouterr()
    with pytest.raises(SystemExit):
        main(job.line(*more))
    captured = capture.readouterr()
    assert captured.out, captured.err
    job.said = captured.err
    report: dict[str, Any] = json.loads(captured.out)
    return report


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """The exit status, the report and the log of a run that was started."""
    out, err = process.communicate(timeout=300)
    assert out, err
    return process.returncode, json.loads(out), err


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """The worker processes of a launcher."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        found = children.read_text().split()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in found if "vecferry worker" in said(int(pid))]


def said(pid: int, what: str = "cmdline") -> str:
    """What the system tells of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def rows_kept(folder: Path) -> int:
    """How many rows there are so far."""
    return sum(kept(folder).values())


SAME = [
    *("state", "rows_read", "rows_written", "rows_rejected", "rejected_by", "counts"),
    *("rows_dropped", "rows_added", "error", "keys"),
]


@pytest.mark.in_turn("kind")
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_three_workers_come_to_the_same_as_one(
    kind: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, vectors to the bit, counts, and each reject once."""
    job.write(files=5, rows=300, kind=kind, refused=3)
    if kind == "jsonl":
        job.reader["column"] = [{"name": "line", "index": 0, "type": "string"}]
        column = [
            {"name": n, "fromColumn": "line", "jsonPath": f"$.{n}", "type": "STRING"}
            for n in ("id", "text")
        ]
        job.job["steps"].insert(1, step("json-extracting", "flatmap", "Extract", column=column))
    alone = run(job, capsys, "--workers", "1")
    expected = kept(job.out)
    assert (alone["rows_written"], alone["rows_rejected"]) == (5 * 297, 15)
    report = run(job, capsys, *MORE)
    assert kept(job.out) == expected
    assert {name: report[name] for name in SAME} == {name: alone[name] for name in SAME}
    assert [r["inputs"] for r in (report["embed"], alone["embed"])] == [1500, 1500]
    origins = Counter(line["origin"] for line in rejects_of(report))
    assert origins == Counter(line["origin"] for line in rejects_of(alone))
    assert set(origins.values()) == {1}


@pytest.mark.in_turn("way")
@pytest.mark.parametrize("way", WAYS[1:])
def test_a_launcher_reads_and_writes_for_its_workers(
    way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """One split, or a target for one process: the same rows, counts and rejects as by one."""
    job.prepare(way, rows=1200, refused=3)
    alone = run(job, capsys, "--workers", "1")
    expected = kept(job.out)
    report = run(job, capsys, *MORE)
    assert kept(job.out) == expected
    assert {name: report[name] for name in SAME} == {name: alone[name] for name in SAME}
    assert report["embed"]["inputs"] == alone["embed"]["inputs"] == 1200
    origins = Counter(line["origin"] for line in rejects_of(report))
    assert origins == Counter(line["origin"] for line in rejects_of(alone))
    written_here = {path.stem for path in job.out.iterdir()} == {str(os.getpid())}
    assert written_here == (way != "dealt")
    assert way != "dealt" or writers(job.out) == 3


@pytest.mark.in_turn("way")
@pytest.mark.parametrize("way", ["dealt", "both"])
def test_rows_of_one_id_keep_their_order(
    way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """One worker has them all."""
    job.prepare(way, rows=0)
    lines = [f"{n % 40:02},row {n}" for n in range(2000)]
    (job.folder / "in" / "rows0.csv").write_text("\n".join(["id,text", *lines, ""]))
    report = run(job, capsys, *MORE)
    assert (report["state"], report["rows_written"]) == ("DONE", 2000)
    found: dict[tuple[str, str], list[int]] = {}
    for file in job.out.iterdir():
        for row in map(json.loads, file.read_text().splitlines()):
            found.setdefault((file.stem, row["id"]), []).append(int(row["text"].split()[1]))
    assert len(found) == 40
    assert all(numbers == sorted(numbers) for numbers in found.values())


def test_rows_are_not_dealt_where_their_order_may_be_harmed(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning says why one process reads; it does so too where some rows only are read."""
    job.write(files=1, rows=20)
    job.keep["keys"] = None
    report = run(job, capsys, *MORE)
    assert (report["state"], rows_kept(job.out)) == ("DONE", 20)
    assert [path.stem for path in job.out.iterdir()] == [str(os.getpid())]
    assert "the source has 1 split, and its rows can't be dealt: the job does not" in job.said
    job.keep["keys"] = ["id"]
    report = run(job, capsys, *MORE, "--limit", "15")
    assert (report["rows_read"], writers(job.out)) == (15, 1)


@pytest.mark.long
def test_rows_without_an_id_are_dealt_in_blocks(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their order means nothing."""
    job.write(files=1, rows=2000)
    job.keep["keys"] = []
    job.keep["seconds"] = 0.001
    report = run(job, capsys, "--workers", "2")
    assert (report["state"], rows_kept(job.out), writers(job.out)) == ("DONE", 2000, 2)


def test_what_one_process_alone_can_do_between_the_ends_is_refused(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, before anything runs; without a number, one process does it."""
    job.write(files=3, rows=20)
    job.job["steps"].insert(1, step("deduplicate", "flatmap", "Once", columns=["text"]))
    with pytest.raises(SystemExit) as status:
        main(job.line(*MORE))
    assert status.value.code == 2
    assert "--workers 3: step 'Once': knows the rows of one process only" in capsys.readouterr().err
    assert run(job, capsys)["state"] == "DONE"


@pytest.mark.long
def test_rows_from_standard_input_are_dealt(job: Job) -> None:
    """The launcher alone has it."""
    job.write(files=1, rows=500)
    job.reader["object"] = "-"
    del job.reader["datasource"]
    command = [sys.executable, "-m", "tests.pipelines.run.kept", *job.line("--workers", "2")]
    rows = (job.folder / "in" / "rows0.csv").read_text()
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), text=True, input=rows, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert (rows_kept(job.out), writers(job.out)) == (500, 2)


def test_a_job_that_computes_has_a_worker_for_each_core(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its source is large enough, and nothing else is said."""
    job.write(files=3, rows=2)
    job.line()
    resolved = read_and_resolve(
        str(job.folder / "job.json"), data_sources=str(job.folder / "sources.json")
    )
    monkeypatch.setattr("vecferry.pipelines.run.workers.cores", lambda: 4)
    assert workers_for(resolved, RunOptions()) == 4
    assert workers_for(resolved, RunOptions(workers=7)) == 7
    run_ = WorkersRun(resolved, RunOptions(rejects=str(job.folder)), (), 4)
    sizes = [Size(bytes=100 << 20), Size(), Size(bytes=1 << 20), Size(rows=1000)]
    plans = [Plan(splits=[1, 2, 3], size=size) for size in sizes]
    assert [run_.number(plan) for plan in plans] == [3, 3, 1, 1]
    sizes = [Size(bytes=100 << 20), Size(), Size(bytes=1 << 20)]
    plans = [Plan(splits=[1], size=size) for size in sizes]
    assert [run_.number(plan) for plan in plans] == [4, 1, 1]
    end_run(run_.id)
    job.job["setting"]["speed"] = {"concurrent": 2}
    job.embed |= {
        "modelProvider": "openai", "modelName": "m", "endpoint": "http://127.0.0.1:1",
        "apiKey": "sk-test",
    }  # fmt: skip
    job.line()
    resolved = read_and_resolve(
        str(job.folder / "job.json"), data_sources=str(job.folder / "sources.json")
    )
    assert workers_for(resolved, RunOptions()) == 1
    assert workers_for(resolved, RunOptions(workers=7)) == 2


@pytest.mark.long
@pytest.mark.parametrize(("streams", "alone"), [(1, False), (2, False), (1, True)])
def test_workers_share_the_full_loads_of_a_sync(
    streams: int,
    alone: bool,
    job: Job,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They read them, or are dealt them; the launcher reads the changes, in their order.

    It also writes what they make, where one process alone may write.
    """
    job.keep["alone"] = alone
    own: set[tuple[bool, bool]] = set()
    work = Workers.work

    def spy(workers: Workers, graph: bytes, options: Any, given: Own) -> None:
        own.add((given.read is not None, given.write is not None))
        work(workers, graph, options, given)

    monkeypatch.setattr(Workers, "work", spy)
    for kind in SCRIPTED:
        registry.register(kind)
    table = ScriptedTable(job.folder / "table")
    for n in range(200):
        table.insert({"id": f"r{n}", "text": f"row {n}"})
    parameter = {"path": str(table.folder), "parts": 2, "roundRows": 100, "streams": streams}
    job.job["steps"][0] = step("scripted", "reader", "Read", **parameter)
    job.job["setting"]["positions"] = str(job.folder / "positions")
    report = run(job, capsys, "--workers", "2", "--no-preflight")
    assert report["state"] == "DONE"
    found = kept(job.out)
    assert (len(found), report["rows_written"]) == (200, 200)
    assert (str(os.getpid()) in {path.stem for path in job.out.iterdir()}) == alone
    assert own == {(streams == 1, alone)}
    for n in range(30):
        table.update({"id": f"r{n}", "text": f"new {n}"})
    report = run(job, capsys, "--workers", "2", "--no-preflight")
    assert (report["state"], report["rows_written"]) == ("DONE", 30)
    assert {path.stem for path in job.out.iterdir()} == {str(os.getpid())}


@pytest.mark.parametrize("given", ["0", "-1", "2.5", "many", "1000"])
def test_a_number_of_workers_that_is_none_is_refused(
    given: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command line."""
    with pytest.raises(SystemExit) as status:
        main(job.line(f"--workers={given}"))
    assert status.value.code == 2
    assert f"--workers {given}: must be auto, or a number" in capsys.readouterr().err


@pytest.mark.parametrize("way", spread(WAYS, 2))
def test_rejects_of_all_workers_together_end_a_run(
    way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """No worker has too many by itself."""
    job.prepare(way, rows=12_000, refused=2 if way in ("shared", "gathered") else 12)
    job.keep["seconds"] = 0.002
    job.job["setting"]["errorLimit"] = {"record": "9"}
    report = run(job, capsys, *MORE)
    assert report["state"] == "FAILED"
    assert report["error"].startswith("errorLimit: ")
    assert report["rows_rejected"] == len(rejects_of(report)) >= 10
    assert report["rows_read"] < 12_000
    assert counts_add_up(report)
    assert rows_kept(job.out) == report["rows_written"]


@pytest.mark.parametrize("way", spread(WAYS, 2))
def test_a_budget_is_that_of_all_workers(
    way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is used up to its last request, and not exceeded."""
    job.prepare(way, rows=300)
    with EndpointServer(max_inputs=10, latency=0.01) as endpoint:
        job.embed |= {
            "modelProvider": "openai", "modelName": "m", "endpoint": endpoint.url,
            "apiKey": "sk-test", "batchSize": 5,
        }  # fmt: skip
        job.job["setting"]["budget"] = {"requests": 23}
        report = run(job, capsys, "--workers", "2", "--no-preflight")
        assert endpoint.statuses[200] == 23
    assert report["state"] == "FAILED"
    assert report["error"].startswith("setting.budget allows 23 requests, and the next request")
    assert "23 requests and 690 tokens are spent" in report["error"]
    assert report["rows_written"] == 23 * 5
    assert {r["reason"] for r in report["rejected_by"]} == {"over-budget"}
    assert counts_add_up(report)


SIGNALLED = [(kind, way) for way in WAYS for kind in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.parametrize(("kind", "way"), spread(SIGNALLED, 2))
def test_a_signal_ends_a_run_after_what_was_read(kind: signal.Signals, way: str, job: Job) -> None:
    """It may go to the workers as well, as Ctrl-C does: they leave it to the launcher."""
    job.prepare(way, rows=120_000)
    job.keep["seconds"] = 0.001
    process = job.start("--workers", "2")
    eventually(lambda: rows_kept(job.out) > 100)
    assert len(workers_of(process)) == 2
    for worker in workers_of(process):
        os.kill(worker, kind)
    process.send_signal(kind)
    status, report, err = ended(process)
    assert (status, report["state"]) == (130, "CANCELLED"), err
    assert counts_add_up(report)
    assert 100 < report["rows_written"] == rows_kept(job.out) < 120_000


MOMENTS = [random.Random(n).random() for n in range(10)]
KILLS = [(moment, way) for way in WAYS for moment in MOMENTS]


@pytest.mark.parametrize(("moment", "way"), spread(KILLS, 2))
def test_a_worker_that_is_killed_fails_a_run(
    moment: float, way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, with counts as far as known; the next run writes all."""
    job.prepare(way, rows=18_000, refused=2)
    good = sum(f.read_text().count("\n") - 3 for f in (job.folder / "in").iterdir())
    job.keep["seconds"] = 0.001
    process = job.start("--workers", "2")
    eventually(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    assert not any("REFUSE" in said(pid) for pid in workers)
    if moment > 0.3:
        eventually(lambda: rows_kept(job.out) > 100)
    time.sleep(moment)
    victim = random.Random(moment).choice(workers)
    os.kill(victim, signal.SIGKILL)
    status, report, err = ended(process)
    assert (status, report["state"]) == (1, "FAILED"), err
    assert "was killed (SIGKILL)" in report["error"]
    assert not any(said(pid) for pid in workers)
    lines = rejects_of(report) if report["rejects"] else []
    assert report["rows_rejected"] == len({line["origin"] for line in lines})
    assert report["rows_written"] <= rows_kept(job.out) <= good
    job.keep["seconds"] = 0
    report = run(job, capsys, "--workers", "1")
    assert (report["state"], report["rows_written"]) == ("DONE", good)
    assert len(kept(job.out)) == rows_kept(job.out) == good


@pytest.mark.parametrize(("moment", "way"), spread(KILLS, 2))
def test_no_worker_outlives_its_launcher(
    moment: float, way: str, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no lock does: the same job runs at once."""
    job.prepare(way, rows=18_000)
    job.keep["seconds"] = 0.002
    process = job.start("--workers", "2")
    eventually(lambda: len(workers_of(process)) == 2)
    workers = workers_of(process)
    if moment > 0.3:
        eventually(lambda: rows_kept(job.out) > 100)
    time.sleep(moment)
    process.kill()
    process.communicate()
    eventually(lambda: not any(said(pid) for pid in workers))
    job.keep["seconds"] = 0
    report = run(job, capsys, "--workers", "1")
    assert (report["state"], report["rows_written"]) == ("DONE", 6 * 3000)


def test_a_worker_that_does_not_start_fails_a_run(
    job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, and with a report."""
    job.write(files=3, rows=20)
    monkeypatch.setattr("vecferry.pipelines.run.processes._PROGRAM", "raise SystemExit(3)")
    report = run(job, capsys, "--workers", "2")
    assert report["state"] == "FAILED"
    assert "of 2 ended with exit status 3; as far as it told, 0 rows" in report["error"]
    monkeypatch.setattr("sys.executable", str(job.folder / "none"))
    with pytest.raises(SystemExit) as status:
        main(job.line("--workers", "2"))
    assert status.value.code == 2
    assert "--workers 2: a process can't be started" in capsys.readouterr().err


def test_workers_are_told_secrets_by_a_pipe(job: Job) -> None:
    """Neither their command lines nor their environments hold one."""
    job.write(files=6, rows=3000)
    job.keep["seconds"] = 0.01
    key = "sk-c0ffee-c0ffee-c0ffee"
    env_file = job.folder / "keys.env"
    env_file.write_text(f"MY_API_KEY={key}\n")
    with EndpointServer(max_inputs=10, key=key) as endpoint:
        job.embed |= {
            "modelProvider": "openai", "modelName": "m", "endpoint": endpoint.url,
            "apiKey": "${MY_API_KEY}",
        }  # fmt: skip
        process = job.start("--workers", "2", "--env-file", str(env_file))
        eventually(lambda: rows_kept(job.out) > 20)
        workers = workers_of(process)
        assert len(workers) == 2
        for pid in workers:
            assert key not in said(pid) + said(pid, "environ")
        process.send_signal(signal.SIGTERM)
        status, report, err = ended(process)
    assert (status, counts_add_up(report)) == (130, True), err
