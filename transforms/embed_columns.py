"""An entry of `embeddingColumns`: what is embedded, and where its vector goes."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from vecferry.settings import Settings


class EmbeddingColumn(Settings):
    """Which columns make up a text, or which one an image, and the column of the vector."""

    source_column_names: tuple[str, ...] = Field(min_length=1)
    embedding_column_name: str = Field(min_length=1)
    input_type: Literal["text", "image"] = "text"

    @field_validator("source_column_names", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keeps_its_source(self) -> Self:
        if self.embedding_column_name in self.source_column_names:
            raise ValueError(
                f"embeddingColumnName {self.embedding_column_name!r} is also a source column, "
                "which it would replace: choose another name"
            )
        if self.input_type == "image" and len(self.source_column_names) > 1:
            raise ValueError(
                f"inputType image with {len(self.source_column_names)} sourceColumnNames: an image "
                "is one column; write an object for each, with an embeddingColumnName of its own"
            )
        return self
