"""An index of OpenSearch as the target of a job."""

from __future__ import annotations

from typing import Any

from vecferry.io.opensearch.client import OpenSearchClient
from vecferry.io.opensearch.settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.search.catalog import IndexInfo
from vecferry.io.search.dialect import Field, PointInTime, metric_of
from vecferry.io.search.settings import SearchColumn
from vecferry.io.search.target import SearchTarget
from vecferry.io.sink.values import Vector

PROMPT = {"index.merge_on_flush.enabled": "false"}
"""Refreshes don't wait until small segments are merged, for up to 10 s (the default since 2.2)."""


class OpenSearchDialect:
    """OpenSearch with k-NN (https://docs.opensearch.org/latest/field-types/supported-field-types/knn-vector/)."""

    store = "OpenSearch"
    vector_type = "knn_vector"
    least_version = (2, 0)
    index_settings: dict[str, Any] = {"index.knn": True}  # noqa: RUF012
    newer_settings: dict[tuple[int, int], dict[str, Any]] = {(2, 2): PROMPT}  # noqa: RUF012
    view = PointInTime("/_search/point_in_time", "pit_id", order="_doc", by_shard=True)

    def field(self, name: str, mapping: dict[str, Any]) -> Field:
        """See `Dialect`."""
        kind = str(mapping.get("type") or "object")
        if kind != self.vector_type:
            return Field(name, kind)
        method = mapping.get("method") or {}
        word = mapping.get("space_type") or method.get("space_type") or "l2"
        bits = mapping.get("data_type", "float") != "float"
        return Field(name, kind, mapping.get("dimension"), metric_of("other" if bits else word))

    def vector_mapping(self, column: SearchColumn) -> dict[str, Any]:
        """See `Dialect`; engine, spaceType and parameters make up the method unless it is given."""
        more = column.mapping
        method = more.pop("method", None)
        space = more.pop("spaceType", None) or more.pop("space_type", None) or "cosinesimil"
        engine, parameters = more.pop("engine", "faiss"), more.pop("parameters", None)
        if method is None:
            method = {"name": "hnsw", "engine": engine, "space_type": space}
            if parameters is not None:
                method["parameters"] = parameters
        return {"type": self.vector_type, "dimension": column.dimension, "method": method, **more}

    def knn(self, field: Field, vector: Vector, k: int) -> dict[str, Any]:
        """See `Dialect`."""
        return {"query": {"knn": {field.name: {"vector": vector.tolist(), "k": k}}}, "size": k}

    def source_of(self, version: tuple[int, int] | None, fields: list[str]) -> dict[str, Any]:
        """See `Dialect`."""
        return {"includes": fields}

    def takes_base64(self, version: tuple[int, int] | None) -> bool:
        """Never."""
        return False


class OpenSearchTarget(SearchTarget):
    """See `SearchTarget`."""

    settings: OpenSearchSettings
    connection: OpenSearchConnection
    dialect = OpenSearchDialect()
    client_class = OpenSearchClient

    def pipeline(self, info: IndexInfo) -> str | None:
        """The job's own; without one `_none`, where the job writes vectors.

        An index's own pipeline may be there to embed texts on the server, and would overwrite them.
        """
        settings = self.settings
        named = settings.sources() or info.fields
        writes = any(f.is_vector for n, f in info.fields.items() if n in named)
        return settings.pipeline or ("_none" if writes else None)
