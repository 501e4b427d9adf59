"""Rows a second into Elasticsearch and OpenSearch, against their own clients' fastest helper.

All sides write the same documents by id with four requests in flight. The graph is out of the way
(`index: false` on Elasticsearch, no graph ever built on OpenSearch). So the bench measures the way
to the server.
"""

from __future__ import annotations

import base64
from typing import Any

from sinks_common import Result, Rows, compare, make_rows, write_all

from tests.services.elasticsearch import Elasticsearch9Server, ElasticsearchServer
from tests.services.opensearch import OpenSearchServer
from tests.services.server import running
from vecferry.io.elasticsearch.settings import (
    ElasticsearchConnection,
    ElasticsearchSettings,
)
from vecferry.io.elasticsearch.target import ElasticsearchTarget
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.steps import StepContext

SERVERS = {
    "elasticsearch": ElasticsearchServer,
    "elasticsearch9": Elasticsearch9Server,
    "opensearch": OpenSearchServer,
}
IN_FLIGHT, CHUNK = 4, 1000


def target_of(store: str, server: Any, dimension: int) -> Any:
    """Our target."""
    vector: dict[str, Any] = {"name": "vector", "dimension": dimension}
    if store == "opensearch":
        vector |= {"type": "knn_vector", "engine": "faiss", "spaceType": "l2"}
    else:
        vector |= {"type": "dense_vector", "index": False}
    job = {
        "index": "bench",
        "schemaCreateMode": "createIfNotExist",
        "settings": {"refresh_interval": "-1", "number_of_replicas": 0},
        "column": [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            vector,
        ],
    }
    context = StepContext(step="Writer", step_type=store)
    if store == "opensearch":
        connection = OpenSearchConnection(endpoint=server.url)
        return OpenSearchTarget(OpenSearchSettings.model_validate(job), connection, context)
    login = {"username": server.user, "password": server.password}
    connection = ElasticsearchConnection(endpoint=server.url, **login)
    return ElasticsearchTarget(ElasticsearchSettings.model_validate(job), connection, context)


def by_helper(store: str, server: Any, rows: Rows) -> None:
    """`parallel_bulk` of the store's own client."""
    actions = ({"_index": "bench", "_id": row["id"], "_source": row} for row in rows)
    how = {"thread_count": IN_FLIGHT, "chunk_size": CHUNK, "queue_size": IN_FLIGHT}
    if store == "opensearch":
        from opensearchpy import OpenSearch, helpers

        client = OpenSearch(server.url, timeout=60, pool_maxsize=IN_FLIGHT)
        lists = (
            {**a, "_source": {**a["_source"], "vector": a["_source"]["vector"].tolist()}}
            for a in actions
        )
        results = helpers.parallel_bulk(client, lists, **how)
    else:
        from elastic_transport import OrjsonSerializer
        from elasticsearch import Elasticsearch, helpers

        login = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
        client = Elasticsearch(
            server.url,
            headers={"authorization": f"Basic {login}"},
            request_timeout=60,
            serializer=OrjsonSerializer(),
        )
        results = helpers.parallel_bulk(client, actions, **how)
    assert sum(1 for good, _ in results if good) == len(rows)
    client.close()


def measure(store: str, dimension: int, n: int, rounds: int) -> Result:
    """The speeds of both sides."""
    server = running(SERVERS[store])

    def target() -> Any:
        return target_of(store, server, dimension)

    def before() -> None:
        server.request("DELETE", "/bench?ignore_unavailable=true")
        target().prepare()

    return compare(
        store,
        dimension,
        make_rows(n, dimension),
        rounds,
        {
            "vecferry": lambda rows: write_all(target(), rows),
            "parallel_bulk": lambda rows: by_helper(store, server, rows),
        },
        before,
        lambda: target().row_count(),
    )
