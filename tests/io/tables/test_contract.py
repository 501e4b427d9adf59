"""What every reader of tables must do, on each server: the same rows however they are cut."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.effort import tries
from tests.io.tables.support import Place, by_origin, place, read_all
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8
from tests.services.postgres import Postgres
from vecferry.errors import FatalError, JobError
from vecferry.io.tables import database as table_database
from vecferry.process import run_state
from vecferry.rows import Change, Reject

pytestmark = pytest.mark.service

CUTS = (1, 7, 64)


@pytest.fixture(params=[Mysql8, Mariadb, Postgres], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Place:
    return place(request.param)


def quoted(n: int) -> str:
    return f"'{n}'"


def word(n: int) -> str:
    return "'" + ["a", "B", "ä", "Z", "日本", "it''s", "x,y=1%", ""][n % 8] + f"{n}'"


def quoted_word(text: str) -> str:
    return f"'{text}'"


TABLES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "dense": ("id INT PRIMARY KEY, v INT", [f"{i}, {i * i}" for i in range(300)], {}),
    "negative and sparse": (
        "id BIGINT PRIMARY KEY",
        [str(i) for i in [-(2**63), -9, -1, 0, 5, *range(10**6, 10**6 + 90), 2**62, 2**63 - 1]],
        {},
    ),
    "a key that comes often": (
        "id INT PRIMARY KEY, k INT, INDEX_k",
        [f"{i}, {'NULL' if i % 7 == 0 else i % 5}" for i in range(200)],
        {"splitPk": "k"},
    ),
    "a splitPk without an index": (
        "id INT PRIMARY KEY, k INT",
        [f"{i}, {'NULL' if i % 9 == 0 else i * 31 % 101}" for i in range(200)],
        {"splitPk": "k"},
    ),
    "texts": (
        "id VARCHAR(40) PRIMARY KEY, v INT",
        [f"{word(i)}, {i}" for i in range(120)],
        {"splitPk": "id"},
    ),
    "a key in many spellings that a collation takes for one": (
        "id INT PRIMARY KEY, k VARCHAR(9), INDEX_k",
        [f"{i}, {quoted_word('aAbBa'[i % 5])}" for i in range(100)],
        {"splitPk": "k"},
    ),
    "dates": (
        "id INT PRIMARY KEY, d DATE, INDEX_d",
        [f"{i}, '20{i % 40 + 10}-0{i % 9 + 1}-11'" for i in range(150)],
        {"splitPk": "d"},
    ),
    "decimals": (
        "id DECIMAL(20, 4) PRIMARY KEY",
        [f"{i * 7 - 300}.{i % 10}01" for i in range(100)],
        {"splitPk": "id"},
    ),
    "a key of two columns": (
        "a INT, b VARCHAR(9), v INT, PRIMARY KEY (a, b)",
        [f"{i % 6}, {word(i)}, {i}" for i in range(120)],
        {"splitPk": "a"},
    ),
    "no key at all": ("a INT, b INT", [f"{i % 3}, {i}" for i in range(50)], {}),
    "no key, but a splitPk": (
        "k INT, b INT",
        [f"{'NULL' if i % 4 == 0 else i % 6}, {i}" for i in range(50)],
        {"splitPk": "k"},
    ),
    "one row": ("id INT PRIMARY KEY", ["7"], {}),
    "empty": ("id INT PRIMARY KEY", [], {}),
    "columns that need quotes": (
        'id INT PRIMARY KEY, "select" INT, "a.b" INT, "naïve ""x"" name" INT',
        ["1, 2, 3, 4", "2, 3, 4, 5"],
        {"column": ["*"]},
    ),
}


def made(db: Place, name: str) -> tuple[str, dict[str, Any]]:
    """One of `TABLES`, in the words of its server."""
    columns, rows, parameter = TABLES[name]
    after = ""
    if "INDEX_" in columns:
        columns, _, key = columns.partition(", INDEX_")
        after = key
    if db.dialect == "mysql":
        columns = columns.replace('""', "\0").replace('"', "`").replace("\0", '"')
        columns += f", INDEX ({after})" if after else ""
    table = db.table(columns, *rows)
    if after and db.dialect != "mysql":
        db.server.execute(f"CREATE INDEX ON {table} ({after})")
    return table, parameter


def plainly(db: Place, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a statement as the plain client gives them."""
    with db.server.client() as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return sorted(map(tuple, cursor.fetchall()), key=repr)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_same_rows_and_origins_however_it_is_cut(db: Place, name: str) -> None:
    """In 1, 7 and 64 splits no row is lost, doubled or called by another origin."""
    table, parameter = made(db, name)
    read = [by_origin(db.read(cuts, table=table, **parameter)) for cuts in CUTS]
    assert read[0] == read[1] == read[2]
    rows = sorted((tuple(row.values()) for row in read[0].values()), key=repr)
    assert rows == plainly(db, f"SELECT * FROM {table}")


