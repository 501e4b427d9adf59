"""Reads files of columns: by row group, by stripe, and of them only the columns asked for.

A split has the row groups whose share of the file begins in its bytes. Of a parquet file a few
pages and a batch of rows are held at once, of an orc file one stripe.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import pyarrow as pa

from vecferry.errors import PROGRAMMING_ERRORS, FatalError, near, own_fault, shorten
from vecferry.io.common.arrow import column_values, value_converter
from vecferry.io.common.types import ConvertValue
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.base import ColumnarSpec, FileSplit, Opener
from vecferry.io.files.formats.records import Items, row_maker, wrong_type
from vecferry.io.files.formats.signatures import HEAD_BYTES, require_format
from vecferry.io.files.formats.unpack import Damaged
from vecferry.rows import Change, Reject, Row, changes, decode_value, encode_value
from vecferry.steps import StepContext


class Table(Protocol):
    """A file of columns that is cut into units: row groups, or stripes.

    `names` are those of its columns. Timestamps of the `doubtful` ones may come as other times.
    """

    names: list[str]
    units: int
    doubtful: frozenset[str]

    def rows(self, unit: int) -> int:
        """How many rows the unit has; 0 where that is not known before it has been read."""

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """The unit's rows as Arrow record batches of the columns `names`; None: of all."""

    def close(self) -> None:
        """Lets go of what was made for the table; its file stays open."""


ROWS_AT_ONCE = 256
"""So few rows are made at once that their memory is used again while it is hot."""


_log = logging.getLogger(__name__)
_OVERFLOW = (
    "an orc file has timestamps. This version of pyarrow gives a wrong time for each one outside "
    "the years 1677 to 2262. If the files hold such times, install pyarrow 25 or later"
)

UNREADABLE = "$unreadable"
"""In a reject, instead of a value that the file's library could not read: why."""


@dataclass(frozen=True, slots=True)
class _Column:
    label: str
    index: int
    field: str
    convert: ConvertValue | None


