"""The vendor's example jobs into real servers: into Milvus as they are, elsewhere by one step."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from tests.io.odps.server import OdpsServer, Table
from tests.pipelines.support import Bench
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.milvus import MilvusServer
from tests.services.opensearch import OpenSearchServer
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import Server, running
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of

JOBS = os.environ.get("VECFERRY_VENDOR_JOBS")
pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.skipif(not JOBS, reason="not ours: VECFERRY_VENDOR_JOBS names no folder"),
]
TEXTS = [f"part {i % 150} of a talk" for i in range(200)]
KEY = "sk-of-the-test"


@dataclass
class Job:
    """One of the vendor's jobs: which columns it writes, and what its file leaves open."""

    name: str
    text: str
    vector: str
    dimension: int
    collection: str
    given: list[str]


OSS = Job(
    "oss-to-milvus",
    "text",
    "my_vector",
    1024,
    "yunshi_vector_07171130",
    [
        "-p", "OSS_Data_Source_Name=Files",
        "-p", "Milvus_Data_Source_Name=Milvus_Source",
        "-p", f"Your_API_Key={KEY}",
    ],
)  # fmt: skip
ODPS = Job("odps-to-milvus", "sentence", "sentence_e", 128, "Milvus_Collection", [])


class Place:
    """A store: where it is, the step that writes into it, and what it holds then."""

    server: type[Server]
    exchanged = True
    heavy = False
    rows = 150
    """Of each text one, where the text is the key."""

    def __init__(self) -> None:
        self.running: Any = running(self.server)

    def make(self, job: Job) -> None:
        """What must be there beforehand: nothing, where the step creates it."""

    def source(self) -> dict[str, Any]:
        raise NotImplementedError

    def column(self, job: Job) -> list[dict[str, Any]]:
        raise NotImplementedError

    def parameter(self, job: Job) -> dict[str, Any]:
        return {"index": job.name, "schemaCreateMode": "createIfNotExist"}

    def stored(self, job: Job) -> list[tuple[str, Any]]:
        """Text and vector of each row."""
        raise NotImplementedError


class Milvus(Place):
    server, exchanged, rows = MilvusServer, False, 200

    def make(self, job: Job) -> None:
        client = MilvusClient(self.running.uri)
        schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field(job.vector, DataType.FLOAT_VECTOR, dim=job.dimension)
        schema.add_field(job.text, DataType.VARCHAR, max_length=65535 if job is OSS else 32)
        indexes = client.prepare_index_params()
        indexes.add_index(job.vector, index_type="FLAT", metric_type="COSINE")
        client.create_collection(job.collection, schema=schema, index_params=indexes)
        client.close()

    def source(self) -> dict[str, Any]:
        return {"type": "milvus", "endpoint": self.running.uri}

    def stored(self, job: Job) -> list[tuple[str, Any]]:
        client = MilvusClient(self.running.uri)
        found = client.query(
            job.collection,
            filter="pk > 0",
            output_fields=[job.text, job.vector],
            limit=1000,
            consistency_level="Strong",
        )
        client.drop_collection(job.collection)
        client.close()
        return [(row[job.text], row[job.vector]) for row in found]


class Elasticsearch(Place):
    server, heavy = ElasticsearchServer, True

    def source(self) -> dict[str, Any]:
        login = {"username": self.running.user, "password": self.running.password}
        return {"type": "elasticsearch", "endpoint": self.running.url, **login}

    def column(self, job: Job) -> list[dict[str, Any]]:
        exact = {"index_options": {"type": "hnsw"}}
        return [
            {"name": job.text, "type": "keyword", "primaryKey": True},
            {"name": job.vector, "type": "dense_vector", "dimension": job.dimension, **exact},
        ]

    def stored(self, job: Job) -> list[tuple[str, Any]]:
        self.running.request("POST", f"/{job.name}/_refresh")
        found = self.running.request("POST", f"/{job.name}/_search", {"size": 1000})
        rows = [hit["_source"] for hit in found["hits"]["hits"]]
        return [(row[job.text], row[job.vector]) for row in rows]


class OpenSearch(Elasticsearch):
    server = OpenSearchServer

    def source(self) -> dict[str, Any]:
        return {"type": "opensearch", "endpoint": self.running.url}

    def column(self, job: Job) -> list[dict[str, Any]]:
        vector = {"type": "knn_vector", "dimension": job.dimension, "engine": "lucene"}
        key = {"name": job.text, "type": "keyword", "primaryKey": True}
        return [key, {"name": job.vector, **vector, "spaceType": "cosinesimil"}]


