"""The contract of marks on tables and collections.

For indices see tests/io/search/test_contract.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient

from tests.io.postgresql.support import KEY, KINDS, TEXT, Tables
from tests.services.milvus import MilvusServer
from tests.services.server import running
from vecferry.errors import JobError
from vecferry.io.milvus import MilvusConnection, MilvusSettings
from vecferry.io.milvus.target import MilvusTarget
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.testing.marks import ONE, OTHER, MarkContract, MarkPlace, refusal
from vecferry.testing.sinks import DIMENSION


class TablePlace(MarkPlace):
    """A table of PostgreSQL, which has no alias."""

    aliases = False

    def __init__(self, step_type: str) -> None:
        super().__init__()
        self.step_type = step_type
        self.tables = Tables(step_type)
        self._settings, _, kind = KINDS[step_type]
        vector = {"name": "vector", "dimension": DIMENSION, **kind}
        self.columns = [KEY, TEXT, vector]

    def make(self, name, context, **settings: Any):
        given = self._settings.model_validate({"table": name, **settings})
        return PostgresTarget(given, self.tables.connection(), context)

    def by_hand(self, name, note=None):
        kind = "vector(8)" if self.step_type == "postgresql" else "float4[]"
        self.tables.execute(
            f'CREATE TABLE "{name}" (id varchar(64) PRIMARY KEY, text varchar(200), vector {kind})'
        )
        if note:
            self.tables.execute(
                f"COMMENT ON TABLE \"{name}\" IS '{note.replace(chr(39), 2 * chr(39))}'"
            )

    def note(self, name):
        ((comment,),) = self.tables.ask(f"SELECT obj_description('\"{name}\"'::regclass)")
        return comment

    def close(self):
        super().close()
        for end in ("", "x", "y", "z", "h"):
            self.tables.execute(f'DROP TABLE IF EXISTS "{self.name}{end}"')


@pytest.mark.service
class TestTables(MarkContract):
    """The writers `postgresql` and `hologres`, on PostgreSQL 18 with pgvector."""

    @pytest.fixture(params=["postgresql", "hologres"])
    def place(self, request):
        place = TablePlace(request.param)
        yield place
        place.close()

    def test_a_table_of_someone_else_is_written_to_without_a_mark(self, place, caplog):
        """A comment is for a table's owner; that it could not be kept is told."""
        place.by_hand(place.name)
        role, password = f"r{place.name}", "writer-pass-99"
        place.tables.execute(
            f"CREATE ROLE {role} LOGIN PASSWORD '{password}'",
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON "{place.name}" TO {role}',
        )
        target = place.target()
        target.connection = place.tables.connection(username=role, password=password)
        try:
            target.check()
            target.prepare()
        finally:
            place.tables.execute(f'REVOKE ALL ON "{place.name}" FROM {role}', f"DROP ROLE {role}")
        assert "what makes the vectors was not kept: must be owner" in caplog.text


class MilvusPlace(MarkPlace):
    """Collections of a server or a file."""

    step_type = "milvus"
    columns = [  # noqa: RUF012
        {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
        {"name": "text", "type": "VarChar", "maxLength": 200},
        {"name": "vector", "type": "FloatVector", "dimension": DIMENSION},
    ]

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.connection = MilvusConnection(endpoint=endpoint, connect_timeout_ms=5000)

    def make(self, name, context, **settings: Any):
        given = MilvusSettings.model_validate({"collection": name, **settings})
        return MilvusTarget(given, self.connection, context)

    def by_hand(self, name, note=None):
        client = MilvusClient(self.connection.endpoint)
        schema = client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("text", DataType.VARCHAR, max_length=200)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        client.create_collection(name, schema=schema, properties={"note": note} if note else None)
        client.close()

    def note(self, name):
        client = MilvusClient(self.connection.endpoint)
        properties = client.describe_collection(name)["properties"]
        client.close()
        return json.dumps(properties, ensure_ascii=False)

    def meant(self, alias):
        client = MilvusClient(self.connection.endpoint)
        try:
            if not client.has_collection(alias):
                return None
            return client.describe_collection(alias)["collection_name"]
        finally:
            client.close()


class MilvusMarks(MarkContract):
    """The contract, and what only a collection's message shows."""

    def test_the_program_that_a_message_shows_creates_a_marked_collection(self, place):
        """Types with elements, lengths and defaults among its fields."""
        more = [
            {"name": "tags", "type": "Array", "elementType": "VarChar", "maxLength": 9},
            {"name": "price", "type": "Double"},
        ]
        columns = [*place.columns, *more]
        with pytest.raises(JobError, match="this would create it") as caught:
            place.target(schemaCreateMode="ignore", column=columns).check()
        program = caught.value.problems[0].partition("this would create it: ")[2]
        client = MilvusClient(place.connection.endpoint)
        exec(program, {"client": client, "DataType": DataType})
        client.close()
        assert place.target(schemaCreateMode="ignore", column=columns).check() == []
        assert str(ONE) in refusal(place.target(OTHER, column=columns))


@pytest.mark.slow
class TestMilvusLite(MilvusMarks):
    """The writer `milvus` on a file."""

    @pytest.fixture
    def place(self, tmp_path):
        place = MilvusPlace(str(tmp_path / "vectors.db"))
        yield place
        place.close()


@pytest.mark.service
@pytest.mark.slow
class TestMilvus(MilvusMarks):
    """The writer `milvus` on a server of version 2.3.5."""

    @pytest.fixture
    def place(self):
        place = MilvusPlace(running(MilvusServer).uri)
        yield place
        place.close()
