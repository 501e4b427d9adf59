"""What is MySQL's own: its types, encodings, dates that are none, TLS, limits, whole jobs."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.io.tables.support import Place, by_origin, place, read_all
from tests.pipelines.support import Bench, counts_add_up
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8
from vecferry.errors import FatalError, JobError
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql.values import converter
from vecferry.io.tables.database import Refused
from vecferry.rows import Reject

PAGE = Path(__file__).parents[3] / "docs" / "mysql.md"
CELLS = re.compile(r"\| `(.+?)` \| `(.+?)` \| `(.+?)` \|$")


def types_of(dialect: str) -> list[tuple[str, str, str]]:
    """The rows of the page's table of types."""
    lines = PAGE.read_text(encoding="utf-8").split(f"<!-- types: {dialect} -->\n")[1].splitlines()
    table = lines[2 : lines.index("")]
    found = [match.groups() for line in table if (match := CELLS.match(line))]
    assert len(found) == len(table)
    return found  # type: ignore[return-value]


def value_of(text: str) -> Any:
    """What the page's third column means."""
    names = {"datetime": datetime, "Decimal": Decimal}
    return eval(text, {**names, "array": np.array, "float32": np.float32})


MY_TYPES = types_of("mysql")


@pytest.fixture(params=[Mysql8, Mariadb], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Place:
    return place(request.param)


@pytest.fixture
def mysql() -> Place:
    return place(Mysql8)


@pytest.mark.service
@pytest.mark.parametrize(("kind", "sql", "shown"), MY_TYPES, ids=[t[0] for t in MY_TYPES])
def test_types_come_as_the_page_says(db: Place, kind: str, sql: str, shown: str) -> None:
    """Each type of the page's table, and its null, is read as the table says."""
    table = db.table(f"id INT PRIMARY KEY, v {kind}")
    with db.server.client() as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        cursor.execute(f"INSERT INTO {table} VALUES (1, {sql}), (2, NULL)")
    first, second = db.read(table=table)
    if kind == "JSON" and db.server.name == "mariadb":
        assert first["v"] == sql.strip("'")
    else:
        assert first["v"] == value_of(shown)
        assert type(first["v"]) is type(value_of(shown))
    assert second["v"] is None


@pytest.mark.service
def test_a_date_that_is_none_rejects_its_row(db: Place) -> None:
    """The reject has the key, the reason and the values; the rows around it are read."""
    table = db.table("id INT PRIMARY KEY, d DATETIME, t VARCHAR(9), b VARBINARY(4)")
    with db.server.client() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(
            f"INSERT INTO {table} VALUES (1, '2024-01-01', 'a', NULL), "
            f"(2, '0000-00-00', 'ä', X'FF'), (3, '2024-00-10', 'c', NULL), (4, NULL, 'd', NULL)"
        )
    rows = db.read(table=table)
    assert [type(r) is Reject for r in rows] == [False, True, True, False]
    reject = rows[1]
    assert (reject.reason, reject.origin, reject.key) == ("zero-date", f"shop.{table}:id=2", "2")
    assert "0000-00-00 00:00:00" in reject.message
    assert '"t":"ä"' in reject.raw
    assert '{"$bytes":"/w=="}' in reject.raw


@pytest.mark.service
def test_zero_dates_can_be_a_key(db: Place) -> None:
    """Ranges of a column with dates that are none lose no row."""
    table = db.table("id INT PRIMARY KEY, d DATE, INDEX (d)")
    with db.server.client() as connection, connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        days = ", ".join(
            f"({i}, '{'0000-00-00' if i % 3 else f'2024-01-{i:02}'}')" for i in range(31)
        )
        cursor.execute(f"INSERT INTO {table} VALUES {days}")
    read = [by_origin(db.read(cuts, table=table, splitPk="d")) for cuts in (1, 7)]
    assert read[0] == read[1]
    assert len(read[0]) == 31


@pytest.mark.service
@pytest.mark.parametrize("hours", ["-01:00:00", "838:59:59", "24:00:00"])
def test_a_duration_is_no_time_of_a_day(db: Place, hours: str) -> None:
    """It is rejected, and the message says how to read it."""
    table = db.table("id INT PRIMARY KEY, t TIME", f"1, '{hours}'")
    (reject,) = db.read(table=table)
    assert isinstance(reject, Reject)
    assert "CAST(the column AS CHAR)" in reject.message
    (row,) = db.read(table=table, column=["CAST(t AS CHAR) AS t"])
    assert row["t"] == hours


@pytest.mark.service
def test_a_key_of_bits_is_in_hexadecimal_in_an_origin(db: Place) -> None:
    """As it is sent, it would be control characters."""
    table = db.table("b BIT(12) PRIMARY KEY", "b'101000000001'", "b'1'")
    origins = [row.origin for row in db.read(table=table)]
    assert origins == [f"shop.{table}:b={key}" for key in ("0001", "0a01")]


@pytest.mark.service
def test_spatial_columns_are_refused_before_the_run(db: Place) -> None:
    """The message says how to read them."""
    table = db.table("id INT PRIMARY KEY, place POINT", "1, POINT(1, 2)")
    with pytest.raises(JobError, match=r"'place' is spatial.*ST_AsText\(place\)"):
        db.reader({"table": table}).check()
    (row,) = db.read(table=table, column=["ST_AsText(place) AS place"])
    assert row["place"] in ("POINT(1 2)", "POINT(1.0 2.0)")


def test_bytes_that_are_no_text_reject_their_row() -> None:
    """A text that is not UTF-8 does not crash the reader."""
    with pytest.raises(UnfitValue) as told:
        converter(253, 255, "t")([b"ok", b"\xff"])
    assert told.value.reason == "invalid-encoding"
    with pytest.raises(Refused, match="a type that this version does not know"):
        converter(242, 63, "v")


@pytest.mark.service
@pytest.mark.parametrize("mode", ["verify", "require", "prefer"])
def test_connections_are_private(db: Place, mode: str) -> None:
    """With a caCert the certificate is verified; without one TLS is used all the same."""
    more = {"caCert": str(db.server.ca)} if mode == "verify" else {"tls": mode}
    reader = db.reader(
        {"querySql": "SHOW SESSION STATUS LIKE 'Ssl_cipher'"}, connection=db.connection(**more)
    )
    (row,) = read_all(reader)
    assert row["Value"].startswith(("TLS", "ECDHE", "DHE", "AES"))


@pytest.mark.service
def test_a_certificate_of_another_authority_is_refused(db: Place) -> None:
    """The message names the file and what it must hold."""
    other = str(db.server.data / "other-ca.pem")
    reader = db.reader({"table": "t"}, connection=db.connection(caCert=other))
    with pytest.raises(JobError, match=r"certificate of .* is not trusted .*other-ca.pem"):
        reader.check()
    absent = db.reader({"table": "t"}, connection=db.connection(caCert="/no/such/ca.pem"))
    with pytest.raises(JobError, match=r"caCert '/no/such/ca\.pem' can't be read"):
        absent.check()


@pytest.mark.service
def test_the_servers_time_limit_is_told(db: Place) -> None:
    """A statement that takes too long fails the run in words."""
    limit = "max_statement_time" if db.server.name == "mariadb" else "max_execution_time"
    table = db.table("id INT PRIMARY KEY", *(str(i) for i in range(50)))
    db.server.execute(f"SET GLOBAL {limit} = {1 if limit == 'max_statement_time' else 200}")
    try:
        # MySQL's SLEEP ends early in silence, so the statement must work
        froms = ", ".join(f"{table} t{i}" for i in range(6))
        slow = f"SELECT COUNT(*) AS n FROM {froms} WHERE t0.id * t1.id + t2.id > t3.id * RAND()"
        with pytest.raises(FatalError, match=r"after its time limit|by its time limit"):
            read_all(db.reader({"querySql": slow}))
    finally:
        db.server.execute(f"SET GLOBAL {limit} = 0")


@pytest.mark.service
def test_what_a_preview_does_not_show_stays_at_the_server(mysql: Place) -> None:
    """A query that is left early sends little of its 20 MB."""
    table = mysql.table("id INT PRIMARY KEY, body CHAR(250)", *(f"{i}, 'x'" for i in range(1000)))
    wide = ", ".join(f"REPEAT('y', 200) AS c{i}" for i in range(5))
    reader = mysql.reader(
        {"querySql": f"SELECT a.id, {wide} FROM {table} a, {table} b LIMIT 20000"}
    )

    def sent() -> int:
        with mysql.server.client() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
            return int(cursor.fetchone()[1])

    before = sent()
    (split,) = reader.plan().splits
    rows = reader.read(split)
    first = [next(rows) for _ in range(3)]
    rows.close()
    assert len(first) == 3
    assert sent() - before < 15_000_000


def job_over(db: Place, bench: Bench, table: str) -> None:
    """Makes the job of a bench read a table."""
    bench.sources["Shop"] = {**db.server.source, "caCert": str(db.server.ca)}
    bench.job["steps"][0] = {
        "stepType": "mysql",
        "category": "reader",
        "name": "Reader",
        "parameter": {"datasource": "Shop", "table": [table], "column": ["id", "text"]},
    }
    del bench.job["steps"][1]


@pytest.mark.service
@pytest.mark.slow
def test_a_job_ferries_a_table_into_milvus(
    mysql: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """mysql → embedding → Milvus Lite by `vecferry run`: each row once, rejects kept."""
    bench = Bench(tmp_path, capsys)
    rows = (f"'r{i:03}', 'row {i} tells of thing {i * 7}', '2024-01-01'" for i in range(120))
    table = mysql.table("id VARCHAR(9) PRIMARY KEY, text TEXT, d DATE", *rows)
    job_over(mysql, bench, table)
    shown = bench.call("preview", "--source", "--rows", "2")
    assert (shown.status, "r001" in shown.out, "r002" in shown.out) == (0, True, False)
    assert bench.call("check", "--connect").status == 0
    assert '"rows": 120' in bench.call("check", "--estimate", "--json").out
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 120)
    assert counts_add_up(report)
    assert [r["id"] for r in bench.stored(["id"])] == [f"r{i:03}" for i in range(120)]


@pytest.mark.service
def test_a_wrong_password_is_status_2_and_shown_nowhere(
    mysql: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check --connect` says what to correct, before anything runs."""
    bench = Bench(tmp_path, capsys)
    job_over(mysql, bench, "items")
    bench.sources["Shop"]["password"] = "not-the-password-31"
    outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "correct username or password" in outcome.err
    assert "not-the-password-31" not in outcome.err + outcome.out


@pytest.mark.service
def test_the_transform_reads_in_a_plain_pipeline(mysql: Place) -> None:
    """ReadFromMySQL gives rows and rejects in a Beam pipeline of one's own."""
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    from vecferry.io.mysql import MySqlSettings, ReadFromMySQL

    table = mysql.table("id INT PRIMARY KEY, t TIME", "1, '10:00:00'", "2, '99:00:00'")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        read = pipeline | ReadFromMySQL(
            settings=MySqlSettings(table=[table]), connection=mysql.connection()
        )
        origins = read.rows | beam.Map(lambda row: row.origin)
        reasons = read.rejected | beam.Map(lambda reject: reject.reason)
        assert_that(origins, equal_to([f"shop.{table}:id=1"]), label="rows")
        assert_that(reasons, equal_to(["unfit-value"]), label="rejects")
