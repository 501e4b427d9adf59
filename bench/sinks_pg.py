"""Rows a second into tables of PostgreSQL, against loops over psycopg alone.

    python bench/sinks_pg.py [--rows 50000] [--dimensions 256 1024] [--writers postgresql hologres]

All sides upsert the same rows by key with four connections, 512 rows a transaction, vectors in
binary. There are three loops, as one would write them by hand: `executemany` of INSERT … ON
CONFLICT, COPY into a temporary table followed by one INSERT … ON CONFLICT, and INSERT … SELECT FROM
unnest of a list for each column (not for float4[], as SQL has no arrays of arrays). The table has
no index but its key, so that what is measured is the way to the server. A side is timed from its
first connection to its last commit. Prints the median of the ratios of rounds in which the sides
take turns, and beside it how many seconds of this process's CPU a side took.
"""

from __future__ import annotations

import argparse
import gc
import queue
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.pgvector_support import KINDS
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import running, stop_all
from vecferry.io.pgvector_target import TableTarget
from vecferry.process import end_run
from vecferry.rows import Change
from vecferry.steps import StepContext

CONNECTIONS, CHUNK = 4, 512
UPSERT = "ON CONFLICT (id) DO UPDATE SET text = excluded.text, vector = excluded.vector"

Rows = list[dict[str, Any]]
CELL = np.dtype([("length", ">i4"), ("value", ">f4")])


def make_rows(n: int, dimension: int) -> Rows:
    """Rows with an id, a short text and a vector."""
    vectors = np.random.default_rng(1).normal(size=(n, dimension)).astype(np.float32)
    return [
        {"id": f"row-{i}", "text": f"this is the text of row {i}", "vector": vectors[i]}
        for i in range(n)
    ]


def float4_array(vector: np.ndarray) -> bytes:
    """A vector as float4[] has it on the wire."""
    cells = np.empty(len(vector), CELL)
    cells["length"], cells["value"] = 4, vector
    return struct.pack("!iiiii", 1, 0, 700, len(vector), 1) + cells.tobytes()


def pgvector(vector: np.ndarray) -> bytes:
    """A vector as pgvector has it on the wire."""
    return struct.pack("!HH", len(vector), 0) + vector.astype(">f4").tobytes()


def connection_of(server: Postgres, writer: str) -> Any:
    """A connection that dumps vectors in binary."""
    connection = server.client()
    floats = writer == "hologres"
    name = "_float4" if floats else "vector"
    info = TypeInfo.fetch(connection, name)
    info.register(connection)
    oid_ = info.oid
    binary = float4_array if floats else pgvector

    class VectorDumper(Dumper):
        format = Format.BINARY
        oid = oid_

        def dump(self, obj: Any) -> bytes:
            return binary(obj)

    connection.adapters.register_dumper(np.ndarray, VectorDumper)
    return connection


def by_executemany(connection: Any, table: str, rows: Rows) -> None:
    """One INSERT a row, in a pipeline."""
    statement = f"INSERT INTO {table} (id, text, vector) VALUES (%b, %b, %b) {UPSERT}"
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(statement, [(r["id"], r["text"], r["vector"]) for r in rows])


def by_copy(connection: Any, table: str, rows: Rows) -> None:
    """COPY into a temporary table, and from there."""
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy("COPY staged FROM STDIN (FORMAT BINARY)") as copy:
            for row in rows:
                copy.write_row((row["id"], row["text"], row["vector"]))
        cursor.execute(f"INSERT INTO {table} SELECT * FROM staged {UPSERT}")


def by_unnest(connection: Any, table: str, rows: Rows) -> None:
    """One INSERT of a list for each column."""
    connection.execute(
        f"INSERT INTO {table} (id, text, vector) "
        f"SELECT * FROM unnest(%b::text[], %b::text[], %b::vector[]) {UPSERT}",
        [[r["id"] for r in rows], [r["text"] for r in rows], [r["vector"] for r in rows]],
    )


