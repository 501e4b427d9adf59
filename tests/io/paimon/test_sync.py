"""A sync of a Paimon table passes the contract of all sources that are followed."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)

from tests.contracts import sync_memory
from tests.contracts.sync import (
    DIMENSION,
    Asked,
    Broken,
    Killed,
    Script,
    differences,
    embedded,
    run_here,
    write_job,
)
from tests.contracts.sync_memory import held
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, StorePlace, stores_of
from tests.io.paimon.following import Changing
from tests.io.paimon.support import DATABASE, Warehouse
from tests.services.elasticsearch import ElasticsearchServer
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError
from vecferry.io.paimon.changes import PaimonChanges
from vecferry.io.paimon.settings import PaimonSettings
from vecferry.pipelines.cli.app import run_line
from vecferry.pipelines.run.report import Report
from vecferry.positions import Position
from vecferry.steps import RangeSource, StepContext

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


@pytest.mark.long
class TestAsked(Asked):
    """Asked for something while it is broken off in this process."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry, with pypaimon loaded."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.io.paimon.kind")
    yield nursery
    nursery.close()


@pytest.fixture(params=stores_of(ElasticsearchServer))
def store(request: pytest.FixtureRequest) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    place = STORES[request.param][0](DIMENSION)
    yield place
    place.close()


@pytest.mark.service
@pytest.mark.slow
class TestKilled(Killed):
    """Killed as whole processes."""


class Job:
    """A sync of a table into memory."""

    def __init__(self, folder: Path, endpoint: EndpointServer, **writer: Any) -> None:
        self.script, self.endpoint = Followed(folder / "warehouse"), endpoint
        self.name = uuid.uuid4().hex
        parameter = {"name": self.name, "column": ["id", "text", "vector"], **writer}
        step = {"stepType": "held", "category": "writer", "name": "Write", "parameter": parameter}
        self.path = write_job(folder, self.script, step, endpoint.url, random.Random(1))
        self.sources = folder / "sources.json"
        self.sources.write_text(json.dumps(self.script.sources()))

    def run(self) -> Report:
        """All that has happened."""
        return run_here(self.path, sync_memory.KINDS, sources=self.sources)

    def differences(self) -> list[str]:
        """How the target differs from the table."""
        there = {k: (r["text"], r["vector"]) for k, r in held(self.name).there().items()}
        return differences(self.script.rows(), there)

    def paid(self) -> int:
        """How many texts were embedded."""
        return len(embedded(self.endpoint))


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


@pytest.mark.slow
def test_a_sync_holds_its_snapshots_until_its_position_is_reset(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Under the job's name; a copy of the job under another name holds its own."""
    job = Job(tmp_path, endpoint)
    job.script.insert("a", "text of a")
    assert job.run().state == "DONE"
    assert job.script.table.consumers() == {"kept": 1}
    job.script.insert("b", "text of b")
    job.script.update("a", "another text of a")
    job.run()
    assert job.script.table.consumers() == {"kept": 3}
    assert run_line(["position", "reset", str(job.path), "-d", str(job.sources)]) == 0
    assert job.script.table.consumers() == {}
    assert job.run().state == "DONE"
    assert (job.differences(), job.paid()) == ([], 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sides", "mended"),
    [
        (["--from", "b", "--to", "c"], "bc"),
        (["--from", "c"], "cd"),
        (["--to", "b"], "ab"),
        (["--from", "it's", "--to", "z"], ""),
    ],
)
def test_a_range_of_keys_is_read_again(
    tmp_path: Path, endpoint: EndpointServer, sides: list[str], mended: str
) -> None:
    """As it is at the position; what changes later is newer."""
    job = Job(tmp_path, endpoint)
    for key in "abcd":
        job.script.insert(key, f"text of {key}")
    job.run()
    there = held(job.name)
    for key in "abcd":
        there.rows[key] = {**there.there()[key], "text": "broken"}
    job.script.update("b", "changed")
    rejects = str(tmp_path / "rejects")
    command = ["resync", str(job.path), "-d", str(job.sources), *sides, "--rejects", rejects]
    assert run_line(command) == 0
    assert job.run().rows_stale == 0
    right = sorted({*mended, "b"})
    assert [key for key in "abcd" if there.there()[key]["text"] != "broken"] == right
    job.script.update("c", "changed later")
    assert job.run().rows_stale == 0
    assert there.there()["c"]["text"] == "changed later"


@pytest.mark.slow
def test_what_is_not_a_key_ends_a_resync_before_it_begins(tmp_path: Path) -> None:
    """The type of the key is told; a key of several columns has no ranges."""
    warehouse = Warehouse(tmp_path)
    schema = pa.schema([pa.field(n, pa.int64(), nullable=False) for n in ("id", "part")])
    warehouse.make("one", schema, keys=["id"])
    warehouse.make("two", schema, keys=["id", "part"])
    position = Position(epoch=1, identity="", phase="changes", at={"snapshot": 0})
    for table, side, words in (
        ("one", "x", r"--from 'x': is not a value of the key 'id', which is of the type BIGINT"),
        ("two", "1", "has the key id, part, and only a key of one column has ranges"),
    ):
        source = PaimonChanges(
            PaimonSettings.model_validate({"database": DATABASE, "table": table}),
            warehouse.connection,
            StepContext(step="Read", step_type="paimon"),
        )
        assert isinstance(source, RangeSource)
        with pytest.raises(JobError, match=words):
            source.span_of_keys(position, side, None)


@pytest.mark.slow
def test_what_expired_is_read_anew_and_known_texts_are_not_paid_for(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """What was deleted meanwhile goes; the report says why."""
    job = Job(tmp_path, endpoint)
    for key in "abcd":
        job.script.insert(key, f"text of {key}")
    job.run()
    paid = job.paid()
    job.script.delete("b")
    job.script.insert("e", "text of a")
    job.script.table.expire(job.script.table.last)
    report = job.run()
    assert any("snapshot 4 has expired" in note for note in report.notes)
    assert (report.state, job.differences(), job.paid()) == ("DONE", [], paid)


@pytest.mark.slow
def test_what_expired_ends_a_sync_that_may_not_delete(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Nothing is written, and both ways out are told."""
    job = Job(tmp_path, endpoint, ownsTarget=False)
    job.script.insert("a", "text of a")
    job.run()
    job.script.delete("a")
    job.script.insert("b", "text of b")
    job.script.table.expire(3)
    with pytest.raises(JobError, match="snapshot 1 has expired") as raised:
        job.run()
    assert "ownsTarget: true" in str(raised.value)
    assert "position reset" in str(raised.value)
    assert sorted(held(job.name).there()) == ["a"]


@pytest.mark.slow
def test_an_empty_table_is_followed(tmp_path: Path, endpoint: EndpointServer) -> None:
    """Also a commit that touches no row moves the position on."""
    job = Job(tmp_path, endpoint)
    assert (job.run().rows_read, job.differences()) == (0, [])
    job.script.insert("a", "text of a")
    job.script.delete("a")
    job.run()
    job.script.truncate()
    report = job.run()
    assert report.position is not None
    assert report.position["at"]["snapshot"] == job.script.table.last
    job.script.truncate()
    assert (job.run().rows_read, job.differences()) == (0, [])
