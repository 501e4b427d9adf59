"""What happened, in order: transactions of all kinds, statements, places, compressed events."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from tests.io.mysql_cdc.support import (
    Played,
    Source,
    event,
    gtid_body,
    int_rows,
    int_table_map,
    query,
    rotate,
    source,
)
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8
from vecferry.errors import VecferryError
from vecferry.io.mysql_cdc import events as e
from vecferry.io.mysql_cdc.columns import Column, Columns
from vecferry.io.mysql_cdc.log import (
    Alive,
    Begun,
    Committed,
    LogItem,
    LogReader,
    Prepared,
    RolledBack,
    Rows,
    Statement,
)
from vecferry.io.mysql_cdc.place import Place

WANTED = Columns()


@pytest.fixture(params=[Mysql8, Mariadb], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


def everything(schema: str, table: str) -> Columns:
    return WANTED


def names(items: list[LogItem]) -> list[str]:
    """The items of transactions, rows with their kinds."""
    return [
        item.kind if isinstance(item, Rows) else type(item).__name__
        for item in items
        if isinstance(item, Begun | Rows | Statement | Committed | RolledBack | Prepared)
    ]


@pytest.mark.service
def test_a_transaction_of_several_tables_is_one(db: Source) -> None:
    """From its beginning to its end, with its name; places grow and are right."""
    one, two = db.table("id INT PRIMARY KEY"), db.table("id INT PRIMARY KEY, v INT")
    since = db.place()
    db.run("BEGIN", f"INSERT INTO {one} VALUES (1), (2)", f"INSERT INTO {two} VALUES (1, 1)",
           f"UPDATE {two} SET v = 2", f"DELETE FROM {one} WHERE id = 1", "COMMIT")  # fmt: skip
    items = list(db.items(since))
    assert names(items) == ["Begun", "+I", "+I", "+U", "-D", "Committed"]
    begun = next(i for i in items if isinstance(i, Begun))
    committed = next(i for i in items if isinstance(i, Committed))
    assert begun.gtid == committed.gtid is not None
    assert begun.place == since
    assert committed.place == db.place()
    rows = [i for i in items if isinstance(i, Rows)]
    places = [(i.place.offset, *(at for at, _, _ in i.rows()), i.end.offset) for i in rows]
    flat = [at for group in places for at in group]
    assert flat == sorted(flat)
    assert len(set(flat)) == len(flat)
    assert {i.table for i in rows} == {one, two}


@pytest.mark.service
def test_tables_that_are_not_wanted_are_passed_over(db: Source) -> None:
    """Their rows never come; the transaction does."""
    one, two = db.table("id INT PRIMARY KEY"), db.table("id INT PRIMARY KEY")
    since = db.place()
    db.run(f"INSERT INTO {one} VALUES (1)", f"INSERT INTO {two} VALUES (2)")
    items = list(db.items(since, lambda schema, table: WANTED if table == two else None))
    assert names(items) == ["Begun", "Committed", "Begun", "+I", "Committed"]


@pytest.mark.service
def test_statements_that_stand_for_themselves_are_transactions(db: Source) -> None:
    """TRUNCATE, ALTER, DROP, each with its schema."""
    table = db.table("id INT PRIMARY KEY")
    since = db.place()
    db.run(f"TRUNCATE {table}", f"ALTER TABLE {table} ADD v INT", f"DROP TABLE {table}")
    items = list(db.items(since))
    assert names(items) == ["Begun", "Statement", "Committed"] * 3
    statements = [i for i in items if isinstance(i, Statement)]
    assert [s.sql.split()[0].upper() for s in statements] == ["TRUNCATE", "ALTER", "DROP"]
    assert {s.schema for s in statements} == {"shop"}


@pytest.mark.service
def test_a_session_in_statement_format_logs_its_writes_as_statements(db: Source) -> None:
    """They come between the beginning and the end of a transaction."""
    table = db.table("id INT PRIMARY KEY AUTO_INCREMENT, v DOUBLE")
    since = db.place()
    db.run(
        f"INSERT INTO {table} (v) VALUES (RAND())", "SET @x = 7",
        f"INSERT INTO {table} (v) VALUES (@x)",
        session=["SET binlog_format = STATEMENT"],
    )  # fmt: skip
    items = list(db.items(since))
    assert names(items) == ["Begun", "Statement", "Committed"] * 2


@pytest.mark.service
def test_tables_that_know_no_transactions_come_as_well(db: Source) -> None:
    """Their rows are in a transaction that a COMMIT statement ends."""
    table = db.table("id INT PRIMARY KEY", "ENGINE=MyISAM")
    since = db.place()
    db.run(f"INSERT INTO {table} VALUES (1)")
    assert names(list(db.items(since))) == ["Begun", "+I", "Committed"]


@pytest.mark.service
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_xa_transaction_counts_when_it_is_committed(db: Source, end: str) -> None:
    """Its rows come when it is prepared; what becomes of it, later, by the same name."""
    table = db.table("id INT PRIMARY KEY")
    since = db.place()
    xid = f"'t{end}','b',7"
    db.run(
        f"XA START {xid}", f"INSERT INTO {table} VALUES (1)", f"XA END {xid}", f"XA PREPARE {xid}"
    )
    middle = db.place()
    db.run(f"XA {end} {xid}")
    first, second = list(db.items(since)), list(db.items(middle))
    begun = next(i for i in first if isinstance(i, Begun))
    told = [i.sql for i in first if isinstance(i, Statement)]
    assert begun.prepares or told[0].startswith("XA START")  # MySQL says so by a statement
    assert [n for n in names(first) if n != "Statement"][:3] == ["Begun", "+I", "Prepared"]
    prepared = next(i for i in first if isinstance(i, Prepared))
    assert prepared.place == middle
    assert names(second) == ["Begun", "Statement", "Committed"]
    said = next(i for i in second if isinstance(i, Statement))
    assert said.sql == f"XA {end} {prepared.xid}"


@pytest.mark.service
def test_an_xa_transaction_of_one_phase_is_committed_at_once(db: Source) -> None:
    """Like any other."""
    table = db.table("id INT PRIMARY KEY")
    since = db.place()
    db.run(
        "XA START 'one'",
        f"INSERT INTO {table} VALUES (1)",
        "XA END 'one'",
        "XA COMMIT 'one' ONE PHASE",
    )
    items = [i for i in db.items(since) if not isinstance(i, Statement)]
    assert names(items) == ["Begun", "+I", "Committed"]


@pytest.mark.service
def test_a_table_made_from_a_select_comes_with_its_rows(db: Source) -> None:
    """In the order of the log."""
    table = db.table("id INT PRIMARY KEY")
    db.run(f"INSERT INTO {table} VALUES (1), (2)")
    since = db.place()
    session = [] if db.maria else ["SET SESSION sql_mode = ''"]
    try:
        db.run(f"CREATE TABLE {table}_copy AS SELECT * FROM {table}", session=session)
    except Exception:
        pytest.skip("not for this store: MySQL before 8.0.21 refuses this beside GTIDs")
    items = list(db.items(since))
    assert [n for n in names(items) if n in ("Statement", "+I")] == ["Statement", "+I"]
    assert names(items)[-1] == "Committed"


@pytest.mark.service
def test_compressed_events_of_mariadb_lose_nothing() -> None:
    """With all kinds of rows; their places stay within the event."""
    db = source(Mariadb)
    table = db.table("id INT PRIMARY KEY, t TEXT")
    with db.set_global("log_bin_compress", "1"):
        since = db.place()
        db.run(
            f"INSERT INTO {table} VALUES (1, REPEAT('a', 500)), (2, REPEAT('b', 500)), (3, 'c')",
            f"UPDATE {table} SET t = REPEAT('d', 600) WHERE id < 3",
            f"DELETE FROM {table} WHERE id = 2 /* {'long ' * 100} */",
            f"ALTER TABLE {table} COMMENT '{'x' * 500}'",
        )
    items = list(db.items(since))
    rows = [i for i in items if isinstance(i, Rows)]
    assert {i._event[4] for i in rows} <= e.COMPRESSED
    assert [(i.kind, [(b and b[0], a and a[0]) for _, b, a in i.rows()]) for i in rows] == [
        ("+I", [(None, 1), (None, 2), (None, 3)]), ("+U", [(1, 1), (2, 2)]), ("-D", [(2, None)]),
    ]  # fmt: skip
    for item in rows:
        offsets = [at for at, _, _ in item.rows()]
        assert offsets == list(range(item.place.offset, item.place.offset + len(offsets)))
    assert any(isinstance(i, Statement) and i.sql.endswith(f"'{'x' * 500}'") for i in items)


def payload(inner: list[bytes]) -> bytes:
    """The body of a TRANSACTION_PAYLOAD of events, compressed by zstd."""
    plain = b"".join(inner)
    return payload_of(zstandard.compress(plain), len(plain))


def payload_of(data: bytes, size: int) -> bytes:
    parts = (
        (2, b"\0"),
        (1, b"\xfe" + struct.pack("<Q", len(data))),
        (3, b"\xfe" + struct.pack("<Q", size)),
    )
    return b"".join(bytes([k, len(v)]) + v for k, v in parts) + b"\0" + data


def test_a_compressed_transaction_is_like_any_other() -> None:
    """Offsets are those of the whole, each row's its own until the whole ends."""
    log = Played()
    log.add(e.GTID, gtid_body(9))
    begin = log.place
    inner = [
        event(e.QUERY, query("BEGIN")), event(e.TABLE_MAP, int_table_map()),
        event(e.WRITE, int_rows([1, 2])), event(e.TABLE_MAP, int_table_map(6, table="u")),
        event(e.WRITE, int_rows([5], 6)), event(e.WRITE, int_rows([3, 4])), event(e.XID, bytes(8)),
    ]  # fmt: skip
    log.add(e.PAYLOAD, payload(inner))
    items = list(LogReader(log, everything))
    assert names(items) == ["Begun", "+I", "+I", "+I", "Committed"]
    rows = [i for i in items if isinstance(i, Rows)]
    assert {(i.place.offset, i.end.offset) for i in rows} == {(begin, log.place)}
    found = [(at - begin, row) for i in rows for at, _, row in i.rows()]
    assert found == [(0, (1,)), (1, (2,)), (2, (5,)), (3, (3,)), (4, (4,))]
    committed = items[-1]
    assert isinstance(committed, Committed)
    assert committed.place == Place("log.000001", log.place)