class ColumnarFiles:
    """The formats of columns; see `vecferry.io.files.formats.base.FileReader`.

    The origin of a row is ``path:group/row``: the row group or stripe and the row in it, from 0.
    """

    def __init__(self, spec: ColumnarSpec, context: StepContext, opener: Opener) -> None:
        self.spec, self.context, self._open = spec, context, opener
        self._numbers = spec.numbers

    def check(self, path: str, raw: object) -> None:
        """Reads the file's footer; FatalError where it lacks a column of the job."""
        with closing(self._table(raw)) as table:
            self._columns(path, table)

    def batches(self, split: FileSplit, raw: object) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of a few rows at a time; their bytes are a share of the file."""
        with closing(self._table(raw)) as table:
            yield from self._batches(split, table)

    def _batches(self, split: FileSplit, table: Table) -> Iterator[tuple[Items, int]]:
        columns = self._columns(split.path, table)
        if table.doubtful.intersection(c.field for c in columns):
            self.context.scope.note_once(_log, self.context.step, _OVERFLOW)
        names = sorted({c.field for c in columns}) if not _twice(table.names) else None
        end = split.size if split.end is None else split.end
        borders = [i * split.size // table.units for i in range(table.units)] or [split.size]
        borders.append(split.size)
        if not table.units and split.start == 0:
            yield [], split.size
        number = 1
        for unit in range(table.units):
            if not split.start <= borders[unit] < end:
                continue
            done, counted = 0, 0
            share = borders[unit + 1] - borders[unit]
            for batch in self._read(table, unit, names):
                items = self._items(split.path, unit, done, batch, columns)
                self._count(items, number)
                number += len(items)
                done += len(items)
                size = share * done // max(table.rows(unit), done) - counted
                counted += size
                yield items, size
            yield [], share - counted

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier, or a reject again.

        A column by its index and the number of the row need the file, which must still be there.
        """
        path, _, place = origin.rpartition(":")
        unit, _, row = place.partition("/")
        found = {k: _kept(v) for k, v in orjson.loads(raw).items()}
        numbers: Row = {}
        if self._numbers or any(c.index is not None for c in self.spec.columns):
            with self._open(path) as file, closing(self._table(file)) as table:
                columns = self._columns(path, table)
                if self._numbers:
                    above = sum(self._rows_of(table, u) for u in range(int(unit)))
                    numbers = dict.fromkeys(self._numbers, above + int(row) + 1)
        else:
            wanted = [c for c in self.spec.columns if c.in_file]
            columns = [
                _Column(c.label, 0, c.name, value_converter(c.type, c.format)) for c in wanted
            ] or [_Column(k, 0, k, None) for k in found]
        values: Row = {}
        for c in columns:
            value = found.get(c.field)
            try:
                if c.convert and value is not None and not isinstance(value, UnfitValue):
                    value = c.convert(value)
                values[c.label] = value
            except ValueError as e:
                values[c.label] = UnfitValue(str(e), "wrong-type")
        return self._item(path, int(unit), int(row), {**values, **numbers}, lambda: found)

    def _rows_of(self, table: Table, unit: int) -> int:
        return table.rows(unit) or sum(b.num_rows for b in self._read(table, unit, []))

    def _table(self, raw: Any) -> Table:
        try:
            return self.spec.table(raw, self.context)
        except (pa.ArrowException, OSError, ValueError) as e:
            if not isinstance(e, OSError) or e.errno is None:
                self._name_other(raw)
            raise self._damaged(e) from e

    def _name_other(self, raw: Any) -> None:
        """Damaged where the file is known as one of another format."""
        try:
            raw.seek(0)
            head = raw.read(HEAD_BYTES)
        except (OSError, ValueError):
            return
        require_format(head, self.spec.name)

    def _read(self, table: Table, unit: int, names: list[str] | None) -> Iterator[Any]:
        try:
            for batch in table.batches(unit, names):
                for at in range(0, batch.num_rows, ROWS_AT_ONCE):
                    yield batch.slice(at, ROWS_AT_ONCE)
        except (pa.ArrowException, OSError, ValueError) as e:
            raise self._damaged(e) from e

    def _damaged(self, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        if "nanosecond resolution" in str(error):
            return Damaged(
                "has a timestamp outside the years 1677 to 2262 of pyarrow's orc "
                f"({shorten(error)}); leave its column out, or write the file as parquet"
            )
        return Damaged(f"is not a sound {self.spec.name} file ({shorten(error)}); write it anew")

    def _columns(self, path: str, table: Table) -> list[_Column]:
        where = f"step {self.context.step!r}: {path}"
        listed = shorten(", ".join(table.names))
        if not self.spec.columns:
            if twice := _twice(table.names):
                raise FatalError(
                    f"{where} has the column {twice!r} twice ({listed}); "
                    "take columns by their index"
                )
            return [_Column(n, i, n, None) for i, n in enumerate(table.names)]
        columns = []
        for c in self.spec.columns:
            if not c.in_file:
                continue
            if c.index is not None and c.index >= len(table.names):
                raise FatalError(
                    f"{where} has {len(table.names)} columns ({listed}), so there is none of "
                    f"the index {c.index}; they count from 0"
                )
            if c.index is None and c.name not in table.names:
                raise FatalError(
                    f"{where} has no column {c.name!r}{near(c.name, table.names)}; "
                    f"it has {listed}; correct the name"
                )
            index = table.names.index(c.name) if c.index is None else c.index
            convert = value_converter(c.type, c.format)
            columns.append(_Column(c.label, index, table.names[index], convert))
        return columns

    def _items(self, path: str, unit: int, first: int, batch: Any, columns: list[_Column]) -> Items:
        names = batch.schema.names
        alike = len(set(names)) < len(names)
        data: dict[str, list[Any]] = {}
        any_unfit = False
        for c in columns:
            column = batch.column(c.index if alike else names.index(c.field))
            try:
                data[c.label], unfit = column_values(column, c.convert)
            except PROGRAMMING_ERRORS as e:
                raise own_fault(f"{path}: column {c.label!r} of type {column.type}", e) from e
            any_unfit = any_unfit or unfit
        rows = self._rows(path, batch.num_rows, data)
        if not any_unfit:
            places = range(first, first + len(rows))
            return changes(rows, f"{path}:{unit}/", places)  # type: ignore[return-value]

        def raw(i: int) -> Row:
            cells = (column.slice(i, 1) for column in batch.columns)
            return {n: column_values(c, None)[0][0] for n, c in zip(names, cells, strict=True)}

        return [
            self._item(path, unit, first + i, row, functools.partial(raw, i))
            for i, row in enumerate(rows)
        ]

    def _rows(self, path: str, count: int, data: dict[str, list[Any]]) -> list[Row]:
        fixed = self.spec.constants(path)
        if not data:
            return [fixed] * count
        for label, value in fixed.items():
            data[label] = [value] * count
        return list(map(row_maker(tuple(data)), *data.values()))

    def _item(self, path: str, unit: int, row: int, values: Row, raw: Any) -> Change | Reject:
        origin = f"{path}:{unit}/{row}"
        bad = next(((k, v) for k, v in values.items() if isinstance(v, UnfitValue)), None)
        if bad is None:
            return Change({**self.spec.constants(path), **values}, origin=origin)
        error = wrong_type(bad[0], ValueError(bad[1].message))
        kept = {k: _shown(v) for k, v in raw().items()}
        text = orjson.dumps(kept).decode()
        message = f"{path}, {self.spec.unit} {unit}, row {row}: {error}"
        return self.context.reject(error.reason, message, raw=text, origin=origin)

    def _count(self, items: Items, number: int) -> None:
        if self._numbers:
            for n, item in enumerate(items, number):
                if isinstance(item, Change):
                    item.update(dict.fromkeys(self._numbers, n))


def _twice(names: list[str]) -> str:
    """A name that several columns have, else an empty text."""
    return next((n for n in names if names.count(n) > 1), "")


def _shown(value: Any) -> Any:
    return {UNREADABLE: value.message} if isinstance(value, UnfitValue) else encode_value(value)


def _kept(value: Any) -> Any:
    """What `_shown` was given: a value that could not be read is still none in a replay."""
    if isinstance(value, dict) and list(value) == [UNREADABLE]:
        return UnfitValue(str(value[UNREADABLE]), "wrong-type")
    return decode_value(value)
