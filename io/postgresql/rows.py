"""Rows that are written, none deleted, as parameters of one statement: column by column. Pure.

`BlockEncoder` does for all values of a column at once what `RowEncoder` does value by value. Values
of unusual types are taken one by one. If a value is wrong, the rows go through `RowEncoder`, and it
tells the value at fault.

Apart from `vecferry.io.postgresql.target` because rows are encoded without a connection.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vecferry.errors import PROGRAMMING_ERRORS, TerminalError
from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo
from vecferry.io.postgresql.checks import filled
from vecferry.io.postgresql.encode import (
    INT_BYTES,
    NULL,
    TEXTS,
    acceptor,
    fill_checked,
    holds_arrays,
    loader,
    plain,
)
from vecferry.io.postgresql.settings import PgColumn, WriterSettings
from vecferry.io.postgresql.statements import Columns, bigints, in_bytes
from vecferry.io.sink.store import Block, Record
from vecferry.io.sink.values import bad, checked, faulty, without_parent
from vecferry.rows import DELETE, Change

WRITING, DELETING = "write", "delete"
"""What a record is for. Its body is a row as fields in binary (of a vector the float32 array), or
a key; and the version."""


@dataclasses.dataclass(frozen=True)
class WrittenColumn:
    """A column that is written: from which column of the row, and what makes its field.

    `accept` takes a value, `absent` whether it is missing, not None; both raise TerminalError.
    `read` makes a key of a field.
    """

    column: ColumnInfo
    source: str
    accept: Callable[[Any], Any]
    absent: Callable[[bool], bytes]
    read: Callable[[bytes], Any]


class RowEncoder:
    """Brings changes into the form of one table. `columns` are those written, in order."""

    def __init__(self, settings: WriterSettings, info: TableInfo) -> None:
        into = filled(settings, info)
        by_name = {c.name: c for c in settings.column}
        self.columns = [_sized(c, by_name) for c in info.columns if c.name in into]
        self.keys = [c for c in info.keys if c.name in into]
        self.version = settings.version_column
        # Only a row that sets every column may stand for a delete, or another row, before it.
        written = {settings.version_column, *(c.name for c in self.columns)}
        self._whole = settings.write_mode == "replace" or (
            settings.write_mode == "update"
            and all(c.name in written or c.computed for c in info.columns)
        )
        self.plan: list[WrittenColumn] = []
        for column in self.columns:
            job = by_name.get(column.name)
            metric = (job.metric_type if job else None) or column.metric or "COSINE"
            source = into[column.name]
            accept: Callable[[Any], Any] = (
                checked(column.name, column.dimension, metric)
                if holds_arrays(column)
                else acceptor(column, metric)
            )
            absent = _absent(column, source)
            self.plan.append(WrittenColumn(column, source, accept, absent, _reader(column)))
        self._plan = [(p.source, p.accept, p.absent) for p in self.plan]
        self._key_plan = [
            (into[c.name], acceptor(c, "L2"), _absent(c, into[c.name]), _reader(c))
            for c in self.keys
        ]
        columns = {into[c.name]: c for c in self.columns}
        self._parent_plan = [
            (name, acceptor(columns[name], "L2"), _reader(columns[name]), columns[name])
            for name in settings.parent_key
            if name in columns
        ]
        self._key_at = [self.columns.index(c) for c in self.keys]
        # What a vector takes beyond a byte for each dimension, which is its `len`.
        self._extra = sum(
            (7 if c.type.is_floats else 3) * (c.dimension or 0)
            for c in self.columns
            if holds_arrays(c)
        )
        self._reads = [plan[3] for plan in self._key_plan]
        self._one = self._key_at[0] if len(self._key_at) == 1 else None

    def encode(self, change: Change) -> Record:
        """The record of a change; raises TerminalError for a value that its column can't take."""
        if change.kind == DELETE:
            return self._delete(change)
        get = change.get
        try:
            fields = [
                accept(value)
                if (value := get(source)) is not None
                else accept_none(source not in change)
                for source, accept, accept_none in self._plan
            ]
        except PROGRAMMING_ERRORS as e:
            kinds = [str(c.type) for c in self.columns]
            columns = [(p[0], kind, p[1]) for p, kind in zip(self._plan, kinds, strict=True)]
            raise faulty(columns, change, e) from e
        key: Hashable
        if self._one is not None:
            key = self._reads[0](fields[self._one])
        else:
            key = tuple(
                [read(fields[i]) for read, i in zip(self._reads, self._key_at, strict=True)]
            )
        size = self._extra + sum(map(len, fields))
        # As `Record(…)`, which costs twice as much.
        return tuple.__new__(Record, (WRITING, key, (fields, change.version), size, self._whole))

    def parent(self, change: Change) -> tuple[Any, ...]:
        """What names the document of a change; raises TerminalError."""
        found = []
        for name, accept, read, column in self._parent_plan:
            value = change.get(name)
            if value is None:
                raise without_parent(column.name, name, change)
            found.append(read(accept(value)))
        return tuple(found)

    def _delete(self, change: Change) -> Record:
        found = []
        for source, accept, accept_none, read in self._key_plan:
            value = change.get(source)
            frame = accept_none(source not in change) if value is None else accept(value)
            found.append(read(frame))
        key = found[0] if self._one is not None else tuple(found)
        return Record(DELETING, key, (tuple(found), change.version), 32)

    def copied(self, records: Sequence[Record], head: bytes, tail: bytes) -> bytes:
        """Rows as binary COPY has them, each between `head` and `tail`."""
        columns: list[Sequence[bytes]] = []
        rows = [r.body[0] for r in records]
        for column, fields in zip(self.columns, zip(*rows, strict=True), strict=True):
            columns.append(in_bytes(column, fields) if holds_arrays(column) else fields)
        lines = [b"".join((head, *row, tail)) for row in zip(*columns, strict=True)]
        return b"".join(lines)

    def shown(self, change: Change) -> dict[str, Any]:
        """What the server would hold, by name; raises TerminalError as `encode` does."""
        record = self.encode(change)
        if record.op == DELETING:
            return dict(zip([c.name for c in self.keys], record.body[0], strict=True))
        fields = record.body[0]
        return {
            w.column.name: plain(w.column, made, change.get(w.source))
            for w, made in zip(self.plan, fields, strict=True)
        }


