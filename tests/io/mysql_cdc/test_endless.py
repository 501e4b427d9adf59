"""The log of MySQL read for ever in a pipeline of one's own, on Beam's local runner."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.flink_runner import FlinkRunner
from apache_beam.runners.portability.spark_runner import SparkRunner

from tests.io.mysql_cdc.syncs import SERVERS, Followed, purge
from tests.services.mysql8 import Mysql8
from tests.services.server import eventually, running
from vecferry.errors import FatalError, JobError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc import MySqlCdcSettings, ReadMySQLChanges
from vecferry.io.mysql_cdc.endless import BUSY, LogTracker
from vecferry.io.mysql_cdc.kept import Keeper
from vecferry.io.mysql_cdc.tail import Begin, Tail, begin_of
from vecferry.process import end_run
from vecferry.rows import Change
from vecferry.steps import RunContext, StepContext

server = [pytest.mark.service, pytest.mark.slow]

NOWHERE = MySqlConnection.model_validate(
    {"type": "mysql", "host": "127.0.0.1", "port": 1, "username": "u", "password": "p"}
)


@pytest.fixture
def followed() -> Iterator[Followed]:
    """A table of its own."""
    followed = Followed(running(Mysql8))
    yield followed
    followed.run("DROP TABLE IF EXISTS {}")
    followed.client.close()


def settings_of(followed: Followed, **more: Any) -> MySqlCdcSettings:
    """Two columns of the table."""
    given = {"table": f"shop.{followed.name}", "column": ["id", "text"], **more}
    return MySqlCdcSettings.model_validate(given)


def connection_of(followed: Followed) -> MySqlConnection:
    """The server of the table."""
    return MySqlConnection.model_validate(followed.server.source)


def context(**more: Any) -> StepContext:
    """A run of its own."""
    return StepContext(step="Read", step_type="mysql-cdc", shared=RunContext(), **more)


def place(followed: Followed) -> str:
    """Where the log ends now, as a user writes it."""
    with followed.client.cursor() as cursor:
        cursor.execute("SHOW MASTER STATUS")
        file, offset, *_ = cursor.fetchone()
    return f"{file}:{offset}"


def read(followed: Followed, out: Path, **more: Any) -> list[tuple[Any, ...]]:
    """What a pipeline gives until the end of the log, as `note` writes it."""
    more = {"until": "now", **more}
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        changes = pipeline | ReadMySQLChanges(
            settings=more.pop("settings", settings_of(followed)),
            connection=connection_of(followed),
            **more,
        )
        _ = changes.rows | beam.Map(note, str(out))
    noted = out.read_text() if out.exists() else ""
    out.unlink(missing_ok=True)
    return [tuple(json.loads(line)) for line in noted.splitlines()]


def note(row: Change, out: str, stamp: Any = beam.DoFn.TimestampParam) -> None:
    """Writes down a row with its timestamp and version, in the order in which rows come."""
    with Path(out).open("a") as file:
        told = row.kind, row["id"], row.get("text"), float(stamp), row.version
        file.write(json.dumps(told) + "\n")


class Reading:
    """A tail of a table, and what it gave."""

    def __init__(self, followed: Followed, **more: Any) -> None:
        more = {"settings": settings_of(followed), "context": context(), **more}
        self.settings, self.context = more["settings"], more["context"]
        given = (self.settings, connection_of(followed), self.context)
        ends: dict[str, Any] = dict.fromkeys(("since", "until", "position"))
        self.tail = Tail(*given, begin_of(*given, epoch=1, **ends), 0.0)
        self.rows: list[tuple[str, str]] = []

    def batch(self) -> list[tuple[str, str]]:
        """The keys of the next batch."""
        before = len(self.rows)
        for item, _ in self.tail.batch():
            assert isinstance(item, Change)
            self.rows.append((item.kind, item["id"]))
        return self.rows[before:]

    def until(self, done: Callable[[], bool]) -> None:
        """Batches, until something is so."""
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, self.rows
            self.batch()


# What is refused


@pytest.mark.parametrize(
    ("runner", "options", "words"),
    [
        ("FnApiRunner", ["--direct_num_workers=2"], "--direct_num_workers=1"),
        ("FnApiRunner", ["--direct_num_workers=0"], "--direct_num_workers=1"),
        (SparkRunner(), [], "Spark can neither pause"),
        (FlinkRunner(), [], "--streaming, --checkpointing_interval, --finish_bundle"),
        (FlinkRunner(), ["--streaming", "--checkpointing_interval=1"], "needs --finish_bundle"),
    ],
    ids=["two workers", "all cores", "spark", "flink in batch", "flink that would hang"],
)
def test_a_runner_that_would_lose_rows_is_refused_at_construction(
    runner: Any, options: list[str], words: str
) -> None:
    """Before anything is connected to."""
    pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
    reads = ReadMySQLChanges(settings=MySqlCdcSettings(table=("a.b",)), connection=NOWHERE)
    with pytest.raises(JobError, match=re.escape(words)):
        _ = pipeline | reads


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"settings": {"table": "a.b", "scanMode": "initial"}}, "loads nothing"),
        ({"positions": "s3://bucket/folder"}, "in a folder that all workers see, or in a Redis"),
        ({"positions": "ftp://a/b"}, "can be used"),
    ],
    ids=["a full load", "positions in a bucket", "no place"],
)
def test_what_it_does_not_do_is_refused_at_construction(more: dict[str, Any], error: str) -> None:
    """With the way out."""
    settings = MySqlCdcSettings.model_validate(more.pop("settings", {"table": "a.b"}))
    pipeline = beam.Pipeline(runner="FnApiRunner")
    with pytest.raises((JobError, ValueError), match=error):
        _ = pipeline | ReadMySQLChanges(settings=settings, connection=NOWHERE, **more)


def test_a_restriction_is_split_between_batches_only() -> None:
    """Within a batch nobody knows yet where the open transaction ends."""
    tracker = LogTracker({"at": {"offset": 4}, "epoch": 1, "until": None, "done": False})
    assert tracker.try_claim(BUSY)
    assert tracker.try_split(0) is None
    assert tracker.try_claim({"offset": 9})
    assert tracker.try_split(0.5) is None
    split = tracker.try_split(0)
    assert split is not None
    assert split[1]["at"] == {"offset": 9}
    assert not split[1]["done"]
    tracker.check_done()
    assert not tracker.try_claim(BUSY)


# What is read


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=server) for kind in SERVERS])
def test_changes_come_with_their_commit_times(kind: str, tmp_path: Path) -> None:
    """Inserts, updates, deletes and key changes, with their versions in order."""
    followed = Followed(running(SERVERS[kind]))
    followed.insert("before", "not read")
    since, begun = place(followed), int(time.time())
    followed.insert("a", "one")
    followed.update("a", "two")
    followed.move("a", "b", "three")
    followed.delete("b")
    rows = read(followed, tmp_path / "out", since=since)
    assert [row[:3] for row in rows] == [
        ("+I", "a", "one"), ("+U", "a", "two"), ("-D", "a", "two"), ("+U", "b", "three"),
        ("-D", "b", "three"),
    ]  # fmt: skip
    assert [row[4] for row in rows] == sorted(row[4] for row in rows)
    assert all(begun <= row[3] <= time.time() + 1 for row in rows)
    followed.run("DROP TABLE {}")


@pytest.mark.parametrize("where", [None, "n < 5"], ids=["as logged", "read again by key"])
@pytest.mark.service
@pytest.mark.slow
def test_batches_end_between_transactions(followed: Followed, where: str | None) -> None:
    """Rows of a transaction under way wait for its commit; `at` is where it can be gone on."""
    reading = Reading(followed, settings=settings_of(followed, where=where))
    assert reading.batch() == []
    with followed.server.client(autocommit=False) as client, client.cursor() as cursor:
        for key in "abc":
            cursor.execute(f"INSERT INTO {followed.name} (id, text) VALUES ('{key}', 't')")
        assert reading.batch() == []
        client.commit()
    reading.until(lambda: len(reading.rows) == 3)
    assert f"{reading.tail.at['file']}:{reading.tail.at['offset']}" == place(followed)
    followed.delete("b")
    reading.until(lambda: len(reading.rows) == 4)
    assert reading.rows[-1] == ("-D", "b")
    reading.tail.close()
    followed.insert("d", "t")  # while nobody reads
    reading.until(lambda: len(reading.rows) == 5)
    assert reading.rows[-1] == ("+I", "d")
    reading.tail.close()


@pytest.mark.service
@pytest.mark.slow
def test_time_goes_on_while_the_log_is_idle(followed: Followed) -> None:
    """By heartbeats, and it never runs ahead of a commit that comes."""
    reading = Reading(followed)
    begun = time.time()
    reading.until(lambda: reading.tail.time > begun + 1)
    assert reading.rows == []
    assert reading.tail.time <= time.time()
    followed.insert("a", "late")
    reading.until(lambda: bool(reading.rows))
    assert abs(reading.tail.time - time.time()) < 10
    reading.tail.close()


@pytest.mark.service
@pytest.mark.slow
def test_a_prepared_transaction_is_read_again_after_a_failure(followed: Followed) -> None:
    """XA: its rows count when it is committed, also if the reader began anew in between."""
    reading = Reading(followed)
    with followed.server.client() as client, client.cursor() as cursor:
        for sql in ("START", "INSERT", "END", "PREPARE"):
            row = f"INSERT INTO {followed.name} (id, text) VALUES ('x', 't')"
            cursor.execute(row if sql == "INSERT" else f"XA {sql} 'vf1'")
    followed.insert("y", "t")
    reading.until(lambda: reading.rows == [("+I", "y")])
    assert "xa" in reading.tail.at
    reading.tail.close()
    followed.run("XA COMMIT 'vf1'")
    reading.until(lambda: len(reading.rows) == 2)
    assert reading.rows == [("+I", "y"), ("+I", "x")]
    assert "xa" not in reading.tail.at
    reading.tail.close()


@pytest.mark.service
@pytest.mark.slow
def test_a_connection_that_breaks_costs_no_row(followed: Followed) -> None:
    """The server ends the reader's connection; the log is read again from the same place."""
    reading = Reading(followed)
    followed.insert("a", "t")
    reading.until(lambda: len(reading.rows) == 1)
    with followed.client.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog%'")
        for (number,) in cursor.fetchall():
            cursor.execute(f"KILL {number}")
    followed.insert("b", "t")
    reading.until(lambda: len(reading.rows) == 2)
    assert reading.rows == [("+I", "a"), ("+I", "b")]
    reading.tail.close()


