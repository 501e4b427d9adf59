"""Where Elasticsearch and OpenSearch differ: the names and forms of vectors, and searching them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from vecferry.io.search.settings import SearchColumn
from vecferry.io.sink.values import Vector

Metric = Literal["cosine", "dot", "l2", "none", "other"]
"""How float vectors are compared; ``none`` not at all, ``other`` is of vectors of bytes or bits."""

_METRICS: dict[str, Metric] = {
    "cosine": "cosine",
    "cosinesimil": "cosine",
    "dot_product": "dot",
    "max_inner_product": "dot",
    "innerproduct": "dot",
    "l2": "l2",
    "l2_norm": "l2",
    "l1": "l2",
    "linf": "l2",
    "none": "none",
}


@dataclass(frozen=True)
class Field:
    """A field of an index. `dimension` and `metric` are those of a vector, else None.

    `format` is that of dates; `lenient`: the server passes over values that don't fit. A text
    longer than `most_letters` is not found by its value.
    """

    name: str
    type: str
    dimension: int | None = None
    metric: Metric | None = None
    indexed: bool = True
    format: str | None = None
    lenient: bool = False
    most_letters: int | None = None

    @property
    def is_vector(self) -> bool:
        """Whether this field holds dense vectors."""
        return self.metric is not None


@dataclass(frozen=True)
class PointInTime:
    """How a store calls a view of an index that does not change.

    `path` opens and closes a view, `id` is its name there. `order` is the place of a document in
    it, for `search_after`; with `by_shard` places are those of one shard only.
    """

    path: str
    id: str
    order: str
    by_shard: bool


class Dialect(Protocol):
    """One of the two stores, as far as they differ."""

    store: str
    vector_type: str
    least_version: tuple[int, int]
    index_settings: dict[str, Any]
    newer_settings: dict[tuple[int, int], dict[str, Any]]
    view: PointInTime

    def field(self, name: str, mapping: dict[str, Any]) -> Field:
        """The field that a mapping describes."""

    def vector_mapping(self, column: SearchColumn) -> dict[str, Any]:
        """The mapping of a vector field that is to be created."""

    def knn(self, field: Field, vector: Vector, k: int) -> dict[str, Any]:
        """The body of a search for the `k` nearest; JobError where the field can't be searched."""

    def source_of(self, version: tuple[int, int] | None, fields: list[str]) -> dict[str, Any]:
        """What a search asks for so that these fields come, vectors among them."""

    def takes_base64(self, version: tuple[int, int] | None) -> bool:
        """Whether vectors may be sent as base64 of big-endian float32."""


def metric_of(word: str) -> Metric:
    """What either store's word for a similarity means."""
    return _METRICS.get(word, "other")
