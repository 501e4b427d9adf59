"""A batch of rows as parameters of one statement: an array for each column, in binary. Pure.

A field of binary COPY (length, value) is an element of a binary array as well, so an array is a
header before the fields of a column. Arrays of arrays are not what SQL understands by these words:
of a column of arrays all elements go as one long array, and each row has the bounds of its slice.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecferry.io.pgvector_ddl import escaped
from vecferry.io.pgvector_table import ColumnInfo
from vecferry.io.pgvector_values import NULL, element_oid, field_of, holds_arrays, is_binary
from vecferry.io.pgvector_vectors import FLOAT4_OID, fill, float4_elements, vector_elements

Fields = Sequence[Any]
"""Bytes, or float32 arrays in columns that hold vectors."""

_TEXT, _TEXTS, _INT, _INTS, _BIGINT, _BIGINTS = 25, 1009, 23, 1007, 20, 1016
_HEAD = struct.Struct("!iiIii")
_INT_FIELD, _BIGINT_FIELD = struct.Struct("!ii"), struct.Struct("!iq")
_ARRAY_HEAD = 24
"""Bytes before the first element in the field of an array that is not empty."""


class Binary:
    """A parameter in the binary form of the type `oid`."""

    __slots__ = ("data", "oid")

    def __init__(self, oid: int, data: bytes | memoryview) -> None:
        self.oid, self.data = oid, data


@functools.cache
def binary_dumper() -> Any:
    """What hands a `Binary` to psycopg, as it is."""
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class BinaryDumper(Dumper):
        format = Format.BINARY

        def __init__(self, cls: type, context: Any = None, oid: int = 0) -> None:
            super().__init__(cls, context)
            self.oid = oid

        def get_key(self, obj: Any, how: Any) -> Any:
            return self.cls, obj.oid

        def upgrade(self, obj: Any, how: Any) -> Any:
            return BinaryDumper(self.cls, oid=obj.oid)

        def dump(self, obj: Any) -> Any:
            return obj.data

    return BinaryDumper


def array(oid: int, fields: Fields, count: int | None = None) -> bytes:
    """An array of one dimension; `oid` is the type of its elements, `count` their number."""
    count = len(fields) if count is None else count
    head = _HEAD.pack(1, 1, oid, count, 1) if count else _HEAD.pack(0, 0, oid, 0, 0)[:12]
    return b"".join((head, *fields))


def bigints(values: Sequence[int | None]) -> Binary:
    """An array of whole numbers."""
    fields = [NULL if v is None else _BIGINT_FIELD.pack(8, v) for v in values]
    return Binary(_BIGINTS, array(_BIGINT, fields))


class Columns:
    """How the columns of a table travel. `given` names their parameters as a statement has them.

    Names are ``c0 c1 …`` in the rows of the statement, and so are the keys of `parameters`.
    """

    def __init__(self, columns: Sequence[ColumnInfo]) -> None:
        self._columns = columns
        self.names: list[str] = []
        """The columns of the rows of `unnest`."""
        self.values: list[str] = []
        """What a statement selects for each column of the table, from rows called ``k``."""
        for i, column in enumerate(columns):
            if is_sliced(column):
                self.names += [f"s{i}", f"e{i}"]
                self.values.append(f"(%(c{i})b)[k.s{i}:k.e{i}]")
            else:
                self.names.append(f"c{i}")
                cast = "" if is_binary(column.type) else escaped(f"::{column.type}")
                self.values.append(f"k.c{i}{cast}")

    @property
    def given(self) -> list[str]:
        """The parameters of `unnest`."""
        return [f"%({name})b" for name in self.names]

    def parameters(self, rows: Sequence[Fields]) -> dict[str, Any]:
        """The parameters for these rows, one at least."""
        out: dict[str, Any] = {}
        for place, fields in enumerate(zip(*rows, strict=True)):
            out |= self.column(place, fields)
        return out

    def column(self, place: int, fields: Fields, count: int | None = None) -> dict[str, Any]:
        """The parameters for one column; `count` where fields of bytes are in more pieces."""
        column = self._columns[place]
        arrays = holds_arrays(column)
        if arrays and (column.dimension is None or any(f is NULL for f in fields)):
            fields, arrays = tuple(in_bytes(column, fields)), False
        if arrays:
            return self.vectors(place, len(fields), lambda rows: fill(rows, fields))
        if is_sliced(column):
            return _slices(place, column, fields)
        if is_binary(column.type):
            return {f"c{place}": Binary(column.array_oid, array(column.oid, fields, count))}
        return {f"c{place}": Binary(_TEXTS, array(_TEXT, fields, count))}

    def vectors(self, place: int, count: int, fill: Callable[[np.ndarray], Any]) -> dict[str, Any]:
        """The parameters for a column that holds vectors of one dimension.

        `fill` puts them into an array of shape (count, dimension), of big-endian float32.
        """
        column = self._columns[place]
        n = column.dimension or 0
        if is_sliced(column):
            head = _HEAD.pack(1, 1, FLOAT4_OID, count * n, 1)
            raw, rows = float4_elements(count, n, head)
            out = {f"c{place}": Binary(column.oid, raw), **_bounds(place, count, n)}
        else:
            head = _HEAD.pack(1, 1, column.oid, count, 1)
            raw, rows = vector_elements(count, n, head)
            out = {f"c{place}": Binary(column.array_oid, raw)}
        fill(rows)
        return out


def in_bytes(column: ColumnInfo, fields: Fields) -> list[bytes]:
    """The fields of a column that `holds_arrays`, all in bytes."""
    make = field_of(column)
    return [f if f is NULL else make(f) for f in fields]


def is_sliced(column: ColumnInfo) -> bool:
    """Whether a column is an array in binary."""
    return column.type.array and is_binary(column.type)


def _bounds(place: int, count: int, n: int) -> dict[str, Any]:
    """Where the slices of `count` rows begin and end, each of `n` elements."""
    bounds = np.empty(count, [("length", ">i4"), ("value", ">i4")])
    bounds["length"] = 4
    out = {}
    for name, last in (("s", 1), ("e", n)):
        bounds["value"] = np.arange(last, last + count * n, n)
        data = _HEAD.pack(1, 1, _INT, count, 1) + bounds.tobytes()
        out[f"{name}{place}"] = Binary(_INTS, data)
    return out


def _slices(place: int, column: ColumnInfo, fields: Fields) -> dict[str, Any]:
    parts, starts, ends = [], [], []
    at = 1
    for field in fields:
        if field == NULL:
            starts.append(NULL)
            ends.append(NULL)
            continue
        count = int.from_bytes(field[16:20], "big")  # of an empty array there is no such place
        starts.append(_INT_FIELD.pack(4, at))
        ends.append(_INT_FIELD.pack(4, at + count - 1))
        parts.append(memoryview(field)[_ARRAY_HEAD:])
        at += count
    return {
        f"c{place}": Binary(column.oid, array(element_oid(column.type), parts, at - 1)),
        f"s{place}": Binary(_INTS, array(_INT, starts)),
        f"e{place}": Binary(_INTS, array(_INT, ends)),
    }
