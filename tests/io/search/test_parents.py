"""Documents in an index, which are replaced with all their chunks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contracts.parents import DIMENSION, MAPPING, ParentContract, ParentPlace
from tests.io.search.support import SERVERS, Store, one_after_the_other
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.elasticsearch.target import ElasticsearchTarget
from vecferry.io.opensearch import OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.steps import StepContext

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.in_turn("place")]


class SearchPlace(ParentPlace):
    """Indexes of one server."""

    keeps_versions = True
    refuses_alone = True

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.store = Store(kind)
        self.step_type = "opensearch" if kind == "opensearch" else "elasticsearch"
        self.name = f"p{uuid.uuid4().hex[:12]}"

    def opened(self, name: str, context: StepContext, settings: dict[str, Any]) -> Any:
        """An index, created if it is missing."""
        vector = (
            {"type": "knn_vector", "engine": "lucene", "spaceType": "cosinesimil"}
            if self.step_type == "opensearch"
            else {"type": "dense_vector", "index_options": {"type": "hnsw"}}
        )
        given: dict[str, Any] = {
            "index": f"{self.name}{name}",
            "schemaCreateMode": "createIfNotExist",
            "column": [
                {"name": "id", "type": "keyword", "primaryKey": True},
                {"name": "path", "type": "keyword"},
                {"name": "chunk_index", "type": "integer"},
                {"name": "text", "type": "text"},
                {"name": "vector", "dimension": DIMENSION, **vector},
            ],
            "columnMapping": MAPPING,
        }
        kind, target = (
            (OpenSearchSettings, OpenSearchTarget)
            if self.step_type == "opensearch"
            else (ElasticsearchSettings, ElasticsearchTarget)
        )
        made = kind.model_validate({**given, **settings})
        return target(made, self.store.connection, context)


@pytest.mark.parametrize("place", one_after_the_other(SERVERS), indirect=True)
class TestSearch(ParentContract):
    """Each server."""

    @pytest.fixture
    def place(self, request: pytest.FixtureRequest) -> Iterator[SearchPlace]:
        """Indexes of their own."""
        place = SearchPlace(request.param)
        yield place
        place.close()
        place.store.close()
