"""Writing into search stores without a server: what is refused beforehand, and how rows go."""

from __future__ import annotations

import base64
import datetime
import decimal
import json

import numpy as np
import orjson
import pytest

from tests.io.search.support import FIELDS, KEY, TEXT, settings
from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.io.elasticsearch import ElasticsearchSettings
from vecferry.io.elasticsearch.target import ElasticsearchDialect
from vecferry.io.search.catalog import SearchIndex
from vecferry.io.search.client import StatusError, classify
from vecferry.io.search.dialect import Field
from vecferry.io.search.target import SearchStore
from vecferry.io.search.values import RowEncoder
from vecferry.io.sink import STALE, SinkWriter, WriteLimits
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.rows import Change, substitute
from vecferry.steps import StepContext

VERSION = {"name": "at", "type": "version"}


def document(row: dict, **more: object) -> dict:
    """The document of a row, as the server gets it."""
    record = RowEncoder(settings(**more), FIELDS).encode(Change(row))
    return orjson.loads(record.body.splitlines()[1])


class Cluster:
    """Applies the bulk requests that it gets, as a cluster would, and keeps them."""

    where = "a cluster"

    def __init__(self) -> None:
        self.requests: list[list[dict]] = []
        self.documents: dict[str, dict] = {}

    def request(self, method: str, path: str, body: bytes, params: object = None) -> dict:
        lines = [orjson.loads(line) for line in body.splitlines()]
        self.requests.append([*lines])
        items = []
        while lines:
            ((action, meta),) = lines.pop(0).items()
            items.append({action: {"status": self._apply(action, meta["_id"], lines)}})
        return {"errors": True, "items": items}

    def _apply(self, action: str, key: str, lines: list[dict]) -> int:
        if action == "delete":
            return 200 if self.documents.pop(key, None) else 404
        body = lines.pop(0)
        if action == "create" and key in self.documents:
            return 409
        old = self.documents.get(key, {}) if action == "update" else {}
        self.documents[key] = old | body.get("doc", body)
        return 200

    def close(self) -> None:
        pass


def written(changes: list[Change], **more: object) -> tuple[Cluster, dict[str, int]]:
    """What a cluster holds after one bundle, and its counts."""
    cluster = Cluster()
    store = SearchStore(cluster, "docs", RowEncoder(settings(**more), FIELDS))
    context = StepContext(step="Writer", step_type="elasticsearch", retry_deadline=300)
    writer = SinkWriter(store, WriteLimits(rows=100), context)
    for change in changes:
        writer.process(change)
    writer.finish()
    return cluster, writer.counts.values


def test_updates_of_one_document_in_a_batch_all_arrive() -> None:
    """Each names other fields: none replaces the one before it."""
    rows = [{"id": "a", "text": "x"}, {"id": "a", "o": {"n": 1}}, {"id": "a", "n": 2}]
    cluster, _ = written([Change(r) for r in rows], actionType="update", dynamic=True, column=[KEY])
    assert cluster.documents["a"] == {"id": "a", "text": "x", "o": {"n": 1}, "n": 2}


def test_an_update_behind_a_delete_makes_a_new_document() -> None:
    """The delete is sent first, so that nothing of the old document stays."""
    changes = [
        Change({"id": "a", "text": "old"}),
        Change({"id": "a"}, kind="-D"),
        Change({"id": "a", "n": 2}),
    ]
    cluster, counts = written(changes, actionType="update", dynamic=True, column=[KEY])
    assert cluster.documents["a"] == {"id": "a", "n": 2}
    assert (counts["rows-written"], counts["rows-deleted"]) == (2, 1)


def test_the_first_of_several_creates_in_a_batch_stays() -> None:
    """As it would where they came in two batches."""
    rows = [{"id": "a", "text": "first"}, {"id": "a", "text": "second"}]
    cluster, counts = written([Change(r) for r in rows], actionType="create")
    assert cluster.documents["a"]["text"] == "first"
    assert (counts["rows-written"], counts["rows-stale"]) == (1, 1)


def test_a_conflict_of_a_row_without_a_version_is_no_stale_row() -> None:
    """Nothing newer was promised: it is sent again."""
    encoder = RowEncoder(settings(), FIELDS)
    store = SearchStore(Cluster(), "docs", encoder)
    conflict = {"index": {"status": 409, "error": {"type": "version_conflict", "reason": "x"}}}
    plain = encoder.encode(Change({"id": "a", "text": '"version_type":'}))
    assert store._outcome(plain, conflict).state == "retry"
    assert store._outcome(encoder.encode(Change({"id": "a"}, version=3)), conflict) == STALE


