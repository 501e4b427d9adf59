"""The log of MySQL read for ever in a pipeline of one's own, on a real Flink cluster."""

from __future__ import annotations

import json
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import requests
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import Timestamp

from tests.contracts.cluster import process
from tests.contracts.cluster_kills import python_workers
from tests.io.mysql_cdc.syncs import Followed
from tests.services.flink import Flink
from tests.services.mysql8 import Mysql8
from tests.services.server import eventually, running
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc import MySqlCdcSettings, ReadMySQLChanges
from vecferry.io.mysql_cdc.kept import Keeper
from vecferry.rows import Change

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.heavy(server=Flink)]

WINDOW_SECONDS = 2
STREAMING = [
    "--streaming",
    "--checkpointing_interval=1000",
    "--finish_bundle_before_checkpointing",
    "--max_bundle_time_mills=100",
    "--parallelism=1",
]


@pytest.fixture
def followed() -> Iterator[Followed]:
    """A table of its own."""
    followed = Followed(running(Mysql8))
    yield followed
    followed.run("DROP TABLE IF EXISTS {}")
    followed.client.close()


@pytest.fixture
def cluster() -> Iterator[Flink]:
    """Without jobs before and after."""
    cluster = running(Flink)
    yield cluster
    for job in cluster.jobs("RUNNING", "RESTARTING", "CREATED"):
        requests.patch(f"{cluster.url}/jobs/{job['jid']}", timeout=60)
    eventually(lambda: not cluster.jobs("RUNNING", "RESTARTING", "CREATED", "CANCELLING"))


class Writer(threading.Thread):
    """Inserts numbered rows until it is stopped."""

    def __init__(self, followed: Followed) -> None:
        super().__init__()
        self.followed, self.stopped, self.count = followed, threading.Event(), 0

    def run(self) -> None:
        """A transaction for each three rows."""
        with self.followed.server.client(autocommit=False) as client, client.cursor() as cursor:
            while not self.stopped.wait(0.02):
                sql = f"INSERT INTO {self.followed.name} (id, text) VALUES (%s, %s)"
                cursor.executemany(sql, [(self.count + i, f"{time.time()}") for i in range(3)])
                client.commit()
                self.count += 3

    def stop(self) -> None:
        """No row comes afterwards."""
        self.stopped.set()
        self.join()


class Pipeline:
    """Runs of one pipeline, which note each row and the rows of each window."""

    def __init__(self, followed: Followed, cluster: Flink, folder: Path) -> None:
        self.followed, self.cluster, self.folder = followed, cluster, folder
        self.positions = folder / "positions"

    def start(self, out: str, *options: str) -> str:
        """Submits it; the id of the job, once it runs."""
        given = [*self.cluster.beam_options, *process(), *STREAMING, *options]
        pipeline = beam.Pipeline(runner="FlinkRunner", options=PipelineOptions(given))
        table = f"shop.{self.followed.name}"
        changes = pipeline | ReadMySQLChanges(
            settings=MySqlCdcSettings(table=(table,), column=("id", "text")),
            connection=MySqlConnection.model_validate(self.followed.server.source),
            positions=str(self.positions),
        )
        noted = changes.rows | "Note" >> beam.Map(note, str(self.folder / out))
        _ = (
            noted
            | beam.WindowInto(FixedWindows(WINDOW_SECONDS))
            | beam.combiners.Count.PerElement()
            | "Note windows" >> beam.Map(note_window, str(self.folder / f"{out}-windows"))
        )
        pipeline.run()
        eventually(lambda: len(self.cluster.jobs("RUNNING")) == 1)
        return str(self.cluster.jobs("RUNNING")[0]["jid"])

    def rows(self, out: str) -> dict[int, float]:
        """How many seconds each row took from its writer, by number."""
        return {int(n): took for n, took in lines(self.folder / out)}

    def windows(self, out: str) -> int:
        """How many rows are in windows that were closed."""
        return sum(count for count, _ in lines(self.folder / f"{out}-windows"))

    def savepoint(self, job: str) -> str:
        """Ends the job with a savepoint; its path."""
        url = f"{self.cluster.url}/jobs/{job}/savepoints"
        asked = requests.post(url, json={"cancel-job": True}, timeout=60).json()["request-id"]
        told: dict[str, Any] = {}

        def completed() -> bool:
            told.update(requests.get(f"{url}/{asked}", timeout=60).json())
            return bool(told["status"]["id"] == "COMPLETED")

        eventually(completed)
        eventually(lambda: not self.cluster.jobs("RUNNING", "CANCELLING"))
        return str(told["operation"]["location"])


