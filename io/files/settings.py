"""Settings of the file reader."""

from __future__ import annotations

import codecs
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, BeforeValidator, Field, field_validator, model_validator

from vecferry.errors import near
from vecferry.io.common.types import TYPES, ConvertValue, json_converter, text_converter
from vecferry.io.files.connections import LocalConnection as LocalConnection
from vecferry.settings import Settings


class FileColumn(Settings):
    """A column of the reader: a field by `index` (from 0) or by `name`, or the constant `value`.

    `from` takes it from the place of the row instead: the file's name or the line's number.
    """

    name: str = ""
    index: int | None = Field(default=None, ge=0)
    value: Any = None
    source: Literal["fileName", "lineNumber"] | None = Field(
        default=None, validation_alias=AliasChoices("from", "source"), serialization_alias="from"
    )
    type: str | None = None
    format: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @field_validator("type")
    @classmethod
    def _known_type(cls, kind: str | None) -> str | None:
        if not kind:
            return None
        if kind.lower() not in TYPES:
            raise ValueError(f"{kind!r} is no column type: use {one_of(TYPES)}{near(kind, TYPES)}")
        return kind.lower()

    @model_validator(mode="after")
    def _one_source(self) -> FileColumn:
        if self.value is not None and self.index is not None:
            raise ValueError(
                f"column {self.label!r} has an index ({self.index}) and a constant value; "
                "leave one of them out"
            )
        if self.source and (self.value is not None or self.index is not None or self.type):
            raise ValueError(
                f"column {self.label!r} is the {self.source} of each row: it has no index, value "
                "or type of its own; leave them out"
            )
        if not self.name and self.index is None:
            raise ValueError("a column needs a name, or an index; give it a `name`")
        try:
            text_converter(self.type, self.format)
            _ = self.constant
        except ValueError as e:
            raise ValueError(f"column {self.label!r}: {e}") from e
        return self

    @property
    def label(self) -> str:
        """The column's name in the row; ``column_<index>`` where the job gives none."""
        return self.name or f"column_{self.index}"

    @property
    def in_file(self) -> bool:
        """Whether the file holds the column, by index or by name."""
        return self.value is None and self.source is None

    @property
    def constant(self) -> Any:
        """The typed constant, or None where the column comes from the file."""
        convert = json_converter(self.type, self.format)
        return convert(self.value) if convert and self.value is not None else self.value

    def converter(self, file_format: str) -> ConvertValue | None:
        """What turns a field of such a file into the column's value; None: nothing to do."""
        make = json_converter if file_format in ("jsonl", "json") else text_converter
        return make(self.type, self.format)


class CsvReaderConfig(Settings):
    """How CSV is quoted; the names are those of DataX, `multiline` is ours."""

    use_text_qualifier: bool = True
    text_qualifier: str = '"'
    escape_mode: Annotated[int, Field(ge=1, le=2)] = 1
    trim_whitespace: bool = False
    skip_empty_records: bool = True
    multiline: bool = True

    ignored: ClassVar[frozenset[str]] = frozenset(
        {"safetySwitch", "caseSensitive", "captureRawRecord", "recordDelimiter", "delimiter"}
    )

    @field_validator("text_qualifier", mode="before")
    @classmethod
    def _one_character(cls, given: Any) -> Any:
        # DataX's map goes to a Java `char`, which also takes the code: 34 is the double quote.
        if isinstance(given, int) and not isinstance(given, bool):
            given = chr(given)
        if not isinstance(given, str) or len(given) != 1 or not given.isascii():
            raise ValueError(f"{given!r} is no quote: give one ASCII character, such as '\"'")
        return given

    @property
    def spans_lines(self) -> bool:
        """Whether a quoted field may hold line breaks; such a file is read as one split."""
        return self.use_text_qualifier and self.multiline


def one_of(words: tuple[str, ...]) -> str:
    """The words as a person lists them: ``a, b or c``."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


STEP_TYPES = ("oss", "s3", "hdfs", "gcs", "file")
TABLES = ("parquet", "orc")
FORMATS = ("jsonl", "csv", "text", "json", *TABLES)
COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".zip": "zip", ".zst": "zstd"}
DEFAULT_MAX_LINE_BYTES = 16 << 20

_ESCAPE = re.compile(r"\\(?:t|n|r|\\|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")
_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}


def _blank_is(default: Any) -> BeforeValidator:
    """DataWorks' form writes ``""`` for what was left empty."""
    return BeforeValidator(lambda v: default if v is None or v == "" else v)


