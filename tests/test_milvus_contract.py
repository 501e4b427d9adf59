"""The contract of sinks on a Milvus server, 2.3.5, which asks for a login."""

from __future__ import annotations

import uuid

import pytest

from tests.services.milvus import LockedMilvusServer
from tests.services.server import running, stop
from tests.sink_contract import DIMENSION, MOST_TEXT, Place, SinkContract
from vecferry.errors import JobError
from vecferry.io.milvus_settings import MilvusConnection, MilvusSettings
from vecferry.io.milvus_target import MilvusTarget
from vecferry.process import end_run

pytestmark = [pytest.mark.service, pytest.mark.slow]

COLUMNS = [
    {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
    {"name": "text", "type": "VarChar", "maxLength": MOST_TEXT},
    {"name": "number", "type": "Int64"},
    {"name": "vector", "type": "FloatVector", "dimension": DIMENSION, "indexType": "FLAT"},
]


class ServerPlace(Place):
    """A collection of the server."""

    step_type = "milvus"
    dies = True

    def __init__(self):
        self.server = running(LockedMilvusServer)
        self.collection = f"t{uuid.uuid4().hex[:12]}"
        self._runs = []

    def connection(self, **more):
        login = {"username": self.server.user, "password": self.server.password}
        return MilvusConnection.model_validate({"endpoint": self.server.uri, **login, **more})

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


@pytest.fixture
def place(server):
    place = ServerPlace()
    yield place
    place.close()


class TestMilvusServer(SinkContract):
    """The writer `milvus` on a server."""


def test_a_missing_login_is_told_as_one(place):
    """Not as a server that is away, which a run would wait for."""
    with pytest.raises(JobError, match="refuses the login: missing authorization"):
        place.unprepared(MilvusConnection(endpoint=place.server.uri)).check()
