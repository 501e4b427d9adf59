"""Rows a second of CPU that the reader of MySQL's change log gives, against mysql-replication.

Both read the same log of MySQL 8.0 in processes of their own, in turn. The log has 20,000
transactions of one row, 100,000 rows at 1,000 a statement, and one update of 60,000 rows. Each
row has six columns and a text of 200 letters. Prints rows a second of CPU, the least and the most,
and the ratio of medians.

    pip install mysql-replication==1.0.17
    python -m bench.cdc [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

from tests.services.mysql8 import Mysql8

TABLE = "bench"
COLUMNS = (
    "id BIGINT PRIMARY KEY AUTO_INCREMENT, title VARCHAR(100), body TEXT, price DECIMAL(10, 2), "
    "stock INT, made DATETIME(6)"
)
VALUES = "('a title', REPEAT('x', 200), 12.50, 7, '2024-01-02 03:04:05.123456')"
INSERT = f"INSERT INTO {TABLE} (title, body, price, stock, made) VALUES"
PARTS = {
    "20,000 transactions of one row": 20_000,
    "100,000 rows, 1,000 a statement": 100_000,
    "one update of 60,000 rows": 60_000,
}
BEAT = 1.0


def fill(server: Mysql8) -> list[tuple[str, int]]:
    """Writes the log; gives the places between its parts."""
    places = []
    with server.client() as connection, connection.cursor() as cursor:

        def note() -> None:
            cursor.execute("SHOW MASTER STATUS")
            file, offset = cursor.fetchone()[:2]
            places.append((file, offset))

        cursor.execute(f"CREATE TABLE {TABLE} ({COLUMNS})")
        note()
        for _ in range(20_000):
            cursor.execute(f"{INSERT} {VALUES}")
        note()
        for _ in range(100):
            cursor.execute(f"{INSERT} {', '.join([VALUES] * 1000)}")
        note()
        cursor.execute(f"UPDATE {TABLE} SET stock = stock + 1 ORDER BY id LIMIT 60000")
        note()
    return places


def ours(source: dict[str, Any], begin: tuple[str, int], end: tuple[str, int]) -> int:
    """vecferry's reader from one place to another; gives the rows."""
    from vecferry.io.mysql import MySqlConnection
    from vecferry.io.mysql_cdc.columns import Columns
    from vecferry.io.mysql_cdc.log import Committed, LogReader, Rows
    from vecferry.io.mysql_cdc.place import Place
    from vecferry.io.mysql_cdc.stream import BinlogStream

    connection = MySqlConnection.model_validate(source)
    wanted, last, rows = Columns(), Place(*end), 0
    stream = BinlogStream(connection, since=Place(*begin), heartbeat_seconds=BEAT)
    for item in LogReader(stream, lambda schema, table: wanted if table == TABLE else None):
        if type(item) is Rows:
            for _ in item.rows():
                rows += 1
        elif type(item) is Committed and item.place >= last:
            stream.close()
            return rows
    raise AssertionError("the log ended early")


def theirs(source: dict[str, Any], begin: tuple[str, int], end: tuple[str, int]) -> int:
    """The same with mysql-replication."""
    from pymysqlreplication import BinLogStreamReader
    from pymysqlreplication.row_event import UpdateRowsEvent, WriteRowsEvent

    reader = BinLogStreamReader(
        connection_settings={
            "host": source["host"],
            "port": source["port"],
            "user": source["username"],
            "passwd": source["password"],
        },
        server_id=4711,
        log_file=begin[0],
        log_pos=begin[1],
        resume_stream=True,
        blocking=True,
        only_events=[WriteRowsEvent, UpdateRowsEvent],
        only_tables=[TABLE],
        slave_heartbeat=BEAT,
    )
    rows, wanted = 0, expected(end)
    for event in reader:
        rows += len(event.rows)
        if rows == wanted:
            break
    reader.close()
    return rows


def expected(end: tuple[str, int]) -> int:
    """How many rows lie before a place, as the parent told."""
    return int(dict(map(tuple, json.loads(sys.argv[-1])))[end[1]])


def run(what: str, job: dict[str, Any], counts: list[tuple[int, int]]) -> dict[str, Any]:
    """Runs one of the two in a process of its own; gives rows and seconds of CPU."""
    command = [sys.executable, "-m", "bench.cdc", "--child", what, json.dumps(counts)]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child(what: str) -> None:
    """What `run` starts: the job comes on standard input. The imports do not count."""
    job = json.load(sys.stdin)
    read = {"vecferry": ours, "mysql-replication": theirs}[what]
    warm = [tuple(p) for p in job["warm"]]
    read(job["source"], warm[0], warm[1])
    began = time.process_time()
    rows = read(job["source"], tuple(job["begin"]), tuple(job["end"]))
    print(json.dumps({"rows": rows, "seconds": time.process_time() - began}))


def main() -> None:
    """Starts the server, measures, stops it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("counts", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    server = Mysql8()
    server.install()
    server.prepare()
    server.start()
    try:
        measure(server, options.runs)
    finally:
        server.stop()
        server.remove()


def measure(server: Mysql8, runs: int) -> None:
    """Prints the table."""
    places = fill(server)
    counts = [(end[1], rows) for end, rows in zip(places[1:], PARTS.values(), strict=True)]
    print(f"{'':34}{'vecferry':>22}{'mysql-replication':>22}  ratio")
    for at, (title, rows) in enumerate(PARTS.items()):
        rates: dict[str, list[float]] = {"vecferry": [], "mysql-replication": []}
        job = {"source": server.source, "begin": places[at], "end": places[at + 1]}
        for _ in range(runs):
            for what, found in rates.items():
                result = run(what, {**job, "warm": [places[0], places[1]]}, counts)
                assert result["rows"] == rows
                found.append(rows / result["seconds"])
        shown = [f"{min(r):,.0f}-{max(r):,.0f}" for r in rates.values()]
        ratio = statistics.median(rates["vecferry"]) / statistics.median(rates["mysql-replication"])
        print(f"{title:34}{shown[0]:>22}{shown[1]:>22}  {ratio:.1f}")


if __name__ == "__main__":
    main()
