"""What a job may say of Elasticsearch and OpenSearch, and how rows are written; no server."""

from __future__ import annotations

import base64
import datetime
import decimal
import math

import numpy as np
import orjson
import pytest

from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.io.elasticsearch import ElasticsearchConnection, ElasticsearchSettings
from vecferry.io.elasticsearch.target import ElasticsearchDialect
from vecferry.io.opensearch import OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchDialect
from vecferry.io.search.client import StatusError, classify
from vecferry.io.search.dialect import Field
from vecferry.io.search.target import SearchStore
from vecferry.io.search.values import RowEncoder
from vecferry.io.sink import STALE, WRITTEN, TooLargeError
from vecferry.pipelines.job.problems import unknown_keys, validate
from vecferry.rows import Change

KEY = {"name": "id", "type": "keyword", "primaryKey": True}
VECTOR = {"name": "v", "type": "dense_vector", "dimension": "3"}
FIELDS = {"id": Field("id", "keyword"), "v": Field("v", "dense_vector", 3, "cosine")}


def settings(**more: object) -> ElasticsearchSettings:
    return ElasticsearchSettings.model_validate({"index": "docs", "column": [KEY, VECTOR]} | more)


def encoded(row: dict, given: ElasticsearchSettings | None = None, **more: object) -> list[dict]:
    """The lines of a row's part of a bulk request."""
    encoder = RowEncoder(given or settings(**more), FIELDS)
    record = encoder.encode(row if isinstance(row, Change) else Change(row))
    return [orjson.loads(line) for line in record.body.splitlines()]


ROW = {"id": "a", "v": np.array([1, 2, 3], np.float32)}


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"index": "Docs"}, "lower case"),
        ({"index": "a,b"}, "lower case"),
        ({"index": "_x"}, "not beginning with"),
        ({"actionType": "upsert"}, "use index, create, update, delete"),
        ({"schemaCreateMode": "recreate"}, "ownsTarget"),
        ({"cleanup": True}, "cleanup drops what the index holds"),
        ({"column": [KEY, KEY]}, "'id' is given twice"),
        ({"column": [VECTOR], "actionType": "update"}, "needs an id"),
        ({"column": [KEY, VECTOR | {"similarity": "cosin"}]}, "did you mean 'cosine'"),
        ({"column": [KEY, VECTOR | {"type": "knn_vector"}]}, "OpenSearch's"),
        ({"column": [KEY, VECTOR | {"dimension": 5000}]}, "4096 at most"),
        (
            {
                "column": [KEY, {"name": "v", "type": "dense_vector"}],
                "schemaCreateMode": "createIfNotExist",
            },
            "without dimension",
        ),
        ({"columnMapping": [{"sourceColName": "x", "dstColName": "w"}]}, "fills 'w'"),
    ],
)
def test_settings_that_are_wrong_are_told_with_the_way_out(more: dict, shown: str) -> None:
    """Each fault names its value."""
    job = {"index": "docs", "column": [KEY, VECTOR]} | more
    _, problems = validate(ElasticsearchSettings, job, "steps[1].parameter")
    assert shown in "; ".join(problems)


def test_what_a_column_says_more_goes_into_its_mapping_without_a_warning() -> None:
    """An analyzer is the store's business; a wrong key of the step is a warning."""
    given = settings(
        column=[KEY, VECTOR | {"index_options": {"type": "hnsw"}}], indexx="typo", envType=1
    )
    assert unknown_keys(given, "p") == [
        "p.indexx is not known and is passed over; did you mean 'index'?"
    ]
    mapping = ElasticsearchDialect().vector_mapping(given.column[1])
    assert mapping == {
        "type": "dense_vector", "dims": 3, "similarity": "cosine",
        "index_options": {"type": "hnsw"},
    }  # fmt: skip


def test_a_vector_without_an_index_has_no_similarity() -> None:
    """The server refuses one."""
    column = settings(column=[KEY, VECTOR | {"index": False}]).column[1]
    assert "similarity" not in ElasticsearchDialect().vector_mapping(column)


def test_both_words_for_a_vectors_size_are_taken() -> None:
    """`dims` is Elasticsearch's own."""
    columns = [KEY, {"name": "v", "type": "dense_vector", "dims": 3}]
    assert settings(column=columns).column[1].dimension == 3


