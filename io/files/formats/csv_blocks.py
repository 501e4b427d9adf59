"""CSV by the block: pyarrow parses what is plainly sound, the careful parser all the rest.

Apart from `csv_lines` because not every kind of CSV is parsed by the block.

A sound block is valid in its encoding, and all its records have equally many fields. Its quotes
stand only around whole fields and, doubled, in them. Both parsers make the same rows of such a
block; a test holds that.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from vecferry.io.common.arrow import objects
from vecferry.io.files.formats.csv import BLOCK_BYTES, CsvSpec
from vecferry.io.files.formats.lines import LONG_BLOCK_BYTES, LONG_LINE
from vecferry.io.files.formats.records import (
    FEED_BYTES,
    Fields,
    FieldsToRow,
    Items,
    RetryGate,
    row_maker,
)
from vecferry.rows import changes

FIND_BYTES = 64 << 10

_LF, _CR = 10, 13


class CsvChecks:
    """Finds the records of blocks in the job's kind of CSV."""

    def __init__(self, spec: CsvSpec) -> None:
        self._encoding, self._most = spec.encoding, spec.max_bytes
        self._quote = None if spec.quote is None else ord(spec.quote)
        self._delimiter, self._skip_blank = spec.delimiter, spec.skip_blank
        self._multiline = spec.spans_lines

    def records(self, lines: bytes) -> tuple[pa.Buffer, Any]:
        """The records that end in `lines` as UTF-8; where they begin in `lines`, and the last ends.

        Raises ValueError or LookupError where they are not plainly sound.
        """
        ends = _find(lines, _LF)
        data = self._utf8(lines)
        data_ends = ends if data is lines else _find(data, _LF)
        if len(ends) != len(data_ends) or b"\0" in data or data.startswith(codecs.BOM_UTF8):
            raise ValueError("not plain")
        border = self._borders(data, data_ends)
        last = int(np.flatnonzero(border)[-1])  # IndexError: no record ends here
        end = int(ends[last]) + 1
        if max(end, len(lines) - end) > self._most:
            raise ValueError("a record may be too long")
        size = int(data_ends[last]) + 1
        begins = np.concatenate(([0], ends[:last][border[:last]] + 1))
        data_begins = np.concatenate(([0], data_ends[:last][border[:last]] + 1))
        marked = np.frombuffer(data, np.uint8)[data_begins] == codecs.BOM_UTF8[0]
        if any(data.startswith(codecs.BOM_UTF8, at) for at in data_begins[marked].tolist()):
            raise ValueError("a byte order mark")
        begins = begins[self._filled(data, data_begins)]
        if not len(begins):
            raise ValueError("no record")
        return pa.py_buffer(data).slice(0, size), np.append(begins, end)

    def _borders(self, data: bytes, ends: Any) -> Any:
        """Which line feeds end a record; ValueError where quotes or line ends are odd."""
        codes = np.frombuffer(data, np.uint8)
        if b"\r" in data and (_next(codes, _find(data, _CR)) != _LF).any():
            raise ValueError("a carriage return alone")
        border = np.ones(len(ends), bool)
        if self._quote is None or data.find(self._quote) < 0:
            return border
        quotes = _find(data, self._quote)
        opening, closing = quotes[0::2], quotes[1::2]
        if not _one_a_line(opening, closing, ends):
            border = (np.searchsorted(quotes, ends) & 1) == 0
        fine = np.zeros(256, bool)
        fine[[ord(self._delimiter), _LF, self._quote]] = True
        if not fine[codes[opening[opening > 0] - 1]].all():
            raise ValueError("a quote within a field")
        fine[_CR] = True
        if not fine[_next(codes, closing)].all():
            raise ValueError("a text after a closing quote")
        if not (self._multiline or border.all()):
            raise ValueError("a quote is open at the end of a line")
        return border

    def _filled(self, data: bytes, begins: Any) -> Any:
        """Which records are not blank; ValueError where blank ones are to be taken."""
        codes = np.frombuffer(data, np.uint8)
        first = codes[begins]
        blank = (first == _LF) | ((first == _CR) & (_next(codes, begins) == _LF))
        if blank.any() and not self._skip_blank:
            raise ValueError("blank records are rows")
        return ~blank

    def _utf8(self, lines: bytes) -> bytes:
        """The bytes as UTF-8; UnicodeDecodeError where they are not valid in their encoding."""
        if self._encoding == "utf-8":
            if not lines.isascii():
                lines.decode()
            return lines
        return lines.decode(self._encoding).encode()


def _one_a_line(opening: Any, closing: Any, ends: Any) -> bool:
    """Whether each line has one quoted field, which is common and quick to see."""
    return bool(
        len(opening) == len(closing) == len(ends)
        and (closing < ends).all()
        and (opening[1:] > ends[:-1]).all()
    )


def _find(data: bytes, code: int) -> Any:
    """The places of a byte, looked for in parts that stay in a processor's cache."""
    codes = np.frombuffer(data, np.uint8)
    parts = range(0, max(len(codes), 1), FIND_BYTES)
    return np.concatenate(
        [np.flatnonzero(codes[at : at + FIND_BYTES] == code) + at for at in parts]
    )


