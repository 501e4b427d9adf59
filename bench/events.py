"""What events cost a run: a million rows from JSON lines into a writer that only counts.

Such a job has the least work a row, so events cost the greatest share of it. Runs with and without
``--events`` take turns, each in a process of its own. Prints the seconds of each turn, and the
median of their ratios.

Usage::

    python -m bench.events [--rows 1000000] [--times 5]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def write_job(folder: Path, rows: int) -> Path:
    """A job of so many rows, with its source beside it."""
    with (folder / "rows.jsonl").open("w") as file:
        for i in range(rows):
            file.write(f'{{"id":"r{i:07}","text":"row {i} tells of thing {i * 7}"}}\n')
    columns = [{"name": name, "type": "string"} for name in ("id", "text")]
    reader = {"datasource": "Here", "object": ["rows.jsonl"], "fileFormat": "jsonl"}
    steps = [
        {
            "stepType": "file",
            "category": "reader",
            "name": "Read",
            "parameter": {**reader, "column": columns},
        },
        {
            "stepType": "count",
            "category": "writer",
            "name": "Count",
            "parameter": {"column": ["id", "text"]},
        },
    ]
    job = folder / "job.json"
    job.write_text(json.dumps({"type": "job", "version": "2.0", "steps": steps}))
    sources = {"Here": {"type": "local", "path": str(folder)}}
    (folder / "sources.json").write_text(json.dumps(sources))
    return job


def run(job: Path, *, events: bool) -> tuple[float, float]:
    """Seconds of the run as its report tells them, and of CPU."""
    options = ["--events", str(job.parent / "events.jsonl")] if events else []
    before = os.times()
    done = subprocess.run(
        [
            sys.executable, "-m", "bench.events", "--run", "run", str(job), "--json", *options,
            "-d", str(job.parent / "sources.json"), "--rejects", str(job.parent / "rejects"),
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # user and system time of children
    return json.loads(done.stdout)["seconds"], cpu


def main() -> None:
    """Runs the turns and prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = write_job(Path(folder), arguments.rows)
        turns = []
        for _ in range(arguments.times):
            without, with_events = run(job, events=False), run(job, events=True)
            turns.append((*without, *with_events))
            print("without {:.2f} s, {:.2f} s CPU; with {:.2f} s, {:.2f} s CPU".format(*turns[-1]))
    seconds = statistics.median(w / o for o, _, w, _ in turns)
    cpu = statistics.median(w / o for _, o, _, w in turns)
    print(f"with events {100 * (seconds - 1):+.1f} % of time, {100 * (cpu - 1):+.1f} % of CPU")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        from vecferry.pipelines.cli import main as vecferry
        from vecferry.pipelines.registry import Kind, register

        classes = (f"bench.counting_sink:Count{name}" for name in ("Settings", "Target", "Rows"))
        register(Kind("count", "writer", *classes))
        vecferry(sys.argv[2:])
    else:
        main()
