"""A writer that only counts: what is left when the store costs nothing."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.pipelines import registry
from vecferry.rows import Change
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Target


class CountSettings(StepSettings):
    """The step ``count`` says nothing but which columns each row must have."""

    column: list[str]

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        return self.column

    def outputs(self) -> dict[str, int | None]:
        """No dimension is expected of any of them."""
        return {}

    def key_columns(self) -> list[str]:
        """The id, where there is one."""
        return [name for name in self.column if name == "id"]


class Counter:
    """Counts rows as written and hands them on."""

    def __init__(self) -> None:
        self.counts = Counts()

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row itself."""
        self.counts.add("rows-written")
        return [(change, stamp)]

    def finish(self) -> list[Emitted]:
        """Nothing waits."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""


class CountTarget(Target):
    """A target that is always there."""

    def __init__(self, settings: CountSettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context

    def check(self) -> list[str]:
        """It can always be written to."""
        return []

    def prepare(self) -> None:
        """Nothing is made."""

    def operator(self) -> Counter:
        """What counts."""
        return Counter()


def make_counter(settings: CountSettings, context: StepContext) -> Counter:
    """The operator, on the worker."""
    return CountTarget(settings, None, context).operator()


@dataclass(kw_only=True, eq=False)
class CountRows(OperatorTransform):
    """Counts rows; gives them on `written`."""

    settings: CountSettings
    prepared: bool = False

    main = "written"
    verb = "Count"
    step_type = "count"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the counter on the worker."""
        return functools.partial(make_counter, self.settings, context)


def register() -> None:
    """Makes the stepType ``count`` known to jobs of this process."""
    module = "counting_sink"
    registry.register(
        registry.Kind(
            "count",
            "writer",
            f"{module}:CountSettings",
            f"{module}:CountTarget",
            f"{module}:CountRows",
        )
    )
