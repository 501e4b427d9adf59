"""What a user fears of a sync: a row lost, an old value that wins, a delete that never arrives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sync_memory import held
from tests.io.mysql_cdc.syncs import SERVERS, Followed, Job
from tests.services.mariadb import Mariadb
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError, TransientError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.source import MySqlChanges
from vecferry.positions import Position
from vecferry.steps import StepContext

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.in_turn("script")]


@pytest.fixture(params=list(SERVERS))
def script(request: pytest.FixtureRequest) -> Iterator[Followed]:
    """An empty table on each of the servers."""
    followed = Followed(running(SERVERS[request.param]))
    yield followed
    followed.run("DROP TABLE IF EXISTS {}")
    followed.client.close()


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


def made_anew(script: Followed, columns: str) -> None:
    """The table with other columns."""
    script.run("DROP TABLE {}")
    script.run(f"CREATE TABLE {{}} ({columns})")


def there(job: Job) -> dict[Any, str]:
    """The texts of the target by key."""
    return {key: row["text"] for key, row in held(job.name).there().items()}


@pytest.mark.parametrize("flushes", [0, 1])
@pytest.mark.parametrize("script", ["mysql", "mariadb"], indirect=True)  # others wait for locks
def test_a_distributed_transaction_may_be_older_than_the_position(
    script: Followed, flushes: int, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Its rows are looked for in the log, also in a former file, and nothing is read anew."""
    for number, key in enumerate("xyz"):
        with script.server.client() as other, other.cursor() as cursor:
            cursor.execute(f"XA START 'old{number}'")
            cursor.execute(f"INSERT INTO {script.name} (id, text) VALUES ('{key}', 'of {key}')")
            cursor.execute(f"XA END 'old{number}'")
            cursor.execute(f"XA PREPARE 'old{number}'")
    script.run("XA ROLLBACK 'old1'")
    job = Job(script, tmp_path, endpoint)
    script.insert("a", "of a")
    for _ in range(flushes):
        script.run("FLUSH BINARY LOGS")
    assert (job.run().state, there(job)) == ("DONE", {"a": "of a"})
    for xid in ("old2", "old0"):
        script.run(f"XA COMMIT '{xid}'")
    script.insert("b", "of b")
    report = job.run()
    assert (report.error, there(job)) == (None, {k: f"of {k}" for k in "abxz"})
    assert not any("read anew" in note for note in report.notes)


def test_places_of_a_server_are_not_read_at_another_one(script: Followed) -> None:
    """An address may lead to several: their logs have other places, their rows may be older."""
    script.insert("a", "text of a")
    source = MySqlChanges(
        MySqlCdcSettings.model_validate({"table": script.name, "datasource": "Database"}),
        MySqlConnection.model_validate(script.server.source),
        StepContext(step="Read", step_type="mysql-cdc", retry_deadline=0.1),
    )
    first = dataclasses.replace(source.span(None), epoch=1)
    position = Position(epoch=1, identity=source.identity(), phase="changes", at=first.until)
    script.insert("b", "text of b")
    for span in (first, source.span(position)):
        (split,) = source.plan(span).splits
        elsewhere = dataclasses.replace(split, server="another")  # type: ignore[type-var]
        with pytest.raises(TransientError, match=r"leads to the server .* another; give it"):
            list(source.read(elsewhere))
        assert list(source.read(split))  # type: ignore[arg-type]
        until = {**span.until, "server": "another"}
        if span.kind == "full":
            with pytest.raises(TransientError, match="and the span is of another"):
                source.plan(dataclasses.replace(span, until=until))