class FilesSettings(Settings):
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
            raise ValueError(
                f"{given!r} is no file format: use {one_of(FORMATS)}{near(given, FORMATS)}"
            )
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
                f"encoding {given!r} does not end a line with the byte 0A, so a file of it can't "
                "be cut into lines; convert the files to utf-8"
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
        if self.file_format in TABLES:
            self._check_table()
            return self
        if self.compress not in (None, "none", *COMPRESSIONS.values()):
            raise ValueError(
                f"compress {self.compress!r} is no compression known here: use gzip, bzip2, zip, "
                "zstd or none, or leave it out to go by the ending .gz, .bz2, .zip or .zst"
            )
        if self.file_format in ("jsonl", "json"):
            self._check_json()
        elif self.by_name and not self.skip_header:
            which = '["*"]' if not self.column else f"column {self._first_by_name()!r} by name"
            raise ValueError(
                f"{which} needs a header line with names: set skipHeader to true, "
                "or give each column its index"
            )
        if self.file_format == "csv" and len(self.delimiter) != 1:
            raise ValueError(
                f"fieldDelimiter {self.delimiter!r} of a csv file must be one character"
            )
        return self

    def _check_table(self) -> None:
        if self.skip_header:
            raise ValueError(f"{self.file_format} files have no header line: remove skipHeader")

    def _check_json(self) -> None:
        if self.skip_header:
            raise ValueError(f"a {self.file_format} file has no header: remove skipHeader")
        indexed = [c for c in self.column if c.index is not None]
        if not indexed:
            return
        first = indexed[0]
        if self.file_format == "json":
            raise ValueError(
                f"column {first.label!r} has the index {first.index}: a JSON object has keys "
                "only; take them by name, without an index"
            )
        others = [c.label for c in self.column if c.in_file and c is not first]
        if first.index or others or first.type not in (None, "string"):
            raise ValueError(
                f"column {first.label!r} has the index {first.index}: in jsonl only index 0 of a "
                "single string column is known, the whole line; take keys of the object by name, "
                "without an index"
            )

    def _first_by_name(self) -> str:
        return next(c.label for c in self.column if c.index is None and c.in_file)

    @property
    def delimiter(self) -> str:
        """What stands between the fields of a csv or text line."""
        return self.field_delimiter or ","

    @property
    def by_name(self) -> bool:
        """Whether a column is found by its name: a key in jsonl, in the header line elsewhere."""
        return not self.column or any(c.index is None and c.in_file for c in self.column)

    @property
    def whole_line(self) -> bool:
        """Whether the line is one value: a jsonl column of index 0, or text that nobody splits."""
        if self.file_format == "text":
            return not (self.field_delimiter or self.by_name or any(c.index for c in self.column))
        return self.file_format == "jsonl" and any(c.index is not None for c in self.column)

    @property
    def numbered(self) -> bool:
        """Whether a column is the number of the line, which only a reader of all of it knows."""
        return any(c.source == "lineNumber" for c in self.column)

    @property
    def splittable(self) -> bool:
        """Whether an uncompressed file may be cut at any record border."""
        spans_lines = self.file_format == "csv" and self.csv_reader_config.spans_lines
        return not (spans_lines or self.numbered or self.file_format == "json")

    def packing(self, path: str) -> str | None:
        """How the file at `path` is packed: gzip, bzip2, zip, zstd, or None.

        A parquet or orc file says itself how its parts are compressed.
        """
        if self.file_format in TABLES or self.compress == "none":
            return None
        ending = path[path.rfind(".") :].lower() if "." in path else ""
        return self.compress or COMPRESSIONS.get(ending)

    def inputs(self) -> list[str]:
        """A reader needs no columns."""
        return []

    def outputs(self) -> dict[str, int | None] | None:
        """The columns of the rows; None where the files decide."""
        return {c.label: None for c in self.column} or None


def _with_name(column: Any, at: int) -> Any:
    """A column as a job writes it; a constant without a name, as DataX has it, gets one."""
    if not isinstance(column, dict) or column.get("value") is None:
        return column
    bare = column.get("name") in (None, "") and column.get("index") is None
    return {**column, "name": f"constant_{at}"} if bare else column


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    return chr(int(code, 16)) if code else _ESCAPES[match.group()]
