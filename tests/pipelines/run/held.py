"""A reader and a writer that ask a server of the test in each phase; see `ferry_held`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import model_validator

from tests.pipelines.run.ferry_held import hold
from vecferry.beam import OperatorTransform, ReaderTransform
from vecferry.rows import Change
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Emitted, Plan, Size, Target, Transformer

ROWS = int(os.environ.get("HELD_ROWS", "5"))
REFUSED = int(os.environ.get("HELD_REFUSED", "0"))
"""Each so many rows a record of a kilobyte is refused."""


class ReadSettings(StepSettings):
    """The parameters of the reader."""

    @model_validator(mode="after")
    def _held(self) -> ReadSettings:
        hold("resolve")
        return self

    def inputs(self) -> list[str]:
        """See `StepSettings`."""
        return []

    def outputs(self) -> dict[str, int | None]:
        """See `StepSettings`."""
        return {"id": None}


class Reader:
    """Gives `ROWS` rows in one split, and holds after the first."""

    def __init__(self, settings: Any, connection: Any, context: Any) -> None:
        self.counts, self._context = Counts(), context

    def check(self) -> None:
        """See `Source`."""
        hold("check")

    def plan(self) -> Plan:
        """See `Source`."""
        hold("list")
        return Plan(splits=[0])

    def splits(self) -> list[int]:
        """See `Source`."""
        return [0]

    def size(self) -> Size:
        """See `Source`."""
        return Size()

    def read(self, split: int) -> Iterator[Change]:
        """See `Source`."""
        for number in range(ROWS):
            self.counts.add("rows-read")
            if REFUSED and number % REFUSED == 0:
                raw, origin = "x" * 1000, f"held:{number}"
                yield self._context.reject("refused", "no row", raw=raw, origin=origin)
                continue
            yield Change({"id": f"{number}"}, origin=f"held:{number}")
            if number == 0:
                hold("read")

    def reread(self, raw: Any, origin: str) -> Change:
        """See `Source`."""
        raise AssertionError("nothing is replayed")


@dataclass(kw_only=True, eq=False)
class Read(ReaderTransform):
    """The reader in a graph."""

    settings: ReadSettings
    step_type = "held"

    def reader(self, context: Any) -> Any:
        """See `ReaderTransform`."""
        return functools.partial(Reader, self.settings, None, context)

    def expand(self, begin: Any) -> Any:
        """See `ReaderTransform`."""
        hold("build")
        return super().expand(begin)


class WriteSettings(StepSettings):
    """The parameters of the writer."""

    def inputs(self) -> list[str]:
        """See `StepSettings`."""
        return ["id"]

    def outputs(self) -> dict[str, int | None]:
        """See `StepSettings`."""
        return {"id": None}


class Closes:
    """What the end of a run closes."""

    def close(self) -> None:
        """Holds."""
        hold("close")


class Operator(Transformer):
    """Counts rows as written once the server has let them through."""

    def __init__(self, context: Any) -> None:
        self.counts, self._rows = Counts(), 0
        context.once("closes", Closes)

    def process(self, change: Change, stamp: Any = None) -> list[Emitted]:
        """See `Operator`."""
        self._rows += 1
        return []

    def finish(self) -> list[Emitted]:
        """See `Operator`."""
        hold("drain")
        self.counts.add("rows-written", self._rows)
        self._rows = 0
        return []

    def close(self) -> None:
        """See `Operator`."""


class Writer(Target):
    """A target that has a last step."""

    def __init__(self, settings: Any, connection: Any, context: Any) -> None:
        self._context = context

    def check(self) -> list[str]:
        """See `Target`."""
        return []

    def prepare(self) -> None:
        """See `Target`."""
        hold("prepare")

    @property
    def concludes(self) -> bool:
        """See `Target`."""
        return True

    def conclude(self) -> list[str]:
        """See `Target`."""
        hold("conclude")
        return ["concluded"]

    def unfinished(self) -> str | None:
        """See `Target`."""
        return "not concluded"

    def operator(self) -> Any:
        """See `Target`."""
        return Operator(self._context)


@dataclass(kw_only=True, eq=False)
class Write(OperatorTransform):
    """The writer in a graph."""

    settings: WriteSettings
    prepared: bool = False
    verb = "Write"
    step_type = "held"

    def operator(self, context: Any) -> Any:
        """See `OperatorTransform`."""
        return functools.partial(Operator, context)
