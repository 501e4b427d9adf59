"""A source that notes in a file how often it is listed, and a sink of one file: ``counted``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecferry.beam import MakeOperator, MakeSource, OperatorTransform, ReaderTransform
from vecferry.kinds import Kind, Role
from vecferry.pipelines import cli
from vecferry.pipelines.registry import register
from vecferry.rows import Change, Reject
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Emitted, Plan, Size, Stamp, StepContext


class CountedSettings(StepSettings):
    """`splits` rows, each a split of its own; each listing adds a line to the file `listings`."""

    splits: int
    listings: str

    def outputs(self) -> dict[str, int | None]:
        """A key and a text."""
        return {"id": None, "text": None}


def many_splits(n: int) -> list[Any]:
    """`n` numbers, each with a path, as files have it."""
    return [(i, f"a/path/as/long/as/those/of/files-{i:07}") for i in range(n)]


class CountedSource:
    """A `Source` whose listing costs something."""

    def __init__(self, settings: CountedSettings, connection: Any, context: StepContext) -> None:
        self.counts, self._settings = Counts(), settings

    def check(self) -> None:
        """It is always there."""

    def plan(self) -> Plan:
        """Numbers with some ballast, as paths have it."""
        with Path(self._settings.listings).open("a") as listings:
            listings.write("listed\n")
        count = self._settings.splits
        splits = [(i, f"a/path/as/long/as/those/of/files-{i:07}") for i in range(count)]
        return Plan(splits=splits, size=Size(rows=count))

    def read(self, split: Any) -> Iterator[Change | Reject]:
        """The one row of a split."""
        self.counts.add("rows-read")
        number, path = split
        yield Change({"id": f"r{number}", "text": f"row {number}"}, origin=path)

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """It has no rejects."""
        raise NotImplementedError


@dataclass(kw_only=True, eq=False)
class ReadCounted(ReaderTransform):
    """The source in a pipeline."""

    settings: CountedSettings

    step_type = "counted"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `CountedSource`."""
        return functools.partial(CountedSource, self.settings, None, context)


class KeptSettings(StepSettings):
    """The `file` that gets a line for each row."""

    file: str

    def inputs(self) -> list[str]:
        """The key."""
        return ["id"]

    def outputs(self) -> dict[str, int | None]:
        """The key alone is written."""
        return {"id": None}


class _Keeper:
    """Writes the key of each row, one write a bundle."""

    def __init__(self, file: str) -> None:
        self.counts, self._file, self._rows = Counts(), file, list[str]()

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Keeps the row until the end of the bundle."""
        self._rows.append(change["id"])
        return []

    def finish(self) -> list[Emitted]:
        """Writes them."""
        with Path(self._file).open("a") as file:
            file.write("".join(f"{row}\n" for row in self._rows))
        self.counts.add("rows-written", len(self._rows))
        self._rows = []
        return []

    def close(self) -> None:
        """Nothing is held."""


class KeptTarget:
    """A `Target` that is always there."""

    concludes = False

    def __init__(self, settings: KeptSettings, connection: Any, context: StepContext) -> None:
        self._settings = settings

    def check(self) -> list[str]:
        """All is well."""
        return []

    def prepare(self) -> None:
        """An empty file."""
        Path(self._settings.file).touch()

    def conclude(self) -> list[str]:
        """Nothing is left to do."""
        return []

    def unfinished(self) -> str | None:
        """Nothing is left to do."""
        return None

    def operator(self) -> _Keeper:
        """For one bundle."""
        return _Keeper(self._settings.file)


@dataclass(kw_only=True, eq=False)
class KeepRows(OperatorTransform):
    """The sink in a pipeline."""

    settings: KeptSettings
    prepared: bool = True

    main = "written"
    verb = "Keep"
    step_type = "counted"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes a `_Keeper`."""
        return functools.partial(_Keeper, self.settings.file)


def _kind(role: Role, *names: str) -> Kind:
    return Kind("counted", role, *(f"tests.shared.counted:{name}" for name in names))


KINDS = (
    _kind("reader", "CountedSettings", "CountedSource", "ReadCounted"),
    _kind("writer", "KeptSettings", "KeptTarget", "KeepRows"),
)


def job(folder: Path, splits: int) -> dict[str, Any]:
    """A job of the two in `folder`."""
    reader = {"splits": splits, "listings": str(folder / "listings")}
    writer = {"file": str(folder / "kept")}
    return {
        "type": "job",
        "version": "2.0",
        "steps": [
            {"stepType": "counted", "category": "reader", "name": "Count", "parameter": reader},
            {"stepType": "counted", "category": "writer", "name": "Keep", "parameter": writer},
        ],
        "setting": {"speed": {"concurrent": 4}},
    }


def main() -> None:
    """The command line, with both kinds."""
    for kind in KINDS:
        register(kind)
    cli.main()


if __name__ == "__main__":
    main()
