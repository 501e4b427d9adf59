"""A library that is not installed: said before anything runs, with the line that installs it."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.support import Bench, rows, step
from vecferry.io.files.parsers import CLIENTS

Change = Callable[[Bench], None]
ROOT = Path(__file__).parents[3]
NO_STEP = {"all", "dev", "yaml"}
"""Extras that no job of the command line needs: Beam YAML has its own command."""
HTTP = "http://127.0.0.1:9"


def source(name: str, **connection: Any) -> Change:
    """Lets a data source of the job be another one."""

    def change(bench: Bench) -> None:
        bench.sources[name] = connection

    return change


def reader(step_type: str, columns: list[str], connection: dict[str, Any], **more: Any) -> Change:
    """Lets the job read tables."""

    def change(bench: Bench) -> None:
        bench.sources["Tables"] = connection
        bench.job["steps"][:2] = [
            step(step_type, "reader", "Reader", datasource="Tables", column=columns, **more)
        ]

    return change


def writer(step_type: str, connection: dict[str, Any], **more: Any) -> Change:
    """Lets the job write elsewhere."""

    def change(bench: Bench) -> None:
        bench.sources["Target"] = connection
        bench.job["steps"][-1] = step(step_type, "writer", "Writer", datasource="Target", **more)

    return change


def after_extract(made: dict[str, Any]) -> Change:
    """Puts a step behind the one that extracts."""
    return lambda bench: bench.job["steps"].insert(2, made)


def setting(name: str, value: Any) -> Change:
    """Sets a setting of the job."""
    return lambda bench: bench.job["setting"].update({name: value})


def documents(bench: Bench) -> None:
    """Lets the job read documents, whose parsers are many."""
    bench.job["steps"][:2] = [
        step(
            "file", "reader", "Reader", datasource="Files", object=["*"], fileFormat="document",
        )
    ]  # fmt: skip
    bench.step("Writer")["columnMapping"] = [
        {"sourceColName": source, "dstColName": name}
        for source, name in {"path": "id", "text": "text", "vector": "vector"}.items()
    ]


def images(bench: Bench) -> None:
    """Lets the job embed images."""
    bench.step("Embed").update(
        modelProvider="bailian",
        modelName="qwen2.5-vl-embedding",
        apiKey="sk-test",
        embeddingColumns={
            "sourceColumnNames": ["text"],
            "embeddingColumnName": "vector",
            "inputType": "image",
        },
        dimension=1024,
    )
    bench.step("Writer")["column"][2]["dimension"] = 1024


def by_socks(bench: Bench) -> None:
    """Lets the job embed through a SOCKS proxy."""
    os.environ["ALL_PROXY"] = "socks5h://127.0.0.1:9"
    bench.step("Embed").update(
        modelProvider="openai",
        modelName="text-embedding-v4",
        apiKey="sk-test",
        endpoint="http://embed.example/v1",
    )


def in_an_env_file(bench: Bench) -> None:
    """Takes a value of the job from a file of variables."""
    (bench.folder / "job.env").write_text("COLLECTION=texts\n")
    bench.step("Writer")["collection"] = "${COLLECTION}"


def from_a_keyring(bench: Bench) -> None:
    """Takes a value of the job from a keyring."""
    bench.step("Writer")["collection"] = "${keyring:shop/collection}"


MYSQL = {
    "type": "mysql", "host": "127.0.0.1", "port": 9, "username": "u", "password": "p",
    "database": "shop",
}  # fmt: skip
POSTGRESQL = {**MYSQL, "type": "postgresql"}
SPLIT = step(
    "text-splitting", "flatmap", "Split", sourceColumnName="text", chunkColumnName="chunk",
    parentColumns=["id"], chunkSize=100,
)  # fmt: skip


def split(**more: Any) -> Change:
    """Splits the text of each row."""

    def change(bench: Bench) -> None:
        bench.step("Embed")["embeddingColumns"]["sourceColumnNames"] = ["chunk"]
        bench.step("Writer")["columnMapping"] = [
            {"sourceColName": "chunk_id", "dstColName": "id"},
            {"sourceColName": "chunk", "dstColName": "text"},
            {"sourceColName": "vector", "dstColName": "vector"},
        ]
        bench.job["steps"].insert(2, {**SPLIT, "parameter": {**SPLIT["parameter"], **more}})

    return change


def changes(positions: str) -> Change:
    """Lets the job follow tables."""

    def change(bench: Bench) -> None:
        reader("mysql-cdc", ["id", "text"], MYSQL, table="texts")(bench)
        bench.job["setting"]["positions"] = positions

    return change


@dataclass(frozen=True)
class Case:
    """A job that needs `module`, of `extra`; `where` says who needs it. `run_only`: the option."""

    extra: str
    module: str
    where: str
    change: Change = lambda bench: None
    more: tuple[str, ...] = ()
    run_only: bool = False


CASES = {
    "local": Case("local", "wordllama", "step 'Embed'"),
    "local tokens": Case(
        "local", "wordllama", "step 'Split'", split(unit="tokens", tokenizer="local")
    ),
    "milvus": Case("milvus", "pymilvus", "step 'Writer'"),
    "milvus lite": Case("milvus", "milvus_lite", "the data source of step 'Writer'"),
    "elasticsearch": Case(
        "elasticsearch", "elasticsearch", "step 'Writer'",
        writer("elasticsearch", {"type": "elasticsearch", "endpoint": HTTP}, index="texts"),
    ),
    "opensearch": Case(
        "opensearch", "opensearchpy", "step 'Writer'",
        writer("opensearch", {"type": "opensearch", "endpoint": HTTP}, index="texts"),
    ),
    "postgresql": Case(
        "postgresql", "psycopg", "step 'Writer'",
        writer("postgresql", POSTGRESQL, table="texts"),
    ),
    "postgresql reader": Case(
        "postgresql", "psycopg", "step 'Reader'",
        reader("postgresql", ["id", "text"], POSTGRESQL, table="texts"),
    ),
    "hologres": Case(
        "postgresql", "psycopg", "step 'Writer'",
        writer("hologres", {**POSTGRESQL, "type": "hologres"}, table="texts"),
    ),
    "mysql": Case(
        "mysql", "pymysql", "step 'Reader'",
        reader("mysql", ["id", "text"], MYSQL, table="texts"),
    ),
    "mysql-cdc": Case(
        "mysql", "pymysql", "step 'Reader'", changes("positions"),
    ),
    "odps": Case(
        "odps", "odps", "step 'Reader'",
        reader(
            "odps", ["id", "text"],
            {"type": "odps", "project": "p", "accessId": "i", "accessKey": "k", "endpoint": HTTP},
            table="texts",
        ),
    ),
    "paimon": Case(
        "paimon", "pypaimon", "step 'Reader'",
        reader(
            "paimon", ["id", "text"], {"type": "paimon", "options": {"warehouse": "lake"}},
            database="d", table="t", key=["id"], scanMode="full",
        ),
    ),
    "s3": Case(
        "s3", "boto3", "the data source of step 'Reader'",
        source("Files", type="s3", bucket="b", endpoint=HTTP),
    ),
    "oss": Case(
        "s3", "boto3", "the data source of step 'Reader'",
        source(
            "Files", type="oss", bucket="b", endpoint=HTTP, accessKeyId="i", accessKeySecret="k"
        ),
    ),
    "gcs": Case(
        "gcs", "google.cloud.storage", "the data source of step 'Reader'",
        source("Files", type="gcs", bucket="b", endpoint=HTTP),
    ),
    "documents": Case("documents", CLIENTS[0].module, "step 'Reader'", documents),
    "documents, another": Case("documents", CLIENTS[-1].module, "step 'Reader'", documents),
    "images": Case("images", "PIL", "step 'Embed'", images),
    "condition": Case(
        "shaping", "cel", "steps[2].parameter.where",
        after_extract(step("filter", "flatmap", "Filter", where="text != ''")),
    ),
    "pattern": Case(
        "shaping", "re2", "steps[2].parameter.rules[0]",
        after_extract(
            step(
                "edit", "flatmap", "Edit",
                rules=[
                    {
                        "operation": "replace", "column": "text", "stringToReplace": "a",
                        "replaceWith": "b",
                    }
                ],
            )
        ),
    ),
    "splitting": Case("splitting", "semantic_text_splitter", "step 'Split'", split()),
    "splitting tokens": Case(
        "splitting", "tokenizers", "step 'Split'", split(unit="tokens", tokenizer="local")
    ),
    "socks": Case("socks", "socks", "step 'Embed'", by_socks),
    "vector cache": Case(
        "redis", "redis", "setting.vectorCache",
        setting("vectorCache", {"uri": "redis://127.0.0.1:9/0"}),
    ),
    "positions": Case(
        "redis", "redis", "setting.positions",
        changes("redis://127.0.0.1:9/0"),
    ),
    "env file": Case(
        "dotenv", "dotenv.parser", "--env-file job.env", in_an_env_file, ("--env-file", "job.env")
    ),
    "keyring": Case("keyring", "keyring", "steps[3].parameter.collection", from_a_keyring),
    "prometheus": Case(
        "metrics", "prometheus_client", "--metrics", more=("--metrics", ":0"), run_only=True
    ),
    "otlp": Case(
        "metrics", "opentelemetry.sdk.metrics", "--metrics", more=("--metrics", HTTP),
        run_only=True,
    ),
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Generator[Bench]:
    """A job whose steps all work here; the environment is given back."""
    before, folder = dict(os.environ), os.getcwd()
    bench = Bench(tmp_path, capsys)
    bench.write_lines(rows(3))
    os.chdir(tmp_path)
    yield bench
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_installed_is_said_before_anything_runs(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Who needs what, and the line that installs it; nothing is written."""
    case = CASES[name]
    case.change(bench)
    for module in (case.module, *(m for m in sys.modules if m.startswith(f"{case.module}."))):
        monkeypatch.setitem(sys.modules, module, None)
    before = sorted(path.name for path in bench.folder.iterdir())
    for command in ["run"] if case.run_only else ["check", "run"]:
        outcome = bench.call(command, *case.more)
        assert (outcome.status, outcome.out) == (2, ""), outcome.err
        said = [line for line in outcome.err.splitlines() if case.where in line]
        assert any(f"pip install 'vecferry[{case.extra}]'" in line for line in said), outcome.err
    after = {path.name for path in bench.folder.iterdir()} - {"job.json", "sources.json"}
    assert sorted(after) == [n for n in before if n not in ("job.json", "sources.json")]


def test_each_extra_has_a_case() -> None:
    """A new extra needs a case as well."""
    read = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(read["project"]["optional-dependencies"]) - NO_STEP
    assert {case.extra for case in CASES.values()} == extras


def test_where_nothing_is_missing_nothing_is_said(bench: Bench) -> None:
    """The job of these tests is right as it is."""
    assert (bench.call("check").status, bench.call("check").err) == (0, "")
