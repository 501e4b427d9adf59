"""JSON lines to rows, many lines at once where all of them are good.

Apart from `jsonl` because a check of a job loads that module, and none of what reads a file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec
import numpy as np

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.lines import LONG_LINE
from vecferry.io.files.formats.records import (
    BOM_WITHIN,
    AtOnce,
    Items,
    Rejects,
    RetryGate,
    byte_order_mark,
    no_object,
)
from vecferry.nesting import MOST_DEPTH, TOO_DEEP, too_deep
from vecferry.rows import Change, Reject, Row, changes

_VALUE = msgspec.json.Decoder()
_Decoder = msgspec.json.Decoder[dict[str, Any]]
_OBJECT: _Decoder = msgspec.json.Decoder(dict)
_FLAT: _Decoder = msgspec.json.Decoder(dict[str, str | int | float | bool | None])
_LF, _CR, _OPEN, _CLOSE = b"\n\r{}"
_OPENS = 0x5B
"""``[``, and ``{`` too once its bit `_CASE` is cleared; no other byte becomes it."""
_CASE = np.uint8(0x20)


class JsonLines(AtOnce):
    """One JSON object a line; blank lines are passed over and not counted."""

    def __init__(self, to_row: Callable[[Row], Row] | None, rejects: Rejects) -> None:
        self._rejects, self._prefix = rejects, f"{rejects.path}:"
        self._encoding = None if rejects.encoding == "utf-8" else rejects.encoding
        self._to_row = to_row
        self._mark = byte_order_mark(rejects.encoding)
        self._patience = RetryGate()
        self._flat = True

    def rows(self, lines: bytes, at: int) -> Items:
        """The rows of `lines`; the hot loop of the file reader."""
        if self._patience.tries():
            try:
                items: Items = self._all_at_once(lines, at)  # type: ignore[assignment]
                self._patience.passed()
                return items
            except (ValueError, RecursionError):
                self._patience.failed()
        return self._one_by_one(lines, at)

    def _all_at_once(self, lines: bytes, at: int) -> list[Change]:
        """The rows of lines that are all good; ValueError where any is not."""
        if lines.find(b"\n", 0, LONG_LINE) < 0:
            return self._each(lines, at)
        data = self._utf8(lines)
        rows = self._parsed(data, lambda decoder: decoder.decode_lines(data))
        ends = _ends(lines)
        _require_one_a_line(data, ends if data is lines else _ends(data), len(rows))
        if self._to_row is not None:
            rows = list(map(self._to_row, rows))
        return changes(rows, self._prefix, [at, *(ends + (at + 1)).tolist()])

    def _each(self, lines: bytes, at: int) -> list[Change]:
        """The rows of long lines, each finished while its memory is hot."""
        data, to_row = self._utf8(lines), self._to_row
        texts = io.BytesIO(data).readlines()
        split = texts if data is lines else io.BytesIO(lines).readlines()

        def parse(decoder: _Decoder) -> list[Row]:
            values = map(decoder.decode, texts)
            return list(values if to_row is None else map(to_row, values))

        rows = self._parsed(data, parse)
        return changes(rows, self._prefix, accumulate(map(len, split), initial=at))

    def _utf8(self, lines: bytes) -> bytes:
        return lines if self._encoding is None else lines.decode(self._encoding).encode()

    def _parsed(self, data: bytes, parse: Callable[[_Decoder], list[Row]]) -> list[Row]:
        """What `parse` gives of `data` with the quickest decoder that takes all of it.

        Most files hold neither lists nor objects within a row. Their decoder refuses both, so no
        line of them is too deep, and nobody needs to look.
        """
        if self._flat:
            try:
                return parse(_FLAT)
            except msgspec.ValidationError:
                self._flat = False
        _require_shallow(data)
        return parse(_OBJECT)

    def _one_by_one(self, lines: bytes, at: int) -> Items:
        items: Items = []
        for line in io.BytesIO(lines):
            try:
                _require_shallow(self._utf8(line))
                items.append(Change(self._row(line), origin=f"{self._prefix}{at}"))
            except (ValueError, RecursionError) as e:
                if line.strip():
                    items.append(self._reject(e, line, at))
            at += len(line)
        return items

    def _row(self, line: bytes) -> Row:
        value = _VALUE.decode(line if self._encoding is None else line.decode(self._encoding))
        if type(value) is not dict:
            raise no_object(value, "the line")
        return value if self._to_row is None else self._to_row(value)

    def _reject(self, error: Exception, line: bytes, at: int) -> Reject:
        if isinstance(error, UnfitValue):
            return self._rejects.make(error.reason, str(error), line, at)
        try:
            line.decode(self._encoding or "utf-8")
        except UnicodeDecodeError as e:
            return self._rejects.undecodable(e, line, at)
        if self._mark and line.startswith(self._mark):
            return self._rejects.make("byte-order-mark", BOM_WITHIN, line, at)
        message = f"the line is not JSON: {error}"
        return self._rejects.make("invalid-json", message, line, at)


def _require_shallow(lines: bytes) -> None:
    """Raises UnfitValue where a line of UTF-8 is nested too deep.

    A line is looked at closely only where it opens so many lists and objects.
    """
    if len(lines) <= MOST_DEPTH:
        return
    codes = np.frombuffer(lines, np.uint8)
    opened = np.flatnonzero((codes & ~_CASE) == _OPENS)
    if len(opened) <= MOST_DEPTH:
        return
    number = np.searchsorted(_ends(lines), opened)
    full = number[MOST_DEPTH:][number[MOST_DEPTH:] == number[:-MOST_DEPTH]]
    if not len(full):
        return
    split = io.BytesIO(lines).readlines()
    if any(too_deep(split[n]) for n in set(full.tolist())):
        raise UnfitValue(TOO_DEEP, "too-deep")


def _ends(lines: bytes) -> np.ndarray:
    """The places of the line feeds."""
    return np.flatnonzero(np.frombuffer(lines, np.uint8) == _LF)


def _require_one_a_line(data: bytes, ends: np.ndarray, count: int) -> None:
    """ValueError unless the `count` objects that `data` holds are one a line.

    Each line but the last must end with ``}``, and the next line begin with ``{``. Then no object
    spans two lines: within an object a comma would stand there. So each line has one at least.
    """
    codes = np.frombuffer(data, np.uint8)
    if codes[-1] == _LF:
        ends = ends[:-1]
    before = codes[ends - 1]
    if b"\r" in data:
        before = np.where(before == _CR, codes[ends - 2], before)
    odd = (before ^ _CLOSE) | (codes[ends + 1] ^ _OPEN)
    if len(ends) + 1 != count or codes[0] != _OPEN or odd.any():
        raise ValueError("not one object a line")
