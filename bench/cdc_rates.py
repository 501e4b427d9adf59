"""Rows a second of a followed table of MySQL, against a loop by hand and against the batch job.

Usage::

    python -m bench.cdc_rates --sustained     100,000 updates whose texts are all known
    python -m bench.cdc_rates --snapshot      a full load of 50,000 rows, 50 ms a request
    python -m bench.cdc_rates                 both, three runs each

MySQL 8.0 and OpenSearch are real. The index has no graph. Each update of ``--sustained`` is a
transaction of its own, and the changes wait in the log before the time begins. The loop reads them
with vecferry's decoder, and looks up 500 vectors at a time in SQLite. It writes with the
`parallel_bulk` of opensearch-py, four requests under way. For ``--snapshot`` the same table is read
by `mysql-cdc` up to now and by the reader `mysql`. Both sides run in turn, in a process each. The
time does not have the imports in it. The goal is 0.9.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.embed_endpoint import endpoint, text_of
from bench.lake_common import embedding, step
from tests.contracts.sync_stores import OpenSearchPlace
from tests.services.mysql8 import Mysql8
from tests.services.server import running, stop_all

GOAL = 0.9
DIMENSION, IN_FLIGHT, CHUNK, LOOKUP, TEXTS = 256, 4, 1000, 500, 1000
TABLE = "shop.rates"


def write_job(
    folder: Path, read: dict[str, Any], url: str, place: OpenSearchPlace, **setting: Any
) -> None:
    """The job `job.json` in a folder, and its data sources."""
    steps = [read, embedding(url, DIMENSION), place.writer()]
    (folder / "job.json").write_text(
        json.dumps({"name": "rates", "steps": steps, "setting": setting})
    )
    sources = {"Database": running(Mysql8).source, "Store": place.source()}
    (folder / "sources.json").write_text(json.dumps(sources))


def followed() -> dict[str, Any]:
    """The step that follows the table."""
    return step("mysql-cdc", "reader", {"datasource": "Database", "table": TABLE})


def read_once() -> dict[str, Any]:
    """The step that reads the table once."""
    name = TABLE.partition(".")[2]
    parameter = {"datasource": "Database", "table": name, "column": ["id", "text"]}
    return step("mysql", "reader", parameter)


def empty_index(place: OpenSearchPlace) -> None:
    """An index without a graph, which refreshes each second."""
    place.server.request("DELETE", f"/{place.name}?ignore_unavailable=true")
    fields = {
        "id": {"type": "keyword"},
        "text": {"type": "text"},
        "vector": {"type": "knn_vector", "dimension": DIMENSION},
    }
    body = {"settings": {"index": {"knn": False}}, "mappings": {"properties": fields}}
    place.server.request("PUT", f"/{place.name}", body)


def run_job(folder: Path) -> int:
    """Runs the job up to now; gives the rows that were read."""
    from vecferry.pipelines.job.resolve import read_and_resolve
    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.options import RunOptions, is_sync

    resolved = read_and_resolve(str(folder / "job.json"), data_sources=str(folder / "sources.json"))
    options = RunOptions(rejects=str(folder / "rejects"), preflight=False)
    if is_sync(resolved, options):
        options = RunOptions(rejects=str(folder / "rejects"), preflight=False, until="now")
    report = run_job(resolved, options)
    assert report.state == "DONE", report.error
    assert report.rows_rejected == 0
    return report.rows_read


def loop(folder: Path) -> int:
    """The loop by hand from one place of the log to another; gives the rows."""
    from opensearchpy import OpenSearch, helpers

    from vecferry.io.mysql import MySqlConnection
    from vecferry.io.mysql_cdc.columns import Columns
    from vecferry.io.mysql_cdc.log import Committed, LogReader, Rows
    from vecferry.io.mysql_cdc.place import Place
    from vecferry.io.mysql_cdc.stream import BinlogStream

    told = json.loads((folder / "loop.json").read_text())
    connection = MySqlConnection.model_validate(told["database"])
    wanted, last = Columns(), Place(*told["end"])
    client = OpenSearch(told["store"]["endpoint"], maxsize=IN_FLIGHT)
    db = sqlite3.connect(folder / "loop.db", check_same_thread=False)

    def changes() -> Iterator[tuple[int, str]]:
        stream = BinlogStream(connection, since=Place(*told["begin"]), heartbeat_seconds=1.0)
        table = TABLE.partition(".")[2]
        for item in LogReader(stream, lambda _, name: wanted if name == table else None):
            if type(item) is Rows:
                for _, _, after in item.rows():
                    yield after
            elif type(item) is Committed and item.place >= last:
                stream.close()
                return

    def actions() -> Iterator[dict[str, Any]]:
        rows = changes()
        while some := list(islice(rows, LOOKUP)):
            keys = {key_of(text) for _, text in some}
            marks = ",".join("?" * len(keys))
            asked = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            found = dict(db.execute(asked, [*keys]).fetchall())
            for row, text in some:
                vector = np.frombuffer(found[key_of(text)], "<f4").tolist()
                source = {"id": row, "text": text, "vector": vector}
                yield {"_index": told["index"], "_id": row, "_source": source}

    done = helpers.parallel_bulk(client, actions(), thread_count=IN_FLIGHT, chunk_size=CHUNK)
    return sum(good for good, _ in done)


def key_of(text: str) -> bytes:
    """Under which the loop's cache keeps a text's vector."""
    return hashlib.blake2b(text.encode(), digest_size=20).digest()


def _run(side: Callable[[Path], int], folder: Path, answer: Any) -> None:
    import apache_beam  # noqa: F401
    import opensearchpy  # noqa: F401

    import vecferry.pipelines.launch  # noqa: F401

    began = time.perf_counter()
    rows = side(folder)
    answer.put((rows, time.perf_counter() - began))


def rate(side: Callable[[Path], int], folder: Path, rows: int) -> float:
    """Rows a second of one side in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_run, args=(side, folder, answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    found, seconds = answer.get()
    assert found == rows
    return rows / float(seconds)


def known(n: int) -> str:
    """One of the texts that are embedded before."""
    return text_of(n % TEXTS)


def fill(server: Mysql8, texts: Iterator[str]) -> None:
    """Makes the table anew with a row for each text."""
    server.execute(
        "CREATE DATABASE IF NOT EXISTS shop",
        f"DROP TABLE IF EXISTS {TABLE}",
        f"CREATE TABLE {TABLE} (id INT PRIMARY KEY AUTO_INCREMENT, text TEXT)",
    )
    with server.client() as client, client.cursor() as cursor:
        while rows := [(text,) for text in islice(texts, 5000)]:
            cursor.executemany(f"INSERT INTO {TABLE} (text) VALUES (%s)", rows)


def place_of(cursor: Any) -> tuple[str, int]:
    """The end of the log."""
    cursor.execute("SHOW MASTER STATUS")
    file, offset = cursor.fetchone()[:2]
    return file, offset


def sustained(changes: int, runs: int) -> dict[str, Any]:
    """Changes a second that wait in the log, of texts that are known."""
    server, place = running(Mysql8), OpenSearchPlace(DIMENSION)
    speeds: dict[str, list[float]] = {"vecferry": [], "loop": []}
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        fill(server, (known(n) for n in range(10 * TEXTS)))
        write_job(folder, followed(), url, place, positions=str(folder / "positions"))
        vectors = np.random.default_rng(1).normal(size=(TEXTS, DIMENSION)).astype("<f4")
        with sqlite3.connect(folder / "loop.db") as db:
            db.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
            items = ((key_of(known(n)), vectors[n].tobytes()) for n in range(TEXTS))
            db.executemany("INSERT INTO vectors VALUES (?, ?)", items)
        empty_index(place)
        rate(run_job, folder, 10 * TEXTS)
        for turn in range(runs):
            with server.client() as client, client.cursor() as cursor:
                begin = place_of(cursor)
                update = f"UPDATE {TABLE} SET text = %s WHERE id = %s"
                for n in range(changes):
                    cursor.execute(update, (known(n + turn + 1), n % (10 * TEXTS) + 1))
                end = place_of(cursor)
            told = {"begin": begin, "end": end, "database": server.source, "index": place.name}
            (folder / "loop.json").write_text(json.dumps({**told, "store": place.source()}))
            for side in ((run_job, loop), (loop, run_job))[turn % 2]:
                what = "loop" if side is loop else "vecferry"
                speeds[what].append(rate(side, folder, changes))
    place.close()
    return told_of("changes", changes, speeds)


def snapshot(rows: int, runs: int) -> dict[str, Any]:
    """Rows a second of a full load, and of the batch job."""
    server, place = running(Mysql8), OpenSearchPlace(DIMENSION)
    fill(server, (text_of(n) for n in range(rows)))
    sides = {"vecferry": followed(), "batch job": read_once()}
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    with endpoint("--latency-ms", "50") as url:
        for turn in range(runs):
            for side, read in list(sides.items())[:: 1 - 2 * (turn % 2)]:
                with tempfile.TemporaryDirectory() as name:
                    folder, setting = Path(name), {"speed": {"concurrent": 32}}
                    if side == "vecferry":
                        setting |= {"positions": str(folder / "positions")}
                    write_job(folder, read, url, place, **setting)
                    empty_index(place)
                    speeds[side].append(rate(run_job, folder, rows))
    place.close()
    return told_of("rows", rows, speeds)


def told_of(what: str, number: int, speeds: dict[str, list[float]]) -> dict[str, Any]:
    """A line of the outcome."""
    middle = {side: statistics.median(found) for side, found in speeds.items()}
    mine, other = middle.values()
    rates = {f"{side}, {what}/s": round(speed) for side, speed in middle.items()}
    return {what: number, **rates, "ratio": round(mine / other, 2), "goal": GOAL}


def main() -> None:
    """Prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sustained", action="store_true")
    parser.add_argument("--snapshot", action="store_true")
    parser.add_argument("--changes", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    both = given.sustained == given.snapshot
    try:
        if both or given.sustained:
            print(json.dumps(sustained(given.changes, given.runs)), flush=True)
        if both or given.snapshot:
            print(json.dumps(snapshot(given.rows, given.runs)), flush=True)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
