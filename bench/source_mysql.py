"""Rows a second that the readers of tables give, against plain loops over their clients.

Each row is a dict on both sides. The plain loop over MySQL is PyMySQL's SSDictCursor, the one over
PostgreSQL a server-side cursor of psycopg with dict_row. The servers are those of the tests; both
programs run in turn in processes of their own. `--memory` prints the peak of resident memory for
100 MB and for 2 GB of table data instead. Prints ratios.

    python -m bench.source_mysql [--rows 400000] [--runs 3]
    python -m bench.source_mysql --memory
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from tests.services.mysql8 import Mysql8
from tests.services.postgres import Postgres

SERVERS = {"mysql": Mysql8, "postgresql": Postgres}
TABLE = "bench"
COLUMNS = {
    "mysql": "id BIGINT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(100), body TEXT, "
    "price DECIMAL(10, 2), stock INT, made DATETIME(6)",
    "postgresql": "id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title VARCHAR(100), "
    "body TEXT, price NUMERIC(10, 2), stock INT, made TIMESTAMP",
}
INSERT = f"INSERT INTO {TABLE} (title, body, price, stock, made)"


def fill(server: Any, kind: str, rows: int, body: int) -> None:
    """Makes the table: `rows` rows with a text of `body` letters."""
    server.execute(f"DROP TABLE IF EXISTS {TABLE}", f"CREATE TABLE {TABLE} ({COLUMNS[kind]})")
    if kind == "postgresql":
        source = f"generate_series(1, {rows})"
        values = f"'a title', REPEAT('x', {body}), 12.50, 7, '2024-01-02 03:04:05.123456'"
        server.execute(f"{INSERT} SELECT {values} FROM {source}", f"ANALYZE {TABLE}")
        return
    first = min(rows, 2000)
    values = f"('a title', REPEAT('x', {body}), 12.50, 7, '2024-01-02 03:04:05.123456')"
    server.execute(f"{INSERT} VALUES {', '.join([values] * first)}")
    done = first
    while done < rows:
        more = min(done, rows - done, 100_000_000 // body)
        columns = "title, body, price, stock, made"
        server.execute(f"{INSERT} SELECT {columns} FROM {TABLE} ORDER BY id LIMIT {more}")
        done += more
    server.execute(f"ANALYZE TABLE {TABLE}")


def plain(source: dict[str, Any]) -> int:
    """The plain loop; gives the rows."""
    login = {"host": source["host"], "port": source["port"], "user": source["username"]}
    sql = f"SELECT * FROM {TABLE}"
    if source["type"] == "mysql":
        import pymysql

        mysql = pymysql.connect(
            **login,
            password=source["password"],
            database=source["database"],
            cursorclass=pymysql.cursors.SSDictCursor,
        )
        with mysql.cursor() as cursor:
            cursor.execute(sql)
            return sum(1 for _ in cursor)
    import psycopg
    from psycopg.rows import dict_row

    database, password = source["database"], source["password"]
    with (
        psycopg.connect(**login, password=password, dbname=database) as connection,
        connection.cursor("bench", row_factory=dict_row) as named,
    ):
        named.itersize = 1000
        named.execute(sql)
        return sum(1 for _ in named)


def reader(source: dict[str, Any]) -> int:
    """vecferry's reader, over all of its splits; gives the rows."""
    from vecferry.pipelines.registry import connections, kind_of, load
    from vecferry.steps import StepContext

    kind = kind_of(source["type"], "reader")
    settings = load(kind.settings).model_validate({"table": TABLE})
    connection = load(connections()[source["type"]].settings).model_validate(source)
    context = StepContext(step="Reader", step_type=source["type"])
    made = load(str(kind.logic))(settings, connection, context)
    return sum(1 for split in made.plan().splits for _ in made.read(split))


def run(what: str, source: dict[str, Any]) -> dict[str, Any]:
    """Runs one of the two in a process of its own; gives rows, seconds and peak memory in MB."""
    command = [sys.executable, "-m", "bench.source_mysql", "--child", what]
    done = subprocess.run(
        command, input=json.dumps(source), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child(what: str) -> None:
    """What `run` starts: the source comes on standard input."""
    source = json.load(sys.stdin)
    began = time.monotonic()
    rows = {"plain": plain, "reader": reader}[what](source)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "peak": peak}))


def speed(server: Any, kind: str, rows: int, runs: int) -> None:
    """Prints rows a second of both, and their ratio: medians of runs in turn."""
    fill(server, kind, rows, 200)
    rates: dict[str, list[float]] = {"plain": [], "reader": []}
    for _ in range(runs):
        for what, found in rates.items():
            result = run(what, server.source)
            assert result["rows"] == rows
            found.append(rows / result["seconds"])
    loop, ours = (statistics.median(rates[what]) for what in ("plain", "reader"))
    print(f"{kind}: loop {loop:,.0f} rows/s, reader {ours:,.0f} rows/s, ratio {ours / loop:.2f}")


def memory(server: Any, kind: str) -> None:
    """Prints the reader's peak of resident memory for a small and a large table."""
    for rows in (50_000, 1_000_000):
        fill(server, kind, rows, 2000)
        result = run("reader", server.source)
        assert result["rows"] == rows
        print(f"{kind}: {rows * 2000 / 1e6:,.0f} MB of texts, peak {result['peak']:.0f} MB")


def main() -> None:
    """Starts each server, measures, stops it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", choices=tuple(SERVERS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child)
    for kind, make in SERVERS.items():
        if options.only not in (None, kind):
            continue
        server = make()
        try:
            server.install()
            server.prepare()
            server.start()
            if options.memory:
                memory(server, kind)
            else:
                speed(server, kind, options.rows, options.runs)
        finally:
            server.stop()
            server.remove()
    return None


if __name__ == "__main__":
    main()
