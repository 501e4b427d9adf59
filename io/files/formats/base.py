"""The formats of files: their table, and what each one tells of itself.

The module of a format holds its `FormatSpec`: which settings fit, whether a file may be cut, what
reads one. No such module imports a library at its head, since `vecferry check` loads the module.
A format is added by its module and its row in `FORMATS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from vecferry.io.files.formats.parameters import CsvReaderConfig, DocumentLimits, FileColumn
from vecferry.kinds import Client

if TYPE_CHECKING:
    from vecferry.io.files.formats.columnar import Table
    from vecferry.io.files.formats.records import Items, Parser, Rejects
    from vecferry.rows import Change, Reject, Row
    from vecferry.steps import StepContext

FORMATS = {
    "jsonl": "vecferry.io.files.formats.jsonl:JsonLinesSpec",
    "csv": "vecferry.io.files.formats.csv:CsvSpec",
    "tsv": "vecferry.io.files.formats.csv:TsvSpec",
    "text": "vecferry.io.files.formats.text:TextSpec",
    "json": "vecferry.io.files.formats.json:JsonSpec",
    "parquet": "vecferry.io.files.formats.parquet:ParquetSpec",
    "orc": "vecferry.io.files.formats.orc:OrcSpec",
    "document": "vecferry.io.files.formats.document:DocumentSpec",
}
"""The class of each format, by its name in a job."""

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".zip": "zip", ".zst": "zstd"}
"""How a file is packed, by the ending of its name."""

Opener = Callable[[str], Any]
"""Opens the file of a path for reading bytes, for a `with`."""


class FormatSettings(Protocol):
    """What a job says of its files, under the names of the parameters."""

    @property
    def column(self) -> Sequence[FileColumn]:
        """The columns; none: all that a file has."""

    @property
    def field_delimiter(self) -> str | None:
        """What stands between the fields of a line, if the job says so."""

    @property
    def encoding(self) -> str:
        """Python's name of the encoding."""

    @property
    def null_format(self) -> str | None:
        """The text of a field that is null."""

    @property
    def skip_header(self) -> bool:
        """Whether the first line has the names of the columns."""

    @property
    def skip_rows(self) -> int:
        """How many lines at the beginning of a file are passed over."""

    @property
    def comment(self) -> str | None:
        """What a line begins with that is passed over."""

    @property
    def short_rows(self) -> str | None:
        """`null`: fields that a record lacks are null; `reject`: the record is rejected."""

    @property
    def skip_empty_lines(self) -> bool | None:
        """Whether blank lines are passed over; None: as the format does."""

    @property
    def record_path(self) -> str | None:
        """Where in a JSON document the records are; None: at its top."""

    @property
    def csv_reader_config(self) -> CsvReaderConfig:
        """How CSV is quoted."""

    @property
    def per_page(self) -> bool:
        """Whether a page of a document is a row."""

    @property
    def document_limits(self) -> DocumentLimits:
        """What one document may take."""

    @property
    def parsers(self) -> Mapping[str, str]:
        """By type of a document, the entry point of the parser that reads it."""

    @property
    def compress(self) -> str | None:
        """How files are packed, whatever their names end in."""

    @property
    def max_line_bytes(self) -> int:
        """The most bytes of a line or record."""


@dataclass(frozen=True, slots=True)
class FileSplit:
    """The records of a file that begin in bytes `start` to `end`; no `end` is the whole stream.

    `size`, `version` and `modified` are the file's when it was listed.
    """

    path: str
    start: int
    end: int | None
    size: int
    version: str
    modified: float | None = None