def _next(codes: Any, places: Any) -> Any:
    """The bytes behind `places`; a line feed behind the last one."""
    behind = places + 1
    return np.where(behind < len(codes), codes[np.minimum(behind, len(codes) - 1)], _LF)


PARSE_BYTES = 256 << 10
"""What pyarrow parses at once of a block: so little stays in a processor's cache."""

ROWS_AT_ONCE = 384
"""So few rows are made at once that their memory is used again while it is hot."""


class QuickCsv:
    """Puts the quick way before the careful parser `slow`; gives what that one gives."""

    feed_bytes = BLOCK_BYTES

    def __init__(self, spec: CsvSpec, to_row: FieldsToRow, slow: Fields, prefix: str) -> None:
        self._slow, self._prefix, self._to_row = slow, prefix, to_row
        self._checks = CsvChecks(spec)
        self._patience = RetryGate()
        self._rest, self._rest_at = b"", 0
        null = spec.null
        self._parse: dict[str, Any] = {
            "delimiter": spec.delimiter,
            "quote_char": spec.quote or False,
            "double_quote": True,
            "newlines_in_values": spec.spans_lines,
        }
        self._convert: dict[str, Any] = {
            "null_values": [] if null is None else [null],
            "strings_can_be_null": null is not None,
            "quoted_strings_can_be_null": null is not None,
        }

    def feed(self, lines: bytes, at: int) -> Iterator[Items]:
        """The rows of the records that end in `lines`, and of those that waited."""
        if self._rest:
            lines, at, self._rest = self._rest + lines, self._rest_at, b""
        block = self._sound(lines, at)
        if block is None:
            yield from self._carefully(lines, at)
        else:
            yield from self._sliced(lines, at, *block)

    def finish(self) -> Iterator[Items]:
        """The records that are left."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield from self._slow.feed(rest, self._rest_at)
        yield from self._slow.finish()

    def _sound(self, lines: bytes, at: int) -> tuple[Any, list[list[Any]]] | None:
        """Where the records of a block begin and the last one ends, and their columns in pieces.

        None where pyarrow might not take the block as the careful parser does.
        """
        if _are_long(lines) or self._slow.in_record or self._slow.may_be_comments(lines):
            return None
        if not self._patience.tries():
            return None
        try:
            data, begins = self._checks.records(lines)
            pieces = self._columns(data)
            if sum(len(columns[0]) for columns in pieces) != len(begins) - 1:
                raise ValueError("other records than were found")
        except (ValueError, LookupError, pa.ArrowException):
            self._patience.failed()
            return None
        self._patience.passed()
        end = int(begins[-1])
        self._rest, self._rest_at = lines[end:], at + end
        return begins + at, pieces

    def _carefully(self, lines: bytes, at: int) -> Iterator[Items]:
        begun = 0
        step = LONG_BLOCK_BYTES if _are_long(lines) else FEED_BYTES
        while begun < len(lines):
            end = lines.find(b"\n", begun + step) + 1 or len(lines)
            yield from self._slow.feed(lines[begun:end], at + begun)
            begun = end

    def _sliced(
        self, lines: bytes, at: int, begins: Any, pieces: list[list[Any]]
    ) -> Iterator[Items]:
        fixed, plan = self._to_row.plan()
        make = row_maker((*fixed, *(label for label, _, _ in plan)))
        given = 0
        for columns in pieces:
            count = len(columns[0])
            for first in range(0, count, ROWS_AT_ONCE):
                last = given + min(first + ROWS_AT_ONCE, count)
                some = begins[given + first : last + 1].tolist()
                made: list[Any] = list(map(repeat, fixed.values()))
                try:
                    for column, (_, _, convert) in zip(columns, plan, strict=True):
                        values = objects(column.slice(first, ROWS_AT_ONCE))
                        if convert is not None:
                            values = [v if v is None else convert(v) for v in values]
                        made.append(values)
                    yield changes(map(make, *made), self._prefix, some)  # type: ignore[misc]
                except ValueError:  # a type: the careful parser tells which row it is
                    yield self._slow.rows(lines[some[0] - at : some[-1] - at], some[0])
            given += count

    def _columns(self, data: pa.Buffer) -> list[list[Any]]:
        """The columns of the plan as Arrow arrays, in several pieces of equal length each."""
        names = [f"f{index}" for _, index, _ in self._to_row.plan()[1]]
        wanted = list(dict.fromkeys(names))
        exact = self._to_row.exactly
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=PARSE_BYTES,
                column_names=[f"f{i}" for i in range(exact)],
                autogenerate_column_names=not exact,
            ),
            pyarrow.csv.ParseOptions(**self._parse),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()),
                include_columns=wanted,
                **self._convert,
            ),
        )
        return [[piece.column(name) for name in names] for piece in table.to_batches()]


def _are_long(lines: bytes) -> bool:
    return lines.find(b"\n", 0, LONG_LINE) < 0
