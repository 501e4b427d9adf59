"""A sync of tables of MySQL and MariaDB passes the contract of all sources that are followed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sync import DIMENSION, Asked, Broken, Killed, Script
from tests.contracts.sync_memory import held
from tests.contracts.sync_nursery import Nursery
from tests.contracts.sync_stores import STORES, StorePlace, stores_of
from tests.io.mysql_cdc.syncs import ALL, Followed, Job, purge
from tests.services.opensearch import OpenSearchServer
from tests.services.server import running
from tests.transforms.embed.endpoints.server import EndpointServer
from vecferry.errors import JobError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc import chunks
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.source import MySqlChanges
from vecferry.pipelines.cli.app import run_line
from vecferry.pipelines.run import sync
from vecferry.positions import Position
from vecferry.positions.entries import Progress
from vecferry.positions.lease import Lease
from vecferry.steps import Lag, StepContext

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.in_turn("script")]


PARAMETERS = [
    # Without GTIDs only a full load reads otherwise: test_snapshot.py shows that.
    pytest.param(name, marks=[pytest.mark.long] if name in ("plain", "mysql57") else [])
    for name in ALL
]


@contextmanager
def table(server: str) -> Iterator[Followed]:
    """An empty table."""
    followed = Followed(running(ALL[server]))
    yield followed
    followed.run("DROP TABLE IF EXISTS {}")
    followed.client.close()


@pytest.fixture(params=PARAMETERS)
def script(request: pytest.FixtureRequest) -> Iterator[Script]:
    """An empty table on each of the servers."""
    with table(request.param) as followed:
        yield followed


class TestBroken(Broken):
    """Broken off in this process."""


class TestAsked(Asked):
    """Asked for something while it is broken off in this process."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts vecferry, with the reader loaded."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"), "vecferry.io.mysql_cdc.kind")
    yield nursery
    nursery.close()


@pytest.fixture(params=stores_of(OpenSearchServer))
def store(request: pytest.FixtureRequest) -> Iterator[StorePlace]:
    """An empty target on each of the stores."""
    place = STORES[request.param][0](DIMENSION)
    yield place
    place.close()


class TestKilled(Killed):
    """Killed as whole processes."""

    @pytest.fixture(params=["mysql", pytest.param("mariadb", marks=pytest.mark.long)])
    def script(self, request: pytest.FixtureRequest) -> Iterator[Script]:
        """An empty table; one server is enough in each run."""
        with table(request.param) as followed:
            yield followed


@pytest.fixture
def endpoint() -> Iterator[EndpointServer]:
    """Without latency."""
    with EndpointServer() as server:
        yield server


@pytest.fixture
def job(script: Followed, tmp_path: Path, endpoint: EndpointServer) -> Job:
    """A sync of three rows that were loaded."""
    made = Job(script, tmp_path, endpoint)
    for key in "abc":
        script.insert(key, f"text of {key}")
    assert made.run().state == "DONE"
    assert made.differences() == []
    return made


def test_changes_of_each_kind_arrive_and_cost_what_is_new(job: Job) -> None:
    """An update of the text costs one input; of another column it is dropped; the rest is free."""
    run = job.script.run
    paid = job.paid()
    run("UPDATE {} SET text = 'new' WHERE id = 'a'")
    run("UPDATE {} SET n = n + 1")
    run("DELETE FROM {} WHERE id = 'b'")
    run("UPDATE {} SET id = 'd' WHERE id = 'c'")
    run("REPLACE INTO {} (id, text) VALUES ('e', 'new'), ('d', 'text of c')")
    run("INSERT INTO {} (id, text) VALUES ('e', 'x') ON DUPLICATE KEY UPDATE text = 'text of b'")
    report = job.run()
    assert (report.state, job.differences()) == ("DONE", [])
    assert (job.paid() - paid, report.rows_stale) == (1, 0)
    assert report.rows_dropped >= 3


