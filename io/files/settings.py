"""Settings of the file reader."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from vecferry.chunks import CHUNK_COUNT, CHUNK_INDEX
from vecferry.errors import near
from vecferry.fields import DataSourceName, in_form
from vecferry.io.files.connections import LocalConnection as LocalConnection
from vecferry.io.files.formats.base import COMPRESSIONS, FORMATS, FormatSpec, format_class
from vecferry.io.files.formats.parameters import (
    CsvReaderConfig,
    DocumentLimits,
    FileColumn,
    one_of,
)
from vecferry.kinds import Client
from vecferry.settings import StepSettings, pick

STDIN = "-"
"""The path that means standard input."""
STEP_TYPES = ("oss", "s3", "hdfs", "gcs", "file")
DEFAULT_MAX_LINE_BYTES = 16 << 20
SCAN_MODES = ("full", "full-then-incremental")
CHUNK_ID = "chunk_id"
PLACES = (CHUNK_ID, CHUNK_INDEX, CHUNK_COUNT)
"""The columns that a row of a file has which is followed: its id, its number, how many there are.

They are those of a chunk of a document, since a file is the document of its rows.
"""

_ESCAPE = re.compile(r"\\(?:t|n|r|\\|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-3][0-7]{2}))")
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}


def _blank_is(default: Any) -> BeforeValidator:
    """DataWorks' form writes ``""`` for what was left empty."""
    return BeforeValidator(lambda v: default if v is None or v == "" else v)


def _short_rows(given: Any) -> str:
    """YAML reads a bare ``null`` as None, and DataWorks' form writes ``""`` for what is empty."""
    said = {None: "null", "null": "null", "reject": "reject", "": "reject"}
    if not isinstance(given, str | None) or given not in said:
        raise ValueError(f"{given!r} is not null or reject; use one of them")
    return said[given]


