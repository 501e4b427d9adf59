"""Reads a file as a document: all its rows, or none, as they were in the state that was listed.

What names the document is the path. Each row says its number, and how many rows there are, as a
chunk of a document does. So a writer with `parentKey` replaces all rows of a file, and removes
those that a shorter file no longer has. Stands apart from `followed` because it runs in workers,
and knows neither positions nor lists.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from vecferry.errors import FatalError, TransientError, VecferryError
from vecferry.io.files.formats.base import FileReader, FileSplit, FormatSpec
from vecferry.io.files.formats.unpack import UNPACK_ERRORS, Damaged, explain
from vecferry.io.files.settings import CHUNK_ID
from vecferry.io.files.stores.base import FileInfo, FileStore
from vecferry.io.files.stores.remote import Changed, ResumingFile
from vecferry.rows import CHUNK_COUNT, CHUNK_INDEX, DELETE, INSERT, Change, Reject
from vecferry.steps import Counts, StepContext

MOST_FILE_BYTES = 256 << 20
MOST_FILE_ROWS = 100_000
"""A larger file is rejected: its rows are in memory together, here and in the writer."""

Items = list[Change | Reject]


class WholeFiles:
    """Reads files of one job.

    Args:
      path_column: the column with the path.
      one_row: whether a file is one row, as the writer has one document, or one id, for a path.
    """

    def __init__(
        self,
        store: FileStore,
        spec: FormatSpec,
        reader: FileReader,
        context: StepContext,
        counts: Counts,
        *,
        path_column: str,
        one_row: bool,
    ) -> None:
        self._store, self._spec, self._reader = store, spec, reader
        self._context, self._counts = context, counts
        self._path_column, self._one_row = path_column, one_row

    def read(self, file: FileInfo, kind: str, version: int | None) -> Items | None:
        """The rows of a file in the state that was listed; None if it is gone or has another one.

        A file that can't be read is rejected, once it surely is in that state.
        """
        if file.size > MOST_FILE_BYTES:
            return [self._too_large(file, f"{file.size:,} bytes", version)]
        if not self._is_still(file):
            return None
        items, fault = self._items(file)
        if items is None or not self._is_still(file):
            return None
        if fault:
            return [self._rejected(file, "unreadable-file", fault, version)]
        rows = [item for item in items if isinstance(item, Change)]
        if len(rows) > MOST_FILE_ROWS:
            return [self._too_large(file, f"more than {MOST_FILE_ROWS:,} rows", version)]
        if self._one_row and len(rows) > 1:
            text = (
                f"has {len(rows):,} rows, and the job takes a file for one; let the writer make "
                "its id of chunk_id, with a parentKey of the path, and leave out text-splitting"
            )
            return [self._rejected(file, "several-rows", text, version)]
        if not rows:
            return self._without_rows(file, items, kind, version)
        return self._numbered(file, items, len(rows), kind, version)

    def gone(self, path: str, version: int | None) -> Change:
        """The delete of all rows of a file."""
        row = {self._path_column: path, **_place(path, 0, 0)}
        return Change(row, kind=DELETE, version=version, origin=f"{path}:0")

    def _items(self, file: FileInfo) -> tuple[Items | None, str]:
        """What the format makes of a file, and why it can't be read; None if it has changed."""
        whole = self._spec.packing(file.path) or not self._spec.splittable
        end = None if whole else file.size
        split = FileSplit(file.path, 0, end, file.size, file.version, file.modified)
        items: Items = []
        if not file.size:
            return items, ""
        raw: Any = None
        try:
            with self._store.open(file.path, file) as raw:
                for some, size in self._reader.batches(split, raw):
                    items += some
                    self._counts.add("bytes-read", size)
                    if len(items) > MOST_FILE_ROWS:
                        break
        except (OSError, FatalError, Damaged, *UNPACK_ERRORS) as e:
            return self._failed(file, raw, e)
        return items, ""

    def _failed(self, file: FileInfo, raw: Any, error: Exception) -> tuple[Items | None, str]:
        """What an error says: the file has changed, is at fault itself, or its store is."""
        of_store = raw.failure if isinstance(raw, ResumingFile) else None
        error = of_store or error
        if isinstance(error.__cause__, Changed) or isinstance(error, FileNotFoundError):
            return None, ""
        if of_store is not None and isinstance(error, VecferryError):
            raise error
        if isinstance(error, PermissionError):
            return [], "may not be read by this user; change its permissions"
        if isinstance(error, Damaged):
            return [], f"{error}"
        told = explain(self._spec.packing(file.path), error)
        if (
            told
            or isinstance(error, FatalError)
            or not isinstance(error, OSError)
            or not error.errno
        ):
            return [], told or f"can't be read: {error}"
        step = self._context.step
        raise TransientError(f"step {step!r}: {file.path} can't be read: {error}") from error

    def _is_still(self, file: FileInfo) -> bool:
        """Whether a file is in the state that was listed, as far as a read does not make sure."""
        if self._store.reads_one_version:
            return True
        try:
            return self._store.info(file.path).state == file.state
        except FileNotFoundError:
            return False

    def _without_rows(self, file: FileInfo, items: Items, kind: str, version: int | None) -> Items:
        """A delete; of a file whose records are all rejected, what goes on in their place.

        A full load gives rows only: what an older load has left is not its matter.
        """
        if not items and kind == INSERT:
            return []
        gone = self.gone(file.path, version)
        self._counts.add("rows-read", len(items) or 1)
        if not items:
            return [gone]
        first, *others = (item for item in items if isinstance(item, Reject))
        return [dataclasses.replace(first, instead=self._context.on_reject.of(gone)), *others]

    def _numbered(
        self, file: FileInfo, items: Items, count: int, kind: str, version: int | None
    ) -> Items:
        self._counts.add("rows-read", len(items))
        number = 0
        for item in items:
            if isinstance(item, Change):
                item[self._path_column] = file.path
                item.update(_place(file.path, number, count))
                item.kind, item.version = kind, version
                if not self._one_row:
                    item.origin = f"{file.path}:0#{number}"
                number += 1
        return items

    def _too_large(self, file: FileInfo, what: str, version: int | None) -> Reject:
        text = (
            f"has {what}, and a file that is followed is read whole: divide it, or read it with "
            "scanMode full"
        )
        return self._rejected(file, "too-large", text, version)

    def _rejected(self, file: FileInfo, reason: str, text: str, version: int | None) -> Reject:
        self._counts.add("rows-read", 1)
        gone = self.gone(file.path, version)
        message = f"{file.path} {text}"
        return self._context.reject(
            reason, message, raw=file.path, origin=gone.origin, key=[file.path], known=gone
        )


def _place(path: str, number: int, count: int) -> dict[str, Any]:
    return {CHUNK_ID: f"{path}#{number}", CHUNK_INDEX: number, CHUNK_COUNT: count}
