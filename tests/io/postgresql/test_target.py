"""Writing into a table of PostgreSQL: modes, versions, keys, what a job is told before it runs."""

from __future__ import annotations

import datetime
import decimal
import sys
import threading

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from tests.io.postgresql.support import KEY, NUMBER, TEXT, Tables
from tests.services.postgres import DATABASE, PASSWORD, USER
from vecferry.errors import FatalError, JobError
from vecferry.io.postgresql import WriteToPostgres
from vecferry.io.postgresql.target import Tombstones
from vecferry.rows import DELETE, Change, Reject
from vecferry.testing.sinks import rows, vector, write

pytestmark = pytest.mark.service


@pytest.fixture
def tables():
    tables = Tables("postgresql")
    yield tables
    tables.close()


def problems(target):
    with pytest.raises(JobError) as caught:
        target.check()
    return str(caught.value)


WIDE = "CREATE TABLE @t (id int PRIMARY KEY, a text, b text, c text DEFAULT 'usual')"


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        ("replace", (1, "new", None, "usual")),
        ("update", (1, "new", "old b", "old c")),
        ("ignore", (1, "old a", "old b", "old c")),
    ],
)
def test_a_row_that_is_there_is_replaced_updated_or_left_alone(tables, mode, kept):
    """Replace empties what the job does not list, update leaves it, ignore leaves all."""
    tables.execute(WIDE, "INSERT INTO @t VALUES (1, 'old a', 'old b', 'old c')")
    target = tables.target(column=["id", "a"], schemaCreateMode="ignore", conflictMode=mode.title())
    operator = target.operator()
    written, rejects = write(target, [{"id": 1, "a": "new"}, {"id": 2, "a": "fresh"}], operator)
    assert tables.ask("SELECT * FROM @t ORDER BY id") == [kept, (2, "fresh", None, "usual")]
    stale = operator.counts.values.get("rows-stale", 0)
    assert (len(written), stale, rejects) == ((1, 1, []) if mode == "ignore" else (2, 0, []))


@pytest.mark.parametrize(("mode", "kept"), [("replace", "2"), ("update", "2"), ("ignore", "1")])
def test_a_batch_ends_as_its_changes_would_one_by_one(tables, mode, kept):
    """A delete and two rows of a key: the delete empties, then the mode decides."""
    tables.execute(
        "CREATE TABLE @t (id int PRIMARY KEY, a text, b text DEFAULT 'usual')",
        "INSERT INTO @t VALUES (1, 'old a', 'old b')",
    )
    target = tables.target(column=["id", "a"], schemaCreateMode="ignore", conflictMode=mode.title())
    log = [Change({"id": 1}, kind=DELETE), {"id": 1, "a": "1"}, {"id": 1, "a": "2"}]
    operator = target.operator()
    written, rejects = write(target, log, operator)
    assert (len(written) + operator.counts.values.get("rows-stale", 0), rejects) == (3, [])
    assert tables.ask("SELECT a, b FROM @t") == [(kept, "usual")]


def test_an_older_version_never_replaces_a_newer_one(tables):
    """Not from another run either: the table keeps the versions; stale rows are counted."""
    columns = [KEY, TEXT]
    options = {"column": columns, "versionColumn": "seen"}
    write(tables.target(**options), [Change({"id": "a", "text": "five"}, version=5)])
    log = [
        Change({"id": "a", "text": "four"}, version=4),
        Change({"id": "b", "text": "one"}, version=1),
    ]
    target = tables.target(**options)
    operator = target.operator()
    written, _ = write(target, log, operator)
    assert [w["id"] for w in written] == ["b"]
    assert operator.counts.values["rows-stale"] == 1
    operator = target.operator()
    write(target, [Change({"id": "a"}, kind=DELETE, version=3)], operator)
    assert operator.counts.values == {"write-requests": 1, "rows-stale": 1}
    assert tables.ask("SELECT id, text, seen FROM @t ORDER BY id") == [
        ("a", "five", 5),
        ("b", "one", 1),
    ]
    write(target, [Change({"id": "a", "text": "again"}, version=5)])
    write(target, [Change({"id": "b"}, kind=DELETE, version=1)])
    assert tables.ask("SELECT id, text FROM @t") == [("a", "again")]


