"""What a round of a lake sync costs: 1,000 changed rows of a large table, and of a small one.

Usage::

    python -m bench.lake                  1,000 changed of 1,000,000 rows, and of 10,000
    python -m bench.lake --rows 100000    of so many, and of 10,000

Needs ``vecferry[all,paimon]``. pypaimon writes the tables into a folder: a primary key, four
buckets, three commits. The target is in memory, and the endpoint is a process of its own. Times are
of whole runs: opening the catalog, planning, looking up, embedding, storing the position. The runs
alternate, each in a process of its own.

- The time for the large table is to be at most three times that for the small one.
- Each distinct new text is asked for once: requests are to be new texts / 10, rounded up.
- A run that finds nothing new is to send no request, and to take less than 3 seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.embed_endpoint import BATCH, endpoint, seen_by, text_of
from bench.lake_common import commit, embedding, reader, step, write_job

FACTOR_GOAL, NOTHING_GOAL = 3.0, 3.0
SMALL, CHANGED, BUCKETS, RUNS = 10_000, 1_000, 4, 3
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
STEP = 7919
"""The changed rows are so far apart; a prime, so that all files hold some."""


class Table:
    """A table in a folder of its own, and a job that follows it."""

    def __init__(self, folder: Path, rows: int, url: str) -> None:
        from pypaimon import CatalogFactory, Schema

        self.folder, self.rows = folder, rows
        self.catalog = CatalogFactory.create({"warehouse": str(folder / "warehouse")})
        self.catalog.create_database("db", True)
        made = Schema.from_pyarrow_schema(
            SCHEMA, primary_keys=["id"], options={"bucket": str(BUCKETS)}
        )
        self.catalog.create_table("db.t", made, False)
        self.written = 0
        for third in range(3):
            self.write(range(third, rows, 3))
        self.job = self._job(url)

    def write(self, ids: Sequence[int]) -> None:
        """A commit of rows with texts that are new."""
        texts = [text_of(self.written + n) for n in range(len(ids))]
        self.written += len(ids)
        commit(self.catalog, pa.table([pa.array(ids, pa.int64()), texts], schema=SCHEMA))

    def change(self) -> None:
        """A commit of `CHANGED` rows."""
        self.write(sorted({n * STEP % self.rows for n in range(CHANGED)}))

    def _job(self, url: str) -> Path:
        writer = step("held", "writer", {"name": "held", "column": ["id", "text", "vector"]})
        steps = [reader(column=["id", "text"]), embedding(url, 256), writer]
        return write_job(self.folder, "lake", steps, {"positions": str(self.folder / "positions")})


def _run(folder: str, since: int, answer: Any) -> None:
    """One run from a snapshot, in a process of its own."""
    from tests.contracts import sync_memory
    from tests.contracts.sync_memory import held
    from vecferry.pipelines import registry
    from vecferry.pipelines.job.resolve import read_and_resolve
    from vecferry.pipelines.launch import open_run
    from vecferry.pipelines.run.logic import JobLogic
    from vecferry.pipelines.run.options import RunOptions
    from vecferry.pipelines.run.positions import positions_of
    from vecferry.pipelines.run.sync import follow
    from vecferry.positions import Position
    from vecferry.positions.holder import Holder

    for kind in sync_memory.KINDS:
        registry.register(kind)
    place = Path(folder)
    resolved = read_and_resolve(str(place / "job.json"), data_sources=str(place / "sources.json"))
    source = JobLogic(resolved, "set").change_source
    position = Position(
        epoch=1, identity=source.identity(), phase="changes", at=source.parse_until(str(since))
    )
    positions = positions_of(resolved)
    with positions.take(Holder(run="set")) as lease:
        lease.set(position)
    there = held("held")
    there.made, there.epoch = True, 1
    there.rows["filled"] = {"text": "", "vector": None}  # as the full load has filled it
    began, used = time.perf_counter(), _cpu()
    options = RunOptions(rejects=str(place / "rejects"))
    report = follow(open_run(resolved, options), positions, lambda *_: None)
    seconds, cpu = time.perf_counter() - began, _cpu() - used
    assert report.state == "DONE", report.error
    answer.put({"seconds": seconds, "cpu": cpu, "read": report.rows_read})


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measured(table: Table, since: int, url: str) -> dict[str, Any]:
    """One run, with the requests that it sent."""
    context = multiprocessing.get_context("spawn")
    before, answer = seen_by(url), context.Queue()
    process = context.Process(target=_run, args=(str(table.folder), since, answer))
    process.start()
    found: dict[str, Any] = answer.get(timeout=600)
    process.join()
    return {**found, "requests": seen_by(url)["requests"] - before["requests"]}


def last(table: Table) -> int:
    """The newest snapshot."""
    return int(table.catalog.get_table("db.t").snapshot_manager().get_latest_snapshot().id)


def main() -> None:
    """Prints one line of JSON for each table, and one with what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        tables = {size: _made(Path(name) / f"{size}", size, url) for size in (SMALL, rows)}
        runs: dict[int, list[dict[str, Any]]] = {size: [] for size in tables}
        for _ in range(RUNS):
            for size, table in tables.items():
                since = last(table)
                table.change()
                runs[size].append(measured(table, since, url))
        for size, found in runs.items():
            print(json.dumps({"rows": size, **_middle(found)}), flush=True)
            assert all(run["requests"] == -(-CHANGED // BATCH) for run in found)
        nothing = measured(tables[rows], last(tables[rows]), url)
        small, large = (_middle(runs[size])["seconds"] for size in (SMALL, rows))
        told = {
            "factor": round(large / small, 2),
            "goal": FACTOR_GOAL,
            "nothing new": nothing,
            "nothing goal": NOTHING_GOAL,
        }
        print(json.dumps(told), flush=True)
        assert nothing["requests"] == 0


def _made(folder: Path, rows: int, url: str) -> Table:
    folder.mkdir()
    return Table(folder, rows, url)


def _middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}


if __name__ == "__main__":
    main()