@pytest.mark.parametrize(
    ("sql", "words"),
    [("TRUNCATE TABLE {}", "TRUNCATE"), ("DROP TABLE {}", "DROP|is not in the database")],
    ids=["truncate", "drop"],
)
@pytest.mark.service
@pytest.mark.slow
def test_what_names_no_rows_ends_the_reading_in_words(
    followed: Followed, sql: str, words: str
) -> None:
    """It can't load anything anew. What was committed before is given first, and passed by."""
    reading = Reading(followed)
    reading.batch()
    since = reading.tail.at["offset"]
    followed.insert("a", "t")
    followed.run(sql)
    with pytest.raises((FatalError, JobError), match=f"({words}).*load the tables again"):
        reading.until(lambda: False)
    assert set(reading.rows) == {("+I", "a")}
    assert reading.tail.at["offset"] > since or "DROP" in sql  # nobody knows its columns now


@pytest.mark.service
@pytest.mark.slow
def test_a_place_that_was_purged_is_told(followed: Followed) -> None:
    """Of a savepoint as well as of a stored position."""
    reading = Reading(followed)
    reading.batch()
    reading.tail.close()
    followed.run("FLUSH BINARY LOGS")
    purge(followed)
    with pytest.raises(FatalError, match=r"purged.*load the tables again"):
        reading.until(lambda: False)


