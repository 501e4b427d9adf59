"""Tables that the reference implementation writes to are followed, and end as it reads them."""

from __future__ import annotations

import random
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.io.paimon.following import Follower
from tests.io.paimon.reference import COLUMNS, KINDS, ONLY
from tests.services.paimon import PaimonServer, Table
from tests.services.server import running
from vecferry.errors import JobError
from vecferry.io.paimon.settings import PaimonConnection

pytestmark = pytest.mark.service

FOLLOWED = {name: kind for name, kind in KINDS.items() if not name.startswith("first rows")}
"""First rows are shown by compaction only, which has a test of its own."""


@pytest.fixture(scope="module")
def server() -> PaimonServer:
    return running(PaimonServer)


class Followed:
    """A table of the reference implementation, as `Follower` knows one."""

    def __init__(self, server: PaimonServer, folder: Path, options: dict[str, str]) -> None:
        catalog = {"metastore": "filesystem", "warehouse": str(folder)}
        self.name = f"t{uuid.uuid4().hex[:8]}"
        self.written = Table(
            server,
            catalog,
            f"shop.{self.name}",
            COLUMNS,
            ["id"],
            options={"bucket": "2", **options},
        ).create()
        self.warehouse = SimpleNamespace(
            connection=PaimonConnection.model_validate({"options": catalog})
        )
        self.rows = self.written.rows

    def follower(self) -> Follower:
        """One that reads all columns."""
        return Follower(self, column=list(COLUMNS))  # type: ignore[arg-type]


def commit(table: Table, chance: random.Random, number: int, *, deletes: bool) -> None:
    """One of 25 commits: new rows, updates, late ones, nulls and deletes; some are compactions."""
    if number % 8 == 7:
        table.compact()
        return
    keys = chance.sample(range(120), 12)
    rows: list[tuple[str, list[Any]]] = []
    for key in keys:
        gone = deletes and chance.random() < 0.2
        text = None if chance.random() < 0.2 else f"text {key} of {number}"
        n = chance.randrange(100)
        rows.append(("-D" if gone else "+I", [key, text, n]))
    table.commit(*rows)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLLOWED)
def test_twenty_five_commits_end_as_the_reference_implementation_reads_them(
    server: PaimonServer, tmp_path: Path, kind: str
) -> None:
    """In a round for each commit, and in one run over all; a key once in a round."""
    options, deletes = FOLLOWED[kind]
    table = Followed(server, tmp_path, options)
    table.written.upsert(*([i, f"first {i}", 50] for i in range(100)))
    by_one, at_once = table.follower(), table.follower()
    for follower in (by_one, at_once):
        follower.run()
        assert len(follower.there) == 100
    chance = random.Random(kind)
    for number in range(25):
        commit(table.written, chance, number, deletes=deletes)
        by_one.run()
    at_once.run()
    assert by_one.differences() == at_once.differences() == []
    assert by_one.there == at_once.there
    table.written.overwrite({}, [1, "alone", 1])
    for follower in (by_one, at_once):
        follower.run()
        assert follower.differences() == []
        assert [row["id"] for row in follower.there.values()] == [1]


@pytest.mark.slow
def test_first_rows_appear_as_they_are_compacted(server: PaimonServer, tmp_path: Path) -> None:
    """A row that comes later under the key changes nothing."""
    table = Followed(
        server, tmp_path, {"merge-engine": "first-row", "changelog-producer": "lookup"}
    )
    table.written.upsert([1, "a", 1], [2, "b", 2])
    follower = table.follower()
    follower.run()
    table.written.upsert([2, "late", 3], [3, "c", 3])
    follower.run()
    assert follower.differences() == []
    assert [follower.there[key,]["text"] for key in (1, 2, 3)] == ["a", "b", "c"]


def test_first_rows_without_a_changelog_are_refused_in_words(
    server: PaimonServer, tmp_path: Path
) -> None:
    """What was written may never be seen."""
    table = Followed(server, tmp_path, {"merge-engine": "first-row", **ONLY})
    table.written.upsert([1, "a", 1])
    with pytest.raises(JobError, match="first-row"):
        table.follower().run()


@pytest.mark.slow
def test_a_rollback_and_what_is_written_on_lead_to_a_new_load(
    server: PaimonServer, tmp_path: Path
) -> None:
    """Its snapshots have numbers that were read before, and other contents."""
    table = Followed(server, tmp_path, ONLY)
    table.written.upsert([1, "a", 1], [2, "b", 1])
    follower = table.follower()
    follower.run()
    table.written.upsert([1, "wrong", 2], [3, "wrong", 2])
    follower.run()
    table.written.rollback(1)
    table.written.upsert([2, "right", 3])
    follower.run()
    assert follower.differences() == []
    assert any(span.fresh for span in follower.spans[1:])


@pytest.mark.slow
def test_history_that_is_gone_leads_to_a_new_load(server: PaimonServer, tmp_path: Path) -> None:
    """Which says so, and ends as the table is."""
    table = Followed(server, tmp_path, ONLY)
    table.written.upsert([1, "a", 1], [2, "b", 1])
    follower = table.follower()
    follower.run()
    for number in range(5):
        table.written.commit(("-D", [2, "b", 1]), ("+I", [10 + number, "new", number]))
    assert table.written.expire(retain=1) > 0
    follower.run()
    assert follower.differences() == []
    assert any(span.fresh and span.why for span in follower.spans[1:])