def test_former_rows_that_a_table_keeps_are_not_taken_for_its_rows(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """MariaDB's system versioning logs a delete as an update, and former rows as inserts."""
    script = Followed(running(Mariadb))
    script.run("DROP TABLE {}")
    script.run(
        "CREATE TABLE {} (id VARCHAR(64) PRIMARY KEY, text TEXT, n INT) WITH SYSTEM VERSIONING"
    )
    job = Job(script, tmp_path, endpoint)
    for key in "abc":
        script.insert(key, f"text of {key}")
    assert job.run(preflight=True).state == "DONE"
    script.update("a", "another text of a")
    script.delete("b")
    script.delete("c")
    script.insert("c", "again")
    assert (job.run().state, there(job)) == ("DONE", {"a": "another text of a", "c": "again"})
    script.run("DELETE HISTORY FROM {}")
    assert (job.run().state, there(job)) == ("DONE", {"a": "another text of a", "c": "again"})
    with script.server.client() as root, root.cursor() as cursor:
        cursor.execute("SET GLOBAL binlog_row_metadata = 'NO_LOG'")
        try:
            with pytest.raises(JobError, match="binlog_row_metadata = 'FULL'"):
                job.run(preflight=True)
        finally:
            cursor.execute("SET GLOBAL binlog_row_metadata = 'FULL'")
    script.run("DROP TABLE {}")


def test_a_table_that_keeps_former_rows_from_now_on_is_followed_on(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """An ALTER TABLE between two changes of one round says so."""
    script = Followed(running(Mariadb))
    job = Job(script, tmp_path, endpoint)
    script.insert("a", "text of a")
    script.insert("b", "text of b")
    assert job.run().state == "DONE"
    script.run("ALTER TABLE {} ADD SYSTEM VERSIONING")
    script.update("a", "another text of a")
    script.delete("b")
    assert (job.run().state, there(job)) == ("DONE", {"a": "another text of a"})
    script.run("DROP TABLE {}")


def test_rows_that_leave_with_their_partition_are_deleted(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """MariaDB makes a table of a partition, and logs no row."""
    script = Followed(running(Mariadb))
    made_anew(
        script,
        "id INT PRIMARY KEY, text TEXT) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN "
        "(10), PARTITION q VALUES LESS THAN MAXVALUE",
    )
    job = Job(script, tmp_path, endpoint)
    for key in ("1", "2", "20"):
        script.insert(key, f"text of {key}")
    assert job.run().state == "DONE"
    script.run("ALTER TABLE {} CONVERT PARTITION p TO TABLE {}_p")
    assert (job.run().state, there(job)) == ("DONE", {20: "text of 20"})
    script.run("DROP TABLE {}, {}_p")


def test_names_with_dots_and_quotes_are_followed(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Written in backticks, as the server itself writes them."""
    plain, script.name = script.name, f"`a.b``{script.name}`"
    script.run("CREATE TABLE {} (id VARCHAR(64) PRIMARY KEY, text TEXT, n INT)")
    script.insert("a", "text of a")
    job = Job(script, tmp_path, endpoint)
    assert (job.run(preflight=True).state, there(job)) == ("DONE", {"a": "text of a"})
    script.update("a", "another text of a")
    script.run("ALTER TABLE {} ADD COLUMN m INT")
    script.insert("b", "text of b")
    assert job.run().state == "DONE"
    assert there(job) == {"a": "another text of a", "b": "text of b"}
    script.truncate()
    assert (job.run().state, there(job)) == ("DONE", {})
    script.run("DROP TABLE {}")
    script.name = plain


def test_a_row_that_comes_again_outside_the_condition_is_deleted(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Its delete and its insert stand in one round."""
    job = Job(script, tmp_path, endpoint, where="n < 10")
    script.run("INSERT INTO {} VALUES ('a', 'text of a', 1), ('b', 'text of b', 1)")
    assert job.run().state == "DONE"
    script.run("DELETE FROM {} WHERE id = 'a'")
    script.run("INSERT INTO {} VALUES ('a', 'text of a', 100)")
    assert job.run().state == "DONE"
    assert there(job) == {"b": "text of b"}


def test_rows_that_a_savepoint_took_back_do_not_count(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """MariaDB logs them where a table without transactions was written in between."""
    other = f"m_{script.name}"
    script.run(f"CREATE TABLE {other} (id INT) ENGINE = MyISAM")
    job = Job(script, tmp_path, endpoint)
    script.insert("a", "text of a")
    assert job.run().state == "DONE"
    with script.server.client(autocommit=False) as client, client.cursor() as cursor:
        cursor.execute(f"INSERT INTO {script.name} VALUES ('b', 'text of b', 1)")
        cursor.execute("SAVEPOINT here")
        cursor.execute(f"INSERT INTO {script.name} VALUES ('c', 'text of c', 1)")
        with suppress(Exception):  # GTIDs of MySQL forbid it
            cursor.execute(f"INSERT INTO {other} VALUES (1)")
        cursor.execute("ROLLBACK TO here")
        cursor.execute("COMMIT")
    assert (job.run().state, job.differences()) == ("DONE", [])
    script.run(f"DROP TABLE {other}")


def test_a_foreign_key_that_changes_rows_without_a_word_is_told(
    script: Followed, tmp_path: Path, endpoint: EndpointServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The server deletes children of a cascade itself, and the log has no row of them."""
    parent = f"p_{script.name}"
    script.run(f"CREATE TABLE {parent} (id VARCHAR(64) PRIMARY KEY)")
    made_anew(
        script,
        "id VARCHAR(64) PRIMARY KEY, text TEXT, p VARCHAR(64), "
        f"FOREIGN KEY (p) REFERENCES {parent} (id) ON DELETE CASCADE",
    )
    job = Job(script, tmp_path, endpoint)
    assert job.run(preflight=True).state == "DONE"
    (told,) = [r.getMessage() for r in caplog.records if "foreign key" in r.getMessage()]
    assert "is ON DELETE CASCADE, and the server logs no row" in told
    assert "vecferry verify" in told
    script.run("DROP TABLE {}")
    script.run(f"DROP TABLE {parent}")


@pytest.fixture
def metadata(request: pytest.FixtureRequest, script: Followed) -> Iterator[str]:
    """What the log says of columns, while the test runs."""
    script.run(f"SET GLOBAL binlog_row_metadata = {request.param}")
    yield request.param
    script.run("SET GLOBAL binlog_row_metadata = FULL")


ALTERS = {
    "names swapped": [
        "ALTER TABLE {} CHANGE note was TEXT, CHANGE text note TEXT",
        "ALTER TABLE {} CHANGE was text TEXT",
    ],
    "narrower": ["ALTER TABLE {} MODIFY text VARCHAR(3)"],
    "emptied": ["ALTER TABLE {} DROP text, ADD COLUMN (text VARCHAR(9) DEFAULT 'new')"],
    "another order": [
        "ALTER TABLE {} ADD COLUMN k INT",
        "INSERT INTO {} (id, text, note) VALUES ('c', 'text of c', 'note of c')",
        "ALTER TABLE {} MODIFY COLUMN text TEXT AFTER note",
    ],
    "nothing of it": [
        "ALTER TABLE {} ADD INDEX i (id), ADD COLUMN k INT FIRST",
        "INSERT INTO {} (id, text, note) VALUES ('c', 'text of c', 'note of c')",
        "ALTER TABLE {} MODIFY text LONGTEXT, ALGORITHM = COPY",
        "CREATE TABLE IF NOT EXISTS {} (id INT)",
        "CREATE TEMPORARY TABLE {} (id INT)",
        "DROP TEMPORARY TABLE {}",
    ],
}


@pytest.mark.parametrize("metadata", ["MINIMAL", "FULL"], indirect=True)
@pytest.mark.parametrize("name", list(ALTERS))
def test_what_an_alter_does_to_values_is_in_no_event_and_arrives(
    name: str, metadata: str, script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """By reading all anew, and only where values of the job's columns may be others."""
    made_anew(script, "id VARCHAR(64) PRIMARY KEY, text TEXT, note TEXT")
    job = Job(script, tmp_path, endpoint)
    script.run("INSERT INTO {} VALUES ('a', 'text of a', 'note of a')")
    assert job.run().state == "DONE"
    script.run("INSERT INTO {} VALUES ('b', 'text of b', 'note of b')")
    script.run("SET sql_mode = ''")
    for sql in ALTERS[name]:
        script.run(sql)
    script.run("INSERT INTO {} (id, text, note) VALUES ('d', 'text of d', 'note of d')")
    report = job.run()
    assert (report.state, job.differences()) == ("DONE", [])
    anew = any("everything is read anew" in note for note in report.notes)
    if metadata == "FULL":  # else nobody can name the columns between two changes
        assert anew == (name not in ("nothing of it", "another order"))


@pytest.mark.parametrize(
    ("form", "sql"),
    [
        ("ROW", "/*M! TRUNCATE {} */"),
        ("ROW", "SET STATEMENT max_statement_time = 10 FOR TRUNCATE {}"),
        ("STATEMENT", "WITH x AS (SELECT 'a' AS i) DELETE FROM {} WHERE id IN (SELECT i FROM x)"),
    ],
)
def test_statements_in_other_words_are_understood(
    form: str, sql: str, script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Each server knows some of them."""
    job = Job(script, tmp_path, endpoint)
    for key in "abc":
        script.insert(key, f"text of {key}")
    assert job.run().state == "DONE"
    script.run(f"SET SESSION binlog_format = '{form}'")
    with suppress(Exception):
        script.run(sql)
    assert (job.run().state, job.differences()) == ("DONE", [])


@pytest.mark.parametrize("nth", range(7))
def test_a_place_in_the_middle_of_a_transaction_is_its_beginning(
    nth: int, script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Reading could not go on from the middle, and would lose the rest of the transaction."""
    job = Job(script, tmp_path, endpoint)
    script.insert("a", "text of a")
    assert job.run().state == "DONE"
    with script.client.cursor() as cursor:
        cursor.execute("SHOW MASTER STATUS")
        file, before = cursor.fetchone()[:2]
        cursor.execute("BEGIN")
        for key in "xyz":
            script.insert(key, f"text of {key}")
        cursor.execute("COMMIT")
        cursor.execute(f"SHOW BINLOG EVENTS IN '{file}' FROM {before}")
        begins = [row[1] for row in cursor.fetchall()][nth]
    for offset in (begins, begins + 7):
        position = job.run(until=f"{file}:{offset}").position
        assert position is not None
        assert position["at"]["offset"] == before
    script.insert("b", "text of b")
    script.delete("a")
    assert (job.run().state, job.differences()) == ("DONE", [])


@pytest.mark.parametrize("where", [None, "`from` = 1"])
def test_a_key_that_has_another_name_in_rows_moves(
    where: str | None, script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """The old row goes; columns may have the names of reserved words."""
    made_anew(script, "k VARCHAR(64) PRIMARY KEY, `select` TEXT, `from` INT DEFAULT 1")
    columns = ["k AS id", "`select` AS text"]
    job = Job(script, tmp_path, endpoint, column=columns, where=where)
    for key in "abc":
        script.run("INSERT INTO {} (k, `select`) VALUES (%s, %s)", key, f"text of {key}")
    assert job.run().state == "DONE"
    script.run("UPDATE {} SET k = 'z' WHERE k = 'a'")
    script.run("UPDATE {} SET `select` = 'another' WHERE k = 'b'")
    script.run("DELETE FROM {} WHERE k = 'c'")
    assert job.run().state == "DONE"
    assert there(job) == {"b": "another", "z": "text of a"}


def test_a_key_that_rows_lack_moves(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """The target's id is computed from the key."""
    made_anew(
        script,
        "a INT, b VARCHAR(9), id VARCHAR(30) AS (CONCAT(a, '-', b)) STORED, text TEXT, "
        "PRIMARY KEY (a, b)",
    )
    job = Job(script, tmp_path, endpoint, chunkRows=2)
    for n in range(5):
        script.run("INSERT INTO {} (a, b, text) VALUES (%s, 'x', %s)", n, f"text of {n}")
    assert job.run().state == "DONE"
    script.run("UPDATE {} SET b = 'y' WHERE a = 1")
    script.run("UPDATE {} SET text = 'another' WHERE a = 2")
    assert (job.run().state, job.differences()) == ("DONE", [])
