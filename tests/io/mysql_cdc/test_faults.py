"""What happens to a server and its log while a sync stands still, each with its words or cure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.sync_memory import held
from tests.io.mysql_cdc.syncs import SERVERS, Followed, Job
from tests.services.mysql8 import Mysql8, Mysql8Plain, Mysql8Replica
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


def loaded(script: Followed, folder: Path, endpoint: EndpointServer, **reader: object) -> Job:
    """A sync of three rows that were loaded."""
    job = Job(script, folder, endpoint, **reader)
    for key in "abc":
        script.insert(key, f"text of {key}")
    assert job.run().state == "DONE"
    return job


def reset_later(script: Followed) -> None:
    """RESET MASTER, in another second than the last one: the log tells its beginning in seconds."""
    time.sleep(1.1)
    script.run("RESET MASTER")


@pytest.mark.parametrize("kind", list(SERVERS))
def test_a_log_that_was_begun_anew_is_told_from_the_former_one(
    kind: str, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """RESET MASTER, and a file of the same name that is longer than the position."""
    script = Followed(running(SERVERS[kind]))
    script.run("RESET MASTER")
    job = loaded(script, tmp_path, endpoint)
    paid = job.paid()
    script.run("DELETE FROM {} WHERE id = 'a'")
    reset_later(script)
    for n in range(20):
        script.insert(f"n{n}", "text of b")
    with pytest.raises(JobError, match="onPurged: resync"):
        job.run()
    job.change(onPurged="resync")
    report = job.run()
    assert (report.state, job.differences(), job.paid()) == ("DONE", [], paid)
    script.run("DROP TABLE {}")


@pytest.mark.parametrize("kind", list(SERVERS))
def test_a_log_that_is_begun_anew_while_it_is_read_is_noticed(
    kind: str, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """The connection stays, and the new file is soon longer than the position."""
    script = Followed(running(SERVERS[kind]))
    script.run("RESET MASTER")
    job = loaded(script, tmp_path, endpoint, onPurged="resync")
    stored = [0]

    def on_step(step: str) -> None:
        if step != "stored":
            return
        stored[0] += 1
        if stored[0] == 1:
            script.run("DELETE FROM {} WHERE id = 'a'")
            reset_later(script)
            for n in range(40):
                script.insert(f"n{n}", "text of b")

    script.insert("d", "text of d")
    assert job.run(on_step=on_step).state == "DONE"
    assert (stored[0] > 1, job.differences()) == (True, [])
    script.run("DROP TABLE {}")


def test_a_failover_with_gtids_goes_on_under_a_new_epoch(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """At a replica with files and places of its own; nothing is read anew."""
    first, second = running(Mysql8), running(Mysql8Replica)
    first.execute("RESET MASTER")  # the replica knows none of the tables of other tests
    script = Followed(first)
    job = loaded(script, tmp_path, endpoint)
    second.follow(first)
    script.run("FLUSH BINARY LOGS")
    script.run("DELETE FROM {} WHERE id = 'a'")
    script.update("b", "another text of b")
    second.catch_up(first)
    job.move_to(second)
    with second.client() as client, client.cursor() as cursor:
        cursor.execute("STOP SLAVE")
        cursor.execute(f"UPDATE {script.name} SET text = 'the last text of c' WHERE id = 'c'")
    report = job.run()
    assert report.state == "DONE"
    assert (report.rows_read, held(job.name).epoch) == (3, 2)
    assert any("changes go on under a new epoch" in note for note in report.notes)
    there = {key: row["text"] for key, row in held(job.name).there().items()}
    assert there == {"b": "another text of b", "c": "the last text of c"}
    script.run("DROP TABLE {}")


def test_a_failover_in_a_full_load_keeps_what_was_loaded_before(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """The rest of the load has another epoch; rows that were loaded before it are not swept."""
    first, second = running(Mysql8), running(Mysql8Replica)
    first.execute("RESET MASTER")
    script = Followed(first)
    for n in range(8):
        script.insert(f"k{n}", f"text of {n}")
    job = Job(script, tmp_path, endpoint, chunkRows=2)

    class Away(Exception):
        """The process ends."""

    def on_step(step: str) -> None:
        if step == "stored":
            raise Away

    with pytest.raises(Away):
        job.run(on_step=on_step)
    second.follow(first)
    second.catch_up(first)
    job.move_to(second)
    assert job.run().state == "DONE"
    assert (held(job.name).epoch, job.differences()) == (2, [])
    script.run("DROP TABLE {}")


def test_another_server_without_gtids_is_never_gone_on_with(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Its files have the same names; the server is told from the first one."""
    script = Followed(running(Mysql8Plain))
    job = loaded(script, tmp_path, endpoint)
    job.move_to(running(Mysql8Replica))
    with running(Mysql8Replica).client() as client, client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {script.name} (id VARCHAR(64) PRIMARY KEY, text TEXT)")
    with pytest.raises(JobError, match=r"the server is .* now, and the position is of"):
        job.run()
    script.run("DROP TABLE {}")


