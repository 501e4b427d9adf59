"""Lines of a file to rows: whole lines, and fields between delimiters.

A parser is made for one split of one file. What it can't take becomes a reject with the text of the
record, so that a replay can read it again.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, starmap
from typing import Any, Protocol

from vecferry.io.common.types import ConvertValue, json_converter, text_converter
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.base import FormatSpec, LineSpec
from vecferry.rows import Change, Reject, Row, change_at, changes
from vecferry.steps import StepContext


class RetryGate:
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


BARE_RETURN = (
    "the line holds a carriage return without a line feed; end lines in one way, or put the field "
    "into quotes"
)
BOM = "\ufeff"
BOM_WITHIN = (
    "the record begins with a byte order mark, as where files were put together; remove the mark"
)


def byte_order_mark(encoding: str) -> bytes:
    """The mark that a file of the encoding may begin with; empty where there is none."""
    try:
        return BOM.encode(encoding)
    except UnicodeEncodeError:
        return b""


class NotPlain(ValueError):
    """A block that has to be parsed line by line."""


def plain_lines(block: bytes, *, blank: bool) -> tuple[list[bytes], int]:
    """The lines of a block, and where to cut them to leave out their ends, which are all alike.

    Raises NotPlain where they are not, where the last one has none, and, unless `blank` ones are
    records, where a line holds nothing.
    """
    lines = list(io.BytesIO(block))
    cut = -1
    if b"\r" in block:
        cut = -2
        if any(line.find(b"\r", 0, cut) >= 0 or line[cut:] != b"\r\n" for line in lines):
            raise NotPlain("a carriage return alone")
    if not block.endswith(b"\n") or (not blank and min(map(len, lines)) <= -cut):
        raise NotPlain("a line that is blank, or has no end")
    return lines, cut


@functools.lru_cache(maxsize=256)
def row_maker(labels: tuple[str, ...]) -> Callable[..., Row]:
    """A function from the values of a row to the row: for ``map(row_maker(labels), *columns)``.

    It is compiled as a dict display, which takes less than half the time of ``dict(zip(…))``.
    """
    keys = {f"k{i}": label for i, label in enumerate(labels)}
    arguments = ", ".join(f"v{i}" for i in range(len(labels)))
    body = ", ".join(f"k{i}: v{i}" for i in range(len(labels)))
    made: Callable[..., Row] = eval(f"lambda {arguments}: {{{body}}}", keys)
    return made


def object_to_row(spec: FormatSpec, path: str) -> Callable[[Row], Row] | None:
    """What makes a row of a JSON object, and raises UnfitValue; None: the object is the row."""
    if not spec.columns:
        return None
    fixed = spec.constants(path)
    columns = [(c.label, json_converter(c.type, c.format)) for c in spec.columns if c.in_file]
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

    def __init__(self, spec: LineSpec, header: Sequence[str] | None, path: str) -> None:
        self._null, self._short_null = spec.null, spec.short_null
        self._names = list(header or []) if not spec.columns else []
        self._all = not spec.columns
        self._make = row_maker(tuple(self._names))
        self._constants = spec.constants(path)
        self._columns: list[tuple[str, int, ConvertValue | None]] = []
        self._most = len(self._names)
        for column in spec.columns:
            if column.in_file:
                index = column.index
                if index is None:
                    index = list(header or []).index(column.name)
                    self._most = len(header or [])
                convert = text_converter(column.type, column.format)
                self._columns.append((column.label, index, convert))

    @property
    def exactly(self) -> int:
        """How many fields a record has by its header; 0 where no column is found by a name."""
        return self._most

    def plan(self) -> tuple[Row, list[tuple[str, int, ConvertValue | None]]]:
        """The columns that are the same in each row; label, field and type of the others."""
        every: list[tuple[str, int, ConvertValue | None]] = [
            (n, i, None) for i, n in enumerate(self._names)
        ]
        return self._constants, every if self._all else self._columns

    def many(self, records: list[list[str]]) -> Iterable[Row]:
        """The rows of the fields of records; UnfitValue, when its row is asked for, where one is
        none.
        """
        count, null = len(self._names), self._null
        if not self._all or [1 for r in records if len(r) != count or null in r]:
            return map(self, records)
        return starmap(self._make, records)

    def __call__(self, fields: list[str]) -> Row:
        """The row of the fields; UnfitValue where one is missing, left over or of a wrong type."""
        null = self._null
        if self._short_null and len(fields) < self._needed():
            return self._short(fields)
        if self._all:
            if len(fields) != len(self._names):
                raise UnfitValue(*_wrong_count(len(fields), len(self._names)))
            values = [None if f == null else f for f in fields] if null in fields else fields
            return self._make(*values)
        if self._most and len(fields) > self._most:  # at a delimiter that belongs to a text
            raise UnfitValue(*_wrong_count(len(fields), self._most))
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
            if needed < len(fields):  # raised by a converter
                raise
            message = f"column {name!r} is field {needed} (from 0), but there are {len(fields)}"
            raise UnfitValue(message, "missing-column") from None
        except ValueError as e:
            raise wrong_type(name, e) from e
        return row

    def _needed(self) -> int:
        return (
            len(self._names) if self._all else max((i for _, i, _ in self._columns), default=-1) + 1
        )

    def _short(self, fields: list[str]) -> Row:
        """The row of a record that lacks fields: those are null."""
        row, name = self._constants.copy(), ""
        try:
            for name, index, convert in self.plan()[1]:
                field = fields[index] if index < len(fields) else None
                null = field is None or field == self._null
                row[name] = None if null else convert(field) if convert else field
        except ValueError as e:
            raise wrong_type(name, e) from e
        return row


def wrong_type(name: str, error: ValueError) -> UnfitValue:
    """A value of the column `name` does not fit its type."""
    return UnfitValue(f"column {name!r}: {error}", "wrong-type")


def no_object(value: object, what: str) -> UnfitValue:
    """The record, called `what`, is JSON but no object."""
    kind = {list: "an array", str: "a string", bool: "a boolean"}.get(type(value))
    kind = kind or ("null" if value is None else "a number")
    return UnfitValue(
        f'{what} is JSON, but {kind} and no object ({{"name": value, …}})', "not-an-object"
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
    return f"the record has {found} fields, the header line {expected}", reason


FEED_BYTES = 24 << 10

Items = list[Change | Reject]


class Parser(Protocol):
    """Takes lines in order; gives rows and rejects.

    It is best fed about `feed_bytes` at once: so few that their memory is used again while hot.
    """

    feed_bytes: int

    def feed(self, lines: bytes, at: int) -> Iterable[Items]:
        """The rows of whole lines, each with its line feed, that begin at byte `at`.

        They come a few at a time.
        """

    def finish(self) -> Iterable[Items]:
        """What waits for lines that won't come, a few items at a time."""


