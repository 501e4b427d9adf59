"""What a check and a run find out before the first row: dimensions, keys, the rejects' folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench
from vecferry.errors import JobError
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.hologres import HologresSettings
from vecferry.io.milvus import MilvusSettings
from vecferry.io.opensearch import OpenSearchSettings
from vecferry.io.postgresql import PostgresWriterSettings
from vecferry.pipelines.job.resolve import with_dimensions
from vecferry.pipelines.run.rejects import require_folder
from vecferry.transforms.embed import EmbedSettings

MADE: dict[str, int | None] = {"vec": 256, "text": None}


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (MilvusSettings, "FloatVector"),
        (MilvusSettings, "float16vector"),
        (PostgresWriterSettings, "vector"),
        (PostgresWriterSettings, "halfvec"),
        (HologresSettings, "float4[]"),
        (ElasticsearchSettings, "dense_vector"),
        (OpenSearchSettings, "knn_vector"),
    ],
)
def test_a_vector_column_takes_the_dimension_of_what_makes_it(settings: Any, kind: str) -> None:
    """Under its own name, or under the name that columnMapping gives."""
    column = [{"name": "vec", "type": kind}, {"name": "text", "type": "text"}]
    found = with_dimensions({"column": column}, settings.vector_types, MADE)
    assert found["column"] == [{**column[0], "dimension": 256}, column[1]]
    renamed = {
        "column": [{"name": "v", "type": kind, "dimension": ""}],
        "columnMapping": [{"sourceColName": "vec", "dstColName": "v"}],
    }
    found = with_dimensions(renamed, settings.vector_types, MADE)
    assert found["column"] == [{"name": "v", "type": kind, "dimension": 256}]


@pytest.mark.parametrize(
    "column",
    [
        {"name": "vec", "type": "FloatVector", "dimension": "64"},
        {"name": "vec", "type": "FloatVector", "dims": 64},
        {"name": "other", "type": "FloatVector"},
        {"name": "vec", "type": "VarChar"},
        {"name": "vec", "type": "SparseFloatVector"},
        "vec",
        None,
    ],
    ids=str,
)
def test_nothing_else_is_filled(column: Any) -> None:
    """What the job says stands, and what nobody knows is not guessed."""
    given = {"column": [column]}
    assert with_dimensions(given, MilvusSettings.vector_types, MADE) == given


@pytest.mark.slow
def test_check_and_run_do_the_same_without_a_dimension(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The collection is made with the dimension of the embedding step, as a check says it."""
    bench = Bench(tmp_path, capsys)
    bench.write_lines([{"id": 1, "text": "a stone"}])
    for column in bench.step("Writer")["column"]:
        column.pop("dimension", None)
    bench.step("Embed")["dimension"] = 128
    assert bench.call("check").status == 0
    bench.step("Writer")["schemaCreateMode"] = "ignore"
    told = bench.call("check", "--connect")
    said = re.search(r"'vector', DataType[^;]* dim=(\d+)", told.out + told.err)
    assert said, told
    del bench.step("Writer")["schemaCreateMode"]
    assert bench.run()["rows_written"] == 1
    from pymilvus import MilvusClient

    client = MilvusClient(str(tmp_path / "vectors.db"))
    try:
        fields = client.describe_collection("texts")["fields"]
    finally:
        client.close()
    (made,) = (field["params"]["dim"] for field in fields if field["name"] == "vector")
    assert int(made) == int(said[1]) == 128


@pytest.mark.parametrize(
    ("provider", "variable"), [("bailian", "DASHSCOPE_API_KEY"), ("openai", "OPENAI_API_KEY")]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_missing_key_is_named_with_its_variable(
    provider: str, variable: str, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out is what to write, and never the key."""
    monkeypatch.delenv(variable, raising=False)
    if there:
        monkeypatch.setenv(variable, "sk-never-shown-314")
    with pytest.raises(ValueError, match="apiKey is missing") as caught:
        EmbedSettings.model_validate(
            {
                "modelProvider": provider,
                "modelName": "text-embedding-v4",
                "embeddingColumns": {"sourceColumnNames": ["t"], "embeddingColumnName": "v"},
            }
        )
    text = str(caught.value)
    assert f'"apiKey": "${{{variable}}}"' in text
    assert ("is set here" in text) is there
    assert "314" not in text


def test_a_folder_of_rejects_that_can_not_be_made_is_told_before_the_run(tmp_path: Path) -> None:
    """A file in the way, a name that is too long, a file system that takes no folder."""
    (tmp_path / "file").write_text("x")
    for folder in (
        tmp_path / "file",
        tmp_path / "file" / "rejects" / "run",
        tmp_path / "new" / ("x" * 300),
        tmp_path / ("x" * 300),
        Path("/proc/vecferry/rejects"),
        Path("/dev/null/rejects"),
    ):
        with pytest.raises(JobError, match="--rejects"):
            require_folder(str(folder))
    require_folder(str(tmp_path / "a" / "b" / "c"))
    require_folder("memory://rejects")  # as fsspec names a store elsewhere
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
