"""A writer that keeps rows in memory, for tests of what comes before it: stepType ``memory``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.pipelines import registry
from vecferry.rows import Change
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Target

KEPT: list[Change] = []
"""What was written, by all runs of this process since it was cleared."""


class MemorySettings(StepSettings):
    """The columns that each row must have."""

    column: list[str]

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        return self.column

    def outputs(self) -> dict[str, int | None]:
        """No dimension is expected of any of them."""
        return {}


class Keeper:
    """Keeps rows and hands them on."""

    def __init__(self) -> None:
        self.counts = Counts()

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row itself."""
        KEPT.append(change)
        self.counts.add("rows-written")
        return [(change, stamp)]

    def finish(self) -> list[Emitted]:
        """Nothing waits."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryTarget(Target):
    """A target that is always there."""

    def __init__(self, settings: MemorySettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context

    def check(self) -> list[str]:
        """It can always be written to."""
        return []

    def prepare(self) -> None:
        """Nothing is made."""


@dataclass(kw_only=True, eq=False)
class KeepRows(OperatorTransform):
    """Keeps rows; gives them on `written`."""

    settings: MemorySettings
    prepared: bool = False

    main = "written"
    verb = "Keep"
    step_type = "memory"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the keeper on the worker."""
        return functools.partial(Keeper)


def step() -> dict[str, Any]:
    """The step of a job, which the registry of the test learns."""
    names = ("MemorySettings", "MemoryTarget", "KeepRows")
    classes = (f"tests.io.sink.memory:{name}" for name in names)
    registry.register(registry.Kind("memory", "writer", *classes))
    return {
        "stepType": "memory",
        "category": "writer",
        "name": "Writer",
        "parameter": {"column": ["id", "text", "vector"]},
    }