@pytest.mark.parametrize("name", ["dense", "negative and sparse", "dates", "a key of two columns"])
def test_ranges_hold_about_as_many_rows_each(db: Place, name: str) -> None:
    """Gaps and clusters of keys make no split much longer than the others."""
    table, parameter = made(db, name)
    if db.dialect == "mysql":
        db.server.execute(f"ANALYZE TABLE {table}")
    else:
        db.server.execute(f"ANALYZE {table}")
    reader = db.reader({"table": table, **parameter}, 7)
    lengths = [sum(1 for _ in reader.read(split)) for split in reader.plan().splits]
    assert 4 <= len(lengths) <= 8  # one may be for rows without a key
    assert max(lengths) <= 0.45 * sum(lengths)


KEYS = st.lists(st.none() | st.integers(-50, 50) | st.integers(-(2**31), 2**31 - 1), max_size=60)


@pytest.mark.slow
@given(keys=KEYS)
@tries(12, 100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_keys_are_read_once(db: Place, keys: list[int | None]) -> None:
    """Whatever the keys, repeated and null ones among them, each row comes once, in 1 and 7."""
    rows = [f"{i}, {'NULL' if k is None else k}" for i, k in enumerate(keys)]
    table = db.table("id INT PRIMARY KEY, k INT", *rows)
    index = "INDEX (k)" if db.dialect == "mysql" else ""
    if index:
        db.server.execute(f"ALTER TABLE {table} ADD {index}")
    else:
        db.server.execute(f"CREATE INDEX ON {table} (k)")
    expected = {f"{db.title(table)}:id={i}": {"id": i, "k": k} for i, k in enumerate(keys)}
    for cuts in (1, 7):
        assert by_origin(db.read(cuts, table=table, splitPk="k")) == expected
    db.server.execute(f"DROP TABLE {table}")


def test_columns_are_names_expressions_and_constants(db: Place) -> None:
    """A name in any case is quoted, all else is SQL as it is written; a row has the result's."""
    table = db.table("id INT PRIMARY KEY, price INT, note VARCHAR(9)", "1, 10, 'a%s'", "2, 20, 'b'")
    columns = ["note", "PRICE * 2 AS twice", "1 AS one", "'x' AS word", "NULL AS nothing"]
    rows = db.read(7, table=table, column=columns)
    assert [dict(r) for r in rows] == [
        {"note": "a%s", "twice": 20, "one": 1, "word": "x", "nothing": None},
        {"note": "b", "twice": 40, "one": 1, "word": "x", "nothing": None},
    ]
    assert [r.origin for r in rows] == [f"{db.title(table)}:id={i}" for i in (1, 2)]


def test_where_is_one_condition_of_several(db: Place) -> None:
    """Its OR and its comment don't reach beyond it, and a percent sign means nothing."""
    table = db.table("id INT PRIMARY KEY, a VARCHAR(9)", *(f"{i}, '{i % 10}%'" for i in range(100)))
    where = "a LIKE '3%' OR a = '4%' -- these"
    for cuts in CUTS:
        rows = db.read(cuts, table=table, where=where)
        assert sorted(r["id"] for r in rows) == [i for i in range(100) if i % 10 in (3, 4)]


def test_a_query_takes_the_place_of_table_column_and_where(db: Place) -> None:
    """It is read as it is written, in one split, and its rows are numbered."""
    table = db.table("id INT PRIMARY KEY", "1", "2", "3")
    sql = f"SELECT id + 1 AS n FROM {table} WHERE id > 1 ORDER BY id"
    rows = db.read(7, table=table, where="id = 1", querySql=sql)
    assert by_origin(rows) == {"query:0": {"n": 3}, "query:1": {"n": 4}}
    two = db.read(querySql=[sql, "SELECT 1 AS n"])
    assert [r.origin for r in two] == ["query1:0", "query1:1", "query2:0"]


def test_several_tables_are_read_after_each_other(db: Place) -> None:
    """Origins tell whose row it is; a name may have its schema before it."""
    first, second = (db.table("id INT PRIMARY KEY", "1", "2") for _ in range(2))
    rows = db.read(table=[first, db.title(second)])
    titles = [db.title(first), db.title(second)]
    assert [r.origin for r in rows] == [f"{t}:id={i}" for t in titles for i in (1, 2)]


def test_a_range_of_numbers_reads_the_shards_of_a_table(db: Place) -> None:
    """Each table in it, in their order; one that is missing is named before the run."""
    base = db.table("id INT PRIMARY KEY")
    for n in ("08", "09", "10"):
        db.server.execute(
            f"CREATE TABLE {base}_{n} (id INT PRIMARY KEY)", f"INSERT INTO {base}_{n} VALUES ({n})"
        )
    titles = [db.title(f"{base}_{n}") for n in ("08", "09", "10")]
    origins = [f"{title}:id={n}" for title, n in zip(titles, (8, 9, 10), strict=True)]
    assert [r.origin for r in db.read(table=f"{base}_[08-10]")] == origins
    with pytest.raises(JobError, match=f"{base}_11"):
        db.reader({"table": f"{base}_[08-11]"}).check()


def test_the_url_of_a_step_takes_the_place_of_a_data_source(db: Place) -> None:
    """DataX's connection with its jdbcUrl, the first that answers, reads the same rows."""
    table = db.table("id INT PRIMARY KEY", "1")
    source, scheme = db.server.source, db.dialect
    good = f"jdbc:{scheme}://127.0.0.1:{source['port']}/{source['database']}?useSSL=false"
    parameter = {
        "username": source["username"],
        "password": source["password"],
        "column": ["id"],
        "connection": [
            {"jdbcUrl": [f"jdbc:{scheme}://127.0.0.1:1/shop", good], "table": [table]},
            {"jdbcUrl": good, "querySql": ["SELECT 5 AS id"]},
        ],
    }
    kind = type(db.reader({"table": table}))
    reader = kind(
        type(db.reader({"table": table}).settings).model_validate(parameter), None, db.context()
    )
    assert [r["id"] for r in read_all(reader)] == [1, 5]


WRONG = {
    "table": ({"table": "itemz"}, "table 'itemz' is not in .* did you mean 'items'"),
    "column": ({"column": ["titel"]}, "has no column 'titel'; did you mean 'title'"),
    "expression": ({"column": ["lower(titel) AS t"]}, "(?s)titel.*; did you mean 'title'"),
    "where": ({"where": "title ="}, "does not understand"),
    "splitPk": ({"splitPk": "idd"}, "splitPk 'idd': .* did you mean 'id'"),
    "splitPk's type": ({"splitPk": "score"}, "by which rows can't be cut into ranges"),
    "query": ({"querySql": "SELECT * FROM itemz"}, "itemz"),
    "the same name twice": ({"column": ["title", "id AS title"]}, "two columns .* 'title'|twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_check_names_what_to_correct(db: Place, name: str) -> None:
    """A wrong name or SQL is a problem of the job, with the nearest name that there is."""
    db.server.execute("DROP TABLE IF EXISTS items")
    float_type = "DOUBLE PRECISION"
    db.server.execute(f"CREATE TABLE items (id INT PRIMARY KEY, title TEXT, score {float_type})")
    parameter, message = WRONG[name]
    if name == "the same name twice":
        with pytest.raises((JobError, ValueError), match=message):
            db.reader({"table": "items", **parameter}).check()
        return
    with pytest.raises(JobError, match=message):
        db.reader({"table": "items", **parameter}).check()
    db.reader({"table": "items"}).check()


LOGINS = {
    "password": ({"password": "guessed-wrong-77"}, "correct username or password"),
    "user": ({"username": "nobody-here"}, "correct username or password"),
    "database": ({"database": "shopp"}, "no database 'shopp'; did you mean 'shop'"),
    "port": ({"port": 1}, "127.0.0.1:1/shop does not answer"),
    "host": ({"host": "nowhere.invalid"}, "nowhere.invalid:.* does not answer"),
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_wrong_login_is_told_without_its_secret(db: Place, name: str) -> None:
    """What to correct is named; the password is in no message."""
    change, message = LOGINS[name]
    reader = db.reader({"table": "any"}, connection=db.connection(**change))
    with pytest.raises(JobError, match=message) as told:
        reader.check()
    assert reader.connection.password.reveal() not in str(told.value)
    assert reader.connection.password.reveal() not in repr(reader.connection)


def test_a_table_is_as_long_as_it_is(db: Place) -> None:
    """Small ones are counted, also with a where; of queries nothing is known."""
    table = db.table("id INT PRIMARY KEY", *(str(i) for i in range(40)))
    other = db.table("id INT PRIMARY KEY", *(str(i) for i in range(40)))
    assert db.reader({"table": [table, other]}).plan().size.rows == 80
    assert db.reader({"table": table, "where": "id < 10"}).plan().size.rows == 10
    assert db.reader({"querySql": "SELECT 1 AS a"}).plan().size.rows is None


def test_a_table_is_described_once_however_often_it_is_asked_for(
    db: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check, a plan and its rows come from one description, and a plan from one connection."""
    tables = [db.table("id INT PRIMARY KEY", *(str(i) for i in range(40))) for _ in range(2)]
    reader = db.reader({"table": tables}, 2)
    opened, described = [], []
    connect = reader.connect

    def watched(*arguments: Any, **more: Any) -> Any:
        database = connect(*arguments, **more)
        opened.append(database)
        table = database.table

        def describe(name: str) -> Any:
            described.append(name)
            return table(name)

        monkeypatch.setattr(database, "table", describe)
        return database

    monkeypatch.setattr(reader, "connect", watched)
    reader.check()
    plan = reader.plan()
    assert (len(plan.splits), plan.size.rows) == (4, 80)
    assert described == tables
    assert len(opened) == 2
    assert reader.plan() == plan
    assert described == tables


def test_a_preview_leaves_the_rest_at_the_server(db: Place) -> None:
    """With a limit for rows no more are asked for, in one statement."""
    table = db.table("id INT PRIMARY KEY", *(str(i) for i in range(500)))
    reader = db.reader({"table": table}, 64, row_limit=3)
    (split,) = reader.plan().splits
    assert [r["id"] for r in reader.read(split)] == [0, 1, 2]
    assert reader.counts.values["rows-read"] == 3


@pytest.mark.parametrize("form", ["text", "json"])
def test_long_values_come_a_few_at_a_time(db: Place, form: str) -> None:
    """What is held at once is bounded by bytes, not only by rows."""
    kind, chunk = "MEDIUMTEXT", "REPEAT(MD5('a'), 31250)"
    if form == "json":
        kind, chunk = "JSON", "CONCAT('[\"', REPEAT(MD5('a'), 31250), '\"]')"
    if db.dialect != "mysql":  # compressed it would not be long
        chunk = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 31250) g)"
        kind, chunk = ("TEXT", chunk) if form == "text" else ("JSONB", f"to_jsonb({chunk})")
    table = db.table(f"id INT PRIMARY KEY, body {kind}")
    for i in range(12):
        db.server.execute(f"INSERT INTO {table} VALUES ({i}, {chunk})")
    reader = db.reader({"table": table})
    (split,) = reader.plan().splits
    database = reader.open_group(0)
    try:
        stream = database.stream(split.sql(), narrow=split.narrow)
        batches = [len(rows) for rows in stream.batches()]
    finally:
        database.close()
    assert sum(batches) == 12
    assert max(batches) <= table_database.BATCH_BYTES // 1_000_000 + 1


def killing(db: Place, reader: Any, at: int) -> list[Change | Reject]:
    """All rows of a reader's splits; the server is killed and started again at row `at`."""
    items: list[Change | Reject] = []
    for split in reader.plan().splits:
        for item in reader.read(split):
            items.append(item)
            if len(items) == at:
                db.server.kill()
                db.server.start()
    return items


def long_table(db: Place, rows: int) -> str:
    """A table whose rows don't fit into what a socket holds."""
    table = db.table("id INT PRIMARY KEY, filler CHAR(200)")
    if db.dialect == "mysql":
        digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION "
        digits += "SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
        froms = ", ".join(f"{digits} t{i}" for i in range(len(str(rows)) - 1))
        number = " + ".join(f"t{i}.d * {10**i}" for i in range(len(str(rows)) - 1))
        db.server.execute(f"INSERT INTO {table} SELECT {number}, REPEAT('x', 200) FROM {froms}")
    else:
        db.server.execute(
            f"INSERT INTO {table} SELECT g, REPEAT('x', 200) FROM generate_series(0, {rows - 1}) g"
        )
    return table


@pytest.mark.slow
def test_a_server_that_dies_while_it_is_read_costs_no_row(db: Place) -> None:
    """Killed and started again in the midst of 100,000 rows, each row comes once, in order."""
    table = long_table(db, 100_000)
    reader = db.reader({"table": table}, 1)
    items = killing(db, reader, 30_000)
    assert [i["id"] for i in items] == list(range(100_000))
    assert reader.counts.values["rows-read"] == 100_000
    assert reader.counts.values["source-retries"] >= 1
    db.server.execute(f"DROP TABLE {table}")


@pytest.mark.slow
def test_a_query_that_breaks_says_that_it_cannot_go_on(db: Place) -> None:
    """Rows of a query have no order by which to go on: the run fails in words."""
    table = long_table(db, 100_000)
    reader = db.reader({"querySql": f"SELECT * FROM {table}"})
    with pytest.raises(FatalError, match=r"rows; a querySql can.t be taken up again"):
        killing(db, reader, 3_000)
    db.server.execute(f"DROP TABLE {table}")


def test_a_server_that_stays_away_is_waited_for_within_the_deadline(db: Place) -> None:
    """No row is rejected because a server was away: past the deadline the run fails."""
    table = db.table("id INT PRIMARY KEY", "1")
    split = db.reader({"table": table}).plan().splits[0]
    away = db.reader({"table": table}, connection=db.connection(port=1), retry_deadline=0.5)
    with pytest.raises(Exception, match=r"gave up after \d+ tries"):
        list(away.read(split))
    run_state(away.context.run).stop.set()
    assert list(away.read(split)) == []


def test_two_columns_of_one_name_in_a_query_fail_the_run(db: Place) -> None:
    """One of them would be lost."""
    reader = db.reader({"querySql": "SELECT 1 AS a, 2 AS a"})
    with pytest.raises(FatalError, match=r"query: two columns are called 'a'; give one .* alias"):
        read_all(reader)


@pytest.mark.parametrize(
    "column",
    ["id,text", ["id, text"], ["id", "text, lang"], ["id", "t.*"], ["id", "upper(text), lang"]],
    ids=str,
)
def test_an_entry_of_several_columns_is_told(db: Place, column: Any) -> None:
    """No column goes missing: neither the check nor the run takes one entry for two columns."""
    table = db.table("id INT PRIMARY KEY, text VARCHAR(9), lang VARCHAR(9)", "1, 'reed', 'en'")
    given = [c.replace("t.*", f"{table}.*") for c in column] if isinstance(column, list) else column
    reader = db.reader({"table": table, "column": given})
    with pytest.raises(JobError, match=r"(entry|twice)"):
        reader.check()
    with pytest.raises((JobError, FatalError), match=r"(entry|twice)"):
        db.read(table=table, column=given)


def test_shards_of_one_table_have_origins_of_their_own(db: Place) -> None:
    """The number of the entry in `connection` stands before them, as before queries'."""
    table = db.table("id INT PRIMARY KEY", "1", "2")
    scheme = "mysql" if db.dialect == "mysql" else "postgresql"
    given = db.connection()
    url = f"jdbc:{scheme}://{given.place}/{given.database}"
    groups = [{"jdbcUrl": url, "table": table}, {"jdbcUrl": f"{url}?x=1", "table": table}]
    login = {"username": given.username, "password": str.__str__(given.password)}
    reader = db.reader({"connection": groups, **login})
    reader.connection = None
    title = db.title(table)
    origins = [f"{n}.{title}:id={i}" for n in (1, 2) for i in (1, 2)]
    assert list(by_origin(read_all(reader))) == origins


def test_the_session_only_reads(db: Place) -> None:
    """A statement that would write is refused by the server."""
    table = db.table("id INT PRIMARY KEY", "1")
    reader = db.reader({"querySql": f"DELETE FROM {table}"})
    with pytest.raises(FatalError, match="read-only"):
        read_all(reader)
    assert len(db.read(table=table)) == 1


def test_times_are_in_utc_whatever_the_server_thinks(db: Place) -> None:
    """An instant comes as the same instant."""
    kind = "TIMESTAMP(6)" if db.dialect == "mysql" else "TIMESTAMPTZ"
    table = db.table(f"id INT PRIMARY KEY, t {kind}")
    with db.server.client() as connection, connection.cursor() as cursor:
        zone = "SET time_zone = '+08:00'" if db.dialect == "mysql" else "SET timezone = '+08'"
        cursor.execute(zone if db.dialect == "mysql" else "SET timezone = 'Asia/Shanghai'")
        cursor.execute(f"INSERT INTO {table} VALUES (1, '2024-03-01 08:00:00.250000')")
    (row,) = db.read(table=table)
    assert row["t"] == datetime.datetime(2024, 3, 1, 0, 0, 0, 250000, tzinfo=datetime.UTC)
