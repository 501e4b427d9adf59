"""Jobs that must come to the same on every runner, and the places to run them.

JSON lines in several files -> id and text -> vectors of a test server -> a PostgreSQL table. Some
records are not JSON, some have no text, some texts are refused by the server. Each kind is a
reject.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.contracts.cluster_bucket import keys, new_folder, objects
from tests.pipelines.support import main_job
from tests.services.cluster import ROOT, worker_environment
from tests.services.postgres import Postgres
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of

DIMENSION, IN_FLIGHT, KEY = 64, 8, "sk-test"
ATTEMPTS = 20  # of a cluster, each with a request at least
CLIENT_SECONDS = 600


@dataclass(frozen=True)
class Runner:
    """A runner as the command line names it, and whether it commits counts."""

    name: str
    options: list[str]
    committed: bool
    prefix: list[str] = field(default_factory=list)

    def plus(self, *options: str) -> Runner:
        """The runner with more options."""
        return Runner(self.name, [*self.options, *options], self.committed, self.prefix)


HERE = Runner("DirectRunner", [], True)
COUNTS = ["state", "rows_read", "rows_written", "rows_rejected", "rejected_by"]


def process(command: str = "vecferry-worker", **environment: str) -> list[str]:
    """The options for workers that `command` starts, with more in their environment."""
    config = json.dumps({"command": command, "env": environment})
    return ["--environment_type=PROCESS", f"--environment_config={config}"]


def add_up(events: Path, report: dict[str, Any]) -> None:
    """Requires that the last event has the counts of the report, which is the last line."""
    *_, last, told = map(json.loads, events.read_text().splitlines())
    assert told["report"].items() <= report.items()
    for name in ("rows_read", "rows_written", "rows_dropped"):
        assert last["counts"].get(name, 0) == report[name], name
    rejects = [
        {"step": r["step"], "reason": r["reason"], "rows": r["rows"]} for r in last["rejects"]
    ]
    assert rejects == report["rejected_by"]


@dataclass
class Finished:
    """What a command line came to."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        """The report that it printed."""
        assert self.out, self.err
        report: dict[str, Any] = json.loads(self.out)
        return report


class Job:
    """A job in a folder of its own, with rows, a table and the runs that were made of it.

    `rejects_at` is where its rejects go, `environment` what its client has in its own beside.
    """

    def __init__(self, folder: Path, endpoint: EndpointServer) -> None:
        self.folder, self.endpoint = folder, endpoint
        self.rejects_at, self.environment = str(folder / "rejects"), dict[str, str]()
        self.started: list[subprocess.Popen[str]] = []
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.table = f"c_{uuid.uuid4().hex[:12]}"
        (folder / "in").mkdir()
        self.expected: dict[Any, str] = {}
        self.sources = {
            "Files": {"type": "local", "path": str(folder / "in")},
            "Table": self.server.source,
        }
        self.definition = job(self.table, endpoint.url)

    def write(self, rows: int, files: int, bad: bool = False, length: int = 0) -> None:
        """Makes `rows` good rows in `files` files, with `bad` also three rejects in each."""
        for number in range(files):
            lines = []
            for i in range(number, rows, files):
                text = f"text {i} of {self.table} " + "word " * (length // 5)
                self.expected[f"r{i}"] = text
                lines.append(json.dumps({"id": f"r{i}", "text": text}))
            if bad:
                middle = len(lines) // 2
                lines[middle:middle] = [
                    "{no json",
                    json.dumps({"id": f"empty{number}"}),
                    json.dumps({"id": f"poison{number}", "text": f"POISON {number}"}),
                ]
            (self.folder / "in" / f"rows-{number:03}.jsonl").write_text("\n".join(lines) + "\n")

    def arguments(self, runner: Runner, *more: str) -> list[str]:
        """The whole command line of a run."""
        (self.folder / "job.json").write_text(json.dumps(self.definition))
        (self.folder / "sources.json").write_text(json.dumps(self.sources))
        own = ["--data-sources", str(self.folder / "sources.json"), "--json"]
        there = [] if runner.name == HERE.name else ["--shared-files"]
        return [
            *(*runner.prefix, sys.executable, "-m", "vecferry.pipelines.cli.app", "-v", "run"),
            str(self.folder / "job.json"),
            *(*own, *there, "--rejects", self.rejects_at, "--runner", runner.name),
            *(*runner.options, *more),
        ]

    def start(self, runner: Runner, *more: str) -> subprocess.Popen[str]:
        """Starts a run in a process of its own."""
        process = subprocess.Popen(
            self.arguments(runner, *more),
            cwd=ROOT,
            env={**os.environ, **worker_environment(), **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kills what a test that failed has left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def run(self, runner: Runner, *more: str) -> Finished:
        """Runs the job to its end."""
        begun = time.monotonic()
        return finished(self.start(runner, *more), begun)

    def stored(self) -> dict[str, tuple[str, np.ndarray]]:
        """The rows of the table: id -> text and vector."""
        with self.server.client() as connection:
            asked = f'SELECT id, text, vector::text FROM "{self.table}"'
            rows = connection.execute(asked).fetchall()
        assert len({row[0] for row in rows}) == len(rows)
        return {i: (t, np.array(json.loads(v), dtype="<f4")) for i, t, v in rows}

    def wrong(self) -> list[str]:
        """The ids that are missing, too many, or whose text or vector is not what it must be."""
        stored = self.stored()
        wrong = sorted(self.expected.keys() ^ stored.keys())
        for key in self.expected.keys() & stored.keys():
            text, vector = stored[key]
            good = np.allclose(vector, vector_of(text, DIMENSION), atol=1e-5)
            if text != self.expected[key] or not good:
                wrong.append(key)
        return wrong

    def is_indexed(self) -> bool:
        """Whether the table has the index that the launcher builds at the end."""
        with self.server.client() as connection:
            asked = "SELECT indexdef FROM pg_indexes WHERE tablename = %s"
            found = connection.execute(asked, [self.table]).fetchall()
        return any("hnsw" in definition for (definition,) in found)

    def rejects(self, report: dict[str, Any]) -> list[tuple[str, str, str]]:
        """(step, reason, origin) of each line of a run's rejects, sorted."""
        folder = report["rejects"]
        parts = (
            objects(folder)
            if "://" in folder
            else {path.name: path.read_text() for path in Path(folder).iterdir()}
        )
        assert all(name.startswith("part-") for name in parts), sorted(parts)
        lines = [json.loads(line) for text in parts.values() for line in text.splitlines()]
        return sorted((line["step"], line["reason"], line["origin"]) for line in lines)


