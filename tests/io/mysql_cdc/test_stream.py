"""The stream of events from real servers: how it begins, waits, breaks, and what it says then."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading

import pymysql
import pytest

from tests.io.mysql_cdc.support import Source, source
from tests.services.mariadb import Mariadb
from tests.services.mysql8 import Mysql8
from tests.services.server import eventually
from vecferry.errors import FatalError
from vecferry.io.mysql_cdc import stream as stream_module
from vecferry.io.mysql_cdc.columns import Columns
from vecferry.io.mysql_cdc.events import HEARTBEAT
from vecferry.io.mysql_cdc.gtid import GtidSet, MariaGtids, MysqlGtids
from vecferry.io.mysql_cdc.log import Alive, Committed, FileBegan, LogReader, Rotated, Rows
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.stream import (
    BeyondEnd,
    BinlogStream,
    Diverged,
    Purged,
    ServerIdTaken,
    Truncated,
    explain_end,
)
from vecferry.io.tables.database import ConnectionLost, Refused


@pytest.fixture(params=[Mysql8, Mariadb], ids=lambda kind: kind.name)
def db(request: pytest.FixtureRequest) -> Source:
    return source(request.param)


def executed(db: Source) -> GtidSet:
    """The transactions that a server has."""
    name = "gtid_binlog_pos" if db.maria else "gtid_executed"
    return GtidSet.parse(db.ask(f"SELECT @@global.{name}")[0][0], maria=db.maria)


def opened(db: Source, since: Place | GtidSet | None = None, **more: object) -> BinlogStream:
    more.setdefault("heartbeat_seconds", 0.5)
    return BinlogStream(db.connection, since=db.place() if since is None else since, **more)  # type: ignore[arg-type]


def test_the_client_has_the_inner_parts_that_the_stream_uses() -> None:
    """PyMySQL promises none of these names, so its version is bounded."""
    from pymysql.connections import Connection

    for name in ("_write_bytes", "_read_packet", "_force_close"):
        assert callable(getattr(Connection, name))
    made = Connection(defer_connect=True)
    assert made._sock is None
    assert "_next_seq_id" in Connection.write_packet.__code__.co_names


@pytest.mark.service
def test_heartbeats_come_as_often_as_was_asked(db: Source) -> None:
    """An idle server says where its log ends."""
    stream = opened(db)
    try:
        beats = [event for _, event in zip(range(8), stream, strict=False) if event[4] == HEARTBEAT]
        assert beats
        reader = LogReader(opened(db), lambda s, t: None)
        alive = next(item for item in reader if isinstance(item, Alive))
        assert alive.place == db.place()
    finally:
        stream.close()


@pytest.mark.service
def test_a_reader_that_is_interrupted_stops_at_once(db: Source) -> None:
    """From another thread, while it waits for an event."""
    stream = opened(db, heartbeat_seconds=60.0)
    seen: list[bytes] = []
    ended = threading.Event()

    def read() -> None:
        seen.extend(stream)
        ended.set()

    thread = threading.Thread(target=read)
    thread.start()
    stream.interrupt()
    assert ended.wait(60)
    thread.join()
    stream.close()
    assert list(stream) == []


@pytest.mark.service
def test_a_killed_connection_is_lost_and_may_be_made_again(db: Source) -> None:
    """KILL of the server's thread closes the socket without a word."""
    stream = opened(db)
    number = stream._connection.thread_id()
    events = iter(stream)
    next(events)
    db.run(f"KILL {number}")
    with pytest.raises(ConnectionLost, match=r"closed the connection|broke|not answer"):
        list(events)
    stream.close()


@pytest.mark.service
def test_a_number_that_is_taken_is_told(db: Source) -> None:
    """The server keeps the newer reader; the older one says why it ended."""
    first = opened(db, server_id=12345678)
    events = iter(first)
    next(events)
    second = opened(db, server_id=12345678)
    with pytest.raises(ServerIdTaken, match="another reader has the same server_id"):
        for _ in events:
            pass
    first.close()
    second.close()
    assert opened(db).server_id != opened(db).server_id


@pytest.mark.service
def test_a_purged_file_is_told(db: Source) -> None:
    """By its place, and by the transactions that were in it."""
    known = executed(db)
    begin = db.place()
    table = db.table("id INT PRIMARY KEY")
    db.run(
        f"INSERT INTO {table} VALUES (1)", "FLUSH BINARY LOGS", f"INSERT INTO {table} VALUES (2)"
    )
    end = db.place()
    if db.maria:
        db.run("FLUSH BINARY LOGS")
        db.run("SET GLOBAL binlog_expire_logs_seconds = 0")
    eventually(lambda: purge(db, end) and Place(db.ask("SHOW BINARY LOGS")[0][0], 4) > begin)
    for since in (begin, known):
        with pytest.raises(Purged, match="purged"):
            list(opened(db, since))


