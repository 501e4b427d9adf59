"""What a step costs a row in Beam: a plain DoFn against one that asks for timestamp and window.

python bench/beam_step.py
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

ROWS = 300_000
STEPS = 2


class Source(beam.DoFn):
    """Gives the rows."""

    def process(self, _: Any) -> Iterator[dict[str, int]]:
        """One dict after the other."""
        for i in range(ROWS):
            yield {"n": i}


class Plain(beam.DoFn):
    """Hands a row on."""

    def process(self, row: Any) -> list[Any]:
        """The row itself."""
        return [row]


class Windowed(beam.DoFn):
    """Hands a row on, and asks where and when it is."""

    def process(
        self,
        row: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> list[Any]:
        """The row itself."""
        return [row]


def seconds(steps: list[type[beam.DoFn]]) -> float:
    """The better of two runs of a pipeline with these steps."""
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        with beam.Pipeline("FnApiRunner") as pipeline:
            rows = pipeline | beam.Create([0]) | beam.Reshuffle() | beam.ParDo(Source())
            for i, step in enumerate(steps):
                rows = rows | f"Step {i}" >> beam.ParDo(step())
        taken.append(time.perf_counter() - started)
    return min(taken)


if __name__ == "__main__":
    empty = seconds([])
    for step in (Plain, Windowed):
        micros = (seconds([step] * STEPS) - empty) / STEPS / ROWS * 1e6
        print(f"{step.__name__.lower():10} {micros:.1f} µs a row and step")
