"""The parts of a job's graph, where the launcher and its workers share its steps on one machine.

The launcher reads a source of one split, and deals its rows; it writes to what one process alone
may open. The workers have the steps between. Rows go from part to part in blocks
(`vecferry.run.blocks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from vecferry.beam import PlainFn
from vecferry.errors import FatalError
from vecferry.process import run_scope
from vecferry.rows import Change
from vecferry.run.blocks import Handing
from vecferry.run.link import link_of

OUT, IN = "rows-out", "rows-in"
"""What the launcher's scope of a round has for the parts that it carries out itself."""


@dataclass(frozen=True)
class Part:
    """Some of the steps of a job, from `first` to the one before `end`, by their indices.

    `end` is None with the last step. The launcher carries out a part that is `here`.
    """

    first: int = 0
    end: int | None = None
    here: bool = False


WHOLE = Part()


@dataclass(kw_only=True, eq=False)
class TakeRows(beam.PTransform):
    """Gives the rows that another process hands over."""

    run: str

    def expand(self, begin: beam.Pipeline) -> beam.PCollection:
        return begin | "Start" >> beam.Impulse() | "Take" >> beam.ParDo(_TakeFn(self.run))


@dataclass(kw_only=True, eq=False)
class HandRows(beam.PTransform):
    """Hands rows over to another process; gives nothing."""

    run: str

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        return rows | "Hand over" >> beam.ParDo(_HandFn(self.run))


class _TakeFn(PlainFn):
    def __init__(self, run: str) -> None:
        self.run = run

    def process(self, _: Any) -> Iterator[Change]:
        link = link_of(self.run)
        yield from link.rows() if link is not None else _of_launcher(self.run, IN).rows()


class _HandFn(PlainFn):
    def __init__(self, run: str) -> None:
        self.run = run

    def start_bundle(self) -> None:
        link = link_of(self.run)
        self.out = Handing(link.hand_over) if link is not None else _of_launcher(self.run, OUT)

    def process(self, row: Change) -> None:
        self.out.put(row)

    def finish_bundle(self) -> None:
        self.out.flush()


def _of_launcher(run: str, what: str) -> Any:
    def absent() -> Any:
        raise FatalError("this process has no workers to share rows with")

    return run_scope(run).round.get(what, absent)