def test_a_key_of_several_columns_of_any_type(tables):
    """Upserts and deletes go by all of them; quotes and braces in a key are data."""
    tables.execute(
        "CREATE TABLE @t (day date, name text, at timestamptz, n int, PRIMARY KEY (day, name, at))"
    )
    target = tables.target(column=["day", "name", "at", "n"], schemaCreateMode="ignore")
    keys = [
        {"day": day, "name": name, "at": at}
        for day in ("2024-01-01", "1999-12-31")
        for name in ("x", 'say "no"', "{a,b}", "it's \\ NULL", "é👍", "")
        for at in ("2024-01-01T10:00:00+02:00", "1969-12-31T23:59:59.999999Z")
    ]
    for n in range(2):
        assert write(target, [{**k, "n": n} for k in keys])[1] == []
    assert tables.ask("SELECT count(*), min(n) FROM @t") == [(len(keys), 1)]
    for left, key in enumerate(keys):
        _, rejects = write(target, [Change(key, kind=DELETE)])
        assert rejects == []
        assert target.row_count() == len(keys) - left - 1, key


def test_a_time_that_python_lacks_is_no_key_and_rejects_its_row(tables):
    """In UTC it is of the year 10000; the rows beside it are written."""
    tables.execute("CREATE TABLE @t (at timestamptz PRIMARY KEY, n int)")
    target = tables.target(column=["at", "n"], schemaCreateMode="ignore")
    times = ["9999-12-31T10:00:00-05:00", "9999-12-31T23:00:00-05:00"]
    written, (reject,) = write(target, [{"at": at, "n": 1} for at in times])
    assert (len(written), reject.reason, reject.row["at"]) == (1, "out-of-range", times[1])


def test_rows_that_the_server_refuses_are_found_and_the_rest_is_written(tables):
    """A CHECK of the table's own: each bad row is rejected with the server's words."""
    tables.execute("CREATE TABLE @t (id int PRIMARY KEY, n int CONSTRAINT positive CHECK (n > 0))")
    target = tables.target(column=["id", "n"], schemaCreateMode="ignore", batchSize=256)
    bad = {5, 6, 700, 999}
    written, rejects = write(target, [{"id": i, "n": 0 if i in bad else 1} for i in range(1000)])
    assert len(written) == target.row_count() == 996
    assert {r.row["id"] for r in rejects} == bad
    assert {r.reason for r in rejects} == {"check-failed"}
    assert 'violates check constraint "positive"' in rejects[0].message
    assert "[23514]" in rejects[0].message


def test_connections_that_the_server_ends_cost_no_row(tables):
    """An administrator ends them all, again and again, in the middle of a run."""
    target = tables.target(batchSize=50)
    operator = target.operator()
    emitted = []
    for i, row in enumerate(rows(2000)):
        emitted += operator.process(Change(row))
        if i % 500 == 250:
            tables.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'vecferry'"
            )
    emitted += operator.finish()
    assert len(emitted) == target.row_count() == 2000
    assert not any(isinstance(item, Reject) for item, _ in emitted)
    assert operator.counts.values["write-retries"] > 0


def test_a_table_that_vanishes_in_a_run_ends_it(tables):
    """Every row would meet it, so none is rejected for it."""
    target = tables.target()
    operator = target.operator()
    tables.execute("DROP TABLE @t")
    with pytest.raises(FatalError, match="does not exist"):
        write(target, rows(3), operator)


def test_a_missing_table_is_told_with_its_neighbours_and_the_statement_that_makes_it(tables):
    """Under `ignore`, which is the default, the table must be there."""
    near = tables.table + "s"
    tables.execute(f'CREATE TABLE "{near}" (id int)')
    text = problems(tables.unprepared(schemaCreateMode="ignore"))
    tables.execute(f'DROP TABLE "{near}"')
    assert f"table {tables.table!r} does not exist; did you mean {near!r}?" in text
    assert f'CREATE TABLE "{tables.table}" ( "id" character varying(64), ' in text
    assert '"vector" vector(8), PRIMARY KEY ("id") )' in text
    assert "USING hnsw" in text


