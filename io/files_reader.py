"""Reads files into rows, without Beam: lists them, cuts them into splits, reads one split.

Memory stays at a block and one record, whatever the size of a file.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from vecferry.errors import FatalError, JobError
from vecferry.io.files_csv import CsvDialect, csv_parser
from vecferry.io.files_head import Head, read_head
from vecferry.io.files_lines import Lines, LongLine, read_lines
from vecferry.io.files_parse import (
    Fields,
    FieldsToRow,
    Items,
    JsonLines,
    Parser,
    Rejects,
    WholeLines,
)
from vecferry.io.files_settings import FilesSettings
from vecferry.io.files_store import FileInfo, filesystem
from vecferry.rows import Change, Reject
from vecferry.settings import Settings
from vecferry.steps import Counts, Size, StepContext

SPLIT_BYTES = 64 << 20

_CUT = re.compile(r"… \[cut: the line has \d+ bytes\]\Z")
_UNREADABLE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True, slots=True)
class FileSplit:
    """The records of a file that begin in bytes `start` to `end`; no `end` is the whole stream.

    `size` and `version` are the file's when it was listed.
    """

    path: str
    start: int
    end: int | None
    size: int
    version: str


class FileReader:
    """The reader of the stepTypes oss, s3, hdfs, gcs and file; see `vecferry.steps.Reader`.

    The origin of a row is ``path:offset``, the path within the data source's folder and the byte
    at which the record begins (of a gzip file: in the uncompressed stream).
    """

    def __init__(
        self,
        settings: FilesSettings,
        connection: Settings,
        context: StepContext,
        *,
        split_bytes: int = SPLIT_BYTES,
    ) -> None:
        self.settings, self.context, self.counts = settings, context, Counts()
        self._split_bytes = split_bytes
        self._store = filesystem(connection)
        self._dialect = CsvDialect(settings) if settings.file_format == "csv" else None
        self._heads: dict[str, Head] = {}

    def check(self) -> None:
        """Raises JobError where there is nothing to read or the first file can't be opened."""
        first = self._files()[0]
        try:
            with self._store.open(first.path) as raw:
                self._head(first.path, raw)
        except (FatalError, *_UNREADABLE) as e:
            fatal = isinstance(e, FatalError)
            raise JobError(str(e) if fatal else self._unreadable(first.path, e)) from e

    def size(self) -> Size:
        """The bytes of all files as they are stored; rows are unknown."""
        return Size(bytes=sum(f.size for f in self._files()))

    def splits(self) -> list[FileSplit]:
        """The parts of all files, sorted; JobError where a pattern matches nothing."""
        return [split for file in self._files() for split in self._cut(file)]

    def read(self, split: FileSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        Raises FatalError where the file is gone, has changed since it was listed, or can't be
        read to its end; the rows before that place have been given by then.
        """
        self._require_unchanged(split)
        try:
            with self._store.open(split.path) as raw:
                for items, size in self._batches(split, raw):
                    n = 0
                    try:
                        for n, item in enumerate(items, 1):  # noqa: B007
                            yield item
                    finally:
                        # Also where the consumer has had enough: what it took is counted.
                        self.counts.add("rows-read", n)
                        self.counts.add("bytes-read", size)
        except _UNREADABLE as e:
            raise FatalError(self._unreadable(split.path, e)) from e
        self._require_unchanged(split)

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier, or a reject again.

        A file whose columns go by a header line must still be there. A line that was too long is
        rejected again: not all of it was kept.
        """
        path, _, at = origin.rpartition(":")
        rejects = Rejects(self.context, path, self.settings.encoding)
        offset = int(at)
        if isinstance(raw, str) and _CUT.search(raw):
            return self._too_long(rejects, raw, offset)
        data = raw.encode(self.settings.encoding) if isinstance(raw, str) else raw
        parser = self._parser(path, rejects, self._head_of(path))
        items = parser.feed(io.BytesIO(data), offset) + parser.finish()
        if len(items) == 1:
            return items[0]
        message = f"the record now reads as {len(items)} rows; run the job over its source again"
        return rejects.make("not-one-row", message, data, offset)

    def _files(self) -> list[FileInfo]:
        rooted = self.context.step_type == "hdfs"
        found: dict[str, FileInfo] = {}
        problems: list[str] = []
        for pattern in self.settings.paths:
            try:
                files = self._store.find(self._store.relative(pattern, rooted=rooted))
                found |= {f.path: f for f in files}
            except JobError as e:
                problems += e.problems
            except OSError as e:
                problems.append(self._unreadable(pattern, e))
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])
        return sorted(found.values(), key=lambda f: f.path)

    def _cut(self, file: FileInfo) -> list[FileSplit]:
        def part(start: int, end: int | None) -> FileSplit:
            return FileSplit(file.path, start, end, file.size, file.version)

        if self.settings.gzipped(file.path):
            return [part(0, None)]
        step = self._split_bytes if self.settings.splittable else max(file.size, 1)
        return [part(at, min(at + step, file.size)) for at in range(0, file.size, step)]

    def _batches(self, split: FileSplit, raw: Any) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of a block at a time, with the bytes of the file that they took."""
        head = self._head(split.path, raw)
        rejects = Rejects(self.context, split.path, self.settings.encoding)
        packed = self.settings.gzipped(split.path)
        counted = 0 if packed or split.start else min(head.body, split.size)
        yield [], counted
        if head.names == [] and self.settings.by_name:
            return
        parser = self._parser(split.path, rejects, head)
        for piece in self._pieces(split, raw, head.body):
            for items, size in self._parsed(piece, parser, rejects):
                size = raw.tell() - counted if packed else size
                counted += size
                yield items, size
        yield parser.finish(), raw.tell() - counted if packed else 0

    def _parsed(
        self, piece: Lines | LongLine, parser: Parser, rejects: Rejects
    ) -> Iterator[tuple[Items, int]]:
        if isinstance(piece, LongLine):
            kept = piece.head.decode(self.settings.encoding, "replace")
            text = f"{kept}… [cut: the line has {piece.length} bytes]"
            yield [*parser.finish(), self._too_long(rejects, text, piece.at)], piece.size
            return
        # BytesIO gives lines as fast as a file does, one at a time.
        lines, begun, size = io.BytesIO(piece.data), 0, len(piece.data)
        while begun < size:
            items = parser.feed(islice(lines, parser.lines_at_once), piece.at + begun)
            end = lines.tell()
            yield items, end - begun
            begun = end

    def _pieces(self, split: FileSplit, raw: Any, body: int) -> Iterator[Lines | LongLine]:
        most = self.settings.max_line_bytes
        if self.settings.gzipped(split.path):
            with gzip.GzipFile(fileobj=raw, mode="rb") as stream:
                stream.seek(body)
                # read1 gives what it has before it finds that the rest is missing.
                yield from read_lines(stream.read1, body, most=most)
            return
        end = split.size if split.end is None else split.end
        mid_line = split.start > body
        at = split.start - 1 if mid_line else body
        raw.seek(at)
        yield from read_lines(raw.read, at, end, most=most, mid_line=mid_line)

    def _too_long(self, rejects: Rejects, text: str, at: int) -> Reject:
        message = (
            f"{rejects.path}, byte {at}: the line is longer than maxLineBytes "
            f"({self.settings.max_line_bytes}); run the job over the file again with more"
        )
        origin = f"{rejects.path}:{at}"
        return self.context.reject("line-too-long", message, raw=text, origin=origin)

    def _parser(self, path: str, rejects: Rejects, head: Head) -> Parser:
        settings = self.settings
        if settings.file_format == "jsonl" and not settings.whole_line:
            return JsonLines(settings, rejects)
        plain = [c.type for c in settings.column if c.index is not None] in ([None], ["string"])
        if settings.whole_line and plain:
            return WholeLines(settings, rejects)
        to_row = FieldsToRow(settings, head.names)
        if self._dialect is not None:
            return csv_parser(settings, self._dialect, to_row, rejects)
        delimiter, whole = settings.delimiter, settings.whole_line
        return Fields(to_row, rejects, lambda t: [t] if whole else t.split(delimiter))

    def _head_of(self, path: str) -> Head:
        """The head of a file that is not open; nothing is opened where no header is needed."""
        if not (self.settings.skip_header and self.settings.by_name):
            return Head(0)
        try:
            with self._store.open(path) as raw:
                head = self._head(path, raw)
        except _UNREADABLE as e:
            raise FatalError(self._unreadable(path, e)) from e
        if not head.names:
            raise FatalError(f"{path}: the file is empty now; its header line is needed")
        return head

    def _head(self, path: str, raw: Any) -> Head:
        if path not in self._heads:
            head = read_head(path, raw, self.settings, self._dialect, self.context.step)
            self._heads = {path: head}
        return self._heads[path]

    def _require_unchanged(self, split: FileSplit) -> None:
        try:
            now = self._store.info(split.path)
        except FileNotFoundError as e:
            raise FatalError(self._unreadable(split.path, e)) from e
        if (now.size, now.version) != (split.size, split.version):
            raise FatalError(
                f"step {self.context.step!r}: {split.path} changed since it was listed "
                f"({split.size} bytes then, {now.size} now); run the job again when nobody "
                "writes to its files"
            )

    def _unreadable(self, path: str, error: BaseException) -> str:
        if isinstance(error, FileNotFoundError):
            what = "vanished since it was listed; run the job again when nobody moves its files"
        elif isinstance(error, PermissionError):
            what = "may not be read by this user; change its permissions"
        elif isinstance(error, EOFError):
            what = "ends in the middle of its gzip stream: it was cut off; write it anew"
        elif isinstance(error, gzip.BadGzipFile | zlib.error):
            what = f"is no sound gzip file ({error}); write it anew, or set `compress` to none"
        else:
            what = f"can't be read: {error}"
        return f"step {self.context.step!r}: {path} {what}"
