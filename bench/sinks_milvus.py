"""Rows a second into a Milvus server, against pymilvus alone and Beam's own writer.

All sides upsert the same rows by key, 1,024 a request. The loop over pymilvus has four threads with
a client each, as many as we have requests in flight. Beam's writer runs in a pipeline, so ours does
as well, beside ours without one. The index is FLAT, so that what is measured is the way there.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.ml.rag.ingestion.jdbc_common import WriteConfig
from apache_beam.ml.rag.ingestion.milvus_search import MilvusVectorWriterConfig, MilvusWriteConfig
from apache_beam.ml.rag.ingestion.postgres_common import ColumnSpecsBuilder
from apache_beam.ml.rag.types import Content, EmbeddableItem, Embedding
from apache_beam.ml.rag.utils import MilvusConnectionParameters
from pymilvus import MilvusClient
from sinks_common import Result, Rows, compare, make_rows, write_all

from tests.services.milvus import MilvusServer
from tests.services.server import running
from vecferry.io.milvus import MilvusConnection, MilvusSettings, WriteToMilvus
from vecferry.io.milvus.target import MilvusTarget
from vecferry.steps import StepContext

THREADS, CHUNK = 4, 1024
_rows: dict[str, Rows] = {}
"""What the sources of pipelines give, in this process."""


def settings_of(dimension: int) -> MilvusSettings:
    """The collection."""
    vector = {"name": "vector", "type": "FloatVector", "dimension": dimension, "indexType": "FLAT"}
    return MilvusSettings.model_validate(
        {
            "collection": "bench",
            "batchSize": CHUNK,
            "column": [
                {"name": "id", "type": "VarChar", "maxLength": 64, "primaryKey": True},
                {"name": "text", "type": "VarChar", "maxLength": 1000},
                vector,
            ],
        }
    )


def by_pymilvus(uri: str, rows: Rows) -> None:
    """Threads that take chunks off a list."""
    chunks: queue.SimpleQueue[Rows] = queue.SimpleQueue()
    for start in range(0, len(rows), CHUNK):
        chunks.put(rows[start : start + CHUNK])

    def loop() -> None:
        client = MilvusClient(uri)
        while True:
            try:
                chunk = chunks.get_nowait()
            except queue.Empty:
                client.close()
                return
            client.upsert("bench", chunk)

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _chunk(start: int) -> Rows:
    return _rows["all"][start : start + 1000]


def _items(start: int) -> Iterator[EmbeddableItem]:
    for row in _chunk(start):
        yield EmbeddableItem(
            id=row["id"],
            content=Content(text=row["text"]),
            embedding=Embedding(dense_embedding=row["vector"]),
        )


def _run(rows: Rows, source: Any, write: beam.PTransform) -> None:
    _rows["all"] = rows
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        starts = pipeline | beam.Create(list(range(0, len(rows), 1000)), reshuffle=False)
        _ = starts | beam.FlatMap(source) | write


def _as_it_is(vector: Any) -> Any:
    return vector


def by_beam(uri: str, rows: Rows) -> None:
    """Beam's own writer."""
    columns = (
        ColumnSpecsBuilder()
        .with_id_spec(column_name="id")
        .with_embedding_spec(column_name="vector", convert_fn=_as_it_is)
        .with_content_spec(column_name="text")
        .build()
    )
    config = MilvusVectorWriterConfig(
        connection_params=MilvusConnectionParameters(uri=uri),
        write_config=MilvusWriteConfig("bench", write_config=WriteConfig(write_batch_size=CHUNK)),
        column_specs=columns,
    )
    _run(rows, _items, config.create_write_transform())


def measure(store: str, dimension: int, n: int, rounds: int) -> Result:
    """The speeds of all sides."""
    server = running(MilvusServer)
    connection = MilvusConnection(endpoint=server.uri)
    settings = settings_of(dimension)

    def target() -> MilvusTarget:
        return MilvusTarget(settings, connection, StepContext(step="Writer", step_type="milvus"))

    def before() -> None:
        client = MilvusClient(server.uri)
        if client.has_collection("bench"):
            client.drop_collection("bench")
        client.close()
        target().prepare()

    def in_a_pipeline(rows: Rows) -> None:
        context = StepContext(step="Writer", step_type="milvus")
        _run(rows, _chunk, WriteToMilvus(settings=settings, connection=connection, context=context))

    return compare(
        store,
        dimension,
        make_rows(n, dimension),
        rounds,
        {
            "vecferry": lambda rows: write_all(target(), rows),
            "pymilvus": lambda rows: by_pymilvus(server.uri, rows),
            "vecferry in a pipeline": in_a_pipeline,
            "Beam's writer": lambda rows: by_beam(server.uri, rows),
        },
        before,
        lambda: target().row_count(),
    )