def finished(process: subprocess.Popen[str], begun: float) -> Finished:
    """Waits for a run that was started at `begun`."""
    try:
        out, err = process.communicate(timeout=CLIENT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the run did not end within {CLIENT_SECONDS} s:\n{err}") from None
    return Finished(process.returncode, out, err, time.monotonic() - begun)


def job(table: str, endpoint: str) -> dict[str, Any]:
    """The job itself."""
    definition = main_job()
    reader, _, embed, writer = definition["steps"]
    reader["parameter"]["object"] = ["rows-*.jsonl"]
    embed["parameter"] |= {
        "modelProvider": "openai",
        "modelName": "m",
        "endpoint": endpoint,
        "apiKey": KEY,
        "batchSize": 10,
        "dimension": DIMENSION,
    }
    writer["stepType"] = "postgresql"
    writer["parameter"] = {
        "datasource": "Table",
        "table": table,
        "schemaCreateMode": "createIfNotExist",
        "column": [
            {"name": "id", "type": "varchar(64)", "primaryKey": "true"},
            {"name": "text", "type": "varchar"},
            # An index of vectors would take most of the time of large jobs, and tell nothing.
            {
                "name": "vector",
                "type": "vector",
                "dimension": str(DIMENSION),
                "indexType": "none",
            },
        ],
    }
    setting = {"speed": {"concurrent": "4"}}
    return {**definition, "name": f"contract-{table}", "setting": setting}


@contextmanager
def compared(folder: Path) -> Iterator[Job]:
    """The job that must come to the same everywhere: 600 good rows and 24 bad ones."""
    with EndpointServer(max_inputs=10, latency=0.1) as endpoint:
        job = Job(folder, endpoint)
        job.definition["setting"]["speed"]["concurrent"] = str(IN_FLIGHT)
        job.write(600, files=8, bad=True)
        *_, vector = job.definition["steps"][-1]["parameter"]["column"]
        vector["indexType"] = "hnsw"
        yield job


@functools.cache
def here() -> tuple[dict[str, Any], list[tuple[str, str, str]]]:
    """What that job comes to on this machine: its report and its rejects."""
    with tempfile.TemporaryDirectory() as folder, compared(Path(folder)) as job:
        report = job.run(HERE).report
        assert job.wrong() == []
        return report, job.rejects(report)


class Contract:
    """What every runner must do alike; there is a fixture `runner`."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Iterator[Job]:
        """A job that works, 20 ms a request."""
        with EndpointServer(max_inputs=10, latency=0.02) as endpoint:
            yield Job(tmp_path, endpoint)

    def at(self, runner: Runner, job: Job) -> Runner:
        """The runner of one job."""
        return runner

    def afar(self, runner: Runner, job: Job) -> Runner:
        """The runner of the job that is compared."""
        return self.at(runner, job)

    def test_a_job_comes_to_the_same_as_here(self, runner: Runner, tmp_path: Path) -> None:
        """Same rows, same vectors, same rejects line by line, same counts; within concurrent.

        The events add up to the report.
        """
        events = tmp_path / "events.jsonl"
        with compared(tmp_path) as job:
            there = job.run(self.afar(runner, job), "--events", str(events))
            assert there.status == 0, there.out + there.err
            assert (job.wrong(), job.is_indexed()) == ([], True)
        report, rejects = here()
        assert job.rejects(there.report) == rejects
        for name in COUNTS:
            assert there.report[name] == report[name], name
        assert there.report["rows_rejected"] == len(rejects) == 24
        add_up(events, there.report)
        assert there.report["keys"]["distinct"] == there.report["rows_written"]
        assert there.report["counts"] == ("committed" if runner.committed else "attempted")
        assert 1 < job.endpoint.most_under_way <= IN_FLIGHT

    def test_what_goes_on_in_place_of_rejected_rows_is_counted(
        self, runner: Runner, job: Job
    ) -> None:
        """A row whose text is refused goes on without its vector, one without a text is deleted."""
        job.write(40, files=4, bad=True)
        job.definition["setting"]["onReject"] = "withoutVector"
        there = job.run(self.at(runner, job))
        assert there.status == 0, there.out + there.err
        counts = ("read", "rejected", "added", "replaced", "written", "deleted", "dropped", "stale")
        found = {name: there.report[f"rows_{name}"] for name in counts}
        # A broken line tells no key.
        expected = {"read": 52, "rejected": 12, "added": 8, "replaced": 8}
        assert found == {**expected, "written": 44, "deleted": 4, "dropped": 0, "stale": 0}
        asked = f'SELECT id FROM "{job.table}" WHERE vector IS NULL ORDER BY id'
        with job.server.client() as connection:
            without = [key for (key,) in connection.execute(asked).fetchall()]
        assert without == [f"poison{n}" for n in range(4)]

    def test_too_many_rejects_end_a_job_once(self, runner: Runner, job: Job) -> None:
        """The runner does not start it again, and most of the source stays unread."""
        job.write(20_000, files=8)
        for path in (job.folder / "in").iterdir():
            lines = path.read_text().splitlines()
            path.write_text("\n".join(["{no json"] * 10 + lines) + "\n")
        job.definition["setting"]["errorLimit"] = {"record": "5"}
        there = job.run(self.at(runner, job))
        assert there.status == 1, there.err
        assert "errorLimit" in there.report["error"]
        assert there.report["rows_read"] < 20_000
        assert there.report["rows_rejected"] == len(job.rejects(there.report)) >= 6

    def test_a_wrong_key_fails_a_job_with_its_own_words(self, runner: Runner, job: Job) -> None:
        """And without the twenty attempts that the cluster would make."""
        job.write(200, files=2)
        job.definition["steps"][2]["parameter"]["apiKey"] = "sk-wrong-5150"
        there = job.run(self.at(runner, job), "--no-preflight")
        assert there.status == 1, there.err
        assert "401" in there.report["error"]
        assert "Embed" in there.report["error"]
        assert "sk-wrong-5150" not in there.out + there.err
        assert 0 < job.endpoint.statuses[401] < ATTEMPTS


class Afar(Contract):
    """A cluster whose rejects are in a bucket, and whose workers have secrets of their own."""

    def afar(self, runner: Runner, job: Job) -> Runner:
        """What is submitted holds no secret: each worker's environment does."""
        secrets = {"FERRY_KEY": KEY, "FERRY_PASSWORD": job.sources["Table"]["password"]}
        job.definition["steps"][2]["parameter"]["apiKey"] = "${FERRY_KEY}"
        job.sources["Table"]["password"] = "${FERRY_PASSWORD}"
        job.environment = {**secrets, **keys()}
        job.rejects_at = new_folder()
        return runner.plus(*process(**job.environment), "--secrets", "worker")
