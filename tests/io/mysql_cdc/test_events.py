"""Events from bytes: each type is known or told, and what their bodies say."""

from __future__ import annotations

import struct
import uuid
import zlib

import pytest
import zstandard

from tests.io.mysql_cdc.support import (
    Played,
    event,
    gtid_body,
    int_rows,
    int_table_map,
    query,
    rotate,
)
from vecferry.errors import FatalError
from vecferry.io.mysql_cdc import events as e
from vecferry.io.mysql_cdc.columns import Columns, ColumnsDiffer, table_map
from vecferry.io.mysql_cdc.log import Alive, Begun, LogReader, Statement


def varint(value: int) -> bytes:
    """A number of MySQL's serialization: the low bits of the first byte tell how many follow."""
    for more in range(8):
        if value < 1 << 7 * (more + 1):
            low = value << more + 1 | (1 << more) - 1
            return low.to_bytes(more + 1, "little")
    return b"\xff" + value.to_bytes(8, "little")


def tagged(source: bytes, tag: str, number: int, *, last: int = 0, version: int = 1) -> bytes:
    """The body of a GTID_TAGGED event."""
    fields = varint(0) + varint(1)
    fields += varint(1) + b"".join(varint(b) for b in source)
    fields += varint(2) + varint(number << 1)
    fields += varint(3) + varint(len(tag)) + tag.encode()
    fields += varint(4) + varint(900 << 1) + varint(8) + varint(1 << 40)
    head = varint(version)
    size = len(head) + 1 + len(varint(last)) + len(fields)
    return head + varint(size) + varint(last) + fields


@pytest.mark.parametrize("number", [1, 63, 64, 127, 128, 16383, 1 << 35, 1 << 56, (1 << 63) - 1])
def test_numbers_of_the_serialization_are_read(number: int) -> None:
    """From one byte to nine."""
    assert e.Bytes(varint(number), 0).varint() == number


def test_a_transaction_with_a_tag_is_named_with_it() -> None:
    """As the server writes it: source, tag, number."""
    source = uuid.UUID("f0e0d0c0-71ca-11e1-9e33-c80aa9429562")
    log = Played()
    log.add(e.GTID_TAGGED, tagged(source.bytes, "batch_1", 77))
    (begun,) = (i for i in LogReader(log, lambda s, t: None) if isinstance(i, Begun))
    assert begun.gtid == f"{source}:batch_1:77"


@pytest.mark.parametrize("wrong", [{"version": 2}, {"last": 40}])
def test_a_transaction_of_a_newer_form_is_told(wrong: dict[str, int]) -> None:
    """Parts that must be understood are not passed over."""
    with pytest.raises(e.Damaged, match="tagged GTID"):
        e.tagged_gtid(event(e.GTID_TAGGED, tagged(bytes(16), "x", 1, **wrong)))


def test_an_unknown_type_stops_by_name() -> None:
    """Unless the event itself says that it may be passed over."""
    log = Played()
    log.add(99, b"new", flags=e.IGNORABLE_FLAG)
    assert len(list(LogReader(log, lambda s, t: None))) == 2
    log.add(99, b"new")
    with pytest.raises(FatalError, match=r"unknown type 99 .* log\.000001:48") as caught:
        list(LogReader(log, lambda s, t: None))
    assert caught.value.reason == "unknown-event"


@pytest.mark.parametrize("kind", sorted(e.PASSED_OVER))
def test_events_that_change_no_row_are_passed_over(kind: int) -> None:
    """Whatever their bodies are; between transactions the reading is a place further."""
    log = Played()
    log.add(kind, b"whatever")
    *_, last = LogReader(log, lambda s, t: None)
    assert isinstance(last, Alive)
    assert last.place.offset == 4 + 19 + len(b"whatever")


@pytest.mark.parametrize(
    ("kind", "words"), [(e.INCIDENT, "lost events"), (e.ENCRYPTION, "encrypt_binlog off")]
)
def test_events_after_which_nothing_is_sure_stop(kind: int, words: str) -> None:
    """With what to do."""
    log = Played()
    log.add(kind, b"\1\0")
    with pytest.raises(FatalError, match=words):
        list(LogReader(log, lambda s, t: None))


def test_a_statement_is_in_the_character_set_of_its_client() -> None:
    """The number stands among the variables of the statement."""
    status = b"\0" + bytes(4) + b"\1" + bytes(8) + b"\6\3std" + b"\4" + struct.pack("<HHH", 8, 8, 8)
    sql = "DROP TABLE `é`".encode("latin-1")
    log = Played()
    log.add(e.QUERY, struct.pack("<IIBHH", 1, 0, 4, 0, len(status)) + status + b"shop\0" + sql)
    (found,) = (i for i in LogReader(log, lambda s, t: None) if isinstance(i, Statement))
    assert (found.schema, found.sql) == ("shop", "DROP TABLE `é`")


