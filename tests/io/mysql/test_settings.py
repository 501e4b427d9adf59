"""What a job may say of tables: read, checked and refused before any server is asked."""

from __future__ import annotations

import os
import pickle
import ssl
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymysql.err import OperationalError

from tests.services.certificates import make_certificates
from vecferry.errors import JobError
from vecferry.io.mysql import MySqlConnection, MySqlSettings
from vecferry.io.mysql.client import classify
from vecferry.io.postgresql import PostgresConnection
from vecferry.io.tables.connection import tls_context
from vecferry.io.tables.database import ConnectionLost, Table
from vecferry.io.tables.plan import Range, TableSplit, wanted
from vecferry.io.tables.settings import name_of

LOGIN = {"username": "u", "password": "secret-word-9"}
URL = "jdbc:mysql://h:3307/shop?useSSL=false&user=w"


def test_a_jdbc_url_says_where_a_database_is() -> None:
    """Host, port, database and user; what stands beside it wins, its password stays hidden."""
    found = MySqlConnection.model_validate({"jdbcUrl": f"{URL}&password=hidden-word-8", **LOGIN})
    assert (found.host, found.port, found.database, found.username) == ("h", 3307, "shop", "u")
    assert found.password.reveal() == "secret-word-9"  # type: ignore[attr-defined]
    assert "hidden-word-8" not in repr(found) + str(found.model_dump())
    pg = PostgresConnection.model_validate({"jdbcUrl": "jdbc:postgresql://h/db", **LOGIN})
    assert (pg.port, pg.database, pg.tls_mode) == (5432, "db", "prefer")


def test_a_data_source_needs_no_database_if_tables_name_theirs() -> None:
    """Of MySQL; a database of PostgreSQL is a world of its own."""
    assert MySqlConnection.model_validate({"host": "h", **LOGIN}).database == ""
    given = {"connection": [{"jdbcUrl": "jdbc:mysql://h", "table": "d.t"}], **LOGIN}
    assert MySqlSettings.model_validate(given).candidates(0)[0].database == ""
    with pytest.raises(ValidationError, match="database"):
        PostgresConnection.model_validate({"host": "h", **LOGIN})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jdbcUrl": "jdbc:oracle://h/db", **LOGIN}, "must begin with jdbc:mysql://"),
        ({"jdbcUrl": "jdbc:mysql://h:x/db", **LOGIN}, "wrong port"),
        ({"jdbcUrl": "jdbc:mysql://a:1,b:2/db", **LOGIN}, "names several hosts"),
        ({"jdbcUrl": "jdbc:mysql://h/db?user=a&password=secret-word-9#", **LOGIN}, "as %23"),
        ({"host": "h", "database": "d", "tls": "maybe", **LOGIN}, "'maybe' is not a value of tls"),
        ({"host": "h", "database": "d", "port": 70000, **LOGIN}, "port"),
    ],
    ids=["scheme", "port of the URL", "hosts", "hash", "tls", "port"],
)
def test_a_wrong_data_source_is_refused(given: dict[str, Any], message: str) -> None:
    """The rule is in the message, the password is not."""
    with pytest.raises(ValidationError, match=message) as told:
        MySqlConnection.model_validate(given)
    assert "secret-word-9" not in str(told.value)


def test_a_certificate_means_that_it_is_verified() -> None:
    """A caCert turns verification on unless the job says otherwise."""
    given = {"host": "h", "database": "d", **LOGIN}
    assert MySqlConnection.model_validate({**given, "caCert": "ca.pem"}).tls_mode == "verify"
    assert MySqlConnection.model_validate({**given, "tls": "REQUIRE"}).tls_mode == "require"
    url = {"jdbcUrl": "jdbc:mysql://h/d?sslMode=VERIFY_IDENTITY", **LOGIN}
    assert MySqlConnection.model_validate(url).tls_mode == "verify"
    url = {"jdbcUrl": "jdbc:postgresql://h/d?sslmode=require", **LOGIN}
    assert PostgresConnection.model_validate(url).tls_mode == "require"


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("jdbc:mysql://h/d?useSSL=true&requireSSL=true", "require"),
        ("jdbc:mysql://h/d?requireSSL=true&verifyServerCertificate=true", "verify"),
        ("jdbc:mysql://h/d?useSSL=false", "off"),
        ("jdbc:mysql://h/d?useSSL=true", "prefer"),
        ("jdbc:postgresql://h/d?ssl=true", "verify"),
        ("jdbc:postgresql://h/d?ssl", "verify"),
        ("jdbc:postgresql://h/d?ssl=true&sslmode=require", "require"),
        ("jdbc:postgresql://h/d?ssl=false", "prefer"),
    ],
)
def test_tls_is_what_the_url_s_driver_takes_it_for(url: str, mode: str) -> None:
    """A URL that asks for TLS never ends in a connection that may go without."""
    kind = MySqlConnection if "mysql" in url else PostgresConnection
    assert kind.model_validate({"jdbcUrl": url, **LOGIN}).tls_mode == mode