class AtOnce:
    """A parser that gives all rows of a block at once."""

    feed_bytes = FEED_BYTES

    def rows(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`, which begin at byte `at`."""
        raise NotImplementedError

    def feed(self, lines: bytes, at: int) -> Iterable[Items]:
        """All of them."""
        return (self.rows(lines, at),)

    def finish(self) -> Iterable[Items]:
        """Nothing: each line stands for itself."""
        return ()


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
    """Each line is one value of the column `name`; `null` is a line that stands for none.

    With `skip_blank` blank lines are passed over and not counted, and so are lines that begin with
    `comment`. Unless it `takes_returns`, a line that holds a carriage return is rejected.
    """

    def __init__(
        self,
        name: str,
        rejects: Rejects,
        constants: Row,
        *,
        null: str | None = None,
        skip_blank: bool = False,
        comment: str | None = None,
        takes_returns: bool = True,
    ) -> None:
        self._name, self._rejects, self._prefix = name, rejects, f"{rejects.path}:"
        self._encoding, self._constants = rejects.encoding, constants
        self._null, self._skip_blank = null, skip_blank
        self._comment, self._takes_returns = comment, takes_returns
        self._mark = byte_order_mark(rejects.encoding)

    def rows(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`, a carriage return at the end left out."""
        items: Items = []
        add, prefix, encoding = items.append, self._prefix, self._encoding
        name, null, skip_blank, constant = self._name, self._null, self._skip_blank, self._constants
        comment = self._comment
        returns = not self._takes_returns and b"\r" in lines
        # Looking for one byte is far quicker than looking for three.
        marks = bool(self._mark) and self._mark[:1] in lines and self._mark in lines
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
                if (marks and text.startswith(BOM)) or (returns and "\r" in text):
                    settle()
                    add(self._odd(text, line, at))
                elif comment is not None and text.startswith(comment):
                    pass
                elif not skip_blank or (body and not body.isspace()):
                    rows.append({**constant, name: None if text == null else text})
                    places.append(at)
            at += len(line)
        settle()
        return items

    def _odd(self, text: str, line: bytes, at: int) -> Reject:
        if text.startswith(BOM):
            return self._rejects.make("byte-order-mark", BOM_WITHIN, line, at)
        return self._rejects.make("bare-carriage-return", BARE_RETURN, line, at)


def require_no_mark(text: str) -> None:
    """Raises UnfitValue where a record begins with a byte order mark."""
    if text.startswith(BOM):
        raise UnfitValue(BOM_WITHIN, "byte-order-mark")


class Fields(AtOnce):
    """A record a line, its fields found by `split`."""

    in_record = False
    """Whether the last record goes on in the next lines."""

    def __init__(
        self,
        to_row: FieldsToRow,
        rejects: Rejects,
        split: Callable[[str], list[str]],
        *,
        skip_blank: bool = False,
        comment: str | None = None,
    ) -> None:
        self._to_row, self._rejects, self._split = to_row, rejects, split
        self._skip_blank, self._prefix = skip_blank, f"{rejects.path}:"
        self._comment = comment
        self._comment_bytes = comment.encode(rejects.encoding) if comment else None
        self._mark = byte_order_mark(rejects.encoding)
        self._patience = RetryGate()

    def rows(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`."""
        return self._all_good(lines, at) or self._one_by_one(lines, at)

    def _all_good(self, block: bytes, at: int) -> Items:
        """The rows of lines that are a record each; none where any may be none, or was lately."""
        marked = self._mark and self._mark[:1] in block and self._mark in block
        if marked or self.may_be_comments(block) or not self._patience.tries():
            return []
        try:
            lines, cut = plain_lines(block, blank=not self._skip_blank)
            rows = self._to_row.many(self._split_all(block, lines, cut))
            places = accumulate(map(len, lines), initial=at)
            items: Items = changes(rows, self._prefix, places)  # type: ignore[assignment]
        except ValueError:
            self._patience.failed()
            return []
        self._patience.passed()
        return items

    def may_be_comments(self, block: bytes) -> bool:
        """Whether a line of the block may be a comment."""
        comment = self._comment_bytes
        return comment is not None and (block.startswith(comment) or b"\n" + comment in block)

    def passes(self, text: str) -> bool:
        """Whether a line is passed over: it is blank, or a comment."""
        if not text:
            return self._skip_blank
        return self._comment is not None and text.startswith(self._comment)

    def _split_all(self, block: bytes, lines: list[bytes], cut: int) -> list[list[str]]:
        """The fields of each line; ValueError where one is not a record."""
        encoding, split = self._rejects.encoding, self._split
        return [split(line[:cut].decode(encoding)) for line in lines]

    def _one_by_one(self, lines: bytes, at: int) -> Items:
        items: Items = []
        encoding, split = self._rejects.encoding, self._split
        for line in io.BytesIO(lines):
            try:
                text = line.rstrip(b"\r\n").decode(encoding)
                if not self.passes(text):
                    require_no_mark(text)
                    items.append(self.row(split(text), at))
            except UnicodeDecodeError as e:
                items.append(self._rejects.undecodable(e, line, at))
            except UnfitValue as e:
                items.append(self._rejects.make(e.reason, str(e), line, at))
            at += len(line)
        return items

    def row(self, fields: list[str], at: int) -> Change:
        """The row of the fields of the record at byte `at`; UnfitValue if they do not fit."""
        return change_at(self._to_row(fields), self._prefix, at)
