"""Whether a block of CSV is so plain that pyarrow takes it as the careful parser does.

A block is sound where its quotes stand only around whole fields and, doubled, in them, and where it
is valid in its encoding.
"""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
import pyarrow as pa

from vecferry.io.files_columns import CsvReaderConfig
from vecferry.io.files_settings import FilesSettings

FIND_BYTES = 64 << 10

_LF, _CR = 10, 13


class CsvChecks:
    """Finds the records of blocks in the job's kind of CSV."""

    def __init__(self, settings: FilesSettings) -> None:
        config: CsvReaderConfig = settings.csv_reader_config
        self._encoding, self._most = settings.encoding, settings.max_line_bytes
        self._quote = ord(config.text_qualifier) if config.use_text_qualifier else None
        self._delimiter, self._skip_blank = settings.delimiter, config.skip_empty_records
        self._multiline = config.spans_lines

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
