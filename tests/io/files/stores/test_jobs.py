"""Jobs whose rows lie in a store: run, checked, previewed, estimated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient

from tests.contracts.files import Place
from tests.io.files.stores.support import (
    buckets_have_names,
    gcs_place,
    gcs_source,
    hdfs_place,
    hdfs_source,
    oss_source,
    s3_place,
    s3_source,
)
from tests.pipelines.support import Bench
from tests.services.server import free_port
from tests.transforms.embed.endpoints.server import EndpointServer

JOBS = os.environ.get("VECFERRY_VENDOR_JOBS")
pytestmark = pytest.mark.service

TEXTS = [f"chunk {i} of a book" for i in range(40)]
ROWS = [{"id": f"{i:02}", "text": text} for i, text in enumerate(TEXTS)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    """A folder to run in; buckets have names of their own."""
    with buckets_have_names():
        yield Bench(tmp_path, capsys)


def set_up(bench: Bench, kind: str, **source: Any) -> Place:
    """Puts the rows into a store, and has the job read them there."""
    places = {"oss": lambda: s3_place("oss"), "s3": s3_place, "hdfs": hdfs_place, "gcs": gcs_place}
    sources = {"oss": oss_source, "s3": s3_source, "hdfs": hdfs_source, "gcs": gcs_source}
    place = places[kind]()
    folder = place.folder()
    place.put(f"{folder}/chunk1.jsonl", LINES)
    bench.sources["Files"] = sources[kind](**source)
    bench.job["steps"][0]["stepType"] = kind
    bench.step("Reader")["object"] = [f"{folder}/*.jsonl"]
    return place


@pytest.mark.parametrize("kind", ["oss", "s3", "hdfs", "gcs"])
def test_a_job_reads_its_rows_from_each_store(bench: Bench, kind: str) -> None:
    """It is checked, estimated and previewed by the same data source, and then run."""
    set_up(bench, kind)
    checked = bench.call("check", "--connect")
    assert checked.status == 0, checked.err
    estimated = bench.call("check", "--estimate", "--json")
    assert estimated.json["estimate"]["rows"] == 40, estimated.out
    shown = bench.call("preview", "--source", "--rows", "2")
    assert "chunk 1 of a book" in shown.out
    assert "chunk 2 of a book" not in shown.out
    report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 40)
    assert [r["text"] for r in bench.stored()] == TEXTS


@pytest.mark.skipif(not JOBS, reason="not ours: VECFERRY_VENDOR_JOBS names no folder")
def test_the_vendor_s_job_reads_from_a_bucket_unchanged(bench: Bench) -> None:
    """The data source is of the type that its step names, and not a folder in its stead."""
    s3_place("oss").put("embedding/chunk1.jsonl", LINES)
    bench.sources["Files"] = oss_source()
    client = MilvusClient(str(bench.folder / "vectors.db"))
    schema = client.create_schema(auto_id=True, enable_dynamic_field=True)
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("my_vector", DataType.FLOAT_VECTOR, dim=1024)
    schema.add_field("text", DataType.VARCHAR, max_length=65535)
    client.create_collection("yunshi_vector_07171130", schema=schema)
    client.close()
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
    assert outcome.status == 0, outcome.err
    assert outcome.json["rows_written"] == 40


@pytest.mark.parametrize(
    "command",
    [("check", "--connect"), ("run",), ("preview", "--source"), ("check", "--estimate")],
    ids=" ".join,
)
def test_a_wrong_data_source_is_a_wrong_job(bench: Bench, command: tuple[str, ...]) -> None:
    """Status 2 before anything runs, with what to correct; no secret in any output."""
    set_up(bench, "oss", accessKeySecret="another-secret-1")
    outcome = bench.call(*command)
    assert outcome.status == 2
    assert "accessKeySecret does not belong to accessKeyId: correct the keys" in outcome.err
    assert "another-secret-1" not in outcome.out + outcome.err


def test_an_address_where_nobody_listens_is_a_wrong_job(bench: Bench) -> None:
    """It is told within seconds."""
    set_up(bench, "s3")
    bench.sources["Files"]["endpoint"] = f"http://127.0.0.1:{free_port()}"
    outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "does not answer" in outcome.err
    assert "correct the data source's endpoint" in outcome.err


def test_a_default_fs_must_be_the_data_source_s(bench: Bench) -> None:
    """A job that was written for another cluster does not read from this one."""
    set_up(bench, "hdfs")
    bench.step("Reader")["defaultFS"] = "hdfs://other-cluster:8020"
    outcome = bench.call("check", "--connect")
    assert outcome.status == 2
    assert "'hdfs://other-cluster:8020' names another place than the data source" in outcome.err
    bench.sources["Files"]["defaultFS"] = "hdfs://other-cluster:8020"
    assert bench.call("check", "--connect").status == 0
