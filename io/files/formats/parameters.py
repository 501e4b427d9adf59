"""What a job may say of a file's columns, and of the quotes of CSV."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator, model_validator

from vecferry.errors import near
from vecferry.io.common.types import TYPES, json_converter, text_converter
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


class CsvReaderConfig(Settings):
    """How CSV is quoted; the names are those of DataX, `multiline` is ours."""

    use_text_qualifier: bool = True
    text_qualifier: str = '"'
    escape_mode: Annotated[int, Field(ge=1, le=2)] = 1
    trim_whitespace: bool = False
    skip_empty_records: bool = True
    use_comments: bool = False
    comment: str = "#"
    multiline: bool = True

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