@pytest.mark.parametrize("mode", ["ignore", "createIfNotExist", "recreate"])
def test_a_schema_that_is_not_there_is_told_with_its_neighbours(tables, mode):
    """A table could not be created in it either, so that is not what is said."""
    text = problems(tables.unprepared(table="publik.docs", schemaCreateMode=mode))
    assert "schema 'publik' of table 'publik.docs' does not exist; did you mean 'public'?" in text
    assert "createIfNotExist" not in text
    assert ('have it created (CREATE SCHEMA "publik"), or name another' in text) == (
        mode != "ignore"
    )


def test_who_may_not_create_tables_is_told_before_the_run(tables):
    """With what to grant on the schema."""
    role = f"r{tables.table}"
    tables.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reader-pass-99'")
    limited = tables.connection(username=role, password="reader-pass-99")
    try:
        text = problems(tables.unprepared(limited))
        assert "can't be created: this user may not create tables in schema 'public'" in text
        assert f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{role}"' in text
    finally:
        tables.execute(f"DROP ROLE {role}")


def test_everything_that_does_not_fit_is_told_at_once(tables):
    """Types, dimensions, missing and needed columns, the key: one line each, nothing written."""
    tables.execute(
        "CREATE TABLE @t (id bigint, txet text, vector vector(4), needed int NOT NULL, "
        "made int GENERATED ALWAYS AS (needed + 1) STORED)"
    )
    made = {"name": "made", "type": "int"}
    target = tables.unprepared(column=[*tables.columns, made], schemaCreateMode="ignore")
    lines = problems(target).splitlines()
    for words in (
        "has no primary key, by which rows are replaced",
        "has no column 'text'; did you mean 'txet'?",
        "has no column 'number'",
        "has 'id' as bigint, and the job as character varying(64)",
        "has 'vector' with 4 dimensions, and the job has 8",
        "needs the column 'needed' (integer), which this job leaves empty",
        "computes the column 'made' itself; leave it out",
    ):
        assert [line for line in lines if words in line], words
    assert len(lines) == 7


def test_rows_are_dropped_by_recreate_only_with_leave(tables):
    """`ownsTarget` gives it; an empty table needs none."""
    target = tables.target()
    write(target, rows(3))
    text = problems(tables.unprepared(schemaCreateMode="recreate"))
    assert "holds rows, which recreate would drop; set ownsTarget: true" in text
    again = tables.target(schemaCreateMode="recreate", ownsTarget=True, column=[KEY, TEXT])
    assert again.row_count() == 0
    assert (
        len(tables.ask("SELECT 1 FROM pg_attribute WHERE attrelid = '@t'::regclass AND attnum > 0"))
        == 2
    )


def test_statements_of_the_job_run_once_before_and_after(tables):
    """`@table` stands for the table; a statement that fails is told with its parameter."""
    target = tables.target(
        preSql=["INSERT INTO @table (id) VALUES ('before')"],
        postSql="INSERT INTO @table (id) VALUES ('after')",
    )
    write(target, rows(1))
    assert tables.ask("SELECT id FROM @t ORDER BY id") == [("before",), ("k000000",)]
    target.conclude()
    assert ("after",) in tables.ask("SELECT id FROM @t")
    with pytest.raises(JobError, match=r"preSql failed: relation \"nowhere\" does not exist"):
        tables.target(preSql=["TRUNCATE nowhere"])


def test_a_sync_that_goes_on_from_a_position_runs_no_statement_before(tables):
    """Such a statement may well empty the table."""
    target = tables.target(preSql=["INSERT INTO @table (id) VALUES ('before')"], resumed=True)
    write(target, rows(1))
    assert tables.ask("SELECT id FROM @t ORDER BY id") == [("k000000",)]


