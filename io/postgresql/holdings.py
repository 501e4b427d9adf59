"""The rows of one table, as a sync compares and deletes them.

A row is read in the binary form in which it is written, so that both sides have one form.

Stands apart from `target` because it knows rows and their keys, and no jobs.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from vecferry.errors import JobError
from vecferry.io.postgresql.catalog import ColumnInfo, TableCatalog, TableInfo, quote, table_name
from vecferry.io.postgresql.encode import INT_BYTES, NULL, TEXTS, is_binary, loader
from vecferry.io.postgresql.rows import DELETING, RowEncoder, WrittenColumn
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.sink.store import Record
from vecferry.rows import DELETE, Change
from vecferry.stored import Reconciled, Stored
from vecferry.versions import first_of

ROWS_AT_ONCE = 500
SWEPT_AT_ONCE = 10_000
_HEAD = bytes(4)
"""Stands for the length before a value, which readers of fields pass over."""
_COLLATIONS = """
SELECT a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_collation c
ON c.oid = a.attcollation WHERE a.attrelid = to_regclass(%s) AND a.attname = ANY(%s)
AND NOT c.collisdeterministic"""


class TableHoldings:
    """The rows of a table. What reads them needs the connection of `catalog`."""

    def __init__(self, catalog: TableCatalog, info: TableInfo, settings: WriterSettings) -> None:
        self.keeps_versions = bool(settings.version_column) and catalog.dialect.keeps_versions
        self._catalog, self._info = catalog, info
        self._encoder = RowEncoder(settings, info)
        self._version = settings.version_column if self.keeps_versions else None
        plan = [w for w in self._encoder.plan if w.column.name != settings.version_column]
        self._plan = {w.column.name: w for w in plan}
        self._vectors = [w for w in plan if w.column.is_vector]
        self._at = {w.column.name: i for i, w in enumerate(self._encoder.plan)}
        self._shown = {w.column.name: shower(w.column) for w in plan}
        # The one form of other types is the server's.
        self._compared = [w.column.name for w in plan if is_binary(w.column.type)]
        keys = {c.name for c in self._encoder.keys}
        self.uncompared: Sequence[str] = [
            n for n in self._plan if n not in self._compared and n not in keys
        ]
        self._keys = [self._plan[c.name] for c in self._encoder.keys]
        self._incomparable = _incomparable(catalog, info, self._encoder.keys)

    def pages(self, fields: Sequence[str] | None) -> Iterator[list[Stored]]:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        names = self._compared if fields is None else list(fields)
        wanted = [self._plan[name] for name in names]
        columns = [w.column for w in (*self._keys, *wanted)]
        version = quote(self._version) if self._version else "NULL::bigint"
        selected = ", ".join([version, *map(_selected, columns)])
        statement = f"SELECT {selected} FROM {table_name(self._info)}"
        page: list[Stored] = []
        for row in self._raw(statement):
            page.append(self._stored_row(row, wanted))
            if len(page) >= ROWS_AT_ONCE:
                yield page
                page = []
        if page:
            yield page

    def stored(self, change: Change) -> Stored:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        absent = {
            w.source: np.ones(w.column.dimension or 1, np.float32)
            for w in self._vectors
            if w.source not in change
        }
        record = self._encoder.encode(change.with_columns(absent) if absent else change)
        made, version = record.body
        row = {
            name: made[self._at[name]]
            for name in self._compared
            if self._plan[name].source not in absent
        }
        return self._shaped(self._required(record.key), version, row)

    def key(self, change: Change) -> Hashable:
        """See `vecferry.io.sink.reconcile.Holdings`."""
        return self._required(self._encoder.encode(Change(change, kind=DELETE)).key)

    def removal(self, row: Stored, epoch: int) -> Record:
        """A delete with the last version before `epoch`, where the table keeps versions."""
        key = row.key if isinstance(row.key, tuple) else (row.key,)
        version = max(0, first_of(epoch) - 1) if self._version else None
        return Record(DELETING, row.key, (key, version), 32)

    def sweep(self, epoch: int) -> Reconciled | None:
        """Deletes by one statement for some rows at a time, in the order of the primary key.

        The condition on versions is checked again where another transaction changed a row.
        """
        connection = self._catalog.connection
        kept = deleted = 0
        last: list[str] | None = None
        while True:
            given = [*(last or []), first_of(epoch), first_of(epoch)]
            (row,) = connection.execute(self._sweeping(last is not None), given).fetchall()
            found, gone, last = row
            kept, deleted = kept + found - gone, deleted + gone
            if found < SWEPT_AT_ONCE:
                return Reconciled(deleted=deleted, kept=kept)

    def _sweeping(self, goes_on: bool) -> str:
        keys = [quote(c.name).replace("%", "%%") for c in self._encoder.keys]
        version = quote(self._version or "").replace("%", "%%")
        table = table_name(self._info).replace("%", "%%")
        given = ", ".join(f"%s::text::{c.type}" for c in self._encoder.keys)
        where = f"WHERE ({', '.join(keys)}) > ({given}) " if goes_on else ""
        same = " AND ".join(f"t.{k} = p.{k}" for k in keys)
        back = ", ".join(f"{k} DESC" for k in keys)
        texts = ", ".join(f"{k}::text" for k in keys)
        return (
            f"WITH page AS (SELECT {', '.join(keys)}, {version} FROM {table} {where}"
            f"ORDER BY {', '.join(keys)} LIMIT {SWEPT_AT_ONCE}), "
            f"gone AS (DELETE FROM {table} t USING page p WHERE {same} "
            f"AND (p.{version} IS NULL OR p.{version} < %s) "
            f"AND (t.{version} IS NULL OR t.{version} < %s) RETURNING 1) "
            "SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), "
            f"(SELECT ARRAY[{texts}] FROM page ORDER BY {back} LIMIT 1)"
        )

    def _raw(self, statement: str) -> Iterator[tuple[bytes | None, ...]]:
        """The rows of a statement as they come, each value in its binary form."""
        connection = self._catalog.connection
        with connection.cursor(binary=True) as cursor:
            raw = _raw_loader()
            for oid in {0, 20, 25, *(c.oid for c in self._info.columns)}:
                cursor.adapters.register_loader(oid, raw)
            yield from cursor.stream(statement, binary=True)

    def _stored_row(self, row: tuple[bytes | None, ...], wanted: list[WrittenColumn]) -> Stored:
        version, *values = row
        frames = [NULL if v is None else _HEAD + v for v in values]
        n = len(self._keys)
        keys = [w.read(frame) for w, frame in zip(self._keys, frames[:n], strict=True)]
        key = self._required(keys[0] if len(keys) == 1 else tuple(keys))
        made = frames[n:]
        number = None if version is None else int.from_bytes(version, "big", signed=True)
        return self._shaped(
            key, number, {w.column.name: m for w, m in zip(wanted, made, strict=True)}
        )

    def _shaped(self, key: Hashable, version: int | None, made: dict[str, Any]) -> Stored:
        values: dict[str, Any] = {}
        vectors: dict[str, Any] = {}
        for name, one in made.items():
            into = vectors if self._plan[name].column.is_vector else values
            into[name] = None if one is NULL else self._shown[name](one)
        return Stored(key=key, version=version, values=values, vectors=vectors)

    def _required(self, key: Hashable) -> Hashable:
        """A key in its one form; JobError where the server may take two keys for one."""
        if self._incomparable:
            raise JobError(self._incomparable)
        parts = key if isinstance(key, tuple) else (key,)
        out = [
            part.rstrip(" ") if c.type.name == "character" and isinstance(part, str) else part
            for part, c in zip(parts, self._encoder.keys, strict=True)
        ]
        return tuple(out) if isinstance(key, tuple) else out[0]


def _incomparable(catalog: TableCatalog, info: TableInfo, keys: list[ColumnInfo]) -> str:
    """Why keys of the table can't be compared with those of a source; empty if they can."""
    known = {*INT_BYTES, *TEXTS, "uuid", "boolean", "date"}
    names = [
        c.name for c in keys if c.type.name not in known and not c.type.name.startswith("timestamp")
    ]
    if catalog.connection.info.server_version >= 120000 and catalog.dialect.keeps_versions:
        given = [table_name(info), [c.name for c in keys]]
        names += [name for (name,) in catalog.connection.execute(_COLLATIONS, given).fetchall()]
    if not names:
        return ""
    return (
        f"table {info.name!r}: keys can't be compared with a source, as several texts in "
        f"{names[0]!r} are one to the server: give it another type or collation"
    )


