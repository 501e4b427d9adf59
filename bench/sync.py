"""What a sync costs: memory over many rounds, CPU of a round, time from a commit to its vector.

Usage::

    python -m bench.sync --memory     10,000 rounds in one process, a full cache of vectors
    python -m bench.sync --cpu        CPU seconds a round, with 20 rows and without any
    python -m bench.sync --latency    200 and 1,000 changes a second, 20 ms a request
    python -m bench.sync              all three

The source is the scripted one of `vecferry.testing`, the target is in memory: what is measured is
the loop, the graph and the steps. For latency, a writer in a process of its own commits one change
at a time. The store notes the moment at which it has acknowledged a change. The
endpoint is a process of its own as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from bench.embed_endpoint import endpoint
from tests.contracts import sync_memory
from tests.contracts.sync_memory import held
from vecferry.pipelines import registry
from vecferry.pipelines.job.resolve import read_and_resolve
from vecferry.pipelines.launch import open_run
from vecferry.pipelines.run.options import RunOptions
from vecferry.pipelines.run.positions import positions_of
from vecferry.pipelines.run.report import Report
from vecferry.pipelines.run.sync import OnStep, Step, follow
from vecferry.testing.scripted import KINDS, ScriptedTable

MEMORY_GOAL, CPU_GOAL, EMPTY_CPU_GOAL = 1.05, 0.05, 0.04
LATENCY_GOALS = {"p50": 0.2, "p99": 0.4}
DIMENSION = 256
CACHE_BYTES = 8 << 20
"""Of the cache in memory, which is full after a twentieth of the rounds of `--memory`."""


class Enough(Exception):
    """Ends a sync from within a step of its loop."""


def job(folder: Path, endpoint: str, **setting: Any) -> tuple[Path, str]:
    """A job of a scripted table into memory, and the name of its target."""
    name = uuid.uuid4().hex
    embed = {
        "modelProvider": "openai",
        "modelName": "m",
        "endpoint": endpoint,
        "apiKey": "sk-test",
        "dimension": DIMENSION,
        "cacheBytes": CACHE_BYTES,
        "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
    }
    steps = [
        ("scripted", "reader", {"path": str(folder / "table"), "roundRows": 1000}),
        ("embedding-transformer", "flatmap", embed),
        ("held", "writer", {"name": name, "column": ["id", "text", "vector"]}),
    ]
    definition = {
        "steps": [
            {"stepType": kind, "category": category, "name": kind, "parameter": parameter}
            for kind, category, parameter in steps
        ],
        "setting": {"positions": str(folder / "positions"), **setting},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(definition))
    return path, name


def run(path: Path, on_step: OnStep) -> Report | None:
    """Follows the table until a step says that it is enough."""
    for kind in (*KINDS, *sync_memory.KINDS):
        registry.register(kind)
    resolved = read_and_resolve(str(path))
    options = RunOptions(continuous=True, preflight=False, rejects=str(path.parent / "rejects"))
    try:
        return follow(open_run(resolved, options), positions_of(resolved), lambda *_: None, on_step)
    except Enough:
        return None


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def memory(rounds: int) -> dict[str, Any]:
    """Memory after a tenth of the rounds, and after all of them; 20 rows of new texts each."""
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        path, target = job(folder, url, pauseSeconds=0, pollSeconds=0.001)
        table = ScriptedTable(folder / "table")
        seen: list[tuple[int, float]] = []
        done = [0]

        def on_step(step: Step) -> None:
            if step == "span":
                number = done[0]
                table.append(
                    *(
                        {"op": "insert", "row": {"id": f"k{n}", "text": f"text {number} {n}"}}
                        for n in range(20)
                    )
                )
            if step == "stored":
                done[0] += 1
                if done[0] in (rounds // 10, rounds):
                    seen.append((done[0], resident()))
                if done[0] == rounds:
                    raise Enough

        run(path, on_step)
        assert len(held(target).there()) == 20
    (_, early), (_, late) = seen
    return {
        "rounds": rounds,
        "MiB early": round(early, 1),
        "MiB late": round(late, 1),
        "ratio": round(late / early, 3),
        "goal": MEMORY_GOAL,
    }


def cpu_of_a_round(rounds: int, rows: int) -> dict[str, Any]:
    """CPU seconds a round; without rows each round reads a change that is dropped at once.

    A sync runs no round where nothing has changed, so the round without rows reads one delete of a
    row that is not there.
    """
    with tempfile.TemporaryDirectory() as name, endpoint() as url:
        folder = Path(name)
        path, _ = job(folder, url, pauseSeconds=0, pollSeconds=0.001)
        table = ScriptedTable(folder / "table")
        marks: list[float] = []
        texts = [f"a text of {n}" for n in range(20)]

        def on_step(step: Step) -> None:
            if step == "span" and rows:
                table.append(
                    *(
                        {"op": "update", "row": {"id": f"k{n}", "text": texts[n]}}
                        for n in range(rows)
                    )
                )
            elif step == "span":
                table.delete("nobody")
            if step == "stored":
                marks.append(cpu())
                if len(marks) == rounds + 5:
                    raise Enough

        run(path, on_step)
    each = [b - a for a, b in itertools.pairwise(marks[5:])]
    return {
        "rows": rows,
        "CPU s a round": round(statistics.mean(each), 4),
        "goal": CPU_GOAL if rows else EMPTY_CPU_GOAL,
    }


def _write(folder: str, rate: int, seconds: float) -> None:
    """Commits one change at a time, evenly; the text tells when."""
    table = ScriptedTable(folder)
    begun = time.monotonic()
    for n in range(int(rate * seconds)):
        due = begun + n / rate
        time.sleep(max(0.0, due - time.monotonic()))
        table.insert({"id": f"k{n}", "text": f"{time.time()} change {n}"})
    time.sleep(5)  # what is written last is read as well
    table.tell(fatal="all is written")


def latency(rate: int, seconds: float) -> dict[str, Any]:
    """From the commit of a change to the acknowledgement of its write, in seconds."""
    with tempfile.TemporaryDirectory() as name, endpoint("--latency-ms", "20") as url:
        folder = Path(name)
        path, _ = job(folder, url, speed={"concurrent": 32})
        writer = multiprocessing.get_context("spawn").Process(
            target=_write, args=(str(folder / "table"), rate, seconds)
        )
        begun = [False]
        taken: list[float] = []
        put = sync_memory.HeldStore.send

        def noted(self: Any, records: Any) -> Any:
            outcomes = put(self, records)
            now = time.time()
            taken.extend(now - float(record.body["text"].split()[0]) for record in records)
            return outcomes

        def on_step(step: Step) -> None:
            if step == "conclude" and not begun[0]:
                begun[0] = True
                writer.start()

        ScriptedTable(folder / "table").insert({"id": "warm", "text": f"{time.time()} first"})
        sync_memory.HeldStore.send = noted  # type: ignore[method-assign]
        try:
            report = run(path, on_step)
        finally:
            sync_memory.HeldStore.send = put  # type: ignore[method-assign]
            writer.join()
        assert report is not None
        assert report.error is not None
        if "all is written" not in report.error:
            raise RuntimeError(report.error)
    waits = sorted(taken[1:])
    at = lambda share: round(waits[int(share * (len(waits) - 1))], 3)  # noqa: E731
    return {
        "changes a second": rate,
        "acknowledged": len(waits),
        "rounds": report.rounds,
        "p50": at(0.5),
        "p99": at(0.99),
        "most": at(1.0),
        "goals": LATENCY_GOALS,
    }


def main() -> None:
    """Prints a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for what in ("memory", "cpu", "latency"):
        parser.add_argument(f"--{what}", action="store_true")
    parser.add_argument("--rounds", type=int, default=10_000, help="rounds of --memory")
    parser.add_argument("--seconds", type=float, default=30, help="how long --latency writes")
    arguments = parser.parse_args()
    some = arguments.memory or arguments.cpu or arguments.latency
    if arguments.cpu or not some:
        for rows in (20, 0):
            print(json.dumps(cpu_of_a_round(100, rows)), flush=True)
    if arguments.latency or not some:
        for rate in (200, 1000):
            print(json.dumps(latency(rate, arguments.seconds)), flush=True)
    if arguments.memory or not some:
        print(json.dumps(memory(arguments.rounds)), flush=True)


if __name__ == "__main__":
    main()
