"""CSV by the record: quoted fields may hold delimiters, doubled quotes and line breaks.

Apart from `csv` because a check of a job loads that module, and none of what reads a file.

The parser is strict. Text after a closing quote, or a quote that is never closed, rejects the line
on which the record begins. Reading goes on at the next line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.csv import CsvSpec
from vecferry.io.files.formats.records import (
    BARE_RETURN,
    FEED_BYTES,
    Fields,
    FieldsToRow,
    Items,
    NotPlain,
    Rejects,
    require_no_mark,
)


class _MoreNeeded(Exception):
    """The record goes on in a line that has not been read yet."""


def require_no_return(text: str) -> None:
    """Raises UnfitValue where an unquoted field holds a carriage return."""
    if "\r" in text:
        raise UnfitValue(BARE_RETURN, "bare-carriage-return")


class CsvDialect:
    """Splits the text of a record into fields as the job says."""

    def __init__(self, spec: CsvSpec) -> None:
        self.delimiter, self._trim = spec.delimiter, spec.trim
        self.quote, self._escape = spec.quote, spec.escape
        self.bare = self.quote is not None and not (self._escape or self._trim)
        self._dialect: Any = csv.reader(
            (),
            delimiter=self.delimiter,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            doublequote=self._escape is None,
            escapechar=self._escape,
            strict=True,
        ).dialect
        # The module's own limit is 128 KiB a field, for the whole process.
        csv.field_size_limit(max(csv.field_size_limit(), spec.max_bytes))

    def plain(self, text: str) -> bool:
        """Whether `text` has neither quotes nor escapes, so that delimiters are all there is."""
        quote, escape = self.quote, self._escape
        return (quote is None or quote not in text) and (escape is None or escape not in text)

    def split_plain(self, text: str) -> list[str]:
        """The fields of a plain line."""
        return self._trimmed(text.split(self.delimiter))

    def split(self, text: str) -> list[str]:
        """The fields of a record that is one line; UnfitValue where its quotes don't match."""
        if self.plain(text):
            require_no_return(text)
            return self.split_plain(text)
        fields = self.split_quoted(text)
        if fields is not None:
            return fields
        try:
            return self.parse(iter([text]))
        except csv.Error as e:
            raise UnfitValue(_explain(e), "invalid-csv") from e

    def split_quoted(self, text: str) -> list[str] | None:
        """The fields of a line some of which are wholly in quotes; None where it is not that plain.

        Between two quotes that are not doubled lie, in turn, a field and what stands between
        fields. It takes a fifth of the time that the `csv` module takes for a long text.
        """
        quote, delimiter = self.quote, self.delimiter
        if quote is None or self._escape is not None or "\r" in text:
            return None
        outside, *parts = text.split(quote)
        if len(parts) % 2 or outside[-1:] not in ("", delimiter):
            return None
        fields = outside.split(delimiter)[:-1]
        last = len(parts) - 1
        for i in range(0, last, 2):
            fields.append(parts[i])
            after = parts[i + 1]
            if i + 1 == last:
                if after:
                    if after[0] != delimiter:
                        return None
                    fields += after[1:].split(delimiter)
            elif len(after) < 2 or after[0] != delimiter or after[-1] != delimiter:
                if after != delimiter:
                    return None
            else:
                fields += after[1:-1].split(delimiter)
        return self._trimmed(fields)

    def parse(self, lines: Iterator[str]) -> list[str]:
        """The fields of the record that begins `lines`; takes as many of them as it spans."""
        return self._trimmed(next(csv.reader(lines, self._dialect)))

    def _trimmed(self, fields: list[str]) -> list[str]:
        return [f.strip() for f in fields] if self._trim else fields


class CsvLines(Fields):
    """CSV, a record a line."""

    def __init__(
        self, to_row: FieldsToRow, rejects: Rejects, dialect: CsvDialect, spec: CsvSpec
    ) -> None:
        super().__init__(
            to_row, rejects, dialect.split, skip_blank=spec.skip_blank, comment=spec.comment
        )
        self._dialect = dialect
        self._quote = (dialect.quote or "").encode(rejects.encoding)

    def _split_all(self, block: bytes, lines: list[bytes], cut: int) -> list[list[str]]:
        dialect, encoding = self._dialect, self._rejects.encoding
        if not dialect.bare:
            return super()._split_all(block, lines, cut)
        if self._quote in block:
            found = [dialect.split_quoted(line[:cut].decode(encoding)) for line in lines]
            if None in found:
                raise NotPlain("a quote that is not around a field")
            return found  # type: ignore[return-value]
        # Looking for what is not there takes a tenth of splitting at it.
        delimiter, most = dialect.delimiter, self._to_row.exactly - 1  # -1: all of them
        fields = [line[:cut].decode(encoding).split(delimiter, most) for line in lines]
        if most >= 0 and [1 for record in fields if delimiter in record[-1]]:
            raise NotPlain("more fields than columns")
        return fields


