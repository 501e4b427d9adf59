"""What the file reader and the formats agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from vecferry.io.files.formats.records import Items
from vecferry.io.files.settings import TABLES, FilesSettings
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

Opener = Callable[[str], Any]
"""Opens the file of a path for reading bytes, for a `with`."""


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

    @property
    def whole(self) -> bool:
        """Whether it is all of its file."""
        return self.start == 0 and (self.end is None or self.end >= self.size)


class Format(Protocol):
    """Reads the files of one format; a file comes open, at its beginning."""

    def check(self, path: str, raw: Any) -> None:
        """Raises FatalError where the file has not the columns of the job."""

    def batches(self, split: FileSplit, raw: Any) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of a block at a time, with the bytes of the file that they took.

        The bytes of all splits add up to the size of the file. Raises `Damaged` or an error of
        `UNPACK_ERRORS` where the file is not sound.
        """

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier with `raw`."""


def format_of(settings: FilesSettings, context: StepContext, opener: Opener) -> Format:
    """What reads the files of the job."""
    if settings.file_format in TABLES:
        from vecferry.io.files.formats.columnar import TableFiles

        return TableFiles(settings, context, opener)
    if settings.file_format == "json":
        from vecferry.io.files.formats.json import JsonDocuments

        return JsonDocuments(settings, context, opener)
    from vecferry.io.files.formats.text import TextFiles

    return TextFiles(settings, context, opener)