def test_keys_that_are_swapped_in_one_statement_keep_their_rows(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """Each key comes twice in one event, as the old one of a row and the new one of another."""
    script.run("DROP TABLE {}")
    script.run("CREATE TABLE {} (id INT PRIMARY KEY, text TEXT)")
    for n in range(1, 6):
        script.insert(str(n), f"text of {n}")
    job = Job(script, tmp_path, endpoint)
    assert job.run().state == "DONE"
    script.run("UPDATE {} SET id = id + 1 ORDER BY id DESC")
    assert job.run().state == "DONE"
    assert {k: r["text"] for k, r in held(job.name).there().items()} == {
        n + 1: f"text of {n}" for n in range(1, 6)
    }


def test_a_condition_and_an_expression_are_read_again_by_key(
    script: Followed, tmp_path: Path, endpoint: EndpointServer
) -> None:
    """A row that leaves the condition is deleted; one that comes into it is written."""
    columns = ["id", "UPPER(text) AS text"]
    job = Job(script, tmp_path, endpoint, where="n < 10", column=columns)
    for n, key in enumerate("abcdef"):
        script.run("INSERT INTO {} VALUES (%s, %s, %s)", key, f"text of {key}", 8 + n)
    assert job.run().state == "DONE"
    assert sorted(held(job.name).there()) == ["a", "b"]
    script.run("UPDATE {} SET n = 1 WHERE id = 'c'")
    script.run("UPDATE {} SET n = 100 WHERE id = 'a'")
    script.run("INSERT INTO {} VALUES ('g', 'text of g', 1), ('h', 'text of h', 11)")
    script.run("UPDATE {} SET id = 'i' WHERE id = 'b'")
    script.run("DELETE FROM {} WHERE id = 'd'")
    assert job.run().state == "DONE"
    there = {key: row["text"] for key, row in held(job.name).there().items()}
    assert there == {key: f"TEXT OF {key.upper() if key != 'i' else 'B'}" for key in "cgi"}


def test_a_truncate_lets_all_be_read_anew(job: Job) -> None:
    """What was truncated goes; what comes again costs nothing."""
    paid = job.paid()
    job.script.truncate()
    job.script.insert("b", "text of b")
    report = job.run()
    assert (report.state, job.differences(), job.paid()) == ("DONE", [], paid)
    assert any("TRUNCATE" in note for note in report.notes)


@pytest.mark.parametrize("given", [{"ownsTarget": False}, {"onTableChange": "stop"}])
def test_a_truncate_ends_a_sync_that_may_not_delete(
    script: Followed, tmp_path: Path, endpoint: EndpointServer, given: dict[str, Any]
) -> None:
    """Nothing is deleted, and the way out is told."""
    job = Job(script, tmp_path, endpoint, **given)
    script.insert("a", "text of a")
    assert job.run().state == "DONE"
    script.truncate()
    script.insert("b", "text of b")
    report = job.run()
    assert report.state == "FAILED"
    assert "TRUNCATE" in (report.error or "")
    assert "ownsTarget: true" in (report.error or "") or "resync" in (report.error or "")
    assert "a" in held(job.name).there()


def test_a_purged_position_ends_a_sync_or_begins_anew(job: Job) -> None:
    """As `onPurged` says; what was deleted meanwhile goes."""
    paid, script = job.paid(), job.script
    script.run("FLUSH BINARY LOGS")
    script.run("DELETE FROM {} WHERE id = 'a'")
    script.run("FLUSH BINARY LOGS")
    purge(script)
    with pytest.raises(JobError, match="onPurged: resync"):
        job.run()
    job.change(onPurged="resync")
    report = job.run()
    assert (report.state, job.differences(), job.paid()) == ("DONE", [], paid)


def test_columns_may_come_and_go(job: Job) -> None:
    """As long as those of the job are there; one that is gone is named."""
    script = job.script
    script.insert("d", "text of d")
    script.run("ALTER TABLE {} ADD COLUMN m VARCHAR(9) FIRST, DROP COLUMN n")
    script.update("a", "another text of a")
    assert (job.run().state, job.differences()) == ("DONE", [])
    script.insert("e", "text of e")
    script.run("ALTER TABLE {} CHANGE COLUMN text body TEXT")
    script.run("INSERT INTO {} (id, body) VALUES ('f', 'text of f')")
    report = job.run()
    assert report.state == "FAILED"
    assert "has no column 'text' any more" in (report.error or "")
    assert "vecferry resync" in (report.error or "")


def test_an_online_change_of_the_schema_goes_on(job: Job) -> None:
    """As gh-ost and pt-online-schema-change rename a copy into the place."""
    script, name, paid = job.script, job.script.name, job.paid()
    script.run(f"CREATE TABLE _{name}_gho LIKE {name}")
    script.run(f"ALTER TABLE _{name}_gho ADD COLUMN m INT")
    script.run(f"INSERT INTO _{name}_gho (id, text, n) SELECT id, text, n FROM {name}")
    script.run(f"RENAME TABLE {name} TO _{name}_del, _{name}_gho TO {name}")
    script.insert("d", "text of d")
    report = job.run()
    assert (report.state, job.differences(), job.paid()) == ("DONE", [], paid + 1)
    assert report.span is not None
    assert report.span["kind"] == "changes"
    script.run(f"DROP TABLE _{name}_del")


def test_rows_of_a_distributed_transaction_count_once_it_is_committed(
    job: Job, script: Followed
) -> None:
    """Also where it was prepared in an earlier run; what was rolled back leaves no trace."""
    for key, xid in (("x", "one"), ("y", "two")):
        with script.server.client() as other, other.cursor() as cursor:
            cursor.execute(f"XA START '{xid}'")
            cursor.execute(
                f"INSERT INTO {script.name} (id, text) VALUES ('{key}', 'text of {key}')"
            )
            cursor.execute(f"XA END '{xid}'")
            cursor.execute(f"XA PREPARE '{xid}'")
    script.insert("d", "text of d")
    assert (job.run().error, job.differences()) == (None, [])
    assert sorted(held(job.name).there()) == list("abcd")
    script.run("XA COMMIT 'one'")
    script.run("XA ROLLBACK 'two'")
    report = job.run()
    assert (report.error, report.rows_read, job.differences()) == (None, 1, [])
    assert sorted(held(job.name).there()) == list("abcdx")


def test_a_session_that_logs_statements_lets_all_be_read_anew(job: Job) -> None:
    """Its writes name no rows."""
    with job.script.server.client() as other, other.cursor() as cursor:
        cursor.execute("SET SESSION binlog_format = 'STATEMENT'")
        cursor.execute(f"UPDATE {job.script.name} SET text = 'another' WHERE id = 'a'")
    report = job.run()
    assert (report.state, job.differences()) == ("DONE", [])
    assert any("logged as a statement" in note for note in report.notes)


@pytest.mark.parametrize("image", ["MINIMAL", "NOBLOB"])
def test_images_that_lack_columns_are_read_again(job: Job, image: str) -> None:
    """A session may log only what a statement changed."""
    with job.script.server.client() as other, other.cursor() as cursor:
        cursor.execute(f"SET SESSION binlog_row_image = '{image}'")
        name = job.script.name
        cursor.execute(f"UPDATE {name} SET n = 5 WHERE id = 'a'")
        cursor.execute(f"UPDATE {name} SET text = 'another' WHERE id = 'b'")
        cursor.execute(f"DELETE FROM {name} WHERE id = 'c'")
        cursor.execute(f"INSERT INTO {name} (id, text) VALUES ('d', 'text of d')")
    assert (job.run().state, job.differences()) == ("DONE", [])


def test_a_table_that_is_added_is_loaded_alone(job: Job, script: Followed) -> None:
    """The rows of the others are not read again."""
    other = Followed(script.server)
    other.insert("z", "text of z")
    job.change(table=[f"shop.{script.name}", f"shop.{other.name}"])
    script.insert("d", "text of d")
    report = job.run()
    assert (report.state, report.rows_read) == ("DONE", 2)
    assert sorted(held(job.name).there()) == list("abcdz")
    other.insert("y", "text of y")
    assert job.run().state == "DONE"
    assert sorted(held(job.name).there()) == list("abcdyz")
    other.run("DROP TABLE {}")


def test_another_key_lets_all_be_read_anew(job: Job, script: Followed) -> None:
    """Rows are told apart by it, chunks are cut by it, and ids are made of it."""
    job.change(onTableChange="stop")
    script.run("ALTER TABLE {} DROP PRIMARY KEY, ADD PRIMARY KEY (id, n)")
    with pytest.raises(JobError, match=f"the key of shop.{script.name} was id, and is id, n now"):
        job.run()
    job.change(onTableChange="resync")
    report = job.run()
    assert (report.state, report.rows_read, job.differences()) == ("DONE", 3, [])
    assert any("was id, and is id, n now" in note for note in report.notes)

    def on_step(step: str) -> None:
        if step == "stored":
            script.run("ALTER TABLE {} DROP PRIMARY KEY, ADD PRIMARY KEY (id)")

    script.insert("d", "text of d")
    report = job.run(on_step=on_step)
    assert report.state == "FAILED"
    assert "start the sync anew" in (report.error or "")


@pytest.mark.parametrize("request_", ["resync", "verify"])
def test_a_table_that_is_added_later_takes_no_row_of_the_others(
    job: Job, script: Followed, request_: str
) -> None:
    """Also where the epoch grew since all was loaded: by a range, a repair, another server."""
    rejects = ["--rejects", str(job.path.parent / "rejects")]
    more = {"resync": ["--from", "b"], "verify": ["--repair"]}[request_]
    there = held(job.name)
    there.rows["a"] = {**there.there()["a"], "text": "by hand"}
    if request_ == "resync":
        script.update("a", "text of a")
    assert run_line([*job.command(request_), *more, *rejects]) == 0
    assert there.epoch == 2
    other = Followed(script.server)
    other.insert("z", "text of z")
    job.change(table=[f"shop.{script.name}", f"shop.{other.name}"])
    assert job.run().state == "DONE"
    assert sorted(there.there()) == list("abcz")
    other.run("DROP TABLE {}")


def test_an_idle_table_moves_its_position_with_the_log(job: Job) -> None:
    """So the log of the position is never purged because others are busy."""
    other = Followed(job.script.server)
    before = job.run().position
    other.insert("z", "text of z")
    other.run("FLUSH BINARY LOGS")
    after = job.run().position
    assert before is not None
    assert after is not None
    assert before["at"]["file"] < after["at"]["file"]
    other.run("DROP TABLE {}")


def test_what_leaves_the_text_alone_costs_nothing(job: Job) -> None:
    """No request for another column, no write where none is mapped, nothing for a resync."""
    script = job.script
    values = ", ".join(f"('r{n}', 'text {n % 7}', {n})" for n in range(2000))
    script.run("INSERT INTO {} VALUES " + values)
    assert job.run().state == "DONE"
    paid = job.paid()
    script.run("UPDATE {} SET n = n + 1")
    report = job.run()
    assert (report.rows_read, report.rows_dropped, report.rows_written) == (2003, 2003, 0)
    assert run_line([*job.command("resync"), "--rejects", str(job.path.parent / "rejects")]) == 0
    assert (job.differences(), job.paid()) == ([], paid)
    assert held(job.name).epoch == 2


@pytest.mark.parametrize(
    ("sides", "mended"), [(["--from", "b", "--to", "c"], "bc"), (["--to", "a"], "a")]
)
def test_a_range_of_keys_is_read_again(job: Job, sides: list[str], mended: str) -> None:
    """Under a new epoch, which later changes have as well."""
    there = held(job.name)
    for key in "abc":
        there.rows[key] = {**there.there()[key], "text": "broken"}
    command = [*job.command("resync"), *sides, "--rejects", str(job.path.parent / "rejects")]
    assert run_line(command) == 0
    assert [key for key in "abc" if there.there()[key]["text"] != "broken"] == list(mended)
    job.script.update("a", "changed later")
    assert job.run().rows_stale == 0
    assert there.there()["a"]["text"] == "changed later"


def test_what_no_log_has_is_found_and_mended(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    """A session may write without a log; a person may change the target by hand."""
    script, there = job.script, held(job.name)
    with script.server.client() as other, other.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute(f"UPDATE {script.name} SET text = 'not logged' WHERE id = 'a'")
    there.rows["b"] = {**there.there()["b"], "text": "by hand"}
    there.rows["ghost"] = {**there.there()["c"], "id": "ghost"}
    there.versions["ghost"] = there.versions["c"]
    del there.rows["c"]
    del there.versions["c"]
    assert job.run().rows_read == 0
    assert len(job.differences()) == 4
    assert run_line(job.command("verify")) == 1
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("missing 1", "ghost 1", "different 2"))
    script.update("b", "written meanwhile")
    rejects = ["--rejects", str(job.path.parent / "rejects")]
    assert run_line([*job.command("verify"), "--repair", *rejects]) == 0
    assert job.run().rows_stale == 0
    assert job.differences() == []
    assert run_line(job.command("verify")) == 0


def test_a_full_load_tells_how_far_it_is(
    script: Followed, tmp_path: Path, endpoint: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In rows, from round to round, of about as many as there are; nothing once all is loaded."""
    told: list[Progress] = []
    monkeypatch.setattr(Lease, "tell", lambda lease, progress: told.append(progress))
    monkeypatch.setattr(sync, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(chunks, "FIRST_ROWS", 100)
    values = ", ".join(f"('r{n}', 'text {n % 7}', {n})" for n in range(1000))
    script.run("INSERT INTO {} VALUES " + values)
    script.run("ANALYZE TABLE {}")
    job = Job(script, tmp_path, endpoint, chunkRows=50)
    assert job.run().state == "DONE"
    loads = [(p.loaded, p.load_size, p.load_unit) for p in told if p.loaded is not None]
    counted = [loaded for loaded, _, _ in loads]
    assert counted == sorted(counted)
    assert {(size, unit) for _, size, unit in loads} == {(1000, "rows")}
    assert (len(set(counted)) > 1, max(counted)) == (True, 1000)
    assert any(p.load_seconds for p in told)
    assert told[-1].loaded is None
    assert job.differences() == []


def test_how_far_a_position_is_behind_is_told_in_bytes_and_seconds(
    job: Job,
) -> None:
    """Nothing once all is read; what was written since, across files of the log."""
    script = job.script
    given = {"table": f"shop.{script.name}", "datasource": "Database"}
    source = MySqlChanges(
        MySqlCdcSettings.model_validate(given),
        MySqlConnection.model_validate(script.server.source),
        StepContext(step="Read", step_type="mysql-cdc"),
    )
    at = source.end()
    position = Position(epoch=1, identity=source.identity(), phase="changes", at=at)
    assert source.lag(position) == Lag(amount=0, unit="bytes", seconds=0.0)
    script.insert("d", "text of d")
    near = source.lag(position)
    script.run("FLUSH BINARY LOGS")
    script.insert("e", "text of e")
    far = source.lag(position)
    assert near.amount is not None
    assert far.amount is not None
    assert 0 < near.amount < far.amount
    assert (far.seconds or 0.0) >= (near.seconds or 0.0)
