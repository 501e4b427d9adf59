"""The real stores as targets of syncs: the writer of a job, and what the store holds afterwards."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from tests.services.elasticsearch import ElasticsearchServer
from tests.services.milvus import MilvusServer
from tests.services.opensearch import OpenSearchServer
from tests.services.postgres import Postgres
from tests.services.search_node import SearchNode
from tests.services.server import Server, running

Found = dict[str, tuple[str, np.ndarray]]


class StorePlace(ABC):
    """An empty target of its own on a server, with the columns ``id``, ``text``, ``vector``."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.name = f"s{uuid.uuid4().hex[:12]}"

    @abstractmethod
    def source(self) -> dict[str, Any]:
        """The data source."""

    @abstractmethod
    def writer(self) -> dict[str, Any]:
        """The writer's step; the target is created, and the job owns it."""

    @abstractmethod
    def found(self) -> Found:
        """What the store holds, read with its own client: text and vector by id."""

    @abstractmethod
    def is_whole(self) -> bool:
        """Whether it has what it goes without while it is loaded: its index, its refreshes."""

    @abstractmethod
    def close(self) -> None:
        """Removes the target."""

    def step(self, kind: str, **parameter: Any) -> dict[str, Any]:
        """A writer's step."""
        common = {
            "datasource": "Store",
            "schemaCreateMode": "createIfNotExist",
            "ownsTarget": True,
        }
        return {
            "stepType": kind,
            "category": "writer",
            "name": "Write",
            "parameter": {**common, **parameter},
        }


class SearchPlace(StorePlace):
    """An index of Elasticsearch or OpenSearch."""

    kind: str
    server: SearchNode
    vector: ClassVar[dict[str, Any]]

    def source(self) -> dict[str, Any]:
        """With the login that the server has."""
        server = self.server
        given: dict[str, Any] = {"type": self.kind, "endpoint": server.url}
        if server.login is not None:
            given |= {"username": server.user, "password": server.password}
        if server.has_tls:
            given["caCert"] = str(server.certificates / "ca.pem")
        return given

    def writer(self) -> dict[str, Any]:
        """Documents under their id."""
        columns = [
            {"name": "id", "type": "keyword", "primaryKey": True},
            {"name": "text", "type": "text"},
            {"name": "vector", "dimension": self.dimension, **self.vector},
        ]
        return self.step(self.kind, index=self.name, column=columns)

    def found(self) -> Found:
        """All documents, once they are searchable."""
        self.server.request("POST", f"/{self.name}/_refresh")
        answer = self.server.request("POST", f"/{self.name}/_search", {"size": 10_000})
        documents = [hit["_source"] for hit in answer["hits"]["hits"]]
        return {d["id"]: (d["text"], np.array(d["vector"], dtype="<f4")) for d in documents}

    def is_whole(self) -> bool:
        """Refreshed as usual; the mark says nothing else."""
        answer = self.server.request("GET", f"/{self.name}?flat_settings=true")[self.name]
        refreshed = answer["settings"].get("index.refresh_interval") != "-1"
        told = "deferred" in answer["mappings"].get("_meta", {}).get("vecferry", {})
        assert refreshed != told
        return refreshed

    def close(self) -> None:
        self.server.request("DELETE", f"/{self.name}")


class ElasticsearchPlace(SearchPlace):
    """An index of Elasticsearch 8, which keeps vectors in `_source`."""

    kind = "elasticsearch"
    vector: ClassVar[dict[str, Any]] = {"type": "dense_vector"}

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.server = running(ElasticsearchServer)


class OpenSearchPlace(SearchPlace):
    """An index of OpenSearch."""

    kind = "opensearch"
    vector: ClassVar[dict[str, Any]] = {"type": "knn_vector", "engine": "lucene"}

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.server = running(OpenSearchServer)


class PostgresPlace(StorePlace):
    """A table that keeps versions."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.server = running(Postgres)
        self.server.execute("CREATE EXTENSION IF NOT EXISTS vector")

    def source(self) -> dict[str, Any]:
        """The user of the database `shop`."""
        return self.server.source

    def writer(self) -> dict[str, Any]:
        """With `versionColumn`."""
        columns = [
            {"name": "id", "type": "varchar(64)", "primaryKey": True},
            {"name": "text", "type": "varchar"},
            {"name": "vector", "type": "vector", "dimension": self.dimension},
            {"name": "version", "type": "bigint"},
        ]
        return self.step("postgresql", table=self.name, column=columns, versionColumn="version")

    def found(self) -> Found:
        """All rows."""
        with self.server.client() as connection:
            asked = f'SELECT id, text, vector::text FROM "{self.name}"'
            rows = connection.execute(asked).fetchall()
        return {key: (text, np.array(json.loads(v), dtype="<f4")) for key, text, v in rows}

    def is_whole(self) -> bool:
        """One index beside that of the key."""
        with self.server.client() as connection:
            asked = "SELECT count(*) FROM pg_indexes WHERE tablename = %s"
            ((found,),) = connection.execute(asked, [self.name]).fetchall()
        assert found in (1, 2)
        return bool(found == 2)

    def close(self) -> None:
        self.server.execute(f'DROP TABLE IF EXISTS "{self.name}"')


class MilvusPlace(StorePlace):
    """A collection, which keeps no versions."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.server = running(MilvusServer)

    def source(self) -> dict[str, Any]:
        """A server without a login."""
        return {"type": "milvus", "endpoint": self.server.uri}

    def writer(self) -> dict[str, Any]:
        """Keys of the job's own."""
        columns = [
            {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
            {"name": "text", "type": "VarChar", "maxLength": 1000},
            {
                "name": "vector",
                "type": "FloatVector",
                "dimension": self.dimension,
                "indexType": "FLAT",
            },
        ]
        return self.step("milvus", collection=self.name, column=columns)

    def found(self) -> Found:
        """All rows, deletes included."""
        client = self.server.client()
        try:
            rows = client.query(
                self.name,
                filter='id != ""',
                output_fields=["id", "text", "vector"],
                limit=16_000,
                consistency_level="Strong",
            )
        finally:
            client.close()
        return {r["id"]: (r["text"], np.array(r["vector"], dtype="<f4")) for r in rows}

    def is_whole(self) -> bool:
        """An index on its vector."""
        client = self.server.client()
        try:
            return client.list_indexes(self.name) == ["vector"]
        finally:
            client.close()

    def close(self) -> None:
        client = self.server.client()
        client.drop_collection(self.name)
        client.close()


STORES: dict[str, tuple[type[StorePlace], Any]] = {
    "elasticsearch": (ElasticsearchPlace, ElasticsearchServer),
    "opensearch": (OpenSearchPlace, OpenSearchServer),
    "postgresql": (PostgresPlace, Postgres),
    "milvus": (MilvusPlace, MilvusServer),
}
"""The stores, and the server of each."""


def stores_of(usual: type[Server]) -> list[ParameterSet]:
    """The parameters of a fixture: the store of a source's usual target, others in a long run."""
    return [
        pytest.param(
            kind,
            marks=[
                pytest.mark.heavy(server=server),
                *([] if server is usual else [pytest.mark.long]),
            ],
        )
        for kind, (_, server) in STORES.items()
    ]
