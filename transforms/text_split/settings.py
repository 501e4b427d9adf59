"""What a ``text-splitting`` step may say; neither Beam nor the splitting library is loaded."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vecferry.fields import in_form
from vecferry.kinds import Client
from vecferry.settings import StepSettings, pick

Unit = Literal["characters", "tokens"]
By = Literal["paragraph", "sentence", "markdown", "code"]

LOCAL = "local"
"""The `tokenizer` of the model that runs in this process."""


def _one_of(choices: tuple[str, ...], what: str) -> BeforeValidator:
    return BeforeValidator(lambda value: pick(value, choices, what))


class TextSplitSettings(StepSettings):
    """The parameters of ``text-splitting``."""

    source_column_name: str = Field(
        min_length=1,
        description="the column with the text of the document; the chunks leave it out",
        examples=["text"],
        json_schema_extra=in_form("columns"),
    )
    parent_columns: tuple[str, ...] = Field(
        default=("path",),
        description="the columns that tell documents apart",
        examples=[["path"]],
        json_schema_extra=in_form("columns"),
    )
    chunk_column_name: str = Field(
        default="chunk",
        min_length=1,
        description="the new column with the text of a chunk",
        examples=["text"],
        json_schema_extra=in_form("columns"),
    )
    chunk_size: int = Field(
        default=1000,
        ge=1,
        description="the most that a chunk holds, in `unit`",
        examples=[500],
        json_schema_extra=in_form("text"),
    )
    overlap: int = Field(
        default=0,
        ge=0,
        description="how much of the end of a chunk the next chunk may repeat, in `unit`",
        examples=[50],
        json_schema_extra=in_form("text"),
    )
    unit: Annotated[Unit, _one_of(get_args(Unit), "unit")] = Field(
        default="characters",
        description="what is counted",
        json_schema_extra=in_form("text", see="documents.md#tokens"),
    )
    by: Annotated[By, _one_of(get_args(By), "by")] = Field(
        default="paragraph",
        description="where the text is cut first",
        json_schema_extra=in_form("text", see="documents.md#where-a-document-is-cut"),
    )
    language: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9-]*$",
        description="the programming language",
        examples=["python"],
        json_schema_extra=in_form("text", when=("by", "code")),
    )
    tokenizer: str = Field(
        default=LOCAL,
        description="`local`, or the path of a `tokenizer.json`, as workers see it",
        examples=["/models/tokenizer.json"],
        json_schema_extra=in_form("text", advanced=True, when=("unit", "tokens")),
    )
    prepend_headings: bool = Field(
        default=False,
        description="whether a chunk begins with the headings above it",
        json_schema_extra=in_form("text", advanced=True, when=("by", "markdown")),
    )

    @field_validator("parent_columns", mode="before")
    @classmethod
    def _a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("parent_columns")
    @classmethod
    def _names_a_document(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("parentColumns is empty; name the columns that tell documents apart")
        if len(set(value)) < len(value):
            raise ValueError("parentColumns names a column twice; name each once")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.overlap >= self.chunk_size:
            raise ValueError(
                f"overlap is {self.overlap}, and chunkSize {self.chunk_size}; make it smaller than "
                "chunkSize"
            )
        if (self.by == "code") != (self.language is not None):
            raise ValueError(
                "by: code needs a language, such as python; name one"
                if self.by == "code"
                else f"language is for by: code only, and by is {self.by}; leave language out"
            )
        if self.prepend_headings and self.by != "markdown":
            raise ValueError("prependHeadings is for by: markdown only; leave it out")
        if self.source_column_name in self.parent_columns:
            raise ValueError(
                f"parentColumns names {self.source_column_name!r}, the text itself; name a column "
                "that tells documents apart, such as a path"
            )
        if self.chunk_column_name in _PLACES:
            raise ValueError(
                f"chunkColumnName is {self.chunk_column_name!r}, which the step fills otherwise; "
                "use another name"
            )
        return self

    def inputs(self) -> list[str]:
        """The text, and what names the document."""
        return [self.source_column_name, *self.parent_columns]

    def outputs(self) -> dict[str, int | None]:
        """The chunk and its place in the document; none of them is a vector."""
        names = [self.chunk_column_name, *_PLACES]
        return dict.fromkeys(names if self.by == "markdown" else names[:-1])

    def takes_away(self) -> list[str]:
        """The text of the whole document, unless a chunk stands in its place."""
        source = self.source_column_name
        return [] if source == self.chunk_column_name else [source]

    def part_columns(self) -> list[str]:
        """The number of the chunk, and what is made of it."""
        return ["chunk_id", "chunk_index", "chunk_start", "chunk_end"]

    def document_key(self) -> list[str]:
        """What names the document."""
        return list(self.parent_columns)

    def made_of(self) -> dict[str, list[str]]:
        """The id comes from what names the document, all else from the text."""
        made = {name: [self.source_column_name] for name in self.outputs()}
        return made | {"chunk_id": list(self.parent_columns)}

    def column_types(self) -> dict[str, str]:
        """Texts, and whole numbers for places."""
        texts = (self.chunk_column_name, "chunk_id", "headings")
        return {name: "string" if name in texts else "long" for name in self.outputs()}

    def clients(self) -> list[Client]:
        """The tokenizer's library, the local model, the grammar of a language."""
        needed = []
        if self.unit == "tokens":
            needed.append(Client("tokenizers", "vecferry[splitting]"))
            if self.tokenizer == LOCAL:
                needed.append(Client("wordllama", "vecferry[local]"))
        if self.language is not None:
            module = f"tree_sitter_{self.language.replace('-', '_')}"
            needed.append(Client(module, f"tree-sitter-{self.language}"))
        return needed


_PLACES = ("chunk_id", "chunk_index", "chunk_count", "chunk_start", "chunk_end", "headings")
