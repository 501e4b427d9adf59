"""Five hundred rows and 25 commits at random, applied at once or one by one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.effort import some
from tests.io.paimon.following import KEYED, Changing, Follower
from tests.io.paimon.support import Warehouse
from tests.io.paimon.test_evolving import OPTIONS, ids_of, put_texts

ROWS, COMMITS, CHANGED = 500, 25, 20

PARTED = pa.schema([pa.field("day", pa.string(), nullable=False), *KEYED])
APPEND = pa.schema([("id", pa.int64()), ("text", pa.string()), ("at", pa.int64())])
TAGGED = pa.schema([("day", pa.string()), *APPEND])


@dataclass(frozen=True)
class Case:
    """A kind of table, and what happens to it."""

    schema: pa.Schema = KEYED
    keys: tuple[str, ...] = ("id",)
    partitions: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    where: str | None = None


KEYED_OPTIONS = {"rowkind__field": "kind", "bucket": "2"}
CASES = {
    "deduplicate": Case(options=KEYED_OPTIONS),
    "dynamic buckets": Case(options={**KEYED_OPTIONS, "bucket": "-1"}),
    "condition": Case(options=KEYED_OPTIONS, where="at > 30"),
    "sequence": Case(options={**KEYED_OPTIONS, "sequence__field": "at"}),
    "partial update": Case(options={**KEYED_OPTIONS, "merge_engine": "partial-update"}),
    "aggregation": Case(
        options={
            **KEYED_OPTIONS,
            "merge_engine": "aggregation",
            "fields__at__aggregate-function": "max",
        }
    ),
    "deletion vectors": Case(options={**KEYED_OPTIONS, "deletion_vectors__enabled": "true"}),
    "partitions": Case(
        schema=PARTED, keys=("day", "id"), partitions=("day",), options=KEYED_OPTIONS
    ),
    "append": Case(schema=TAGGED, keys=(), partitions=("day",), named=("day", "id")),
    "evolving": Case(schema=APPEND, keys=(), options=OPTIONS, named=("id",)),
}


class Writer:
    """Writes at random to a table of a case."""

    def __init__(self, table: Changing, case: Case, chance: random.Random) -> None:
        self.table, self.case, self.chance = table, case, chance
        self.next = 0

    def row(self, number: int | None = None) -> dict[str, Any]:
        """A row; of a table that is updated by key, any row that may be there."""
        chance = self.chance
        if number is None:
            number, self.next = self.next, self.next + 1
        row: dict[str, Any] = {"id": number, "text": f"t{chance.randrange(10**9)}"}
        row["at"] = chance.randrange(100)
        if "partial-update" in self.case.options.values():
            row.pop(chance.choice(["text", "at"]))
        if "day" in self.case.schema.names:
            row["day"] = f"d{chance.randrange(3)}"
        return row

    def load(self) -> None:
        """The first commit."""
        rows = [self.row() for _ in range(ROWS)]
        if self.case.keys:
            self.table.put(*rows)
        else:
            self.table.write(rows)

    def commit(self) -> None:
        """One commit of some kind."""
        if self.case.keys:
            self._keyed()
        elif self.case.partitions:
            self._appended()
        else:
            self._evolved()

    def _keyed(self) -> None:
        chance, what = self.chance, self.chance.random()
        if what < 0.05 and not self.case.partitions:
            self.table.write([{**self.row(), "kind": "+I"} for _ in range(30)], overwrite={})
        elif what < 0.15 and self.case.partitions:
            day = f"d{chance.randrange(3)}"
            rows = [{**self.row(), "day": day, "kind": "+I"} for _ in range(9)]
            self.table.write(rows, overwrite={"day": day})
        elif what < 0.4 and self._deletes:
            rows = [self.row(chance.randrange(self.next)) for _ in range(CHANGED)]
            self.table.delete(*rows)
        else:
            old = [self.row(chance.randrange(self.next)) for _ in range(CHANGED - 3)]
            self.table.put(*{(r["id"], r.get("day")): r for r in old}.values(), self.row())

    @property
    def _deletes(self) -> bool:
        return self.case.options.get("merge_engine") is None

    def _appended(self) -> None:
        day = f"d{self.chance.randrange(3)}"
        rows = [{**self.row(), "day": day} for _ in range(CHANGED)]
        kept = [r for r in self.table.rows() if r["day"] == day and self.chance.random() < 0.8]
        if self.chance.random() < 0.3:
            self.table.write([*kept, *rows], overwrite={"day": day})
        else:
            self.table.write(rows)

    def _evolved(self) -> None:
        there = [row["id"] for row in self.table.rows()]
        some = self.chance.sample(there, min(len(there), CHANGED))
        what = self.chance.random()
        if what < 0.3:
            self.table.write([self.row() for _ in range(CHANGED)])
        elif what < 0.6:
            gone = ids_of(self.table, *some)
            self.table.update(lambda u: u.delete_by_row_id(gone))
        else:
            put_texts(self.table, {i: f"u{self.chance.randrange(10**9)}" for i in some[:5]})


@pytest.mark.slow
@pytest.mark.parametrize("each", [True, False], ids=["one run a commit", "one run"])
@pytest.mark.parametrize("seed", some(range(20), 1))
@pytest.mark.parametrize("name", CASES)
def test_the_target_equals_the_table(name: str, seed: int, each: bool, tmp_path: Path) -> None:
    """No key comes twice in a round."""
    case, chance = CASES[name], random.Random(seed)
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.make("t", case.schema, keys=case.keys, partitions=case.partitions, **case.options)
    table = Changing(warehouse, "t")
    writer = Writer(table, case, chance)
    writer.load()
    keys = case.named or case.keys
    columns = [n for n in case.schema.names if n != "kind"]
    parameters: dict[str, Any] = {"column": columns, "key": case.named, "where": case.where}
    follower = Follower(table, keys, **parameters)
    follower.run()
    wanted: Callable[[Any], bool] = lambda row: case.where is None or row["at"] > 30  # noqa: E731
    for _ in range(COMMITS):
        writer.commit()
        if each:
            follower.run()
            assert follower.differences(wanted) == []
    last = follower.run()
    assert follower.differences(wanted) == []
    if not each:
        assert len(follower.spans) == 4  # full, nothing, changes, nothing
        assert len(last) < COMMITS * ROWS
