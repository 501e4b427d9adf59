"""What stands in an index after an update that a step rejects."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contracts.on_reject import DIMENSION, RejectContract, RejectPlace
from tests.io.search.support import SERVERS, one_after_the_other
from tests.services.server import running

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.in_turn("place")]


class SearchPlace(RejectPlace):
    """An index. The server itself refuses the number ``many``."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.server = kind, running(SERVERS[kind])

    def source(self) -> dict[str, Any]:
        """The test server."""
        login: dict[str, Any] = {}
        if self.server.login is not None:
            login = {"username": self.server.user, "password": self.server.password}
        if self.server.has_tls:
            login["caCert"] = str(self.server.certificates / "ca.pem")
        return {"type": self._store, "endpoint": self.server.url, **login}

    @property
    def _store(self) -> str:
        return "opensearch" if self.kind == "opensearch" else "elasticsearch"

    def writer(self) -> dict[str, Any]:
        """An index that keeps vectors as they are."""
        vector = (
            {"type": "knn_vector", "engine": "lucene", "spaceType": "cosinesimil"}
            if self.kind == "opensearch"
            else {"type": "dense_vector", "index_options": {"type": "hnsw"}}
        )
        return {
            "stepType": self._store,
            "parameter": {
                "index": self.name,
                "schemaCreateMode": "createIfNotExist",
                "column": [
                    {"name": "id", "type": "keyword", "primaryKey": True},
                    {"name": "text", "type": "text"},
                    {"name": "number", "type": "long"},
                    {"name": "vector", "dimension": DIMENSION, **vector},
                ],
            },
        }

    def texts(self) -> dict[str, str]:
        """All documents, once they are visible."""
        self.server.request("POST", f"/{self.name}/_refresh")
        found = self.server.request("POST", f"/{self.name}/_search", {"_source": ["text"]})
        return {hit["_id"]: hit["_source"]["text"] for hit in found["hits"]["hits"]}


@pytest.mark.parametrize("place", one_after_the_other(SERVERS), indirect=True)
class TestSearch(RejectContract):
    """Each server."""

    @pytest.fixture
    def place(self, request: pytest.FixtureRequest) -> SearchPlace:
        """An index of its own."""
        return SearchPlace(request.param)
