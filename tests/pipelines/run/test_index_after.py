"""Runs that create their target, and build its index once the rows are in, on the real stores.

They are killed or interrupted at moments of the load and of the building. The next run then builds
the index, and sets back what was set.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sync import (
    DIMENSION,
    Script,
    Scripted,
    Writer,
    differences,
    embed,
    run_here,
    write_job,
)
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, Found, MilvusPlace, PostgresPlace, StorePlace
from tests.pipelines.support import main_job, rows
from tests.services.postgres import Postgres
from tests.services.server import eventually
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.testing.scripted import KINDS as SCRIPTED

pytestmark = pytest.mark.service

ROWS = 300


class LitePlace(MilvusPlace):
    """A file of Milvus Lite, which nobody else may open meanwhile."""

    def __init__(self, folder: Path) -> None:
        StorePlace.__init__(self, DIMENSION)
        self._path = str(folder / "vectors.db")

    def source(self) -> dict[str, Any]:
        """The path."""
        return {"type": "milvus", "endpoint": self._path}

    def writer(self) -> dict[str, Any]:
        """With the index that is usual."""
        step = super().writer()
        del step["parameter"]["column"][2]["indexType"]
        return step

    def found(self) -> Found:
        """All rows."""
        return self._ask(super().found)

    def is_whole(self) -> bool:
        """An index, and no more is promised."""
        return self._ask(super().is_whole)

    def _ask(self, ask: Any) -> Any:
        from milvus_lite.server_manager import server_manager_instance

        self.server: Any = self
        found = ask()
        server_manager_instance.release_server(self._path)
        return found

    def client(self) -> Any:
        """A client of the file."""
        from pymilvus import MilvusClient

        client = MilvusClient(self._path)
        if client.has_collection(self.name):
            client.load_collection(self.name)
        return client

    def kind(self) -> str:
        """The type of its index."""

        def ask() -> str:
            client = self.client()
            told = client.describe_index(self.name, index_name="vector")
            client.close()
            return str(told["index_type"])

        return str(self._ask(ask))

    def close(self) -> None:
        """The folder is the test's."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry in no time."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.testing.scripted")
    yield nursery
    nursery.close()


