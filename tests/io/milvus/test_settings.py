"""What a job may say of its Milvus writer, and what is told of a mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from vecferry.io.milvus import MilvusConnection, MilvusSettings

KEY = {"name": "id", "type": "Int64", "primaryKey": "true"}
VECTOR = {"name": "vector", "type": "FloatVector", "dimension": "128", "elementType": "None"}


def settings(**more):
    return MilvusSettings.model_validate({"collection": "docs", "column": [KEY, VECTOR]} | more)


def test_numbers_and_flags_may_be_strings():
    """DataWorks writes all of them as strings."""
    made = settings(batchSize="512", enableDynamicSchema="true")
    assert (made.batch_size, made.enable_dynamic_schema) == (512, True)
    assert (made.column[1].dimension, made.column[1].element_type) == (128, None)
    assert made.column[0].primary_key


def test_the_defaults_are_those_of_the_vendor():
    """upsert, 1024 rows a request, created if it does not exist."""
    made = settings()
    assert (made.write_mode, made.batch_size) == ("upsert", 1024)
    assert made.schema_create_mode == "createIfNotExist"


@pytest.mark.parametrize("name", ["floatvector", "FLOATVECTOR", "FloatVector"])
def test_types_are_known_in_any_case(name):
    """Types keep Milvus's own spelling, whatever the job's."""
    assert settings(column=[KEY, {**VECTOR, "type": name}]).column[1].type == "FloatVector"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"collection": ""}, "'' is not a name that Milvus takes"),
        ({"collection": "my-docs"}, "'my-docs' is not a name that Milvus takes"),
        ({"collection": "2024"}, "not beginning with a digit"),
        ({"batchSize": "0"}, "greater than or equal to 1"),
        ({"writeMode": "upsrt"}, "'upsrt' is not a value of writeMode; did you mean 'upsert'"),
        ({"schemaCreateMode": "ignored"}, "did you mean 'ignore'"),
        ({"column": [{**VECTOR, "type": "FloatVectr"}]}, "did you mean 'FloatVector'"),
        ({"column": [{**VECTOR, "dimension": "0"}]}, "dimension 0 is not within 1 to 32768"),
        ({"column": [{**VECTOR, "dimension": 32769}]}, "dimension 32769 is not within"),
        ({"column": [{**VECTOR, "type": "BinaryVector", "dimension": 12}]}, "multiple of 8"),
        (
            {"column": [{**VECTOR, "metricType": "HAMMING"}]},
            "not a value of metricType of a FloatVector",
        ),
        ({"column": [{**VECTOR, "indexType": "HNWS"}]}, "did you mean 'HNSW'"),
        ({"column": [{"name": "t", "type": "VarChar", "maxLength": 65536}]}, "1 to 65535"),
        ({"column": [{"name": "a", "type": "Array"}]}, "needs elementType"),
        ({"column": [{**KEY, "type": "Double"}]}, "a primary key is Int64 or VarChar"),
        ({"column": [{**KEY, "nullable": True}]}, "can't be nullable"),
        ({"column": [KEY, {**KEY, "name": "b"}]}, "primaryKey is set on id and b"),
        ({"column": [VECTOR, VECTOR]}, "'vector' is given twice"),
        ({"column": [{"name": "x", "type": "Int64", "autoId": True}]}, "needs primaryKey"),
        ({"column": [VECTOR], "schemaCreateMode": "recreate"}, "no column has primaryKey"),
        (
            {"columnMapping": [{"sourceColName": "v", "dstColName": "vectr"}]},
            "fills 'vectr', which is not in column; did you mean 'vector'",
        ),
        (
            {"columnMapping": [{"sourceColName": s, "dstColName": "id"} for s in "ab"]},
            "columnMapping fills 'id' twice",
        ),
    ],
    ids=lambda v: v[:30] if isinstance(v, str) else None,
)
def test_a_mistake_is_told_with_value_and_way_out(change, says):
    """The value, the rule and the nearest known name are in the text."""
    with pytest.raises(ValidationError) as caught:
        settings(**change)
    assert says in str(caught.value)


def test_what_a_row_must_have_follows_the_mapping():
    """Without a mapping names are the same, and what may be absent is not asked for."""
    spare = {"name": "note", "type": "VarChar", "nullable": True}
    auto = {**KEY, "autoId": True}
    assert settings(column=[auto, spare, VECTOR]).inputs() == ["vector"]
    mapped = settings(
        columnMapping=[
            {"sourceColName": "n", "dstColName": "id"},
            {"sourceColName": "e", "dstColName": "vector"},
        ]
    )
    assert mapped.inputs() == ["n", "e"]
    assert mapped.outputs() == {"n": None, "e": 128}


def test_an_endpoint_is_a_server_or_a_file():
    """Anything else is told with both forms."""
    assert not MilvusConnection(endpoint="https://h:19530").is_file
    assert MilvusConnection(endpoint="./x.db").is_file
    with pytest.raises(ValidationError, match=r"http://host:19530, or a path that ends in \.db"):
        MilvusConnection(endpoint="vectors")
    with pytest.raises(ValidationError, match="username is given without password"):
        MilvusConnection(endpoint="http://h:1", username="u")


def test_secrets_stay_out_of_texts():
    """Neither a repr nor a dump shows the token or the password."""
    made = MilvusConnection.model_validate(
        {"endpoint": "http://h:1", "token": "very-secret", "password": "also-secret"}
    )
    shown = repr(made) + made.model_dump_json() + str(made)
    assert "secret" not in shown


def test_an_editor_is_offered_the_choices():
    """The JSON Schema names modes and types."""
    schema = MilvusSettings.model_json_schema(by_alias=True)
    assert schema["properties"]["writeMode"]["choices"] == ["upsert", "insert"]
    assert "FloatVector" in schema["$defs"]["MilvusColumn"]["properties"]["type"]["choices"]


@pytest.mark.slow
def test_settings_load_neither_beam_nor_the_client():
    """`vecferry check` validates in half a second."""
    code = (
        "import sys, vecferry.io.milvus.settings\n"
        "print([m for m in ('apache_beam', 'pymilvus', 'grpc', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("job", ["oss-to-milvus.json", "odps-to-milvus.json"])
def test_the_vendors_examples_validate_without_a_stranger(job):
    """Every key of the examples is known."""
    folder = os.environ.get("VECFERRY_VENDOR_JOBS")
    if not folder:
        pytest.skip("not ours: VECFERRY_VENDOR_JOBS names no folder")
    steps = json.loads((Path(folder) / job).read_text())["steps"]
    made = MilvusSettings.model_validate(steps[-1]["parameter"])
    assert made.model_extra == {}
    assert all(c.model_extra == {} for c in made.column)
    assert made.column_mapping is not None