class PostgreSql(Place):
    server, type_name = Postgres, "vector"

    def source(self) -> dict[str, Any]:
        self.running.execute("CREATE EXTENSION IF NOT EXISTS vector")
        login = {"username": USER, "password": PASSWORD, "database": DATABASE}
        return {"type": "postgresql", "host": "127.0.0.1", "port": self.running.port, **login}

    def parameter(self, job: Job) -> dict[str, Any]:
        return {"table": job.name, "schemaCreateMode": "createIfNotExist"}

    def column(self, job: Job) -> list[dict[str, Any]]:
        return [
            {"name": job.text, "type": "text", "primaryKey": True},
            {"name": job.vector, "type": self.type_name, "dimension": job.dimension},
        ]

    def stored(self, job: Job) -> list[tuple[str, Any]]:
        with self.running.client() as connection:
            found = connection.execute(
                f'SELECT {job.text}, {job.vector}::float4[] FROM "{job.name}"'
            ).fetchall()
        self.running.execute(f'DROP TABLE "{job.name}"')
        return list(found)


class Hologres(PostgreSql):
    type_name = "float4[]"

    def source(self) -> dict[str, Any]:
        return {**super().source(), "type": "hologres"}


PLACES = {
    "milvus": Milvus,
    "elasticsearch": Elasticsearch,
    "opensearch": OpenSearch,
    "postgresql": PostgreSql,
    "hologres": Hologres,
}


@pytest.fixture(
    params=[
        pytest.param(name, marks=[pytest.mark.heavy(server=kind.server)] if kind.heavy else [])
        for name, kind in PLACES.items()
    ]
)
def place(request: pytest.FixtureRequest) -> Place:
    """Each store."""
    return PLACES[request.param]()


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder to run in."""
    return Bench(tmp_path, capsys)


@contextlib.contextmanager
def source_of(job: Job, bench: Bench) -> Iterator[None]:
    """What the job reads: a file under the name of an object, or a table of MaxCompute."""
    if job is OSS:
        (bench.folder / "in" / "embedding").mkdir()
        bench.write_lines([{"text": t} for t in TEXTS], "embedding/chunk1.jsonl")
        yield
        return
    with OdpsServer() as odps:
        data = {"split=dev": [{"sentence": s} for s in TEXTS]}
        odps.add(Table("test_tb", {"sentence": "string"}, data, {"split": "string"}))
        bench.sources["MaxCompute_Source"] = odps.connection()
        yield


@pytest.mark.parametrize("job", [OSS, ODPS], ids=lambda job: job.name)
def test_a_job_of_the_vendor_fills_a_server_and_a_query_answers(
    job: Job, place: Place, bench: Bench
) -> None:
    """Each text has its own vector there, and is found by it."""
    place.make(job)
    bench.sources["Milvus_Source"] = place.source()
    arguments = [f"{JOBS}/{job.name}.json", *job.given]
    if place.exchanged:
        step = {
            "stepType": bench.sources["Milvus_Source"]["type"],
            "category": "writer",
            "name": "Writer",
            "parameter": {
                "datasource": "Milvus_Source",
                "column": place.column(job),
                **place.parameter(job),
            },
        }
        arguments += ["--set", f"steps.Writer={json.dumps(step)}"]
    with (
        source_of(job, bench),
        EndpointServer(key=KEY if job is OSS else "sk-****") as server,
    ):
        bench.save()
        arguments += ["--data-sources", str(bench.folder / "sources.json")]
        at = 2 if job is OSS else 1
        arguments += ["--set", f"steps.{at}.parameter.endpoint={server.url}"]
        rejects = ["--rejects", str(bench.folder / "rejects")]
        outcome = bench.line("run", *arguments, *rejects, "--json")
        assert outcome.status == 0, outcome.err
        answer = bench.line("query", arguments[0], TEXTS[42], *arguments[1:], "-k", "3", "--json")
    report = outcome.json
    assert (report["rows_read"], report["rows_written"], report["rows_rejected"]) == (200, 200, 0)
    assert answer.status == 0, answer.err
    best = answer.json["hits"][0]
    assert (best[job.text], best["score"]) == (TEXTS[42], pytest.approx(1.0, abs=1e-3))
    stored = place.stored(job)
    assert len(stored) == place.rows
    assert {text for text, _ in stored} == set(TEXTS)
    for text, vector in stored:
        np.testing.assert_allclose(vector, vector_of(text, job.dimension), rtol=1e-5)
    assert KEY not in outcome.out + outcome.err + answer.out + answer.err
