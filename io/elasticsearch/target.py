"""An index of Elasticsearch as the target of a job."""

from __future__ import annotations

from typing import Any

from vecferry.errors import JobError
from vecferry.io.elasticsearch.client import ElasticsearchClient
from vecferry.io.elasticsearch.settings import ElasticsearchConnection, ElasticsearchSettings
from vecferry.io.search.dialect import Field, PointInTime, metric_of
from vecferry.io.search.settings import SearchColumn
from vecferry.io.search.target import SearchTarget
from vecferry.io.sink.values import Vector

CANDIDATES = 10
"""Candidates a shard looks at for each hit that is asked for, 100 at least."""
FLOATS = ("float", "bfloat16")


class ElasticsearchDialect:
    """Elasticsearch 8.15 or newer (https://www.elastic.co/docs/reference/elasticsearch/mapping-reference/dense-vector)."""

    store = "Elasticsearch"
    vector_type = "dense_vector"
    least_version = (8, 15)
    index_settings: dict[str, Any] = {}  # noqa: RUF012
    newer_settings: dict[tuple[int, int], dict[str, Any]] = {}  # noqa: RUF012
    view = PointInTime("/_pit", "id", order="_shard_doc", by_shard=False)

    def field(self, name: str, mapping: dict[str, Any]) -> Field:
        """See `Dialect`."""
        kind = str(mapping.get("type") or "object")
        if kind != self.vector_type:
            return Field(name, kind)
        indexed = mapping.get("index", True) is not False
        if mapping.get("element_type", "float") not in FLOATS:
            return Field(name, kind, mapping.get("dims"), "other", indexed)
        word = (mapping.get("similarity") or "cosine") if indexed else "none"
        return Field(name, kind, mapping.get("dims"), metric_of(word), indexed)

    def vector_mapping(self, column: SearchColumn) -> dict[str, Any]:
        """See `Dialect`; what the column says more, such as index_options, is taken as it is."""
        more = {_snake(k): v for k, v in column.mapping.items()}
        indexed = more.get("index", True) is not False  # what has no index takes no similarity
        similarity = {"similarity": "cosine"} if indexed else {}
        return {"type": self.vector_type, "dims": column.dimension, **similarity, **more}

    def knn(self, field: Field, vector: Vector, k: int) -> dict[str, Any]:
        """See `Dialect`."""
        if not field.indexed:
            raise JobError(
                f"field {field.name!r} has no index (index: false), so it can't be searched: "
                "search a field that has one"
            )
        candidates = min(10_000, max(100, CANDIDATES * k))
        query = {"field": field.name, "query_vector": vector.tolist(), "k": k}
        return {"knn": {**query, "num_candidates": candidates}, "size": k}

    def source_of(self, version: tuple[int, int] | None, fields: list[str]) -> dict[str, Any]:
        """See `Dialect`; from 9.2 on, vectors come where they are asked for only."""
        vectors = version is not None and version >= (9, 2)
        return {"includes": fields} | ({"exclude_vectors": False} if vectors else {})

    def takes_base64(self, version: tuple[int, int] | None) -> bool:
        """From 9.3 on (elastic/elasticsearch-js#3080)."""
        return version is not None and version >= (9, 3)


def _snake(name: str) -> str:
    return {"indexOptions": "index_options", "elementType": "element_type"}.get(name, name)


class ElasticsearchTarget(SearchTarget):
    """See `SearchTarget`."""

    settings: ElasticsearchSettings
    connection: ElasticsearchConnection
    dialect = ElasticsearchDialect()
    client_class = ElasticsearchClient