# Positions


@pytest.mark.service
@pytest.mark.slow
def test_a_position_is_stored_and_gone_on_from(followed: Followed, tmp_path: Path) -> None:
    """A pipeline that ends at `until`, and another one behind it; nothing is lost or read twice."""
    positions = str(tmp_path / "positions")
    assert read(followed, tmp_path / "out", positions=positions) == []
    followed.insert("a", "one")
    assert [r[1] for r in read(followed, tmp_path / "out", positions=positions)] == ["a"]
    assert read(followed, tmp_path / "out", positions=positions) == []
    followed.insert("b", "two")
    followed.run("FLUSH BINARY LOGS")
    followed.insert("c", "three")
    rows = read(followed, tmp_path / "out", positions=positions)
    assert [row[1] for row in rows] == ["b", "c"]
    stored = Keeper(positions, "any").load()
    assert stored is not None
    assert f"{stored.at['file']}:{stored.at['offset']}" == place(followed)
    other = Followed(followed.server)
    with pytest.raises(Exception, match=r"not one of the job's any more.*load the tables again"):
        read(other, tmp_path / "out", positions=positions)
    other.run("DROP TABLE {}")


def test_callbacks_in_any_order_never_store_an_earlier_place(tmp_path: Path) -> None:
    """A runner calls back out of order."""
    keeper = Keeper(str(tmp_path), "run")
    at = [{"file": "b.000001", "offset": n, "server": "s"} for n in range(9)]
    keeper.begin(Begin(at=at[1], epoch=1))
    keeper.reached(at[5], 1, last=True)
    keeper.reached(at[3], 1, last=True)
    stored = keeper.load()
    assert stored is not None
    assert stored.at == at[5]
    assert keeper.has_stored(at[5])