def test_a_created_table_has_an_index_on_its_vectors(tables):
    """With the metric of the job; none beyond what pgvector can index, which is told."""
    vectors = [
        {**tables.vector, "metricType": "Euclidean", "indexParams": {"m": 8}},
        {**tables.vector, "name": "plain", "indexType": "none"},
        {"name": "long", "type": "vector", "dimension": 2001},
        {"name": "half", "type": "halfvec", "dimension": 2001, "metricType": "IP"},
    ]
    target = tables.unprepared(column=[KEY, *vectors])
    assert target.check() == ["'long' has too many dimensions for an index of pgvector"]
    target.prepare()
    found = " ".join(d for (d,) in tables.ask(
        f"SELECT indexdef FROM pg_indexes WHERE tablename = '{tables.table}'"
    ))  # fmt: skip
    assert "USING hnsw (vector vector_l2_ops) WITH (m='8')" in found
    assert "USING hnsw (half halfvec_ip_ops)" in found
    assert "long" not in found
    assert "plain" not in found


@pytest.mark.parametrize("step_type", ["postgresql", "hologres"])
@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_a_search_ranks_and_scores_as_the_metric_says(step_type, metric):
    """With pgvector's operators, and by reading all of a plain float4[]."""
    tables = Tables(step_type)
    try:
        column = {**tables.vector, "metricType": metric}
        target = tables.target(column=[KEY, column])
        data = [{"id": f"{i}", "vector": vector(i)} for i in range(40)]
        write(target, data)
        query = vector(1000).astype(np.float64)
        found = {
            row["id"]: {
                "IP": float(v @ query),
                "COSINE": float(v @ query / np.linalg.norm(v) / np.linalg.norm(query)),
                "L2": float(np.linalg.norm(v - query)),
            }[metric]
            for row in data
            for v in [row["vector"].astype(np.float64)]
        }
        best = sorted(found, key=lambda k: found[k], reverse=metric != "L2")[:5]
        hits = target.search(vector(1000), 5, "vector")
        assert [h["id"] for h in hits] == best
        assert [h["score"] for h in hits] == pytest.approx([found[k] for k in best], abs=1e-5)
    finally:
        tables.close()


@pytest.mark.parametrize("step_type", ["postgresql", "hologres"])
def test_names_may_be_any_that_sql_can_quote(step_type):
    """Of schema, table and columns: blanks, capitals, quotes, percent signs, SQL's own words."""
    tables = Tables(step_type)
    schema = f"S {tables.table}"
    try:
        tables.execute(f'CREATE SCHEMA "{schema}"')
        names = {"key": 'I"d %s x', "number": "select", "vector": "My Vec %b"}
        columns = [
            {**KEY, "name": names["key"]},
            {**NUMBER, "name": names["number"]},
            {**tables.vector, "name": names["vector"], "metricType": "L2"},
        ]
        target = tables.target(table=f'{schema}.T ab"le %d', column=columns)
        for _ in range(2):
            row = {names["key"]: "a", names["number"]: 5, names["vector"]: vector(1)}
            assert write(target, [row])[1] == []
        plain = tables.unprepared(table=f'{schema}.T ab"le %d', column=["*"])
        expected = [{"score": pytest.approx(0, abs=1e-6), names["key"]: "a", names["number"]: 5}]
        assert target.search(vector(1), 5) == expected
        if step_type == "postgresql":  # the metric of the index, where the job says nothing
            assert plain.search(vector(1), 5) == expected
        assert write(target, [Change({names["key"]: "a"}, kind=DELETE)])[1] == []
        assert plain.row_count() == 0
    finally:
        tables.execute(f'DROP SCHEMA "{schema}" CASCADE')
        tables.close()


def test_a_vector_to_search_with_must_fit(tables):
    """Wrong dimension or unknown column: an error in words."""
    target = tables.target()
    with pytest.raises(JobError, match="a vector of 3 dimensions, not 8"):
        target.search(vector(1)[:3], 1)
    with pytest.raises(JobError, match="has no vector field 'vectro'; did you mean 'vector'"):
        target.search(vector(1), 1, "vectro")


