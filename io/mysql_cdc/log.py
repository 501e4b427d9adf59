"""A change log as what happened, in the log's order: transactions, rows, statements, places.

`LogReader` gives the events a meaning. What lies between `Begun` and `Committed`, `RolledBack` or
`Prepared` is one transaction.

Stands apart from `vecferry.io.mysql_cdc.following` because it knows neither jobs nor rows of a job.
"""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Protocol, cast

from vecferry.errors import FatalError
from vecferry.io.mysql_cdc import events as e
from vecferry.io.mysql_cdc.charsets import decoder
from vecferry.io.mysql_cdc.columns import (
    Columns,
    ColumnsDiffer,
    TableMap,
    names_of,
    resolved,
    table_map,
)
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.rows import (
    DELETE,
    INSERT,
    PARTIAL_UPDATE,
    UPDATE,
    Decode,
    Found,
    compiled,
)

_WRONG = (IndexError, ValueError, OverflowError, struct.error)
"""What reading bytes raises that do not follow the documented form."""
_WRAP = 1 << 32
_LOW = _WRAP - 1
_MOST_TABLES = 4096
"""So many table maps are kept; a map is read again if it comes again later."""
_MOST_OPEN = 1 << 16
"""So many numbers of tables are kept, the newest ones; a statement uses far fewer tables."""
_DUMMY_TABLE = b"\xff\xff\xff\0\0\0"
"""Ends a statement that changed no row of a table that is logged."""


class EventStream(Protocol):
    """Where events come from, see `BinlogStream`."""

    where: str
    short_json: bool
    """Whether SELECTs of the server write the double 2.0 within JSON as ``2``."""

    @property
    def charsets(self) -> Mapping[int, str]:
        """The name of the character set for the number of each collation."""

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class FileBegan:
    """The events that follow are of `file`, which the server began at `time`.

    `time` is in seconds since 1970. It tells a file from another one that had the same name before
    RESET MASTER.
    """

    file: str
    time: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """The log goes on at another place, between two transactions."""

    place: Place


@dataclass(frozen=True, slots=True)
class Alive:
    """The server says that it has nothing new; all before `place` was given."""

    place: Place
    time: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A transaction begins; `gtid` is None if the server gives transactions no names.

    `time` is the server's, in seconds since 1970, as everywhere. `prepares` says that the rows are
    of an XA transaction, which `Prepared` ends; MySQL says so by a `Statement`, ``XA START``.
    """

    place: Place
    gtid: str | None
    time: int
    prepares: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction was committed; reading can go on from `place`."""

    place: Place
    gtid: str | None
    time: int


@dataclass(frozen=True, slots=True)
class RolledBack:
    """The transaction was rolled back; its rows that were logged do not count."""

    place: Place
    gtid: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of an XA transaction count only when `XA COMMIT` and its `xid` come.

    `xid` is written as that `Statement` writes it: ``X'67',X'62',1``.
    """

    xid: str
    place: Place
    gtid: str | None


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that was logged as such: DDL, TRUNCATE, XA, or a write in STATEMENT format.

    ``ROLLBACK TO`` comes as a statement as well: rows since that savepoint do not count.
    """

    schema: str
    sql: str
    place: Place
    end: Place
    time: int


@dataclass(slots=True)
class _Numbers:
    """The numbers of rows within a compressed event or transaction."""

    start: int
    last: int
    next: int = 0
    whole: int = 0
    """One more than the number of the first row of the event that was read to its end last."""


@dataclass(slots=True)
class _Table:
    """A table whose rows are wanted, as one table map tells of it."""

    map: TableMap
    given: Columns
    charsets: Mapping[int, str]
    bits: int
    short_json: bool
    found: Columns | None = None
    decoders: dict[tuple[str, bytes], Decode] = field(default_factory=dict)

    @property
    def columns(self) -> Columns:
        if self.found is None:
            self.found = resolved(self.map, self.given, self.charsets)
        return self.found

    def decoder(self, kind: str, bitmaps: bytes) -> Decode:
        decode = self.decoders.get((kind, bitmaps))
        if decode is None:
            both = kind in (UPDATE, PARTIAL_UPDATE)
            half = len(bitmaps) // 2 if both else len(bitmaps)
            before = b"" if kind == INSERT else bitmaps[:half]
            after = b"" if kind == DELETE else bitmaps[half:] if both else bitmaps
            types, metas = self.map.types, self.map.metas
            columns, short = self.columns.columns, self.short_json
            decode = compiled(kind, types, metas, columns, before, after, short_json=short)
            self.decoders[kind, bitmaps] = decode
        return decode


