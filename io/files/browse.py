"""What a store of files holds, and how a file seems to be; see `vecferry.browse`.

A path is one within the data source's folder. The columns of a file of text are told by its first
records, those of Parquet and ORC by its footer.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from itertools import islice
from typing import Any

from vecferry.browse import (
    SAMPLE,
    ColumnInfo,
    Draft,
    Entry,
    Page,
    TableInfo,
    first_rows,
    page_of,
    type_of,
)
from vecferry.errors import JobError
from vecferry.io.files.connections import FileConnection
from vecferry.io.files.formats.document import COLUMNS
from vecferry.io.files.formats.sniff import sniff
from vecferry.io.files.settings import FilesSettings
from vecferry.io.files.source import FileSource
from vecferry.io.files.stores.base import FileInfo, NoFile, is_pattern
from vecferry.process import end_run
from vecferry.steps import RunContext, StepContext

_STEP = "PATH"
_MAYBE_NULL = ("title", "page", "modified")


class FileBrowser:
    """Looks at the files of a data source; `seconds` is how long a store that is away is asked."""

    def __init__(self, connection: FileConnection, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._store = connection.open_files(seconds)

    def test(self) -> str:
        """Lists the top folder."""
        page = self.browse("", 1, None)
        some = "files" if page.entries else "no file yet"
        return f"{self._connection.type} {self._store.name}: {some}"

    def browse(self, path: str, limit: int, after: str | None) -> Page:
        """The files and folders right in a folder, hidden ones left out, as a reader does."""
        folder = self._inside(path)
        entries = (
            Entry(
                name=name,
                path=posixpath.join(folder, name),
                kind="folder" if file is None else "file",
                holds=file is None,
                bytes=None if file is None else file.size,
            )
            for name, file in self._store.entries(folder)
            if name and name[0] not in "._"
        )
        page = page_of(entries, limit, after)
        if not page.entries and folder and after is None:
            self._file(path)  # a file, or nothing at all
        return page

    def columns(self, path: str) -> TableInfo:
        """The columns of a file, and how it is written."""
        file, said = self._sniffed(path)
        columns = self._columns(file, said)
        details = {n: v for n, v in said.items() if isinstance(v, str | int | bool)}
        return TableInfo(columns=columns, details={**details, "bytes": file.size})

    def sample(self, path: str, rows: int) -> list[dict[str, Any]]:
        """The first rows of a file; records that can't be read are left out."""
        file, said = self._sniffed(path)
        return self._rows(file, {**said, "column": self._named(file, said)}, rows)

    def draft(self, path: str) -> Draft:
        """A reader of the file, with the columns and types that its first records have."""
        file, said = self._sniffed(path)
        inside = self._inside(path)
        in_folder = file.path != inside and not is_pattern(inside)
        below = posixpath.join(inside, "**")
        if in_folder and said["fileFormat"] == "text":
            several = len(list(islice(self._store.walk(below), 2))) > 1
            said = {"fileFormat": "document"} if several else said  # not the lines of one
        columns = self._looked(file, said)
        if in_folder and said["fileFormat"] == "document":
            inside = below
        parameter: dict[str, Any] = {"object": inside or "*", **said}
        parameter["column"] = _drafted(said, columns, by_name=self._named(file, said) == ["*"])
        if _is_text(said) and len(columns) > 1:
            parameter["nullFormat"] = ""  # an empty field is null, whatever the type of its column
        return Draft(step_type="file", parameter=parameter, columns=columns)

    def close(self) -> None:
        """The store's clients are those of the process."""

    def _inside(self, path: str) -> str:
        relative = self._store.relative(path.strip("/") or ".")
        return "" if relative == "." else relative

    def _file(self, path: str) -> FileInfo:
        """The file of that path; of a folder or a pattern its first file, in a folder below it."""
        inside = self._inside(path)
        try:
            return self._store.find(inside or ".")[0]
        except NoFile:
            below = None
            if not is_pattern(inside):
                below = next(self._store.walk(posixpath.join(inside, "**")), None)
            if below is None:
                raise
            return below

    def _sniffed(self, path: str) -> tuple[FileInfo, dict[str, Any]]:
        try:
            file = self._file(path)
            with self._store.open(file.path, file) as raw:
                return file, sniff(file.path, raw)
        except OSError as e:
            raise JobError(f"{path}: can't be read: {e}; name another file") from e

    def _named(self, file: FileInfo, said: dict[str, Any]) -> list[Any]:
        """The columns of a file before their types are known."""
        if not _is_text(said) or said.get("skipHeader"):
            return ["*"]
        if said["fileFormat"] == "text":
            return [{"name": "text", "index": 0}]
        width = self._width(file, said)
        return [{"name": f"column_{i}", "index": i} for i in range(width)]

    def _width(self, file: FileInfo, said: dict[str, Any]) -> int:
        """How many fields the first record has."""
        column = [{"name": f"c{i}", "index": i} for i in range(1000)]
        given = {**said, "column": column, "shortRows": "null"}
        first = self._rows(file, given, 1)
        return sum(value is not None for value in first[0].values()) if first else 1

    def _columns(self, file: FileInfo, said: dict[str, Any]) -> list[ColumnInfo]:
        if said["fileFormat"] == "parquet":
            with self._store.open(file.path, file) as raw:
                return _footer(raw)
        return self._looked(file, said)

    def _looked(self, file: FileInfo, said: dict[str, Any]) -> list[ColumnInfo]:
        """The columns as the first records have them; those of documents are known."""
        if said["fileFormat"] == "document":
            return [
                ColumnInfo(name=name, type=kind, nullable=name in _MAYBE_NULL, key=name == "path")
                for name, kind in COLUMNS.items()
            ]
        rows = self._rows(file, {**said, "column": self._named(file, said)}, SAMPLE)
        found = []
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row.get(name) for row in rows]
            empty = any(v is None or v == "" for v in values)
            kind = type_of(values, read_texts=_is_text(said))
            found.append(ColumnInfo(name=name, type=kind, nullable=empty))
        return found

    def _rows(self, file: FileInfo, parameter: dict[str, Any], most: int) -> list[dict[str, Any]]:
        settings = FilesSettings.model_validate({**parameter, "object": file.path})
        run = RunContext()
        context = StepContext(
            step=_STEP, step_type="file", shared=run, retry_deadline=self._seconds
        )
        try:
            return first_rows(FileSource(settings, self._connection, context), most)
        except OSError as e:
            raise JobError(f"{file.path}: can't be read: {e}") from e
        finally:
            end_run(run.id)


def _is_text(said: dict[str, Any]) -> bool:
    return said["fileFormat"] in ("csv", "tsv", "text")


def _footer(raw: Any) -> list[ColumnInfo]:
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(raw)
    return [ColumnInfo(name=f.name, type=str(f.type), nullable=f.nullable) for f in schema]


def _drafted(said: dict[str, Any], columns: Sequence[ColumnInfo], *, by_name: bool) -> list[Any]:
    """The columns as a job names them; only fields of text need an index and a type."""
    if not _is_text(said):
        return [c.name for c in columns]
    drafted: list[Any] = []
    for at, column in enumerate(columns):
        entry: dict[str, Any] = {"name": column.name}
        entry |= {} if by_name else {"index": at}
        entry |= {} if column.type == "string" else {"type": column.type}
        drafted.append(entry if len(entry) > 1 else column.name)
    return drafted
