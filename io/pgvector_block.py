"""Rows that are written, none deleted, as parameters of one statement: column by column. Pure.

What `RowEncoder` does value by value is done here for all values of a column at once, where they
are of the usual types, and one by one where not. Where a value is wrong, nobody is told which: the
rows go through `RowEncoder` then, which knows.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vecferry.errors import TerminalError
from vecferry.io.pgvector_batch import Columns, bigints
from vecferry.io.pgvector_rows import RowEncoder, WrittenColumn
from vecferry.io.pgvector_scalars import INT_BYTES, TEXTS
from vecferry.io.pgvector_table import ColumnInfo
from vecferry.io.pgvector_values import NULL, holds_arrays
from vecferry.io.pgvector_vectors import fill_checked
from vecferry.io.sink_store import Block
from vecferry.rows import DELETE, Change

_length = struct.Struct("!i").pack

Values = list[Any]
Packed = tuple[dict[str, Any], Iterable[Any]]
"""The parameters of a column, and its values as keys."""


class BlockEncoder:
    """Brings many changes at once into the form of one table. `sent` is how its columns travel."""

    def __init__(self, encoder: RowEncoder, sent: Columns) -> None:
        self._versioned = bool(encoder.version)
        plan = [(column.source, _packer(i, column, sent)) for i, column in enumerate(encoder.plan)]
        keys = [encoder.columns.index(c) for c in encoder.keys]
        self._keys = [plan[i] for i in keys]
        self._others = [step for i, step in enumerate(plan) if i not in keys]

    def encode(self, changes: list[Change]) -> Block | None:
        """The changes as a block whose body are a statement's parameters.

        None where one is a delete or has a wrong value, or where two have one key.
        """
        if DELETE in {c.kind for c in changes}:
            return None
        try:
            given, keys = self._given(changes)
        except (KeyError, TerminalError):
            return None
        if given is None:
            return None
        if self._versioned:
            given["v"] = bigints([c.version for c in changes])
        return Block(changes, keys, given, sum(len(p.data) for p in given.values()))

    def _given(self, changes: list[Change]) -> tuple[dict[str, Any] | None, set[Any]]:
        given: dict[str, Any] = {}
        parts = []
        for source, pack in self._keys:
            packed, part = pack([c[source] for c in changes])
            given |= packed
            parts.append(part)
        keys = set(parts[0] if len(parts) == 1 else zip(*parts, strict=True))
        if len(keys) < len(changes):
            return None, keys
        for source, pack in self._others:
            given |= pack([c[source] for c in changes])[0]
        return given, keys


def _packer(place: int, written: WrittenColumn, sent: Columns) -> Callable[[Values], Packed]:
    """A function from a column's values to its parameters; TerminalError where one is wrong."""
    column = written.column
    one_by_one = functools.partial(_one_by_one, place, written, sent)
    if holds_arrays(column) and column.dimension:
        usual: Callable[[Values], Packed] = functools.partial(_vectors, place, sent)
    elif column.type.name in TEXTS and not column.type.array:
        usual = functools.partial(_texts, place, column, sent)
    elif column.type.name in INT_BYTES and not column.type.array:
        usual = functools.partial(_integers, place, column, sent)
    else:
        return one_by_one

    def pack(values: Values) -> Packed:
        try:
            return usual(values)
        except (ValueError, OverflowError):  # null, of another type, or wrong
            return one_by_one(values)

    return pack


def _one_by_one(place: int, written: WrittenColumn, sent: Columns, values: Values) -> Packed:
    accept = written.accept
    fields = [written.absent(False) if v is None else accept(v) for v in values]
    return sent.column(place, fields), map(written.read, fields) if written.column.primary else ()


# Those that follow raise ValueError or OverflowError where not all values are as usual.


def _vectors(place: int, sent: Columns, values: Values) -> Packed:
    return sent.vectors(place, len(values), lambda rows: fill_checked(rows, values)), ()


def _texts(place: int, column: ColumnInfo, sent: Columns, values: Values) -> Packed:
    most = column.type.limit
    if not all_are(str, values) or (most is not None and max(map(len, values)) > most):
        raise ValueError
    data = list(map(str.encode, values))  # a UnicodeEncodeError is a ValueError
    pieces = [NULL] * (2 * len(data))
    pieces[::2] = map(_length, map(len, data))
    pieces[1::2] = data
    if "\0" in "".join(values):
        raise ValueError
    return sent.column(place, pieces, len(data)), values


def _integers(place: int, column: ColumnInfo, sent: Columns, values: Values) -> Packed:
    size = INT_BYTES[column.type.name]
    if not all_are(int, values):
        raise ValueError
    cells = np.empty(len(values), [("length", ">i4"), ("value", f">i{size}")])
    cells["length"], cells["value"] = size, np.array(values, f"i{size}")  # checks the range
    return sent.column(place, [cells.tobytes()], len(values)), values


def all_are(kind: type, values: Sequence[Any]) -> bool:
    """Whether all values are of this very type."""
    return list(map(type, values)).count(kind) == len(values)
