"""The types of events in a change log, and what the bodies of events say, from their bytes.

An event comes with its header of 19 bytes and without its checksum. Numbers are little-endian.
`Damaged` tells of bytes that do not follow the documented form.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vecferry.errors import FatalError
from vecferry.io.mysql_cdc.gtid import MysqlGtids

HEADER = struct.Struct("<IBIIIH")
"""Time, type, server, size, end in the file (the lower 32 bits), flags."""
BODY = HEADER.size

QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR = 2, 3, 4, 5, 13, 14
FORMAT, XID, BEGIN_LOAD, EXECUTE_LOAD, TABLE_MAP = 15, 16, 17, 18, 19
APPEND_BLOCK, DELETE_FILE = 9, 11
WRITE_V1, UPDATE_V1, DELETE_V1, INCIDENT, HEARTBEAT = 23, 24, 25, 26, 27
IGNORABLE, ROWS_QUERY, WRITE, UPDATE, DELETE, GTID, ANONYMOUS_GTID = 28, 29, 30, 31, 32, 33, 34
PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, XA_PREPARE = 35, 36, 37, 38
PARTIAL_UPDATE, PAYLOAD, HEARTBEAT_V2, GTID_TAGGED = 39, 40, 41, 42
ANNOTATE, CHECKPOINT, MARIA_GTID, MARIA_GTID_LIST, ENCRYPTION = 160, 161, 162, 163, 164
QUERY_COMPRESSED, WRITE_COMPRESSED_V1, UPDATE_COMPRESSED_V1, DELETE_COMPRESSED_V1 = range(165, 169)
WRITE_COMPRESSED, UPDATE_COMPRESSED, DELETE_COMPRESSED = 169, 170, 171

IGNORABLE_FLAG, ARTIFICIAL_FLAG = 0x80, 0x20

PASSED_OVER = frozenset(
    {STOP, INTVAR, RAND, USER_VAR, BEGIN_LOAD, APPEND_BLOCK, DELETE_FILE, IGNORABLE, ROWS_QUERY}
    | {PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, ANNOTATE, CHECKPOINT, MARIA_GTID_LIST}
)
"""Events that change no row: parts of statements, comments, what replicas note for themselves."""

INSERTS = frozenset({WRITE_V1, WRITE, WRITE_COMPRESSED_V1, WRITE_COMPRESSED})
UPDATES = frozenset({UPDATE_V1, UPDATE, UPDATE_COMPRESSED_V1, UPDATE_COMPRESSED, PARTIAL_UPDATE})
DELETES = frozenset({DELETE_V1, DELETE, DELETE_COMPRESSED_V1, DELETE_COMPRESSED})
ROWS = INSERTS | UPDATES | DELETES
WITH_EXTRA = frozenset(
    {WRITE, UPDATE, DELETE, PARTIAL_UPDATE, WRITE_COMPRESSED, UPDATE_COMPRESSED, DELETE_COMPRESSED}
)
"""Row events of the second version, which have room for more behind their flags."""
COMPRESSED = frozenset(range(WRITE_COMPRESSED_V1, DELETE_COMPRESSED + 1))

MOST_UNPACKED = 2 << 30
"""A compressed event that says it is larger than this is not believed."""


class Damaged(FatalError):
    """An event whose bytes do not follow the documented form."""

    def __init__(self, message: str, reason: str = "damaged-log") -> None:
        super().__init__(message, reason)


class Bytes:
    """Reads the parts of an event one after the other; raises `Damaged` at the end of it."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = BODY, end: int | None = None) -> None:
        self.data, self.at, self.end = data, at, len(data) if end is None else end

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        at = self.at
        self.at = at + size
        if size < 0 or self.at > self.end:
            raise Damaged(f"an event of {self.end} bytes ends in the middle of a part at {at}")
        return self.data[at : self.at]

    def number(self, size: int) -> int:
        """The next number of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def packed(self) -> int:
        """The next number in the form that needs 1, 3, 4 or 9 bytes."""
        first = self.number(1)
        if first < 251:
            return first
        if first not in (252, 253, 254):
            raise Damaged(f"a packed number begins with {first}")
        return self.number({252: 2, 253: 3, 254: 8}[first])

    def text(self, size: int) -> str:
        """The next `size` bytes as UTF-8."""
        return self.take(size).decode("utf-8", "backslashreplace")

    def varint(self) -> int:
        """The next number of MySQL's serialization, whose first ones tell its length."""
        first = self.number(1)
        more = 0
        while more < 8 and first >> more & 1:
            more += 1
        if more == 8:
            return self.number(8)
        rest = self.number(more)
        return first >> more + 1 | rest << 7 - more

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.end - self.at)


