"""A full load of a Paimon table into Elasticsearch against one loop over the same libraries.

Usage::

    python -m bench.lake_load                 100,000 rows, 256 dimensions, three runs each
    python -m bench.lake_load --rows 20000 --runs 1

Needs ``vecferry[all,paimon]``. The table has a primary key, four buckets and three commits. Each
text is in a vector cache of SQLite, so nothing is sent. The index has no graph (`index: false`).
The loop reads batches by pypaimon, looks up 500 vectors at a time, and writes by `parallel_bulk`
with four requests under way. Both sides run in turn, in a process each, with pypaimon's native
reader and without. The time runs from opening the catalog to the last acknowledgement: it has
building the graph in it, and not the imports. The goal is 0.9 of the loop.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import multiprocessing
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.embed_endpoint import endpoint, text_of
from bench.lake_common import commit, embedding, reader, write_job
from tests.contracts.sync_stores import ElasticsearchPlace
from tests.services.server import stop_all

GOAL = 0.9
DIMENSION, IN_FLIGHT, CHUNK, LOOKUP = 256, 4, 1000, 500
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("text", pa.string())])


def fill(folder: Path, rows: int) -> None:
    """Makes the table `db.t`, and the cache of the loop."""
    from pypaimon import CatalogFactory, Schema

    catalog = CatalogFactory.create({"warehouse": str(folder / "warehouse")})
    catalog.create_database("db", True)
    made = Schema.from_pyarrow_schema(SCHEMA, primary_keys=["id"], options={"bucket": "4"})
    catalog.create_table("db.t", made, False)
    for third in range(3):
        ids = range(third, rows, 3)
        commit(catalog, pa.table([[f"r{i}" for i in ids], [text_of(i) for i in ids]], SCHEMA))
    vectors = np.random.default_rng(1).normal(size=(rows, DIMENSION)).astype("<f4")
    with sqlite3.connect(folder / "loop.db") as db:
        db.execute("CREATE TABLE vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
        items = ((_key(text_of(i)), vectors[i].tobytes()) for i in range(rows))
        db.executemany("INSERT INTO vectors VALUES (?, ?)", items)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=20).digest()


def _ours(folder: Path, native: bool, place: dict[str, Any]) -> float:
    from vecferry.io.paimon import batches
    from vecferry.pipelines.job.resolve import read_and_resolve
    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.options import RunOptions

    if not native:
        python_only = batches._Native()
        python_only.works = False
        batches._Native = lambda: python_only  # type: ignore[misc, assignment]
    resolved = read_and_resolve(str(folder / "job.json"), data_sources=str(folder / "sources.json"))
    began = time.perf_counter()
    report = run_job(resolved, RunOptions(rejects=str(folder / "rejects"), preflight=False))
    assert report.state == "DONE", report.error
    assert report.rows_rejected == 0
    return time.perf_counter() - began


def _loop(folder: Path, native: bool, place: dict[str, Any]) -> float:
    from elastic_transport import OrjsonSerializer
    from elasticsearch import Elasticsearch, helpers
    from pypaimon import CatalogFactory

    login = base64.b64encode(f"{place['username']}:{place['password']}".encode()).decode()
    began = time.perf_counter()
    client = Elasticsearch(
        place["endpoint"],
        headers={"authorization": f"Basic {login}"},
        request_timeout=60,
        serializer=OrjsonSerializer(),
    )
    catalog = CatalogFactory.create({"warehouse": str(folder / "warehouse")})
    table = catalog.get_table("db.t").copy({"read.native.enabled": str(native).lower()})
    builder = table.new_read_builder()
    splits = builder.new_scan().plan().splits()
    batches = builder.new_read().to_arrow_batch_reader(splits)
    db = sqlite3.connect(folder / "loop.db", check_same_thread=False)

    def actions() -> Iterator[dict[str, Any]]:
        rows = (row for batch in batches for row in batch.to_pylist())
        while some := list(islice(rows, LOOKUP)):
            keys = [_key(row["text"]) for row in some]
            marks = ",".join("?" * len(keys))
            asked = f"SELECT key, vector FROM vectors WHERE key IN ({marks})"
            found = dict(db.execute(asked, keys).fetchall())
            for row, key in zip(some, keys, strict=True):
                row["vector"] = np.frombuffer(found[key], "<f4")
                yield {"_index": place["index"], "_id": row["id"], "_source": row}

    how = {"thread_count": IN_FLIGHT, "chunk_size": CHUNK, "queue_size": IN_FLIGHT}
    assert all(good for good, _ in helpers.parallel_bulk(client, actions(), **how))
    client.close()
    return time.perf_counter() - began


SIDES = {"vecferry": _ours, "loop": _loop}


def _run(side: str, folder: str, native: bool, place: dict[str, Any], answer: Any) -> None:
    import apache_beam  # noqa: F401
    import elasticsearch  # noqa: F401
    import pypaimon  # noqa: F401

    answer.put(SIDES[side](Path(folder), native, place))


def measured(side: str, folder: Path, native: bool, place: ElasticsearchPlace, rows: int) -> float:
    """Rows a second of a run into an empty index."""
    server, index = place.server, place.name
    server.request("DELETE", f"/{index}?ignore_unavailable=true")
    vector = {"type": "dense_vector", "dims": DIMENSION, "index": False}
    fields = {"id": {"type": "keyword"}, "text": {"type": "text"}, "vector": vector}
    server.request("PUT", f"/{index}", {"mappings": {"properties": fields}})
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    there = {**place.source(), "index": index}
    process = context.Process(target=_run, args=(side, str(folder), native, there, answer))
    process.start()
    process.join()
    assert process.exitcode == 0
    server.request("POST", f"/{index}/_refresh")
    found = server.request("POST", f"/{index}/_search", {"size": 0, "track_total_hits": True})
    assert found["hits"]["total"]["value"] == rows
    return rows / float(answer.get())


def main() -> None:
    """Prints a line of JSON with the native reader, and one without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name, endpoint() as url:
            folder, place = Path(name), ElasticsearchPlace(DIMENSION)
            fill(folder, options.rows)
            writer = place.writer()
            writer["parameter"]["column"][2]["index"] = False
            steps = [reader(scanMode="full"), embedding(url, DIMENSION), writer]
            setting = {"vectorCache": {"uri": f"sqlite:///{folder / 'ours.db'}"}}
            write_job(folder, "lake", steps, setting, Store=place.source())
            measured("vecferry", folder, True, place, options.rows)  # fills the cache
            for native in (True, False):
                speeds: dict[str, list[float]] = {side: [] for side in SIDES}
                for _ in range(options.runs):
                    for side, found in speeds.items():
                        found.append(measured(side, folder, native, place, options.rows))
                middle = {side: statistics.median(found) for side, found in speeds.items()}
                ratio = round(middle["vecferry"] / middle["loop"], 2)
                told = {f"{side}, rows/s": round(speed) for side, speed in middle.items()}
                line = {"rows": options.rows, "native": native, **told, "ratio": ratio}
                print(json.dumps({**line, "goal": GOAL}), flush=True)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
