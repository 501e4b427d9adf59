"""How fast and in how much memory a MaxCompute table is read, beside a plain loop over pyodps.

``python bench/source_odps.py`` prints rows/s of both over the same table, in turns, and their
ratio. ``--memory`` reads 100 MB and 2 GB, each in a process of its own, and prints the peak of its
resident memory. The server is that of the tests, in another process on this machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, contextmanager

from odps import ODPS
from odps.tunnel import TableTunnel

from vecferry.io.odps import OdpsConnection, OdpsSettings
from vecferry.io.odps.source import OdpsSource
from vecferry.steps import StepContext

ROW_BYTES = 130
"""About what a row of the table `wide` takes in Arrow."""

COLUMNS = ["id", "text", "price", "seen"]


@contextmanager
def server(rows: int):
    """A server with so many rows; gives its endpoint."""
    command = [sys.executable, "-m", "tests.io.odps.server", "--rows", str(rows)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate()


def batches(endpoint: str) -> int:
    """What comes before any row: record batches, received and checked."""
    with opened(endpoint) as reader:
        return sum(batch.num_rows for batch in reader)


def opened(endpoint: str):
    """pyodps' Arrow reader of the whole table."""
    odps = ODPS("id-of-the-test", "key-of-the-test", "shop", endpoint, overwrite_global=False)
    session = TableTunnel(odps).create_download_session("wide", partition_spec="ds=1")
    return closing(session.open_arrow_reader(0, session.count, columns=COLUMNS))


def plain(endpoint: str) -> int:
    """The loop of a script: a dict for each row of each record batch."""
    n = 0
    with opened(endpoint) as reader:
        for batch in reader:
            for _row in batch.to_pylist():
                n += 1
    return n


def ours(endpoint: str) -> int:
    """The reader of the step, without Beam."""
    reader = OdpsSource(
        OdpsSettings(table="wide", partition=("ds=1",), column=COLUMNS, splitMode="partition"),
        OdpsConnection(
            endpoint=endpoint, project="shop", accessId="id-of-the-test",
            accessKey="key-of-the-test",
        ),
        StepContext(step="Reader", step_type="odps"),
    )  # fmt: skip
    n = 0
    for split in reader.plan().splits:
        for _row in reader.read(split):
            n += 1
    return n


def rate(read: Callable[[str], int], endpoint: str) -> float:
    """Rows a second."""
    started = time.perf_counter()
    return read(endpoint) / (time.perf_counter() - started)


def speed(rows: int, rounds: int) -> None:
    """Prints the rows/s of each, measured in turns."""
    ways = {"pyodps, no rows": batches, "pyodps, to_pylist": plain, "OdpsReader": ours}
    with server(rows) as endpoint:
        rates = [[rate(read, endpoint) for read in ways.values()] for _ in range(rounds)]
    for name, column in zip(ways, zip(*rates, strict=True), strict=True):
        print(f"{name:20} {statistics.median(column):>12,.0f} rows/s  of {rows:,} rows")
    ratio = statistics.median(ours / plain for _, plain, ours in rates)
    print(f"{'ratio':20} {ratio:>12.2f}")


def memory() -> None:
    """Prints the peak of the resident memory after 100 MB and after 2 GB."""
    for megabytes in (100, 2000):
        rows = megabytes * 1_000_000 // ROW_BYTES
        with server(rows) as endpoint:
            done = subprocess.run(
                [sys.executable, __file__, "--read", endpoint], capture_output=True, text=True,
                check=True,
            )  # fmt: skip
        print(f"{megabytes:>5} MB, {rows:>10,} rows: {done.stdout.strip()}")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        ours(arguments.read)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{peak:,.0f} MB resident at most")
    elif arguments.memory:
        memory()
    else:
        speed(arguments.rows, arguments.rounds)


if __name__ == "__main__":
    main()
