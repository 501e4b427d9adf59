"""The file reader against a plain loop over the same library that yields one dict a row.

Usage::

    python bench/sources.py            rows/s side by side, for jsonl, csv and parquet
    python bench/sources.py --cpu      µs of CPU time a row of the reader, all threads counted
    python bench/sources.py --memory   peak of resident memory while 100 MB and 2 GB are read
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from vecferry.io.files import FilesSettings, LocalConnection
from vecferry.io.files.source import FileSource
from vecferry.steps import StepContext

WIDTHS = {
    "100 B": ("Hangzhou, by the lake", 300_000),
    "1.5 KB": ("A walk by the lake. " * 72, 60_000),
}
RUNS = 9
FORMATS = ("jsonl", "csv", "parquet")


def rows(text: str, count: int, first: int = 0) -> list[dict[str, Any]]:
    """Rows of four columns."""
    return [
        {"id": i, "title": f"Route {i}", "score": i / 8, "text": f"{text} {i}"}
        for i in range(first, first + count)
    ]


def encoded(kind: str, table: list[dict[str, Any]]) -> bytes:
    """The rows as the records of a jsonl or csv file."""
    if kind == "jsonl":
        return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in table)
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(row.values() for row in table)
    return lines.getvalue().encode()


def write(kind: str, path: Path, text: str, count: int) -> None:
    """A file of so many rows."""
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows(text, count)), path, row_group_size=20_000)
        return
    header = b"id,title,score,text\n" if kind == "csv" else b""
    path.write_bytes(header + encoded(kind, rows(text, count)))


def loop_jsonl(path: Path) -> Iterator[Any]:
    """orjson over lines."""
    loads = orjson.loads
    with path.open("rb") as file:
        for line in file:
            yield loads(line)


def loop_csv(path: Path) -> Iterator[Any]:
    """pyarrow.csv, a batch at a time."""
    with pyarrow.csv.open_csv(path) as batches:
        for batch in batches:
            yield from batch.to_pylist()


def loop_parquet(path: Path) -> Iterator[Any]:
    """pyarrow.parquet, a batch at a time."""
    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


LOOPS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "jsonl": loop_jsonl,
    "csv": loop_csv,
    "parquet": loop_parquet,
}


def ours(path: Path) -> Iterator[Any]:
    """The reader alone; its splits in turn."""
    kind = path.suffix[1:]
    job = {"path": path.name, "fileFormat": kind, "skipHeader": kind == "csv"}
    reader = FileSource(
        FilesSettings.model_validate(job),
        LocalConnection(path=str(path.parent)),
        StepContext(step="Reader", step_type="file"),
    )
    return itertools.chain.from_iterable(map(reader.read, reader.plan().splits))


def seconds(read: Callable[[Path], Iterator[Any]], path: Path, count: int) -> tuple[float, float]:
    """How long all rows take, and how much processor time of all threads."""
    started, used = time.perf_counter(), time.process_time()
    n = sum(1 for _ in read(path))
    assert n == count, f"{n} rows of {count}"
    return time.perf_counter() - started, time.process_time() - used


def speed(folder: Path, only: str | None) -> None:
    """A line for each format and width: medians of runs in turn, and their ratios."""
    print(f"{'':14}{'loop, rows/s':>14}{'reader, rows/s':>16}{'ratio':>8}{'of CPU time':>13}")
    for kind in [only] if only else FORMATS:
        for width, (text, count) in WIDTHS.items():
            path = folder / f"rows.{kind}"
            write(kind, path, text, count)
            runs = [
                (*seconds(LOOPS[kind], path, count), *seconds(ours, path, count))
                for _ in range(RUNS)
            ]
            loop, loop_cpu, reader, reader_cpu = (
                statistics.median(column) for column in zip(*runs, strict=True)
            )
            print(
                f"{kind:8}{width:8}{count / loop:12,.0f}{count / reader:16,.0f}",
                f"{loop / reader:7.2f}{loop_cpu / reader_cpu:13.2f}",
                flush=True,
            )


def processor(folder: Path, only: str | None) -> None:
    """A line for each format and width: wall clock and processor time a row, medians of runs."""
    print(f"pyarrow {pa.__version__}", f"{'µs a row':>12}{'of processor time':>20}")
    for kind in [only] if only else FORMATS:
        for width, (text, count) in WIDTHS.items():
            path = folder / f"rows.{kind}"
            write(kind, path, text, count)
            runs = [seconds(ours, path, count) for _ in range(RUNS)]
            wall, used = (1e6 * statistics.median(c) / count for c in zip(*runs, strict=True))
            print(f"{kind:8}{width:8}{wall:12.2f}{used:20.2f}", flush=True)


def write_large(kind: str, path: Path, size: int) -> int:
    """A file of about `size` bytes; gives the number of its rows."""
    table = rows(WIDTHS["1.5 KB"][0], 10_000)
    if kind == "parquet":
        group = pa.Table.from_pylist(table)
        with pq.ParquetWriter(path, group.schema, compression="none", use_dictionary=False) as out:
            count = 0
            while path.stat().st_size < size:
                out.write_table(group)
                count += len(table)
        return count
    block, count = encoded(kind, table), 0
    with path.open("wb") as out:
        out.write(b"id,title,score,text\n" if kind == "csv" else b"")
        while out.tell() < size:
            out.write(block)
            count += len(table)
    return count


def _peak(path: Path, count: int, answer: Any) -> None:
    seconds(ours, path, count)
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def memory(folder: Path, only: str | None) -> None:
    """A line for each format: the peaks of a process that reads the file and nothing else."""
    print(f"{'':8}{'100 MB':>10}{'2 GB':>10}{'ratio':>8}")
    spawn = multiprocessing.get_context("spawn")
    for kind in [only] if only else FORMATS:
        peaks = []
        for size in (100 << 20, 2 << 30):
            path = folder / f"large.{kind}"
            count = write_large(kind, path, size)
            answer = spawn.Queue()
            child = spawn.Process(target=_peak, args=(path, count, answer))
            child.start()
            peaks.append(answer.get())
            child.join()
            path.unlink()
        small, large = peaks
        print(f"{kind:8}{small:7} MB{large:7} MB{large / small:8.2f}", flush=True)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--memory", action="store_true")
    what.add_argument("--cpu", action="store_true")
    parser.add_argument("--format", choices=FORMATS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure = memory if args.memory else processor if args.cpu else speed
        measure(Path(folder), args.format)


if __name__ == "__main__":
    main()
