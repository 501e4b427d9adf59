"""CSV by the record: quoted fields may hold delimiters, doubled quotes and line breaks.

Apart from `csv` because a check of a job loads that module, and none of what reads a file.

The parser is strict. Text after a closing quote, or a quote that is never closed, rejects the line
on which the record begins. Reading goes on at the next line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.csv import CsvSpec
from vecferry.io.files.formats.records import (
    Fields,
    FieldsToRow,
    Items,
    NotPlain,
    Rejects,
)


class _MoreNeeded(Exception):
    """The record goes on in a line that has not been read yet."""


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
        self, to_row: FieldsToRow, rejects: Rejects, dialect: CsvDialect, *, skip_blank: bool
    ) -> None:
        super().__init__(to_row, rejects, dialect.split, skip_blank=skip_blank)
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
    """CSV whose quoted fields may span lines, at most `most` bytes a record."""

    def __init__(
        self,
        to_row: FieldsToRow,
        rejects: Rejects,
        dialect: CsvDialect,
        *,
        skip_blank: bool,
        most: int,
    ) -> None:
        super().__init__(to_row, rejects, dialect, skip_blank=skip_blank)
        self._most = most
        self._open: list[bytes] = []
        self._open_at = 0
        self._more = 0
        self._wait_for = 0
        self._may_close = False

    def rows(self, lines: bytes, at: int) -> Items:
        """The records that end in `lines`; an open one waits for the next lines.

        An open record is parsed again once it has doubled in size. So a long record is parsed a few
        times, not once for each block.
        """
        if not self._open and (items := self._all_good(lines, at)):
            return items
        new = list(io.BytesIO(lines))
        if not self._open:
            return self._records(new, at, ended=False)
        self._open += new
        self._more += sum(map(len, new))
        self._may_close = self._may_close or any(self._quote in line for line in new)
        if self._more + self._wait_for <= self._most and (
            self._more < self._wait_for or not self._may_close
        ):
            return []
        return self._retry(ended=False)

    def finish(self) -> Items:
        """The records that are left; one whose quote is still open is rejected."""
        return self._retry(ended=True)

    def _retry(self, *, ended: bool) -> Items:
        lines, self._open, self._more, self._may_close = self._open, [], 0, False
        self.in_record = False
        return self._records(lines, self._open_at, ended=ended)

    def _records(self, lines: list[bytes], at: int, *, ended: bool) -> Items:
        items: Items = []
        plain, row, encoding = self._dialect.plain, self.row, self._rejects.encoding
        split_plain, skip_blank = self._dialect.split_plain, self._skip_blank
        split_quoted = self._dialect.split_quoted
        i, n = 0, len(lines)
        while i < n:
            line, taken = lines[i], 1
            try:
                text = line.rstrip(b"\r\n").decode(encoding)
                if plain(text):
                    if text or not skip_blank:
                        items.append(row(split_plain(text), at))
                else:
                    found = split_quoted(text)
                    if found is None:
                        found, taken = self._quoted(lines, i)
                    items.append(row(found, at))
            except UnicodeDecodeError as e:
                items.append(self._rejects.undecodable(e, line, at))
            except _MoreNeeded:
                held = sum(map(len, lines[i:]))
                if not ended and held <= self._most:
                    self._open, self._open_at, self._wait_for = lines[i:], at, held
                    self.in_record = True
                    return items
                message = f"a quote of the record is not closed within {self._most} bytes"
                message = "a quote of the record is never closed" if ended else message
                items.append(self._rejects.make("invalid-csv", message, line, at))
            except csv.Error as e:
                items.append(self._rejects.make("invalid-csv", _explain(e), line, at))
            except UnfitValue as e:
                raw = b"".join(lines[i : i + taken])
                items.append(self._rejects.make(e.reason, str(e), raw, at))
            at += sum(map(len, lines[i : i + taken])) if taken > 1 else len(line)
            i += taken
        return items

    def _quoted(self, lines: list[bytes], i: int) -> tuple[list[str], int]:
        """The fields of the record that begins at line `i`, and how many lines it takes."""
        taken = 0
        encoding = self._rejects.encoding

        def texts() -> Iterator[str]:
            nonlocal taken
            for j in range(i, len(lines)):
                taken += 1
                try:
                    yield lines[j].decode(encoding)
                except UnicodeDecodeError as e:
                    raise csv.Error(f"a line of it is not {encoding}") from e
            raise _MoreNeeded

        return self._dialect.parse(texts()), taken


def careful_parser(spec: CsvSpec, to_row: FieldsToRow, rejects: Rejects) -> Fields:
    """The parser for the job's kind of CSV, a record at a time."""
    dialect, skip_blank = CsvDialect(spec), spec.skip_blank
    if not spec.spans_lines:
        return CsvLines(to_row, rejects, dialect, skip_blank=skip_blank)
    return MultilineCsv(to_row, rejects, dialect, skip_blank=skip_blank, most=spec.max_bytes)


def _explain(error: csv.Error) -> str:
    return f"the record is not valid CSV: {error}; double a quote that belongs to the text"
