"""What a job may say of OpenSearch: the connection and the writer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from vecferry.errors import near
from vecferry.io.search.settings import SearchColumn, SearchConnection, SearchSettings

ENGINES = ("faiss", "lucene", "nmslib")
SPACE_TYPES = ("l2", "cosinesimil", "innerproduct", "l1", "linf", "hamming")
MOST_DIMENSIONS = 16_000


class OpenSearchConnection(SearchConnection):
    """A cluster of OpenSearch, or PolarSearch, with the k-NN plugin."""

    type: Literal["opensearch"] = "opensearch"


class OpenSearchSettings(SearchSettings):
    """The writer `opensearch`."""

    pipeline: str | None = Field(
        default=None,
        description="the ingest pipeline; `_none` bypasses the index's own, which is the default "
        "where the job writes vectors itself",
    )

    @field_validator("column")
    @classmethod
    def _vectors(cls, columns: list[SearchColumn]) -> list[SearchColumn]:
        for column in columns:
            if column.type == "dense_vector":
                raise ValueError(
                    f"column {column.name!r}: dense_vector is Elasticsearch's: knn_vector"
                )
            if column.is_vector:
                _check_vector(column, column.model_extra or {})
        return columns


def _check_vector(column: SearchColumn, more: dict[str, Any]) -> None:
    method = more.get("method") or {}
    given = {
        "engine": more.get("engine") or method.get("engine"),
        "spaceType": more.get("spaceType") or more.get("space_type") or method.get("space_type"),
    }
    for key, known in (("engine", ENGINES), ("spaceType", SPACE_TYPES)):
        value = given[key]
        if value is not None and value not in known:
            raise ValueError(
                f"column {column.name!r}: {key} {value!r} is unknown{near(str(value), known)}; "
                f"known are {', '.join(known)}"
            )
    if column.dimension is not None and column.dimension > MOST_DIMENSIONS:
        raise ValueError(
            f"column {column.name!r}: {column.dimension} dimensions, {MOST_DIMENSIONS} at most"
        )