def test_the_method_of_a_vector_in_opensearch_is_put_together() -> None:
    """From engine, spaceType and parameters, or taken as it is written."""
    column = {"name": "v", "type": "knn_vector", "dimension": 3, "engine": "lucene"}
    given = OpenSearchSettings.model_validate(
        {"index": "docs", "column": [column | {"spaceType": "l2", "parameters": {"m": 8}}]}
    )
    assert OpenSearchDialect().vector_mapping(given.column[0])["method"] == {
        "name": "hnsw", "engine": "lucene", "space_type": "l2", "parameters": {"m": 8},
    }  # fmt: skip


def test_a_connection_shows_no_secret_and_takes_one_login() -> None:
    """A login belongs into its own keys."""
    with pytest.raises(ValueError, match="leave one of them out"):
        ElasticsearchConnection(endpoint="http://e:9200", username="u", password="p", api_key="k")
    with pytest.raises(ValueError, match="write it as username and password"):
        ElasticsearchConnection(endpoint="http://u:hunter22@e:9200")
    connection = ElasticsearchConnection(endpoint="https://e, http://f:1", api_key="hunter2222")
    assert connection.hosts == ["https://e:443", "http://f:1"]
    assert "hunter2222" not in repr(connection)


def test_a_row_becomes_two_lines() -> None:
    """The action with the id, and the document."""
    assert encoded(ROW) == [{"index": {"_id": "a"}}, {"id": "a", "v": [1.0, 2.0, 3.0]}]
    update = encoded(ROW, actionType="update")
    assert update[0] == {"update": {"_id": "a"}}
    assert update[1]["doc_as_upsert"] is True


def test_a_version_goes_with_each_change_and_a_delete_needs_its_id_only() -> None:
    """Externally, so that an older one is refused by the store itself."""
    (line,) = encoded(Change({"id": "a"}, kind="-D", version=7))
    assert line == {"delete": {"_id": "a", "version": 7, "version_type": "external_gte"}}
    with pytest.raises(TerminalError, match="not within 0 to"):
        encoded(Change(ROW, version=2**63))
    with pytest.raises(FatalError, match="can't carry versions"):
        encoded(Change(ROW, version=1), actionType="create")


def test_an_id_may_be_joined_and_documents_routed() -> None:
    """As DataWorks' primaryKeyInfo and esPartitionColumn say."""
    info = {"type": "specific", "fieldDelimiter": "-", "column": ["id", {"name": "n"}]}
    lines = encoded({**ROW, "n": 7}, primaryKeyInfo=info, esPartitionColumn=[{"name": "n"}])
    assert lines[0] == {"index": {"_id": "a-7", "routing": "7"}}


def test_a_column_of_type_id_is_no_field() -> None:
    """DataX's way to name the id."""
    given = settings(column=[{"name": "id", "type": "ID"}, VECTOR])
    assert encoded(ROW, given) == [{"index": {"_id": "a"}}, {"v": [1.0, 2.0, 3.0]}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "null-key"),
        ({"id": ""}, "empty-key"),
        ({"id": "é" * 257}, "key-too-long"),
        ({"id": ["x"]}, "bad-key"),
        ({"id": "\ud800"}, "bad-key"),
        ({"v": [1.0, 2.0]}, "wrong-dimension"),
        ({"v": [0.0, 0.0, 0.0]}, "zero-vector"),
        ({"v": np.full(3, 1e-30, np.float32)}, "zero-vector"),
        ({"v": np.full(3, 3e38, np.float32)}, "out-of-range"),
        ({"v": [math.nan, 0, 1]}, "not-finite"),
        ({"v": "no vector"}, "wrong-type"),
        ({"t": math.inf}, "not-finite"),
        ({"t": {"deep": [1.0, math.nan]}}, "not-finite"),
        ({"t": 2**70}, "bad-value"),
        ({"t": "\ud800"}, "invalid-text"),
    ],
)
def test_a_value_that_would_spoil_a_request_is_refused_alone(change: dict, reason: str) -> None:
    """Before it is sent: a server would refuse the whole request for some of these."""
    columns = [KEY, VECTOR, {"name": "t"}]
    with pytest.raises(TerminalError) as e:
        encoded({**ROW, "t": 1, **change}, column=columns)
    assert e.value.reason == reason


def test_a_row_without_its_vector_column_is_refused_and_a_null_vector_is_not() -> None:
    """A null is a document without a vector; a column that isn't there is a mistake."""
    with pytest.raises(TerminalError, match="no column 'v'"):
        encoded({"id": "a"})
    assert encoded({"id": "a", "v": None})[1] == {"id": "a", "v": None}
    assert encoded({"id": "a", "v": None}, enableWriteNull=False)[1] == {"id": "a"}