@pytest.fixture(
    params=[
        "postgresql",
        "lite",
        *(
            pytest.param(kind, marks=[pytest.mark.heavy(server=server), pytest.mark.slow])
            for kind, (_, server) in STORES.items()
            if server is not Postgres
        ),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    kind = request.param
    place = LitePlace(tmp_path) if kind == "lite" else STORES[kind][0](DIMENSION)
    yield place
    place.close()


@pytest.fixture
def postgres() -> Iterator[PostgresPlace]:
    """A table of its own."""
    place = PostgresPlace(DIMENSION)
    yield place
    place.close()


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Slow enough for a run to be met in its load, unless a test makes it quick."""
    with EndpointServer(latency=0.3) as server:
        yield server


class Job:
    """A job of files into a store, which reads once."""

    def __init__(self, folder: Path, store: StorePlace, url: str, n: int = ROWS) -> None:
        (folder / "in").mkdir()
        self.folder, self.store = folder, store
        self.texts = {row["id"]: row["text"] for row in rows(n)}
        lines = [json.dumps(row) + "\n" for row in rows(n)]
        (folder / "in" / "rows.jsonl").write_text("".join(lines))
        files = {"type": "local", "path": str(folder / "in")}
        sources = {"Files": files, "Store": store.source()}
        (folder / "sources.json").write_text(json.dumps(sources))
        reader, extract, *_ = main_job()["steps"]
        self.steps = [reader, extract, embed(url), store.writer()]

    def line(self, **parameter: Any) -> list[str]:
        """The command line; `parameter` is the writer's."""
        self.steps[-1]["parameter"] |= parameter
        setting = {"errorLimit": {"record": 0}, "speed": {"concurrent": 2}}
        job = {"type": "job", "version": "2.0", "steps": self.steps, "setting": setting}
        path = self.folder / "job.json"
        path.write_text(json.dumps(job))
        rejects = ["--rejects", str(self.folder / "rejects")]
        return ["run", str(path), "-d", str(self.folder / "sources.json"), *rejects]

    def is_done(self) -> bool:
        """Whether the store holds all rows, and is whole."""
        return self.store.is_whole() and differences(self.texts, self.store.found()) == []


def loading(endpoint: EndpointServer) -> bool:
    """Whether a run has begun to write, and is far from its end."""
    return 4 <= len(endpoint.good) < ROWS // 20


def test_a_run_that_is_killed_in_its_load_leaves_the_index_to_the_next(
    store: StorePlace, nursery: Nursery, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """kill -9; the target tells what it goes without."""
    job = Job(tmp_path, store, endpoint.url)
    process = nursery.start(*job.line())
    eventually(lambda: loading(endpoint))
    assert nursery.end(process, signal.SIGKILL) == -signal.SIGKILL
    assert not store.is_whole()
    endpoint.latency = 0
    assert nursery.ended(nursery.start(*job.line())) == 0, nursery.log.read_text()
    assert job.is_done()


@pytest.mark.in_turn("store")
def test_a_run_that_is_interrupted_says_what_is_left(
    store: StorePlace, nursery: Nursery, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """What is cheap is set back at once; the index is built by the next run."""
    job = Job(tmp_path, store, endpoint.url)
    process = nursery.start(*job.line())
    eventually(lambda: loading(endpoint))
    before = len(nursery.log.read_text())
    assert nursery.end(process, signal.SIGTERM) == 130
    said = nursery.log.read_text()[before:]
    quick = store.is_whole()
    assert ("the next run of the job" in said) != quick
    endpoint.latency = 0
    assert nursery.ended(nursery.start(*job.line())) == 0, nursery.log.read_text()
    assert job.is_done()


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_ends_in_the_building_leaves_it_to_the_next(
    postgres: PostgresPlace,
    nursery: Nursery,
    endpoint: EndpointServer,
    tmp_path: Path,
    kind: signal.Signals,
) -> None:
    """All rows are in; neither index nor a process of the server stays behind."""
    endpoint.latency = 0
    job = Job(tmp_path, postgres, endpoint.url)
    server, table = postgres.server, f'"{postgres.name}"'
    waiting = f"SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"
    process = nursery.start(*job.line())
    with server.client() as watcher:

        def there() -> bool:
            found = watcher.execute("SELECT to_regclass(%s)", [table]).fetchone()
            return bool(found and found[0])

        eventually(there)
        with server.client(autocommit=False) as other:
            other.execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
            eventually(lambda: bool(watcher.execute(waiting).fetchall()))
            before = len(nursery.log.read_text())
            status = nursery.end(process, kind)
            assert status == (-kind if kind == signal.SIGKILL else 130)
            eventually(lambda: not watcher.execute(waiting).fetchall())
    said = nursery.log.read_text()[before:]
    assert ("CREATE INDEX" in said) == (kind == signal.SIGTERM)
    assert not postgres.is_whole()
    assert len(postgres.found()) == ROWS
    assert nursery.ended(nursery.start(*job.line())) == 0, nursery.log.read_text()
    assert job.is_done()


def test_the_report_tells_of_the_index_and_counts_its_seconds(
    postgres: PostgresPlace, nursery: Nursery, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """A statement of the job that comes last finds the index there."""
    endpoint.latency = 0
    job = Job(tmp_path, postgres, endpoint.url)
    index = f"{postgres.name}_vector_idx"
    last = [f'ALTER INDEX "{index}" RENAME TO "{index}2"', "SELECT pg_sleep(0.5)"]
    before = len(nursery.log.read_text())
    began = time.monotonic()
    process = nursery.start(*job.line(postSql=last), "--json")
    assert nursery.ended(process) == 0
    took = time.monotonic() - began
    said = nursery.log.read_text()[before:]
    report = json.loads(said[said.index("{\n") :])
    assert any("built the index on 'vector'" in note for note in report["notes"])
    assert 0.5 <= report["seconds"] <= took


def test_a_file_of_few_rows_gets_no_graph(
    nursery: Nursery, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Milvus Lite; an index that the job names is built."""
    endpoint.latency = 0
    place = LitePlace(tmp_path)
    job = Job(tmp_path, place, endpoint.url, 20)
    for named, found in (("", "FLAT"), ("HNSW", "HNSW")):
        more = {"indexType": named} if named else {}
        columns = [
            {**c, **(more if c["name"] == "vector" else {})}
            for c in job.steps[-1]["parameter"]["column"]
        ]
        line = job.line(column=columns, schemaCreateMode="recreate")
        assert nursery.ended(nursery.start(*line)) == 0, nursery.log.read_text()
        assert place.kind() == found


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """A table of 60 rows."""
    script = Scripted(tmp_path / "table")
    Writer(script, random.Random(1)).write(60, truncations=0)
    return script


def test_a_sync_builds_its_index_before_the_first_round_of_changes(
    store: StorePlace, script: Script, endpoint: EndpointServer, tmp_path: Path
) -> None:
    """Whatever comes in meanwhile is read afterwards."""
    endpoint.latency = 0
    job = write_job(tmp_path, script, store.writer(), endpoint.url, random.Random(2))
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps({"Store": store.source()}))
    seen: list[tuple[str, bool]] = []

    def on_step(step: str) -> None:
        if step == "index":
            script.insert(f"late{len(seen)}", "comes late")
        if step in ("index", "reconcile") and not isinstance(store, LitePlace):
            seen.append((step, store.is_whole()))

    assert run_here(job, SCRIPTED, on_step, sources).state == "DONE"
    assert seen in ([], [("index", False), ("reconcile", True)])
    assert store.is_whole()
    assert differences(script.rows(), store.found()) == []


@pytest.mark.in_turn("at")
@pytest.mark.parametrize(
    "at",
    [
        pytest.param("round", marks=pytest.mark.slow),
        "index",
        pytest.param("reconcile", marks=pytest.mark.slow),
    ],
)
def test_a_sync_that_is_killed_in_its_full_load_builds_its_index_later(
    store: StorePlace,
    script: Script,
    endpoint: EndpointServer,
    nursery: Nursery,
    tmp_path: Path,
    at: str,
) -> None:
    """At each end of the building, and before."""
    endpoint.latency = 0
    job = write_job(tmp_path, script, store.writer(), endpoint.url, random.Random(2))
    sources = tmp_path / "sources.json"
    sources.write_text(json.dumps({"Store": store.source()}))
    line = ["run", str(job), "-d", str(sources), "--rejects", str(tmp_path / "rejects")]
    process = nursery.start(*line, at=at)
    assert nursery.ended(process) == -signal.SIGKILL, nursery.log.read_text()
    assert store.is_whole() == (at == "reconcile")
    assert nursery.ended(nursery.start(*line)) == 0, nursery.log.read_text()
    assert store.is_whole()
    assert differences(script.rows(), store.found()) == []
