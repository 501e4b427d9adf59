"""Rows a second into Elasticsearch and OpenSearch, against their own clients' fastest helper.

    python bench/sinks_search.py [--rows 50000] [--dimensions 256 1024] [--stores elasticsearch …]

Both sides write the same documents by id with four requests in flight. The graph is out of the way
(`index: false` on Elasticsearch, no graph ever built on OpenSearch), so that what is measured is
the way to the server. Prints the median of the ratios of pairs run one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.services.elasticsearch import Elasticsearch9Server, ElasticsearchServer
from tests.services.opensearch import OpenSearchServer
from tests.services.server import running, stop
from vecferry.io.elasticsearch_settings import (
    ElasticsearchConnection,
    ElasticsearchSettings,
)
from vecferry.io.elasticsearch_target import ElasticsearchTarget
from vecferry.io.opensearch_settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch_target import OpenSearchTarget
from vecferry.process import end_run
from vecferry.rows import Change
from vecferry.steps import StepContext

SERVERS = {
    "elasticsearch": ElasticsearchServer,
    "elasticsearch9": Elasticsearch9Server,
    "opensearch": OpenSearchServer,
}
IN_FLIGHT, CHUNK = 4, 1000


def make_rows(n: int, dimension: int) -> list[dict[str, Any]]:
    """Rows with an id, a short text and a vector."""
    vectors = np.random.default_rng(1).normal(size=(n, dimension)).astype(np.float32)
    return [
        {"id": f"row-{i}", "text": f"this is the text of row {i}", "vector": vectors[i]}
        for i in range(n)
    ]


def target_of(store: str, server: Any, index: str, dimension: int) -> Any:
    """Our target, with an index of its own, made ready."""
    vector: dict[str, Any] = {"name": "vector", "dimension": dimension}
    if store == "opensearch":
        vector |= {"type": "knn_vector", "engine": "faiss", "spaceType": "l2"}
    else:
        vector |= {"type": "dense_vector", "index": False}
    job = {
        "index": index,
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


def ours(target: Any, rows: list[dict[str, Any]]) -> float:
    """Rows a second through the writer of one bundle."""
    operator = target.operator()
    changes = [Change(row) for row in rows]
    began = time.perf_counter()
    done = 0
    for change in changes:
        done += len(operator.process(change))
    done += len(operator.finish())
    seconds = time.perf_counter() - began
    assert done == len(rows)
    return len(rows) / seconds


def helper(store: str, server: Any, index: str, rows: list[dict[str, Any]]) -> float:
    """Rows a second through `parallel_bulk` of the store's own client."""
    actions = ({"_index": index, "_id": row["id"], "_source": row} for row in rows)
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

        login = f"Basic {_login(server)}"
        client = Elasticsearch(
            server.url,
            headers={"authorization": login},
            request_timeout=60,
            serializer=OrjsonSerializer(),
        )
        results = helpers.parallel_bulk(client, actions, **how)
    began = time.perf_counter()
    done = sum(1 for good, _ in results if good)
    seconds = time.perf_counter() - began
    assert done == len(rows)
    return len(rows) / seconds


def _login(server: Any) -> str:
    import base64

    return base64.b64encode(f"{server.user}:{server.password}".encode()).decode()


def measure(store: str, dimension: int, n: int, pairs: int) -> None:
    """Prints the speeds of both sides and the median of their ratios."""
    server = running(SERVERS[store])
    rows = make_rows(n, dimension)
    found = []
    for pair in range(pairs + 1):
        speeds = []
        for side in ("ours", "helper") if pair % 2 else ("helper", "ours"):
            index = f"bench-{dimension}-{pair}-{side}"
            target = target_of(store, server, index, dimension)
            target.prepare()
            some = rows if pair else rows[: n // 10]  # the first pair only warms the server
            speed = ours(target, some) if side == "ours" else helper(store, server, index, some)
            speeds.append((side, speed))
            assert target.row_count() == len(some)
            server.request("DELETE", f"/{index}")
            end_run(target.context.run)
        if pair:
            found.append(dict(speeds))
            ours_, theirs = found[-1]["ours"], found[-1]["helper"]
            print(f"{store} {dimension}: {ours_:.0f} rows/s, the helper {theirs:.0f}")
    ratio = statistics.median(f["ours"] / f["helper"] for f in found)
    print(f"{store}, {n} rows of {dimension} dimensions: {ratio:.2f} of the helper's speed")


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--stores", nargs="+", default=list(SERVERS), choices=list(SERVERS))
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    for store in given.stores:
        for dimension in given.dimensions:
            measure(store, dimension, given.rows, given.pairs)
        stop(SERVERS[store])


if __name__ == "__main__":
    main()
