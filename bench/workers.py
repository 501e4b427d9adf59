"""Two worker processes against one: rows a second, requests of an endpoint, memory.

The job reads JSON lines, takes two fields, embeds the text, and writes. It writes into a counter,
into PostgreSQL, or into a Milvus Lite file, to which the launcher writes. Of "packed", all lines
are in one gzip file. The launcher reads it for its workers, and the counter counts.

The vectors come from the model of the process, or from a test server. The server takes 100 ms for
10 inputs and answers in JSON floats, 64 in flight. Each run has a launcher process of its own, and
the sides take turns. The time runs from the first row that is read to the last one that is written,
as the launcher sees them. Memory is the proportional set size, at its peak, of the launcher and its
workers together. CPU is what all these processes took from start to end; it depends less than the
time on what else the machine does.

Usage::

    python -m bench.workers [--rows 100000] [--rounds 3] [--only count packed milvus]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from bench.embed_endpoint import BATCH, KEY, LATENCY, LATENCY_OPTION, endpoint, seen_by

sys.path.insert(0, str(Path(__file__).parent))

import counting_sink
import main_job

GOALS: dict[str, float | None] = {"count": 1.8, "packed": None, "postgresql": 1.6, "milvus": None}
ENDPOINT_GOAL, MEMORY_GOAL = 0.95, 2.2
IN_FLIGHT, DIMENSION = 64, 1024
SAMPLE_SECONDS = 0.1


def job_of(folder: Path, texts: Path, sink: str, url: str) -> Path:
    """A job file in `folder`, with its data sources."""
    if sink == "packed":
        packed = folder / "texts.jsonl.gz"
        packed.write_bytes(gzip.compress(texts.read_bytes(), 1))
        texts = packed
    path, sources = main_job.write_job(texts, "milvus" if sink == "milvus" else "count", folder)
    job: dict[str, Any] = json.loads(path.read_text())
    known = json.loads(sources.read_text())
    embed, writer = (s["parameter"] for s in job["steps"][2:])
    if sink == "endpoint":
        embed |= {
            "modelProvider": "openai", "modelName": "m", "endpoint": url, "apiKey": KEY,
            "batchSize": BATCH, "dimension": DIMENSION,
        }  # fmt: skip
        job["setting"] = {"speed": {"concurrent": IN_FLIGHT}}
    if sink == "postgresql":
        from tests.services.postgres import Postgres
        from tests.services.server import running

        server = running(Postgres)
        server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        known["Table"] = server.source
        job["steps"][3]["stepType"] = "postgresql"
        writer |= {
            "datasource": "Table", "table": f"b_{uuid.uuid4().hex[:8]}",
            "schemaCreateMode": "createIfNotExist",
            "column": [
                {"name": "id", "type": "varchar(64)", "primaryKey": "true"},
                {"name": "text", "type": "varchar"},
                {"name": "vector", "type": "vector", "dimension": str(main_job.DIMENSION),
                 "indexType": "none"},
            ],
        }  # fmt: skip
    sources.write_text(json.dumps(known))
    path.write_text(json.dumps(job))
    return path


def child(job: Path, workers: int) -> None:
    """One run with this process as its launcher; prints what it took as JSON."""
    from vecferry.pipelines.job.resolve import read_and_resolve
    from vecferry.pipelines.launch import run_job
    from vecferry.pipelines.run.options import RunOptions

    counting_sink.register()
    resolved = read_and_resolve(str(job), data_sources=str(job.parent / "datasources.yaml"))
    first = last = 0.0
    written = 0

    def look(state: Any, _: Any) -> None:
        nonlocal first, last, written
        counts = state.counts()
        if counts.get("rows-read") and not first:
            first = time.monotonic()
        if counts.get("rows-written", 0) > written:
            written, last = counts["rows-written"], time.monotonic()

    options = RunOptions(
        rejects=str(job.parent / "rejects"), preflight=False, poll_seconds=0.02, workers=workers
    )
    report = run_job(resolved, options, look)
    assert report.rows_written == report.rows_read == written, report
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = [resource.getrusage(who) for who in whose]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"rows": written, "seconds": last - first, "cpu": cpu}))


def memory(pid: int) -> float:
    """What a process and its children take now, in MB, shared pages by their shares."""
    total = 0
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (str(pid), *children):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0.0
    return total / 1024


def measure(texts: Path, sink: str, workers: int) -> dict[str, float]:
    """One run in a process of its own."""
    shape = [*LATENCY_OPTION, "--json-floats"]
    with tempfile.TemporaryDirectory() as folder, endpoint(*shape) as url:
        job = job_of(Path(folder), texts, sink, url)
        command = [sys.executable, "-m", "bench.workers", "--child", str(job), str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = 0.0

        def sample() -> None:
            nonlocal peak
            while process.poll() is None:
                peak = max(peak, memory(process.pid))
                time.sleep(SAMPLE_SECONDS)

        sampler = threading.Thread(target=sample)
        sampler.start()
        out, _ = process.communicate()
        sampler.join()
        if process.returncode:
            raise SystemExit(f"{sink} with {workers} workers failed")
        found: dict[str, float] = json.loads(out.splitlines()[-1])
        if sink == "endpoint":
            found["seconds"] = seen_by(url)["seconds"]
    found["peak_mb"] = peak
    return found


def compare(texts: Path, sink: str, rounds: int) -> bool:
    """Prints each run and the ratios; whether the goals are met."""
    speeds: dict[int, list[float]] = {1: [], 2: []}
    peaks: dict[int, list[float]] = {1: [], 2: []}
    for turn in range(rounds):
        for workers in (1, 2) if turn % 2 == 0 else (2, 1):
            found = measure(texts, sink, workers)
            speeds[workers].append(found["rows"] / found["seconds"])
            peaks[workers].append(found["peak_mb"])
            load = os.getloadavg()[0]
            print(
                f"  {sink:10} {workers}: {speeds[workers][-1]:8,.0f} rows/s, "
                f"{found['seconds']:6.1f} s, CPU {found['cpu']:6.1f} s, "
                f"peak {found['peak_mb']:,.0f} MB, load {load:.1f}",
                flush=True,
            )
    ratio = statistics.median(speeds[2]) / statistics.median(speeds[1])
    growth = statistics.median(peaks[2]) / statistics.median(peaks[1])
    met = growth <= MEMORY_GOAL
    print(f"{sink}: memory of 2 / 1 = {growth:.2f} (goal {MEMORY_GOAL})")
    if sink == "endpoint":
        ideal = IN_FLIGHT * BATCH / LATENCY
        shares = [f"{statistics.median(speeds[n]) / ideal:.3f}" for n in (1, 2)]
        print(f"{sink}: of the ideal with 1 and 2: {', '.join(shares)} (goal {ENDPOINT_GOAL})")
        return met and statistics.median(speeds[2]) / ideal >= ENDPOINT_GOAL
    goal = GOALS[sink]
    print(f"{sink}: 2 / 1 = {ratio:.2f} (goal {goal or 'none'})", flush=True)
    return met and (goal is None or ratio >= goal)


def main() -> None:
    """Reads the command line; exit status 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    sinks = [*GOALS, "endpoint"]
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sinks, default=sinks)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(Path(args.child[0]), int(args.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.jsonl"
        main_job.write_texts(texts, args.rows)
        print(f"{args.rows:,} rows, {texts.stat().st_size / 2**20:.0f} MB")
        met = [compare(texts, sink, args.rounds) for sink in args.only]
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