def test_a_preview_shows_what_would_be_written_and_writes_nothing(tables):
    """Also before the table exists; a bad row is the reject that it would become."""
    target = tables.unprepared()
    (row,) = rows(1)
    assert target.preview(row)["text"] == "text 0"
    assert target.preview({**row, "number": "x"}).reason == "wrong-type"
    assert target.preview(Change({"id": "a"}, kind=DELETE)) == {"id": "a"}
    assert tables.ask(f"SELECT to_regclass('{tables.table}')") == [(None,)]


@pytest.mark.parametrize("exists", [True, False], ids=["made", "to be made"])
def test_a_preview_shows_values_as_the_table_would_hold_them(tables, exists):
    """Numbers, not the texts that a CSV file has for them; vectors as the type rounds them."""
    kinds = {"a": "int", "b": "double precision", "c": "boolean", "d": "numeric", "e": "jsonb",
             "f": "uuid", "g": "int[]", "h": "date", "i": "text", "j": "inet",
             "k": "timestamptz"}  # fmt: skip
    half = {"name": "half", "type": "halfvec", "dimension": 2}
    columns = [KEY, *({"name": n, "type": k} for n, k in kinds.items()), half]
    target = (tables.target if exists else tables.unprepared)(column=columns)
    late = "9999-12-31T23:59:59-10:00"
    given = {"id": "x", "a": "7", "b": "0.5", "c": "true", "d": "1.50", "e": '{"n": 1}',
             "f": "12345678123456781234567812345678", "g": "[1, 2]", "h": "2024-02-29", "i": 5,
             "j": "10.0.0.1", "k": late, "half": [0.1, 2]}  # fmt: skip
    found = target.preview(given)
    assert found.pop("half").tolist() == [float(np.float16(0.1)), 2.0]
    assert found == {"id": "x", "a": 7, "b": 0.5, "c": True, "d": decimal.Decimal("1.50"),
                     "e": {"n": 1}, "f": "12345678-1234-5678-1234-567812345678", "g": [1, 2],
                     "h": datetime.date(2024, 2, 29), "i": "5", "j": "10.0.0.1",
                     "k": late}  # fmt: skip
    assert target.preview({**given, "a": None})["a"] is None


def test_a_mapping_fills_other_columns_and_tells_what_stays_empty(tables):
    """Source and target may have different names."""
    mapping = [
        {"sourceColName": "key", "dstColName": "id"},
        {"sourceColName": "e", "dstColName": "vector"},
    ]
    target = tables.target(columnMapping=mapping)
    assert target.check() == ["columnMapping fills nothing into text, number"]
    write(target, [{"key": "a", "e": vector(1), "other": 5}])
    assert tables.ask("SELECT id, text FROM @t") == [("a", None)]


def test_a_user_without_rights_is_told_which_to_grant(tables):
    """Before the run: on the table. Nothing else is needed, not even temporary tables."""
    target = tables.target()
    role, password = f"r{tables.table}", "reader-pass-99"
    tables.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD '{password}'", f"GRANT SELECT ON @t TO {role}"
    )
    limited = tables.connection(username=role, password=password)
    try:
        text = problems(tables.unprepared(limited))
        grant = f'ON "public"."{tables.table}" TO "{role}"'
        assert f"can't be written by this user: GRANT INSERT, UPDATE {grant}" in text
        ignoring = tables.unprepared(limited, writeMode="ignore")
        assert f"can't be written by this user: GRANT INSERT {grant}" in problems(ignoring)
        tables.execute(
            f"REVOKE TEMPORARY ON DATABASE {DATABASE} FROM PUBLIC",
            f"GRANT INSERT ON @t TO {role}",
        )
        assert (ignoring.check(), len(write(ignoring, rows(2))[0])) == ([], 2)
        tables.execute(f"GRANT UPDATE ON @t TO {role}")
        allowed = tables.unprepared(limited)
        assert (allowed.check(), len(write(allowed, rows(3))[0]), target.row_count()) == ([], 3, 3)
        deletes = [Change({"id": "k000001"}, kind=DELETE)]
        with pytest.raises(FatalError, match="permission denied for table"):
            write(allowed, deletes)
        tables.execute(f"GRANT DELETE ON @t TO {role}")
        assert (len(write(allowed, deletes)[0]), target.row_count()) == (1, 2)
    finally:
        tables.execute(f"GRANT TEMPORARY ON DATABASE {DATABASE} TO PUBLIC")
        tables.execute(f"REVOKE ALL ON @t FROM {role}", f"DROP ROLE {role}")
    assert target.check() == []


