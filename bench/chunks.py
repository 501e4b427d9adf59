"""The whole way of documents: files, chunks, the model in the process, PostgreSQL; against a loop.

Usage::

    python -m bench.chunks [--megabytes 20] [--runs 3]

The documents are Markdown, the pages of docs/, each made longer to about 40 kB. The loop is what
one would write by hand over the same libraries. It reads a file and cuts it with
semantic-text-splitter. It embeds 512 chunks at a time with wordllama, and upserts them with
psycopg, by COPY into a temporary table. Each side is a process of its own, from its start to its
end. The seconds of CPU are those of the process and its children, without the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.splitting import documents
from tests.services.postgres import Postgres
from tests.services.server import running

SIDES = ("loop", "vecferry")
SIZE, DIMENSION, AT_ONCE = 1000, 256, 512
FIELDS = ("chunk_id", "path", "chunk_index", "chunk", "vector")
TABLE = (
    "CREATE TABLE chunks (chunk_id text PRIMARY KEY, path text, chunk_index bigint, chunk text, "
    "vector vector(256))"
)


def job_of(folder: Path, source: dict[str, Any]) -> Path:
    """The job that goes the whole way, beside its data sources."""
    reader = {"datasource": "Files", "object": "**", "fileFormat": "document"}
    reader |= {"column": ["path", "text"]}
    split = {"sourceColumnName": "text", "chunkSize": SIZE, "by": "markdown"}
    made = {"sourceColumnNames": ["chunk"], "embeddingColumnName": "vector"}
    writer = {"datasource": "Store", "table": "chunks", "column": [{"name": n} for n in FIELDS]}
    writer |= {"parentKey": ["path"]}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("file", "reader", reader),
        ("text-splitting", "flatmap", split),
        (
            "embedding-transformer",
            "map",
            {"modelProvider": "local", "embeddingColumns": made},
        ),
        ("postgresql", "writer", writer),
    ]
    job = {
        "name": "chunks",
        "steps": [{"stepType": k, "category": c, "parameter": p} for k, c, p in steps],
    }
    sources = {"Files": {"type": "local", "path": str(folder / "files")}, "Store": source}
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "sources.json").write_text(json.dumps(sources))
    return folder / "job.json"


def ours(folder: Path) -> None:
    """A run, as the command line does it."""
    from vecferry.pipelines import cli

    line = ["run", str(folder / "job.json"), "-d", str(folder / "sources.json")]
    sys.exit(cli.main([*line, "--rejects", str(folder / "rejects")]))


def loop(folder: Path) -> None:
    """The same by hand."""
    import psycopg
    import semantic_text_splitter
    import wordllama

    place = os.path.dirname(wordllama.__file__)
    model = wordllama.WordLlama.load(cache_dir=place, disable_download=True)
    splitter = semantic_text_splitter.MarkdownSplitter(SIZE)
    source = json.loads((folder / "sources.json").read_text())["Store"]
    given = {"host": source["host"], "port": source["port"], "dbname": source["database"]}
    given |= {"user": source["username"], "password": source["password"]}
    with psycopg.connect(**given) as connection:
        connection.execute("CREATE TEMPORARY TABLE part (LIKE chunks)")
        part: list[tuple[str, str, int, str]] = []
        for row in rows(folder / "files", splitter):
            part.append(row)
            if len(part) >= AT_ONCE:
                write(connection, part, model)
                part = []
        write(connection, part, model)


def rows(folder: Path, splitter: Any) -> Iterator[tuple[str, str, int, str]]:
    """The chunks of all files."""
    for path in sorted(folder.iterdir()):
        name = path.name
        for index, (_, chunk) in enumerate(splitter.chunk_indices(path.read_text("utf-8"))):
            yield f"{name}#{index}", name, index, chunk


def write(connection: Any, part: list[tuple[str, str, int, str]], model: Any) -> None:
    """Embeds and upserts some chunks, in a transaction."""
    if not part:
        return
    vectors = model.embed([row[3] for row in part]).astype(">f4")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE part")
        with cursor.copy("COPY part FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
            for row, vector in zip(part, vectors, strict=True):
                cells = [row[0].encode(), row[1].encode(), struct.pack("!q", row[2])]
                cells += [row[3].encode(), struct.pack("!HH", DIMENSION, 0) + vector.tobytes()]
                framed = [struct.pack("!i", len(cell)) + cell for cell in cells]
                copy.write(struct.pack("!h", len(cells)) + b"".join(framed))
            copy.write(b"\xff\xff")
        cursor.execute(
            "INSERT INTO chunks SELECT * FROM part ON CONFLICT (chunk_id) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in FIELDS[1:])
        )
    connection.commit()


def measured(side: str, folder: Path, server: Postgres) -> tuple[float, float, int]:
    """Seconds, seconds of CPU, and how many chunks are there then."""
    server.execute("DROP TABLE IF EXISTS chunks")
    server.execute(TABLE)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    line = [sys.executable, "-m", "bench.chunks", "--side", side, "--folder", str(folder)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with server.client() as client:
        count = client.execute("SELECT count(*) FROM chunks").fetchone()[0]
    return seconds, cpu, count


def main() -> None:
    """Prints a line for each side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.side:
        (loop if given.side == "loop" else ours)(given.folder)
        return
    server = running(Postgres)
    server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        (folder / "files").mkdir()
        for number, text in enumerate(documents(int(given.megabytes * 1e6))):
            (folder / "files" / f"{number:06d}.md").write_text(text, encoding="utf-8")
        job_of(folder, server.source)
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        cpu: dict[str, list[float]] = {side: [] for side in SIDES}
        counts: set[int] = set()
        for _ in range(given.runs):
            for side in SIDES:
                took, used, count = measured(side, folder, server)
                seconds[side].append(took)
                cpu[side].append(used)
                counts.add(count)
        assert len(counts) == 1, counts
        for side in SIDES:
            took, used = statistics.median(seconds[side]), statistics.median(cpu[side])
            print(
                f"{side:10} {took:7.1f} s {used:7.1f} s of CPU  {min(counts) / took:8,.0f} rows/s"
            )
        ratio = statistics.median(seconds["loop"]) / statistics.median(seconds["vecferry"])
        of_cpu = statistics.median(cpu["loop"]) / statistics.median(cpu["vecferry"])
        print(f"vecferry has {ratio:.2f} of the loop's speed, {of_cpu:.2f} by CPU (asked: 0.9)")


if __name__ == "__main__":
    main()
