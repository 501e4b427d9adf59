"""Values on their way into a table: checked, and in the binary form of their type. Pure.

The server refuses a whole batch for one bad value, so each is checked here first. What is made for
a column is a function from a value to its field of binary COPY. A field is four bytes of length,
then the value, all big-endian. A type that is not known here travels as text, and the server casts
it.
"""

from __future__ import annotations

import datetime
import decimal
import math
import struct
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecferry.errors import shorten
from vecferry.io.postgresql.catalog import ColumnInfo
from vecferry.io.postgresql.settings import SqlType
from vecferry.io.sink.values import (
    SMALLEST_NORM2,
    as_bool,
    as_float,
    as_half,
    as_int,
    as_json,
    bad,
    checked,
    decoded,
    encoded,
    parsed,
    wrong_type,
)
from vecferry.numbers import decimal_number

Accept = Callable[[Any], bytes]

FLOAT4_OID = 700
_ARRAY, _FLOAT32, _INF = np.ndarray, np.dtype(np.float32), math.inf
_NUMBER = np.dtype([("length", ">i4"), ("value", ">f4")])
"""An element of ``float4[]``."""
_BLOCK = 64
"""Vectors that are checked and copied together, while they are in the processor's cache."""


def float4_field(vector: np.ndarray) -> bytes:
    """A vector as a field of ``float4[]``: the array's header, each number with its length."""
    n = len(vector)
    cells = np.empty(n, _NUMBER)
    cells["length"], cells["value"] = 4, vector
    head = struct.pack("!iiiiii", 20 + 8 * n, 1, 0, FLOAT4_OID, n, 1)
    return head + cells.tobytes()


def vector_field(vector: np.ndarray) -> bytes:
    """A vector as a field of pgvector's ``vector``: number of dimensions, nothing, the numbers."""
    n = len(vector)
    return struct.pack("!iHH", 4 + 4 * n, n, 0) + vector.astype(">f4").tobytes()


def halfvec(name: str, dimension: int | None, metric: str) -> Accept:
    """A function from a value to its field of pgvector's ``halfvec``."""
    accept_vector = checked(name, dimension, metric)

    def accept(value: Any) -> bytes:
        vector = accept_vector(value)
        numbers, n = as_half(name, vector, "halfvec", ">f2"), len(vector)
        return struct.pack("!iHH", 4 + 2 * n, n, 0) + numbers.tobytes()

    return accept


def vector_elements(count: int, n: int, head: bytes) -> tuple[memoryview, np.ndarray]:
    """`head` and `count` fields of ``vector``, and their numbers, to be filled: (count, n)."""
    cell = np.dtype([("length", ">i4"), ("n", ">u2"), ("unused", ">u2"), ("value", ">f4", (n,))])
    raw, cells = _behind(head, count, cell)
    cells["length"], cells["n"], cells["unused"] = 4 + 4 * n, n, 0
    return raw, cells["value"]


def float4_elements(count: int, n: int, head: bytes) -> tuple[memoryview, np.ndarray]:
    """`head` and elements of ``float4[]``, and their numbers, to be filled: (count, n)."""
    raw, cells = _behind(head, count * n, _NUMBER)
    cells["length"] = 4
    return raw, cells["value"].reshape(-1, n)


def _behind(head: bytes, count: int, cell: np.dtype) -> tuple[memoryview, np.ndarray]:
    """Room for `head`, which is there, and for cells behind it."""
    raw = np.empty(len(head) + count * cell.itemsize, np.uint8)
    raw[: len(head)] = np.frombuffer(head, np.uint8)
    return raw.data, np.ndarray(count, cell, raw, len(head))


def fill(rows: np.ndarray, vectors: Sequence[np.ndarray]) -> None:
    """Copies vectors, one into each row."""
    # One by one, while each is in the processor's cache: a copy of all at once takes twice as long.
    for i, vector in enumerate(vectors):
        rows[i] = vector


def fill_checked(rows: np.ndarray, vectors: list[Any]) -> None:
    """As `fill`, for vectors that every metric can compare; ValueError where one of them is not."""
    count, n = rows.shape
    if (
        list(map(type, vectors)).count(_ARRAY) != count
        or [v.dtype for v in vectors].count(_FLOAT32) != count
        or [v.shape for v in vectors].count((n,)) != count
    ):
        raise ValueError
    for i in range(0, count, _BLOCK):
        some = np.concatenate(vectors[i : i + _BLOCK]).reshape(-1, n)
        norms2 = np.einsum("ij,ij->i", some, some)
        if not (norms2.min() > SMALLEST_NORM2 and norms2.max() < _INF):
            raise ValueError
        rows[i : i + _BLOCK] = some


INT_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}
TEXTS = ("text", "character varying", "character")


