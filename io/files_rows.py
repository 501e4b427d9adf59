"""What a record holds to a row: the columns of the job, named and typed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from typing import Any

from vecferry.io.files_quick import row_maker
from vecferry.io.files_settings import FilesSettings
from vecferry.io.files_types import Convert
from vecferry.rows import Row


class RowError(Exception):
    """A record that is no row: the reason of the reject and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def constants(settings: FilesSettings, path: str) -> Row:
    """The columns that are the same in each row of the file at `path`."""
    names = {c.label: path for c in settings.column if c.source == "fileName"}
    return {c.label: c.constant for c in settings.column if c.value is not None} | names


def object_to_row(settings: FilesSettings, path: str) -> Callable[[Row], Row] | None:
    """What makes a row of a JSON object, and raises RowError; None: the object is the row."""
    if not settings.column:
        return None
    fixed = constants(settings, path)
    columns = [(c.label, c.converter("jsonl")) for c in settings.column if c.in_file]
    names = [name for name, _ in columns]

    def untyped(value: Row) -> Row:
        get = value.get
        row = fixed.copy()
        for name in names:
            row[name] = get(name)
        return row

    def typed(value: Row) -> Row:
        get = value.get
        row = fixed.copy()
        for name, convert in columns:
            found = get(name)
            if found is not None and convert is not None:
                try:
                    found = convert(found)
                except ValueError as e:
                    raise wrong_type(name, e) from e
            row[name] = found
        return row

    return typed if any(convert for _, convert in columns) else untyped


class FieldsToRow:
    """Puts the fields of a record under the names of the columns, typed."""

    def __init__(self, settings: FilesSettings, header: Sequence[str] | None, path: str) -> None:
        self._null = settings.null_format
        self._names = list(header or []) if not settings.column else []
        self._all = not settings.column
        self._make = row_maker(tuple(self._names))
        self._constants = constants(settings, path)
        self._columns: list[tuple[str, int, Convert | None]] = []
        self._most = len(self._names)
        for column in settings.column:
            if column.in_file:
                index = column.index
                if index is None:
                    index = list(header or []).index(column.name)
                    self._most = len(header or [])
                convert = column.converter(settings.file_format)
                self._columns.append((column.label, index, convert))

    @property
    def exactly(self) -> int:
        """How many fields a record has by its header; 0 where no column is found by a name."""
        return self._most

    def plan(self) -> tuple[Row, list[tuple[str, int, Convert | None]]]:
        """The columns that are the same in each row; label, field and type of the others."""
        every: list[tuple[str, int, Convert | None]] = [
            (n, i, None) for i, n in enumerate(self._names)
        ]
        return self._constants, every if self._all else self._columns

    def many(self, records: list[list[str]]) -> Iterable[Row]:
        """The rows of the fields of records; RowError, when its row is asked for, where one is
        none.
        """
        count, null = len(self._names), self._null
        if not self._all or [1 for r in records if len(r) != count or null in r]:
            return map(self, records)
        return starmap(self._make, records)

    def __call__(self, fields: list[str]) -> Row:
        """The row of the fields; RowError where one is missing, left over or of a wrong type."""
        null = self._null
        if self._all:
            if len(fields) != len(self._names):
                raise RowError(*_wrong_count(len(fields), len(self._names)))
            values = [None if f == null else f for f in fields] if null in fields else fields
            return self._make(*values)
        if self._most and len(fields) > self._most:  # at a delimiter that belongs to a text
            raise RowError(*_wrong_count(len(fields), self._most))
        row = self._constants.copy()
        name = ""
        try:
            for name, index, convert in self._columns:
                field = fields[index]
                if field == null:
                    row[name] = None
                else:
                    row[name] = convert(field) if convert else field
        except IndexError:
            needed = next(i for n, i, _ in self._columns if n == name)
            message = f"column {name!r} is field {needed} (from 0), but there are {len(fields)}"
            raise RowError("missing-column", message) from None
        except ValueError as e:
            raise wrong_type(name, e) from e
        return row


def wrong_type(name: str, error: ValueError) -> RowError:
    """A value of the column `name` does not fit its type."""
    return RowError("wrong-type", f"column {name!r}: {error}")


def no_object(value: Any, what: str) -> RowError:
    """The record, called `what`, is JSON but no object."""
    kind = {list: "an array", str: "a string", bool: "a boolean"}.get(type(value))
    kind = kind or ("null" if value is None else "a number")
    return RowError(
        "not-an-object", f'{what} is JSON, but {kind} and no object ({{"name": value, …}})'
    )


def plain_numbers(value: Any) -> Any:
    """A parsed JSON value with its numbers as JSON lines have them: whole ones exact, or float.

    Raises ValueError for a number that a float can't hold.
    """
    if isinstance(value, dict):
        return {k: plain_numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain_numbers(v) for v in value]
    if isinstance(value, str | int) or value is None:
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a number of it is out of range: {str(value)[:40]}")
    return number


def _wrong_count(found: int, expected: int) -> tuple[str, str]:
    reason = "missing-column" if found < expected else "too-many-columns"
    return reason, f"the record has {found} fields, the header line {expected}"