@pytest.mark.parametrize(
    "reason",
    [
        "no write index is defined for alias [a]. The write index may be explicitly disabled",
        "pipeline with id [nope] does not exist",
        "only write ops with an op_type of create are allowed in data streams",
        "Number of documents in shard [docs][0] exceeds the limit of [2147483519] documents",
    ],
)
def test_what_every_document_would_meet_fails_the_job(reason: str) -> None:
    """A million rejects would tell the same thing a million times."""
    encoder = RowEncoder(settings(), FIELDS)
    store = SearchStore(Cluster(), "docs", encoder)
    error = {"type": "illegal_argument_exception", "reason": reason}
    with pytest.raises(FatalError, match="takes no document"):
        store._outcome(
            encoder.encode(Change({"id": "a"})), {"index": {"status": 400, "error": error}}
        )


@pytest.mark.parametrize("status", [302, 405, 406, 407])
def test_a_request_that_no_row_is_at_fault_for_fails_the_job(status: int) -> None:
    """Only a 400 can be the fault of a document in it."""
    assert type(classify(StatusError(status, "", "no"))) is FatalError


def test_an_answer_that_is_no_json_object_is_asked_for_again() -> None:
    """As a gateway gives it while the cluster is away."""

    class Gateway(Cluster):
        def request(self, *_: object) -> str:  # type: ignore[override]
            return "<html>"

    encoder = RowEncoder(settings(), FIELDS)
    with pytest.raises(TransientError, match="<html>"):
        SearchStore(Gateway(), "docs", encoder).send([encoder.encode(Change({"id": "a"}))])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('{"n": 123456789012345678901234567890,\n "m": 1}',
         {"n": 123456789012345678901234567890, "m": 1}),
        ("no json", "no json"),
        ({1: None, "x": [None]}, {"1": None, "x": [None]}),
    ],
)  # fmt: skip
def test_a_text_for_an_object_is_read_as_json_and_keeps_its_digits(
    value: object, shown: object
) -> None:
    """As DataX reads it; on one line, whatever lines it had."""
    record = RowEncoder(settings(column=[KEY, {"name": "o"}]), FIELDS).encode(
        Change({"id": "a", "o": value})
    )
    lines = record.body.splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1])["o"] == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([1.5, 2], ">f4"), [1.5, 2.0]),
        (np.array(["a", None], object), ["a", None]),
        (np.array(3), 3),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (type("Stamp", (datetime.datetime,), {})(2026, 1, 2), "2026-01-02T00:00:00"),
        (datetime.datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"),
        (decimal.Decimal("12345678901234567890.10"), "12345678901234567890.10"),
    ],
)
def test_values_of_numpy_and_pandas_are_written(value: object, shown: object) -> None:
    """In whatever order of bytes they are held."""
    assert document({"id": "a", "text": value})["text"] == shown


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (decimal.Decimal("NaN"), "not-finite"),
        (datetime.timedelta(1), "bad-value"),
        (2**64, "bad-value"),
        ({"deep": float("-inf")}, "not-finite"),
    ],
)
def test_values_that_json_lacks_are_refused_alone(value: object, reason: str) -> None:
    """With a reason of their own."""
    with pytest.raises(TerminalError) as e:
        document({"id": "a", "text": value})
    assert e.value.reason == reason


def test_a_value_that_is_nested_too_deeply_is_a_reject() -> None:
    """It must not end the bundle."""
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(TerminalError) as e:
        document({"id": "a", "text": deep})
    assert e.value.reason == "bad-value"


def test_an_array_of_datax_is_cut_at_the_splitter() -> None:
    """Its texts hold several values."""
    columns = [KEY, TEXT | {"array": "true"}]
    assert document({"id": "a", "text": "x-,-y"}, column=columns)["text"] == ["x", "y"]
    assert document({"id": "a", "text": "x|y"}, column=columns, splitter="|")["text"] == ["x", "y"]


