"""A Milvus Lite file, which one process alone may open, beside several worker processes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.effort import spread
from tests.pipelines.support import ROOT, environment, step
from tests.services.server import eventually

pytestmark = pytest.mark.slow

ROWS = 3000


class Job:
    """A job in a folder: files of rows, the model of this process, a file of Milvus Lite."""

    def __init__(self, folder: Path, files: int) -> None:
        self.folder = folder
        for number in range(files):
            with (folder / f"rows{number}.csv").open("w", newline="") as out:
                write = csv.writer(out).writerow
                write(["id", "text"])
                for n in range(number, ROWS, files):
                    write([f"r{n}", f"row {n} tells of {n % 7}"])
        columns = [{"name": n, "index": i, "type": "string"} for i, n in enumerate(("id", "text"))]
        embedded = {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"}
        fields = [
            {"name": "id", "type": "VarChar", "primaryKey": True, "maxLength": 64},
            {"name": "text", "type": "VarChar", "maxLength": 256},
            {"name": "vector", "type": "FloatVector", "dimension": 64},
        ]
        steps = [
            step(
                "file", "reader", "Read", datasource="Files", object=["rows*"], fileFormat="csv",
                skipHeader=True, column=columns,
            ),
            step(
                "embedding-transformer", "flatmap", "Embed", modelProvider="local", dimension=64,
                embeddingColumns=embedded,
            ),
            step(
                "milvus", "writer", "Write", datasource="Vectors", collection="docs",
                batchSize=100, column=fields,
            ),
        ]  # fmt: skip
        job = {"type": "job", "version": "2.0", "name": "lite", "steps": steps, "setting": {}}
        sources = {
            "Files": {"type": "local", "path": str(folder)},
            "Vectors": {"type": "milvus", "endpoint": str(folder / "ours.db")},
        }
        (folder / "job.json").write_text(json.dumps(job))
        (folder / "sources.json").write_text(json.dumps(sources))

    def start(self, workers: int) -> subprocess.Popen[str]:
        """A run in a process of its own."""
        command = [
            *(sys.executable, "-m", "vecferry.pipelines.main", "run", "job.json", "--json"),
            *("-d", "sources.json", "--workers", str(workers)),
        ]
        return subprocess.Popen(
            command, cwd=self.folder, env={**environment(), "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, workers: int) -> dict[str, Any]:
        """The report of a run."""
        out, err = self.start(workers).communicate(timeout=300)
        assert out, err
        report: dict[str, Any] = json.loads(out)
        return report

    def stored(self) -> dict[str, str]:
        """The text of each row that is there, by its id."""
        from pymilvus import MilvusClient

        client = MilvusClient(str(self.folder / "ours.db"))
        try:
            client.load_collection("docs")
            found: dict[str, str] = {}
            rows = client.query_iterator("docs", batch_size=1000, output_fields=["id", "text"])
            while page := rows.next():
                found |= {row["id"]: row["text"] for row in page}
            return found
        finally:
            client.close()


ALL = {f"r{n}": f"row {n} tells of {n % 7}" for n in range(ROWS)}


@pytest.mark.parametrize("files", spread([1, 3], 1))
def test_workers_embed_and_the_launcher_writes(files: int, tmp_path: Path) -> None:
    """All rows, of one split and of several."""
    job = Job(tmp_path, files)
    report = job.run(workers=2)
    assert (report["state"], report["rows_written"]) == ("DONE", ROWS), report["error"]
    assert report["embed"]["inputs"] == ROWS
    assert job.stored() == ALL


@pytest.mark.long
@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("late", [False, True])
def test_the_next_run_after_a_kill_writes_all(files: int, late: bool, tmp_path: Path) -> None:
    """The launcher is killed before its workers have begun, and in the midst; nobody is left."""
    job = Job(tmp_path, files)
    process = job.start(workers=2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    eventually(lambda: len(children.read_text().split()) >= 2)
    workers = [int(pid) for pid in children.read_text().split()]
    if late:
        eventually(lambda: any(tmp_path.glob("ours.db*")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    report = job.run(workers=2)
    assert (report["state"], report["rows_written"]) == ("DONE", ROWS), report["error"]
    assert job.stored() == ALL
