"""What vecferry is compared with; each gives the number of rows that got a vector.

`python -m bench.embed_others NAME URL ROWS IN_FLIGHT` runs one of `RIVALS` in an environment of its
own, which has nothing of vecferry. It prints the number, and the seconds of CPU.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.embed_endpoint import BATCH, DIMENSION, KEY, MODEL, text_of


def ask(session: Any, url: str, batch: list[str]) -> list[Any]:
    """The vectors of a batch by `requests`, as base64 where the server gives it."""
    import numpy as np

    body = {
        "model": MODEL,
        "input": batch,
        "dimensions": DIMENSION,
        "encoding_format": "base64",
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = session.post(f"{url}/embeddings", json=body, headers=headers, timeout=30)
    answer.raise_for_status()
    values = [item["embedding"] for item in answer.json()["data"]]
    return [
        np.frombuffer(base64.b64decode(value), "<f4")
        if isinstance(value, str)
        else np.array(value, np.float32)
        for value in values
    ]


def through_pool(url: str, rows: int, in_flight: int) -> int:
    """A plain loop: a thread pool over requests, without Beam."""
    from concurrent.futures import ThreadPoolExecutor

    import requests

    local = threading.local()

    def embed(batch: list[str]) -> int:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        return sum(len(vector) == DIMENSION for vector in ask(local.session, url, batch))

    batches = ([text_of(i + k) for k in range(BATCH)] for i in range(0, rows, BATCH))
    with ThreadPoolExecutor(in_flight) as pool:
        return sum(pool.map(embed, batches))


def through_mltransform(url: str, rows: int, in_flight: int) -> int:
    """Beam's own embedding transform, with a handler as its documentation has them."""
    import apache_beam as beam
    import requests
    from apache_beam.ml.inference.base import RemoteModelHandler, RunInference
    from apache_beam.ml.transforms.base import (
        EmbeddingsManager,
        MLTransform,
        _TextEmbeddingHandler,
    )

    from vecferry.process import run_state

    class Handler(RemoteModelHandler):
        def __init__(self) -> None:
            super().__init__(namespace="bench", retry_filter=lambda e: True)

        def create_client(self) -> Any:
            return requests.Session()

        def request(self, batch: Any, model: Any, inference_args: Any = None) -> Any:
            return ask(model, url, list(batch))

        def batch_elements_kwargs(self) -> dict[str, Any]:
            return {"min_batch_size": BATCH, "max_batch_size": BATCH}

    class Embeddings(EmbeddingsManager):
        def get_model_handler(self) -> Any:
            return Handler()

        def get_ptransform_for_processing(self, **_: Any) -> Any:
            return RunInference(_TextEmbeddingHandler(self))

    def count(row: dict[str, Any]) -> None:
        run_state("bench").add({"rows": len(row["text"]) == DIMENSION})

    with (
        tempfile.TemporaryDirectory() as folder,
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        (
            pipeline
            | beam.Create([rows], reshuffle=False)
            | beam.FlatMap(lambda n: ({"text": text_of(i)} for i in range(n)))
            | MLTransform(write_artifact_location=folder).with_transform(
                Embeddings(columns=["text"])
            )
            | beam.Map(count)
        )
    return run_state("bench").counts()["rows"]


def through_llamaindex(url: str, rows: int, in_flight: int) -> int:
    """LlamaIndex's OpenAI-compatible embedding, asynchronous, as many workers as in flight."""
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    model = OpenAILikeEmbedding(
        model_name=MODEL,
        api_base=url,
        api_key=KEY,
        embed_batch_size=BATCH,
        num_workers=in_flight,
        max_retries=0,
    )
    texts = [text_of(i) for i in range(rows)]
    vectors = asyncio.run(model.aget_text_embedding_batch(texts))
    return sum(len(vector) == DIMENSION for vector in vectors)


def through_pathway(url: str, rows: int, in_flight: int) -> int:
    """Pathway's OpenAI embedder over a table of texts, with as much capacity as in flight."""
    os.environ["OPENAI_BASE_URL"] = url
    import pathway as pw
    from pathway.xpacks.llm.embedders import OpenAIEmbedder

    embedder = OpenAIEmbedder(
        model=MODEL,
        api_key=KEY,
        capacity=in_flight,
        batch_size=BATCH,
        dimensions=DIMENSION,
        truncation_keep_strategy=None,
    )
    texts = pw.debug.table_from_rows(
        pw.schema_from_types(text=str), [(text_of(i),) for i in range(rows)]
    )
    counted = 0

    def count(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        nonlocal counted
        counted += len(row["vector"]) == DIMENSION

    pw.io.subscribe(texts.select(vector=embedder(pw.this.text)), on_change=count)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return counted


def through_cocoindex(url: str, rows: int, in_flight: int) -> int:
    """A function that CocoIndex batches, over OpenAI's client.

    CocoIndex's own LiteLLMEmbedder sends 64 texts a request, which can't be set; the server takes
    10, as many services do.
    """
    os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"
    import cocoindex as coco
    import numpy as np
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0)
    under_way = asyncio.Semaphore(in_flight)

    @coco.fn.as_async(batching=True, max_batch_size=BATCH)
    async def embed(texts: list[str]) -> list[Any]:
        async with under_way:
            answer = await client.embeddings.create(model=MODEL, input=texts, dimensions=DIMENSION)
        return [np.array(item.embedding, np.float32) for item in answer.data]

    async def count(i: int) -> bool:
        return len(await embed(text_of(i))) == DIMENSION

    counted = 0

    @coco.fn
    async def main() -> None:
        nonlocal counted
        counted = sum(await asyncio.gather(*map(count, range(rows))))

    with tempfile.TemporaryDirectory() as folder:
        os.environ["COCOINDEX_DB"] = f"{folder}/state"
        coco.App(coco.AppConfig(name="race"), main).update_blocking()
    return counted


RIVALS: dict[str, Callable[[str, int, int], int]] = {
    "LlamaIndex": through_llamaindex,
    "Pathway": through_pathway,
    "CocoIndex": through_cocoindex,
}
"""Those that want other versions of libraries than vecferry does."""


if __name__ == "__main__":
    _name, _url, _rows, _in_flight = sys.argv[1:]
    print(RIVALS[_name](_url, int(_rows), int(_in_flight)), time.process_time())
