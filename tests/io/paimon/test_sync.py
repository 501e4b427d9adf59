"""A sync of a Paimon table passes the contract of all sources that are followed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.contracts.sync import DIMENSION, Broken, Killed, Script
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, StorePlace
from tests.io.paimon.following import Changing
from tests.io.paimon.support import DATABASE, Warehouse

SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), ("text", pa.string()), ("kind", pa.string())]
)


class Followed(Script):
    """A table with a primary key in two buckets."""

    def __init__(self, folder: Path) -> None:
        warehouse = Warehouse(folder)
        options = {"bucket": "2", "rowkind__field": "kind"}
        warehouse.make("t", SCHEMA, keys=["id"], **options)
        self.table = Changing(warehouse, "t")

    def reader(self, chance: random.Random, least: int = 1) -> dict[str, Any]:
        """In parts and rounds of any size."""
        return {
            "stepType": "paimon",
            "category": "reader",
            "name": "Read",
            "parameter": {
                "datasource": "Lake",
                "database": DATABASE,
                "table": "t",
                "column": ["id", "text"],
                "roundRows": least * chance.choice([1, 3, 10, 100]),
            },
        }

    def sources(self) -> dict[str, Any]:
        """The warehouse."""
        return {"Lake": {"type": "paimon", "options": self.table.warehouse.options}}

    def rows(self) -> dict[str, str]:
        """As pypaimon reads them."""
        return {row["id"]: row["text"] for row in self.table.rows()}

    def insert(self, key: str, text: str) -> None:
        self.table.put({"id": key, "text": text})

    def update(self, key: str, text: str) -> None:
        self.table.put({"id": key, "text": text})

    def delete(self, key: str) -> None:
        self.table.delete({"id": key, "text": ""})

    def move(self, key: str, to: str, text: str) -> None:
        gone = {"id": key, "text": "", "kind": "-D"}
        self.table.write([gone, {"id": to, "text": text, "kind": "+I"}])

    def truncate(self) -> None:
        self.table.truncate()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """An empty table."""
    return Followed(tmp_path / "warehouse")


@pytest.mark.slow
class TestBroken(Broken):
    """Broken off in this process."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry, with pypaimon loaded."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.io.paimon.kind")
    yield nursery
    nursery.close()


@pytest.fixture(
    params=[pytest.param(k, marks=pytest.mark.heavy(server=s)) for k, (_, s) in STORES.items()]
)
def store(request: pytest.FixtureRequest) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    place = STORES[request.param][0](DIMENSION)
    yield place
    place.close()


@pytest.mark.service
@pytest.mark.slow
class TestKilled(Killed):
    """Killed as whole processes."""