def _integer(name: str, kind: SqlType) -> Accept:
    size = INT_BYTES[kind.name]
    most = 1 << (8 * size - 1)

    def accept(value: Any) -> bytes:
        if type(value) is not int:
            value = as_int(name, str(kind), value)
        if -most <= value < most:
            return value.to_bytes(size, "big", signed=True)  # type: ignore[no-any-return]
        raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")

    return accept


def _real(name: str, kind: SqlType) -> Accept:
    form = struct.Struct("!f" if kind.name == "real" else "!d")

    def accept(value: Any) -> bytes:
        if type(value) is not float:
            value = as_float(name, str(kind), value)
        try:
            return form.pack(value)
        except OverflowError:
            raise bad(name, "out-of-range", f"{value} does not fit into {kind}") from None

    return accept


def _boolean(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        if type(value) is not bool:
            value = as_bool(name, "boolean", value, letters=True)
        return b"\1" if value else b"\0"

    return accept


def text(name: str, kind: SqlType) -> Accept:
    """A function from a value to the UTF-8 of its text; another value is written as a text."""
    most = kind.limit

    def accept(value: Any) -> bytes:
        if type(value) is not str:
            value = _as_text(name, value)
        if "\0" in value:
            raise bad(name, "invalid-text", "the text has a NUL character, which SQL can't store")
        if most is not None and len(value) > most and len(value.rstrip(" ")) > most:
            raise bad(
                name,
                "too-long",
                f"a text of {len(value)} characters exceeds {kind}: {shorten(value, 60)!r}",
            )
        return encoded(name, value)

    return accept


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return as_json(name, value).decode()
    if isinstance(value, bytes):
        return decoded(name, value)
    if isinstance(value, np.ndarray):
        raise wrong_type(name, "text", value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _json(name: str, kind: SqlType) -> Accept:
    version = b"\1" if kind.name == "jsonb" else b""

    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            value = parsed(value)
        data = as_json(name, value)
        if version and b"\\u0000" in data:
            raise bad(name, "invalid-text", "the JSON has a NUL character, which jsonb can't store")
        return version + data

    return accept


def _bytes(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            return encoded(name, value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise wrong_type(name, "bytea", value)

    return accept


def _uuid(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        try:
            return (value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))).bytes
        except ValueError:
            raise wrong_type(name, "uuid", value) from None

    return accept


def _date(name: str, kind: SqlType) -> Accept:
    from psycopg.types.datetime import DateBinaryDumper

    dump = DateBinaryDumper(datetime.date).dump
    return lambda value: bytes(dump(_moment(name, kind, value).date()) or b"")


def _timestamp(name: str, kind: SqlType) -> Accept:
    from psycopg.types.datetime import DatetimeBinaryDumper, DatetimeNoTzBinaryDumper

    zoned = kind.name == "timestamp with time zone"
    dump = (DatetimeBinaryDumper if zoned else DatetimeNoTzBinaryDumper)(datetime.datetime).dump

    def accept(value: Any) -> bytes:
        moment = _moment(name, kind, value)
        if not zoned:
            moment = moment.replace(tzinfo=None)
        elif moment.tzinfo is None:  # taken for UTC, on every machine
            moment = moment.replace(tzinfo=datetime.UTC)
        return bytes(dump(moment) or b"")

    return accept


def _moment(name: str, kind: SqlType, value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise wrong_type(name, str(kind), value)


_MOST_NUMERIC, _MOST_SCALE = 131072, 16383
"""How many digits before and behind the point a numeric has at most."""


def _numeric(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        from psycopg.types.numeric import DecimalBinaryDumper

        if isinstance(value, bool | np.bool_ | bytes):
            raise wrong_type(name, str(kind), value)
        try:
            # A float's text has its shortest digits: 0.1 stays 0.1.
            is_text = isinstance(value, str)
            number = decimal_number(value) if is_text else decimal.Decimal(str(value))
        except (ValueError, decimal.InvalidOperation):
            raise wrong_type(name, str(kind), value) from None
        digits = number.adjusted() if number.is_finite() and number else 0
        if not -_MOST_SCALE <= digits < _MOST_NUMERIC:
            raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")
        whole = (kind.limit or 0) - (kind.scale or 0)
        if kind.limit and number.is_finite() and abs(number) >= decimal.Decimal(10) ** whole:
            raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")
        return bytes(DecimalBinaryDumper(decimal.Decimal).dump(number) or b"")

    return accept


MAKERS: dict[str, Callable[[str, SqlType], Accept]] = {
    **dict.fromkeys(INT_BYTES, _integer),
    **dict.fromkeys(("real", "double precision"), _real),
    **dict.fromkeys(TEXTS, text),
    **dict.fromkeys(("json", "jsonb"), _json),
    **dict.fromkeys(("timestamp without time zone", "timestamp with time zone"), _timestamp),
    "boolean": _boolean,
    "bytea": _bytes,
    "uuid": _uuid,
    "date": _date,
    "numeric": _numeric,
}
"""Name of a type -> what makes the function that takes its values, of its name and type."""


NULL = b"\xff\xff\xff\xff"

_ELEMENT_OIDS = {
    "boolean": 16, "smallint": 21, "integer": 23, "bigint": 20, "real": 700,
    "double precision": 701, "text": 25, "character varying": 1043, "character": 1042,
    "uuid": 2950, "date": 1082, "timestamp without time zone": 1114,
    "timestamp with time zone": 1184, "numeric": 1700,
}  # fmt: skip


def field(data: bytes) -> bytes:
    """A value with its length before it."""
    return struct.pack("!i", len(data)) + data


def acceptor(column: ColumnInfo, metric: str) -> Accept:
    """A function that gives a value (not None) as a field, or raises TerminalError."""
    kind = column.type
    if kind.name == "halfvec":
        return halfvec(column.name, column.dimension, metric)
    if column.is_vector:
        check = checked(column.name, column.dimension, metric)
        make = field_of(column)
        return lambda value: make(check(value))
    if kind.array and is_binary(kind):
        return _array(column.name, kind)
    if kind.name in TEXTS and not kind.array:
        return _short_way(column.name, kind)
    return _framed(_scalar(column.name, kind))


def holds_arrays(column: ColumnInfo) -> bool:
    """Whether the values of a column stay float32 arrays until a whole batch is sent."""
    return column.is_vector and column.type.name != "halfvec"


def field_of(column: ColumnInfo) -> Callable[[np.ndarray], bytes]:
    """A function from a vector, checked, to its field, for a column that `holds_arrays`."""
    return float4_field if column.type.is_floats else vector_field


def is_binary(kind: SqlType) -> bool:
    """Whether values of this type travel in their binary form, not as text to be cast."""
    if kind.array:
        return kind.name in _ELEMENT_OIDS
    return kind.name in MAKERS or kind.name in ("vector", "halfvec")


def element_oid(kind: SqlType) -> int:
    """The server's number for the type of an array's elements."""
    return _ELEMENT_OIDS[kind.name]


def plain(column: ColumnInfo, made: bytes | np.ndarray, given: object) -> object:
    """What a column would hold, for people: from a field, or from the vector itself.

    Of a type that travels as text, the text; `given`, from which it was made, where Python has no
    such value.
    """
    if made is NULL or isinstance(made, np.ndarray):
        return None if made is NULL else made
    kind, data = column.type, made[4:]
    if kind.name == "halfvec":
        return np.frombuffer(data[4:], ">f2").astype(np.float32)
    if not is_binary(kind):
        return data.decode()
    import psycopg

    try:
        value = loader(kind)(data)
    except psycopg.DataError:  # a time beyond the year 9999, once it is in UTC
        return given
    return str(value) if isinstance(value, uuid.UUID) else value


def loader(kind: SqlType) -> Callable[[bytes], Any]:
    """A function from the binary form of a value, without its length, to the value in Python."""
    import psycopg
    from psycopg.adapt import Transformer
    from psycopg.pq import Format

    known = psycopg.adapters.types[kind.name]
    oid = known.array_oid if kind.array else known.oid
    load: Callable[[bytes], Any] = Transformer().get_loader(oid, Format.BINARY).load
    return load


def _framed(inner: Accept) -> Accept:
    def accept(value: Any) -> bytes:
        data = inner(value)
        return len(data).to_bytes(4, "big") + data

    return accept


def _short_way(name: str, kind: SqlType) -> Accept:
    """A text, in one call where nothing is wrong with it."""
    most, all_checks = kind.limit or 1 << 30, _framed(text(name, kind))

    def accept(value: Any) -> bytes:
        if type(value) is str and len(value) <= most and "\0" not in value:
            try:
                data = value.encode()
                return len(data).to_bytes(4, "big") + data
            except UnicodeEncodeError:
                pass
        return all_checks(value)

    return accept


def _scalar(name: str, kind: SqlType) -> Accept:
    make = MAKERS.get(kind.name) if not kind.array else None
    return make(name, kind) if make else text(name, SqlType("text"))


def _array(name: str, kind: SqlType) -> Accept:
    element = _framed(_scalar(name, SqlType(kind.name, kind.limit, kind.scale)))
    oid = _ELEMENT_OIDS[kind.name]

    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            value = parsed(value)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise wrong_type(name, str(kind), value)
        nulls = int(None in value)
        head = struct.pack("!iii", 1 if value else 0, nulls, oid)
        if value:
            head += struct.pack("!ii", len(value), 1)
        return field(head + b"".join([NULL if v is None else element(v) for v in value]))

    return accept
