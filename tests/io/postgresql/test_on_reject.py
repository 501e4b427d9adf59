"""What stands in a table of PostgreSQL after an update that a step rejects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.on_reject import DIMENSION, RejectContract, RejectPlace
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import running

pytestmark = [pytest.mark.service, pytest.mark.slow]


class PostgresPlace(RejectPlace):
    """A table whose vectors may be null, or may not."""

    server_refuses = "-7"

    def __init__(self, *, holds_null: bool) -> None:
        super().__init__()
        self.holds_null = holds_null
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")

    def source(self) -> dict[str, Any]:
        """The test server."""
        return {
            "type": "postgresql",
            "host": "127.0.0.1",
            "port": self.server.port,
            "database": DATABASE,
            "username": USER,
            "password": PASSWORD,
        }

    def writer(self) -> dict[str, Any]:
        """A table that keeps versions."""
        vector = {"name": "vector", "type": "vector", "dimension": DIMENSION}
        return {
            "stepType": "postgresql",
            "parameter": {
                "table": self.name,
                "schemaCreateMode": "createIfNotExist",
                "versionColumn": "v",
                "column": [
                    {"name": "id", "type": "varchar(64)", "primaryKey": True},
                    {"name": "text", "type": "text"},
                    {"name": "number", "type": "int8"},
                    vector | {"nullable": self.holds_null},
                ],
            },
        }

    def ready(self) -> None:
        """The server checks each number."""
        self.server.execute(f'ALTER TABLE "{self.name}" ADD CHECK (number >= 0)')

    def texts(self) -> dict[str, str]:
        """All rows."""
        with self.server.client() as connection:
            return dict(connection.execute(f'SELECT id, text FROM "{self.name}"').fetchall())


@pytest.mark.parametrize("place", [True, False], indirect=True, ids=["null", "not null"])
class TestPostgres(RejectContract):
    """Both kinds of tables."""

    @pytest.fixture
    def place(self, request: pytest.FixtureRequest) -> PostgresPlace:
        """A table of its own."""
        return PostgresPlace(holds_null=request.param)