class FileReader(Protocol):
    """Reads the files of one format; a file comes open, at its beginning."""

    def check(self, path: str, raw: object) -> None:
        """Raises FatalError where the file has not the columns of the job."""

    def batches(self, split: FileSplit, raw: object) -> Iterator[tuple[Items, int]]:
        """Rows and rejects of a block at a time, with the bytes of the file that they took.

        The bytes of all splits add up to the size of the file. Raises `Damaged` or an error of
        `UNPACK_ERRORS` where the file is not sound.
        """

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of a record that was rejected earlier with `raw`."""


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """What a reader of one format needs to know of a job; small and without a library."""

    name: ClassVar[str]
    holds_texts: ClassVar[bool] = False
    """Whether a field without a type is a text."""
    line_options: ClassVar[tuple[str, ...]] = ()
    """Those of `_check_line_options` that it knows."""
    all_columns: ClassVar[Mapping[str, str]] = {}
    """The columns of every file and their types, where the format says them and not the file."""
    whole_files: ClassVar[bool] = False
    """Whether a file is one record, or its pages are: also an empty file, which is read again."""

    columns: tuple[FileColumn, ...] = ()
    compress: str | None = None

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """Raises ValueError where the settings do not fit the format."""
        if settings.compress not in (None, "none", *COMPRESSIONS.values()):
            raise ValueError(
                f"compress {settings.compress!r} is not a known compression; use gzip, bzip2, zip, "
                "zstd or none, or leave compress out to go by each file's ending"
            )
        cls._check_line_options(settings)

    @classmethod
    def _check_line_options(cls, settings: FormatSettings) -> None:
        said = {
            "skipRows": settings.skip_rows,
            "comment": settings.comment,
            "shortRows": settings.short_rows != "reject",
            "skipEmptyLines": settings.skip_empty_lines is not None,
            "recordPath": settings.record_path is not None,
            "perPage": settings.per_page,
            "documentLimits": settings.document_limits != DocumentLimits(),
            "parsers": bool(settings.parsers),
        }
        for name in (n for n, value in said.items() if value and n not in cls.line_options):
            raise ValueError(f"{name} means nothing in a {cls.name} file: remove {name}")
        keyed = next((c.label for c in settings.column if c.source == "recordKey"), None)
        if keyed and not (settings.record_path or "").endswith(".*"):
            raise ValueError(
                f"column {keyed!r} is the recordKey of each row, which only json has, "
                "with a recordPath such as $.*; set recordPath, or remove the column"
            )

    @classmethod
    def clients(cls, settings: FormatSettings) -> list[Client]:
        """The libraries that reading the files needs beyond those of vecferry itself."""
        return []

    @classmethod
    def path_column(cls, settings: FormatSettings) -> str | None:
        """The column of a row that holds the path of its file; None without one."""
        return next((c.label for c in settings.column if c.source == "fileName"), None)

    @classmethod
    def may_be_one_row(cls, settings: FormatSettings) -> bool:
        """Whether a file may be one row, as a document is."""
        return False

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """What settings that fit say of the format."""
        return cls(columns=tuple(settings.column), compress=settings.compress)

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """What reads the files of the job."""
        raise NotImplementedError

    @property
    def splittable(self) -> bool:
        """Whether a file that is not packed may be cut at any record border."""
        return not self.numbers

    @property
    def by_name(self) -> bool:
        """Whether a column is found by its name: a key of an object, or a name in the header."""
        return _by_name(self.columns)

    @property
    def numbers(self) -> list[str]:
        """The columns that are the number of the line, which only a reader of all lines knows."""
        return [c.label for c in self.columns if c.source == "lineNumber"]

    def constants(self, path: str) -> Row:
        """The columns that are the same in each row of the file at `path`."""
        names = {c.label: path for c in self.columns if c.source == "fileName"}
        return {c.label: c.constant for c in self.columns if c.value is not None} | names

    def packing(self, path: str) -> str | None:
        """How the file at `path` is packed: gzip, bzip2, zip, zstd, or None."""
        if self.compress == "none":
            return None
        ending = path[path.rfind(".") :].lower() if "." in path else ""
        return self.compress or COMPRESSIONS.get(ending)


def _by_name(columns: Sequence[FileColumn]) -> bool:
    return not columns or any(c.index is None and c.in_file for c in columns)


def require_header(settings: FormatSettings) -> None:
    """ValueError where fields are found by names, and the files of lines have no header line."""
    if not _by_name(settings.column) or settings.skip_header:
        return
    first = next((c.label for c in settings.column if c.index is None and c.in_file), "")
    which = f"column {first!r} by name" if settings.column else '["*"]'
    raise ValueError(
        f"{which} needs a header line with names: set skipHeader to true, "
        "or give each column its index"
    )


@dataclass(frozen=True, kw_only=True)
class LineSpec(FormatSpec):
    """A format of lines, or of records that are a few lines; `max_bytes` is the longest.

    `skip_rows` lines at the beginning are passed over, and so are lines that begin with `comment`,
    and with `skip_blank` blank ones. `short_null`: fields that a record lacks are null.
    """

    default_delimiter: ClassVar[str] = ","
    line_options: ClassVar[tuple[str, ...]] = ("skipRows", "comment", "shortRows", "skipEmptyLines")

    encoding: str = "utf-8"
    max_bytes: int
    skip_header: bool = False
    null: str | None = None
    delimiter: str = ","
    skip_rows: int = 0
    comment: str | None = None
    short_null: bool = False
    skip_blank: bool = False

    @classmethod
    def of(cls, settings: FormatSettings) -> Self:
        """As elsewhere."""
        return cls(
            columns=tuple(settings.column),
            compress=settings.compress,
            encoding=settings.encoding,
            max_bytes=settings.max_line_bytes,
            skip_header=settings.skip_header,
            null=settings.null_format,
            delimiter=settings.field_delimiter or cls.default_delimiter,
            skip_rows=settings.skip_rows,
            comment=settings.comment,
            short_null=settings.short_rows == "null",
            skip_blank=bool(settings.skip_empty_lines),
        )

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """A reader of any range of bytes."""
        from vecferry.io.files.formats.line_files import LineFiles

        return LineFiles(self, context, opener)

    @property
    def block_bytes(self) -> int | None:
        """How much is best read at once; None: as the lines are long."""
        return None

    def check_head(self, head: bytes) -> None:
        """Raises `Damaged` where text that begins with `head` is not of this format."""

    def goes_on(self, header: str) -> bool:
        """Whether a header that begins with this text needs the next line as well."""
        return False

    def names(self, header: str) -> list[str]:
        """The names in a header line; `UnfitValue` where they can't be read."""
        return header.split(self.delimiter)

    def parser(self, header: list[str] | None, rejects: Rejects) -> Parser:
        """A new parser for one split of a file with these names in its header."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ColumnarSpec(FormatSpec):
    """A format of columns that is cut into units: row groups, or stripes."""

    unit: ClassVar[str]

    @classmethod
    def check_settings(cls, settings: FormatSettings) -> None:
        """A file says itself how its parts are compressed."""
        cls._check_line_options(settings)
        if settings.skip_header:
            raise ValueError(f"{cls.name} files have no header line: remove skipHeader")

    def reader(self, context: StepContext, opener: Opener) -> FileReader:
        """A reader of the columns asked for."""
        from vecferry.io.files.formats.columnar import ColumnarFiles

        return ColumnarFiles(self, context, opener)

    def packing(self, path: str) -> str | None:
        """Never."""
        return None

    def table(self, raw: object, context: StepContext) -> Table:
        """The open file, as the step of `context` reads it; raises what its library raises."""
        raise NotImplementedError


def format_class(name: str) -> type[FormatSpec]:
    """The class of a format in `FORMATS`."""
    module, _, own = FORMATS[name].partition(":")
    found: type[FormatSpec] = getattr(importlib.import_module(module), own)
    return found
