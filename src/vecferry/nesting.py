"""How deep JSON may be nested, in one place: what reads JSON text asks here first.

Parsers take about 1,000 levels and writers of JSON about 250. A value between the two could be
read and never be written, not even as a reject.
"""

from __future__ import annotations

import re
import uuid

MOST_DEPTH = 200
"""So deep lists and objects may be nested."""

TOO_DEEP = f"lists or objects are nested over {MOST_DEPTH} deep; write the JSON flatter"
"""What an error says of a text that is nested deeper."""

_NO_MARKS = bytes(b for b in range(256) if b not in b'"[]{}')
_PASSES = 4


def too_deep(text: str | bytes | bytearray | memoryview) -> bool:
    """Whether a JSON text, in UTF-8 if it is bytes, is nested over `MOST_DEPTH` deep."""
    if len(text) <= MOST_DEPTH:
        return False
    if isinstance(text, str):
        if text.count("[") + text.count("{") <= MOST_DEPTH:
            return False
        data = text.encode("utf-8", "surrogatepass")
    else:
        data = bytes(text)
        if data.count(b"[") + data.count(b"{") <= MOST_DEPTH:
            return False
    return Nesting().after(data) > MOST_DEPTH


class Nesting:
    """How deep a JSON text is nested, which comes in pieces.

    Attributes:
      depth: how deep the end of the text is.
      in_text: whether the text ends within a text of JSON.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.in_text = False
        self._rest = b""

    @property
    def escaped(self) -> bool:
        """Whether the text ends within an escape so far."""
        return bool(self._rest)

    def after(self, data: bytes) -> int:
        """The greatest depth in `data`, once it is known to be over `MOST_DEPTH`; else less."""
        data = self._rest + data
        self._rest = b""
        if b"\\" in data:
            data = data.replace(b"\\\\", b"")
            if data.endswith(b"\\"):
                data, self._rest = data[:-1], b"\\"
            data = data.replace(b'\\"', b"")
        parts = data.translate(None, _NO_MARKS).split(b'"')
        marks = b"".join(parts[self.in_text :: 2])
        self.in_text ^= len(parts) % 2 == 0
        begun, whole = self.depth, marks
        self.depth += 2 * _opened(marks) - len(marks)
        # Long lists of small objects are common: leaves go, a level or two at a time.
        for level in range(0, 2 * _PASSES, 2):
            if begun + _opened(marks) + level <= MOST_DEPTH:
                return max(begun, self.depth)
            marks = marks.replace(b"{}", b"").replace(b"[]", b"")
        depth = deepest = begun
        for mark in whole:
            depth += 1 if mark in b"[{" else -1
            deepest = max(deepest, depth)
        return deepest


class Flattened:
    """JSON in UTF-8 that comes in pieces, without what is nested over `MOST_DEPTH` deep.

    In the place of each list or object that is too deep stands the text `MARK`. So the rest can be
    parsed, and `is_cut` finds the mark in a value. What is taken out is never held.

    Attributes:
      cut: whether anything has been taken out so far.
    """

    MARK = f"too-deep-{uuid.uuid4().hex}"

    def __init__(self) -> None:
        self.cut = False
        self._nesting = Nesting()

    def after(self, data: bytes) -> bytes:
        """The next piece, without what is too deep."""
        nesting = self._nesting
        depth, in_text, escaped = nesting.depth, nesting.in_text, nesting.escaped
        if nesting.after(data) <= MOST_DEPTH:
            return data
        self.cut = True
        kept: list[bytes] = []
        begin, end = (0 if depth <= MOST_DEPTH else len(data)), len(data)
        for found in _TOKENS.finditer(data, 1 if escaped else 0):
            token = found[0]
            if token == b'"':
                in_text = not in_text
            elif in_text or token[0] == _ESCAPE:
                continue
            elif token in b"[{":
                depth += 1
                if depth == MOST_DEPTH + 1:
                    kept += [data[begin : found.start()], f'"{self.MARK}"'.encode()]
                    begin = end
            else:
                depth -= 1
                if depth == MOST_DEPTH:
                    begin = found.end()
        return b"".join([*kept, data[begin:]])


_TOKENS = re.compile(rb'(?s)\\.|["\[\]{}]')
_ESCAPE = b"\\"[0]


def is_cut(value: object) -> bool:
    """Whether `Flattened` has taken something out of a value that was parsed from its text."""
    if isinstance(value, dict):
        return any(map(is_cut, value.values()))
    if isinstance(value, list):
        return any(map(is_cut, value))
    return value == Flattened.MARK


def _opened(marks: bytes) -> int:
    return marks.count(b"[") + marks.count(b"{")
