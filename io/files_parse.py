"""Lines of a file to rows: whole lines, and fields between delimiters.

A parser is made for one split of one file. What it can't take becomes a reject with the text of the
record, so that a replay can read it again.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Protocol

from vecferry.io.files_quick import Patience, plain_lines
from vecferry.io.files_rows import FieldsToRow, RowError, constants
from vecferry.io.files_settings import FilesSettings
from vecferry.rows import INSERT, Change, Reject, Row, bare, changes
from vecferry.steps import StepContext

FEED_BYTES = 24 << 10

Items = list[Change | Reject]


class Parser(Protocol):
    """Takes lines in order; gives rows and rejects.

    It is best fed about `feed_bytes` at once: so few that their memory is used again while hot.
    """

    feed_bytes: int

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of whole lines, each with its line feed, that begin at byte `at`."""

    def feeds(self, lines: bytes, at: int) -> Iterable[Items]:
        """The same, a few at a time."""

    def finish(self) -> Items:
        """What waits for lines that won't come."""


class AtOnce:
    """A parser that gives all rows of a block at once."""

    feed_bytes = FEED_BYTES

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`."""
        raise NotImplementedError

    def feeds(self, lines: bytes, at: int) -> Iterable[Items]:
        """All of them."""
        return (self.feed(lines, at),)

    def finish(self) -> Items:
        """Nothing: each line stands for itself."""
        return []


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


class WholeLines(AtOnce):
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


class Fields(AtOnce):
    """A record a line, its fields found by `split`."""

    open_record: Sequence[bytes] = ()
    """The lines so far of a record that goes on in the next ones."""

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
        self._patience = Patience()

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`."""
        return self._all_good(lines, at) or self._one_by_one(lines, at)

    def _all_good(self, block: bytes, at: int) -> Items:
        """The rows of lines that are a record each; none where any may be none, or was lately."""
        if not self._patience.tries():
            return []
        try:
            lines, cut = plain_lines(block, blank=not self._skip_blank)
            rows = self._to_row.many(self._split_all(block, lines, cut))
            places = accumulate(map(len, lines), initial=at)
            items: Items = changes(rows, self._prefix, places)  # type: ignore[assignment]
        except (RowError, ValueError):
            self._patience.failed()
            return []
        self._patience.passed()
        return items

    def _split_all(self, block: bytes, lines: list[bytes], cut: int) -> list[list[str]]:
        """The fields of each line; ValueError or RowError where one is no record."""
        encoding, split = self._rejects.encoding, self._split
        return [split(line[:cut].decode(encoding)) for line in lines]

    def _one_by_one(self, lines: bytes, at: int) -> Items:
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

    def row(self, fields: list[str], at: int) -> Change:
        """The row of the fields of the record at byte `at`; RowError where they are no row."""
        change = bare(self._to_row(fields))
        change.kind = INSERT
        change.version = None
        change._origin = self._prefix
        change._place = at
        return change
