"""What a job may say of a file's columns, and of the quotes of CSV."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from vecferry.errors import near
from vecferry.fields import in_form
from vecferry.io.common.types import TYPES, json_converter, text_converter
from vecferry.settings import Settings


class FileColumn(Settings):
    """A column of the reader: a field by `index` (from 0) or by `name`, or the constant `value`.

    `from` takes it from the place of the row instead: the file's name, the line's number, or
    the key under which a JSON object stands.
    """

    name: str = Field(
        default="",
        description="the name of the column, and of the key or field in the file",
        examples=["title"],
        json_schema_extra=in_form("columns", otherwise="`column_` and the index"),
    )
    index: int | None = Field(
        default=None,
        ge=0,
        description="the number of the field, counted from 0",
        examples=[2],
        json_schema_extra=in_form("columns"),
    )
    value: Any = Field(
        default=None,
        description="a constant, in place of a field of the file",
        examples=["en"],
        json_schema_extra=in_form("columns", advanced=True),
    )
    source: Literal["fileName", "lineNumber", "recordKey"] | None = Field(
        default=None,
        validation_alias=AliasChoices("from", "source"),
        serialization_alias="from",
        description="the path of the file, the line of the record, or the key of the object",
        json_schema_extra=in_form("columns", advanced=True),
    )
    type: str | None = Field(
        default=None,
        description="the type that a value must have",
        examples=["string"],
        json_schema_extra=in_form("columns", choices=TYPES, see="files.md#columns"),
    )
    format: str | None = Field(
        default=None,
        description="how a date is written, in Java's letters",
        examples=["yyyy-MM-dd"],
        json_schema_extra=in_form("columns", advanced=True, when=("type", "date")),
    )

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
            raise ValueError(
                f"{kind!r} is not a column type; use {one_of(TYPES)}{near(kind, TYPES)}"
            )
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


class DocumentLimits(Settings):
    """What one document may take; one that takes more is rejected."""

    max_bytes: int = Field(
        default=256 << 20,
        gt=0,
        description="the most bytes of a file",
        examples=[10485760],
        json_schema_extra=in_form("limits", advanced=True),
    )
    max_unpacked_bytes: int = Field(
        default=1 << 30,
        gt=0,
        description="the most bytes of all that is packed within a file",
        examples=[104857600],
        json_schema_extra=in_form("limits", advanced=True),
    )
    max_pages: int = Field(
        default=5000,
        gt=0,
        description="the most pages, slides, sheets or chapters",
        examples=[500],
        json_schema_extra=in_form("limits", advanced=True),
    )
    seconds: int = Field(
        default=60,
        gt=0,
        description="the most seconds of CPU",
        examples=[10],
        json_schema_extra=in_form("limits", advanced=True),
    )
    memory_bytes: int = Field(
        default=1 << 30,
        ge=256 << 20,
        description="the most memory of the process that reads the document, at least 256 MiB",
        examples=[536870912],
        json_schema_extra=in_form("limits", advanced=True),
    )


class CsvReaderConfig(Settings):
    """How CSV is quoted; the names are those of DataX, `multiline` is ours."""

    use_text_qualifier: bool = Field(
        default=True,
        description="false: quotes are plain characters",
        json_schema_extra=in_form("format", advanced=True),
    )
    text_qualifier: str = Field(
        default='"',
        description="the quote, a character or its code",
        examples=["'"],
        json_schema_extra=in_form("format", advanced=True, when=("useTextQualifier", True)),
    )
    escape_mode: Annotated[int, Field(ge=1, le=2)] = Field(
        default=1,
        description="1: a quote in a field is doubled; 2: a backslash stands before the quote",
        examples=[2],
        json_schema_extra=in_form("format", advanced=True),
    )
    trim_whitespace: bool = Field(
        default=False,
        description="true: blanks around each field, quoted or not, are removed",
        json_schema_extra=in_form("format", advanced=True),
    )
    skip_empty_records: bool = Field(
        default=True,
        description="blank lines are skipped and not counted",
        json_schema_extra=in_form("format", advanced=True),
    )
    use_comments: bool = Field(
        default=False,
        description="true: a line that begins with `comment` is passed over",
        json_schema_extra=in_form("format", advanced=True),
    )
    comment: str = Field(
        default="#",
        description="the character that begins a comment, or its code",
        examples=["#"],
        json_schema_extra=in_form("format", advanced=True, when=("useComments", True)),
    )
    multiline: bool = Field(
        default=True,
        description="ours. false: fields have no line breaks, so large files can be read in "
        "parallel",
        json_schema_extra=in_form("format", advanced=True),
    )

    ignored: ClassVar[frozenset[str]] = frozenset(
        {"safetySwitch", "caseSensitive", "captureRawRecord", "recordDelimiter", "delimiter"}
    )

    @field_validator("text_qualifier", "comment", mode="before")
    @classmethod
    def _one_character(cls, given: Any, info: ValidationInfo) -> Any:
        # DataX's map goes to a Java `char`, which also takes the code: 34 is the double quote.
        if isinstance(given, int) and not isinstance(given, bool):
            given = chr(given)
        if not isinstance(given, str) or len(given) != 1 or not given.isascii():
            what, example = ("a quote", "'\"'")
            if info.field_name == "comment":
                what, example = ("a comment character", "'#'")
            raise ValueError(
                f"{given!r} is not {what}; give one ASCII character, such as {example}"
            )
        return given


def one_of(words: tuple[str, ...]) -> str:
    """The words as a person lists them: ``a, b or c``."""
    return f"{', '.join(words[:-1])} or {words[-1]}"
