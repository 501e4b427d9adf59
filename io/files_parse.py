"""Lines of a file to rows: JSON lines, whole lines, and fields between delimiters.

A parser is made for one split of one file. What it can't take becomes a reject with the text of the
record, so that a replay can read it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson

from vecferry.io.files_settings import FilesSettings
from vecferry.io.files_types import Convert
from vecferry.rows import INSERT, Change, Reject, Row
from vecferry.steps import StepContext

FEW_LINES = 32

Items = list[Change | Reject]


class RowError(Exception):
    """A record that is no row: the reason of the reject and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Parser(Protocol):
    """Takes lines in order, each with its line feed; gives rows and rejects.

    It is best fed `lines_at_once`: few enough that their memory is used again while it is hot.
    """

    lines_at_once: int

    def feed(self, lines: Iterable[bytes], at: int) -> Items:
        """The rows of adjoining lines, the first of which begins at byte `at`."""

    def finish(self) -> Items:
        """What waits for lines that won't come."""


def constants(settings: FilesSettings) -> Row:
    """The columns that do not come from the file."""
    return {c.label: c.constant for c in settings.column if c.value is not None}


class Rejects:
    """Makes the rejects of one file."""

    def __init__(self, context: StepContext, path: str, encoding: str) -> None:
        self.context, self.path, self.encoding = context, path, encoding

    def make(self, reason: str, message: str, raw: bytes, at: int) -> Reject:
        """A reject of the record `raw` at byte `at`; text where it is valid, bytes where not."""
        raw = raw.rstrip(b"\r\n")
        try:
            text: str | bytes = raw.decode(self.encoding)
        except UnicodeDecodeError:
            text = raw
        where = f"{self.path}, byte {at}: {message}"
        return self.context.reject(reason, where, raw=text, origin=f"{self.path}:{at}")

    def undecodable(self, error: UnicodeDecodeError, raw: bytes, at: int) -> Reject:
        """The reject of a record that is not in the encoding of the job."""
        message = (
            f"byte {error.start} of the line is not {self.encoding} ({error.reason}); "
            "correct the file, or set the step's `encoding`"
        )
        return self.make("invalid-encoding", message, raw, at)


class JsonLines:
    """One JSON object a line; blank lines are passed over and not counted."""

    lines_at_once = FEW_LINES

    def __init__(self, settings: FilesSettings, rejects: Rejects) -> None:
        self._rejects, self._prefix = rejects, f"{rejects.path}:"
        self._encoding = None if settings.encoding == "utf-8" else settings.encoding
        self._constants = constants(settings)
        self._columns = [
            (c.label, c.converter("jsonl")) for c in settings.column if c.value is None
        ]
        self._fill: Callable[[Change, Row], object] = self._fill_typed
        if not settings.column:
            self._fill = Change.update
        elif not any(convert for _, convert in self._columns):
            self._fill = self._fill_untyped

    def feed(self, lines: Iterable[bytes], at: int) -> Items:
        """The rows of `lines`; the hot loop of the file reader."""
        items: Items = []
        add, loads, new, prefix = items.append, orjson.loads, Change.__new__, self._prefix
        encoding, fill = self._encoding, self._fill
        for line in lines:
            try:
                value = loads(line if encoding is None else line.decode(encoding))
                if type(value) is not dict:
                    raise RowError("not-an-object", _not_an_object(value))
                # `Change(...)` itself takes twice as long as these lines.
                change = new(Change)
                fill(change, value)
                change.kind = INSERT
                change.version = None
                change.origin = f"{prefix}{at}"
                add(change)
            except (ValueError, RowError) as e:
                if line.strip():
                    add(self._reject(e, line, at))
            at += len(line)
        return items

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []

    def _fill_untyped(self, change: Change, value: Row) -> None:
        if self._constants:
            change.update(self._constants)
        get = value.get
        for name, _ in self._columns:
            change[name] = get(name)

    def _fill_typed(self, change: Change, value: Row) -> None:
        if self._constants:
            change.update(self._constants)
        get = value.get
        for name, convert in self._columns:
            found = get(name)
            if found is not None and convert is not None:
                try:
                    found = convert(found)
                except ValueError as e:
                    raise _wrong_type(name, e) from e
            change[name] = found

    def _reject(self, error: Exception, line: bytes, at: int) -> Reject:
        if isinstance(error, RowError):
            return self._rejects.make(error.reason, str(error), line, at)
        try:
            line.decode(self._encoding or "utf-8")
        except UnicodeDecodeError as e:
            return self._rejects.undecodable(e, line, at)
        message = f"the line is not JSON: {error}"
        return self._rejects.make("invalid-json", message, line, at)


