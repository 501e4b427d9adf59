"""The writer `hologres`: its settings, and the statements of its dialect, which is not run here."""

from __future__ import annotations

import dataclasses
import pickle
import re

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

from tests.io.postgresql.support import KEY, NUMBER, TEXT, Tables
from tests.pipelines.support import Bench, counts_add_up, rejects_of, rows
from tests.services.postgres import DATABASE, PASSWORD, USER
from vecferry.io.hologres import HologresConnection, HologresSettings, WriteToHologres
from vecferry.io.hologres.target import HOLOGRES
from vecferry.io.postgresql import PostgresWriterSettings
from vecferry.io.postgresql.catalog import planned, read_table
from vecferry.io.postgresql.client import connect
from vecferry.io.postgresql.dialect import POSTGRESQL
from vecferry.io.postgresql.statements import query_text
from vecferry.io.postgresql.target import PostgresStore
from vecferry.rows import Change
from vecferry.testing.sinks import rows as sink_rows

VECTOR = {"name": "v", "type": "float4[]", "dimension": "256"}


def settings(**more):
    given = {"table": "public.docs", "column": [KEY, TEXT, VECTOR]}
    return HologresSettings.model_validate(given | more)


def refused(**more):
    with pytest.raises(ValidationError) as caught:
        settings(**more)
    return str(caught.value)


def test_a_step_as_the_vendors_tools_write_it_is_understood():
    """DataX's connection and writeMode, DataWorks' conflictMode; numbers as strings."""
    url = "jdbc:postgresql://holo.example.com:80/db?user=u"
    given = settings(
        table="",
        connection=[{"jdbcUrl": url, "table": ["docs"]}],
        username="ferry",
        password="hush-hush-7",
        writeMode="REPLACE",
        batchSize="100",
        preSql=["TRUNCATE @table", ""],
    )
    assert (given.table, given.write_mode, given.batch_size) == ("docs", "replace", 100)
    assert given.pre_sql == ["TRUNCATE @table"]
    connection = given.own_connection()
    assert (connection.host, connection.port, connection.username) == (
        "holo.example.com", 80, "ferry",
    )  # fmt: skip
    assert settings(conflictMode="Ignore").write_mode == "ignore"
    assert settings(column=["*"]).column == []
    assert "hush-hush-7" not in repr(given) + str(given) + repr(connection) + str(
        given.model_dump()
    )


