"""Reads files of lines: any range of bytes of a plain one, a packed one from its start.

Memory stays at a block and one record, whatever the size of a file.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vecferry.errors import FatalError, near, shorten
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.files.formats.base import FileSplit, LineSpec, Opener
from vecferry.io.files.formats.lines import BLOCK_BYTES, LineNumbers, LongLine, Piece, read_lines
from vecferry.io.files.formats.records import Items, Rejects, byte_order_mark
from vecferry.io.files.formats.signatures import HEAD_BYTES, look_packed, require_text
from vecferry.io.files.formats.unpack import UNPACK_ERRORS, Damaged, members, skip, what_is_there
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext


@dataclass(frozen=True, slots=True)
class Head:
    """Where the records of a file begin (in the uncompressed stream), and the header's names.

    `names` is None where the job expects no header, empty where the file is empty. `lines` is how
    many lines come before the records; `returns` says that lines end with a carriage return alone.
    """

    body: int
    names: list[str] | None = None
    lines: int = 0
    returns: bool = False


HEADER_LINES = 100
"""So many lines a quoted name of a header may span; a quote that is never closed ends there."""


def read_head(path: str, stream: Any, spec: LineSpec, step: str, packing: str | None) -> Head:
    """The head of the file that `stream` gives from its first byte on.

    Raises Damaged where the file is of another kind, FatalError where the header lacks a column of
    the job, or has one twice.
    """
    more = what_is_there(stream)
    start = _look(more)
    require_text(start, packing)
    mark = byte_order_mark(spec.encoding)
    body = len(mark) if mark and start.startswith(mark) else 0
    start = start[body:]
    spec.check_head(start)
    returns = b"\n" not in start and b"\r" in start.rstrip(b"\r")
    if not (spec.skip_header or spec.skip_rows):
        return Head(body, returns=returns)
    blocks = [start]

    def read(size: int) -> Any:
        return blocks.pop() or more(size) if blocks else more(size)

    where = f"step {step!r}: {path}"
    lines = _lines(_returns_as_feeds(read) if returns else read, body, spec.max_bytes)
    passed = 0
    for _, size in itertools.islice(lines, spec.skip_rows):
        body, passed = body + size, passed + 1
    if not spec.skip_header:
        return Head(body, None, passed, returns)
    header, found = b"", False
    for line, size in lines:
        if size > spec.max_bytes:
            raise FatalError(
                f"{where}: the header line has {size} bytes, more than maxLineBytes "
                f"({spec.max_bytes}); is this file of the format {spec.name}?"
            )
        body, passed = body + size, passed + 1
        if not header and _passed_over(line, spec):
            continue
        header, found = header + line, True
        if passed > HEADER_LINES or not _goes_on(header, spec):
            break
    names = _names(where, header, spec) if found else []
    return Head(body, names, passed, returns)


def _look(more: Any) -> bytes:
    """The first bytes of a stream, or what there is of them."""
    start = b""
    try:
        while len(start) < HEAD_BYTES and (data := more(HEAD_BYTES - len(start))):
            start += data
    except UNPACK_ERRORS:
        if not start:
            raise
    except OSError as e:  # of a packed stream; another one is raised again by who reads on
        if not start or e.errno is not None:
            raise
    return start


def _lines(read: Any, at: int, most: int) -> Iterator[tuple[bytes, int]]:
    """Line by line, with its bytes in the file; of a line over `most` only the beginning."""
    for piece in read_lines(read, at, most=most):
        if isinstance(piece, LongLine):
            yield piece.head, piece.size
        else:
            for line in io.BytesIO(piece.data):
                yield line, len(line)


def _returns_as_feeds(read: Any) -> Any:
    """`read` with a line feed for each carriage return; Damaged where there are both."""

    def translated(size: int) -> bytes:
        data: bytes = read(size)
        if b"\n" in data:
            raise Damaged(
                "has lines that end with a carriage return, and later a line feed; end all lines "
                "in one way"
            )
        return data.replace(b"\r", b"\n")

    return translated


def _passed_over(line: bytes, spec: LineSpec) -> bool:
    text = line.rstrip(b"\r\n")
    if not text:
        return spec.skip_blank
    return bool(spec.comment) and text.startswith((spec.comment or "").encode(spec.encoding))


def _goes_on(header: bytes, spec: LineSpec) -> bool:
    return spec.goes_on(header.decode(spec.encoding, "replace"))


def _names(where: str, line: bytes, spec: LineSpec) -> list[str]:
    try:
        names = spec.names(line.rstrip(b"\r\n").decode(spec.encoding))
    except UnicodeDecodeError as e:
        raise FatalError(
            f"{where}: the header line is not {spec.encoding} ({e.reason} at byte {e.start}); "
            "set the step's `encoding`"
        ) from e
    except UnfitValue as e:
        raise FatalError(f"{where}: the header line can't be read: {e}") from e
    _require_delimiter(where, names, spec)
    if spec.by_name:
        _require(where, names, spec)
    return names


_DELIMITERS = {"\t": "tabs", ";": "semicolons", "|": "bars", "\x01": "\\u0001", ",": "commas"}


def _require_delimiter(where: str, names: list[str], spec: LineSpec) -> None:
    """FatalError where a header is one name that holds what may well be the delimiter."""
    wanted = [c for c in spec.columns if c.in_file]
    found = [
        c.index or 0 if c.index is not None else names.index(c.name)
        for c in wanted
        if (c.index is not None or c.name in names)
    ]
    if len(names) != 1 or (wanted and len(found) == len(wanted) and max(found) == 0):
        return
    for delimiter, called in _DELIMITERS.items():
        if delimiter != spec.delimiter and delimiter in names[0]:
            shown = delimiter.encode("unicode_escape").decode()
            raise FatalError(
                f"{where}: the header line is one column with {called} in it "
                f"({shorten(names[0])}), and the fieldDelimiter is {spec.delimiter!r}; "
                f'set fieldDelimiter to "{shown}"'
            )


def _require(where: str, names: list[str], spec: LineSpec) -> None:
    wanted = [c.name for c in spec.columns if c.index is None and c.in_file]
    listed = shorten(", ".join(names))
    for name in wanted:
        if name not in names:
            raise FatalError(
                f"{where}: the header line has no column {name!r}{near(name, names)}; it has "
                f"{listed}; correct the name or the fieldDelimiter ({spec.delimiter!r})"
            )
    twice = sorted({n for n in wanted or names if names.count(n) > 1})
    if twice:
        raise FatalError(
            f"{where}: the header line has {twice[0]!r} twice ({listed}); take it by its index"
        )


_CUT = re.compile(r"… \[cut: the line has \d+ bytes\]\Z")


class LineFiles:
    """The formats of lines; see `vecferry.io.files.formats.base.FileReader`.

    The origin of a row is ``path:offset``, the byte at which the record begins, of a packed file
    in the unpacked text.
    """

    def __init__(self, spec: LineSpec, context: StepContext, opener: Opener) -> None:
        self.spec, self.context, self._open = spec, context, opener
        self._block = spec.block_bytes or BLOCK_BYTES
        self._heads: dict[str, Head] = {}

    def check(self, path: str, raw: object) -> None:
        """Reads the head of the file."""
        packing = self.spec.packing(path)
        if packing is None:
            self._head(path, raw)
            return
        look_packed(raw, packing)
        for name, fresh in members(path, raw, packing):
            self._head(name, fresh(), packing)
            return

    def batches(self, split: FileSplit, raw: Any) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of a block at a time, with the bytes of the file that they took."""
        packing = self.spec.packing(split.path)
        if packing is None:
            yield from self._plain(split, raw)
            return
        counted = 0
        look_packed(raw, packing)
        for name, fresh in members(split.path, raw, packing):
            head = self._head(name, fresh(), packing)
            with fresh() as stream:
                skip(stream, head.body)
                most = self.spec.max_bytes
                read = _returns_as_feeds(stream.read1) if head.returns else stream.read1
                pieces = read_lines(read, head.body, most=most, block=self._block)
                for items, _ in self._read(name, head, pieces):
                    size = max(0, min(raw.tell(), split.size) - counted)
                    counted += size
                    yield items, size
        yield [], split.size - counted

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier, or a reject again.

        A file whose columns go by a header line must still be there. A line that was too long is
        rejected again: not all of it was kept.
        """
        path, _, at = origin.rpartition(":")
        rejects = Rejects(self.context, path, self.spec.encoding)
        offset = int(at)
        if isinstance(raw, str) and _CUT.search(raw):
            return self._too_long(rejects, raw, offset)
        data = raw.encode(self.spec.encoding) if isinstance(raw, str) else raw
        parser = self.spec.parser(self._head_of(path).names, rejects)
        some = itertools.chain(parser.feed(data, offset), parser.finish())
        items = list(itertools.chain.from_iterable(some))
        if len(items) == 1:
            return items[0]
        message = f"the record now reads as {len(items)} rows; run the job over its source again"
        return rejects.make("not-one-row", message, data, offset)

    def _plain(self, split: FileSplit, raw: Any) -> Iterator[tuple[Items, int]]:
        raw.seek(0)
        head = self._head(split.path, raw)
        end = split.size if split.end is None else split.end
        mid_line = split.start > head.body
        at = split.start - 1 if mid_line else head.body
        raw.seek(at)
        if not split.start:
            yield [], min(head.body, split.size)
        most = self.spec.max_bytes
        read = _returns_as_feeds(raw.read) if head.returns else raw.read
        pieces = read_lines(read, at, end, most=most, mid_line=mid_line, block=self._block)
        yield from self._read(split.path, head, pieces)

    def _read(self, path: str, head: Head, pieces: Iterator[Piece]) -> Iterator[tuple[Items, int]]:
        if head.names == [] and self.spec.by_name:
            return
        rejects = Rejects(self.context, path, self.spec.encoding)
        parser = self.spec.parser(head.names, rejects)
        at_once, feed = parser.feed_bytes, parser.feed
        numbers = LineNumbers(self.spec.numbers, read=head.lines)
        for piece in pieces:
            if isinstance(piece, LongLine):
                numbers.add(b"\n", piece.at)
                for items in parser.finish():
                    numbers.put(items)
                    yield items, 0
                items = [self._long_line(rejects, piece)]
                numbers.put(items)
                yield items, piece.size
                continue
            data, begun, size = piece.data, 0, len(piece.data)
            while begun < size:
                end = data.find(b"\n", begun + at_once) + 1 or size
                lines = data[begun:end] if size > 2 * at_once else data
                end = begun + len(lines)
                numbers.add(lines, piece.at + begun)
                for items in feed(lines, piece.at + begun):
                    numbers.put(items)
                    yield items, end - begun
                    begun = end
                if begun < end:
                    yield [], end - begun
                    begun = end
        for items in parser.finish():
            numbers.put(items)
            yield items, 0

    def _long_line(self, rejects: Rejects, piece: LongLine) -> Reject:
        kept = piece.head.decode(self.spec.encoding, "replace")
        text = f"{kept}… [cut: the line has {piece.length} bytes]"
        return self._too_long(rejects, text, piece.at)

    def _too_long(self, rejects: Rejects, text: str, at: int) -> Reject:
        message = (
            f"{rejects.path}, byte {at}: the line is longer than maxLineBytes "
            f"({self.spec.max_bytes}); run the job over the file again with more"
        )
        origin = f"{rejects.path}:{at}"
        return self.context.reject("line-too-long", message, raw=text, origin=origin)

    def _head_of(self, path: str) -> Head:
        """The head of a file that is not open; nothing is opened where no header is needed."""
        if not (self.spec.skip_header and self.spec.by_name):
            return Head(0)
        packing = self.spec.packing
        archives = [path[:i] for i in range(len(path)) if path[i] == "!"]
        for name in (n for n in archives if packing(n) == "zip"):
            with contextlib.suppress(FileNotFoundError), self._open(name) as raw:
                return self._head_within(path, name, "zip", raw)
        with self._open(path) as raw:
            return self._head_within(path, path, packing(path), raw)

    def _head_within(self, path: str, name: str, packing: str | None, raw: Any) -> Head:
        head = self._head(path, raw) if packing is None else Head(0)
        if packing is not None:
            for member, fresh in members(name, raw, packing):
                if member == path:
                    head = self._head(path, fresh(), packing)
                    break
        if not head.names:
            raise FatalError(f"{path}: the file is empty now; its header line is needed")
        return head

    def _head(self, path: str, stream: Any, packing: str | None = None) -> Head:
        if path not in self._heads:
            head = read_head(path, stream, self.spec, self.context.step, packing)
            self._heads = {path: head}
        return self._heads[path]