def by_loop(
    work: Callable[[Any, str, Rows], None], server: Postgres, writer: str, table: str, rows: Rows
) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of four threads that take chunks off a list."""
    gc.collect()
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()
    connections = [connection_of(server, writer) for _ in range(CONNECTIONS)]
    for connection in connections:
        if work is by_copy:
            connection.execute(
                f"CREATE TEMPORARY TABLE staged ON COMMIT DELETE ROWS AS "
                f"SELECT id, text, vector FROM {table} WITH NO DATA"
            )
    chunks: queue.SimpleQueue[Rows] = queue.SimpleQueue()
    for start in range(0, len(rows), CHUNK):
        chunks.put(rows[start : start + CHUNK])

    def loop(connection: Any) -> None:
        while True:
            try:
                chunk = chunks.get_nowait()
            except queue.Empty:
                return
            work(connection, table, chunk)

    threads = [threading.Thread(target=loop, args=(c,)) for c in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - began, time.process_time() - cpu
    for connection in connections:
        connection.close()
    return taken


def by_us(target: TableTarget, rows: Rows) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of the writer of one bundle."""
    changes = [Change(row) for row in rows]
    gc.collect()
    gc.freeze()  # the rows, which a pipeline would not hold all at once
    began, cpu = time.perf_counter(), time.process_time()
    operator = target.operator()
    done = 0
    for change in changes:
        done += len(operator.process(change))
    done += len(operator.finish())
    taken = time.perf_counter() - began, time.process_time() - cpu
    assert done == len(rows)
    return taken


def target_of(server: Postgres, writer: str, table: str, dimension: int) -> TableTarget:
    """Our target, its table made anew."""
    settings, connection, kind = KINDS[writer]
    login = {"username": USER, "password": PASSWORD, "database": DATABASE}
    target = TableTarget(
        settings.model_validate(
            {
                "table": table,
                "schemaCreateMode": "recreate",
                "ownsTarget": True,
                "column": [
                    {"name": "id", "type": "varchar(64)", "primaryKey": True},
                    {"name": "text", "type": "text"},
                    {"name": "vector", "dimension": dimension, "indexType": "none", **kind},
                ],
            }
        ),
        connection.model_validate({"host": "127.0.0.1", "port": server.port, **login}),
        StepContext(step="Writer", step_type=writer),
    )
    target.prepare()
    return target


LOOPS = {"executemany": by_executemany, "copy": by_copy, "unnest": by_unnest}


def measure(server: Postgres, writer: str, dimension: int, n: int, rounds: int) -> None:
    """Prints the speeds of all sides and the median of our ratio to the faster loop."""
    rows = make_rows(n, dimension)
    speeds: list[dict[str, float]] = []
    loops = {k: w for k, w in LOOPS.items() if writer == "postgresql" or k != "unnest"}
    sides = ["vecferry", *loops]
    for turn in range(rounds + 1):
        found = {}
        some = rows if turn else rows[: n // 10]  # the first round only warms up
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            target = target_of(server, writer, "bench", dimension)
            server.execute("CHECKPOINT")
            if side == "vecferry":
                seconds, cpu = by_us(target, some)
            else:
                seconds, cpu = by_loop(loops[side], server, writer, "bench", some)
            assert target.row_count() == len(some)
            found[side] = len(some) / seconds
            if turn:
                print(f"  {side}: {found[side]:,.0f} rows/s, CPU {cpu:.1f} s", flush=True)
            end_run(target.context.run)
        if turn:
            speeds.append(found)
    medians = {side: statistics.median(s[side] for s in speeds) for side in sides}
    ratio = statistics.median(s["vecferry"] / max(s[name] for name in loops) for s in speeds)
    shown = ", ".join(f"{side} {speed:,.0f}" for side, speed in medians.items())
    print(f"{writer}, {n} rows of {dimension}: {shown} rows/s; {ratio:.2f} of the fastest loop")


def main() -> None:
    """Measures each writer with each dimension."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--writers", nargs="+", default=[*KINDS], choices=[*KINDS])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    server = running(Postgres)
    server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    try:
        for writer in given.writers:
            for dimension in given.dimensions:
                measure(server, writer, dimension, given.rows, given.rounds)
    finally:
        stop_all()


if __name__ == "__main__":
    main()