def test_a_data_source_is_known_by_its_parts_or_by_its_url():
    """Both ways lead to the same database; the port is 80 unless it is said."""
    parts = {"host": "h", "database": "d", "username": "u", "password": "pass-word"}
    whole = {"jdbcUrl": "jdbc:postgresql://h/d?user=u&password=pass-word"}
    one, other = (
        HologresConnection.model_validate({"type": "hologres", **g}) for g in (parts, whole)
    )
    assert one == other
    assert one.port == 80


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"table": ""}, "table is missing"),
        ({"table": "a.b.c"}, "neither a name nor schema.name"),
        ({"writeMode": "insrt"}, "is not a value of writeMode"),
        ({"column": [KEY, KEY]}, "column 'id' is given twice"),
        ({"column": [{"name": "a", "type": "flaot8(("}]}, "is not a type of SQL"),
        ({"column": [{**VECTOR, "metricType": "cosin"}]}, "did you mean 'COSINE'"),
        ({"column": [{**VECTOR, "indexType": "hnsw"}]}, "is not a value of indexType of hologres"),
        ({"column": [{**TEXT, "indexType": "HGraph"}]}, "indexType is for vectors"),
        ({"column": [{**TEXT, "dimension": 5}]}, "dimension is for vectors"),
        ({"columnMapping": [{"sourceColName": "a", "dstColName": "txet"}]}, "did you mean 'text'"),
        ({"versionColumn": "text",
          "columnMapping": [{"sourceColName": "a", "dstColName": "text"}]},
         "is filled by vecferry"),
        ({"versionColumn": "seen", "writeMode": "ignore"}, "has no use with writeMode ignore"),
        ({"schemaCreateMode": "recreate", "column": []}, "it must list the columns"),
        ({"schemaCreateMode": "recreate", "column": [TEXT]}, "no column has primaryKey: true"),
        ({"schemaCreateMode": "recreate", "column": [KEY, "text"]}, "column 'text' has no type"),
        ({"schemaCreateMode": "recreate",
          "column": [KEY, {"name": "v", "type": "vector", "dimension": 4}]},
         "is a vector, which hologres lacks"),
        ({"schemaCreateMode": "recreate", "column": [KEY, {**VECTOR, "indexType": "Proxima"}]},
         "Proxima has no COSINE"),
        ({"connection": [{"jdbcUrl": "jdbc:mysql://h/d"}]}, "must begin with jdbc:postgresql://"),
        ({"connection": [{"table": ["a", "b"]}]}, "a step writes into one table"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_step_is_told(more, words):
    """With the value and, where there is one, the nearest right word."""
    assert words in refused(**more)


def test_a_table_of_hologres_has_its_check_and_its_index_as_a_property():
    """HGraph in WITH, Proxima by set_table_property in the same transaction."""
    graph = {**VECTOR, "indexParams": {"ef_construction": 400}}
    (statement,) = HOLOGRES.create(settings(column=[KEY, graph]))
    assert '"v" real[] CHECK (array_ndims("v") = 1 AND array_length("v", 1) = 256)' in statement
    assert 'PRIMARY KEY ("id")' in statement
    properties = orjson.loads(re.search(r"WITH \(vectors = '(.+)'\)", statement)[1])
    assert properties == {
        "v": {
            "algorithm": "HGraph",
            "distance_method": "Cosine",
            "builder_params": {"ef_construction": 400},
        }
    }
    older = {**VECTOR, "indexType": "proxima", "metricType": "InnerProduct"}
    table, call = HOLOGRES.create(settings(column=[KEY, older]))
    assert "WITH" not in table
    assert call == (
        """CALL set_table_property('"public"."docs"', 'proxima_vectors', """
        """'{"v":{"algorithm":"Graph","distance_method":"InnerProduct"}}')"""
    )


def test_plain_postgresql_is_spared_what_only_hologres_knows():
    """There the same job makes a table without an index."""
    statements = POSTGRESQL.create(settings())
    assert "vectors" not in statements[0]
    assert statements[1:] == ['ALTER TABLE "public"."docs" ALTER COLUMN "v" SET STORAGE EXTERNAL']


@pytest.mark.parametrize(
    ("mode", "words", "empty"),
    [
        (
            "replace",
            '("id", "v", "text") … ON_CONFLICT UPDATE)',
            1,
        ),
        (
            "update",
            '("id", "v") … ON_CONFLICT UPDATE)',
            0,
        ),
        (
            "ignore",
            '("id", "v") … ON_CONFLICT IGNORE)',
            0,
        ),
    ],
)
def test_hologres_takes_rows_by_its_own_copy(mode, words, empty):
    """It updates what it is given; to replace a row, the other columns are given as NULL."""
    info = planned(settings())
    columns = [c for c in info.columns if c.name in ("id", "v")]
    words = words.replace("…", "FROM STDIN WITH (STREAM_MODE TRUE, FORMAT BINARY,")
    assert HOLOGRES.copy(info, columns, mode) == (f'COPY "public"."docs" {words}', empty)


@pytest.mark.parametrize(
    ("index", "metric", "words"),
    [
        ("HGraph", "COSINE", 'approx_cosine_distance("v", %(query)s::float4[])|DESC'),
        ("HGraph", "L2", 'approx_euclidean_distance("v", %(query)s::float4[])|ASC'),
        ("Proxima", "IP", 'pm_approx_inner_product_distance("v", %(query)s::float4[])|DESC'),
        ("none", "COSINE", 'cosine_distance("v", %(query)s::float4[])|DESC'),
    ],
)
def test_hologres_searches_by_the_function_of_its_index(index, metric, words):
    """Similarities are ranked downwards, distances upwards."""
    info = planned(settings())
    column = info.column("v")
    call, order = words.split("|")
    assert HOLOGRES.search(info, column, metric, index) == (
        f'SELECT {call} AS score, "id", "text" FROM "public"."docs" '
        f"ORDER BY score {order} LIMIT %(k)s"
    )
    assert query_text([1.0, -0.5], column) == "{1.0,-0.5}"


def test_the_transform_travels_to_workers_without_showing_its_password():
    """Settings are pickled; what is displayed has no secret."""
    connection = HologresConnection(
        host="h", port=80, database="d", username="u", password="hush-hush-8"
    )
    transform = WriteToHologres(settings=settings(), connection=connection)
    again = pickle.loads(pickle.dumps(connection))
    assert str.__str__(again.password) == "hush-hush-8"
    assert "hush-hush-8" not in repr(transform) + str(transform.display_data())


@pytest.fixture(params=["postgresql", "hologres"])
def job(request, tmp_path, capsys):
    """A whole job into a table of a real PostgreSQL server."""
    tables = Tables(request.param)
    bench = Bench(tmp_path, capsys)
    bench.sources["Table"] = {
        "type": request.param,
        "host": "127.0.0.1",
        "port": tables.server.port,
        "database": DATABASE,
        "username": USER,
        "password": PASSWORD,
    }
    writer = bench.job["steps"][-1]
    kind = "vector" if request.param == "postgresql" else "float4[]"
    writer["stepType"] = request.param
    writer["parameter"] = {
        "datasource": "Table",
        "table": tables.table,
        "schemaCreateMode": "createIfNotExist",
        "column": [KEY, TEXT, {"name": "vector", "type": kind, "dimension": "64"}],
        "postSql": ["INSERT INTO @table (id) VALUES ('the end')"],
    }
    bench.tables = tables
    yield bench
    tables.close()


@pytest.mark.service
def test_a_job_writes_into_a_table_and_a_query_answers_from_it(job):
    """A row that is too long is a reject; a second run changes nothing."""
    job.job["setting"]["errorLimit"] = {"record": "1"}
    job.write_lines([*rows(300), {"id": "long", "text": "x" * 201}])
    for _ in range(2):
        report = job.run()
        assert report["state"] == "DONE"
        assert (report["rows_written"], report["rows_rejected"]) == (300, 1)
        assert counts_add_up(report)
        assert rejects_of(report)[0]["reason"] == "too-long"
        assert job.tables.ask("SELECT count(*), count(vector) FROM @t") == [(301, 300)]
        job.tables.execute("DELETE FROM @t WHERE id = 'the end'")
    outcome = job.call("query", "row 7 tells of thing 49", "-k", "1", "--json")
    assert outcome.json["hits"][0]["id"] == "r000007"
    assert outcome.json["hits"][0]["score"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.service
def test_a_job_that_does_not_fit_its_table_embeds_nothing(job):
    """Exit status 2, every problem told, before the run."""
    job.tables.execute("CREATE TABLE @t (id int, vector float4[])")
    job.write_lines(rows(3))
    outcome = job.call("run", "--json")
    assert outcome.status == 2
    assert "has no primary key" in outcome.err
    assert "has 'id' as integer, and the job as character varying(64)" in outcome.err
    assert job.tables.ask("SELECT count(*) FROM @t") == [(0,)]


@pytest.mark.service
def test_a_wrong_password_is_exit_status_2_and_no_output_shows_it(job):
    """Neither `check --connect` nor `run`."""
    job.sources["Table"]["password"] = "not-the-password-5"
    job.write_lines(rows(3))
    for command in (("check", "--connect"), ("run", "--json")):
        outcome = job.call(*command)
        assert outcome.status == 2
        assert "refuses the login" in outcome.err
        assert "not-the-password-5" not in outcome.out + outcome.err


@pytest.mark.service
def test_a_statement_after_the_job_that_fails_fails_the_job(job):
    """The rows are there; the report says what went wrong."""
    job.step("Writer")["postSql"] = ["SELECT nonsense FROM @table"]
    job.write_lines(rows(3))
    report = job.run()
    assert report["state"] == "FAILED"
    assert "postSql failed" in report["error"]
    assert job.tables.ask("SELECT count(*) FROM @t") == [(3,)]


def test_the_two_writers_differ_in_their_vectors_only():
    """The other takes what one takes."""
    given = {"table": "t", "column": [KEY, NUMBER], "schemaCreateMode": "createIfNotExist"}
    one, other = PostgresWriterSettings(**given), HologresSettings(**given)
    assert POSTGRESQL.create(one) == POSTGRESQL.create(other) == HOLOGRES.create(other)


@pytest.mark.service
def test_the_rows_of_a_copy_are_in_the_servers_own_form():
    """As PostgreSQL's COPY takes it, which has the same form: vectors, nulls, empty columns."""
    tables = Tables("hologres")
    try:
        tables.execute(
            "CREATE TABLE @t (id varchar(64) PRIMARY KEY, number int8, text varchar(200), "
            "vector float4[] CHECK (array_length(vector, 1) = 8), other text DEFAULT 'usual')"
        )
        statement = f'COPY "{tables.table}" (id, number, text, vector, other) FROM STDIN BINARY'
        dialect = dataclasses.replace(HOLOGRES, copy=lambda *_: (statement, 1))
        with connect(tables.connection()) as connection:
            info = read_table(connection, tables.table)
        settings = tables.settings(schemaCreateMode="ignore")
        store = PostgresStore(settings, info, tables.connection(), dialect)
        given = [*sink_rows(2), {**sink_rows(1, 2)[0], "vector": None, "text": None}]
        assert store.send([store.encode(Change(row)) for row in given]) is None
        store.close()
        found = tables.ask("SELECT id, number, text, vector, other FROM @t ORDER BY id")
        assert [row[:3] + row[4:] for row in found] == [
            (row["id"], row["number"], row["text"], None) for row in given
        ]
        assert [row[3] for row in found[2:]] == [None]
        for row, (*_, vector, _) in zip(given[:2], found, strict=False):
            assert np.array_equal(np.array(vector, dtype=np.float32), row["vector"])
    finally:
        tables.close()


@pytest.mark.parametrize(
    ("column", "statement"),
    [
        (
            {"indexParams": {"max_degree": 32}},
            """ALTER TABLE "public"."docs" SET (vectors = '{"v":{"algorithm":"HGraph","""
            """"distance_method":"Cosine","builder_params":{"max_degree":32}}}')""",
        ),
        (
            {"indexType": "Proxima", "metricType": "L2"},
            """CALL set_table_property('"public"."docs"', 'proxima_vectors', '{"v":"""
            """{"algorithm":"Graph","distance_method":"Euclidean"}}')""",
        ),
    ],
)
def test_a_table_is_created_without_its_index_and_gets_it_later(column, statement):
    """As a property; merging the table's files then builds it."""
    given = settings(column=[KEY, TEXT, {**VECTOR, **column}])
    info = planned(given)
    (created,) = HOLOGRES.create(given, None, False)
    assert "vectors" not in created
    assert HOLOGRES.index(given, given.column, info) == [statement]
    assert HOLOGRES.ripen(info) == (
        """SELECT hologres.hg_full_compact_table('"public"."docs"', 'max_file_size_mb=4096')"""
    )