def _sized(column: ColumnInfo, by_name: Mapping[str, PgColumn]) -> ColumnInfo:
    """A column; where it has no dimension of its own, with the one that the job gives it."""
    job = by_name.get(column.name)
    if job and job.dimensions and column.dimension is None:
        return dataclasses.replace(column, dimension=job.dimensions)
    return column


def _absent(column: ColumnInfo, source: str) -> Callable[[bool], bytes]:
    """A function for a row whose value is None (False) or missing (True)."""
    name = column.name

    def accept(missing: bool) -> bytes:
        if missing:
            raise bad(name, "missing-column", f"the row has no column {source!r}")
        if column.primary:
            raise bad(name, "null-key", f"the primary key, column {source!r}, is null")
        if column.not_null:
            raise bad(name, "null-value", f"column {source!r} is null and the column NOT NULL")
        return NULL

    return accept


def _reader(column: ColumnInfo) -> Callable[[bytes], Any]:
    """A function from a key's field back to a value that people read and the server casts."""
    kind = column.type
    if kind.name in INT_BYTES:
        return lambda frame: int.from_bytes(frame[4:], "big", signed=True)
    if kind.name in TEXTS:
        return lambda frame: frame[4:].decode()
    if kind.name == "uuid":
        return lambda frame: _dashed(frame[4:].hex())
    if kind.name == "boolean":
        return lambda frame: frame[4:] == b"\1"
    if kind.name == "date" or kind.name.startswith("timestamp"):
        return functools.partial(_moment, column, loader(kind))
    return lambda frame: frame[4:].decode()  # travels as text


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _moment(column: ColumnInfo, load: Callable[[bytes], Any], frame: bytes) -> str:
    from psycopg import DataError

    try:
        return str(load(frame[4:]).isoformat())
    except DataError:
        what = "the key is a time beyond the year 9999, once it is in UTC"
        raise bad(column.name, "out-of-range", what) from None


def key_texts(records: list[Record]) -> list[list[str]]:
    """The keys of deletes, a list of texts for each column of the key."""
    return texts_of([r.body[0] for r in records])


def texts_of(rows: Sequence[Sequence[Any]]) -> list[list[str]]:
    """Values of keys, a list of texts for each column."""
    return [[_text(v) for v in column] for column in zip(*rows, strict=True)]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