def note(row: Change, out: str) -> str:
    """Writes down a row, and how long it took."""
    with Path(out).open("a") as file:
        file.write(json.dumps([row["id"], time.time() - float(row["text"])]) + "\n")
    return "rows"


def note_window(counted: tuple[str, int], out: str, end: Any = beam.DoFn.TimestampParam) -> None:
    """Writes down how many rows a closed window has, and when it was closed."""
    with Path(out).open("a") as file:
        file.write(json.dumps([counted[1], float(Timestamp.now() - end)]) + "\n")


def lines(path: Path) -> list[Any]:
    """What was written down; a line that is being written is left out."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_rows_come_soon_and_a_savepoint_loses_none(
    followed: Followed, cluster: Flink, tmp_path: Path
) -> None:
    """Under a writer. The watermark goes on while nothing is written, so windows close."""
    pipeline, writer = Pipeline(followed, cluster, tmp_path), Writer(followed)
    job = pipeline.start("first")
    keeper = Keeper(str(pipeline.positions), "any")
    eventually(lambda: keeper.load() is not None)  # the place to begin at is known
    begun = keeper.load()
    writer.start()
    try:
        eventually(lambda: len(pipeline.rows("first")) > 300)
        late = sorted(pipeline.rows("first").items())[-100:]
        assert statistics.median(took for _, took in late) < 60  # on a quiet machine, less than 2
        path = pipeline.savepoint(job)
        before = pipeline.rows("first")
        assert writer.is_alive()
        pipeline.start("second", f"--savepoint_path={path}")
        eventually(lambda: max(pipeline.rows("second"), default=0) > max(before) + 300)
    finally:
        writer.stop()
    eventually(lambda: max(pipeline.rows("second")) == writer.count - 1)
    after = pipeline.rows("second")
    assert before.keys() | after.keys() == set(range(writer.count))
    assert min(after) > 100  # it did not begin anew
    # Nothing is written any more: all windows close, each row is in one, and the position follows.
    eventually(lambda: pipeline.windows("first") + pipeline.windows("second") == writer.count)
    with followed.client.cursor() as cursor:
        cursor.execute("SHOW MASTER STATUS")
        end = cursor.fetchone()[:2]
    assert begun is not None
    eventually(lambda: (now := keeper.load()) is not None and stored(now.at) == end)


def test_a_killed_worker_costs_no_row(followed: Followed, cluster: Flink, tmp_path: Path) -> None:
    """Flink goes on from its last checkpoint; rows may come twice, each is in one window once."""
    pipeline, writer = Pipeline(followed, cluster, tmp_path), Writer(followed)
    pipeline.start("only")
    eventually(lambda: Keeper(str(pipeline.positions), "any").load() is not None)
    writer.start()
    try:
        eventually(lambda: len(pipeline.rows("only")) > 300)
        workers = python_workers()
        assert workers
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        reached = writer.count
        eventually(lambda: max(pipeline.rows("only")) > reached + 300)
    finally:
        writer.stop()
    eventually(lambda: max(pipeline.rows("only")) == writer.count - 1)
    assert set(pipeline.rows("only")) == set(range(writer.count))
    eventually(lambda: pipeline.windows("only") >= writer.count)


def stored(at: dict[str, Any]) -> tuple[str, int]:
    """The place in the log."""
    return at["file"], at["offset"]
