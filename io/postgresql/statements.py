"""The statements that write, delete and search rows in PostgreSQL, and their parameters. Pure."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo, escaped, quote, table_name
from vecferry.io.postgresql.encode import (
    FLOAT4_OID,
    NULL,
    element_oid,
    field_of,
    fill,
    float4_elements,
    holds_arrays,
    is_binary,
    vector_elements,
)
from vecferry.io.postgresql.settings import VECTORS

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
        count = int.from_bytes(field[16:20], "big")  # an empty array ends before it
        starts.append(_INT_FIELD.pack(4, at))
        ends.append(_INT_FIELD.pack(4, at + count - 1))
        parts.append(memoryview(field)[_ARRAY_HEAD:])
        at += count
    return {
        f"c{place}": Binary(column.oid, array(element_oid(column.type), parts, at - 1)),
        f"s{place}": Binary(_INTS, array(_INT, starts)),
        f"e{place}": Binary(_INTS, array(_INT, ends)),
    }


class Statements:
    """What is sent to PostgreSQL for each batch.

    Rows come as arrays, one for each column, and go into the table by one statement. `columns` are
    those that are written; `tells_stale` says that it gives the places of rows that it left out.
    """

    def __init__(
        self,
        info: TableInfo,
        columns: Sequence[ColumnInfo],
        *,
        write_mode: str,
        version: str | None,
        parents: Sequence[ColumnInfo] = (),
        number: ColumnInfo | None = None,
    ) -> None:
        self.table = escaped(table_name(info))
        self._columns, self._keys = columns, info.keys
        self._version = _quoted(version) if version else None
        self._version_name = version
        self._mode, self._info = write_mode, info
        self.tells_stale = bool(version) or write_mode == "ignore"
        self.sent = Columns(columns)
        self.insert = self._insert()
        self.delete = self._delete()
        self.undeleted = self._undeleted()
        self.trim = "" if number is None else self._trim(parents, number)

    def parameters(
        self, rows: Sequence[Sequence[bytes]], versions: Sequence[int | None]
    ) -> dict[str, Any]:
        """What `insert` is given for rows, each as fields of the columns, and their versions."""
        given = self.sent.parameters(rows)
        if self._version:
            given["v"] = bigints(versions)
        return given

    def _insert(self) -> str:
        into = [_quoted(c.name) for c in self._columns]
        names, given, values = self.sent.names, self.sent.given, self.sent.values
        if self._version:
            into.append(self._version)
            names, given, values = [*names, "v"], [*given, "%(v)b"], [*values, "k.v"]
        keys = [_quoted(c.name) for c in self._keys]
        text = (
            f"INSERT INTO {self.table} AS t ({', '.join(into)}) SELECT {', '.join(values)} "
            f"FROM unnest({', '.join(given)}) AS k({', '.join(names)}) "
            f"ON CONFLICT ({', '.join(keys)}) {self._resolve()}"
        )
        if not self.tells_stale:
            return text
        at = [i for i, c in enumerate(self._columns) if c.primary]
        written = ", ".join(f"t.{_quoted(self._columns[i].name)} AS c{i}" for i in at)
        same = " AND ".join(f"w.c{i} = {self.sent.values[i]}" for i in at)
        return (
            f"WITH w AS ({text} RETURNING {written}) SELECT k.n "
            f"FROM unnest({', '.join(f'%(c{i})b' for i in at)}) "
            f"WITH ORDINALITY AS k({', '.join(f'c{i}' for i in at)}, n) "
            f"WHERE NOT EXISTS (SELECT 1 FROM w WHERE {same})"
        )

    def _resolve(self) -> str:
        sets = [
            f"{_quoted(c.name)} = excluded.{_quoted(c.name)}"
            for c in self._columns
            if not c.primary
        ]
        if self._mode == "replace":
            written = {c.name for c in self._columns}
            sets += [
                f"{_quoted(c.name)} = DEFAULT"
                for c in self._info.columns
                if c.name not in written and not c.computed and c.name != self._version_name
            ]
        version = self._version
        if version:
            sets.append(f"{version} = excluded.{version}")
        if self._mode == "ignore" or not sets:
            return "DO NOTHING"
        text = f"DO UPDATE SET {', '.join(sets)}"
        if version:
            text += (
                f" WHERE t.{version} IS NULL OR excluded.{version} IS NULL "
                f"OR t.{version} <= excluded.{version}"
            )
        return text

    def _delete(self) -> str:
        """Deletes by key; its parameters are a list of texts for each column of the key."""
        arrays, names, same = self._given()
        text = f"DELETE FROM {self.table} t USING unnest({arrays}) AS k({names}) WHERE {same}"
        if self._version:
            text += f" AND (t.{self._version} IS NULL OR k.v IS NULL OR t.{self._version} <= k.v)"
        return text

    def _trim(self, parents: Sequence[ColumnInfo], number: ColumnInfo) -> str:
        """Deletes chunks of documents from a number on.

        Its parameters are a list of texts for each column of `parents`, the numbers, the versions.
        """
        arrays = [f"%s::text[]::{c.type}[]" for c in parents]
        names = [f"p{i}" for i in range(len(parents))]
        same = [f"t.{_quoted(c.name)} = k.{n}" for c, n in zip(parents, names, strict=True)]
        text = (
            f"DELETE FROM {self.table} t USING unnest({', '.join(arrays)}, %s::bigint[], "
            f"%s::bigint[]) AS k({', '.join(names)}, n, v) WHERE {' AND '.join(same)} "
            f"AND t.{_quoted(number.name)} >= k.n"
        )
        if self._version:
            text += f" AND (t.{self._version} IS NULL OR k.v IS NULL OR t.{self._version} <= k.v)"
        return text

    def _undeleted(self) -> str:
        """The places, from 1 on, of deletes that a newer row has survived."""
        arrays, names, same = self._given()
        return (
            f"SELECT k.n FROM unnest({arrays}) WITH ORDINALITY AS k({names}, n) "
            f"JOIN {self.table} t ON {same} WHERE t.{self._version} > k.v"
        )

    def _given(self) -> tuple[str, str, str]:
        arrays = [f"%s::text[]::{c.type}[]" for c in self._keys]
        names = [f"k{i}" for i in range(len(self._keys))]
        same = " AND ".join(
            f"t.{_quoted(c.name)} = k.{n}" for c, n in zip(self._keys, names, strict=True)
        )
        if self._version:
            arrays.append("%s::bigint[]")
            names.append("v")
        return ", ".join(arrays), ", ".join(names), same


def _quoted(name: str) -> str:
    return escaped(quote(name))


OPERATORS = {"COSINE": "<=>", "IP": "<#>", "L2": "<->"}
SCORES = {"COSINE": "1 - ({})", "IP": "-({})", "L2": "{}"}


def search_statement(info: TableInfo, column: ColumnInfo, metric: str, index: str) -> str:
    """Gives `score` and every column but vectors; its parameters are `query` and `k`, by name.

    `query` is a text: ``[1,2]`` for pgvector's types, else ``{1,2}``. The server chooses whether
    it uses the index.
    """
    others = [escaped(quote(c.name)) for c in info.columns if not c.is_vector]
    table, name = escaped(table_name(info)), escaped(quote(column.name))
    if column.type.name in VECTORS:
        operator, prefix = OPERATORS[metric], escaped(column.prefix)
        if prefix:
            operator = f"OPERATOR({prefix}{operator})"
        distance = f"{name} {operator} %(query)s::{prefix}{column.type.name}"
        score = SCORES[metric].format(distance)
        return (
            f"SELECT ({score})::float8 AS score, {', '.join(others)} FROM {table} "
            f"WHERE {name} IS NOT NULL ORDER BY {distance} LIMIT %(k)s"
        )
    return _exact(table, name, others, metric)


def _exact(table: str, name: str, others: list[str], metric: str) -> str:
    """Reads the whole table: for ``float4[]``, which plain PostgreSQL has no operators for."""
    sums = {
        "COSINE": "sum(u.a::float8 * u.b) / nullif(sqrt(sum(u.a::float8 ^ 2) * sum(u.b ^ 2)), 0)",
        "IP": "sum(u.a::float8 * u.b)",
        "L2": "sqrt(sum((u.a::float8 - u.b) ^ 2))",
    }
    order = "ASC" if metric == "L2" else "DESC"
    return (
        f"SELECT (SELECT {sums[metric]} FROM unnest(t.{name}, %(query)s::float8[]) AS u(a, b)) "
        f"AS score, {', '.join(others)} FROM {table} t WHERE t.{name} IS NOT NULL "
        f"ORDER BY score {order} NULLS LAST LIMIT %(k)s"
    )


def query_text(vector: list[float], column: ColumnInfo) -> str:
    """A vector as the text of its type."""
    numbers = ",".join(map(repr, vector))
    return f"[{numbers}]" if column.type.name in VECTORS else f"{{{numbers}}}"
