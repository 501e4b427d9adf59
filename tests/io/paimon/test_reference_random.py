"""Tables of the reference implementation at random: partitions, overwrites, appends, expiry."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.effort import some
from tests.io.paimon.following import Changing, Follower, Row, kinds
from tests.io.paimon.following import keyed as keyed_there
from tests.io.paimon.support import DATABASE, Warehouse
from tests.services import paimon
from tests.services.server import running
from vecferry.errors import TransientError
from vecferry.io.paimon.changes import PaimonChanges

pytestmark = [pytest.mark.service, pytest.mark.slow]

ROWS, COMMITS, CHANGED = 200, 25, 15


@pytest.fixture(scope="module")
def server() -> paimon.PaimonServer:
    """The reference implementation."""
    return running(paimon.PaimonServer)


@dataclass(frozen=True)
class Case:
    """A kind of table."""

    options: dict[str, str] = field(default_factory=dict)
    primary_key: tuple[str, ...] = ("id",)
    partitions: tuple[str, ...] = ()
    deletes: bool = True


BUCKETS = {"bucket": "2"}
LOOKUP = {**BUCKETS, "changelog-producer": "lookup"}
CASES = {
    "first-row": Case({**LOOKUP, "merge-engine": "first-row"}, deletes=False),
    "partitions": Case(BUCKETS, ("day", "id"), ("day",)),
    "partial-update": Case(
        {**BUCKETS, "merge-engine": "partial-update"}, ("day", "id"), ("day",), deletes=False
    ),
    "append": Case({**BUCKETS, "bucket-key": "id"}, (), ("day",), deletes=False),
}


class Reference(Changing):
    """A table of the reference implementation, as the small sync in memory knows tables."""

    def __init__(self, warehouse: Warehouse, server: paimon.PaimonServer, case: Case) -> None:
        super().__init__(warehouse, "t")
        columns = {"day": "STRING", "id": "BIGINT", "text": "STRING", "at": "BIGINT"}
        columns = {n: f"{t} NOT NULL" if n in case.primary_key else t for n, t in columns.items()}
        self.table = paimon.Table(
            server,
            {"warehouse": warehouse.options["warehouse"]},
            f"{DATABASE}.t",
            columns,
            case.primary_key,
            case.partitions,
            case.options,
        ).create()

    def rows(self) -> list[Row]:
        """As the reference implementation reads them."""
        return self.table.rows()


class Writer:
    """Commits at random."""

    def __init__(self, table: Reference, case: Case, chance: random.Random) -> None:
        self.table, self.case, self.chance, self.next = table.table, case, chance, 0

    def row(self, number: int | None = None) -> list[Any]:
        """A row of a day, which is always the same of an id unless it is part of the key."""
        if number is None:
            number, self.next = self.next, self.next + 1
        day = f"d{self.chance.randrange(3)}" if "day" in self.case.primary_key else f"d{number % 3}"
        text: str | None = f"t{self.chance.randrange(10**9)}"
        if self.case.options.get("merge-engine") == "partial-update" and self.chance.random() < 0.5:
            text = None
        return [day, number, text, self.chance.randrange(100)]

    def commit(self) -> None:
        """New rows, other values, deletes, a partition overwritten, or a compaction."""
        chance, what = self.chance, self.chance.random()
        old = [self.row(chance.randrange(self.next)) for _ in range(CHANGED)]
        if what < 0.25:
            self.table.compact()
        elif what < 0.35 and self.case.partitions:
            day = f"d{chance.randrange(3)}"
            fresh = [[day, *self.row()[1:]] for _ in range(9)]
            self.table.overwrite({"day": day}, *fresh)
        elif what < 0.55 and self.case.deletes:
            self.table.commit(*(("-D", row) for row in old))
        elif self.case.primary_key:
            self.table.upsert(*old, self.row(), self.row())
        else:
            self.table.upsert(*(self.row() for _ in range(CHANGED)))


@pytest.mark.parametrize("each", [True, False], ids=["one run a commit", "one run"])
@pytest.mark.parametrize("seed", some(range(10), 1))
@pytest.mark.parametrize("name", CASES)
def test_the_target_equals_the_table(
    name: str, seed: int, each: bool, server: paimon.PaimonServer, tmp_path: Path
) -> None:
    """As the reference implementation reads it, after compactions and without."""
    case, chance = CASES[name], random.Random(seed)
    table = Reference(Warehouse(tmp_path / "warehouse"), server, case)
    writer = Writer(table, case, chance)
    table.table.upsert(*(writer.row() for _ in range(ROWS)))
    key = () if case.primary_key else ("id",)
    columns = ["day", "id", "text", "at"]
    follower = Follower(table, case.primary_key or key, column=columns, key=key)
    follower.run()
    for _ in range(COMMITS):
        writer.commit()
        if each:
            follower.run()
            assert follower.differences() == []
    follower.run()
    assert follower.differences() == []


def keyed(server: paimon.PaimonServer, tmp_path: Path, **options: str) -> Reference:
    """A table with a primary key of ten rows, compacted only on command."""
    case = Case({"bucket": "1", "write-only": "true", **options})
    table = Reference(Warehouse(tmp_path / "warehouse"), server, case)
    table.table.upsert(*(["d", i, f"a{i}", i] for i in range(10)))
    return table


def test_a_compaction_changes_nothing(server: paimon.PaimonServer, tmp_path: Path) -> None:
    """Its snapshot is passed over, and the position moves on behind it."""
    table = keyed(server, tmp_path)
    table.table.upsert(["d", 1, "b", 1])
    follower = Follower(table)
    follower.run()
    table.table.compact()
    assert table.table.snapshots()[-1][1] == "COMPACT"
    assert follower.run() == []
    assert follower.position is not None
    assert follower.position.at["snapshot"] == table.last
    assert follower.differences() == []


def test_a_consumer_keeps_snapshots_from_expiry(
    server: paimon.PaimonServer, tmp_path: Path
) -> None:
    """All that is needed: also the keys of files that the commit behind the position removed."""
    table = keyed(server, tmp_path)
    follower = Follower(table)
    follower.run()
    assert follower.position is not None
    source = follower.source()
    source.hold("night", follower.position.at)
    table.table.overwrite({}, ["d", 3, "c", 3])
    for n in range(5):
        table.table.upsert(["d", 20 + n, "b", 1])
    table.table.compact()
    table.table.expire(1)
    assert table.table.snapshots()[0][0] == 1
    assert {**kinds(follower.run())}["-D"] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert follower.differences() == []
    source.hold("night", follower.position.at)
    table.table.expire(1)
    assert len(table.table.snapshots()) == 1
    source.release("night")


def test_a_table_that_is_truncated_is_emptied(server: paimon.PaimonServer, tmp_path: Path) -> None:
    """Also of a row that came since the last round."""
    table = keyed(server, tmp_path)
    follower = Follower(table)
    follower.run()
    table.table.upsert(["d", 11, "b", 1])
    table.table.truncate()
    assert kinds(follower.run()) == {"-D": [*range(10), 11]}
    assert follower.there == {}


def test_a_row_whose_key_lacks_the_partition_moves_in_one_change(
    server: paimon.PaimonServer, tmp_path: Path
) -> None:
    """The engine deletes it in one partition and adds it to the other: it is looked up in both."""
    case = Case({"bucket": "-1"}, ("id",), ("day",))
    table = Reference(Warehouse(tmp_path / "warehouse"), server, case)
    table.table.upsert(*(["mon", i, f"a{i}", i] for i in range(4)))
    follower = Follower(table, column=["day", "id", "text"])
    follower.run()
    table.table.commit(("-D", ["mon", 1, "a1", 1]), ("+I", ["tue", 1, "b1", 1]))
    table.table.commit(("-D", ["mon", 2, "a2", 2]))
    assert kinds(follower.run()) == {"+U": [1], "-D": [2]}
    assert follower.differences() == []


def test_a_table_of_a_rest_catalog_is_followed(server: paimon.PaimonServer, tmp_path: Path) -> None:
    """By its uuid, with a consumer; an outage of the catalog may pass."""
    catalog = server.rest(tmp_path / "rest", "a-token")
    try:
        warehouse = Warehouse(tmp_path, catalog.options)
        table = keyed_there(warehouse)
        table.put({"id": 1, "text": "a"}, {"id": 2, "text": "b"})
        follower = Follower(table)
        follower.run()
        before = follower.source().identity()
        assert before == str(table.handle.catalog_environment.uuid)
        assert follower.position is not None
        source = follower.source()
        source.hold("night", follower.position.at)
        assert table.consumers() == {"night": 1}
        table.put({"id": 1, "text": "c"})
        table.delete({"id": 2, "text": ""})
        assert kinds(follower.run()) == {"+U": [1], "-D": [2]}
        assert follower.differences() == []
        source.release("night")
        assert table.consumers() == {}
        catalog.close()
        with pytest.raises(TransientError, match="does not answer"):
            impatient(follower).identity()
        catalog.open()
        warehouse.catalog.drop_table(f"{DATABASE}.t", False)
        table = keyed_there(warehouse)
        table.put({"id": 3, "text": "d"})
        assert follower.source().identity() != before
        follower.run()
        assert follower.differences() == []
    finally:
        catalog.close()


def impatient(follower: Follower) -> PaimonChanges:
    """Its reader, which gives up soon."""
    source = follower.source()
    source.context = replace(source.context, retry_deadline=1.0)
    return source