@pytest.mark.parametrize("kind", list(SERVERS))
def test_a_user_without_rights_is_told_what_to_grant(
    kind: str, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Before anything is written; each right by its name."""
    script = Followed(running(SERVERS[kind]))
    script.run("DROP USER IF EXISTS poor@'%'")
    script.run("CREATE USER poor@'%' IDENTIFIED BY 'poor-pass-3141'")
    script.run("GRANT SELECT ON shop.* TO poor@'%'")
    job = Job(script, tmp_path, endpoint)
    job.log_in("poor", "poor-pass-3141")
    monitor = "BINLOG MONITOR" if kind == "mariadb" else "REPLICATION CLIENT"
    with pytest.raises(JobError, match=f"GRANT {monitor}, REPLICATION SLAVE") as raised:
        job.run(preflight=True)
    assert "poor-pass" not in str(raised.value)
    script.run(f"GRANT {monitor} ON *.* TO poor@'%'")
    with pytest.raises(JobError, match="GRANT REPLICATION SLAVE"):
        job.run(preflight=True)
    script.run("GRANT REPLICATION SLAVE ON *.* TO poor@'%'")
    if kind == "plain":
        with pytest.raises(JobError, match="GRANT LOCK TABLES"):
            job.run(preflight=True)
        script.run("GRANT LOCK TABLES ON shop.* TO poor@'%'")
    script.insert("a", "text of a")
    assert (job.run(preflight=True).state, job.differences()) == ("DONE", [])
    script.run("DROP TABLE {}")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("id INT, text TEXT", "has no primary key"),
        ("id FLOAT PRIMARY KEY, text TEXT", "by which rows can't be cut into ranges"),
    ],
)
def test_a_table_without_a_key_is_refused(
    table: str, words: str, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Nobody could tell which row a change is of."""
    script = Followed(running(Mysql8))
    script.run("DROP TABLE {}")
    script.run(f"CREATE TABLE {{}} ({table})")
    job = Job(script, tmp_path, endpoint)
    with pytest.raises(JobError, match=words):
        job.run(preflight=True)
    script.run("DROP TABLE {}")


def test_a_connection_that_is_killed_is_opened_again(
    tmp_path: Path, endpoint: EndpointServer
) -> None:
    """The round is begun again, and nothing is lost."""
    script = Followed(running(Mysql8))
    job = loaded(script, tmp_path, endpoint)
    killed: list[int] = []

    def on_step(step: str) -> None:
        if step != "stored" or len(killed) > 2:
            return
        with script.client.cursor() as cursor:
            cursor.execute("SHOW PROCESSLIST")
            for row in cursor.fetchall():
                reader = row[4].startswith("Binlog Dump") or row[4] == "Sleep"
                if reader and row[0] != script.client.thread_id():
                    cursor.execute(f"KILL {row[0]}")
                    killed.append(row[0])
        script.insert(f"k{len(killed)}", "text of a")

    script.insert("d", "text of d")
    assert job.run(on_step=on_step).state == "DONE"
    assert job.run().state == "DONE"
    assert (len(killed) > 0, job.differences()) == (True, [])
    script.run("DROP TABLE {}")