def test_a_jdbc_url_may_hold_the_login_before_its_host() -> None:
    """As MySQL's own driver takes it; what follows as parameters wins."""
    given = {"jdbcUrl": "jdbc:mysql://reader:p%40ss-word@[::1]:3307/d%20b?user=writer"}
    found = MySqlConnection.model_validate(given)
    assert (found.host, found.database, found.username) == ("::1", "d b", "writer")
    assert found.password.reveal() == "p@ss-word"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to read"),
        ({"table": "t", "connection": [{"table": "t"}]}, "leave out one of them"),
        ({"table": "t", "column": ["a", "b AS a"]}, "column 'a' stands twice"),
        ({"table": "t", "column": []}, "column is empty"),
        ({"table": ["t", "u", "t"]}, "'t' stands twice, and its rows would come twice"),
        ({"table": ["t_[0-3]", "t_2"]}, "'t_2' stands twice"),
        ({"table": "t_[0-99999999]"}, "stands for more than 10,000 tables"),
        ({"table": "t_[0-9999]_[0-9999]"}, "stands for more than 10,000 tables"),
        (
            {"connection": [{"datasource": "a", "table": "t"}, {"datasource": "b", "table": "t"}]},
            "several data sources",
        ),
        ({"connection": [{"jdbcUrl": URL, "table": "t"}, {"table": "t"}]}, "has no jdbcUrl"),
        (
            {"connection": [{"jdbcUrl": "jdbc:mysql://h", "table": "t"}], **LOGIN},
            "table 't': the jdbcUrl names no database; write database.table",
        ),
    ],
    ids=[
        "nothing",
        "both forms",
        "twice",
        "no column",
        "a table twice",
        "a table twice, once in a range",
        "too many tables",
        "too many by far",
        "data sources",
        "no URL",
        "bad URL",
    ],
)
def test_a_wrong_step_is_refused(given: dict[str, Any], message: str) -> None:
    """The message says what to do."""
    with pytest.raises(ValidationError, match=message):
        MySqlSettings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "tables"),
    [
        ("t_[0-2]", ["t_0", "t_1", "t_2"]),
        ("t_[8-10]", ["t_8", "t_9", "t_10"]),
        ("t_[08-10]", ["t_08", "t_09", "t_10"]),
        ("s.t_0[10-11]x", ["s.t_010x", "s.t_011x"]),
        ("t[2-1]", ["t1", "t2"]),
        (["a", "t_[0-1]_[00-01]"], ["a", "t_0_00", "t_0_01", "t_1_00", "t_1_01"]),
        (["`t_[0-1]`", '"t_[0-1]"', "t_[a-b]"], ["`t_[0-1]`", '"t_[0-1]"', "t_[a-b]"]),
    ],
)
def test_a_range_of_numbers_names_the_shards_of_a_table(given: Any, tables: list[str]) -> None:
    """As DataX expands it, in the step and in its connection; a name in quotes stays as it is."""
    assert list(MySqlSettings.model_validate({"table": given}).table) == tables
    step = MySqlSettings.model_validate({"connection": [{"datasource": "a", "table": given}]})
    assert list(step.connection[0].table) == tables