def rotated_to(event: bytes) -> tuple[str, int]:
    """The file and offset that a ROTATE leads to."""
    body = Bytes(event)
    offset = body.number(8)
    return body.rest().decode("utf-8", "backslashreplace"), offset


def heartbeat(event: bytes) -> tuple[str, int | None]:
    """The file of a heartbeat, and of the second version its full offset."""
    if event[4] == HEARTBEAT:
        return event[BODY:].decode("utf-8", "backslashreplace"), None
    body, file, offset = Bytes(event), "", None
    while body.at < body.end:
        kind = body.packed()
        if not kind:
            break
        part = Bytes(body.take(body.packed()), 0)
        if kind == 1:
            file = part.text(part.end)
        elif kind == 2:
            offset = part.packed()
    return file, offset


def previous_gtids(event: bytes) -> MysqlGtids:
    """The transactions of all earlier files."""
    try:
        return MysqlGtids.decoded(event[BODY:])
    except ValueError as e:
        raise Damaged(f"PREVIOUS_GTIDS: {e}") from e


def tagged_gtid(event: bytes) -> tuple[bytes, str, int]:
    """The source, tag and number of a GTID_TAGGED event."""
    body = Bytes(event)
    if (version := body.varint()) != 1:
        raise Damaged(f"a tagged GTID of the unknown version {version}")
    size = body.varint()
    body.end = min(body.end, BODY + size)
    if body.varint() > 12:
        raise Damaged("a tagged GTID has parts that must be understood and are not known")
    source, tag, number = b"", "", 0
    while body.at < body.end:
        field = body.varint()
        if field == 1:
            source = bytes(body.varint() & 255 for _ in range(16))
        elif field == 2:
            raw = body.varint()  # the sign comes last
            number = -(raw >> 1) - 1 if raw & 1 else raw >> 1
        elif field == 3:
            tag = body.take(body.varint()).decode("ascii", "backslashreplace")
        elif field == 0:
            body.varint()
        else:
            break
    if not source or number < 1:
        raise Damaged("a tagged GTID without source or number")
    return source, tag, number


@dataclass(frozen=True, slots=True)
class MariaGtid:
    """A transaction of MariaDB; `alone`: a statement that stands for itself, such as DDL."""

    gtid: str
    alone: bool
    prepared: bool
    completed: bool


def maria_gtid(event: bytes, server: int) -> MariaGtid:
    """What a GTID event of MariaDB says; `server` stands in its header."""
    if len(event) < BODY + 13:
        raise Damaged("a GTID event ends early")
    number, domain, flags = struct.unpack_from("<QIB", event, BODY)
    gtid = f"{domain}-{server}-{number}"
    return MariaGtid(gtid, bool(flags & 1), bool(flags & 64), bool(flags & 128))


_STATUS_SIZES = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3}
_CHARSET = 4


@dataclass(frozen=True, slots=True)
class Query:
    """A statement as it is logged; `collation` is the number of its client's collation."""

    schema: str
    sql: bytes
    collation: int | None


def query(event: bytes) -> Query:
    """The statement of a QUERY, of MariaDB's compressed form, or of a LOAD DATA."""
    kind = event[4]
    body = Bytes(event)
    body.take(8)
    schema_size, _, status_size = body.number(1), body.number(2), body.number(2)
    if kind == EXECUTE_LOAD:
        body.take(13)
    collation = _collation(body.take(status_size))
    schema = body.text(schema_size)
    body.take(1)
    sql = body.rest()
    return Query(schema, unpacked(sql) if kind == QUERY_COMPRESSED else sql, collation)