def test_offsets_of_a_compressed_transaction_do_not_hang_on_who_reads() -> None:
    """Whether rows are taken at once, later, or not at all."""
    log = Played()
    inner = [
        event(e.TABLE_MAP, int_table_map()),
        *(event(e.WRITE, int_rows([n, n])) for n in range(4)),
    ]
    log.add(e.PAYLOAD, payload(inner))
    at_once = [
        [at for at, _, _ in i.rows()] for i in LogReader(log, everything) if isinstance(i, Rows)
    ]
    later = [i for i in LogReader(log, everything) if isinstance(i, Rows)]
    some: list[list[int]] = []
    for item in LogReader(log, everything):
        if isinstance(item, Rows):
            if len(some) % 2:
                next(iter(item.rows()))
            some.append([] if len(some) % 2 else [at for at, _, _ in item.rows()])
    assert [[at for at, _, _ in i.rows()] for i in later] == at_once
    assert some[::2] == at_once[::2]
    assert sum(map(len, at_once)) == len({at for group in at_once for at in group})


def million() -> Iterator[bytes]:
    """A transaction of a million equal rows, as one compressed event."""
    compressor = zstandard.ZstdCompressor().compressobj()
    head = event(e.QUERY, query("BEGIN")) + event(e.TABLE_MAP, int_table_map())
    rows = event(e.WRITE, int_rows([7] * 1000))
    parts, size = [compressor.compress(head)], len(head)
    for _ in range(1000):
        parts.append(compressor.compress(rows))
        size += len(rows)
    tail = event(e.XID, bytes(8))
    parts += [compressor.compress(tail), compressor.flush()]
    log = Played()
    log.add(e.GTID, gtid_body(1))
    log.add(e.PAYLOAD, payload_of(b"".join(parts), size + len(tail)))
    return iter(log.events)


