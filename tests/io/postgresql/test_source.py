"""What is PostgreSQL's own: its types, values that Python lacks, encodings, TLS."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tests.io.mysql.test_source import types_of, value_of
from tests.io.postgresql.support import backends, stopped
from tests.io.tables.support import Place, by_origin, place, read_all
from tests.services.postgres import Postgres, PostgresTls
from vecferry.errors import FatalError, JobError, TransientError
from vecferry.instead import OnReject
from vecferry.io.tables.database import ConnectionLost
from vecferry.rows import DELETE, Reject

pytestmark = pytest.mark.service


@pytest.fixture
def db() -> Place:
    return place(Postgres)


@pytest.fixture
def moods(db: Place) -> Place:
    db.server.execute(
        "CREATE EXTENSION IF NOT EXISTS vector",
        "DROP TYPE IF EXISTS mood CASCADE",
        "CREATE TYPE mood AS ENUM ('sad', 'fine')",
    )
    return db


PG_TYPES = types_of("postgresql")


@pytest.mark.parametrize("wide", [False, True], ids=["by a cursor", "row by row"])
@pytest.mark.parametrize(("kind", "sql", "shown"), PG_TYPES, ids=[t[0] for t in PG_TYPES])
def test_types_come_as_the_page_says(
    moods: Place, kind: str, sql: str, shown: str, wide: bool
) -> None:
    """Each type of the page's table, and its null, is read as the table says."""
    table = moods.table(f"id INT PRIMARY KEY, v {kind}", f"1, {sql}", "2, NULL")
    parameter: dict[str, Any] = {"table": table}
    if wide:
        parameter = {"querySql": f"SELECT v FROM {table} ORDER BY id"}
    first, second = read_all(moods.reader(parameter))
    expected = value_of(shown)
    assert type(first["v"]) is type(expected)
    if isinstance(expected, np.ndarray):
        assert first["v"].dtype == np.float32
        assert np.array_equal(first["v"], expected)
    else:
        assert first["v"] == expected
    assert second["v"] is None


