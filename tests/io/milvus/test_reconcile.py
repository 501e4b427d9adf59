"""Rows that a source no longer has, and collections compared with it, on a Milvus server.

For files of Milvus Lite see tests/io/sink/test_reconcile_contract.py.
"""

from __future__ import annotations

import uuid

import pytest

from tests.contracts.verify import VerifyContract
from tests.io.milvus.support import Lite, rows, write
from tests.services.milvus import MilvusServer
from tests.services.server import running
from vecferry.errors import JobError
from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.process import end_run
from vecferry.rows import Change
from vecferry.testing.reconciling import ReconcileContract, ReconcilePlace
from vecferry.testing.sinks import DIMENSION, MOST_TEXT, SinkPlace


class ServerPlace(SinkPlace):
    """A collection of a server of version 2.3.5."""

    step_type = "milvus"

    def __init__(self):
        self.collection = f"t{uuid.uuid4().hex[:12]}"
        self.server = running(MilvusServer)
        self._runs = []

    def target(self, **settings):
        columns = [
            {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
            {"name": "text", "type": "VarChar", "maxLength": MOST_TEXT},
            {"name": "number", "type": "Int64"},
            {"name": "vector", "type": "FloatVector", "dimension": DIMENSION},
        ]
        given = {"collection": self.collection, "column": columns} | settings
        context = self.context()
        self._runs.append(context.run)
        connection = MilvusConnection(endpoint=self.server.uri, connect_timeout_ms=120_000)
        target = MilvusTarget(MilvusSettings.model_validate(given), connection, context)
        target.prepare()
        return target

    def count(self, target):
        return target.row_count()

    def read(self, target):
        client = self.server.client()
        found = client.query(
            self.collection, filter="number >= -1", output_fields=["id", "text", "number"],
            limit=16000, consistency_level="Strong",
        )  # fmt: skip
        client.close()
        return {row["id"]: row for row in found}

    def close(self):
        client = self.server.client()
        client.drop_collection(self.collection)
        client.close()
        for run in self._runs:
            end_run(run)


@pytest.fixture
def place():
    place = ServerPlace()
    yield ReconcilePlace(place, versioned=False)
    place.close()


@pytest.mark.service
@pytest.mark.slow
class TestReconcile(ReconcileContract):
    """What every store must show."""


@pytest.mark.service
@pytest.mark.slow
class TestVerify(VerifyContract):
    """What every store must show."""

    has_null_vectors = False


@pytest.fixture
def lite(tmp_path):
    lite = Lite(tmp_path)
    yield lite
    lite.close()


@pytest.mark.slow
def test_whole_numbers_are_keys_below_zero_as_well(lite):
    """In the order of numbers, not of their texts."""
    target = lite.target(ownsTarget=True)
    data = [{**row, "id": row["id"] - 350} for row in [*rows(700), *rows(2, 10**15)]]
    assert write(target, data)[1] == []
    assert [row.key for row in target.scan(())] == [row["id"] for row in data]
    found = target.reconcile(1, lambda: (Change({"id": str(row["id"])}) for row in data[::2]))
    assert (found.deleted, found.kept) == (351, 351)


@pytest.mark.slow
def test_a_partition_of_milvus_lite_is_not_compared(lite):
    """Rows of other partitions would be taken for ghosts."""
    target = lite.target(ownsTarget=True, partition="one")
    write(target, rows(3))
    with pytest.raises(JobError, match="all partitions at once"):
        target.reconcile(1, lambda: iter(()))
    assert target.row_count() == 3