def purge(db: Source, end: Place) -> bool:
    """A file that a reader of another test still has open is kept: such a reader is ended."""
    for thread, _, _, _, command, *_ in db.ask("SHOW PROCESSLIST"):
        if str(command).startswith("Binlog Dump"):
            with contextlib.suppress(pymysql.MySQLError):  # it has ended meanwhile
                db.run(f"KILL {thread}")
    db.run(f"PURGE BINARY LOGS TO '{end.file}'")
    return True


@pytest.mark.service
def test_a_place_behind_the_end_is_told(db: Source) -> None:
    """The file is another one than that of the place."""
    place = db.place()
    with pytest.raises(BeyondEnd, match="ends before the wanted place"):
        list(opened(db, Place(place.file, place.offset + 100_000)))
    with pytest.raises(Purged):
        list(opened(db, Place("binlog.999999", 4)))
    with pytest.raises(BeyondEnd, match="4 GiB"):
        opened(db, Place(place.file, 1 << 32))


@pytest.mark.service
def test_a_place_within_an_event_is_told(db: Source) -> None:
    """No event begins there."""
    table = db.table("id INT PRIMARY KEY, t TEXT")
    place = db.place()
    db.run(f"INSERT INTO {table} VALUES (1, REPEAT('x', 5000))")
    with pytest.raises((Truncated, Refused, FatalError)):
        list(LogReader(opened(db, Place(place.file, place.offset + 7)), lambda s, t: Columns()))


@pytest.mark.service
def test_a_place_within_a_transaction_is_told(db: Source) -> None:
    """Rows whose table was named before the place are not guessed."""
    table = db.table("id INT PRIMARY KEY")
    since = db.place()
    db.run(f"INSERT INTO {table} VALUES (1)")
    (rows,) = (item for item in db.items(since) if isinstance(item, Rows))
    with pytest.raises(FatalError, match="middle of a transaction"):
        list(LogReader(opened(db, rows.place), lambda s, t: Columns()))


@pytest.mark.service
def test_reading_begins_behind_a_set_of_transactions(db: Source) -> None:
    """The server leaves out what is in the set, in whichever file it is."""
    table = db.table("id INT PRIMARY KEY")
    db.run(
        f"INSERT INTO {table} VALUES (1)", "FLUSH BINARY LOGS", f"INSERT INTO {table} VALUES (2)"
    )
    known = executed(db)
    db.run(
        f"INSERT INTO {table} VALUES (3)", "FLUSH BINARY LOGS", f"INSERT INTO {table} VALUES (4)"
    )
    items = list(db.items(known))
    assert [a for i in items if isinstance(i, Rows) for _, _, a in i.rows()] == [(3,), (4,)]
    for item in items:
        if isinstance(item, Committed):
            assert item.gtid is not None
            known.add(item.gtid)
    assert known == executed(db)


@pytest.mark.service
def test_a_set_of_another_history_is_told(db: Source) -> None:
    """Transactions that the server never had, or a set of the other kind of server."""
    if db.maria:
        strange: GtidSet = MariaGtids.parsed("0-1-999999999")
        other: GtidSet = MysqlGtids()
    else:
        ((own,),) = db.ask("SELECT @@server_uuid")
        strange, other = MysqlGtids.parsed(f"{own}:1-999999999"), MariaGtids()
    with pytest.raises((Diverged, Purged)):
        list(opened(db, strange))
    with pytest.raises(Diverged, match="resync"):
        opened(db, other)


@pytest.mark.service
def test_rotation_is_followed(db: Source) -> None:
    """Each file says when it began."""
    since = db.place()
    table = db.table("id INT PRIMARY KEY")
    db.run("FLUSH BINARY LOGS", f"INSERT INTO {table} VALUES (1)", "FLUSH BINARY LOGS")
    items = list(db.items(since))
    files = [item.file for item in items if isinstance(item, FileBegan)]
    assert len(files) == 3
    assert files == sorted(files)
    rotated = [item.place for item in items if isinstance(item, Rotated)]
    assert [p.file for p in rotated] == files
    assert all(item.time > 1_600_000_000 for item in items if isinstance(item, FileBegan))
    again = next(i for i in db.items(db.place()) if isinstance(i, FileBegan))
    begun = next(i for i in db.items(Place(again.file, 4)) if isinstance(i, FileBegan))
    assert again == begun