class FilesSettings(StepSettings):
    """What a reader step of type oss, s3, hdfs, gcs or file says. No `column` means all of them."""

    datasource: DataSourceName = None
    paths: list[str] = Field(
        validation_alias=AliasChoices("object", "path", "paths"),
        min_length=1,
        description="a path or pattern within the data source's folder, or a list of them",
        examples=[["lines/*.csv"]],
        json_schema_extra=in_form("source"),
    )
    file_format: str = Field(
        validation_alias=AliasChoices("fileFormat", "fileType", "file_format"),
        description="the format of the files",
        examples=["csv"],
        json_schema_extra=in_form("format", choices=tuple(FORMATS)),
    )
    column: list[FileColumn] = Field(
        default=[],
        description='the columns; `["*"]` takes all',
        examples=[[{"name": "title", "index": 1, "type": "string"}]],
        json_schema_extra=in_form("columns", otherwise='`["*"]`', see="files.md#columns"),
    )
    field_delimiter: str | None = Field(
        default=None,
        description="the text between fields: one character for csv and tsv, any text for text",
        examples=[";"],
        json_schema_extra=in_form(
            "format", when=("fileFormat", "csv", "tsv", "text"), otherwise="`,`; of tsv a tab"
        ),
    )
    encoding: Annotated[str, _blank_is("utf-8")] = Field(
        default="utf-8",
        description="the encoding of the files, but not utf-16 or utf-32",
        examples=["gbk"],
        json_schema_extra=in_form("format", advanced=True),
    )
    default_fs: Annotated[str | None, _blank_is(None)] = Field(
        default=None,
        validation_alias=AliasChoices("defaultFS", "default_fs"),
        title="Default file system",
        description="of hdfs, as DataWorks writes it: the name of the cluster",
        examples=["hdfs://mycluster"],
        json_schema_extra=in_form("source", advanced=True),
    )
    null_format: str | None = Field(
        default=r"\N",
        description='a field that is this text is null; `""` makes empty fields null',
        examples=[""],
        json_schema_extra=in_form(
            "format", advanced=True, when=("fileFormat", "csv", "tsv", "text")
        ),
    )
    skip_header: Annotated[bool, _blank_is(False)] = Field(
        default=False,
        description="the first line of each file, also of a packed file, is a header",
        json_schema_extra=in_form("format", when=("fileFormat", "csv", "tsv", "text")),
    )
    skip_rows: Annotated[int, _blank_is(0)] = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("skipRows", "skiprows", "skip_rows"),
        description="how many lines at the beginning of each file are passed over, before a header",
        examples=[1],
        json_schema_extra=in_form(
            "format", advanced=True, when=("fileFormat", "csv", "tsv", "text")
        ),
    )
    comment: Annotated[str | None, _blank_is(None)] = Field(
        default=None,
        description="a line that begins with this text is passed over",
        examples=["#"],
        json_schema_extra=in_form(
            "format", advanced=True, when=("fileFormat", "csv", "tsv", "text")
        ),
    )
    short_rows: Annotated[str | None, BeforeValidator(_short_rows)] = Field(
        default="reject",
        description="`null` makes the fields null that a record lacks; `reject` rejects the record",
        examples=["null"],
        json_schema_extra=in_form(
            "format",
            advanced=True,
            choices=("reject", "null"),
            when=("fileFormat", "csv", "tsv", "text"),
        ),
    )
    skip_empty_lines: Annotated[bool | None, _blank_is(None)] = Field(
        default=None,
        description="whether blank lines are passed over",
        json_schema_extra=in_form(
            "format",
            advanced=True,
            when=("fileFormat", "csv", "tsv", "text"),
            otherwise="csv and tsv: true; text: false",
        ),
    )
    record_path: Annotated[str | None, _blank_is(None)] = Field(
        default=None,
        description="where the rows are in the document",
        examples=["$.data[*]"],
        json_schema_extra=in_form(
            "format",
            advanced=True,
            when=("fileFormat", "json"),
            otherwise="the top",
            see="files.md#formats",
        ),
    )
    csv_reader_config: Annotated[CsvReaderConfig, _blank_is({})] = Field(
        default=CsvReaderConfig(),
        title="CSV",
        description="how CSV is quoted",
        examples=[{"textQualifier": "'"}],
        json_schema_extra=in_form(
            "format", advanced=True, when=("fileFormat", "csv", "tsv"), see="files.md#formats"
        ),
    )
    per_page: Annotated[bool, _blank_is(False)] = Field(
        default=False,
        description="true: a row a page, slide, sheet or chapter; false: a row a file",
        json_schema_extra=in_form("format", when=("fileFormat", "document")),
    )
    document_limits: Annotated[DocumentLimits, _blank_is({})] = Field(
        default=DocumentLimits(),
        title="Limits of a document",
        description="what one document may take",
        examples=[{"seconds": 10}],
        json_schema_extra=in_form(
            "limits",
            advanced=True,
            when=("fileFormat", "document"),
            see="documents.md#hostile-documents",
        ),
    )
    parsers: Annotated[dict[str, str], _blank_is({})] = Field(
        default={},
        description="by type of a document, the entry point of a parser of your own",
        examples=[{"png": "acme-ocr"}],
        json_schema_extra=in_form(
            "format",
            advanced=True,
            when=("fileFormat", "document"),
            see="documents.md#a-parser-of-your-own",
        ),
    )
    compress: Annotated[str | None, _blank_is(None)] = Field(
        default=None,
        description="how the files are packed",
        examples=["gzip"],
        json_schema_extra=in_form(
            "format",
            advanced=True,
            choices=(*COMPRESSIONS.values(), "none"),
            otherwise="by the ending",
        ),
    )
    success_on_no_file: Annotated[bool, _blank_is(False)] = Field(
        default=False,
        description="true: a pattern that matches nothing is allowed, and the step has no rows",
        json_schema_extra=in_form("source", advanced=True),
    )
    scan_mode: str = Field(
        default="full",
        description="`full` reads all files each time; `full-then-incremental` follows the folder",
        json_schema_extra=in_form(
            "follow", choices=SCAN_MODES, see="documents.md#a-folder-kept-in-step"
        ),
    )
    may_be_emptied: Annotated[bool, _blank_is(False)] = Field(
        default=False,
        description="whether rows go whose pattern matches no file any more; else the job fails",
        json_schema_extra=in_form(
            "follow", advanced=True, when=("scanMode", "full-then-incremental")
        ),
    )
    round_files: int = Field(
        default=20000,
        ge=1,
        description="how many files are read in one round at most",
        examples=[1000],
        json_schema_extra=in_form(
            "follow", advanced=True, when=("scanMode", "full-then-incremental")
        ),
    )
    max_line_bytes: int = Field(
        default=DEFAULT_MAX_LINE_BYTES,
        gt=0,
        description="a longer line, CSV record or text of a document is rejected; in a json file "
        "a longer object fails the job",
        examples=[1048576],
        json_schema_extra=in_form("limits", advanced=True),
    )

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "fieldDelimiterOrigin", "envType", "hadoopConfig", "haveKerberos",
            "kerberosKeytabFilePath", "kerberosPrincipal", "maxRetryTime",
        }
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _not_both(cls, given: Any) -> Any:
        for one, other in (("object", "path"), ("fileFormat", "fileType")):
            if isinstance(given, dict) and one in given and other in given:
                if given[one] == given[other]:
                    given = {k: v for k, v in given.items() if k != other}
                    continue
                raise ValueError(f"`{one}` and `{other}` mean the same: leave one of them out")
        return given

    @field_validator("paths", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @field_validator("paths")
    @classmethod
    def _no_blank(cls, paths: list[str]) -> list[str]:
        if any(not p.strip() for p in paths):
            raise ValueError("a path is empty: name a file or a pattern such as 'in/*.jsonl'")
        if STDIN in paths and len(paths) > 1:
            raise ValueError("- is standard input and stands alone; leave the other paths out")
        return paths

    @field_validator("file_format")
    @classmethod
    def _known_format(cls, given: str) -> str:
        folded = given.lower()
        if folded not in FORMATS:
            known = one_of(tuple(FORMATS))
            raise ValueError(f"{given!r} is not a file format; use {known}{near(given, FORMATS)}")
        return folded

    @field_validator("column", mode="before")
    @classmethod
    def _star(cls, given: Any) -> Any:
        if given == "*" or given == ["*"] or given is None:
            return []
        if isinstance(given, list) and "*" in given:
            raise ValueError('"*" stands alone: name all the columns, or give ["*"] only')
        if given == []:
            raise ValueError('no column is named: name some, or give ["*"] for all of them')
        if not isinstance(given, list):
            return given
        return [_with_name(c, at) for at, c in enumerate(given)]

    @field_validator("scan_mode", mode="before")
    @classmethod
    def _in_any_case(cls, given: Any) -> str:
        return "full" if given is None or given == "" else pick(given, SCAN_MODES, "scanMode")

    @field_validator("field_delimiter")
    @classmethod
    def _unescaped(cls, given: str | None) -> str | None:
        return _ESCAPE.sub(_unescape, given) if given else None

    @field_validator("comment")
    @classmethod
    def _starts_a_line(cls, given: str | None) -> str | None:
        if given is not None and (not given.strip() or "\n" in given or "\r" in given):
            raise ValueError(f"comment {given!r} can't begin a line; give a text such as '#'")
        return given

    @field_validator("encoding")
    @classmethod
    def _text_encoding(cls, given: str) -> str:
        try:
            codec = codecs.lookup(given.strip())
            newline = "\n".encode(codec.name)
        except LookupError as e:
            raise ValueError(
                f"encoding {given!r} is unknown; use a name such as utf-8, gbk or gb18030"
            ) from e
        name = "utf-8" if codec.name == "utf-8-sig" else codec.name
        if name != "utf-8" and newline != b"\n":
            raise ValueError(
                f"encoding {given!r} does not end a line with the byte 0A, so its files have no "
                "lines to cut at; convert the files to utf-8"
            )
        return name

    @field_validator("compress")
    @classmethod
    def _known_compression(cls, given: str | None) -> str | None:
        known = {"gz": "gzip", "bz2": "bzip2", "zst": "zstd"}
        return known.get(given.lower(), given.lower()) if given else None

    @model_validator(mode="after")
    def _consistent(self) -> FilesSettings:
        labels = [c.label for c in self.column]
        twice = sorted({n for n in labels if labels.count(n) > 1})
        if twice:
            raise ValueError(f"column {twice[0]!r} is there twice; rename one of them")
        format_class(self.file_format).check_settings(self)
        if self.follows:
            self._require_followable(labels)
        return self

    def _require_followable(self, labels: list[str]) -> None:
        """Raises ValueError where a folder can't be followed as the step says."""
        if self.reads_stdin:
            raise ValueError(
                "scanMode full-then-incremental follows files, and - is standard input; name a "
                "folder or a pattern, or leave scanMode out"
            )
        if self.path_column is None:
            raise ValueError(
                "scanMode full-then-incremental needs a column that names the file of a row, so "
                "that the rows of a file that is gone can be deleted; name the columns, among them "
                '{"name": "path", "from": "fileName"}'
            )
        taken = [name for name in labels if name in PLACES]
        if taken:
            raise ValueError(
                f"column {taken[0]!r} is made by scanMode full-then-incremental; rename yours"
            )

    @property
    def reads_stdin(self) -> bool:
        """Whether the rows come from standard input."""
        return STDIN in self.paths

    @property
    def needs_datasource(self) -> bool:
        """Standard input needs none."""
        return not self.reads_stdin

    @property
    def follows(self) -> bool:
        """Whether the files are followed."""
        return self.scan_mode != "full"

    @property
    def path_column(self) -> str | None:
        """The column with the path of the file."""
        return format_class(self.file_format).path_column(self)

    @property
    def orders_documents(self) -> bool:
        """A round has each file once, and rounds come one after the other."""
        return self.follows

    @property
    def one_row_each(self) -> bool:
        """Whether a file may be one row, as the format goes."""
        return format_class(self.file_format).may_be_one_row(self)

    def document_key(self) -> list[str]:
        """The path, of files that are followed."""
        return [self.path_column] if self.follows and self.path_column else []

    def part_columns(self) -> list[str]:
        """The number of the row within its file, and the id made of it."""
        return [CHUNK_ID, CHUNK_INDEX] if self.follows else []

    def unshareable(self) -> str | None:
        """Standard input is that of one process."""
        if not self.reads_stdin:
            return None
        return (
            "its path - is standard input, which other processes do not have; put the rows "
            "into a file that they reach"
        )

    def clients(self) -> list[Client]:
        """The libraries of the format."""
        return format_class(self.file_format).clients(self)

    @property
    def spec(self) -> FormatSpec:
        """What the reader of the format needs to know."""
        return format_class(self.file_format).of(self)

    def inputs(self) -> list[str]:
        """A reader needs no columns."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns of the rows; None where the files decide."""
        known = [c.label for c in self.column] or format_class(self.file_format).all_columns
        places = PLACES if self.follows and known else ()
        return dict.fromkeys([*known, *places]) or None

    def column_types(self) -> dict[str, str]:
        """The types that the job names. A field of a text file is a text if it has no type."""
        texts = format_class(self.file_format).holds_texts
        types = {c.label: c.type or ("string" if texts and c.in_file else "") for c in self.column}
        if known := format_class(self.file_format).all_columns:
            in_file = {c.label: known[c.name] for c in self.column if c.in_file}
            types = {n: kind or in_file.get(n, "") for n, kind in types.items()} or dict(known)
        if self.follows:
            types |= {CHUNK_ID: "string", CHUNK_INDEX: "long", CHUNK_COUNT: "long"}
        return {name: kind for name, kind in types.items() if kind}


def _with_name(column: Any, at: int) -> Any:
    """A column as a job writes it; a constant without a name, as DataX has it, gets one."""
    if not isinstance(column, dict) or column.get("value") is None:
        return column
    bare = column.get("name") in (None, "") and column.get("index") is None
    return {**column, "name": f"constant_{at}"} if bare else column


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    if octal := match.group(3):  # as Hive writes the default between its fields, \001
        return chr(int(octal, 8))
    return chr(int(code, 16)) if code else _ESCAPES[match.group()]
