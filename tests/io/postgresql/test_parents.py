"""Documents in a table of PostgreSQL, which are replaced with all their chunks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts.parents import DIMENSION, MAPPING, ParentContract, ParentPlace
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import running
from vecferry.io.postgresql import PostgresConnection, PostgresWriterSettings
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.steps import StepContext

pytestmark = [pytest.mark.service, pytest.mark.slow]


class PostgresPlace(ParentPlace):
    """Tables that keep versions."""

    keeps_versions = True
    step_type = "postgresql"

    def __init__(self) -> None:
        super().__init__()
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.name = f"p{uuid.uuid4().hex[:12]}"

    def opened(self, name: str, context: StepContext, settings: dict[str, Any]) -> PostgresTarget:
        """A table, created if it is missing."""
        given: dict[str, Any] = {
            "table": f"{self.name}{name}",
            "schemaCreateMode": "createIfNotExist",
            "versionColumn": "v",
            "column": [
                {"name": "id", "type": "varchar(64)", "primaryKey": True},
                {"name": "path", "type": "text"},
                {"name": "chunk_index", "type": "int8"},
                {"name": "text", "type": "text"},
                {"name": "vector", "type": "vector", "dimension": DIMENSION},
            ],
            "columnMapping": MAPPING,
        }
        connection = PostgresConnection.model_validate(
            {
                "host": "127.0.0.1",
                "port": self.server.port,
                "database": DATABASE,
                "username": USER,
                "password": PASSWORD,
            }
        )
        made = PostgresWriterSettings.model_validate({**given, **settings})
        return PostgresTarget(made, connection, context)


class TestPostgres(ParentContract):
    """A server."""

    @pytest.fixture
    def place(self) -> Iterator[PostgresPlace]:
        """Tables of their own."""
        place = PostgresPlace()
        yield place
        place.close()