@dataclass(slots=True, eq=False)
class Rows:
    """The rows of one event, not to be changed: `kind` is ``+I``, ``+U`` or ``-D``.

    `place` is where the event begins, `end` where it ends. A compressed event, or the compressed
    transaction that the event is in, is meant as a whole.
    """

    kind: str
    time: int
    _file: str
    _start: int
    _end: int
    _table: _Table = field(repr=False)
    _event: bytes = field(repr=False)
    _numbers: _Numbers | None = field(repr=False)
    _first: int = field(repr=False)

    @property
    def schema(self) -> str:
        """The table's database."""
        return self._table.map.schema

    @property
    def table(self) -> str:
        """The table's name."""
        return self._table.map.table

    @property
    def place(self) -> Place:
        """Where the event begins."""
        return Place(self._file, self._start)

    @property
    def end(self) -> Place:
        """Where the event ends."""
        return Place(self._file, self._end)

    @property
    def columns(self) -> Columns:
        """The columns of the rows, in order; raises `ColumnsDiffer`."""
        return self._table.columns

    def rows(self) -> Iterator[Found]:
        """Each row as `(offset, before, after)`; None where a kind has no such image.

        The offset is the row's own place in the file. Rows of a compressed event have the place of
        that event and their number, at most its last byte, which further rows share. `ABSENT` and
        `PARTIAL` stand for values that the log does not tell, an `UnfitValue` for one that a
        SELECT rejects. May be called again, and decodes a row when it is asked for.

        Raises:
          ColumnsDiffer: the description that was given does not fit the rows.
          Damaged: the bytes do not follow the documented form.
        """
        try:
            return self._decoded()
        except _WRONG as error:
            raise self._damaged(error) from error

    def _decoded(self) -> Iterator[Found]:
        event, table = self._event, self._table
        kind, count = event[4], len(table.map.types)
        at = e.BODY + 8
        if kind in e.WITH_EXTRA:
            at += event[at] | event[at + 1] << 8
        if count < 251:
            known, at = event[at], at + 1
        else:
            body = e.Bytes(event, at)
            known, at = body.packed(), body.at
        if known != count:
            raise e.Damaged(f"{self.place}: rows of another number of columns than their table map")
        start = at + table.bits * (2 if kind in e.UPDATES else 1)
        decode = table.decoder(_WAYS[kind], event[at:start])
        numbers = self._numbers
        if numbers is None:
            return decode(event, start, len(event), self._start, self._damaged)
        if kind in e.COMPRESSED:
            event, start = e.unpacked(event[start:]), 0
        return self._numbered(decode(event, start, len(event), 0, self._damaged), numbers)

    def _damaged(self, error: Exception) -> Exception:
        return e.Damaged(
            f"{self.place}: rows of {self.schema}.{self.table} can't be decoded ({error}); please "
            "report it"
        )

    def _numbered(self, rows: Iterator[Found], numbers: _Numbers) -> Iterator[Found]:
        nth = self._first
        for _, before, after in rows:
            offset = numbers.start + nth
            nth += 1
            numbers.next = max(numbers.next, nth)
            yield (offset if offset < numbers.last else numbers.last), before, after
        numbers.whole = self._first + 1


LogItem = FileBegan | Rotated | Alive | Begun | Rows | Statement | Committed | RolledBack | Prepared