def test_values_are_written_as_the_store_reads_them() -> None:
    """Times as ISO 8601, decimals as text that keeps their digits, bytes as base64."""
    row = {
        **ROW,
        "t": [
            datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC), datetime.date(2026, 1, 2),
            decimal.Decimal("1.10"), b"\x00\xff", {1: {2, }}, np.float32(0.5), np.int64(3),
        ],
    }  # fmt: skip
    assert encoded(row, column=[KEY, VECTOR, {"name": "t"}])[1]["t"] == [
        "2026-01-02T03:04:05.000006+00:00", "2026-01-02", "1.10", "AP8=", {"1": [2]}, 0.5, 3,
    ]  # fmt: skip


def test_base64_vectors_are_big_endian() -> None:
    """As Elasticsearch 9.3 reads them."""
    encoder = RowEncoder(settings(), FIELDS, base64_vectors=True)
    line = orjson.loads(encoder.encode(Change(ROW)).body.splitlines()[1])
    assert np.frombuffer(base64.b64decode(line["v"]), ">f4").tolist() == [1.0, 2.0, 3.0]


OPENSEARCH_PRESSURE = (
    "[all_bytes=0, coordinating_operation_bytes=9, max_coordinating_and_primary_bytes=8]"
)
PRESSURE = "operation [coordinating_operation_bytes={}, max_coordinating_bytes=65536]"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StatusError(413, "", ""), TooLargeError),
        (StatusError(429, "es_rejected", PRESSURE.format(124878)), TooLargeError),
        (StatusError(429, "rejected", OPENSEARCH_PRESSURE), TooLargeError),
        (StatusError(429, "es_rejected", PRESSURE.format(1000)), TransientError),
        (StatusError(503, "", "no master"), TransientError),
        (StatusError(401, "security_exception", ""), FatalError),
        (StatusError(404, "index_not_found_exception", ""), FatalError),
        (StatusError(400, "illegal_argument_exception", "id too long"), TerminalError),
    ],
)
def test_what_a_refused_request_means(error: StatusError, kind: type) -> None:
    """Too large: halve. Busy: wait. Forbidden: fail. Else: find the document at fault."""
    assert type(classify(error)) is kind


class _Scripted:
    """A cluster that answers what it was given."""

    where = "a cluster"

    def __init__(self, *results: tuple[str, int, dict | None]) -> None:
        self._items = [
            {op: {"status": status} | ({"error": error} if error else {})}
            for op, status, error in results
        ]

    def request(self, *_: object) -> dict:
        return {"errors": True, "items": self._items}

    def close(self) -> None:
        pass


def test_each_document_of_a_request_has_its_own_outcome() -> None:
    """Written, stale, rejected with the cause, to be tried again; a delete of nothing is done."""
    cause = {"type": "illegal_argument_exception", "reason": 'For input string: "x"'}
    parse = {
        "type": "document_parsing_exception",
        "reason": "failed to parse [n]",
        "caused_by": cause,
    }
    client = _Scripted(
        ("index", 201, None), ("index", 409, {"type": "version_conflict", "reason": "newer"}),
        ("index", 400, parse), ("index", 429, {"type": "rejected", "reason": "queue"}),
        ("delete", 404, None),
    )  # fmt: skip
    encoder = RowEncoder(settings(), FIELDS)
    changes = [Change({**ROW, "id": str(i)}, version=1) for i in range(4)]
    changes.append(Change({"id": "x"}, kind="-D"))
    outcomes = SearchStore(client, "docs", encoder).send([encoder.encode(c) for c in changes])
    assert outcomes is not None
    assert outcomes[:2] == [WRITTEN, STALE]
    assert outcomes[2].reason == "refused-value"
    assert "For input string" in outcomes[2].message
    assert outcomes[3].state == "retry"
    assert outcomes[4] == WRITTEN


def test_an_answer_for_fewer_documents_fails_the_job() -> None:
    """What is not told can't be taken for written."""
    encoder = RowEncoder(settings(), FIELDS)
    records = [encoder.encode(Change({**ROW, "id": str(i)})) for i in range(2)]
    with pytest.raises(FatalError, match="answers for 1 of 2"):
        SearchStore(_Scripted(("index", 201, None)), "docs", encoder).send(records)
