"""The vendor's own example jobs run word for word; only what lies outside them is given."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from tests.io.odps.server import OdpsServer, Table
from tests.pipelines.support import Bench
from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from vecferry.pipelines.job.resolve import read_and_resolve

JOBS = os.environ.get("VECFERRY_VENDOR_JOBS")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not JOBS, reason="not ours: VECFERRY_VENDOR_JOBS names no folder"),
]
COLLECTION = "yunshi_vector_07171130"


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    """A folder to run in."""
    return Bench(tmp_path, capsys)


def _make_collection(path: Path) -> None:
    client = MilvusClient(str(path))
    schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("my_vector", DataType.FLOAT_VECTOR, dim=1024)
    schema.add_field("text", DataType.VARCHAR, max_length=65535)
    client.create_collection(COLLECTION, schema=schema)
    client.close()


def test_the_oss_job_runs_unchanged_with_every_vector_on_its_own_row(bench: Bench) -> None:
    """Requests are ceil(distinct texts / batchSize), and each row holds its own text's vector."""
    texts = [f"chunk {i % 150} of a book" for i in range(200)]
    folder = bench.folder / "in" / "embedding"
    folder.mkdir()
    (folder / "chunk1.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    target = bench.folder / "vectors.db"
    _make_collection(target)
    bench.save()
    with EndpointServer(key="sk-of-the-test") as server:
        outcome = bench.line(
            "run", f"{JOBS}/oss-to-milvus.json",
            "--data-sources", str(bench.folder / "sources.json"),
            "-p", "OSS_Data_Source_Name=Files",
            "-p", "Milvus_Data_Source_Name=Vectors",
            "-p", "Your_API_Key=sk-of-the-test",
            "--set", f"steps.2.parameter.endpoint={server.url}",
            "--rejects", str(bench.folder / "rejects"),
            "--json",
        )  # fmt: skip
        requests = len(server.good)
    assert outcome.status == 0, outcome.err
    assert outcome.json["rows_written"] == 200
    assert requests == math.ceil(150 / 8) == outcome.json["embed"]["requests"]
    client = MilvusClient(str(target))
    client.load_collection(COLLECTION)
    stored = client.query(
        COLLECTION, filter="pk > 0", output_fields=["text", "my_vector"], limit=1000
    )
    client.close()
    assert sorted(r["text"] for r in stored) == sorted(texts)
    for row in stored:
        np.testing.assert_allclose(row["my_vector"], vector_of(row["text"], 1024), rtol=1e-6)
    assert "sk-of-the-test" not in outcome.out + outcome.err


SENTENCES = [f"sentence {i % 150} of a talk" for i in range(200)]


def _maxcompute(server: OdpsServer) -> None:
    server.add(
        Table(
            "test_tb",
            {"sentence": "string", "label": "bigint"},
            {
                "split=dev": [{"sentence": s, "label": i} for i, s in enumerate(SENTENCES)],
                "split=train": [{"sentence": "not of this partition", "label": 0}],
            },
            {"split": "string"},
        )
    )


def _make_sentences(path: Path) -> None:
    client = MilvusClient(str(path))
    schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("sentence", DataType.VARCHAR, max_length=32)
    schema.add_field("sentence_e", DataType.FLOAT_VECTOR, dim=128)
    client.create_collection("Milvus_Collection", schema=schema)
    client.close()


def test_the_maxcompute_job_runs_unchanged_with_every_vector_on_its_own_row(bench: Bench) -> None:
    """Its nameless embedding step, which the hops skip, is part of the flow all the same."""
    target = bench.folder / "vectors.db"
    _make_sentences(target)
    with OdpsServer() as odps, EndpointServer(key="sk-****") as server:
        _maxcompute(odps)
        bench.sources["MaxCompute_Source"] = odps.connection()
        bench.sources["Milvus_Source"] = bench.sources["Vectors"]
        bench.save()
        path, sources = f"{JOBS}/odps-to-milvus.json", str(bench.folder / "sources.json")
        resolved = read_and_resolve(path, data_sources=sources)
        assert [s.name for s in resolved.steps] == ["Reader", "sentence2emb", "Writer"]
        assert resolved.warnings == []
        outcome = bench.line(
            "run", path, "--data-sources", sources,
            "--set", f"steps.1.parameter.endpoint={server.url}",
            "--rejects", str(bench.folder / "rejects"),
            "--json",
        )  # fmt: skip
        rows_sent = odps.rows_sent
    assert outcome.status == 0, outcome.err
    assert (outcome.json["rows_read"], outcome.json["rows_written"], rows_sent) == (200, 200, 200)
    client = MilvusClient(str(target))
    client.load_collection("Milvus_Collection")
    stored = client.query(
        "Milvus_Collection", filter="pk > 0", output_fields=["sentence", "sentence_e"], limit=1000
    )
    client.close()
    assert sorted(r["sentence"] for r in stored) == sorted(SENTENCES)
    for row in stored:
        np.testing.assert_allclose(row["sentence_e"], vector_of(row["sentence"], 128), rtol=1e-6)
    assert "key-of-the-test" not in outcome.out + outcome.err