def test_what_datax_says_of_a_column_is_no_part_of_its_mapping() -> None:
    """But for what it hands on as other_params."""
    column = TEXT | {"array": True, "dstArray": True, "other_params": {"norms": False}}
    given = settings(column=[KEY, column | {"analyzer": "simple"}], dstDynamic="strict")
    body = SearchIndex(Cluster(), ElasticsearchDialect(), given).body()
    assert body["mappings"]["properties"]["text"] == {
        "type": "text", "analyzer": "simple", "norms": False
    }  # fmt: skip
    assert body["mappings"]["dynamic"] == "strict"


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"deleteBy": [{"status": -1}]}, "the rows that it names would be written"),
        ({"truncate": "true"}, "cleanup drops what the index holds"),
        ({"column": [KEY, {"name": "x", "type": "parent"}]}, "type parent is not known"),
        ({"column": [KEY, VERSION], "actionType": "update"}, "actionType update can't carry"),
        ({"column": [TEXT, VERSION]}, "needs an id to compare by"),
        ({"column": [KEY, VERSION, VERSION | {"name": "w"}]}, "two columns are of type version"),
        ({"column": [KEY, TEXT | {"timezone": "UTC"}]}, "timezone is not known"),
        ({"column": [KEY | {"combineFields": ["a"]}]}, "join the columns of an id"),
        ({"column": [TEXT], "primaryKeyInfo": {"type": "pk"}}, "names no column"),
        ({"primaryKeyInfo": {"type": "nouse"}}, "'id' is marked as the id"),
        ({"primaryKeyInfo": {"column": ["text"]}}, "primaryKeyInfo says text"),
        (
            {"primaryKeyInfo": {"column": ["id", "text"], "fieldDelimiter": ""}},
            "ids of different rows would be the same",
        ),
        ({"alias": "docs"}, "is the index itself"),
        ({"accessKey": "hunter2222"}, "accessKey belongs into a data source"),
        ({"alias": "A"}, "lower case"),
        ({"index": "."}, "not a name for an index"),
    ],
)
def test_what_would_change_the_meaning_of_a_job_is_refused(more: dict, shown: str) -> None:
    """Rather than passed over."""
    job = {"index": "docs", "column": [KEY, TEXT]} | more
    _, problems = validate(ElasticsearchSettings, job, "steps[1].parameter")
    assert shown in "; ".join(problems)
    assert "hunter2222" not in "; ".join(problems)


def test_what_the_vendor_has_and_we_lack_is_a_warning() -> None:
    """Where it doesn't change what is written."""
    given = settings(urlParams={"refresh": "true"}, versioning=True, trySize=3)
    warned = unknown_keys(given, "p")
    assert [w.split()[0] for w in warned] == ["p.urlParams", "p.versioning"]


def test_ids_name_fields_or_columns_and_take_the_delimiter_of_the_job() -> None:
    """A field that columnMapping fills means the column that fills it."""
    mapping = [
        {"sourceColName": "a", "dstColName": "id"},
        {"sourceColName": "b", "dstColName": "text"},
    ]
    info = {"type": "specific", "column": ["id", "text"]}
    given = settings(
        columnMapping=mapping,
        primaryKeyInfo=info,
        fieldDelimiter="-",
        esPartitionColumn=["text", "id"],
    )
    assert given.keys == ["a", "b"]
    record = RowEncoder(given, FIELDS).encode(Change({"a": "x", "b": "y"}))
    assert orjson.loads(record.body.splitlines()[0]) == {"index": {"_id": "x-y", "routing": "yx"}}


def test_a_joined_id_that_another_row_could_have_is_a_reject() -> None:
    """Else one of the two would be lost."""
    encoder = RowEncoder(settings(primaryKeyInfo={"column": ["id", "text"]}), FIELDS)
    with pytest.raises(TerminalError) as e:
        encoder.encode(Change({"id": "a,b", "text": "c"}))
    assert e.value.reason == "ambiguous-key"
    record = encoder.encode(Change({"id": "a,b", "text": 7}))
    assert b'"_id":"a,b,7"' in record.body


@pytest.mark.parametrize("value", [float("nan"), decimal.Decimal("Infinity")])
def test_an_id_that_is_no_number_is_a_reject(value: object) -> None:
    """All rows with NaN would be one."""
    with pytest.raises(TerminalError) as e:
        document({"id": value})
    assert e.value.reason == "bad-key"


def test_a_boolean_id_is_the_same_from_python_and_numpy() -> None:
    """In JSON's words."""
    encoder = RowEncoder(settings(), FIELDS)
    assert encoder.encode(Change({"id": np.bool_(True)})).key == ("true", None)
    assert encoder.encode(Change({"id": True})).key == ("true", None)


def test_a_column_of_type_routing_routes_and_is_no_field() -> None:
    """DataX's word."""
    columns = [KEY, {"name": "r", "type": "routing"}]
    record = RowEncoder(settings(column=columns), FIELDS).encode(Change({"id": "a", "r": 5}))
    assert [orjson.loads(line) for line in record.body.splitlines()] == [
        {"index": {"_id": "a", "routing": "5"}},
        {"id": "a"},
    ]