def test_dataworks_writes_the_data_source_into_connection() -> None:
    """It counts as the step's own."""
    given = {"connection": [{"datasource": "Shop", "table": ["a", "b"]}], "splitPk": " "}
    found = MySqlSettings.model_validate(given)
    assert (found.datasource, found.needs_datasource, found.split_pk) == ("Shop", True, None)
    assert found.groups == [(0, ("a", "b"), ())]


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("title", "title"),
        ("`order`", "order"),
        ('"Order"', "Order"),
        ("lower(a) AS b", "b"),
        ("a + 1 as `c d`", "c d"),
        ("a + 1", None),
        ("`a``b`", "a`b"),
        ("`a` + `b` AS `c`", "c"),
        ('"a" || "b" AS "c"', "c"),
        ("`a` + `b`", None),
        ("*", None),
    ],
)
def test_the_names_of_columns_are_known_where_the_job_says_them(
    column: str, name: str | None
) -> None:
    """Only then can a job's columns be followed before the run."""
    assert name_of(column) == name
    outputs = MySqlSettings.model_validate({"table": "t", "column": [column]}).outputs()
    assert outputs == (None if name is None else {name: None})


def test_a_split_can_be_taken_up_behind_any_key() -> None:
    """The condition says in SQL which rows come after those that were read."""
    split = TableSplit(
        0, "t", "SELECT a, b FROM t", visible=2, where="x = 1 OR y = 2", key="a",
        range=Range("3", "9"), order=("a", "b"), order_at=(0, 1),
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(split)) == split
    assert split.sql(("4", "'m'"), 10) == (
        "SELECT a, b FROM t WHERE (\nx = 1 OR y = 2\n) AND a >= 3 AND a < 9 "
        "AND (a >= 4 AND (a > 4 OR b > 'm')) ORDER BY a, b LIMIT 10"
    )


@pytest.mark.parametrize(
    ("rows", "size", "concurrent", "splits"),
    [(0, 0, 8, 1), (9_999, 0, 8, 1), (25_000, 0, 8, 2), (10**6, 0, None, 2), (10**6, 10**9, 4, 15)],
)
def test_a_table_is_cut_by_its_size(
    rows: int, size: int, concurrent: int | None, splits: int
) -> None:
    """By rows and bytes, for each stream at least one, none of under 10,000 rows."""
    table = Table("t", "t", (), (), frozenset(), rows, size)
    assert wanted(table, concurrent) == splits


def test_connections_share_what_they_trust_until_its_file_changes(tmp_path: Path) -> None:
    """Not those of another mode."""
    make_certificates(tmp_path)
    ca = tmp_path / "ca.pem"
    given = {"host": "h", "database": "d", **LOGIN}

    def context(**more: object) -> ssl.SSLContext:
        return tls_context(MySqlConnection.model_validate({**given, **more}))

    first = context(caCert=str(ca))
    assert context(caCert=str(ca)) is first
    assert first.verify_mode is ssl.CERT_REQUIRED
    prefer = context(tls="prefer")
    assert context(tls="require") is prefer
    assert prefer.verify_mode is ssl.CERT_NONE
    assert context(tls="verify") not in (first, prefer)
    os.utime(ca, (1, 1))
    assert context(caCert=str(ca)) is not first
    with pytest.raises(JobError, match="can't be read"):
        context(caCert=str(tmp_path / "none.pem"))


LOG = "Error when executing command SHOW BINLOG EVENTS: "


@pytest.mark.parametrize(
    ("code", "said", "passes"),
    [
        (1040, "Too many connections", True),
        (1205, "Lock wait timeout exceeded", True),
        (1927, "Connection was killed", True),
        (2013, "Lost connection to server during query", True),
        (1220, LOG + "Wrong offset or I/O error", True),
        (1220, LOG + "Could not find target log", False),
        (1045, "Access denied for user 'u'", False),
        (1064, "You have an error in your SQL syntax", False),
    ],
)
def test_what_may_pass_is_told_from_what_must_be_corrected(
    code: int, said: str, passes: bool
) -> None:
    """MariaDB can't read an event of its log that is being written; it can a moment later."""
    given = MySqlConnection.model_validate({"host": "h", "database": "d", **LOGIN})
    found = classify(OperationalError(code, said), given)
    assert isinstance(found, ConnectionLost) == passes
    assert said.split(":")[-1].strip() in str(found)
