"""A source without an end, stepType ``ticks``: a row every 50 ms, numbered, with its time.

``python -c 'from tests.shared.endless_source import main; main()' run …`` is ``vecferry`` with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.utils.timestamp import Duration

from vecferry.beam import REJECTED
from vecferry.pipelines import cli, registry
from vecferry.rows import Change
from vecferry.run.channel import told
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Plan, StepContext

SECONDS = 0.05
_END = 1 << 60


class TickSettings(StepSettings):
    """It needs no settings."""

    @property
    def endless(self) -> bool:
        """It never ends by itself."""
        return True

    def inputs(self) -> list[str]:
        """It is the first step."""
        return []

    def outputs(self) -> dict[str, int | None]:
        """A key, a text and the time of the row."""
        return {"id": None, "text": None, "at": None}


class TickReader:
    """What the launcher asks of a source."""

    def __init__(self, settings: TickSettings, connection: None, context: StepContext) -> None:
        self.counts = Counts()

    def check(self) -> None:
        """It is always there."""

    def plan(self) -> Plan:
        """Its transform makes its own; nobody knows how much there is."""
        return Plan(splits=[])


class _Ticks(beam.RestrictionProvider):
    def initial_restriction(self, element: Any) -> OffsetRange:
        return OffsetRange(0, _END)

    def create_tracker(self, restriction: OffsetRange) -> OffsetRestrictionTracker:
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element: Any, restriction: OffsetRange) -> int:
        return 1

    def split(self, element: Any, restriction: OffsetRange) -> Iterator[OffsetRange]:
        yield restriction


_TRACKER = beam.DoFn.RestrictionParam(_Ticks())


class TickFn(beam.DoFn):
    """Gives what is due, and comes back for the rest."""

    def __init__(self, context: StepContext) -> None:
        self.context = context

    @beam.DoFn.unbounded_per_element()
    def process(self, _: Any, tracker: Any = _TRACKER) -> Iterator[Change]:
        """A few rows at a time; a stop ends the source for good."""
        state = self.context.state
        if self.context.shared.reports:
            told(self.context.run, state, self.context.shared.reports)
        number = tracker.current_restriction().start
        for _ in range(4):
            if state.stop.is_set():
                tracker.try_claim(_END)
                return
            if not tracker.try_claim(number):
                return
            state.add({"rows-read": 1})
            row = {"id": f"t{number}", "text": f"tick {number}", "at": time.time()}
            yield Change(row, origin=f"ticks:{number}")
            number += 1
        tracker.defer_remainder(Duration(4 * SECONDS))


@dataclass(kw_only=True, eq=False)
class ReadTicks(beam.PTransform):
    """The source as a graph has it."""

    settings: TickSettings
    context: StepContext

    def expand(self, begin: Any) -> Any:
        """One stream."""
        return (
            begin
            | "Start" >> beam.Impulse()
            | "Tick" >> beam.ParDo(TickFn(self.context)).with_outputs(REJECTED, main="rows")
        )


def main() -> None:
    """The command line, with this source."""
    classes = (
        f"tests.shared.endless_source:{name}"
        for name in ("TickSettings", "TickReader", "ReadTicks")
    )
    registry.register(registry.Kind("ticks", "reader", *classes))
    cli.main()
