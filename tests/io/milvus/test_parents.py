"""Documents in a collection of Milvus, which are replaced with all their chunks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.parents import DIMENSION, MAPPING, ParentContract, ParentPlace
from tests.services.milvus import MilvusServer
from tests.services.server import running
from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.steps import StepContext


class MilvusPlace(ParentPlace):
    """Collections, whose vectors can't be null."""

    holds_null = False
    step_type = "milvus"

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        given = {"endpoint": endpoint, "connectTimeoutMs": 120_000}
        self.connection = MilvusConnection.model_validate(given)
        self.name = f"p{uuid.uuid4().hex[:12]}"

    def opened(self, name: str, context: StepContext, settings: dict[str, Any]) -> MilvusTarget:
        """A collection, created if it is missing."""
        vector = {"name": "vector", "type": "FloatVector", "dimension": DIMENSION}
        given: dict[str, Any] = {
            "collection": f"{self.name}{name}",
            "column": [
                {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
                {"name": "path", "type": "VarChar", "maxLength": 64},
                {"name": "chunk_index", "type": "Int64"},
                {"name": "text", "type": "VarChar", "maxLength": 200},
                vector | {"indexType": "FLAT"},
            ],
            "columnMapping": MAPPING,
        }
        made = MilvusSettings.model_validate({**given, **settings})
        return MilvusTarget(made, self.connection, context)


@pytest.mark.slow
class TestLite(ParentContract):
    """A file."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[MilvusPlace]:
        """Collections of their own."""
        place = MilvusPlace(str(tmp_path / "vectors.db"))
        yield place
        place.close()


@pytest.mark.service
@pytest.mark.slow
@pytest.mark.long
class TestServer(ParentContract):
    """A server."""

    @pytest.fixture
    def place(self) -> Iterator[MilvusPlace]:
        """Collections of their own."""
        place = MilvusPlace(running(MilvusServer).uri)
        yield place
        place.close()
