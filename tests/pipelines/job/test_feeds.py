"""The columns of a reader that make the writer's id, and those that are written at all."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.hologres import HologresSettings
from vecferry.io.milvus import MilvusSettings
from vecferry.io.opensearch import OpenSearchSettings
from vecferry.io.postgresql import PostgresWriterSettings
from vecferry.pipelines.job.feeds import (
    dealt_by,
    id_columns,
    idle_columns,
    mapped_columns,
    on_reject,
    unlike_keys,
    wasted_vectors,
)
from vecferry.pipelines.job.model import Setting
from vecferry.settings import StepSettings
from vecferry.transforms.embed import EmbedSettings
from vecferry.transforms.json_extract.settings import JsonExtractSettings
from vecferry.transforms.text_split.settings import TextSplitSettings

EXTRACT = JsonExtractSettings.model_validate(
    {
        "column": [
            {"name": "id", "fromColumn": "head", "jsonPath": "$.id"},
            {"name": "text", "fromColumn": "doc", "jsonPath": "$.text"},
        ]
    }
)
EMBED = EmbedSettings.model_validate(
    {
        "modelProvider": "local",
        "dimension": 64,
        "embeddingColumns": {
            "sourceColumnNames": ["title", "text"],
            "embeddingColumnName": "vector",
        },
    }
)
BEHIND: list[StepSettings] = [EXTRACT, EMBED]

ID, SHOP = {"name": "id", "type": "VarChar", "maxLength": 64}, {"name": "shop", "type": "VarChar"}
VECTOR = {"name": "vector", "type": "FloatVector", "dimension": 64}
OF_TABLE = [
    {"name": "id", "type": "text", "primaryKey": True},
    {"name": "shop", "type": "text", "primaryKey": True},
]

WRITERS: dict[str, tuple[StepSettings, Any, Any]] = {
    # the writer, what makes its id, what is written
    "Milvus": (
        MilvusSettings.model_validate(
            {
                "collection": "c",
                "column": [
                    {**ID, "primaryKey": True},
                    {**SHOP, "maxLength": 9, "partitionKey": True},
                    VECTOR,
                ],
            }
        ),
        {"head", "shop"},
        {"head", "shop", "title", "doc"},
    ),
    "Milvus with ids of its own": (
        MilvusSettings.model_validate(
            {
                "collection": "c",
                "column": [
                    {"name": "key", "type": "Int64", "primaryKey": True, "autoId": True},
                    VECTOR,
                ],
            }
        ),
        set(),
        {"title", "doc"},
    ),
    "Milvus as it is": (MilvusSettings.model_validate({"collection": "c"}), None, None),
    "Elasticsearch": (
        ElasticsearchSettings.model_validate(
            {
                "index": "i",
                "column": [
                    {"name": "key", "type": "id"},
                    {"name": "place", "type": "routing"},
                    {"name": "vector", "type": "dense_vector", "dims": 64},
                ],
                "columnMapping": [
                    {"sourceColName": "id", "dstColName": "key"},
                    {"sourceColName": "shop", "dstColName": "place"},
                    {"sourceColName": "vector", "dstColName": "vector"},
                ],
            }
        ),
        {"head", "shop"},
        {"head", "shop", "title", "doc"},
    ),
    "OpenSearch with all columns": (
        OpenSearchSettings.model_validate(
            {
                "index": "i",
                "dynamic": True,
                "primaryKeyInfo": {"type": "pk", "column": ["id", "shop"]},
                "column": [{"name": "id", "type": "keyword"}],
            }
        ),
        {"head", "shop"},
        None,
    ),
    "PostgreSQL": (
        PostgresWriterSettings.model_validate({"table": "t", "column": OF_TABLE}),
        {"head", "shop"},
        {"head", "shop"},
    ),
    "PostgreSQL, whose table knows its key": (
        PostgresWriterSettings.model_validate({"table": "t", "column": ["id", "text"]}),
        None,
        {"head", "doc"},
    ),
    "Hologres": (
        HologresSettings.model_validate({"table": "t", "column": OF_TABLE}),
        {"head", "shop"},
        {"head", "shop"},
    ),
}


@pytest.mark.parametrize(("writer", "makes_id", "written"), WRITERS.values(), ids=WRITERS)
def test_columns_are_followed_back_to_the_reader(
    writer: StepSettings, makes_id: set[str] | None, written: set[str] | None
) -> None:
    """Through what is extracted and what is embedded; None where only the target knows."""
    found = id_columns(BEHIND, writer), mapped_columns(BEHIND, writer)
    assert tuple(None if names is None else set(names) for names in found) == (makes_id, written)


@pytest.mark.parametrize(
    ("says", "mode", "plain"),
    [
        (None, "withoutVector", False),
        ("KEEP", "keep", True),
        ("withoutvector", "withoutVector", True),
    ],
)
def test_plain_rows_count_only_where_the_job_names_on_reject(
    says: str | None, mode: str, plain: bool
) -> None:
    """The key is that of the rows behind the step."""
    writer = PostgresWriterSettings.model_validate({"table": "t", "column": OF_TABLE})
    setting = Setting.model_validate({"onReject": says})
    found = on_reject(setting, [EMBED], writer)
    assert (found.mode, found.plain, found.key) == (mode, plain, ("id", "shop"))


def test_a_wrong_word_is_told_with_the_nearest() -> None:
    """As every choice of a job."""
    with pytest.raises(ValueError, match="'kep' is not a value of onReject; did you mean 'keep'"):
        Setting.model_validate({"onReject": "kep"})


@pytest.mark.parametrize("name", WRITERS)
def test_a_vector_that_no_later_step_takes_is_an_error(name: str) -> None:
    """It would be paid for. A writer that lists no column is asked when its target is."""
    writer, _, written = WRITERS[name]
    unused = {"sourceColumnNames": ["title"], "embeddingColumnName": "unused"}
    more = EmbedSettings.model_validate(
        {"modelProvider": "local", "dimension": 64, "embeddingColumns": unused}
    )
    steps = [("Read", StepSettings()), ("Embed", EMBED), ("More", more), ("Write", writer)]
    told = [text.partition(", which no later step takes")[0] for text in wasted_vectors(steps)]
    lost = ["More makes vectors in column 'unused'"]
    if "vector" not in writer.outputs():
        lost.insert(0, "Embed makes vectors in column 'vector'")
    assert told == ([] if written is None else lost)


def test_a_vector_that_another_step_replaces_is_an_error() -> None:
    """Only the last of two steps that fill one column is of use."""
    writer = MilvusSettings.model_validate({"collection": "c"})
    steps = [("Read", StepSettings()), ("One", EMBED), ("Two", EMBED), ("Write", writer)]
    (text,) = wasted_vectors(steps)
    assert text.startswith("One makes vectors in column 'vector'")


class Given(StepSettings):
    """A reader of three columns that `EMBED` and `EXTRACT` take, and of one that nobody takes."""

    def outputs(self) -> dict[str, int | None]:
        """The columns."""
        return dict.fromkeys(("head", "doc", "title", "spare"))


class Followed(Given):
    """The same, of a source that is followed."""

    @property
    def follows(self) -> bool:
        """Rows that are rejected are read anew by their keys."""
        return True


@pytest.mark.parametrize("name", WRITERS)
def test_columns_are_left_out_behind_the_last_step_that_takes_them(name: str) -> None:
    """What no step takes is not even handed on by the reader; what it is followed by always is."""
    writer, key, written = WRITERS[name]
    steps = [Given(), EXTRACT, EMBED, writer]
    followed = [idle_columns([Followed(), *steps[1:]], i) for i in range(3)]
    assert not {*(key or ())} & {*chain(*followed)}
    idle = [set(idle_columns(steps, i)) for i in range(4)]
    if written is None:
        assert idle == [set()] * 4
        return
    taken = {*(writer.outputs()), *writer.inputs(), *(writer.key_columns() or ())}
    assert idle[0] == {"spare"}
    assert idle[1] == {"spare", "head", "doc", "id"} - taken
    assert idle[2] == {"spare", "head", "doc", "title", "text", "id", "vector"} - taken
    assert idle[3] == set()


def test_nothing_is_left_out_before_a_step_that_names_no_column() -> None:
    """It may take any."""
    writer = WRITERS["PostgreSQL"][0]
    assert idle_columns([Given(), StepSettings(), writer], 0) == ()
    assert "spare" in idle_columns([Given(), StepSettings(), writer], 1)


@pytest.mark.parametrize(
    ("keys", "column", "told"),
    [
        (("head", "shop"), ["id", "shop"], None),
        (("head", "shop", "day"), ["id", "shop"], "that differ only in day would replace each"),
        (("head",), ["id", "shop"], "also makes its id of shop"),
        (("head",), [], "has no id"),
        ((), ["id"], None),
    ],
)
def test_an_id_by_which_rows_would_replace_each_other_is_told(
    keys: tuple[str, ...], column: list[str], told: str | None
) -> None:
    """Columns are followed back to the source; the way out is the writer's own."""
    info = {"primaryKeyInfo": {"type": "pk", "column": column}} if column else {}
    writer = ElasticsearchSettings.model_validate({"index": "i", **info})
    found = unlike_keys(keys, BEHIND, writer, "step 'Write'", follows=True)
    assert len(found) == (told is not None)
    assert all(told and told in text for text in found)
    if told and "replace each" in told:
        assert '"column": ["head", "shop", "day"], "fieldDelimiter": "|"' in found[0]
    once = unlike_keys(keys, BEHIND, writer, "step 'Write'", follows=False)
    assert once == (found if told and "replace each" in told else [])


