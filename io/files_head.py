"""What a file begins with: a byte order mark, and a header line with the names of its columns."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from vecferry.errors import FatalError, near, shorten
from vecferry.io.files_csv import CsvDialect
from vecferry.io.files_lines import LongLine, read_lines
from vecferry.io.files_rows import RowError
from vecferry.io.files_settings import FilesSettings


@dataclass(frozen=True, slots=True)
class Head:
    """Where the records of a file begin (in the uncompressed stream), and the header's names.

    `names` is None where the job expects no header, empty where the file is empty.
    """

    body: int
    names: list[str] | None = None


def read_head(
    path: str, stream: Any, settings: FilesSettings, dialect: CsvDialect | None, step: str
) -> Head:
    """The head of the file that `stream` gives from its first byte on.

    Raises FatalError where the header lacks a column of the job, or has one twice.
    """
    # read1 gives what a packed stream has before it finds that the rest is missing.
    more = getattr(stream, "read1", stream.read)
    mark, start = _byte_order_mark(settings.encoding), b""
    while len(start) < len(mark) and (data := more(len(mark) - len(start))):
        start += data
    body = len(mark) if mark and start == mark else 0
    if not settings.skip_header:
        return Head(body)
    blocks = [start[body:]]

    def read(size: int) -> Any:
        return blocks.pop() or more(size) if blocks else more(size)

    where = f"step {step!r}: {path}"
    piece = next(read_lines(read, body, most=settings.max_line_bytes), None)
    if isinstance(piece, LongLine):
        raise FatalError(
            f"{where}: the header line has {piece.length} bytes, more than maxLineBytes "
            f"({settings.max_line_bytes}); is this file of the format {settings.file_format}?"
        )
    line = next(io.BytesIO(piece.data)) if piece else None
    names = [] if line is None else _names(where, line, settings, dialect)
    return Head(body + len(line or b""), names)


def _byte_order_mark(encoding: str) -> bytes:
    try:
        return "\ufeff".encode(encoding)
    except UnicodeEncodeError:
        return b""


def _names(
    where: str, line: bytes, settings: FilesSettings, dialect: CsvDialect | None
) -> list[str]:
    try:
        text = line.rstrip(b"\r\n").decode(settings.encoding)
        names = dialect.split(text) if dialect else text.split(settings.delimiter)
    except UnicodeDecodeError as e:
        raise FatalError(
            f"{where}: the header line is not {settings.encoding} ({e.reason} at byte {e.start}); "
            "set the step's `encoding`"
        ) from e
    except RowError as e:
        raise FatalError(f"{where}: the header line can't be read: {e}") from e
    if settings.by_name:
        _require(where, names, settings)
    return names


def _require(where: str, names: list[str], settings: FilesSettings) -> None:
    wanted = [c.name for c in settings.column if c.index is None and c.in_file]
    listed = shorten(", ".join(names))
    for name in wanted:
        if name not in names:
            raise FatalError(
                f"{where}: the header line has no column {name!r}{near(name, names)}; it has "
                f"{listed}; correct the name or the fieldDelimiter ({settings.delimiter!r})"
            )
    twice = sorted({n for n in wanted or names if names.count(n) > 1})
    if twice:
        raise FatalError(
            f"{where}: the header line has {twice[0]!r} twice ({listed}); take it by its index"
        )
