"""Values on their way into a table: checked, and in the binary form of their type. Pure.

The server refuses a whole batch for one bad value, so each is checked here first. What is made for
a column is a function from a value to its field of binary COPY: four bytes of length, then the
value, all big-endian. A type that is not known here travels as text, and the server casts it.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np

from vecferry.io.pgvector_columns import SqlType
from vecferry.io.pgvector_scalars import MAKERS, TEXTS, Accept, text
from vecferry.io.pgvector_table import ColumnInfo
from vecferry.io.pgvector_vectors import checked, float4_field, halfvec, vector_field
from vecferry.io.vectors import parsed, wrong_type

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


def plain(column: ColumnInfo, made: Any, given: Any) -> Any:
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
    from psycopg.adapt import Transformer
    from psycopg.pq import Format

    known = psycopg.adapters.types[kind.name]
    oid = known.array_oid if kind.array else known.oid
    try:
        value = Transformer().get_loader(oid, Format.BINARY).load(data)
    except psycopg.DataError:  # a time beyond the year 9999, once it is in UTC
        return given
    return str(value) if isinstance(value, uuid.UUID) else value


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