def test_an_id_that_only_the_target_knows_is_left_to_it() -> None:
    """As that of a table whose key the job does not name."""
    writer = WRITERS["PostgreSQL, whose table knows its key"][0]
    assert unlike_keys(("head", "shop"), BEHIND, writer, "step 'Write'", follows=True) == []


def _milvus(*names: str, key: str) -> StepSettings:
    columns = [{**ID, "name": name, "primaryKey": name == key} for name in names]
    return MilvusSettings.model_validate({"collection": "c", "column": [*columns, VECTOR]})


SPLIT = TextSplitSettings.model_validate({"sourceColumnName": "text", "parentColumns": ["id"]})
DEALT: dict[str, tuple[list[StepSettings], Any]] = {
    "an id of the source": ([EMBED, _milvus("id", key="id")], (1, ("id",))),
    "an id that a light step makes": ([EXTRACT, EMBED, _milvus("id", key="id")], (2, ("id",))),
    "an id that is made behind the model": ([EMBED, EXTRACT, _milvus("id", key="id")], None),
    "another id than the light step makes": (
        [EXTRACT, EMBED, _milvus("shop", key="shop")],
        (1, ("shop",)),
    ),
    "chunks of a document": ([SPLIT, EMBED, _milvus("chunk_id", key="chunk_id")], (1, ("id",))),
    "chunks of a document that a light step names": (
        [EXTRACT, SPLIT, EMBED, _milvus("chunk_id", key="chunk_id")],
        (2, ("id",)),
    ),
    "no id": ([EMBED, WRITERS["Milvus with ids of its own"][0]], (1, ())),
    "an id that only the target knows": (
        [EMBED, MilvusSettings.model_validate({"collection": "c"})],
        None,
    ),
}


@pytest.mark.parametrize(("behind", "expected"), DEALT.values(), ids=DEALT.keys())
def test_rows_are_dealt_where_their_id_is_known(behind: list[StepSettings], expected: Any) -> None:
    """Behind the last step that makes it, and by the columns that hold it."""
    assert dealt_by([StepSettings(), *behind]) == expected
