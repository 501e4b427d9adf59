"""Settings of the file reader."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.io.files.connections import LocalConnection as LocalConnection
from vecferry.io.files.formats.base import FORMATS, FormatSpec, format_class
from vecferry.io.files.formats.parameters import CsvReaderConfig, FileColumn, one_of
from vecferry.settings import StepSettings

STEP_TYPES = ("oss", "s3", "hdfs", "gcs", "file")
DEFAULT_MAX_LINE_BYTES = 16 << 20

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

    datasource: str | None = None
    paths: list[str] = Field(validation_alias=AliasChoices("object", "path", "paths"), min_length=1)
    file_format: str = Field(validation_alias=AliasChoices("fileFormat", "fileType", "file_format"))
    column: list[FileColumn] = Field(default=[])
    field_delimiter: str | None = None
    encoding: Annotated[str, _blank_is("utf-8")] = "utf-8"
    default_fs: Annotated[str | None, _blank_is(None)] = Field(
        default=None, validation_alias=AliasChoices("defaultFS", "default_fs")
    )
    null_format: str | None = r"\N"
    skip_header: Annotated[bool, _blank_is(False)] = False
    skip_rows: Annotated[int, _blank_is(0)] = Field(
        default=0,
        ge=0,
        validation_alias=AliasChoices("skipRows", "skiprows", "skip_rows"),
    )
    comment: Annotated[str | None, _blank_is(None)] = None
    short_rows: Annotated[str | None, BeforeValidator(_short_rows)] = "reject"
    skip_empty_lines: Annotated[bool | None, _blank_is(None)] = None
    csv_reader_config: Annotated[CsvReaderConfig, _blank_is({})] = CsvReaderConfig()
    compress: Annotated[str | None, _blank_is(None)] = None
    success_on_no_file: Annotated[bool, _blank_is(False)] = False
    max_line_bytes: int = Field(default=DEFAULT_MAX_LINE_BYTES, gt=0)

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
        return self

    @property
    def spec(self) -> FormatSpec:
        """What the reader of the format needs to know."""
        return format_class(self.file_format).of(self)

    def inputs(self) -> list[str]:
        """A reader needs no columns."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns of the rows; None where the files decide."""
        return {c.label: None for c in self.column} or None

    def column_types(self) -> dict[str, str]:
        """The types that the job names. A field of a text file is a text if it has no type."""
        texts = format_class(self.file_format).holds_texts
        types = {c.label: c.type or ("string" if texts and c.in_file else "") for c in self.column}
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