class WholeLines:
    """Each line is one text value; in JSON lines blank ones are passed over and not counted."""

    lines_at_once = FEW_LINES

    def __init__(self, settings: FilesSettings, rejects: Rejects) -> None:
        column = next(c for c in settings.column if c.index is not None)
        self._name, self._rejects, self._prefix = column.label, rejects, f"{rejects.path}:"
        self._encoding = settings.encoding
        self._null = settings.null_format if settings.file_format == "text" else None
        self._constants = constants(settings)
        self._skip_blank = settings.file_format == "jsonl"

    def feed(self, lines: Iterable[bytes], at: int) -> Items:
        """The rows of `lines`, a carriage return at the end left out."""
        items: Items = []
        add, new, prefix, encoding = items.append, Change.__new__, self._prefix, self._encoding
        name, null, skip_blank, constant = self._name, self._null, self._skip_blank, self._constants
        for line in lines:
            body = line.rstrip(b"\r\n")
            try:
                text = body.decode(encoding)
            except UnicodeDecodeError as e:
                add(self._rejects.undecodable(e, line, at))
            else:
                if not skip_blank or (body and not body.isspace()):
                    change = new(Change)
                    if constant:
                        change.update(constant)
                    change[name] = None if text == null else text
                    change.kind = INSERT
                    change.version = None
                    change.origin = f"{prefix}{at}"
                    add(change)
            at += len(line)
        return items

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []


class FieldsToRow:
    """Puts the fields of a record under the names of the columns, typed."""

    def __init__(self, settings: FilesSettings, header: Sequence[str] | None) -> None:
        self._null = settings.null_format
        self._names = list(header or []) if not settings.column else []
        self._all = not settings.column
        self._constants = constants(settings)
        self._columns: list[tuple[str, int, Convert | None]] = []
        for column in settings.column:
            if column.value is None:
                index = column.index
                if index is None:
                    index = list(header or []).index(column.name)
                convert = column.converter(settings.file_format)
                self._columns.append((column.label, index, convert))

    def __call__(self, fields: list[str]) -> Row:
        """The row of the fields; RowError where one is missing, left over or of a wrong type."""
        null = self._null
        if self._all:
            if len(fields) != len(self._names):
                raise RowError(*_wrong_count(len(fields), len(self._names)))
            values = [None if f == null else f for f in fields] if null in fields else fields
            return dict(zip(self._names, values, strict=True))
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
            raise _wrong_type(name, e) from e
        return row


class Fields:
    """A record a line, its fields found by `split`."""

    lines_at_once = FEW_LINES

    def __init__(
        self,
        to_row: FieldsToRow,
        rejects: Rejects,
        split: Callable[[str], list[str]],
        *,
        skip_blank: bool = False,
    ) -> None:
        self._to_row, self._rejects, self._split = to_row, rejects, split
        self._skip_blank, self._prefix = skip_blank, f"{rejects.path}:"

    def feed(self, lines: Iterable[bytes], at: int) -> Items:
        """The rows of `lines`."""
        items: Items = []
        encoding, split = self._rejects.encoding, self._split
        for line in lines:
            try:
                text = line.rstrip(b"\r\n").decode(encoding)
                if text or not self._skip_blank:
                    items.append(self.row(split(text), at))
            except UnicodeDecodeError as e:
                items.append(self._rejects.undecodable(e, line, at))
            except RowError as e:
                items.append(self._rejects.make(e.reason, str(e), line, at))
            at += len(line)
        return items

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []

    def row(self, fields: list[str], at: int) -> Change:
        """The row of the fields of the record at byte `at`; RowError where they are no row."""
        change = Change.__new__(Change)
        change.update(self._to_row(fields))
        change.kind = INSERT
        change.version = None
        change.origin = f"{self._prefix}{at}"
        return change


def _wrong_type(name: str, error: ValueError) -> RowError:
    return RowError("wrong-type", f"column {name!r}: {error}")


def _wrong_count(found: int, expected: int) -> tuple[str, str]:
    reason = "missing-column" if found < expected else "too-many-columns"
    return reason, f"the record has {found} fields, the header line {expected}"


def _not_an_object(value: Any) -> str:
    kind = {list: "an array", str: "a string", bool: "a boolean"}.get(type(value))
    kind = kind or ("null" if value is None else "a number")
    return f'the line is JSON, but {kind} and no object ({{"name": value, …}})'
