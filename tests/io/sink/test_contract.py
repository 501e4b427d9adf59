"""The contract of sinks on the stores that start fast: two writers into tables, and Milvus Lite."""

from __future__ import annotations

import pytest

from tests.io.milvus.support import Lite
from tests.io.postgresql.support import Tables
from vecferry.io.milvus import MilvusSettings
from vecferry.testing.sinks import DIMENSION, MOST_TEXT, SinkContract, SinkPlace


@pytest.mark.service
class TestTables(SinkContract):
    """The writers `postgresql` and `hologres`, on PostgreSQL 18 with pgvector."""

    @pytest.fixture(params=["postgresql", "hologres"])
    def place(self, request):
        place = Tables(request.param)
        yield place
        place.close()


class LitePlace(SinkPlace):
    """A file of Milvus Lite."""

    step_type = "milvus"

    def __init__(self, folder):
        self._lite = Lite(folder)
        self._lite.settings = self._settings

    def _settings(self, **more):
        columns = [
            {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
            {"name": "text", "type": "VarChar", "maxLength": MOST_TEXT},
            {"name": "number", "type": "Int64"},
            {"name": "vector", "type": "FloatVector", "dimension": DIMENSION},
        ]
        return MilvusSettings.model_validate({"collection": "docs", "column": columns} | more)

    def target(self, **settings):
        return self._lite.target(**settings)

    def count(self, target):
        return target.row_count()

    def read(self, target):
        client = self._lite.client()
        client.load_collection("docs")
        found = client.query(
            "docs", filter="number >= -1", output_fields=["id", "text", "number"], limit=16000
        )
        client.close()
        return {row["id"]: row for row in found}

    def close(self):
        self._lite.close()


@pytest.mark.slow
class TestMilvusLite(SinkContract):
    """The writer `milvus` on a file."""

    @pytest.fixture
    def place(self, tmp_path):
        place = LitePlace(tmp_path)
        yield place
        place.close()
