"""What breaks while a table is read: connections, at any row, for any key."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.io.tables.support import Place, by_origin, place, read_all
from tests.io.tables.test_contract import TABLES, made
from tests.services.mysql8 import Mysql8
from tests.services.postgres import Postgres
from vecferry.errors import FatalError
from vecferry.io.tables.database import ConnectionLost
from vecferry.retry import Backoff

pytestmark = pytest.mark.service

UNORDERED = ("no key at all", "no key, but a splitPk")


@pytest.fixture(params=[Mysql8, Postgres], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Place:
    return place(request.param)


def broken_after_each_batch(reader: Any) -> Any:
    """Lets each connection of a reader break when it has given 10 rows; it tries again at once."""
    connect = reader.connect
    reader.backoff = functools.partial(Backoff, cap=0)

    def fragile(*arguments: Any, **more: Any) -> Any:
        database = connect(*arguments, **more)
        database.batch_rows = 10
        stream = database.stream

        def streamed(*arguments: Any, **more: Any) -> Any:
            result = stream(*arguments, **more)
            batches = result.batches

            def first() -> Iterator[Any]:
                rows = next(batches(), None)
                if rows is not None:
                    yield rows
                    raise ConnectionLost("the test cut the line")

            result.batches = first
            return result

        database.stream = streamed
        return database

    reader.connect = fragile
    return reader


@pytest.mark.parametrize("name", [n for n in TABLES if n not in UNORDERED])
def test_a_table_is_read_whole_however_often_the_line_breaks(db: Place, name: str) -> None:
    """For keys of every kind the rows behind the last one are found again, each once."""
    table, parameter = made(db, name)
    whole = by_origin(db.read(1, table=table, **parameter))
    reader = broken_after_each_batch(db.reader({"table": table, **parameter}, 3))
    assert by_origin(read_all(reader)) == whole
    retries = reader.counts.values.get("source-retries", 0)
    assert retries >= len(whole) // 10


@pytest.mark.parametrize("name", UNORDERED)
def test_a_table_without_a_key_says_that_it_cannot_go_on(db: Place, name: str) -> None:
    """The run fails before a row is lost or doubled, and the message says what helps."""
    table, parameter = made(db, name)
    reader = broken_after_each_batch(db.reader({"table": table, **parameter}, 1))
    with pytest.raises(FatalError, match=r"after 10 rows; the table has no primary key"):
        read_all(reader)


def test_a_connection_that_the_server_ends_is_made_anew(db: Place) -> None:
    """Also one that waited between two splits."""
    table = db.table("id INT PRIMARY KEY", *(str(i) for i in range(40)))
    reader = db.reader({"table": table}, 2)
    first, second = reader.plan().splits
    ids = [row["id"] for row in reader.read(first)]
    with db.server.client() as connection, connection.cursor() as cursor:
        if db.dialect == "mysql":
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = 'ferry'")
            own = connection.thread_id()
            for (number,) in cursor.fetchall():
                if number != own:
                    cursor.execute(f"KILL {number}")
        else:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE usename = 'ferry' AND pid <> pg_backend_pid()"
            )
    ids += [row["id"] for row in reader.read(second)]
    assert ids == list(range(40))
    assert reader.counts.values["source-retries"] >= 1
