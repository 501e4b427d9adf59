"""What it costs to follow a folder of many short files: a round without changes, and one of a file.

Usage::

    python -m bench.folder                     1,000,000 files
    python -m bench.folder --files 200000

The files are made once, a thousand in a folder. The list of them is taken as read (`position set
now`), so nothing is loaded. Each figure is of a process of its own, from the start of the sync to
its report. The target is in memory, and no step makes vectors.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.contracts import sync_memory
from tests.contracts.sync_memory import held
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import ResolvedJob, read_and_resolve
from vecferry.pipelines.launch import open_run
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.positions import positions_of
from vecferry.pipelines.run.requests import set_position
from vecferry.pipelines.run.sync import follow
from vecferry.positions.holder import Holder
from vecferry.positions.requests import Request

SECONDS_GOAL, MEGABYTES_GOAL = 30.0, 300.0
IN_A_FOLDER = 1000
NAME = "bench"


def file(folder: Path, n: int) -> Path:
    """One of the files."""
    return folder / "files" / f"{n // IN_A_FOLDER:05d}" / f"note-{n % IN_A_FOLDER:04d}.json"


def make(folder: Path, files: int) -> Path:
    """The files, and the job that follows them."""
    for n in range(files):
        path = file(folder, n)
        if n % IN_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_text(f'{{"text": "note {n}"}}')
    reader = {
        "datasource": "Files",
        "object": "**/*.json",
        "fileFormat": "json",
        "column": [{"name": "id", "from": "fileName"}, "text"],
        "scanMode": "full-then-incremental",
    }
    writer = {"name": NAME, "column": ["id", "text"]}
    job = {
        "name": "folder",
        "steps": [
            {"stepType": "file", "category": "reader", "parameter": reader},
            {"stepType": "held", "category": "writer", "parameter": writer},
        ],
        "setting": {"positions": str(folder / "positions")},
    }
    sources = {"Files": {"type": "local", "path": str(folder / "files")}}
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "sources.json").write_text(json.dumps(sources))
    return folder / "job.json"


def resolved(job: Path) -> ResolvedJob:
    """The job with its data sources."""
    for kind in sync_memory.KINDS:
        registry.register(kind)
    return read_and_resolve(str(job), data_sources=str(job.parent / "sources.json"))


def take_as_read(job: Path) -> str:
    """Takes all files as read."""
    read = resolved(job)
    positions, logic = positions_of(read), JobLogic(read, "bench")
    source = logic.change_source
    given = {"at": source.end(), "identity": source.identity()}
    with positions.take(Holder(run="bench")) as lease:
        set_position(lease, logic, Request(kind="set", arguments=given, asked_by="bench"))
    return f"{given['at']['files']:,} files listed"


def run_once(job: Path) -> str:
    """One run of the sync."""
    read = resolved(job)
    positions = positions_of(read)
    stored = positions.load()
    assert stored is not None
    assert stored.position is not None
    held(NAME).epoch = stored.position.epoch
    options = RunOptions(rejects=str(job.parent / "rejects"), preflight=False)
    report = follow(open_run(read, options), positions, lambda *_: None)
    assert report.state == "DONE", report.error
    return f"{report.rounds} rounds, {report.rows_read} rows"


def peak() -> float:
    """The most megabytes that this process had; `ru_maxrss` would also tell of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measured(what: str, job: Path) -> tuple[float, float]:
    """Seconds and megabytes of one step in a process of its own; prints them."""
    line = [sys.executable, "-m", "bench.folder", "--step", what, "--job", str(job)]
    told = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE).stdout)
    print(
        f"{what:12} {told['seconds']:8.1f} s {told['cpu']:8.1f} s of CPU "
        f"{told['megabytes']:6.0f} MB  {told['text']}",
        flush=True,
    )
    return told["seconds"], told["megabytes"]


def main() -> None:
    """Makes the files, and measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--step", choices=("list", "unchanged", "one", "thousand"))
    parser.add_argument("--job", type=Path)
    given = parser.parse_args()
    if given.step:
        began = time.monotonic()
        text = (take_as_read if given.step == "list" else run_once)(given.job)
        seconds = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime
        told = {"seconds": seconds, "cpu": cpu, "megabytes": peak(), "text": text}
        print(json.dumps(told))
        return
    with tempfile.TemporaryDirectory() as folder:
        job = make(Path(folder), given.files)
        measured("list", job)
        seconds, megabytes = measured("unchanged", job)
        file(Path(folder), given.files // 2).write_text('{"text": "changed"}')
        measured("one", job)
        for n in range(0, given.files, max(1, given.files // 1000)):
            file(Path(folder), n).write_text('{"text": "changed again"}')
        measured("thousand", job)
        kept = [path.stat().st_size for path in (Path(folder) / "positions").iterdir()]
        print(f"{len(kept)} names of {sum(kept) / 2**20:.1f} MB beside the positions")
    missed = seconds > SECONDS_GOAL or megabytes > MEGABYTES_GOAL
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