def _selected(column: ColumnInfo) -> str:
    name = quote(column.name)
    return name if is_binary(column.type) else f"{name}::text"


def shower(column: ColumnInfo) -> Callable[[Any], Any]:
    """A function from a field of the column, or a vector itself, to the one form of its value."""
    kind = column.type
    if column.is_vector:
        return _vector_shower(column)
    if not is_binary(kind):
        return lambda frame: frame[4:].decode()
    if kind.name in TEXTS and not kind.array:
        most, padding = kind.limit, " " if kind.name == "character" else ""
        return lambda frame: frame[4:].decode()[:most].rstrip(padding)
    load = loader(kind)
    if kind.name in ("json", "jsonb") and not kind.array:
        skipped = 4 + (kind.name == "jsonb")
        return lambda frame: orjson.loads(frame[skipped:])
    if kind.name == "numeric" and not kind.array:
        return lambda frame: _rounded(load(frame[4:]), kind.limit, kind.scale)

    def show(frame: bytes) -> Any:
        import psycopg

        try:
            value = load(frame[4:])
        except psycopg.DataError:  # a time that Python has not
            return frame[4:]
        return value

    return show


def _vector_shower(column: ColumnInfo) -> Callable[[Any], Any]:
    kind = column.type
    if kind.name in ("vector", "halfvec"):
        form = ">f2" if kind.name == "halfvec" else ">f4"
        inner: Callable[[bytes], Any] = lambda frame: np.frombuffer(frame[8:], form)  # noqa: E731
    else:
        load = loader(kind)
        inner = lambda frame: np.array(load(frame[4:]))  # noqa: E731

    def show(made: Any) -> Any:
        return made if isinstance(made, np.ndarray) else inner(made).astype(np.float32)

    return show


def _rounded(value: decimal.Decimal, limit: int | None, scale: int | None) -> str:
    """A number as its column keeps it, without the zeros behind it."""
    if not value.is_finite():
        return str(value)
    if limit is not None:
        with decimal.localcontext() as context:
            context.prec = max(40, len(value.as_tuple().digits) + limit + abs(scale or 0))
            step = decimal.Decimal(1).scaleb(-(scale or 0))
            value = value.quantize(step, decimal.ROUND_HALF_UP)
    return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"


def _raw_loader() -> Any:
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    class _Raw(Loader):
        format = Format.BINARY

        def load(self, data: Any) -> bytes:
            return bytes(data)

    return _Raw
