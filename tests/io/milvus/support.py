"""What the tests of Milvus share: a Milvus Lite file per test, and a few settings."""

from __future__ import annotations

import numpy as np
from pymilvus import DataType, MilvusClient

from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.process import end_run
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

KEY = {"name": "id", "type": "Int64", "primaryKey": True}
TEXT = {"name": "text", "type": "VarChar", "maxLength": "100"}
VECTOR = {"name": "vector", "type": "FloatVector", "dimension": "4", "elementType": "None"}


def vector(i, dimension=4):
    """A vector of its own for each number, never of length 0."""
    return np.random.default_rng(i).normal(size=dimension).astype(np.float32)


def rows(n, first=0):
    return [{"id": i, "text": f"text {i}", "vector": vector(i)} for i in range(first, first + n)]


class Lite:
    """Milvus Lite files in one folder, and the targets opened on them."""

    def __init__(self, folder):
        self.path = str(folder / "vectors.db")
        self._runs = []

    def connection(self):
        return MilvusConnection(endpoint=self.path)

    def settings(self, **more):
        return MilvusSettings.model_validate(
            {"collection": "docs", "column": [KEY, TEXT, VECTOR]} | more
        )

    def target(self, *, prepared=True, **more):
        context = StepContext(step="Writer", step_type="milvus", retry_deadline=300)
        self._runs.append(context.run)
        target = MilvusTarget(self.settings(**more), self.connection(), context)
        if prepared:
            target.prepare()
        return target

    def client(self):
        return MilvusClient(self.path)

    def made_beforehand(self, name="docs", **options):
        """A collection that someone else made: automatic id, text, vector; not from a job."""
        client = self.client()
        schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field("text", DataType.VARCHAR, max_length=options.get("max_length", 65535))
        schema.add_field("my_vector", DataType.FLOAT_VECTOR, dim=options.get("dimension", 4))
        client.create_collection(name, schema=schema)

    def close(self):
        for run in self._runs:
            end_run(run)


def write(target, changes, operator=None):
    """Rows that were written, and rejects, of one bundle."""
    operator = operator or target.operator()
    out = []
    for change in changes:
        out += operator.process(change if isinstance(change, Change) else Change(change))
    out += operator.finish()
    items = [item for item, _ in out]
    return [i for i in items if isinstance(i, Change)], [i for i in items if isinstance(i, Reject)]
