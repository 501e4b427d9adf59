"""What stands in a collection after an update that a step rejects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.on_reject import DIMENSION, RejectContract, RejectPlace
from tests.services.milvus import MilvusServer
from tests.services.server import running

pytestmark = [pytest.mark.service, pytest.mark.slow]


class MilvusPlace(RejectPlace):
    """A collection of a server, whose vectors can't be null."""

    holds_null = False

    def __init__(self) -> None:
        super().__init__()
        self.server = running(MilvusServer)

    def source(self) -> dict[str, Any]:
        """The test server."""
        return {"type": "milvus", "endpoint": self.server.uri, "connectTimeoutMs": 120_000}

    def writer(self) -> dict[str, Any]:
        """A collection that is searched row by row."""
        vector = {"name": "vector", "type": "FloatVector", "dimension": DIMENSION}
        return {
            "stepType": "milvus",
            "parameter": {
                "collection": self.name,
                "column": [
                    {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
                    {"name": "text", "type": "VarChar", "maxLength": 200},
                    {"name": "number", "type": "Int64"},
                    vector | {"indexType": "FLAT"},
                ],
            },
        }

    def texts(self) -> dict[str, str]:
        """All rows."""
        client = self.server.client()
        try:
            found = client.query(
                self.name,
                filter="number >= -1",
                output_fields=["id", "text"],
                limit=100,
                consistency_level="Strong",
            )
        finally:
            client.close()
        return {row["id"]: row["text"] for row in found}


class TestMilvus(RejectContract):
    """A server."""

    @pytest.fixture
    def place(self) -> MilvusPlace:
        """A collection of its own."""
        return MilvusPlace()