def test_a_column_of_type_version_orders_rows_and_is_no_field() -> None:
    """DataX's word. A change that brings its own version keeps it."""
    encoder = RowEncoder(settings(column=[KEY, VERSION]), FIELDS)
    for version in (7, "7", np.int32(7)):
        record = encoder.encode(Change({"id": "a", "at": version}))
        assert [orjson.loads(line) for line in record.body.splitlines()] == [
            {"index": {"_id": "a", "version": 7, "version_type": "external_gte"}},
            {"id": "a"},
        ]
    own = encoder.encode(Change({"id": "a", "at": 7}, version=9))
    assert b'"version":9' in own.body
    tombstone = encoder.encode(Change({"id": "a"}, kind="-D"))
    assert orjson.loads(tombstone.body) == {"delete": {"_id": "a"}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "missing-column"),
        ({"at": None}, "bad-version"),
        ({"at": -1}, "bad-version"),
        ({"at": 2**63}, "bad-version"),
        ({"at": 1.5}, "bad-version"),
        ({"at": True}, "bad-version"),
        ({"at": "new"}, "bad-version"),
    ],
)
def test_a_row_without_a_version_to_compare_is_a_reject(row: dict, reason: str) -> None:
    """It must not overwrite what may be newer."""
    encoder = RowEncoder(settings(column=[KEY, VERSION]), FIELDS)
    with pytest.raises(TerminalError) as e:
        encoder.encode(Change({"id": "a", **row}))
    assert e.value.reason == reason


def test_of_two_rows_in_a_batch_the_server_says_which_is_newer() -> None:
    """Both are sent, one after the other: the loop knows only the versions of changes."""
    rows = [Change({"id": "a", "at": 5}), Change({"id": "a", "at": 3})]
    cluster, _ = written(rows, column=[KEY, VERSION])
    sent = [request[0]["index"]["version"] for request in cluster.requests]
    assert sent == [5, 3]


def test_a_deleting_job_needs_no_vectors() -> None:
    """Only the columns of its ids."""
    vector = {"name": "v", "type": "dense_vector", "dimension": 3}
    assert settings(column=[KEY, vector], actionType="delete").inputs() == ["id"]


def test_a_vector_without_an_index_is_still_checked_and_packed() -> None:
    """Its dimension, its numbers; base64 where the server takes it."""
    dialect = ElasticsearchDialect()
    fields = FIELDS | {"v": dialect.field("v", {"type": "dense_vector", "dims": 3, "index": False})}
    vector = {"name": "v", "type": "dense_vector"}
    encoder = RowEncoder(settings(column=[KEY, vector]), fields, base64_vectors=True)
    zeros = encoder.encode(Change({"id": "a", "v": [0, 0, 0]})).body.splitlines()[1]
    assert len(base64.b64decode(orjson.loads(zeros)["v"])) == 12
    for wrong, reason in (([1, 2], "wrong-dimension"), ([1, 2, float("nan")], "not-finite")):
        with pytest.raises(TerminalError) as e:
            encoder.encode(Change({"id": "a", "v": wrong}))
        assert e.value.reason == reason


def test_the_jobs_dimension_holds_where_the_mapping_has_none_yet() -> None:
    """Or the first document would set another."""
    fields = FIELDS | {"v": Field("v", "dense_vector", None, "cosine")}
    vector = {"name": "v", "type": "dense_vector", "dimension": 4}
    encoder = RowEncoder(settings(column=[KEY, vector]), fields)
    with pytest.raises(TerminalError, match="3 dimensions, not 4"):
        encoder.encode(Change({"id": "a", "v": [1, 2, 3]}))


def test_a_vector_whose_mapping_has_no_dimensions_is_sent_as_numbers() -> None:
    """The server counts them in the first document."""
    fields = FIELDS | {"v": Field("v", "dense_vector", None, "cosine")}
    column = [KEY, {"name": "v", "type": "dense_vector"}]
    encoder = RowEncoder(settings(column=column), fields, base64_vectors=True)
    body = encoder.encode(Change({"id": "a", "v": [1, 2, 3]})).body
    assert orjson.loads(body.splitlines()[1])["v"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("action", "writes_null", "fits"),
    [("update", False, False), ("update", True, True), ("index", False, True)],
)
def test_a_rejected_row_goes_on_only_where_its_old_vector_goes_away(
    action: str, writes_null: bool, fits: bool
) -> None:
    """An update leaves alone what it does not write: then the document is deleted instead."""
    vector = {"name": "v", "type": "dense_vector", "dims": 3}
    given = settings(actionType=action, enableWriteNull=writes_null, column=[KEY, TEXT, vector])
    change = Change({"id": "a", "text": "new", "v": None}, kind="+U")
    encoder = RowEncoder(given, FIELDS)
    assert encoder.encode(change).op == action
    row = substitute(change, change, "+U")
    if fits:
        assert encoder.encode(row).op == action
    else:
        with pytest.raises(TerminalError, match="the old vector would stay"):
            encoder.encode(row)