def test_a_read_only_database_is_told_before_and_in_the_middle_of_a_run(tables):
    """As a standby is; no row is rejected for it."""
    target = tables.target()
    operator = target.operator()
    tables.execute(f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
    try:
        assert "the database is read-only (a standby?)" in problems(tables.unprepared())
        with pytest.raises(FatalError, match="read-only"):
            write(target, rows(3), operator)
    finally:
        with tables.server.client(options="-c default_transaction_read_only=off") as connection:
            connection.execute(f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only")
    assert target.check() == []


def test_a_database_or_server_that_is_not_there_is_told(tables):
    """With the address, and never the password."""
    text = problems(tables.unprepared(tables.connection(database="nowhere")))
    assert "has no database 'nowhere'; it has " in text
    text = problems(tables.unprepared(tables.connection(port=1)))
    assert "PostgreSQL at 127.0.0.1:1/shop does not answer" in text
    assert PASSWORD not in text


def test_a_step_may_bring_its_own_connection(tables):
    """As DataX writes it; without any, the job is told how."""
    url = f"jdbc:postgresql://127.0.0.1:{tables.server.port}/{DATABASE}"
    own = [{"jdbcUrl": url, "table": [tables.table]}]
    settings = tables.settings(connection=own, username=USER, password=PASSWORD)
    write(type(tables.target())(settings, None, tables.context()), rows(2))
    assert tables.ask("SELECT count(*) FROM @t") == [(2,)]
    with pytest.raises(JobError, match="name a data source as datasource"):
        type(tables.target())(tables.settings(), None, tables.context())


def test_rows_in_windows_keep_their_timestamps(tables):
    """The transform alone creates the table, writes, and gives rows and rejects."""
    transform = WriteToPostgres(settings=tables.settings(), connection=tables.connection())
    data = rows(30)
    data[7]["number"] = "x"
    with TestPipeline("FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([(row, n) for n, row in enumerate(data)])
            | beam.Map(lambda pair: TimestampedValue(pair[0], pair[1]))
            | beam.WindowInto(FixedWindows(10))
            | transform
        )
        counts = (
            result.written
            | beam.CombineGlobally(beam.combiners.CountCombineFn()).without_defaults()
        )
        assert_that(counts, equal_to([9, 10, 10]), label="written")
        reasons = result.rejected | beam.Map(lambda r: r.reason)
        assert_that(reasons, equal_to(["wrong-type"]), label="rejected")
    assert tables.ask("SELECT count(*) FROM @t") == [(29,)]


@pytest.mark.parametrize("more", [{"schemaCreateMode": "recreate"}, {"preSql": ["SELECT 1"]}])
def test_what_happens_once_is_not_for_a_pipeline_that_repeats_bundles(tables, more):
    """Only the launcher of a job can do it."""
    with pytest.raises(ValueError, match="pipeline"):
        WriteToPostgres(settings=tables.settings(**more), connection=tables.connection())


def test_deletes_are_remembered_by_many_threads_at_once():
    """Of more keys than there is room for the last ones are kept, and no thread fails."""
    tombstones, failures = Tombstones(most=8), []

    def bury(first: int) -> None:
        try:
            for n in range(4000):
                tombstones.add((first, n), n)
        except (KeyError, RuntimeError) as e:
            failures.append(e)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=bury, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert failures == []
    assert any(tombstones.outlives((i, 3999), 3998) for i in range(4))
    assert not any(tombstones.outlives((i, 0), -1) for i in range(4))


def test_numbers_stay_out_of_the_key(tables):
    """A primary key of a type whose values have no one text is told before the run."""
    tables.execute("CREATE TABLE @t (id numeric PRIMARY KEY, number int8)")
    target = tables.unprepared(column=["id", NUMBER], schemaCreateMode="ignore")
    assert "has 'id', a numeric, in its primary key, which is not supported" in problems(target)
