"""Rows a second into tables of PostgreSQL, against loops over psycopg alone.

All sides upsert the same rows by key with four connections, 512 rows a transaction, vectors in
binary. There are three loops, as one would write them by hand: `executemany` of INSERT … ON
CONFLICT, COPY into a temporary table followed by one INSERT … ON CONFLICT, and INSERT … SELECT FROM
unnest of a list for each column (not for float4[], as SQL has no arrays of arrays). The table has
no index but its key, so that what is measured is the way to the server.
"""

from __future__ import annotations

import functools
import queue
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo
from sinks_common import Result, Rows, compare, make_rows, write_all

from tests.io.postgresql.support import KINDS
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import running
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.steps import StepContext

CONNECTIONS, CHUNK = 4, 512
UPSERT = "ON CONFLICT (id) DO UPDATE SET text = excluded.text, vector = excluded.vector"

CELL = np.dtype([("length", ">i4"), ("value", ">f4")])


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
    work: Callable[[Any, str, Rows], None], server: Postgres, writer: str, rows: Rows
) -> None:
    """Four threads that take chunks off a list."""
    connections = [connection_of(server, writer) for _ in range(CONNECTIONS)]
    for connection in connections:
        if work is by_copy:
            connection.execute(
                "CREATE TEMPORARY TABLE staged ON COMMIT DELETE ROWS AS "
                "SELECT id, text, vector FROM bench WITH NO DATA"
            )
    chunks: queue.SimpleQueue[Rows] = queue.SimpleQueue()
    for start in range(0, len(rows), CHUNK):
        chunks.put(rows[start : start + CHUNK])

    def loop(connection: Any) -> None:
        while True:
            try:
                chunk = chunks.get_nowait()
            except queue.Empty:
                connection.close()
                return
            work(connection, "bench", chunk)

    threads = [threading.Thread(target=loop, args=(c,)) for c in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def target_of(server: Postgres, writer: str, dimension: int, mode: str) -> PostgresTarget:
    """Our target."""
    settings, connection, kind = KINDS[writer]
    login = {"username": USER, "password": PASSWORD, "database": DATABASE}
    return PostgresTarget(
        settings.model_validate(
            {
                "table": "bench",
                "schemaCreateMode": mode,
                "ownsTarget": mode == "recreate",
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


def measure(store: str, dimension: int, n: int, rounds: int) -> Result:
    """The speeds of all sides."""
    server = running(Postgres)
    server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    target = functools.partial(target_of, server, store, dimension)
    loops = {"executemany": by_executemany, "copy": by_copy}
    if store == "postgresql":
        loops["unnest"] = by_unnest

    def before() -> None:
        target("recreate").prepare()
        server.execute("CHECKPOINT")

    return compare(
        store,
        dimension,
        make_rows(n, dimension),
        rounds,
        {
            "vecferry": lambda rows: write_all(target("ignore"), rows),
            **{k: functools.partial(by_loop, work, server, store) for k, work in loops.items()},
        },
        before,
        lambda: target("ignore").row_count(),
    )