class MultilineCsv(CsvLines):
    """CSV whose quoted fields may span lines, at most `max_bytes` of the `spec` a record."""

    def __init__(
        self, to_row: FieldsToRow, rejects: Rejects, dialect: CsvDialect, spec: CsvSpec
    ) -> None:
        super().__init__(to_row, rejects, dialect, spec)
        self._most = spec.max_bytes
        self._open: list[bytes] = []
        self._open_at = 0
        self._more = 0
        self._wait_for = 0
        self._may_close = False

    def rows(self, lines: bytes, at: int) -> Items:
        """As `feed`, all at once."""
        return [item for some in self.feed(lines, at) for item in some]

    def feed(self, lines: bytes, at: int) -> Iterator[Items]:
        """The records that end in `lines`; an open one waits for the next lines.

        An open record is parsed again once it has doubled in size. So a long record is parsed a few
        times, not once for each block.
        """
        if not self._open:
            items = self._all_good(lines, at)
            yield items or self._records(lines, at, ended=False)
            return
        self._open.append(lines)
        self._more += len(lines)
        self._may_close = self._may_close or self._quote in lines
        if self._more + self._wait_for > self._most or (
            self._more >= self._wait_for and self._may_close
        ):
            yield from self._retry(ended=False)

    def finish(self) -> Iterator[Items]:
        """The records that are left; one whose quote is still open is rejected."""
        if self._open:
            yield from self._retry(ended=True)

    def _retry(self, *, ended: bool) -> Iterator[Items]:
        """The records of what was held; if the first one is given up, the lines behind it."""
        held, self._open, self._more, self._may_close = b"".join(self._open), [], 0, False
        at, done, size = self._open_at, 0, len(held)
        self.in_record = False
        # The record may end in the last line only. Behind a given-up line, a few lines at a time.
        items, taken = self._record(held, 0, at, ended=ended)
        if not taken:
            return
        yield items
        done = taken
        while done < size:
            end = held.find(b"\n", done + FEED_BYTES) + 1 or size
            yield from self.feed(held[done:end], at + done)
            done = end
        if ended:
            yield from self.finish()

    def _records(self, lines: bytes, at: int, *, ended: bool) -> Items:
        items: Items = []
        done, size = 0, len(lines)
        while done < size:
            some, taken = self._record(lines, done, at + done, ended=ended)
            items += some
            if not taken:
                break
            done += taken
        return items

    def _record(self, lines: bytes, begin: int, at: int, *, ended: bool) -> tuple[Items, int]:
        """The record that begins at `begin` of `lines`, and its bytes; 0 if it waits for more."""
        end = lines.find(b"\n", begin) + 1 or len(lines)
        line, taken, span = lines[begin:end], end - begin, 1
        rejects, dialect = self._rejects, self._dialect
        try:
            text = line.rstrip(b"\r\n").decode(rejects.encoding)
            if self.passes(text):
                return [], taken
            require_no_mark(text)
            if dialect.plain(text):
                require_no_return(text)
                return [self.row(dialect.split_plain(text), at)], taken
            found = dialect.split_quoted(text)
            if found is None:
                found, taken, span = self._quoted(lines, begin)
            return [self.row(found, at)], taken
        except UnicodeDecodeError as e:
            return [rejects.undecodable(e, line, at)], taken
        except _MoreNeeded:
            held = len(lines) - begin
            if not ended and held <= self._most:
                self._open, self._open_at, self._wait_for = [lines[begin:]], at, held
                self.in_record = True
                return [], 0
            message = f"a quote of the record is not closed within {self._most} bytes"
            message = "a quote of the record is never closed" if ended else message
            return [rejects.make("invalid-csv", f"{message}; {_UNQUOTED}", line, at)], taken
        except csv.Error as e:
            return [rejects.make("invalid-csv", _explain(e), line, at)], taken
        except UnfitValue as e:
            why = str(e) if span == 1 else f"{e}; a quote in it takes {span} lines: {_UNQUOTED}"
            return [rejects.make(e.reason, why, lines[begin : begin + taken], at)], taken

    def _quoted(self, lines: bytes, begin: int) -> tuple[list[str], int, int]:
        """The fields of the record that begins at `begin`, its bytes, and how many lines it has."""
        end, span = begin, 0
        encoding, size = self._rejects.encoding, len(lines)

        def texts() -> Iterator[str]:
            nonlocal end, span
            while end < size:
                last = lines.find(b"\n", end) + 1 or size
                line, end, span = lines[end:last], last, span + 1
                try:
                    yield line.decode(encoding)
                except UnicodeDecodeError as e:
                    raise csv.Error(f"a line of it is not {encoding}") from e
            raise _MoreNeeded

        fields = self._dialect.parse(texts())
        return fields, end - begin, span


def careful_parser(spec: CsvSpec, to_row: FieldsToRow, rejects: Rejects) -> Fields:
    """The parser for the job's kind of CSV, a record at a time."""
    kind = MultilineCsv if spec.spans_lines else CsvLines
    return kind(to_row, rejects, CsvDialect(spec), spec)


_UNQUOTED = (
    "if quotes are plain characters in this file, set useTextQualifier of csvReaderConfig to false"
)


def _explain(error: csv.Error) -> str:
    if "new-line character" in str(error):
        return BARE_RETURN
    return (
        f"the record is not valid CSV: {error}; double a quote that belongs to the text, or, "
        f"{_UNQUOTED}"
    )