def test_begin_is_told_from_statements_that_end_so() -> None:
    """A text of a statement may hold anything."""
    assert e.begins(event(e.QUERY, query("BEGIN")))
    assert e.begins(event(e.QUERY, query("BEGIN", schema="")))
    assert not e.begins(event(e.QUERY, query("INSERT INTO t VALUES ('\0BEGIN")))
    assert not e.begins(event(e.QUERY, query("XBEGIN")))


def packed(data: bytes, width: int = 4) -> bytes:
    """A part as MariaDB compresses it."""
    return bytes([0x80 | width]) + len(data).to_bytes(width, "big") + zlib.compress(data)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_what_mariadb_compressed_is_unpacked(width: int) -> None:
    """With lengths of one to four bytes."""
    assert e.unpacked(packed(b"x" * 200, width)) == b"x" * 200


@pytest.mark.parametrize(
    "data",
    [b"", b"\x90\1", packed(b"abc")[:-3], packed(b"abc").replace(b"\3", b"\4", 1),
     b"\x84\xff\xff\xff\xff", packed(b"x" * 9).replace(b"\t", b"\2", 1)],
)  # fmt: skip
def test_what_is_wrongly_compressed_is_told(data: bytes) -> None:
    """A length that is wrong is not believed."""
    with pytest.raises(e.Damaged, match="compressed"):
        e.unpacked(data)


def test_the_name_of_an_xa_transaction_is_as_statements_write_it() -> None:
    """So that a later XA COMMIT is found to be of it."""
    body = b"\0" + struct.pack("<III", 1, 2, 1) + b"gtb"
    assert e.xa_prepared(event(e.XA_PREPARE, body)) == (False, "X'6774',X'62',1")
    assert e.xa_prepared(event(e.XA_PREPARE, b"\1" + body[1:]))[0]


def test_a_heartbeat_of_the_second_version_has_the_full_offset() -> None:
    """Over 4 GiB."""
    body = b"\1\nlog.000001" + b"\2\x09\xfe" + struct.pack("<Q", 5 << 30) + b"\0"
    assert e.heartbeat(event(e.HEARTBEAT_V2, body)) == ("log.000001", 5 << 30)


def test_a_table_of_an_unknown_type_is_told_when_it_is_wanted() -> None:
    """Tables that nobody wants may have any type."""
    body = int_table_map().replace(b"\1\3\0\0", b"\1\x63\0\0")
    log = Played()
    log.add(e.GTID, gtid_body(1))
    log.add(e.TABLE_MAP, body)
    log.add(e.WRITE, int_rows([1]))
    assert len(list(LogReader(log, lambda s, t: None))) == 3
    with pytest.raises(ColumnsDiffer, match=r"shop\.t has a column of a type .* \(number 99\)"):
        list(LogReader(log, lambda s, t: Columns()))


def test_cut_events_are_told() -> None:
    """Every prefix of a body is damaged, never read beyond its end."""
    whole = event(e.TABLE_MAP, int_table_map())
    for size in range(e.BODY + 1, len(whole) - 8):
        with pytest.raises((e.Damaged, IndexError)):
            table_map(whole[:size])
    assert table_map(whole).names == ("id",)
    assert e.rotated_to(rotate("a.7", 9)) == ("a.7", 9)


def fields(data: bytes, way: int, size: int, *, packed_size: int | None = None) -> bytes:
    """The body of a TRANSACTION_PAYLOAD."""

    def number(value: int) -> bytes:
        return bytes([value]) if value < 251 else b"\xfe" + struct.pack("<Q", value)

    parts = ((2, number(way)), (1, number(len(data) if packed_size is None else packed_size)))
    head = b"".join(bytes([k, len(v)]) + v for k, v in (*parts, (3, number(size))))
    return head + b"\0" + data


def test_a_payload_is_unpacked_event_by_event() -> None:
    """Compressed by zstd, or not at all."""
    inner = [event(e.QUERY, query("BEGIN")), event(e.XID, bytes(8))]
    plain = b"".join(inner)
    for way, data in ((255, plain), (0, zstandard.compress(plain))):
        whole = event(e.PAYLOAD, fields(data, way, len(plain)))
        assert list(e.payload(whole)) == inner


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (fields(b"xx", 7, 2), "unknown way 7"),
        (fields(b"not zstd", 0, 2), "can't be unpacked"),
        (fields(b"short", 255, 5), "not an event"),
        (fields(event(16, bytes(8))[:-1], 255, 5), "middle of an event"),
        (fields(b"xx", 255, 2, packed_size=9), "of 9 bytes has 2"),
        (b"\1", "ends in the middle"),
    ],
)
def test_a_wrong_payload_is_told(body: bytes, words: str) -> None:
    """No part of it is skipped."""
    with pytest.raises(e.Damaged, match=words):
        list(e.payload(event(e.PAYLOAD, body)))
