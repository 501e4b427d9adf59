"""What a listing of files is made into: sorted lines, one for each file, in little memory.

A line holds the path, the size and the state of a file. Lines are compared as bytes, and lines that
begin with equal paths stand together. A million lines take about 30 MB while they are sorted.
Stands apart from `manifest` because that knows lines that are sorted already.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator
from itertools import pairwise

from vecferry.io.files.stores.base import FileInfo

RUN_LINES = 50_000
"""So many lines are sorted in memory; then they are packed, and wait."""
_PIECE = 64 << 10
_FIELDS = 4
"""Of a line, behind the path."""


def line_of(file: FileInfo) -> bytes:
    """A file as a line without a line feed."""
    path = file.path.replace("\n", "\0n") if "\n" in file.path else file.path
    modified = "" if file.modified is None else file.modified
    return f"{path}\0{file.size}\0{file.version}\0{file.mark}\0{modified}".encode()


def file_of(line: bytes) -> FileInfo:
    """The file that a line was made of."""
    path, size, version, mark, modified = line.decode().rsplit("\0", _FIELDS)
    at = float(modified) if modified else None
    return FileInfo(path_of(path), int(size), version, at, mark)


def path_of(key: str) -> str:
    """The path that the beginning of a line stands for."""
    return key.replace("\0n", "\n") if "\0" in key else key


def key_of(line: bytes) -> bytes:
    """The beginning of a line, which names the file."""
    return line.rsplit(b"\0", _FIELDS)[0]


def size_of(line: bytes) -> int:
    """The bytes of the file."""
    return int(line.rsplit(b"\0", _FIELDS)[1])


class SortedLines:
    """Takes lines in any order, and gives them sorted, one for each file."""

    def __init__(self, run_lines: int = RUN_LINES) -> None:
        self._most = run_lines
        self._run: list[bytes] = []
        self._runs: list[tuple[bytes, bytes, bytes]] = []

    def add(self, line: bytes) -> None:
        """Takes a line."""
        self._run.append(line)
        if len(self._run) >= self._most:
            self._pack()

    def __iter__(self) -> Iterator[bytes]:
        """All lines so far; of several with one path the last in order."""
        last, known = b"", None
        for line in self._in_order():
            key = key_of(line)
            if known is not None and key != known:
                yield last
            last, known = line, key
        if known is not None:
            yield last

    def _in_order(self) -> Iterator[bytes]:
        if not self._runs:
            self._run.sort()
            return iter(self._run)
        self._pack()
        runs = sorted(self._runs)
        if all(before[1] < after[0] for before, after in pairwise(runs)):
            return (line for _, _, data in runs for line in _unpacked(data))
        return heapq.merge(*(_unpacked(data) for _, _, data in runs))

    def _pack(self) -> None:
        run, self._run = sorted(self._run), []
        if run:
            self._runs.append((run[0], run[-1], zlib.compress(b"\n".join(run), 1)))


def _unpacked(data: bytes) -> Iterator[bytes]:
    """The lines of a packed run, a piece at a time."""
    unpack, rest = zlib.decompressobj(), b""
    while data:
        rest += unpack.decompress(data, _PIECE)
        data = unpack.unconsumed_tail
        *lines, rest = rest.split(b"\n")
        yield from lines
    yield from (rest + unpack.flush()).split(b"\n")