@pytest.mark.service
def test_events_over_16_mib_are_joined(db: Source) -> None:
    """A row of 40 MB, and what comes behind it."""
    table = db.table("id INT PRIMARY KEY, b LONGBLOB")
    with db.set_global("max_allowed_packet", str(1 << 28)):
        since = db.place()
        size = 40_000_000
        db.run(f"INSERT INTO {table} VALUES (1, REPEAT('ab', {size // 2})), (2, 'end')")
        for exact in (16777215 - 100 + step for step in range(0, 200, 20)):
            db.run(f"INSERT INTO {table} VALUES ({exact}, REPEAT('c', {exact}))")
        sizes = [(after[0], len(after[1])) for _, _, after in db.rows(since, table)]
    assert sizes[:2] == [(1, size), (2, 3)]
    assert len(sizes) == 12
    assert all(key == length for key, length in sizes[2:])


@pytest.mark.service
def test_a_log_without_checksums_is_read(db: Source) -> None:
    """And one in which they begin in the middle."""
    table = db.table("id INT PRIMARY KEY")
    since = db.place()
    with db.set_global("binlog_checksum", "NONE"):
        db.run(f"INSERT INTO {table} VALUES (1)")
        assert [after for _, _, after in db.rows(db.place(), table)] == []
        assert [after for _, _, after in db.rows(since, table)] == [(1,)]
    db.run(f"INSERT INTO {table} VALUES (2)")
    assert [after for _, _, after in db.rows(since, table)] == [(1,), (2,)]


class Flip:
    """A relay that changes one bit of what a server sends, once `armed`."""

    def __init__(self, port: int, pattern: bytes) -> None:
        self._pattern = pattern
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = ("127.0.0.1", port)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(self._target)
        threading.Thread(target=self._copy, args=(near, far, False), daemon=True).start()
        self._copy(far, near, True)

    def _copy(self, start: socket.socket, end: socket.socket, flip: bool) -> None:
        try:
            while data := start.recv(65536):
                at = data.find(self._pattern) if flip else -1
                if at >= 0:
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                end.sendall(data)
            end.shutdown(socket.SHUT_WR)
        except OSError:
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.service
def test_one_bit_that_changed_is_told(db: Source) -> None:
    """By the checksum of the event."""
    table = db.table("id INT PRIMARY KEY, v VARCHAR(90)")
    since = db.place()
    db.run(f"INSERT INTO {table} VALUES (1, CONCAT('needle in ', 'a haystack'))")
    relay = Flip(db.server.port, b"needle in a haystack")
    given = db.connection.model_copy(update={"port": relay.port, "tls": "off"})
    stream = BinlogStream(given, since=since, heartbeat_seconds=0.5)
    with pytest.raises(FatalError, match="checksum of an event") as caught:
        list(stream)
    assert caught.value.reason == "checksum"
    stream.close()
    relay.close()


@pytest.mark.service
def test_a_wrong_password_is_told_without_it(db: Source) -> None:
    """As the reader of tables tells it."""
    given = db.connection.model_copy(update={"password": "wrong-secret-31415"})
    with pytest.raises(Refused, match="correct username or password") as caught:
        BinlogStream(given, since=Place("binlog.000001", 4))
    assert "31415" not in str(caught.value)


@pytest.mark.service
def test_a_server_that_falls_silent_is_lost(db: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few heartbeats that do not come."""
    monkeypatch.setattr(stream_module, "LEAST_SILENCE_SECONDS", 0.0)
    stream = opened(db, heartbeat_seconds=0.2)
    db.server.process.send_signal(19)  # SIGSTOP
    try:
        with pytest.raises(ConnectionLost, match=r"silent for 0\.8 s"):
            list(stream)
    finally:
        db.server.process.send_signal(18)
        stream.close()
    eventually(lambda: db.ask("SELECT 1") == [(1,)])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Could not find first log file name in binary log index file", Purged),
        ("The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the master "
         "has purged binary logs containing GTIDs that the slave requires", Purged),
        ("Cannot replicate because the source purged required binary logs", Purged),
        ("Client requested master to start replication from position > file size", BeyondEnd),
        ("Client requested source to start replication from impossible position", BeyondEnd),
        ("binlog truncated in the middle of event; consider out of disk space", Truncated),
        ("bogus data in log event", Truncated),
        ("A replica with the same server_uuid/server_id has connected", ServerIdTaken),
        ("Slave has more GTIDs than the master has, using the master's SERVER_UUID", Diverged),
        ("Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's "
         "binlog", Diverged),
        ("something new", Refused),
    ],
)  # fmt: skip
def test_what_ends_a_log_is_told_in_words(text: str, kind: type[Exception]) -> None:
    """Servers of all versions; what is not known is said as the server said it."""
    found = explain_end(1236, text, "MySQL at h:1")
    assert type(found) is kind
    assert "MySQL at h:1" in str(found)
    assert explain_end(1045, "Access denied", "x") is None
    assert str(pickle.loads(pickle.dumps(found))) == str(found)