def count_a_million() -> None:
    """What the next test runs in a process of its own: prints rows and growth in MB."""
    log = Played(events=list(million()))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    last = count = 0
    for item in LogReader(log, everything):
        if isinstance(item, Rows):
            for at, _, row in item.rows():
                assert last <= at < item.end.offset
                assert row == (7,)
                last, count = at, count + 1
    print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)


@pytest.mark.slow
def test_a_million_equal_rows_in_one_compressed_event_need_no_memory() -> None:
    """They share the last byte of the event, and are unpacked as they are taken."""
    code = "from tests.io.mysql_cdc.test_log import count_a_million; count_a_million()"
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    count, growth = map(int, done.stdout.split())
    assert count == 1_000_000
    assert growth < 30


def test_places_are_counted_on_where_four_bytes_are_not_enough() -> None:
    """A file over 4 GiB: the header has the lower 32 bits only."""
    log = Played(events=[rotate("log.000001", (1 << 32) - 100)], place=(1 << 32) - 100)
    starts = []
    for number in range(6):
        starts.append(log.place)
        log.add(e.GTID, gtid_body(number + 1))
        log.add(e.TABLE_MAP, int_table_map())
        log.add(e.WRITE, int_rows([number]))
        log.add(e.XID, bytes(8))
    items = list(LogReader(log, everything))
    assert [i.place.offset for i in items if isinstance(i, Begun)] == starts
    assert starts[-1] > 1 << 32
    last = next(i for i in reversed(items) if isinstance(i, Rows))
    assert [at > 1 << 32 for at, _, _ in last.rows()] == [True]
    beat = event(e.HEARTBEAT, b"log.000001", end=log.place)
    log.events.append(beat)
    alive = list(LogReader(log, everything))[-1]
    assert isinstance(alive, Alive)
    assert alive.place.offset == log.place