def test_of_two_pipelines_with_one_place_the_later_one_goes_on(tmp_path: Path) -> None:
    """The earlier one says so, and stores nothing more."""
    first, later = Keeper(str(tmp_path), "first"), Keeper(str(tmp_path), "later")
    at = [{"file": "b.000001", "offset": n, "server": "s"} for n in range(9)]
    first.begin(Begin(at=at[1], epoch=1))
    later.begin(Begin(at=at[1], epoch=1))
    first.reached(at[7], 1, last=True)
    with pytest.raises(FatalError, match="another pipeline stores its positions here"):
        first.require()
    later.reached(at[2], 1, last=True)
    later.require()
    stored = later.load()
    assert stored is not None
    assert stored.at == at[2]


@pytest.mark.service
@pytest.mark.slow
def test_a_stop_stores_the_last_position(followed: Followed, tmp_path: Path) -> None:
    """The pipeline ends by itself, once its runner has called back for what was read."""
    run, positions = uuid.uuid4().hex, str(tmp_path / "positions")
    state = context_of(run).state
    failed: list[BaseException] = []

    def go() -> None:
        try:
            read(
                followed,
                tmp_path / "out",
                positions=positions,
                until=None,
                context=context_of(run),
            )
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=go)
    thread.start()
    eventually(lambda: Keeper(positions, "any").load() is not None)
    followed.insert("a", "one")
    eventually(lambda: state.counted().get("rows-read", 0) == 1)
    state.end("test")
    thread.join(60)
    assert not thread.is_alive()
    assert failed == []
    stored = Keeper(positions, "any").load()
    assert stored is not None
    assert f"{stored.at['file']}:{stored.at['offset']}" == place(followed)
    end_run(run)


def context_of(run: str) -> StepContext:
    """A step of a run."""
    return StepContext(step="Read", step_type="mysql-cdc", shared=RunContext(id=run))
