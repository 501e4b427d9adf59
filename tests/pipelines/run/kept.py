"""The step ``keep``: a writer that appends the rows to files of a folder, one of each process.

As a program, ``python -m tests.pipelines.run.kept``, it is the command line with that step.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.pipelines import registry
from vecferry.rows import Change
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Target

KIND = registry.Kind(
    "keep",
    "writer",
    "tests.pipelines.run.kept:KeepSettings",
    "tests.pipelines.run.kept:KeepTarget",
    "tests.pipelines.run.kept:KeepRows",
)


class KeepSettings(StepSettings):
    """Where to; `seconds` is how long each row takes, `alone` lets one process only write.

    `keys` makes the id of a row; None of a target that alone knows it.
    """

    folder: str
    column: list[str]
    seconds: float = 0
    alone: bool = False
    keys: tuple[str, ...] | None = ("id",)

    def inputs(self) -> list[str]:
        """See `StepSettings`."""
        return self.column

    def outputs(self) -> dict[str, int | None]:
        """See `StepSettings`."""
        return {}

    def key_columns(self) -> list[str] | None:
        """See `StepSettings`."""
        return None if self.keys is None else list(self.keys)

    def unshareable(self) -> str | None:
        """See `StepSettings`."""
        return "one process alone can write there; let it" if self.alone else None


class Keeper:
    """Appends rows, of a vector its digest; keeps ten rows back, as writers do."""

    def __init__(self, settings: KeepSettings, context: StepContext) -> None:
        self.settings, self.counts, self._context = settings, Counts(), context
        self._waiting: list[tuple[Change, Stamp]] = []

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Refuses what says so."""
        if str(change.get("text")).startswith("REFUSE"):
            return [(self._context.reject("refused", "it says so", row=change), stamp)]
        time.sleep(self.settings.seconds)
        self._waiting.append((change, stamp))
        return self._written() if len(self._waiting) >= 10 else []

    def finish(self) -> list[Emitted]:
        """What waits."""
        return self._written()

    def _written(self) -> list[Emitted]:
        waiting, self._waiting = self._waiting, []
        lines = [json.dumps({n: _shown(v) for n, v in row.items()}) for row, _ in waiting]
        with (Path(self.settings.folder) / f"{os.getpid()}.jsonl").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        self.counts.add("rows-written", len(waiting))
        return list(waiting)

    def close(self) -> None:
        """See `Operator`."""


def _shown(value: Any) -> Any:
    if hasattr(value, "tobytes"):
        return hashlib.sha256(value.tobytes()).hexdigest()[:16]
    return value


class KeepTarget(Target):
    """The folder."""

    def __init__(self, settings: KeepSettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context

    def check(self) -> list[str]:
        """See `Target`."""
        return []

    def prepare(self) -> None:
        """See `Target`."""
        os.makedirs(self.settings.folder, exist_ok=True)

    def operator(self) -> Keeper:
        """See `Target`."""
        return Keeper(self.settings, self.context)


def make_keeper(settings: KeepSettings, context: StepContext) -> Keeper:
    """The operator, on the worker."""
    return Keeper(settings, context)


@dataclass(kw_only=True, eq=False)
class KeepRows(OperatorTransform):
    """Gives the rows that are kept on `written`."""

    settings: KeepSettings
    prepared: bool = False

    main = "written"
    verb = "Keep"
    step_type = "keep"

    def operator(self, context: StepContext) -> MakeOperator:
        """See `OperatorTransform`."""
        return functools.partial(make_keeper, self.settings, context)


def kept(folder: Path) -> Counter[str]:
    """How often each row is there, as its line."""
    return Counter(
        line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()
    )


def writers(folder: Path) -> int:
    """How many processes have written."""
    return len(list(folder.glob("*.jsonl")))


if __name__ == "__main__":
    from vecferry.pipelines.cli import main

    registry.register(KIND)
    main()
