"""What the tests of the decoder share: real logs read to where they are, and events from bytes."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.services.server import running
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql import MySqlConnection
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql_cdc.columns import Columns, described
from vecferry.io.mysql_cdc.events import BODY, HEADER
from vecferry.io.mysql_cdc.gtid import GtidSet
from vecferry.io.mysql_cdc.log import Alive, LogItem, LogReader, Rows
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.stream import BinlogStream

_numbers = itertools.count()
CHARSETS = {8: "latin1", 33: "utf8mb3", 45: "utf8mb4", 63: "binary"}


@dataclass
class Source:
    """A real server whose log is read."""

    server: Any

    @property
    def connection(self) -> MySqlConnection:
        return MySqlConnection.model_validate(self.server.source)

    @property
    def maria(self) -> bool:
        return bool(self.server.name == "mariadb")

    def run(self, *statements: str, session: Iterable[str] = ()) -> None:
        """Runs statements in a session with lenient rules, which is set up first."""
        with self.server.client() as connection, connection.cursor() as cursor:
            for statement in ("SET sql_mode = 'ALLOW_INVALID_DATES'", *session, *statements):
                cursor.execute(statement)

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a question."""
        with self.server.client() as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def table(self, columns: str, after: str = "") -> str:
        """Makes a table; gives its name."""
        name = f"cdc{next(_numbers)}"
        self.run(f"CREATE TABLE {name} ({columns}) {after}")
        return name

    def place(self) -> Place:
        """Where the log ends."""
        file, offset = self.ask("SHOW MASTER STATUS")[0][:2]
        return Place(file, offset)

    def described(self, table: str) -> Columns:
        """The columns of a table by information_schema."""
        names = (
            "column_name, data_type, column_type, character_set_name, character_octet_length, "
            "numeric_scale, datetime_precision, extra"
        )
        rows = self.ask(
            f"SELECT {names} FROM information_schema.columns WHERE table_schema = 'shop' "
            f"AND table_name = '{table}' ORDER BY ordinal_position"
        )
        keys = names.split(", ")
        texts = [[None if v is None else str(v) for v in row] for row in rows]
        return described([dict(zip(keys, row, strict=True)) for row in texts])

    def items(
        self,
        since: Place | GtidSet,
        wanted: Callable[[str, str], Columns | None] | Columns = lambda schema, table: Columns(),
    ) -> Iterator[LogItem]:
        """What the log holds from a place to its end."""
        end = self.place()
        choose = wanted if callable(wanted) else lambda schema, table: wanted
        stream = BinlogStream(self.connection, since=since, heartbeat_seconds=1.0)
        try:
            for item in LogReader(stream, choose):
                if isinstance(item, Alive):
                    if not item.place < end:
                        return
                    continue
                yield item
        finally:
            stream.close()

    def rows(self, since: Place, table: str, given: Columns | None = None) -> list[tuple[Any, ...]]:
        """Each row of a table as `(kind, before, after)`."""
        given = Columns() if given is None else given
        return [
            (item.kind, before, after)
            for item in self.items(since, lambda _, name: given if name == table else None)
            if isinstance(item, Rows)
            for _, before, after in item.rows()
        ]

    def selected(self, table: str, order: str = "id") -> list[list[Any]]:
        """The values that the table reader gives, with `UnfitValue` in place of rejected ones."""
        database = MySqlDatabase(self.connection)
        try:
            result = database.stream(f"SELECT * FROM {table} ORDER BY {order}", narrow=None)
            return [
                [
                    value if convert is None else _converted(convert, value)
                    for convert, value in zip(result.converters, row, strict=True)
                ]
                for batch in result.batches()
                for row in batch
            ]
        finally:
            database.close()

    @contextmanager
    def set_global(self, name: str, value: str) -> Iterator[None]:
        """Sets a variable of the server for a while."""
        ((before,),) = self.ask(f"SELECT @@global.{name}")
        self.run(f"SET GLOBAL {name} = {value}")
        try:
            yield
        finally:
            quoted = before if isinstance(before, int) else f"'{before}'"
            self.run(f"SET GLOBAL {name} = {quoted}")


def source(kind: type[Any]) -> Source:
    """The server of a kind that runs in this session."""
    return Source(running(kind))


def _converted(convert: Any, value: Any) -> Any:
    try:
        return convert([value])[0]
    except UnfitValue as e:
        return e


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in type, value and form, `UnfitValue` by what they say."""
    if isinstance(one, UnfitValue) and isinstance(other, UnfitValue):
        return (one.message, one.reason) == (other.message, other.reason)
    return type(one) is type(other) and repr(one) == repr(other)


def event(
    kind: int, body: bytes = b"", *, end: int = 0, time: int = 7, flags: int = 0, server: int = 1
) -> bytes:
    """An event from its body, without a checksum."""
    return HEADER.pack(time, kind, server, BODY + len(body), end & 0xFFFFFFFF, flags) + body


def format_event(time: int = 7) -> bytes:
    """The event that begins a file."""
    body = struct.pack("<H50sIB", 4, b"8.0.15", 0, BODY) + bytes(40) + b"\1"
    return event(15, body, time=time)


def rotate(file: str = "log.000001", offset: int = 4) -> bytes:
    """What the server sends first."""
    return event(4, struct.pack("<Q", offset) + file.encode(), flags=0x20)


@dataclass
class Played:
    """A stream of events from bytes; `place` counts where the next one begins."""

    events: list[bytes] = field(default_factory=lambda: [rotate(), format_event()])
    place: int = 4
    where: str = "MySQL at test:1"
    short_json: bool = False
    charsets: Mapping[int, str] = field(default_factory=lambda: CHARSETS)

    def add(self, kind: int, body: bytes = b"", **more: Any) -> None:
        """Adds an event behind the last one."""
        self.place += BODY + len(body)
        self.events.append(event(kind, body, end=self.place, **more))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.events)


def query(sql: str, schema: str = "shop") -> bytes:
    """The body of a QUERY event."""
    name = schema.encode()
    return struct.pack("<IIBHH", 1, 0, len(name), 0, 0) + name + b"\0" + sql.encode()


def gtid_body(number: int, source: bytes = bytes(range(16))) -> bytes:
    """The body of a GTID event."""
    return b"\1" + source + struct.pack("<Q", number) + b"\2" + bytes(16)


def int_table_map(table_id: int = 5, schema: str = "shop", table: str = "t") -> bytes:
    """The body of a TABLE_MAP of one INT column `id`, with its name."""
    names = b"".join(bytes([len(n)]) + n.encode() + b"\0" for n in (schema, table))
    head = table_id.to_bytes(6, "little") + b"\1\0" + names
    return head + b"\1\3\0\0" + b"\1\1\0" + b"\4\3\2id"


def int_rows(values: Iterable[int], table_id: int = 5) -> bytes:
    """The body of a WRITE_ROWS of `int_table_map`."""
    head = table_id.to_bytes(6, "little") + b"\1\0" + b"\2\0" + b"\1\1"
    return head + b"".join(b"\0" + struct.pack("<i", v) for v in values)