UNFIT = {
    "infinity": ("timestamptz", "'infinity'", "unfit-value"),
    "before Christ": ("date", "'0044-03-15 BC'", "unfit-value"),
    "far away": ("timestamp", "'20000-01-01'", "unfit-value"),
    "in an array": ("date[]", "'{2024-01-01,infinity}'", "unfit-value"),
    "a vector with a null": ("float4[]", "'{1,NULL}'", "unfit-value"),
    "half a surrogate": ("json", "'\"\\ud800\"'", "invalid-json"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_value_that_python_lacks_rejects_its_row(db: Place, name: str) -> None:
    """Its neighbours are read, and the reject has the server's own text."""
    kind, sql, reason = UNFIT[name]
    table = db.table(f"id INT PRIMARY KEY, v {kind}", "1, NULL", f"2, {sql}", "3, NULL")
    first, reject, third = db.read(table=table)
    assert (first["id"], third["id"]) == (1, 3)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.origin) == (reason, f"public.{table}:id=2")


def test_a_row_that_is_rejected_is_deleted_by_its_key_where_the_job_says_so(db: Place) -> None:
    """What of the row can be read goes on, its key among it."""
    table = db.table("id INT PRIMARY KEY, n INT, v TIMESTAMPTZ", "7, 1, 'infinity'")
    reader = db.reader({"table": table})
    says = OnReject(mode="delete", plain=True, key=("id",))
    reader.context = dataclasses.replace(reader.context, on_reject=says)
    (reject,) = read_all(reader)
    assert isinstance(reject, Reject)
    assert reject.instead is not None
    assert (reject.instead.kind, dict(reject.instead)) == (DELETE, {"id": 7, "n": 1})
    assert reject.instead.origin == f"public.{table}:id=7"


def test_a_list_with_such_a_value_is_kept_as_the_server_wrote_it(db: Place) -> None:
    """In the reject, value by value."""
    table = db.table("id INT PRIMARY KEY, v DATE[]", "1, '{infinity,2024-01-02}'")
    (reject,) = db.read(table=table)
    assert isinstance(reject, Reject)
    assert json.loads(str(reject.raw))["v"] == ["infinity", {"$date": "2024-01-02"}]


def test_rows_of_tables_that_inherit_have_origins_of_their_own(db: Place) -> None:
    """The key of a table is not unique among those, and rows could be lost by it."""
    table = db.table("id INT PRIMARY KEY, v TEXT", "1, 'parent'")
    db.server.execute(
        f"CREATE TABLE {table}_heir () INHERITS ({table})",
        f"INSERT INTO {table}_heir VALUES (1, 'heir')",
    )
    assert [row["v"] for row in by_origin(db.read(table=table)).values()] == ["parent", "heir"]
    (split,) = db.reader({"table": table}).plan().splits
    assert not split.resumable


def test_a_column_that_is_computed_may_be_long(db: Place) -> None:
    """So rows of it are not fetched a thousand at a time."""
    table = db.table("id INT PRIMARY KEY, v TEXT", "1, 'x'")
    for column, narrow in ((["*"], True), (["id", "repeat(v, 9000000) AS long"], False)):
        (split,) = db.reader({"table": table, "column": column}).plan().splits
        assert split.narrow is narrow


MEGABYTE = "SELECT string_agg(md5(g::text), '') FROM generate_series(1, 31250) g"


@pytest.mark.parametrize(
    ("sql", "rows", "most"),
    [
        ("SELECT g FROM generate_series(0, 2499) g", 2500, 1024),
        (f"SELECT g, ({MEGABYTE}) AS body FROM generate_series(0, 19) g", 20, 8),
        (f"SELECT g, to_jsonb(({MEGABYTE})) AS body FROM generate_series(0, 19) g", 20, 8),
        ("SELECT g FROM generate_series(0, 8) g", 9, 9),
        ("SELECT g FROM generate_series(0, 7) g", 8, 8),
        ("SELECT 1 AS g WHERE false", 0, 0),
    ],
    ids=["numbers", "texts", "JSON", "nine", "eight", "none"],
)
def test_the_rows_of_a_query_come_in_order_and_long_ones_a_few_at_a_time(
    db: Place, sql: str, rows: int, most: int
) -> None:
    """Nobody knows beforehand how long they are: at most eight more than 4 MiB are held."""
    reader = db.reader({"querySql": sql})
    (split,) = reader.plan().splits
    database = reader.open_group(0)
    try:
        batches = list(database.stream(split.sql(), narrow=split.narrow).batches())
    finally:
        database.close()
    assert [row[0] for batch in batches for row in batch] == list(range(rows))
    assert max(map(len, batches), default=0) == most


@pytest.mark.parametrize("where", ["querySql", "where"])
def test_sql_of_a_job_is_one_statement_in_a_check_and_a_count_too(db: Place, where: str) -> None:
    """What stands behind a semicolon is not run, whatever it says of the transaction."""
    table = db.table("id INT PRIMARY KEY", "1")
    more = f"BEGIN READ WRITE; DELETE FROM {table}; COMMIT"
    given = (
        {"querySql": f"SELECT 1; {more}"}
        if where == "querySql"
        else {"table": table, "where": f"true); {more}; SELECT (1"}
    )
    reader = db.reader(given)
    with pytest.raises(JobError, match="multiple commands"):
        reader.check()
    assert reader.plan().size.rows is None
    assert len(db.read(table=table)) == 1


def test_a_silent_server_counts_as_away(db: Place) -> None:
    """It is left, and the run fails within its deadline, where the client would wait for ever."""
    reader = db.reader({"querySql": "SELECT pg_sleep(3600)::text AS s"}, retry_deadline=0.3)
    reader.read_seconds = 0.2
    with pytest.raises(TransientError, match=r"does not answer: it was silent for 0\.2 s"):
        read_all(reader)


def test_a_backend_that_stops_while_it_is_read_costs_no_row(db: Place) -> None:
    """The rows behind the last one come over another connection, each once."""
    table = db.table("id INT PRIMARY KEY")
    db.server.execute(f"INSERT INTO {table} SELECT generate_series(0, 4999)")
    reader = db.reader({"table": table})
    reader.read_seconds = 0.5
    (split,) = reader.plan().splits
    items = reader.read(split)
    ids = [next(items)["id"]]
    with stopped(backends(db.server)):
        ids += [row["id"] for row in items]
    assert ids == list(range(5000))
    assert reader.counts.values["source-retries"] == 1


def test_a_connection_that_breaks_in_a_count_is_a_lost_one(db: Place) -> None:
    """The size of a table is then unknown, and the run goes on."""
    reader = db.reader({"table": db.table("id INT PRIMARY KEY", "1")})
    database = reader.open_group(0)
    database.close()
    with pytest.raises(ConnectionLost):
        database.count("SELECT 1", 5)


def test_a_key_that_python_lacks_loses_no_row(db: Place) -> None:
    """Ranges of a column with infinities are whole."""
    days = [f"{i}, '{d}'" for i, d in enumerate(["-infinity", "infinity", "0044-03-15 BC"] * 5)]
    days += [f"{100 + i}, '2024-01-{i + 1:02}'" for i in range(20)]
    table = db.table("id INT PRIMARY KEY, d DATE", *days)
    db.server.execute(f"CREATE INDEX ON {table} (d)")
    for cuts in (1, 7):
        items = db.read(cuts, table=table, splitPk="d")
        assert sum(isinstance(i, Reject) for i in items) == 15
        assert sorted(i["id"] for i in items if not isinstance(i, Reject)) == list(range(100, 120))


@pytest.mark.parametrize("kind", ["int4range", "interval", "point", "pair", "int4range[]"])
def test_types_that_rows_cannot_hold_are_refused_before_the_run(db: Place, kind: str) -> None:
    """The message says how to read them."""
    db.server.execute("DROP TYPE IF EXISTS pair CASCADE", "CREATE TYPE pair AS (a INT, b INT)")
    table = db.table(f"id INT PRIMARY KEY, v {kind}", "1, NULL")
    with pytest.raises(JobError, match=r"'v' is .*write v::text AS v"):
        db.reader({"table": table}).check()
    (row,) = db.read(table=table, column=["v::text AS v"])
    assert row["v"] is None


def test_bytes_that_are_no_text_reject_their_row(db: Place) -> None:
    """A database in SQL_ASCII holds texts of any encoding."""
    with db.server.client() as connection:
        connection.execute("DROP DATABASE IF EXISTS ascii")
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with db.server.client(dbname="ascii", client_encoding="SQL_ASCII") as connection:
        connection.execute("CREATE TABLE t (id INT PRIMARY KEY, v TEXT)")
        connection.execute(b"INSERT INTO t VALUES (1, 'gr\xc3\xbc\xc3\x9f'), (2, 'gr\xfc\xdf')")
    first, reject = read_all(db.reader({"table": "t"}, connection=db.connection(database="ascii")))
    assert first["v"] == "grüß"
    assert isinstance(reject, Reject)
    assert reject.reason == "invalid-encoding"


def test_a_certificate_is_verified() -> None:
    """With the right authority the connection is private; with another it is refused."""
    db = place(PostgresTls)
    sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    right = db.connection(caCert=str(db.server.ca))
    assert [r["ssl"] for r in read_all(db.reader({"querySql": sql}, connection=right))] == [True]
    other = db.connection(caCert=str(db.server.data / "other-ca.pem"))
    with pytest.raises(JobError, match=r"certificate of .* is not trusted .*other-ca.pem"):
        db.reader({"querySql": sql}, connection=other).check()


def test_a_server_without_tls_is_told(db: Place) -> None:
    """Where the data source asks for TLS and there is none, nothing is sent in the clear."""
    reader = db.reader({"table": "t"}, connection=db.connection(tls="require"))
    with pytest.raises(JobError, match="offers no TLS"):
        reader.check()


def test_the_servers_time_limit_is_told(db: Place) -> None:
    """A statement that takes too long fails the run in words."""
    db.server.execute("ALTER USER ferry SET statement_timeout = 200")
    try:
        with pytest.raises(FatalError, match="by its time limit"):
            read_all(db.reader({"querySql": "SELECT pg_sleep(60)::text AS s"}))
    finally:
        db.server.execute("ALTER USER ferry RESET statement_timeout")


def test_the_transform_reads_in_a_plain_pipeline(db: Place) -> None:
    """ReadFromPostgres gives rows in a Beam pipeline of one's own."""
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    from vecferry.io.postgresql import PostgresSettings, ReadFromPostgres

    table = db.table("id INT PRIMARY KEY", "1", "2")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        read = pipeline | ReadFromPostgres(
            settings=PostgresSettings(table=[table]), connection=db.connection()
        )
        origins = read.rows | beam.Map(lambda row: row.origin)
        assert_that(origins, equal_to([f"public.{table}:id={i}" for i in (1, 2)]))