def test_a_place_that_does_not_fit_is_refused() -> None:
    """An event that would begin before the end of the one before it."""
    log = Played()
    log.add(e.XID, bytes(8))
    log.events.append(event(e.XID, bytes(8), end=log.place + 5))
    with pytest.raises(e.Damaged, match="does not fit behind"):
        list(LogReader(log, everything))


def test_events_that_a_server_leaves_out_make_gaps() -> None:
    """As when it skips transactions that the reader has."""
    log = Played()
    log.add(e.XID, bytes(8))
    log.place += 1000
    log.add(e.GTID, gtid_body(3))
    begun = list(LogReader(log, everything))[-1]
    assert isinstance(begun, Begun)
    assert begun.place.offset == log.place - e.BODY - len(gtid_body(3))


def test_a_safe_place_is_the_beginning_of_an_open_transaction() -> None:
    """A heartbeat in the middle does not move it."""
    log = Played()
    start = log.place
    log.add(e.GTID, gtid_body(3))
    log.add(e.QUERY, query("BEGIN"))
    log.events.append(event(e.HEARTBEAT, b"log.000001", end=log.place))
    reader = LogReader(log, everything)
    alive = list(reader)[-1]
    assert isinstance(alive, Alive)
    assert alive.place == reader.safe == Place("log.000001", start)


