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

BLOCK_BYTES = 256 << 10
"""So much is worth the tenth of a millisecond that a call of pyarrow takes."""

LONG_LINE = 400
"""Lines of more bytes than this gain nothing from pyarrow."""

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
                columns, begins = self._parsed(lines, at)
            except (ValueError, LookupError, pa.ArrowException):
                self._rest = b""
                self._patience.failed()
            else:
                self._patience.passed()
                yield from self._sliced(lines, at, columns, begins)
                return
        begun = 0
        while begun < len(lines):
            end = lines.find(b"\n", begun + FEED_BYTES) + 1 or len(lines)
            yield self._slow.feed(lines[begun:end], at + begun)
            begun = end

    def _sliced(
        self, lines: bytes, at: int, columns: list[Any], begins: list[int]
    ) -> Iterator[Items]:
        fixed, plan = self._to_row.plan()
        make = row_maker([*fixed, *(label for label, _, _ in plan)])
        for first in range(0, len(begins) - 1, ROWS_AT_ONCE):
            made: list[Any] = list(map(repeat, fixed.values()))
            try:
                for column, (_, _, convert) in zip(columns, plan, strict=True):
                    values = column.slice(first, ROWS_AT_ONCE).to_pylist()
                    if convert is not None:
                        values = [v if v is None else convert(v) for v in values]
                    made.append(values)
                rows = map(make, *made) if columns else ({} for _ in begins[1:])
                yield changes(rows, self._prefix, begins[first:-1])  # type: ignore[misc]
            except ValueError:  # a type: the careful parser tells which row it is
                begin, end = begins[first], begins[first : first + ROWS_AT_ONCE + 1][-1]
                yield self._slow.feed(lines[begin - at : end - at], begin)

    def finish(self) -> Items:
        """The records that are left."""
        items: Items = []
        if self._rest:
            items = self._slow.feed(self._rest, self._rest_at)
            self._rest = b""
        return items + self._slow.finish()

    def _parsed(self, lines: bytes, at: int) -> tuple[list[Any], list[int]]:
        """The columns as Arrow arrays of texts, and where records begin and the last one ends.

        Raises an error where the block is not plainly sound.
        """
        ends = _find(lines, _LF)
        text = lines.decode(self._encoding)
        data = lines if self._encoding == "utf-8" else text.encode()
        data_ends = ends if data is lines else _find(data, _LF)
        if len(ends) != len(data_ends) or b"\0" in data or data.startswith(codecs.BOM_UTF8):
            raise ValueError("not plain")
        border = self._borders(data, data_ends)
        last = int(np.flatnonzero(border)[-1])  # IndexError: no record ends here
        end = int(ends[last]) + 1
        if end > self._most:
            raise ValueError("a record may be too long")
        self._keep(lines[end:], at + end)
        data = data[: int(data_ends[last]) + 1]
        begins = np.concatenate(([0], ends[:last][border[:last]] + 1))
        data_begins = np.concatenate(([0], data_ends[:last][border[:last]] + 1))
        begins = begins[self._filled(data, data_begins)] + at
        columns = self._columns(data, len(begins)) if len(begins) else []
        return columns, [*begins.tolist(), at + end]

    def _keep(self, rest: bytes, at: int) -> None:
        if len(rest) > self._most:
            raise ValueError("a record is too long")
        self._rest, self._rest_at = rest, at

    def _borders(self, data: bytes, ends: Any) -> Any:
        """Which line feeds end a record; ValueError where quotes or line ends are odd."""
        codes = np.frombuffer(data + b"\n\n", np.uint8)
        if b"\r" in data and (codes[_find(data, _CR) + 1] != _LF).any():
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
        if not fine[codes[opening - 1]].all():
            raise ValueError("a quote within a field")
        fine[_CR] = True
        if not fine[codes[closing + 1]].all():
            raise ValueError("a text after a closing quote")
        if not self._multiline and (np.searchsorted(quotes, ends) & 1).any():
            raise ValueError("a quote is open at the end of a line")
        return border

    def _filled(self, data: bytes, begins: Any) -> Any:
        """Which records are not blank; ValueError where blank ones are to be taken."""
        codes = np.frombuffer(data + b"\n", np.uint8)
        first = codes[begins]
        blank = (first == _LF) | ((first == _CR) & (codes[begins + 1] == _LF))
        if blank.any() and not self._skip_blank:
            raise ValueError("blank records are rows")
        return ~blank

    def _columns(self, data: bytes, count: int) -> list[Any]:
        names = [f"f{index}" for _, index, _ in self._to_row.plan()[1]]
        wanted = list(dict.fromkeys(names))
        exact = self._to_row.exactly
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            pyarrow.csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
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
        if table.num_rows != count:
            raise ValueError("not a record a line")
        return [table.column(name).combine_chunks() for name in names]


def _find(data: bytes, code: int) -> Any:
    """The places of a byte."""
    (places,) = (np.frombuffer(data, np.uint8) == code).nonzero()
    return places


def csv_parser(
    settings: FilesSettings, dialect: CsvDialect, to_row: FieldsToRow, rejects: Rejects
) -> Parser:
    """The parser for the job's kind of CSV: the quick one before the careful one, if it fits."""
    slow = careful_parser(settings, dialect, to_row, rejects)
    # Without a field of the file there are no columns to count rows by.
    if not QuickCsv.fits(settings) or not to_row.plan()[1]:
        return slow
    return QuickCsv(settings, to_row, slow, f"{rejects.path}:")
