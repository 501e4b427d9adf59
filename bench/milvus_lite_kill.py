"""What a Milvus Lite server keeps of acknowledged rows when it is killed; plain pymilvus.

python bench/milvus_lite_kill.py            4 trials with one writer, 4 with four
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.io.milvus.test_server import LiteServer

ENOUGH = 2500


def make_collection(uri: str) -> None:
    """A key and a vector of 8 dimensions, indexed and loaded."""
    client = MilvusClient(uri)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=8)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    client.create_collection("t", schema=schema, index_params=index)
    client.load_collection("t")


def write(uri: str, writer: int, acknowledged: list[int], stop: threading.Event) -> None:
    """Upserts 100 rows at a time until told to stop, or until the server is gone."""
    client = MilvusClient(uri)
    vector = np.ones(8, dtype="f4")
    for batch in range(30):
        if stop.is_set():
            return
        ids = [writer * 100_000 + batch * 100 + i for i in range(100)]
        with contextlib.suppress(MilvusException):
            client.upsert("t", [{"id": i, "v": vector} for i in ids], timeout=1)
            acknowledged.extend(ids)


def trial(writers: int) -> tuple[int, int]:
    """Rows acknowledged when the server was killed, and rows there when it is back."""
    with tempfile.TemporaryDirectory() as folder:
        server = LiteServer(Path(folder) / "data")
        server.start()
        uri = server.connection.endpoint
        make_collection(uri)
        acknowledged: list[int] = []
        stop = threading.Event()
        threads = [
            threading.Thread(target=write, args=(uri, n, acknowledged, stop), daemon=True)
            for n in range(writers)
        ]
        for thread in threads:
            thread.start()
        while len(acknowledged) < ENOUGH:
            time.sleep(0.001)
        server.kill()
        stop.set()
        known = len(acknowledged)
        for thread in threads:
            thread.join(5)
        server.start()
        client = MilvusClient(uri)
        client.load_collection("t")
        count = client.query("t", filter="id >= 0", output_fields=["count(*)"])
        server.kill()
        return known, count[0]["count(*)"]


if __name__ == "__main__":
    for writers in (1, 4):
        for _ in range(4):
            known, there = trial(writers)
            print(f"{writers} writers: {known} acknowledged, {there} there")
