"""How deep JSON may be nested, in one place: what reads JSON text asks here first.

Parsers take about 1,000 levels and writers of JSON about 250. A value between the two could be
read and never be written, not even as a reject.
"""

from __future__ import annotations

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
    """How deep a JSON text is nested, which comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_text = False
        self._rest = b""

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
        marks = b"".join(parts[self._in_text :: 2])
        self._in_text ^= len(parts) % 2 == 0
        begun, whole = self._depth, marks
        self._depth += 2 * _opened(marks) - len(marks)
        # Long lists of small objects are common: leaves go, a level or two at a time.
        for level in range(0, 2 * _PASSES, 2):
            if begun + _opened(marks) + level <= MOST_DEPTH:
                return max(begun, self._depth)
            marks = marks.replace(b"{}", b"").replace(b"[]", b"")
        depth = deepest = begun
        for mark in whole:
            depth += 1 if mark in b"[{" else -1
            deepest = max(deepest, depth)
        return deepest


def _opened(marks: bytes) -> int:
    return marks.count(b"[") + marks.count(b"{")
