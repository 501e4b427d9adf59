"""Jobs, rows and command lines for the tests of whole runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vecferry.pipelines.cli import main
from vecferry.pipelines.cli.logs import use_log_format


@dataclass
class Outcome:
    """What a command line came to."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


class Bench:
    """A folder with a job, its rows and its data sources, and the command line in it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture
        (folder / "in").mkdir()
        self.sources: dict[str, Any] = {
            "Files": {"type": "local", "path": str(folder / "in")},
            "Vectors": {"type": "milvus", "endpoint": str(folder / "vectors.db")},
        }
        self.job: dict[str, Any] = main_job()

    def write_lines(self, lines: list[Any], name: str = "rows.jsonl") -> None:
        """Writes texts or bytes as they are, anything else as JSON, a line each."""
        encoded = [
            line
            if isinstance(line, bytes)
            else (line if isinstance(line, str) else json.dumps(line)).encode()
            for line in lines
        ]
        (self.folder / "in" / name).write_bytes(b"".join(e + b"\n" for e in encoded))

    def save(self) -> str:
        """Writes the job and its data sources; gives the job's path."""
        (self.folder / "sources.json").write_text(json.dumps(self.sources))
        path = self.folder / "job.json"
        path.write_text(json.dumps(self.job))
        return str(path)

    def call(self, command: str, *arguments: str) -> Outcome:
        """Runs ``vecferry COMMAND job.json --data-sources … ARGUMENTS``."""
        path = self.save()
        own = ["--rejects", str(self.folder / "rejects")] if command == "run" else []
        return self.line(
            command, path, *arguments, "--data-sources", str(self.folder / "sources.json"), *own
        )

    def line(self, *arguments: str) -> Outcome:
        """Runs a whole command line."""
        self._capture.readouterr()
        try:
            with pytest.raises(SystemExit) as exit_:
                main(list(arguments))
        finally:
            use_log_format("text")  # what a command line asks for is kept by its process
        captured = self._capture.readouterr()
        status = exit_.value.code
        return Outcome(status if isinstance(status, int) else 0, captured.out, captured.err)

    def run(self, *arguments: str) -> dict[str, Any]:
        """Runs the job and gives its report."""
        outcome = self.call("run", "--json", *arguments)
        assert outcome.out, outcome.err
        report: dict[str, Any] = outcome.json
        assert outcome.status == {"DONE": 0, "FAILED": 1, "CANCELLED": 130}[report["state"]]
        return report

    def step(self, name: str) -> dict[str, Any]:
        """The parameters of a step, to be changed."""
        found: dict[str, Any] = next(s for s in self.job["steps"] if s["name"] == name)
        parameter: dict[str, Any] = found["parameter"]
        return parameter

    def stored(self, fields: list[str] | None = None) -> list[dict[str, Any]]:
        """All rows of the target, by id."""
        from pymilvus import MilvusClient

        client = MilvusClient(str(self.folder / "vectors.db"))
        try:
            collection = self.step("Writer")["collection"]
            client.load_collection(collection)
            rows = client.query(
                collection, filter="id != ''", output_fields=fields or ["*"], limit=16000
            )
        finally:
            client.close()
        return sorted(rows, key=lambda r: r["id"])


def step(step_type: str, category: str, name: str, **parameter: Any) -> dict[str, Any]:
    """A step of a job, as a job file has it."""
    return {"stepType": step_type, "category": category, "name": name, "parameter": parameter}


def main_job() -> dict[str, Any]:
    """JSON lines -> id and text -> vector -> Milvus, with the model that runs in process."""
    line = {"name": "line", "index": 0, "type": "string"}
    extracted = [
        {"name": name, "fromColumn": "line", "jsonPath": f"$.{name}", "type": "STRING"}
        for name in ("id", "text")
    ]
    embedded = {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}
    written = [
        {"name": "id", "type": "VarChar", "maxLength": "64", "primaryKey": True},
        {"name": "text", "type": "VarChar", "maxLength": "1000"},
        {"name": "vector", "type": "FloatVector", "dimension": "64"},
    ]
    return {
        "type": "job",
        "version": "2.0",
        "steps": [
            step(
                "file", "reader", "Reader",
                datasource="Files", object=["rows.jsonl"], fileFormat="jsonl", column=[line],
            ),
            step("json-extracting", "flatmap", "Extract", column=extracted),
            step(
                "embedding-transformer", "flatmap", "Embed",
                modelProvider="local", dimension=64, embeddingColumns=embedded,
            ),
            step(
                "milvus", "writer", "Writer",
                datasource="Vectors", collection="texts", writeMode="upsert", column=written,
            ),
        ],
        "setting": {"errorLimit": {"record": "0"}, "speed": {"concurrent": 2}},
    }  # fmt: skip


def rows(n: int) -> list[dict[str, str]]:
    """`n` rows of distinct texts."""
    return [{"id": f"r{i:06}", "text": f"row {i} tells of thing {i * 7}"} for i in range(n)]


def rejects_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The lines of a run's rejects."""
    parts = sorted(Path(report["rejects"]).glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def counts_add_up(report: dict[str, Any]) -> bool:
    """Whether every row that was read is in one of the other counts."""
    names = ("written", "deleted", "rejected", "unkept", "dropped", "stale", "unfinished")
    out = sum(report[f"rows_{n}"] for n in names)
    return bool(report["rows_read"] + report["rows_added"] == out)


def interrupt(process: subprocess.Popen[Any], kind: signal.Signals = signal.SIGINT) -> None:
    """Sends a Ctrl-C, or another signal, to a run, and waits until the run has said so."""
    assert process.stderr is not None
    process.send_signal(kind)
    while line := process.stderr.readline():
        if "interrupted" in str(line):
            return
    raise AssertionError("the run has ended without a word of the interrupt")


ROOT = Path(__file__).resolve().parents[2]


def environment(**more: str) -> dict[str, str]:
    """The variables of a process that imports vecferry and its tests in any folder."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