def begins(event: bytes) -> bool:
    """Whether a statement is BEGIN, found without reading the rest."""
    if event[4] == QUERY_COMPRESSED:
        return query(event).sql == b"BEGIN"
    size = BODY + 19 + event[27] + (event[30] | event[31] << 8)
    return event.endswith(b"\0BEGIN") and len(event) == size


def _collation(status: bytes) -> int | None:
    """The client's collation among the variables of a statement."""
    at = 0
    while at < len(status):
        code = status[at]
        at += 1
        if code == _CHARSET:
            return int.from_bytes(status[at : at + 2], "little")
        if code in (5, 6):
            at += 1 + status[at] if at < len(status) else 1
        elif code in _STATUS_SIZES:
            at += _STATUS_SIZES[code]
        else:
            return None
    return None


def unpacked(data: bytes) -> bytes:
    """The contents of a part that MariaDB compressed: how, how long, then zlib's bytes."""
    if not data:
        raise Damaged("a compressed event without contents")
    width = data[0] & 7
    if data[0] >> 4 & 7:
        raise Damaged(f"compressed in the unknown way {data[0] >> 4 & 7}")
    size = int.from_bytes(data[1 : 1 + width], "big")
    if size > MOST_UNPACKED:
        raise Damaged(f"a compressed event says that it is {size} bytes large")
    unpack = zlib.decompressobj()
    try:
        found = unpack.decompress(data[1 + width :], size + 1)
    except zlib.error as e:
        raise Damaged(f"a compressed event can't be unpacked: {e}") from e
    if len(found) != size or not unpack.eof:
        raise Damaged(f"a compressed event of {size} bytes holds {len(found)}")
    return found


def xa_prepared(event: bytes) -> tuple[bool, str]:
    """Whether an XA_PREPARE commits at once, and the transaction's name as statements write it."""
    body = Bytes(event)
    once = bool(body.number(1))
    form, first, second = body.number(4), body.number(4), body.number(4)
    left, right = body.take(first), body.take(second)
    return once, f"X'{left.hex()}',X'{right.hex()}',{form}"


def payload(event: bytes) -> Iterator[bytes]:
    """The events in a TRANSACTION_PAYLOAD, unpacked as they are taken."""
    body = Bytes(event)
    way, size = 255, 0
    while True:
        kind = body.packed()
        if kind == 0:
            break
        part = Bytes(body.take(body.packed()), 0)
        if kind == 1:
            size = part.packed()
        elif kind == 2:
            way = part.packed()
    if size != body.end - body.at:
        raise Damaged(f"a compressed transaction of {size} bytes has {body.end - body.at}")
    packed = memoryview(event)[body.at :]
    if way == 255:
        yield from _split(_Plain(packed))
    elif way == 0:
        yield from _unzstd(packed)
    else:
        raise Damaged(f"a transaction is compressed in the unknown way {way}")


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Plain:
    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def read(self, size: int, /) -> bytes:
        found = bytes(self._data[self._at : self._at + size])
        self._at += len(found)
        return found


def _unzstd(packed: memoryview) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as e:
        raise FatalError(
            "the log has compressed transactions, and the package zstandard is not there: pip "
            "install 'vecferry[mysql]'"
        ) from e
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as reader:
            yield from _split(reader)
    except zstandard.ZstdError as e:
        raise Damaged(f"a compressed transaction can't be unpacked: {e}") from e


def _split(reader: _Reader) -> Iterator[bytes]:
    while head := _whole(reader, BODY):
        size = HEADER.unpack(head)[3] - BODY if len(head) == BODY else -1
        if not 0 <= size <= MOST_UNPACKED:
            raise Damaged("a compressed transaction holds a part that is not an event")
        body = _whole(reader, size)
        if len(body) < size:
            raise Damaged("a compressed transaction ends in the middle of an event")
        yield head + body


def _whole(reader: _Reader, size: int) -> bytes:
    found = reader.read(size)
    if len(found) in (0, size):
        return found
    parts, have = [found], len(found)
    while have < size and (part := reader.read(size - have)):
        parts.append(part)
        have += len(part)
    return b"".join(parts)
