"""What a job may say of Elasticsearch: the connection and the writer."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from vecferry.errors import near
from vecferry.io.search.settings import SearchColumn, SearchConnection, SearchSettings
from vecferry.settings import SecretText

SIMILARITIES = ("cosine", "dot_product", "l2_norm", "max_inner_product")
MOST_DIMENSIONS = 4096


class ElasticsearchConnection(SearchConnection):
    """A cluster of Elasticsearch 8.15 or newer, with a password or an API key."""

    type: Literal["elasticsearch"] = "elasticsearch"
    api_key: SecretText | None = None

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.api_key is not None and self.username is not None:
            raise ValueError("apiKey and username are both given: leave one of them out")
        return self


class ElasticsearchSettings(SearchSettings):
    """The writer `elasticsearch`, with the parameters of DataWorks and DataX."""

    @field_validator("column")
    @classmethod
    def _vectors(cls, columns: list[SearchColumn]) -> list[SearchColumn]:
        for column in columns:
            if column.type == "knn_vector":
                raise ValueError(
                    f"column {column.name!r}: knn_vector is OpenSearch's: dense_vector"
                )
            if column.is_vector:
                _check_vector(column, column.model_extra or {})
        return columns


def _check_vector(column: SearchColumn, more: dict[str, Any]) -> None:
    similarity = more.get("similarity")
    if similarity is not None and similarity not in SIMILARITIES:
        raise ValueError(
            f"column {column.name!r}: similarity {similarity!r} is unknown"
            f"{near(str(similarity), SIMILARITIES)}; known are {', '.join(SIMILARITIES)}"
        )
    if column.dimension is not None and column.dimension > MOST_DIMENSIONS:
        raise ValueError(
            f"column {column.name!r}: {column.dimension} dimensions, {MOST_DIMENSIONS} at most"
        )
