"""Beam YAML pipelines with our steps, run: every transform, rows with a schema, rejects apart."""

from __future__ import annotations

import datetime
import json
import logging
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from apache_beam.typehints import schemas
from apache_beam.utils.timestamp import Timestamp
from apache_beam.yaml import main as yaml_main

from tests.io.files import documents
from tests.io.odps.server import OdpsServer, Table
from tests.io.paimon.support import DATABASE as LAKE_DATABASE
from tests.io.paimon.support import WHY as LAKE
from tests.io.paimon.support import Warehouse
from tests.services.elasticsearch import ElasticsearchServer
from tests.services.flink import Flink
from tests.services.mariadb import Mariadb
from tests.services.opensearch import OpenSearchServer
from tests.services.postgres import DATABASE, PASSWORD, USER, Postgres
from tests.services.server import running
from vecferry.errors import JobError
from vecferry.pipelines import beam_yaml, registry
from vecferry.pipelines.beam_yaml_rows import TYPES, VECTOR, ToRow, fields_of_schema, plain

NAMES = [
    "DeduplicateRows", "EditColumns", "Embed", "ExtractJson", "FilterRows", "ReadFiles",
    "ReadFromMySQL", "ReadFromMySQLSnapshot",
    "ReadFromOdps", "ReadFromPaimon",
    "ReadFromPostgres", "SplitText", "WriteToElasticsearch", "WriteToHologres", "WriteToMilvus",
    "WriteToOpenSearch", "WriteToPostgres",
]  # fmt: skip
ROWS = [{"id": i, "text": f"walk {i} along shore {i * 7}"} for i in range(20)]
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}
EMBED = {
    "type": "Embed",
    "config": {
        "modelProvider": "local",
        "embeddingColumns": {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
    },
}
HERE = ["--runner=FnApiRunner"]
PROCESSES = [*HERE, "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
CREATE = {"type": "Create", "config": {"elements": ROWS}}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Beam YAML turns logging up for the whole process."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def on_flink(server: Flink) -> list[str]:
    """What runs a pipeline on a cluster, by workers that vecferry-worker starts."""
    command = json.dumps({"command": "vecferry-worker"})
    return [
        "--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}", "--parallelism=1",
        "--environment_type=PROCESS", f"--environment_config={command}",
    ]  # fmt: skip


class Runner:
    """A folder in which pipelines run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(
        self, *transforms: dict[str, Any], kind: str = "chain", on: Sequence[str] = HERE
    ) -> None:
        """Runs a pipeline of these transforms, from a file that includes our providers."""
        spec = {
            "pipeline": {"type": kind, "transforms": list(transforms)},
            "providers": [{"include": str(beam_yaml.PROVIDERS)}],
        }
        path = self.folder / "pipeline.yaml"
        path.write_text(yaml.safe_dump(spec))
        yaml_main.run([f"--yaml_pipeline_file={path}", *on])

    def to_json(self, name: str = "out") -> dict[str, Any]:
        """A sink whose rows `rows` reads."""
        return {
            "type": "WriteToJson",
            "config": {"path": str(self.folder / f"{name}.json"), "num_shards": 1},
        }

    def rows(self, name: str = "out") -> list[dict[str, Any]]:
        """What `to_json` has written."""
        (path,) = self.folder.glob(f"{name}.json*")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def step(kind: str, **config: Any) -> dict[str, Any]:
    return {"type": kind, "config": config}


def by_id(rows: list[dict[str, Any]]) -> dict[Any, Any]:
    return {row["id"]: row["text"] for row in rows}


WANTED = {row["id"]: row["text"] for row in ROWS}


def test_the_provider_file_names_every_transform() -> None:
    """The file is what the kinds make of it, and each name leads to what makes the transform."""
    text = beam_yaml.PROVIDERS.read_text()
    assert text == beam_yaml.providers(), (
        "python -c 'from vecferry.pipelines import beam_yaml as b; "
        "b.PROVIDERS.write_text(b.providers())' writes the file anew"
    )
    (provider,) = yaml.safe_load(text)
    assert provider["transforms"] == {n: f"vecferry.pipelines.beam_yaml.{n}" for n in NAMES}
    assert all(callable(getattr(beam_yaml, n)) for n in NAMES)


def test_every_step_of_a_job_has_a_transform() -> None:
    """But for the other names of the reader of files."""
    unnamed = {
        (kind.step_type, kind.role)
        for found in registry.Registry(entry_points=list).kinds().values()
        for kind in found
        if kind.beam_yaml is None
    }
    assert unnamed == {(name, "reader") for name in ("gcs", "hdfs", "oss", "s3")}


@pytest.mark.slow
def test_the_path_of_the_provider_file_is_printed() -> None:
    """For a pipeline that includes it from wherever the package is."""
    command = [sys.executable, "-m", "vecferry.pipelines.beam_yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).samefile(beam_yaml.PROVIDERS)


@pytest.mark.slow
def test_a_yaml_pipeline_fills_a_milvus_collection(runner: Runner) -> None:
    """From files to vectors, by Beam's own steps between ours; what was written goes on."""
    lines = [json.dumps({"line": json.dumps(row)}) for row in ROWS]
    (runner.folder / "rows.jsonl").write_text("\n".join(lines))
    runner.run(
        step(
            "ReadFiles",
            datasource={"type": "local", "path": str(runner.folder)},
            object="*.jsonl",
            fileFormat="jsonl",
            column=[{"name": "line", "type": "string"}],
        ),
        step(
            "ExtractJson",
            column=[
                {"name": "id", "fromColumn": "line", "jsonPath": "$.id", "type": "LONG"},
                {"name": "text", "fromColumn": "line", "jsonPath": "$.text"},
            ],
        ),
        step("Filter", language="python", keep="id < 10"),
        EMBED,
        step(
            "WriteToMilvus",
            datasource={"type": "milvus", "endpoint": str(runner.folder / "v.db")},
            collection="walks",
            column=[
                {"name": "id", "type": "Int64", "primaryKey": True},
                {"name": "text", "type": "VarChar", "maxLength": 100},
                {"name": "vector", "type": "FloatVector", "dimension": 256},
            ],
        ),
        step("MapToFields", language="python", fields={"id": "id", "n": "len(vector)"}),
        runner.to_json(),
    )
    assert sorted((r["id"], r["n"]) for r in runner.rows()) == [(i, 256) for i in range(10)]
    from pymilvus import MilvusClient

    client = MilvusClient(str(runner.folder / "v.db"))
    client.load_collection("walks")
    stored = client.query("walks", filter="id >= 0", output_fields=["*"], limit=100)
    client.close()
    assert by_id(stored) == {i: WANTED[i] for i in range(10)}
    assert {len(row["vector"]) for row in stored} == {256}


@pytest.mark.slow
def test_documents_are_read_without_a_schema(runner: Runner) -> None:
    """Their columns and types are always the same."""
    (runner.folder / "pages").mkdir()
    (runner.folder / "pages" / "a.pdf").write_bytes(documents.pdf(["one", "two"]))
    read = step(
        "ReadFiles",
        datasource={"type": "local", "path": str(runner.folder / "pages")},
        object="**",
        fileFormat="document",
        perPage=True,
        column=["path", "page", "text", "title"],
    )
    runner.run(read, runner.to_json())
    found = sorted((r["path"], r["page"], r["text"], r["title"]) for r in runner.rows())
    assert found == [("a.pdf", n, t, documents.TITLE) for n, t in ((1, "one"), (2, "two"))]


@pytest.mark.slow
@pytest.mark.parametrize("on", [HERE, PROCESSES], ids=["one process", "two processes"])
def test_rejects_are_an_output_and_no_row_is_lost(runner: Runner, on: list[str]) -> None:
    """Rows that a reader, a transformer and a schema refuse, with the reason and the record."""
    lines = ['{"id": 1, "text": "a walk"}', "no json", '{"id": 2, "text": ""}', '{"id": "x"}']
    (runner.folder / "rows.jsonl").write_text("\n".join(lines))
    handling = {"error_handling": {"output": "bad"}}
    read = step(
        "ReadFiles",
        datasource={"type": "local", "path": str(runner.folder)},
        object="*.jsonl",
        fileFormat="jsonl",
        column=["id", "text"],
        schema=SCHEMA,
        **handling,
    )
    embed = step("Embed", **EMBED["config"], **handling)
    runner.run(
        {**read, "name": "Lines"},
        {"type": "Reshuffle", "name": "Spread", "input": "Lines"},
        {**embed, "name": "Embed", "input": "Spread"},
        {**runner.to_json(), "name": "Rows", "input": "Embed"},
        {"type": "Flatten", "name": "Bad", "input": ["Lines.bad", "Embed.bad"]},
        {"type": "Reshuffle", "name": "Gather", "input": "Bad"},
        {**runner.to_json("bad"), "name": "Rejects", "input": "Gather"},
        kind="composite",
        on=on,
    )
    (row,) = runner.rows()
    assert (row["id"], row["text"], len(row["vector"])) == (1, "a walk", 256)
    told = {(r["step"], r["reason"]): r for r in runner.rows("bad")}
    assert sorted(told) == [
        ("Embed", "empty-text"), ("Lines", "invalid-json"), ("Lines", "schema")
    ]  # fmt: skip
    assert json.loads(told["Lines", "invalid-json"]["element"]) == "no json"
    assert json.loads(told["Lines", "schema"]["element"]) == {"id": "x", "text": None}
    assert "column 'id': 'x' is not of type int" in told["Lines", "schema"]["msg"]
    assert told["Lines", "schema"]["origin"].startswith("rows.jsonl:")


@pytest.mark.slow
def test_without_error_handling_a_reject_fails_the_pipeline(runner: Runner) -> None:
    """As with any transform of Beam YAML, and with the way out."""
    create = step("Create", elements=[{"id": 1, "text": ""}])
    with pytest.raises(Exception, match=r"text for 'vector' is empty.* write error_handling"):
        runner.run(create, EMBED, runner.to_json())


@pytest.mark.slow
def test_rows_fit_an_output_schema_of_beam_yaml(runner: Runner) -> None:
    """Beam's own check of what a step gives, by a JSON Schema; parameters also in snake_case."""
    vector = {"type": "array", "items": {"type": "number"}}
    embed = step(
        "Embed",
        model_provider="local",
        embedding_columns={"source_column_names": ["text"], "embedding_column_name": "vector"},
        error_handling={"output": "bad"},
        output_schema={**SCHEMA, "properties": {**SCHEMA["properties"], "vector": vector}},
    )
    runner.run(
        {**CREATE, "name": "Create"},
        {**embed, "name": "Embed", "input": "Create"},
        {**runner.to_json(), "name": "Rows", "input": "Embed"},
        {"type": "LogForTesting", "name": "Rejects", "input": "Embed.bad"},
        kind="composite",
    )
    assert by_id(runner.rows()) == WANTED


@pytest.mark.slow
def test_a_data_source_may_be_named(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name in a file as jobs have it, with placeholders filled from the environment."""
    (runner.folder / "in").mkdir()
    (runner.folder / "in" / "rows.csv").write_text("id,text\n1,one\n")
    (runner.folder / "sources.yaml").write_text('Files: {type: local, path: "${WHERE}"}')
    monkeypatch.setenv("WHERE", str(runner.folder / "in"))
    read = step(
        "ReadFiles", datasource="Files", data_sources=str(runner.folder / "sources.yaml"),
        object="*.csv", fileFormat="csv", skipHeader=True,
        column=[{"name": "id", "type": "long"}, "text"],
    )  # fmt: skip
    runner.run(read, runner.to_json())
    assert runner.rows() == [{"id": 1, "text": "one"}]


def _from_odps(runner: Runner) -> Iterator[dict[str, Any]]:
    with OdpsServer() as server:
        server.add(Table("walks", {"id": "bigint", "text": "string"}, {"": ROWS}))
        yield step("ReadFromOdps", datasource=server.connection(), table="walks", column=["*"])


def _from_table(kind: Any, transform: str) -> Callable[[Runner], Iterator[dict[str, Any]]]:
    def give(runner: Runner) -> Iterator[dict[str, Any]]:
        server = running(kind)
        name = f"t{uuid.uuid4().hex[:12]}"
        values = ", ".join(f"({row['id']}, '{row['text']}')" for row in ROWS)
        server.execute(
            f"CREATE TABLE {name} (id BIGINT PRIMARY KEY, text VARCHAR(100))",
            f"INSERT INTO {name} VALUES {values}",
        )
        yield step(transform, datasource=server.source, table=name, column=["id", "text"])

    return give


def _from_paimon(runner: Runner) -> Iterator[dict[str, Any]]:
    pytest.importorskip("pypaimon", reason=LAKE)
    warehouse = Warehouse(runner.folder / "lake")
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    warehouse.make("walks", schema).write(ROWS)
    place = {"type": "paimon", "options": warehouse.options}
    yield step(
        "ReadFromPaimon", datasource=place, database=LAKE_DATABASE, table="walks",
        column=["id", "text"],
    )  # fmt: skip


READERS = {
    "odps": _from_odps,
    "paimon": _from_paimon,
    "postgresql": _from_table(Postgres, "ReadFromPostgres"),
    "mysql": _from_table(Mariadb, "ReadFromMySQL"),
    "mysql-cdc": _from_table(Mariadb, "ReadFromMySQLSnapshot"),
}


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("typed", [True, False], ids=["schema", "no schema"])
@pytest.mark.parametrize("source", READERS)
def test_a_table_is_read(runner: Runner, source: str, typed: bool) -> None:
    """With the types of a schema, or as they come between steps of Python."""
    for read in READERS[source](runner):
        if typed:
            read["config"]["schema"] = SCHEMA
        else:
            read["config"]["column"] = ["id", "text"]
        keep = step("Filter", language="python", keep="id >= 0")
        runner.run(read, keep, runner.to_json())
    assert by_id(runner.rows()) == WANTED


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize("kind", ["WriteToPostgres", "WriteToHologres"])
def test_a_table_is_written(runner: Runner, kind: str) -> None:
    """Vectors are lists of floats on the way, and what was in them afterwards."""
    server = running(Postgres)
    server.execute("CREATE EXTENSION IF NOT EXISTS vector")
    name = f"t{uuid.uuid4().hex[:12]}"
    holo = kind == "WriteToHologres"
    vector = {"name": "vector", "type": "float4[]" if holo else "vector", "dimension": 256}
    source = {
        "type": "hologres" if holo else "postgresql", "host": "127.0.0.1", "port": server.port,
        "database": DATABASE, "username": USER, "password": PASSWORD,
    }  # fmt: skip
    columns = [
        {"name": "id", "type": "bigint", "primaryKey": True},
        {"name": "text", "type": "text"},
    ]
    write = step(
        kind, datasource=source, table=name, schemaCreateMode="createIfNotExist",
        column=[*columns, vector],
    )  # fmt: skip
    runner.run(CREATE, EMBED, write, runner.to_json())
    with server.client() as connection:
        found = connection.execute(f"SELECT id, text, vector::real[] FROM {name}").fetchall()
    assert {row[0]: row[1] for row in found} == WANTED
    given = {row["id"]: row["vector"] for row in runner.rows()}  # pandas writes ten decimals
    assert all(np.allclose(row[2], given[row[0]], atol=1e-9) for row in found)


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.parametrize(
    ("kind", "server_kind"),
    [
        pytest.param(
            "WriteToElasticsearch",
            ElasticsearchServer,
            marks=pytest.mark.heavy(server=ElasticsearchServer),
        ),
        pytest.param(
            "WriteToOpenSearch", OpenSearchServer, marks=pytest.mark.heavy(server=OpenSearchServer)
        ),
    ],
)
def test_an_index_is_written(runner: Runner, kind: str, server_kind: Any) -> None:
    """With an id of its own for each document."""
    server = running(server_kind)
    elastic = kind == "WriteToElasticsearch"
    source = {"type": "opensearch", "endpoint": server.url}
    if elastic:
        login = {"username": server.user, "password": server.password}
        source |= {"type": "elasticsearch", **login}
    index = f"t{uuid.uuid4().hex}"
    vector = {"name": "vector", "type": "dense_vector" if elastic else "knn_vector"}
    columns = [
        {"name": "id", "type": "long", "primaryKey": True},
        {"name": "text", "type": "text"},
        {**vector, "dimension": 256},
    ]
    write = step(
        kind, datasource=source, index=index, schemaCreateMode="createIfNotExist",
        column=columns,
    )  # fmt: skip
    runner.run(CREATE, EMBED, write)
    server.request("POST", f"/{index}/_refresh")
    found = server.request("POST", f"/{index}/_search", {"size": 100})["hits"]["hits"]
    assert {int(hit["_id"]): hit["_source"]["text"] for hit in found} == WANTED


@pytest.mark.slow
@pytest.mark.service
@pytest.mark.heavy(server=Flink)
def test_a_yaml_pipeline_runs_on_a_flink_cluster(runner: Runner) -> None:
    """Workers that vecferry-worker starts find all that they need by its name."""
    server = running(Flink)
    runner.run(CREATE, EMBED, runner.to_json(), on=on_flink(server))
    assert by_id(runner.rows()) == WANTED
    assert {len(row["vector"]) for row in runner.rows()} == {256}


@pytest.mark.parametrize(
    ("name", "config", "problem"),
    [
        ("Embed", {"modelProvider": "lokal"}, "did you mean 'local'"),
        ("Embed", {}, "Embed.embeddingColumns is missing"),
        ("WriteToMilvus", {"collection": "c"}, "WriteToMilvus.datasource is missing"),
        (
            "WriteToMilvus",
            {"collection": "c", "datasource": {"type": "mysql"}},
            "this step takes milvus",
        ),
        ("Embed", {"apiKey": "${NO_SUCH_KEY}"}, r"\$\{NO_SUCH_KEY\} has no value"),
        ("Embed", {"error_handling": {"out": "x"}}, r"must be \{output: NAME\}"),
        (
            "ReadFromOdps",
            {"table": "t", "column": ["*"], "schema": {"type": "array"}},
            "is not a JSON Schema of an object",
        ),
    ],
)
def test_a_wrong_config_is_told_before_anything_runs(
    name: str, config: dict[str, Any], problem: str
) -> None:
    """In the words of a job."""
    odps = {
        "type": "odps",
        "endpoint": "http://x",
        "project": "p",
        "accessId": "a",
        "accessKey": "b",
    }
    if name == "ReadFromOdps":
        config["datasource"] = odps
    with pytest.raises(JobError, match=problem):
        getattr(beam_yaml, name)(**config)


def test_a_reader_of_all_columns_needs_a_schema() -> None:
    """As rows of Beam YAML have named fields."""
    read = beam_yaml.ReadFiles(
        datasource={"type": "local", "path": "."}, object="*", fileFormat="jsonl"
    )
    with pytest.raises(JobError, match="name them in `column`, or give `schema`"):
        beam_yaml.read_fields(read.settings, "ReadFiles")


def test_a_secret_is_in_no_error() -> None:
    """Also where the rest of a data source is wrong."""
    source = {"type": "milvus", "endpoint": "nowhere", "token": "a-secret-token"}
    with pytest.raises(JobError) as raised:
        beam_yaml.WriteToMilvus(collection="9", datasource=source)
    assert "a-secret-token" not in str(raised.value)
    assert "nowhere" in str(raised.value)


def test_schemas_go_through_beams_own_json_schema() -> None:
    """Our types in and out are those that Beam has for a JSON Schema."""
    nested = {
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "integer"},
            "score": {"type": "number"},
            "ok": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "place": {"type": "object", "properties": {"city": {"type": "string"}}},
            "vector": {"type": "array", "items": {"type": "number"}},
        },
    }
    fields = fields_of_schema(nested)
    vector = np.array([0.5, 0.25], dtype=np.float32)
    row = {"id": np.int64(7), "score": 2, "tags": ["a"], "place": {"city": "b"}, "vector": vector}
    made = ToRow(fields)(row)
    assert plain(made) == {
        "id": 7, "score": 2.0, "ok": None, "tags": ["a"], "place": {"city": "b"},
        "vector": [0.5, 0.25],
    }  # fmt: skip
    assert type(made.score) is float
    with pytest.raises(ValueError, match="column 'id': has no value"):
        ToRow(fields)({})
    with pytest.raises(ValueError, match=r"column 'place': column 'city': 7 is not of type str"):
        ToRow(fields)({"id": 1, "place": {"city": 7}})


@pytest.mark.parametrize(
    ("kind", "value", "there"),
    [
        ("string", "é", "é"), ("long", 2**63 - 1, 2**63 - 1), ("double", 0.1, 0.1),
        ("boolean", False, False),
        ("date", datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), Timestamp(1767312000)),
    ],
)  # fmt: skip
def test_types_of_jobs_survive_beams_coders(kind: str, value: Any, there: Any) -> None:
    """Encoded and decoded as a runner does it between stages, and back in a dict as it was."""
    from apache_beam.coders import RowCoder

    made = ToRow([("x", TYPES[kind]), ("v", VECTOR)])({"x": value, "v": np.ones(3, np.float32)})
    schema = schemas.named_fields_to_schema([("x", TYPES[kind]), ("v", VECTOR)])
    coder = RowCoder(schema)
    decoded = coder.decode(coder.encode(made))
    assert decoded.x == there
    assert plain(decoded)["x"] == value
    assert list(decoded.v) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [("long", 2**63), ("long", True), ("long", "7"), ("string", 7), ("double", "x")],
)
def test_a_value_that_a_field_cannot_hold_is_refused(kind: str, value: Any) -> None:
    """Rather than changed, or failing inside a coder."""
    with pytest.raises(ValueError, match="column 'x'"):
        ToRow([("x", TYPES[kind])])({"x": value})
