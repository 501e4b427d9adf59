"""What following a table of MySQL costs: time until a change is searchable, and memory.

Usage::

    python -m bench.cdc_following --latency       200 changes a second for 60 s, also during a load
    python -m bench.cdc_following --refreshes     how long a refresh takes, with merges and without
    python -m bench.cdc_following --memory        1,000,000 changes
    python -m bench.cdc_following --transaction   one transaction of 1,000,000 rows
    python -m bench.cdc_following                 all

A real MySQL 8.0 is followed by `vecferry run --continuous`. For latency, the target is a real
OpenSearch whose index makes writes visible each second, and a request to the endpoint takes 20 ms.
The time runs from the end of a commit to the first search that finds the row. Each second, the row
of one commit is looked for. Refreshes are timed at two indexes in turn, each after 200 new
documents, so that other work slows both. For memory, the target is in memory, and the texts are
few, so nothing but the log is new. Memory is that of the process of the sync.
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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from bench.embed_endpoint import endpoint, text_of
from bench.lake_common import embedding
from tests.contracts.sync_stores import STORES
from tests.services.mysql8 import Mysql8
from tests.services.server import running, stop_all

DIMENSION, RATE, FEW = 256, 200, 1000
P99_GOAL, LOAD_GOAL, MEMORY_GOAL = 2.0, 5.0, 1.05
TABLE = "shop.followed"


def made() -> Mysql8:
    """A server with an empty table."""
    server = running(Mysql8)
    server.execute(
        f"DROP TABLE IF EXISTS {TABLE}",
        f"CREATE TABLE {TABLE} (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)",
    )
    return server


def write_job(folder: Path, server: Mysql8, url: str, writer: dict[str, Any], **store: Any) -> Path:
    """The job and its data sources."""
    reads = {"datasource": "Database", "table": TABLE}
    reader = {"stepType": "mysql-cdc", "category": "reader", "name": "Read", "parameter": reads}
    setting = {"positions": str(folder / "positions"), "speed": {"concurrent": 32}}
    steps = [reader, embedding(url, DIMENSION), writer]
    path = folder / "job.json"
    path.write_text(json.dumps({"name": "followed", "steps": steps, "setting": setting}))
    sources = {"Database": server.source, **store}
    (folder / "sources.json").write_text(json.dumps(sources))
    return path


@contextmanager
def followed(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of the sync, which ends with the block."""
    begin = (
        "import sys; from vecferry.pipelines import registry; "
        "from tests.contracts.sync_memory import KINDS; "
        "[registry.register(k) for k in KINDS]; "
        "from vecferry.pipelines.cli.app import main; main(sys.argv[1:])"
    )
    line = [sys.executable, "-c", begin, "run", str(folder / "job.json"), "--continuous"]
    line += ["-d", str(folder / "sources.json"), "--rejects", str(folder / "rejects")]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def resident(pid: int) -> float:
    """MiB of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def rows_read(folder: Path) -> int:
    """How many rows the sync has read, as ``vecferry status`` tells."""
    line = [sys.executable, "-m", "vecferry.pipelines.cli.app", "status", "--json"]
    line += [str(folder / "positions")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    with suppress(ValueError, KeyError, TypeError):
        return int(json.loads(done.stdout)["progress"]["rows"])
    return 0


class Looking:
    """Looks again and again for the rows of commits."""

    def __init__(self, place: Any) -> None:
        self.wanted: dict[int, float] = {}
        self.waits: list[float] = []
        self._place, self._lock = place, threading.Lock()
        threading.Thread(target=self._look, daemon=True).start()

    def wait_for(self, row: int) -> None:
        """A commit has ended that inserts a row."""
        with self._lock:
            self.wanted[row] = time.monotonic()

    def _look(self) -> None:
        while True:
            time.sleep(0.05)
            with self._lock:
                ids = list(self.wanted)
            if not ids:
                continue
            asked = {"query": {"ids": {"values": ids}}, "size": len(ids), "_source": False}
            answer = self._place.server.request("POST", f"/{self._place.name}/_search", asked)
            now = time.monotonic()
            with self._lock:
                for hit in answer["hits"]["hits"]:
                    self.waits.append(now - self.wanted.pop(int(hit["_id"])))


def latency(seconds: float, loaded: int, merges: bool) -> dict[str, Any]:
    """From a commit to the first search that finds its row, in seconds."""
    server, place = made(), STORES["opensearch"][0](DIMENSION)
    with server.client() as client, client.cursor() as cursor:
        rows = [(text_of(n),) for n in range(loaded)]
        for at in range(0, loaded, 5000):
            cursor.executemany(f"INSERT INTO {TABLE} (text) VALUES (%s)", rows[at : at + 5000])
    with tempfile.TemporaryDirectory() as name, endpoint("--latency-ms", "20") as url:
        folder = Path(name)
        write_job(folder, server, url, place.writer(), Store=place.source())
        with followed(folder) as process, server.client() as client, client.cursor() as cursor:
            insert = f"INSERT INTO {TABLE} (text) VALUES (%s)"
            cursor.execute(insert, ("the first",))
            while not _counted(place):
                time.sleep(0.2)
                assert process.poll() is None
            settings = {"refresh_interval": "1s"}
            if merges:
                settings["merge_on_flush.enabled"] = "true"
            place.server.request("PUT", f"/{place.name}/_settings", {"index": settings})
            looking, begun, during = Looking(place), time.monotonic(), 0
            for n in range(int(RATE * seconds)):
                time.sleep(max(0.0, begun + n / RATE - time.monotonic()))
                cursor.execute(insert, (f"change {n} of {begun}",))
                if n % RATE == 0:
                    looking.wait_for(cursor.lastrowid)
                    during += _counted(place) < loaded
            while looking.wanted:
                time.sleep(0.1)
                assert process.poll() is None
    place.close()
    waits = sorted(looking.waits)
    return {
        "changes a second": RATE,
        "rows that are loaded beside": loaded,
        "refreshes wait for merges": merges,
        "commits during the load": during,
        "p50": round(statistics.median(waits), 2),
        "p99": round(waits[int(0.99 * (len(waits) - 1))], 2),
        "most": round(waits[-1], 2),
        "goal of p99": LOAD_GOAL if loaded else P99_GOAL,
    }


def refreshes(seconds: float) -> Iterator[dict[str, Any]]:
    """How long a refresh takes, where it waits for merges and where not."""
    places = {merges: STORES["opensearch"][0](DIMENSION) for merges in ("true", "false")}
    vector = {
        "type": "knn_vector",
        "dimension": DIMENSION,
        "method": {"name": "hnsw", "engine": "lucene", "space_type": "cosinesimil"},
    }
    for merges, place in places.items():
        settings = {"knn": True, "refresh_interval": "-1", "merge_on_flush.enabled": merges}
        body = {"settings": {"index": settings}, "mappings": {"properties": {"vector": vector}}}
        place.server.request("PUT", f"/{place.name}", body)
    chance, took = random.Random(1), {merges: list[float]() for merges in places}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for merges, place in places.items():
            for _ in range(4):
                rows = [[chance.random() for _ in range(DIMENSION)] for _ in range(50)]
                lines = [
                    json.dumps(one) for row in rows for one in ({"index": {}}, {"vector": row})
                ]
                _bulk(f"{place.server.url}/{place.name}/_bulk", lines)
            begun = time.monotonic()
            place.server.request("POST", f"/{place.name}/_refresh")
            took[merges].append(time.monotonic() - begun)
    for merges, place in places.items():
        place.close()
        waits = sorted(took[merges])
        yield {
            "refreshes wait for merges": merges,
            "refreshes": len(waits),
            "p50": round(statistics.median(waits), 2),
            "p90": round(waits[int(0.9 * (len(waits) - 1))], 2),
            "most": round(waits[-1], 2),
        }


def _bulk(url: str, lines: list[str]) -> None:
    headers = {"content-type": "application/x-ndjson"}
    answer = requests.post(url, "\n".join(lines) + "\n", headers=headers, timeout=60)
    answer.raise_for_status()
    assert not answer.json()["errors"]


def _counted(place: Any) -> int:
    with suppress(requests.HTTPError):  # the index is yet to be made
        return int(place.server.request("GET", f"/{place.name}/_count")["count"])
    return 0


def _held() -> dict[str, Any]:
    parameter = {"name": "held", "column": ["id", "text", "vector"]}
    return {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}


def memory(changes: int, at_once: int) -> dict[str, Any]:
    """Memory after a tenth of the changes and after all, `at_once` of them in a transaction."""
    server = made()
    with server.client() as client, client.cursor() as cursor:
        rows = [(text_of(n),) for n in range(FEW)]
        cursor.executemany(f"INSERT INTO {TABLE} (text) VALUES (%s)", rows)
        with tempfile.TemporaryDirectory() as name, endpoint() as url:
            folder = Path(name)
            write_job(folder, server, url, _held())
            with followed(folder) as process:
                _until(folder, process, FEW)
                before, peak, seen = resident(process.pid), [0.0], list[float]()
                ended = threading.Event()

                def look() -> None:
                    while not ended.wait(0.05):
                        with suppress(OSError):
                            peak[0] = max(peak[0], resident(process.pid))

                threading.Thread(target=look, daemon=True).start()
                chance = random.Random(1)
                for part in range(10):
                    cursor.execute("BEGIN")
                    for n in range(changes // 10 // FEW):
                        cursor.execute(
                            f"UPDATE {TABLE} SET text = CONCAT(%s, id %% 50)",
                            (f"a text that is known {chance.randrange(10)} {n % 2} ",),
                        )
                        if (n + 1) * FEW % at_once == 0:
                            cursor.execute("COMMIT")
                            cursor.execute("BEGIN")
                    if at_once < changes:
                        cursor.execute("COMMIT")
                        _until(folder, process, FEW + (part + 1) * changes // 10)
                        seen.append(resident(process.pid))
                cursor.execute("COMMIT")
                begun = time.monotonic()
                _until(folder, process, FEW + changes)
                took = time.monotonic() - begun
                ended.set()
    told = {"changes": changes, "a transaction": at_once, "MiB before": round(before, 1)}
    if seen:
        late = {"MiB early": round(seen[0], 1), "MiB late": round(seen[-1], 1)}
        return {**told, **late, "ratio": round(seen[-1] / seen[0], 3), "goal": MEMORY_GOAL}
    return {**told, "MiB at most": round(peak[0], 1), "seconds": round(took, 1)}


def _until(folder: Path, process: subprocess.Popen[bytes], rows: int) -> None:
    """Waits until so many rows were read."""
    while rows_read(folder) < rows:
        time.sleep(1)
        assert process.poll() is None


def main() -> None:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for what in ("latency", "refreshes", "memory", "transaction"):
        parser.add_argument(f"--{what}", action="store_true")
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long --latency, --refreshes write"
    )
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--loads", type=int, nargs="+", default=[0, 100_000], metavar="ROWS")
    words = "of --latency: let refreshes wait for merges, as OpenSearch does by itself"
    parser.add_argument("--merges", action="store_true", help=words)
    given = parser.parse_args()
    some = given.latency or given.refreshes or given.memory or given.transaction
    try:
        if given.latency or not some:
            for loaded in given.loads:
                print(json.dumps(latency(given.seconds, loaded, given.merges)), flush=True)
        if given.refreshes or not some:
            for told in refreshes(given.seconds):
                print(json.dumps(told), flush=True)
        if given.memory or not some:
            print(json.dumps(memory(given.changes, FEW)), flush=True)
        if given.transaction or not some:
            print(json.dumps(memory(given.changes, given.changes)), flush=True)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
