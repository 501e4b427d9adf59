"""One real server of Elasticsearch or OpenSearch, as tests of the writers use it."""

from __future__ import annotations

import uuid

import pytest

from tests.services.elasticsearch import (
    Elasticsearch9Server,
    ElasticsearchServer,
    TightElasticsearchServer,
)
from tests.services.opensearch import OpenSearchServer, TightOpenSearchServer
from tests.services.server import running
from vecferry.io.elasticsearch import ElasticsearchConnection, ElasticsearchSettings
from vecferry.io.elasticsearch.target import ElasticsearchTarget
from vecferry.io.opensearch import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.io.search.dialect import Field
from vecferry.process import end_run
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext
from vecferry.testing.sinks import DIMENSION, vector

SERVERS = {
    "elasticsearch": ElasticsearchServer,
    "elasticsearch9": Elasticsearch9Server,
    "opensearch": OpenSearchServer,
}
KEY = {"name": "id", "type": "keyword", "primaryKey": True}
TEXT = {"name": "text", "type": "text"}
FIELDS = {
    "id": Field("id", "keyword"),
    "text": Field("text", "text"),
    "o": Field("o", "object"),
    "v": Field("v", "dense_vector", 3, "cosine"),
}
TIGHT_SERVERS = {"elasticsearch": TightElasticsearchServer, "opensearch": TightOpenSearchServer}


def settings(**more: object) -> ElasticsearchSettings:
    """Of a job that fills `KEY` and `TEXT` into an index."""
    return ElasticsearchSettings.model_validate({"index": "docs", "column": [KEY, TEXT]} | more)


def rows(n: int, first: int = 0) -> list[dict]:
    """Plain rows that fit the index of `Store.columns`."""
    return [
        {"id": f"k{i}", "text": f"text {i}", "n": i, "vector": vector(i)}
        for i in range(first, first + n)
    ]


class Store:
    """One server, and the targets opened on it."""

    def __init__(self, kind: str, tight: bool = False) -> None:
        self.kind = kind
        self._runs: list[str] = []
        self.server = running((TIGHT_SERVERS if tight else SERVERS)[kind])
        self.connection = self.connected()

    def connected(self, **more: object):
        """A connection to the server, with the login and the authority that it has."""
        server = self.server
        given: dict[str, object] = {"endpoint": server.url}
        if server.login is not None:
            given |= {"username": server.user, "password": server.password}
        if server.has_tls:
            given["caCert"] = str(server.certificates / "ca.pem")
        kind = OpenSearchConnection if self.kind == "opensearch" else ElasticsearchConnection
        return kind.model_validate(given | more)

    @property
    def columns(self) -> list[dict]:
        vector_type = "knn_vector" if self.kind == "opensearch" else "dense_vector"
        field = {"name": "vector", "type": vector_type, "dimension": str(DIMENSION)}
        if self.kind == "opensearch":
            field["engine"] = "lucene"
        return [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            {"name": "n", "type": "integer"},
            field,
        ]

    def settings(self, **more: object):
        kind = OpenSearchSettings if self.kind == "opensearch" else ElasticsearchSettings
        given = {"index": f"t{uuid.uuid4().hex}", "column": self.columns}
        given["schemaCreateMode"] = "createIfNotExist"
        return kind.model_validate(given | more)

    def target(
        self, *, prepared: bool = True, deadline: float = 300, connection=None, **more: object
    ):
        """A target of a new run; one of an index of its own unless `more` names one."""
        context = StepContext(step="Writer", step_type=self.kind, retry_deadline=deadline)
        self._runs.append(context.run)
        kind = OpenSearchTarget if self.kind == "opensearch" else ElasticsearchTarget
        target = kind(self.settings(**more), connection or self.connection, context)
        if prepared:
            target.prepare()
        return target

    def document(self, target, key: str) -> dict | None:
        """The document of an id, without its vector where the server keeps it apart."""
        path = f"/{target.settings.index}/_doc/{key}"
        try:
            return self.server.request("GET", path)["_source"]
        except Exception:
            return None

    def close(self) -> None:
        for run in self._runs:
            end_run(run)


def one_after_the_other(servers):
    """Parameters of a fixture: each server takes more than a gigabyte."""
    return [pytest.param(k, marks=pytest.mark.heavy(server=kind)) for k, kind in servers.items()]


def write(target, changes):
    """Rows that were written, rejects, and counts, of one bundle."""
    operator = target.operator()
    out = []
    for change in changes:
        out += operator.process(change if isinstance(change, Change) else Change(change))
    out += operator.finish()
    items = [item for item, _ in out]
    written = [i for i in items if isinstance(i, Change)]
    return written, [i for i in items if isinstance(i, Reject)], operator.counts.values