def test_a_rolled_back_transaction_is_told() -> None:
    """And what was undone to a savepoint comes as the statement that it is."""
    log = Played()
    log.add(e.GTID, gtid_body(3))
    for sql in ("BEGIN", "SAVEPOINT a", "ROLLBACK TO `a`", "ROLLBACK"):
        log.add(e.QUERY, query(sql))
    items = list(LogReader(log, everything))
    assert names(items) == ["Begun", "Statement", "RolledBack"]


def test_transactions_without_names_come_as_well() -> None:
    """Of servers without GTIDs, and of those before 5.7."""
    log = Played()
    log.add(e.ANONYMOUS_GTID, gtid_body(0))
    log.add(e.QUERY, query("BEGIN"))
    log.add(e.XID, bytes(8))
    log.add(e.QUERY, query("BEGIN"))
    log.add(e.XID, bytes(8))
    log.add(e.QUERY, query("TRUNCATE t"))
    items = list(LogReader(log, everything))
    assert names(items) == ["Begun", "Committed"] * 2 + ["Begun", "Statement", "Committed"]
    assert [i.gtid for i in items if isinstance(i, Begun)] == [None] * 3


def test_a_table_made_from_a_select_in_one_transaction_is_one() -> None:
    """MySQL 8.0.21 and newer write the rows behind the statement."""
    log = Played()
    log.add(e.GTID, gtid_body(3))
    log.add(e.QUERY, query("CREATE TABLE `t` (`id` int) START TRANSACTION"))
    log.add(e.TABLE_MAP, int_table_map())
    log.add(e.WRITE, int_rows([1]))
    log.add(e.XID, bytes(8))
    assert names(list(LogReader(log, everything))) == ["Begun", "Statement", "+I", "Committed"]


def test_another_answer_of_wanted_is_taken() -> None:
    """After a table was changed, its new description holds for the rows that follow."""
    log = Played()
    body = int_table_map()[: -len(b"\4\3\2id")]
    for _ in range(2):
        log.add(e.TABLE_MAP, body)
        log.add(e.WRITE, int_rows([1]))
    answers = iter([Columns((Column("a", "int"),)), Columns((Column("b", "int"),))])
    rows = [i for i in LogReader(log, lambda s, t: next(answers)) if isinstance(i, Rows)]
    assert [i.columns.names for i in rows] == [("a",), ("b",)]


def test_rows_that_end_early_are_told() -> None:
    """Never with values that are not there."""
    log = Played()
    log.add(e.TABLE_MAP, int_table_map())
    log.add(e.WRITE, int_rows([1, 2])[:-2])
    rows = list(LogReader(log, everything))[-1]
    assert isinstance(rows, Rows)
    with pytest.raises(e.Damaged, match=r"rows of shop\.t can't be decoded"):
        list(rows.rows())


def test_changed_bytes_give_no_other_error() -> None:
    """Whatever stands in an event, it is read or it is told."""
    log = Played()
    log.add(e.GTID, gtid_body(1))
    log.add(e.QUERY, query("BEGIN"))
    log.add(e.TABLE_MAP, int_table_map())
    log.add(e.WRITE, int_rows([1, 2]))
    log.add(e.PAYLOAD, payload([event(e.XID, bytes(8))]))
    chance, told = random.Random(11), 0
    for _ in range(2000):
        at = chance.randrange(len(log.events))
        wrong = bytearray(log.events[at])
        if chance.random() < 0.3:
            del wrong[chance.randrange(e.BODY, len(wrong) + 1) :]
        for _ in range(2):
            if len(wrong) > e.BODY:
                wrong[chance.randrange(e.BODY, len(wrong))] = chance.randrange(256)
        events = [*log.events[:at], bytes(wrong), *log.events[at + 1 :]]
        try:
            for item in LogReader(Played(events=events), everything):
                if isinstance(item, Rows):
                    list(item.rows())
        except VecferryError:
            told += 1
    assert told > 200
