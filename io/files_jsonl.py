"""JSON lines to rows, many lines at once where all of them are good."""

from __future__ import annotations

import io
import secrets

import orjson

from vecferry.io.files_parse import AtOnce, Items, Rejects
from vecferry.io.files_quick import Patience, begins
from vecferry.io.files_rows import RowError, no_object, object_to_row
from vecferry.io.files_settings import FilesSettings
from vecferry.rows import INSERT, Change, Reject, Row, bare, changes

LONG_LINE = 400
"""Lines of more bytes than this gain nothing from being parsed together."""

_NUMBER = 10**8 + secrets.randbelow(10**8)
_BETWEEN = b",%d," % _NUMBER
_OBJECTS = {dict}


class JsonLines(AtOnce):
    """One JSON object a line; blank lines are passed over and not counted."""

    def __init__(self, settings: FilesSettings, rejects: Rejects) -> None:
        self._rejects, self._prefix = rejects, f"{rejects.path}:"
        self._encoding = None if settings.encoding == "utf-8" else settings.encoding
        self._to_row = object_to_row(settings, rejects.path)
        self._patience = Patience()

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`; the hot loop of the file reader."""
        if self._patience.tries():
            try:
                items: Items = self._all_at_once(lines, at)  # type: ignore[assignment]
                self._patience.passed()
                return items
            except (ValueError, RowError):
                self._patience.failed()
        return self._one_by_one(lines, at)

    def _all_at_once(self, lines: bytes, at: int) -> list[Change]:
        """The rows of lines that are all good; ValueError or RowError where any is not."""
        if lines.find(b"\n", 0, LONG_LINE) < 0:
            return self._each(lines, at)
        encoding, places = self._encoding, begins(lines, at)
        count = len(places) - lines.endswith(b"\n")
        rows = _joined(lines if encoding is None else lines.decode(encoding).encode(), count)
        if self._to_row is not None:
            rows = list(map(self._to_row, rows))
        return changes(rows, self._prefix, places)

    def _each(self, lines: bytes, at: int) -> list[Change]:
        """The rows of long lines, each finished while its memory is hot."""
        made: list[Change] = []
        loads = orjson.loads if self._encoding is None and self._to_row is None else self._row
        new, add, prefix = bare, made.append, self._prefix
        for line in io.BytesIO(lines):
            row = loads(line)
            if type(row) is not dict:
                raise no_object(row, "the line")
            change = new(row)
            change.kind = INSERT
            change.version = None
            change._origin = prefix
            change._place = at
            at += len(line)
            add(change)
        return made

    def _one_by_one(self, lines: bytes, at: int) -> Items:
        items: Items = []
        for line in io.BytesIO(lines):
            try:
                items.append(Change(self._row(line), origin=f"{self._prefix}{at}"))
            except (ValueError, RowError) as e:
                if line.strip():
                    items.append(self._reject(e, line, at))
            at += len(line)
        return items

    def _row(self, line: bytes) -> Row:
        value = orjson.loads(line if self._encoding is None else line.decode(self._encoding))
        if type(value) is not dict:
            raise no_object(value, "the line")
        return value if self._to_row is None else self._to_row(value)

    def _reject(self, error: Exception, line: bytes, at: int) -> Reject:
        if isinstance(error, RowError):
            return self._rejects.make(error.reason, str(error), line, at)
        try:
            line.decode(self._encoding or "utf-8")
        except UnicodeDecodeError as e:
            return self._rejects.undecodable(e, line, at)
        message = f"the line is not JSON: {error}"
        return self._rejects.make("invalid-json", message, line, at)


def _joined(lines: bytes, count: int) -> list[Row]:
    """The objects of `count` lines, parsed as one array; ValueError where any line is bad.

    Between the lines goes a number that nobody can guess. Where as many of it come out between
    the values as were put in, no value spans lines, and each line is one value.
    """
    body = lines[:-1] if lines.endswith(b"\n") else lines
    values = orjson.loads(b"[%b]" % body.replace(b"\n", _BETWEEN))
    rows: list[Row] = values[::2]
    if len(rows) != count or values[1::2] != [_NUMBER] * (count - 1):
        raise ValueError("a line is not one value")
    if set(map(type, rows)) != _OBJECTS:
        raise ValueError("a line is no object")
    return rows
