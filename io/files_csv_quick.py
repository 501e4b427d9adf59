"""CSV by the block: pyarrow parses what is plainly sound, the careful parser all the rest.

A block is sound where its quotes stand only around whole fields and, doubled, in them, where it is
valid in its encoding, and where all its records have equally many fields. Of such a block both
parsers make the same rows; a test holds that.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from vecferry.io.files_columns import CsvReaderConfig
from vecferry.io.files_csv import CsvDialect, careful_parser
from vecferry.io.files_parse import FEED_BYTES, Fields, Items, Parser, Rejects
from vecferry.io.files_quick import Patience, row_maker
from vecferry.io.files_rows import FieldsToRow
from vecferry.io.files_settings import FilesSettings
from vecferry.rows import changes

BLOCK_BYTES = 1 << 20
"""So much is worth the fifth of a millisecond that a call of pyarrow takes."""

PARSE_BYTES = 256 << 10
"""What pyarrow parses at once of a block: so little stays in a processor's cache."""

LONG_LINE = 400
"""Lines of more bytes than this gain nothing from pyarrow."""

FIND_BYTES = 64 << 10

ROWS_AT_ONCE = 256
"""So few rows are made at once that their memory is used again while it is hot."""

_LF, _CR = 10, 13


class QuickCsv:
    """Puts the quick way before the careful parser `slow`; gives what that one gives."""

    feed_bytes = BLOCK_BYTES

    def __init__(
        self, settings: FilesSettings, to_row: FieldsToRow, slow: Fields, prefix: str
    ) -> None:
        config: CsvReaderConfig = settings.csv_reader_config
        self._slow, self._prefix, self._to_row = slow, prefix, to_row
        self._encoding, self._most = settings.encoding, settings.max_line_bytes
        self._quote = ord(config.text_qualifier) if config.use_text_qualifier else None
        self._delimiter, self._skip_blank = settings.delimiter, config.skip_empty_records
        self._multiline = config.spans_lines
        self._patience = Patience()
        self._rest, self._rest_at = b"", 0
        null = settings.null_format
        self._parse: dict[str, Any] = {
            "delimiter": self._delimiter,
            "quote_char": config.text_qualifier if self._quote else False,
            "double_quote": True,
            "newlines_in_values": self._multiline,
        }
        self._convert: dict[str, Any] = {
            "null_values": [] if null is None else [null],
            "strings_can_be_null": null is not None,
            "quoted_strings_can_be_null": null is not None,
        }

    @staticmethod
    def fits(settings: FilesSettings) -> bool:
        """Whether pyarrow can read the job's kind of CSV."""
        config = settings.csv_reader_config
        quoted = config.use_text_qualifier
        return (
            settings.delimiter.isascii()
            and settings.delimiter not in "\r\n\0"
            and settings.delimiter != config.text_qualifier
            and not config.trim_whitespace
            and not (quoted and config.escape_mode == 2)
        )

    def feed(self, lines: bytes, at: int) -> Items:
        """The rows of the records that end in `lines`."""
        return [item for items in self.feeds(lines, at) for item in items]

    def feeds(self, lines: bytes, at: int) -> Iterator[Items]:
        """The rows of the records that end in `lines`, a few at a time."""
        if self._rest:
            lines, at, self._rest = self._rest + lines, self._rest_at, b""
        short = lines.find(b"\n", 0, LONG_LINE) >= 0
        if short and not self._slow.open_record and self._patience.tries():
            try:
                pieces, begins = self._parsed(lines, at)
            except (ValueError, LookupError, pa.ArrowException):
                self._rest = b""
                self._patience.failed()
            else:
                self._patience.passed()
                yield from self._sliced(lines, at, pieces, begins)
                return
        begun = 0
        while begun < len(lines):
            end = lines.find(b"\n", begun + FEED_BYTES) + 1 or len(lines)
            yield self._slow.feed(lines[begun:end], at + begun)
            begun = end

    def _sliced(
        self, lines: bytes, at: int, pieces: list[list[Any]], begins: list[int]
    ) -> Iterator[Items]:
        fixed, plan = self._to_row.plan()
        make = row_maker([*fixed, *(label for label, _, _ in plan)])
        given = 0
        for columns in pieces:
            count = len(columns[0])
            for first in range(0, count, ROWS_AT_ONCE):
                some = begins[given + first : given + min(first + ROWS_AT_ONCE, count) + 1]
                made: list[Any] = list(map(repeat, fixed.values()))
                try:
                    for column, (_, _, convert) in zip(columns, plan, strict=True):
                        values = column.slice(first, ROWS_AT_ONCE).to_pylist()
                        if convert is not None:
                            values = [v if v is None else convert(v) for v in values]
                        made.append(values)
                    yield changes(map(make, *made), self._prefix, some)  # type: ignore[misc]
                except ValueError:  # a type: the careful parser tells which row it is
                    yield self._slow.feed(lines[some[0] - at : some[-1] - at], some[0])
            given += count

    def finish(self) -> Items:
        """The records that are left."""
        items: Items = []
        if self._rest:
            items = self._slow.feed(self._rest, self._rest_at)
            self._rest = b""
        return items + self._slow.finish()

    def _parsed(self, lines: bytes, at: int) -> tuple[list[list[Any]], list[int]]:
        """The columns as Arrow arrays, in pieces, and where records begin and the last one ends.

        Raises an error where the block is not plainly sound.
        """
        ends = _find(lines, _LF)
        data = self._utf8(lines)
        data_ends = ends if data is lines else _find(data, _LF)
        if len(ends) != len(data_ends) or b"\0" in data or data.startswith(codecs.BOM_UTF8):
            raise ValueError("not plain")
        border = self._borders(data, data_ends)
        last = int(np.flatnonzero(border)[-1])  # IndexError: no record ends here
        end = int(ends[last]) + 1
        if end > self._most:
            raise ValueError("a record may be too long")
        self._keep(lines[end:], at + end)
        size = int(data_ends[last]) + 1
        begins = np.concatenate(([0], ends[:last][border[:last]] + 1))
        data_begins = np.concatenate(([0], data_ends[:last][border[:last]] + 1))
        begins = begins[self._filled(data, data_begins)] + at
        pieces = self._columns(pa.py_buffer(data).slice(0, size), len(begins))
        return pieces, [*begins.tolist(), at + end]

    def _keep(self, rest: bytes, at: int) -> None:
        if len(rest) > self._most:
            raise ValueError("a record is too long")
        self._rest, self._rest_at = rest, at

    def _borders(self, data: bytes, ends: Any) -> Any:
        """Which line feeds end a record; ValueError where quotes or line ends are odd."""
        codes = np.frombuffer(data, np.uint8)
        if b"\r" in data and (_next(codes, _find(data, _CR)) != _LF).any():
            raise ValueError("a carriage return alone")
        border = np.ones(len(ends), bool)
        if self._quote is None or data.find(self._quote) < 0:
            return border
        quotes = _find(data, self._quote)
        if self._multiline:
            border = (np.searchsorted(quotes, ends) & 1) == 0
        opening, closing = quotes[0::2], quotes[1::2]
        fine = np.zeros(256, bool)
        fine[[ord(self._delimiter), _LF, self._quote]] = True
        if not fine[codes[opening[opening > 0] - 1]].all():
            raise ValueError("a quote within a field")
        fine[_CR] = True
        if not fine[_next(codes, closing)].all():
            raise ValueError("a text after a closing quote")
        if not self._multiline and (np.searchsorted(quotes, ends) & 1).any():
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

    def _columns(self, data: pa.Buffer, count: int) -> list[list[Any]]:
        """The columns of the plan as Arrow arrays, in several pieces of equal length each."""
        if not count:
            return []
        names = [f"f{index}" for _, index, _ in self._to_row.plan()[1]]
        wanted = list(dict.fromkeys(names))
        exact = self._to_row.exactly
        with pyarrow.csv.open_csv(
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
        ) as batches:
            pieces = list(batches)
        if sum(piece.num_rows for piece in pieces) != count:
            raise ValueError("not a record a line")
        return [[piece.column(name) for name in names] for piece in pieces]


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


def csv_parser(
    settings: FilesSettings, dialect: CsvDialect, to_row: FieldsToRow, rejects: Rejects
) -> Parser:
    """The parser for the job's kind of CSV: the quick one before the careful one, if it fits."""
    slow = careful_parser(settings, dialect, to_row, rejects)
    # Without a field of the file there are no columns to count rows by.
    if not QuickCsv.fits(settings) or not to_row.plan()[1]:
        return slow
    return QuickCsv(settings, to_row, slow, f"{rejects.path}:")
