"""What the benches of sinks share: rows, our side, and sides that take turns."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vecferry.process import end_run
from vecferry.rows import Change

Rows = list[Change]
Side = Callable[[Rows], None]
"""Writes all rows, from its first connection to its last acknowledgement."""
OURS = "vecferry"


def make_rows(n: int, dimension: int) -> Rows:
    """Rows with an id, a short text and a vector; to the others they are dicts."""
    vectors = np.random.default_rng(1).normal(size=(n, dimension)).astype(np.float32)
    return [
        Change({"id": f"row-{i}", "text": f"this is the text of row {i}", "vector": vectors[i]})
        for i in range(n)
    ]


def write_all(target: Any, rows: Rows) -> None:
    """Our writer, as one bundle has it."""
    operator = target.operator()
    done = 0
    for row in rows:
        done += len(operator.process(row))
    assert done + len(operator.finish()) == len(rows)
    end_run(target.context.run)


@dataclass
class Result:
    """Rows a second of each side, medians, and CPU of this process in µs a row."""

    store: str
    dimension: int
    speeds: dict[str, float]
    cpu: dict[str, float]

    def line(self) -> str:
        """A line of the table: our speed, that of each other side with its CPU, and the ratio."""
        speeds, cpu = self.speeds, self.cpu
        others = [side for side in speeds if side != OURS]
        fastest = max((s for s in others if OURS not in s), key=speeds.__getitem__)
        shown = ", ".join(f"{side} {speeds[side]:,.0f} ({cpu[side]:.0f} µs)" for side in others)
        return (
            f"| `{self.store}`, {self.dimension} | {speeds[OURS]:,.0f} ({cpu[OURS]:.0f} µs) "
            f"| {shown} | {speeds[OURS] / speeds[fastest]:.2f} |"
        )


def compare(
    store: str,
    dimension: int,
    rows: Rows,
    rounds: int,
    sides: Mapping[str, Side],
    before: Callable[[], None],
    count: Callable[[], int],
) -> Result:
    """Runs the sides in turn, after one round of a tenth of the rows that only warms up.

    `before` empties the target; `count` says how many rows it has then, which must be all.
    """
    names = list(sides)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        some = rows if turn else rows[: len(rows) // 10]
        at = turn % len(names)
        for name in names[at:] + names[:at]:
            before()
            gc.collect()
            gc.freeze()  # the rows, which a pipeline would not hold all at once
            began, spent = time.perf_counter(), time.process_time()
            sides[name](some)
            seconds, used = time.perf_counter() - began, time.process_time() - spent
            assert count() == len(some), f"{name} wrote {count()} of {len(some)} rows"
            if turn:
                speeds[name].append(len(some) / seconds)
                cpu[name].append(used / len(some) * 1e6)
                print(f"  {store} {dimension}, {name}: {speeds[name][-1]:,.0f} rows/s", flush=True)
    return Result(
        store,
        dimension,
        {name: statistics.median(found) for name, found in speeds.items()},
        {name: statistics.median(found) for name, found in cpu.items()},
    )
