"""The contract of sinks on a Milvus server, 2.3.5, which asks for a login."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from tests.pipelines.support import Bench, rows
from tests.services.milvus import LockedMilvusServer, TightMilvusServer
from tests.services.server import running, stop
from vecferry.errors import JobError
from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.client import handle_of
from vecferry.io.milvus.target import MilvusTarget
from vecferry.io.sink.target import WRITES_IN_FLIGHT
from vecferry.process import end_run
from vecferry.steps import StepContext
from vecferry.testing.sinks import DIMENSION, MOST_TEXT, SinkContract, SinkPlace, write
from vecferry.testing.sinks import rows as sink_rows

pytestmark = [pytest.mark.service, pytest.mark.slow]

COLUMNS = [
    {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
    {"name": "text", "type": "VarChar", "maxLength": MOST_TEXT},
    {"name": "number", "type": "Int64"},
    {"name": "vector", "type": "FloatVector", "dimension": DIMENSION, "indexType": "FLAT"},
]


class ServerPlace(SinkPlace):
    """A collection of the server."""

    step_type = "milvus"
    dies = True

    def __init__(self):
        self.server = running(LockedMilvusServer)
        self.collection = f"t{uuid.uuid4().hex[:12]}"
        self._runs = []

    def connection(self, **more):
        login = {"username": self.server.user, "password": self.server.password}
        patience = {"connectTimeoutMs": 120_000}  # it may just have been killed, and started again
        given = {"endpoint": self.server.uri, **login, **patience, **more}
        return MilvusConnection.model_validate(given)

    def unprepared(self, connection=None, **more):
        context = self.context()
        self._runs.append(context.run)
        settings = {"collection": self.collection, "column": COLUMNS} | more
        return MilvusTarget(
            MilvusSettings.model_validate(settings), connection or self.connection(), context
        )

    def target(self, **settings):
        target = self.unprepared(**settings)
        target.prepare()
        return target

    def count(self, target):
        return target.row_count()

    def read(self, target):
        client = self.server.client()
        found = client.query(
            self.collection,
            filter="number >= -1",
            output_fields=["id", "text", "number"],
            limit=16000,
            consistency_level="Strong",
        )
        client.close()
        return {row["id"]: row for row in found}

    def locked_out(self):
        wrong = "quite-wrong-pass"
        return self.unprepared(self.connection(password=wrong)), wrong

    def kill(self):
        self.server.kill()

    def start(self):
        self.server.start()
        client = self.server.client()
        client.load_collection(self.collection)
        client.close()

    def close(self):
        for run in self._runs:
            end_run(run)
        client = self.server.client()
        client.drop_collection(self.collection)
        client.close()


@pytest.fixture(scope="module")
def server():
    """One server for these tests, which takes half a gigabyte."""
    yield
    stop(LockedMilvusServer)
    stop(TightMilvusServer)


@pytest.fixture
def place(server):
    place = ServerPlace()
    yield place
    place.close()


class TestMilvusServer(SinkContract):
    """The writer `milvus` on a server."""


KEY = {"name": "id", "type": "Int64", "primaryKey": True}
NEAR = {"name": "v", "type": "FloatVector", "dimension": 4, "indexType": "FLAT"}
NUMBERS = np.array([1, -2, 3, 4], dtype=np.float32)


@pytest.mark.parametrize(
    ("columns", "given", "kept"),
    [
        ([NEAR, {"name": "x", "type": "Int64", "defaultValue": "7"}], {"x": None}, {"x": 7}),
        ([NEAR, {"name": "x", "type": "Bool"}], {"x": "false"}, {"x": False}),
        ([NEAR, {"name": "x", "type": "Int8"}], {"x": -128}, {"x": -128}),
        ([NEAR, {"name": "x", "type": "Int16"}], {"x": "32767"}, {"x": 32767}),
        ([NEAR, {"name": "x", "type": "Int32"}], {"x": -7.0}, {"x": -7}),
        ([NEAR, {"name": "x", "type": "Float"}], {"x": 1.5}, {"x": 1.5}),
        ([NEAR, {"name": "x", "type": "Double"}], {"x": "1e300"}, {"x": 1e300}),
        ([NEAR, {"name": "x", "type": "JSON"}], {"x": '{"a":[1,null]}'}, {"x": {"a": [1, None]}}),
        (
            [NEAR, {"name": "x", "type": "Array", "elementType": "Int64", "maxCapacity": 4}],
            {"x": [1, 2]},
            {"x": [1, 2]},
        ),
        (
            [NEAR, {"name": "x", "type": "Array", "elementType": "VarChar", "maxLength": 9}],
            {"x": ["é", ""]},
            {"x": ["é", ""]},
        ),
        (
            [NEAR, {"name": "x", "type": "VarChar", "maxLength": 9, "partitionKey": True}],
            {"x": "部分"},
            {"x": "部分"},
        ),
        (
            [{"name": "w", "type": "BinaryVector", "dimension": 16}],
            {"w": b"\1\2"},
            {"w": [b"\1\2"]},
        ),
    ],
    ids=lambda value: value[-1].get("type") if isinstance(value, list) else "",
)
def test_a_value_of_each_type_comes_back_as_it_went_in(place, columns, given, kept):
    """Scalars, arrays, JSON, defaults, partition keys and vectors, written twice, once there."""
    target = place.target(column=[KEY, *columns])
    for _ in range(2):
        written, rejects = write(target, [{"id": 1, "v": NUMBERS, **given}])
        assert (len(written), rejects) == (1, [])
    client = place.server.client()
    (found,) = client.query(
        place.collection, filter="id > 0", output_fields=["*"], consistency_level="Strong"
    )
    client.close()
    assert {name: found[name] for name in kept} == kept


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            [NEAR, {"name": "x", "type": "Int64", "nullable": True}],
            "nullable (column 'x') needs 2.5",
        ),
        ([{"name": "w", "type": "SparseFloatVector"}], "SparseFloatVector (column 'w') needs 2.4"),
        (
            [{"name": "w", "type": "BFloat16Vector", "dimension": 4}],
            "BFloat16Vector (column 'w') needs 2.4",
        ),
        (
            [{"name": "w", "type": "Float16Vector", "dimension": 4}],
            "Float16Vector (column 'w') needs 2.4",
        ),
        ([NEAR, {**NEAR, "name": "w"}], "more than one vector (v, w) needs 2.4"),
    ],
)
def test_what_the_server_is_too_old_for_is_told_and_nothing_created(place, columns, words):
    """2.3 would take a nullable column and refuse its nulls, leave half a collection, or die."""
    target = place.unprepared(column=[KEY, *columns])
    with pytest.raises(JobError) as caught:
        target.prepare()
    assert f"the server is version 2.3, and {words}" in str(caught.value)
    client = place.server.client()
    assert not client.has_collection(place.collection)
    client.close()


def test_rows_go_into_the_partition_that_the_job_names(place):
    """It is made where it is missing."""
    target = place.target(partition="today", column=[KEY, NEAR])
    write(target, [{"id": n, "v": NUMBERS} for n in range(3)])
    client = place.server.client()
    held = {
        name: client.query(
            place.collection,
            filter="",
            output_fields=["count(*)"],
            partition_names=[name],
            consistency_level="Strong",
        )[0]["count(*)"]
        for name in ("today", "_default")
    }
    client.close()
    assert held == {"today": 3, "_default": 0}


def test_a_job_with_a_wrong_password_ends_with_status_2_and_shows_none(place, tmp_path, capsys):
    """Before anything is read; with the right one it runs, and a query answers."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(100))
    source = {"type": "milvus", "endpoint": place.server.uri, "username": place.server.user}
    bench.step("Writer")["collection"] = place.collection
    bench.sources["Vectors"] = {**source, "password": "quite-wrong-pass"}
    refused = bench.call("run")
    assert (refused.status, "refuses the login" in refused.err) == (2, True), refused.err
    assert "quite-wrong-pass" not in refused.out + refused.err
    bench.sources["Vectors"] = {**source, "password": place.server.password}
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 100)
    found = bench.call("query", rows(100)[42]["text"], "-k", "1", "--json")
    assert (found.status, found.json["hits"][0]["id"]) == (0, rows(100)[42]["id"]), found.err


