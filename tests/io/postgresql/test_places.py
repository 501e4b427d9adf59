"""What a statement needs and where it lives: pgvector's schema, a key that can arbitrate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.io.postgresql.support import Tables
from vecferry.errors import JobError
from vecferry.testing.sinks import write

pytestmark = pytest.mark.service

KEY = {"name": "id", "type": "bigint", "primaryKey": True}
AWAY = "reports_places"


@pytest.fixture
def tables() -> Iterator[Tables]:
    made = Tables("postgresql")
    yield made
    made.close()


@pytest.fixture
def elsewhere(tables: Tables, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A data source of a database whose pgvector has a schema of its own, and a client there."""
    schema = getattr(request, "param", "extensions")
    with tables.server.client() as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {AWAY} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {AWAY}")
    with tables.server.client(dbname=AWAY) as there:
        there.execute(f'CREATE SCHEMA "{schema}"')
        there.execute(f'CREATE EXTENSION vector WITH SCHEMA "{schema}"')
        yield tables.connection(database=AWAY), there
    with tables.server.client() as admin:
        admin.execute(f"DROP DATABASE {AWAY} WITH (FORCE)")


def vectors(n: int) -> list[Any]:
    """Vectors that differ in direction and in length."""
    return [np.array([1.0, i, 0.5], np.float32) for i in range(n)]


@pytest.mark.parametrize("elsewhere", ["extensions", "My ext", "Vektoren"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "metric", "index"),
    [
        ("vector", "COSINE", "hnsw"),
        ("vector", "IP", "ivfflat"),
        ("vector", "L2", "none"),
        ("halfvec", "COSINE", "hnsw"),
    ],
)
def test_pgvector_is_found_in_its_schema(
    tables: Tables, elsewhere: Any, kind: str, metric: str, index: str
) -> None:
    """The table is made, written and searched, though search_path does not lead there."""
    connection, there = elsewhere
    vector = {"name": "v", "type": kind, "dimension": 3, "metricType": metric, "indexType": index}
    settings = {"table": "docs", "column": [KEY, vector]}
    target = tables.unprepared(connection, **settings)
    assert not [line for line in target.check() if "pgvector" in line]
    target.prepare()
    rows = [{"id": i, "v": v} for i, v in enumerate(vectors(5))]
    written, rejects = write(target, rows)
    assert (len(written), rejects) == (5, [])
    (best, *_) = target.search(vectors(5)[4], 2)
    assert best["id"] == 4
    again = tables.unprepared(connection, **settings, schemaCreateMode="ignore")
    again.check()
    (found,) = there.execute("SELECT count(*) FROM docs").fetchone()
    assert found == 5


def test_a_user_who_may_not_use_the_schema_is_told(tables: Tables, elsewhere: Any) -> None:
    """By the check, with the statement that mends it."""
    _, there = elsewhere
    there.execute("DROP ROLE IF EXISTS guest")
    there.execute("CREATE ROLE guest LOGIN PASSWORD 'guest-pass-1'")
    there.execute("GRANT CREATE, USAGE ON SCHEMA public TO guest")
    guest = tables.connection(database=AWAY, username="guest", password="guest-pass-1")
    vector = {"name": "v", "type": "vector", "dimension": 3}
    target = tables.unprepared(guest, table="docs", column=[KEY, vector])
    with pytest.raises(JobError, match='GRANT USAGE ON SCHEMA "extensions" TO "guest"'):
        target.check()
    there.execute("DROP OWNED BY guest")
    there.execute("DROP ROLE guest")


@pytest.mark.parametrize(
    "key", ["DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE INITIALLY IMMEDIATE"]
)
@pytest.mark.parametrize("mode", ["replace", "ignore"])
def test_a_key_that_can_not_arbitrate_is_told(tables: Tables, key: str, mode: str) -> None:
    """ON CONFLICT refuses a deferrable key for each row: no row is asked for that."""
    tables.execute("DROP TABLE IF EXISTS @t", f"CREATE TABLE @t (id bigint PRIMARY KEY {key})")
    target = tables.unprepared(column=[KEY], writeMode=mode)
    with pytest.raises(JobError, match="DEFERRABLE"):
        target.check()
