"""How soon a commit of a followed Paimon table can be searched, and whether memory stays flat.

Usage::

    python -m bench.lake_following                  300 commits, one a second, on average
    python -m bench.lake_following --commits 60

Needs ``vecferry[all,paimon]``. `vecferry run --continuous` follows a table with a primary key into
a real Elasticsearch, whose index makes writes visible each second. Each commit updates ten rows and
inserts one. The time runs from the end of a commit to the first search that finds the new row. It
is to be at most ``pollSeconds`` and three seconds. Memory is that of the process of the sync, after
a tenth of the commits and after all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import requests

from bench.embed_endpoint import endpoint, text_of
from bench.lake_common import commit, embedding, reader, write_job
from tests.contracts.sync_stores import ElasticsearchPlace
from tests.services.server import stop_all

POLL_SECONDS, MORE_SECONDS, MEMORY_GOAL = 1.0, 3.0, 1.05
ROWS, UPDATED, DIMENSION = 1000, 10, 256
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("text", pa.string())])


class Table:
    """A table in a folder."""

    def __init__(self, folder: Path) -> None:
        from pypaimon import CatalogFactory, Schema

        self.catalog = CatalogFactory.create({"warehouse": str(folder / "warehouse")})
        self.catalog.create_database("db", True)
        options = {"bucket": "1"}
        made = Schema.from_pyarrow_schema(SCHEMA, primary_keys=["id"], options=options)
        self.catalog.create_table("db.t", made, False)
        self.texts = 0

    def write(self, ids: list[int]) -> None:
        """A commit of rows with texts that are new."""
        texts = [text_of(self.texts + n) for n in range(len(ids))]
        self.texts += len(ids)
        commit(self.catalog, pa.table([[str(i) for i in ids], texts], schema=SCHEMA))


class Searches:
    """Looks again and again for the rows of commits, in a thread of its own."""

    def __init__(self, place: ElasticsearchPlace) -> None:
        self.committed: dict[str, float] = {}
        self.waits: list[float] = []
        self._place = place
        self._lock = threading.Lock()
        threading.Thread(target=self._look, daemon=True).start()

    def wait_for(self, row: str) -> None:
        """A commit has ended that inserts a row."""
        with self._lock:
            self.committed[row] = time.monotonic()

    def _look(self) -> None:
        while True:
            time.sleep(0.05)
            with self._lock:
                wanted = list(self.committed)
            if not wanted:
                continue
            asked = {"query": {"terms": {"id": wanted}}, "size": len(wanted), "_source": ["id"]}
            answer = self._place.server.request("POST", f"/{self._place.name}/_search", asked)
            now = time.monotonic()
            with self._lock:
                for hit in answer["hits"]["hits"]:
                    self.waits.append(now - self.committed.pop(hit["_source"]["id"]))


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends a process with the block, also where the block fails."""
    try:
        yield
    finally:
        process.terminate()


def resident(pid: int) -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def follow(folder: Path, table: Table, place: ElasticsearchPlace, url: str, commits: int) -> Any:
    """Writes while a sync follows; what was measured."""
    steps = [reader(), embedding(url, DIMENSION), place.writer()]
    setting = {"positions": str(folder / "positions"), "pollSeconds": POLL_SECONDS}
    write_job(folder, "lake", steps, setting, Store=place.source())
    command = [sys.executable, "-m", "vecferry.pipelines.cli.app", "run", "--continuous"]
    command += [str(folder / "job.json"), "-d", str(folder / "sources.json")]
    command += ["--rejects", str(folder / "rejects")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as sync, ended(sync):
        while _count(place) < ROWS:
            time.sleep(0.2)
            assert sync.poll() is None
        searches, chance = Searches(place), random.Random(1)
        memory: list[float] = []
        for n in range(commits):
            time.sleep(chance.uniform(0.5, 1.5))
            changed = chance.sample(range(ROWS), UPDATED)
            table.write([ROWS + n, *changed])
            searches.wait_for(str(ROWS + n))
            if n + 1 in (commits // 10, commits):
                memory.append(resident(sync.pid))
        while searches.committed:
            time.sleep(0.1)
            assert sync.poll() is None
        sync.send_signal(signal.SIGTERM)
        assert sync.wait() == 0
    waits = sorted(searches.waits)
    assert len(waits) == commits
    assert _count(place) == ROWS + commits
    early, late = memory
    return {
        "commits": commits,
        "median s": round(statistics.median(waits), 2),
        "most s": round(waits[-1], 2),
        "goal s": POLL_SECONDS + MORE_SECONDS,
        "MiB early": round(early),
        "MiB late": round(late),
        "ratio": round(late / early, 3),
        "memory goal": MEMORY_GOAL,
    }


def _count(place: ElasticsearchPlace) -> int:
    """The rows of an index; 0 where it is yet to be made, or not ready."""
    asked = {"size": 0, "track_total_hits": True}
    try:
        found = place.server.request("POST", f"/{place.name}/_search", asked)
    except requests.HTTPError:
        return 0
    return int(found["hits"]["total"]["value"])


def main() -> None:
    """Prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=300)
    commits = parser.parse_args().commits
    try:
        with tempfile.TemporaryDirectory() as name, endpoint("--latency-ms", "20") as url:
            folder, place = Path(name), ElasticsearchPlace(DIMENSION)
            table = Table(folder)
            table.write(list(range(ROWS)))
            print(json.dumps(follow(folder, table, place, url, commits)), flush=True)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
