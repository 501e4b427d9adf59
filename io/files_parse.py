"""Lines of a file to rows: JSON lines, whole lines, and fields between delimiters.

A parser is made for one split of one file. What it can't take becomes a reject with the text of the
record, so that a replay can read it again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import repeat
from typing import Any, Protocol

import numpy as np
import orjson

from vecferry.io.files_rows import FieldsToRow, RowError, constants, no_object, object_to_row
from vecferry.io.files_settings import FilesSettings
from vecferry.rows import Change, Reject, Row, changes
from vecferry.steps import StepContext

Items = list[Change | Reject]

_OBJECTS = {dict}
_TOKENS = {b"null": None, b"true": True, b"false": False}


class Parser(Protocol):
    """Takes lines in order; gives rows and rejects."""

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of whole lines, each with its line feed, that begin at byte `at`.

        Best some 16 KiB at once: then their memory is used again while it is hot.
        """

    def finish(self) -> Items:
        """What waits for lines that won't come."""


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


class Patience:
    """Whether a quick way that fails now and then is worth trying.

    Each failure in a row doubles the number of blocks for which it is not tried.
    """

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    def tries(self) -> bool:
        """Whether to try it on the next block."""
        self._left -= 1
        return self._left < 0

    def failed(self) -> None:
        """It was tried in vain."""
        self._pause = min(2 * self._pause + 1, 255)
        self._left = self._pause

    def passed(self) -> None:
        """It was tried, and did."""
        self._pause = 0


class JsonLines:
    """One JSON object a line; blank lines are passed over and not counted."""

    def __init__(self, settings: FilesSettings, rejects: Rejects) -> None:
        self._rejects, self._prefix = rejects, f"{rejects.path}:"
        self._encoding = None if settings.encoding == "utf-8" else settings.encoding
        self._to_row = object_to_row(settings, rejects.path)
        self._patience = Patience()

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`; the hot loop of the file reader."""
        if self._patience.tries():
            rows = self._all_at_once(lines)
            if rows is not None:
                self._patience.passed()
                return changes(rows, self._prefix, _begins(lines, at))  # type: ignore[return-value]
            self._patience.failed()
        return self._one_by_one(lines, at)

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []

    def _all_at_once(self, lines: bytes) -> list[Row] | None:
        """The rows of lines that are all good, parsed as one array; None where any is not.

        Between the lines goes a token that occurs in none of them. If as many of it come out
        between the values as were put in, no value spans lines and each line is one value.
        """
        token = next((t for t in _TOKENS if t not in lines), None)
        if token is None:
            return None
        body = lines[:-1] if lines.endswith(b"\n") else lines
        try:
            text = body if self._encoding is None else body.decode(self._encoding).encode()
            values = orjson.loads(b"[%b]" % text.replace(b"\n", b",%b," % token))
            rows = values[::2]
            if set(map(type, rows)) != _OBJECTS or len(rows) != body.count(b"\n") + 1:
                return None
            if values[1::2] != list(repeat(_TOKENS[token], len(rows) - 1)):
                return None
            return rows if self._to_row is None else list(map(self._to_row, rows))
        except (ValueError, RowError):
            return None

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


class WholeLines:
    """Each line is one text value; in JSON lines blank ones are passed over and not counted."""

    def __init__(self, settings: FilesSettings, rejects: Rejects) -> None:
        column = next(c for c in settings.column if c.index is not None)
        self._name, self._rejects, self._prefix = column.label, rejects, f"{rejects.path}:"
        self._encoding = settings.encoding
        self._null = settings.null_format if settings.file_format == "text" else None
        self._constants = constants(settings, rejects.path)
        self._skip_blank = settings.file_format == "jsonl"

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`, a carriage return at the end left out."""
        items: Items = []
        add, prefix, encoding = items.append, self._prefix, self._encoding
        name, null, skip_blank, constant = self._name, self._null, self._skip_blank, self._constants
        rows: list[Row] = []
        places: list[int] = []

        def settle() -> None:
            items.extend(changes(rows, prefix, places))
            rows.clear()
            places.clear()

        for line in io.BytesIO(lines):
            body = line.rstrip(b"\r\n")
            try:
                text = body.decode(encoding)
            except UnicodeDecodeError as e:
                settle()
                add(self._rejects.undecodable(e, line, at))
            else:
                if not skip_blank or (body and not body.isspace()):
                    rows.append({**constant, name: None if text == null else text})
                    places.append(at)
            at += len(line)
        settle()
        return items

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []


class Fields:
    """A record a line, its fields found by `split`."""

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

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`."""
        items: Items = []
        encoding, split = self._rejects.encoding, self._split
        for line in io.BytesIO(lines):
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
        return Change(self._to_row(fields), origin=f"{self._prefix}{at}")


def _begins(lines: bytes, at: int) -> Any:
    """The bytes at which lines begin, the first at `at`; one more where the last is ended."""
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == 10)
    ends += at + 1
    return [at, *ends.tolist()]