class LogReader:
    """Reads what happened out of events.

    Iterating gives `FileBegan`, `Rotated`, `Alive`, `Begun`, `Rows`, `Statement`, `Committed`,
    `RolledBack` and `Prepared`. Each transaction begins with `Begun` and ends with one of the last
    three. A statement that stands for itself, such as DDL, is a transaction as well.

    Args:
      stream: the events.
      wanted: asked for each table by its schema and name: its columns, or None if its rows are to
        be passed over. `Columns()` is for a table that the log describes by itself. As long as the
        answer is the same object, what was made of it is used again.

    Raises, while iterating:
      FatalError: the log has what this version does not know, or is damaged.
      ConnectionLost and the other errors of the stream.
    """

    def __init__(self, stream: EventStream, wanted: Callable[[str, str], Columns | None]) -> None:
        self._stream, self._wanted = stream, wanted
        self._file, self._start, self._end = "", 0, 0
        self._outer: _Numbers | None = None
        self._gtid: str | None = None
        self._open = self._inside = False
        self._begun = Place("", 0)
        self._server = 0
        self._maps: dict[bytes, tuple[tuple[str, str], _Table | None]] = {}
        self._tables: dict[bytes, _Table | None] = {}
        self._sources: dict[bytes, str] = {}
        self._handlers: dict[int, Callable[[bytes, int], LogItem | Iterator[LogItem] | None]] = {
            e.QUERY: self._query,
            e.QUERY_COMPRESSED: self._query,
            e.EXECUTE_LOAD: self._query,
            e.XID: self._xid,
            e.TABLE_MAP: self._table_map,
            e.ROTATE: self._rotate,
            e.FORMAT: self._format,
            e.GTID: self._mysql_gtid,
            e.ANONYMOUS_GTID: self._anonymous,
            e.GTID_TAGGED: self._tagged,
            e.MARIA_GTID: self._maria_gtid,
            e.HEARTBEAT: self._heartbeat,
            e.HEARTBEAT_V2: self._heartbeat,
            e.XA_PREPARE: self._prepare,
            e.PAYLOAD: self._payload,
            e.INCIDENT: self._incident,
            e.ENCRYPTION: self._encryption,
            **dict.fromkeys(e.PASSED_OVER, self._nothing),
            **dict.fromkeys(e.ROWS, self._rows),
        }

    @property
    def safe(self) -> Place:
        """Where reading can go on without losing a row: the beginning of an open transaction."""
        return self._begun if self._open else Place(self._file, self._end)

    def __iter__(self) -> Iterator[LogItem]:
        try:
            yield from self._items()
        except _WRONG as error:
            raise e.Damaged(
                f"{self._stream.where}: an event at {Place(self._file, self._start)} does not "
                f"follow the documented form ({error}); please report it"
            ) from error

    def _items(self) -> Iterator[LogItem]:
        unpack, handlers = e.HEADER.unpack_from, self._handlers
        for event in self._stream:
            time, kind, server, size, end, flags = unpack(event)
            handler = handlers.get(kind)
            if handler is None:
                if flags & e.IGNORABLE_FLAG:
                    handler = _passed_over
                else:
                    raise self._unknown(kind, size, end)
            if end and not flags & e.ARTIFICIAL_FLAG and kind not in _OUTSIDE:
                here = self._end
                full = here + size
                if full & _LOW != end:
                    full = self._after(size, end)
                self._start, self._end = full - size, full
            self._server = server
            found = handler(event, time)
            if found is None:
                continue
            if found.__class__ is GeneratorType:
                yield from cast(Iterator[LogItem], found)
            else:
                yield cast(LogItem, found)

    def _after(self, size: int, end: int) -> int:
        """Where an event ends that does not follow the last one at once, counted in full."""
        full = (self._end & -_WRAP) | end
        if full < self._end:
            full += _WRAP
        if full - size < self._end:
            raise e.Damaged(
                f"{self._stream.where}: an event of {size} bytes that ends at {end} does not fit "
                f"behind {Place(self._file, self._end)}; begin anew with a resync"
            )
        return full

    def _unknown(self, kind: int, size: int, end: int) -> FatalError:
        return FatalError(
            f"{self._stream.where}: an event of the unknown type {kind} ({size} bytes) ends at "
            f"{self._file}:{end}, and rows may be in it; a newer version of vecferry may know the "
            "type",
            "unknown-event",
        )

    def _rotate(self, event: bytes, time: int) -> LogItem | None:
        file, offset = e.rotated_to(event)
        if (file, offset) == (self._file, self._end):
            return None
        self._file, self._start, self._end = file, offset, offset
        return Rotated(Place(file, offset))

    def _format(self, event: bytes, time: int) -> LogItem:
        header = event[e.BODY + 56] if len(event) > e.BODY + 56 else 0
        if header != e.BODY:
            raise e.Damaged(
                f"{self._stream.where}: {self._file} has event headers of {header} bytes, and this "
                f"version reads those of {e.BODY}; the log is of a server before MySQL 5.0"
            )
        if int.from_bytes(event[e.BODY + 52 : e.BODY + 56], "little"):  # the server began anew
            self._maps.clear()
            self._tables.clear()
        return FileBegan(self._file, time)

    def _heartbeat(self, event: bytes, time: int) -> LogItem | None:
        file, full = e.heartbeat(event)
        if file and file != self._file:
            raise e.Damaged(
                f"{self._stream.where}: a heartbeat of the file {file!r} while {self._file!r} is "
                "read; begin anew with a resync"
            )
        if full is None:
            (end,) = struct.unpack_from("<I", event, 13)
            full = (self._end & -_WRAP) | end
            if full < self._end:
                full += _WRAP
        if not self._open:
            self._start = self._end = max(self._end, full)
        return Alive(self.safe, time)

    def _nothing(self, event: bytes, time: int) -> LogItem | None:
        """An event that changes no row; between transactions the reading is a place further."""
        return None if self._open or self._outer is not None else Alive(self.safe, time)

    def _begin(self, gtid: str | None, time: int, *, prepares: bool = False) -> LogItem:
        self._gtid = gtid
        self._open, self._inside = True, False
        self._begun = Place(self._file, self._start)
        return Begun(self._begun, gtid, time, prepares)

    def _mysql_gtid(self, event: bytes, time: int) -> LogItem:
        source = event[20:36]
        prefix = self._sources.get(source)
        if prefix is None:
            prefix = self._sources[source] = f"{uuid.UUID(bytes=source)}:"
        self._gtid = gtid = f"{prefix}{int.from_bytes(event[36:44], 'little')}"
        self._open, self._inside = True, False
        self._begun = place = Place(self._file, self._start)
        return Begun(place, gtid, time)

    def _tagged(self, event: bytes, time: int) -> LogItem:
        source, tag, number = e.tagged_gtid(event)
        tag = f"{tag}:" if tag else ""
        return self._begin(f"{uuid.UUID(bytes=source)}:{tag}{number}", time)

    def _anonymous(self, event: bytes, time: int) -> LogItem:
        return self._begin(None, time)

    def _maria_gtid(self, event: bytes, time: int) -> LogItem:
        found = e.maria_gtid(event, self._server)
        begun = self._begin(found.gtid, time, prepares=found.prepared)
        self._inside = not found.alone
        return begun

    def _query(self, event: bytes, time: int) -> LogItem | Iterator[LogItem] | None:
        if e.begins(event):
            if not self._open:  # a server before 5.7 without GTIDs
                begun = self._begin(None, time)
                self._inside = True
                return begun
            self._inside = True
            return None
        found = e.query(event)
        sql = found.sql
        if sql == b"COMMIT":
            return self._commit(time)
        if sql == b"ROLLBACK":
            return self._roll_back()
        if sql.startswith(_XA_STARTS):
            self._inside = True
            place, end = Place(self._file, self._start), Place(self._file, self._end)
            return Statement(found.schema, self._text(found), place, end, time)
        if sql.startswith(b"XA END"):
            return None
        if sql.startswith(_SAVEPOINTS):
            return None
        return self._statement(found, time)

    def _statement(self, found: e.Query, time: int) -> Iterator[LogItem]:
        if not self._open:
            yield self._begin(None, time)
        place, end = Place(self._file, self._start), Place(self._file, self._end)
        sql = found.sql
        yield Statement(found.schema, self._text(found), place, end, time)
        if sql.rstrip().endswith(b"START TRANSACTION"):  # CREATE TABLE … SELECT: rows follow
            self._inside = True
        elif not self._inside or sql.startswith(_XA_ENDS):
            yield self._commit(time)

    def _text(self, found: e.Query) -> str:
        charset = self._stream.charsets.get(found.collation or 0, "utf8mb4")
        text = decoder(charset)(found.sql)
        return text if isinstance(text, str) else found.sql.decode("utf-8", "backslashreplace")

    def _commit(self, time: int) -> LogItem:
        self._open = self._inside = False
        return Committed(Place(self._file, self._end), self._gtid, time)

    def _roll_back(self) -> LogItem:
        self._open = self._inside = False
        return RolledBack(Place(self._file, self._end), self._gtid)

    def _xid(self, event: bytes, time: int) -> LogItem:
        self._open = self._inside = False
        return Committed(Place(self._file, self._end), self._gtid, time)

    def _prepare(self, event: bytes, time: int) -> LogItem:
        once, xid = e.xa_prepared(event)
        if once:
            return self._commit(time)
        self._open = self._inside = False
        return Prepared(xid, Place(self._file, self._end), self._gtid)

    def _table_map(self, event: bytes, time: int) -> None:
        key = event[e.BODY :]
        known = self._maps.get(key)
        names, table = known or (names_of(event), None)
        given = self._wanted(*names)
        if given is None:
            table = None
        elif table is None or table.given is not given:
            logged = table_map(event)
            bits = (len(logged.types) + 7) // 8
            table = _Table(logged, given, self._stream.charsets, bits, self._stream.short_json)
        if known is None or known[1] is not table:
            if len(self._maps) >= _MOST_TABLES:
                self._maps.clear()
            self._maps[key] = names, table
        if len(self._tables) > _MOST_OPEN:  # numbers grow, and old ones do not come again
            for number in list(self._tables)[: _MOST_OPEN // 2]:
                del self._tables[number]
        self._tables.pop(event[19:25], None)
        self._tables[event[19:25]] = table

    def _rows(self, event: bytes, time: int) -> Rows | None:
        number = event[19:25]
        try:
            table = self._tables[number]
        except KeyError:
            if number == _DUMMY_TABLE:
                return None
            raise e.Damaged(
                f"{self._stream.where}: at {Place(self._file, self._start)} come rows of a table "
                "that was not named before, as in the middle of a transaction; begin at the start "
                "of one"
            ) from None
        if table is None:
            return None
        kind, numbers = event[4], self._outer
        if numbers is None and kind in e.COMPRESSED:
            numbers = _Numbers(self._start, self._end - 1)
        return Rows(
            _KINDS[kind],
            time,
            self._file,
            self._start,
            self._end,
            table,
            event,
            numbers,
            numbers.next if numbers else 0,
        )

    def _payload(self, event: bytes, time: int) -> Iterator[LogItem]:
        self._outer = numbers = _Numbers(self._start, self._end - 1)
        try:
            for inner in e.payload(event):
                moment, kind, _, size, end, flags = e.HEADER.unpack_from(inner)
                handler = self._handlers.get(kind)
                if handler is None or kind in _OUTSIDE or kind == e.PAYLOAD:
                    if not flags & e.IGNORABLE_FLAG:
                        raise self._unknown(kind, size, end)
                    continue
                found = handler(inner, moment)
                if isinstance(found, Rows):
                    yield found
                    _counted(found, numbers)
                elif isinstance(found, Iterator):
                    yield from found
                elif found is not None:
                    yield found
        finally:
            self._outer = None

    def _incident(self, event: bytes, time: int) -> None:
        raise FatalError(
            f"{self._stream.where}: at {Place(self._file, self._start)} the server notes that its "
            "log lost events: begin anew with a resync behind this place",
            "incident",
        )

    def _encryption(self, event: bytes, time: int) -> None:
        raise FatalError(
            f"{self._stream.where}: the log file {self._file} is encrypted for its readers as well "
            "(MariaDB's encrypt_binlog): switch encrypt_binlog off, and begin anew with a resync",
            "encrypted-log",
        )


_OUTSIDE = frozenset({e.ROTATE, e.FORMAT, e.HEARTBEAT, e.HEARTBEAT_V2})
"""Events that stand in no file, or say themselves where the reading is."""
_XA_STARTS = (b"XA START", b"XA BEGIN")
_XA_ENDS = (b"XA COMMIT", b"XA ROLLBACK")
_SAVEPOINTS = (b"SAVEPOINT", b"RELEASE SAVEPOINT")
_WAYS = {
    **dict.fromkeys(e.INSERTS, INSERT),
    **dict.fromkeys(e.UPDATES, UPDATE),
    **dict.fromkeys(e.DELETES, DELETE),
    e.PARTIAL_UPDATE: PARTIAL_UPDATE,
}
_KINDS = {
    **dict.fromkeys(e.INSERTS, "+I"),
    **dict.fromkeys(e.UPDATES, "+U"),
    **dict.fromkeys(e.DELETES, "-D"),
}


def _passed_over(event: bytes, time: int) -> None:
    """Nothing comes of an event that changes no row."""


def _counted(rows: Rows, numbers: _Numbers) -> None:
    """Counts the rows that nobody took, so that the numbers of later rows stay the same."""
    if numbers.whole != rows._first + 1:
        with contextlib.suppress(ColumnsDiffer):
            for _ in rows.rows():
                pass
