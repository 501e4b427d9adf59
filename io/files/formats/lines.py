"""The numbers of lines, for a job that asks for them as a column."""

from __future__ import annotations

import io
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vecferry.rows import Change, Reject

Read = Callable[[int], bytes]

BLOCK_BYTES = 32 << 10
"""So small that a block and its rows stay in a processor's cache, which makes half the speed."""

LONG_LINE = 400
"""Lines of more bytes than this gain nothing from being parsed together in large blocks."""

LONG_BLOCK_BYTES = 256 << 10
"""What is read at once of them, so that it stays in a processor's cache until it is parsed."""

HEAD_BYTES = 1024
"""So much of a line that is too long is kept."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines, the first of which begins at byte `at`; the last may lack its line feed."""

    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class LongLine:
    """A line over the limit: where it begins, its length in bytes and its first kilobyte."""

    at: int
    length: int
    head: bytes
    size: int


Piece = Lines | LongLine


class _Chunks:
    """A stream in chunks of whole lines; what it holds is a block and at most one line."""

    def __init__(self, read: Read, at: int, most: int, block: int) -> None:
        self.read, self.at, self.most = read, at, most
        self._tail = b""
        self._short_block, self._long_block = block, min(block, LONG_BLOCK_BYTES)
        self._block = min(block, BLOCK_BYTES)

    def skip_line(self, end: float) -> bool:
        """Passes the rest of the line that holds byte `at`; False: none begins before `end`."""
        while self.at < end and (data := self.read(self._block)):
            cut = data.find(b"\n") + 1
            self.at += cut or len(data)
            if cut:
                self._tail = data[cut:]
                return self.at < end
        return False

    def next(self) -> bytes | LongLine | None:
        """Bytes up to a line feed (the last may lack it), a line over the limit, or the end."""
        chunk = self._next()
        if isinstance(chunk, bytes):
            short = chunk.find(b"\n", 0, LONG_LINE) >= 0
            self._block = self._short_block if short else self._long_block
        return chunk

    def _next(self) -> bytes | LongLine | None:
        parts, held = [self._tail], len(self._tail)
        if b"\n" not in self._tail and held <= self.most:
            data = self.read(self._block)
            if cut := data.rfind(b"\n") + 1:
                whole = memoryview(data)[:cut]
                self._tail = data[cut:]
                return b"".join((parts[0], whole))
            parts.append(data)
            held += len(data)
        # After a long line the tail may hold whole lines already.
        while b"\n" not in parts[-1] and held <= self.most and (data := self.read(self._block)):
            parts.append(data)
            held += len(data)
        joined = b"".join(parts)
        cut = joined.rfind(b"\n") + 1
        if not cut and held > self.most:
            del parts
            return self._skip_long(joined[:HEAD_BYTES], held)
        cut = cut or held
        self._tail = joined[cut:]
        return joined[:cut] or None

    def _skip_long(self, head: bytes, length: int) -> LongLine:
        self._tail = b""
        while data := self.read(self._block):
            cut = data.find(b"\n")
            if cut >= 0:
                self._tail = data[cut + 1 :]
                length += cut
                return LongLine(self.at, length, head, length + 1)
            length += len(data)
        return LongLine(self.at, length, head, length)


def read_lines(
    read: Read,
    at: int,
    end: float = math.inf,
    *,
    most: int,
    mid_line: bool = False,
    block: int = BLOCK_BYTES,
) -> Iterator[Piece]:
    """The lines of a stream that begin before byte `end`.

    Args:
      read: gives up to so many next bytes, none at the end.
      at: where the stream stands.
      most: the longest line in bytes, without its line feed; a longer one comes as `LongLine`.
      mid_line: the byte at `at` belongs to a line that began earlier or ends there; the first line
        is the one after it.
    """
    chunks = _Chunks(read, at, most, block)
    if mid_line and not chunks.skip_line(end):
        return
    while chunks.at < end and (chunk := chunks.next()):
        if isinstance(chunk, LongLine):
            yield chunk
            chunks.at += chunk.size
            continue
        if chunks.at + len(chunk) > end:
            # The last line is the one that holds the byte end - 1.
            stop = chunk.find(b"\n", int(end) - 1 - chunks.at) + 1
            chunk = chunk[:stop] if stop else chunk
        yield from _cut(chunk, chunks.at, most)
        chunks.at += len(chunk)


def _cut(chunk: bytes, at: int, most: int) -> Iterator[Piece]:
    if len(chunk) <= most:
        yield Lines(at, chunk)
        return
    for line in io.BytesIO(chunk):
        length = len(line) - line.endswith(b"\n")
        if length > most:
            yield LongLine(at, length, line[:HEAD_BYTES], len(line))
        else:
            yield Lines(at, line)
        at += len(line)


class LineNumbers:
    """Puts the number of the line on which each record begins into its row.

    `names` are the columns of the number, `read` is how many lines came before the first one that
    is given. Lines are forgotten once a record that begins later has been seen, so that memory
    stays at the longest record.
    """

    def __init__(self, names: list[str], read: int) -> None:
        self._names, self._passed = names, read
        self._begins: list[int] = []

    def add(self, lines: bytes, at: int) -> None:
        """Whole lines, the first of which begins at byte `at`."""
        if self._names:
            ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == 10) + (at + 1)
            self._begins += [at, *ends.tolist()]
            if lines.endswith(b"\n"):
                self._begins.pop()

    def put(self, items: list[Change | Reject]) -> None:
        """Fills the columns of rows, which come in the order of their lines."""
        if not self._names:
            return
        for item in items:
            at = int(item.origin.rpartition(":")[2])
            number = self._passed + bisect_left(self._begins, at) + 1
            if isinstance(item, Change):
                item.update(dict.fromkeys(self._names, number))
        if items:
            done = bisect_left(self._begins, at)
            self._passed += done
            del self._begins[:done]