def test_a_server_is_written_to_by_several_requests_at_once(place):
    """As Milvus Lite is not; the one of the wheel calls itself v2.3.5-lite, and is none."""
    assert not handle_of(place.connection(), place.context().run).is_lite
    assert place.target().operator().limits.in_flight == WRITES_IN_FLIGHT


def test_a_server_that_limits_the_rate_of_changes_is_waited_for(server):
    """Its refusals are retried; no row is rejected."""
    tight = running(TightMilvusServer)
    context = StepContext(step="Writer", step_type="milvus", retry_deadline=300)
    settings = MilvusSettings(collection="slow", column=COLUMNS, batch_size=100)
    target = MilvusTarget(
        settings, MilvusConnection(endpoint=tight.uri, connect_timeout_ms=120_000), context
    )
    target.prepare()
    operator = target.operator()
    written, rejects = write(target, sink_rows(2000), operator)
    assert (len(written), rejects, target.row_count()) == (2000, [], 2000)
    assert operator.counts.values["write-retries"] > 0
    end_run(context.run)


def test_a_missing_login_is_told_as_one(place):
    """Not as a server that is away, which a run would wait for."""
    with pytest.raises(JobError, match="refuses the login: missing authorization"):
        place.unprepared(MilvusConnection(endpoint=place.server.uri)).check()
