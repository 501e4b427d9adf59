"""Writing into Milvus, on real Milvus Lite files."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from tests.io.milvus.support import KEY, TEXT, VECTOR, Lite, rows, vector, write
from vecferry.errors import JobError
from vecferry.io.milvus.client import StatusError, handle_of
from vecferry.rows import DELETE, UPDATE, Change, Reject

AUTO = {"name": "pk", "type": "Int64", "primaryKey": True, "autoId": True}


@pytest.fixture
def lite(tmp_path):
    lite = Lite(tmp_path)
    yield lite
    lite.close()


@pytest.mark.slow
def test_a_collection_is_created_written_and_answers_a_search(lite):
    """From nothing to an answer: created, indexed, loaded, searched."""
    target = lite.target()
    written, rejects = write(target, rows(50))
    assert (len(written), rejects) == (50, [])
    assert target.row_count() == 50
    best = target.search(vector(7), 3)
    assert (best[0]["id"], best[0]["text"]) == (7, "text 7")
    assert best[0]["score"] == pytest.approx(1.0, abs=1e-5)
    assert best[0]["score"] > best[1]["score"] > best[2]["score"]
    assert "vector" not in best[0]


@pytest.mark.slow
def test_a_bundle_that_is_written_twice_leaves_one_copy(lite):
    """Upsert by key: repeating a bundle changes nothing."""
    target = lite.target()
    write(target, rows(30))
    write(target, rows(30))
    assert target.row_count() == 30


@pytest.mark.slow
def test_one_bad_row_of_a_thousand_costs_only_itself(lite):
    """999 are written, and the reject says what is wrong with the one."""
    target = lite.target(batchSize="128")
    data = rows(1000)
    data[500]["vector"] = vector(500, dimension=3)
    written, (reject,) = write(target, data)
    assert (len(written), target.row_count()) == (999, 999)
    assert (reject.reason, reject.row["id"]) == ("wrong-dimension", 500)
    assert reject.message == "field 'vector': a vector of 3 dimensions, not 4"


@pytest.mark.slow
def test_a_batch_refused_by_milvus_itself_is_bisected(lite, monkeypatch):
    """What our own checks let through costs the rows at fault, with Milvus's own reason."""
    target = lite.target()
    operator = target.operator()
    store = operator._store
    encode = store.encode

    def unchecked(change):
        record = encode(Change({**change, "text": "short"}))
        record.body[1] = change["text"]
        return record

    monkeypatch.setattr(operator, "_encode", unchecked)
    data = rows(100)
    for i in (3, 50, 99):
        data[i]["text"] = "x" * 101
    written, rejects = write(target, data, operator)
    assert len(written) == target.row_count() == 97
    assert sorted(r.row["id"] for r in rejects) == [3, 50, 99]
    assert "max_length=100" in rejects[0].message


@pytest.mark.slow
def test_rows_that_milvus_lite_would_take_are_refused_as_a_server_would(lite):
    """NaN, infinity, a vector without direction, bytes beyond the length, null keys."""
    target = lite.target()
    data = rows(9)
    data[0]["vector"] = np.array([1, np.nan, 0, 0], dtype=np.float32)
    data[1]["vector"] = np.array([1, np.inf, 0, 0], dtype=np.float32)
    data[2]["vector"] = np.zeros(4, dtype=np.float32)
    data[3]["text"] = "字" * 34  # 34 characters, 102 bytes
    data[4]["id"] = None
    del data[5]["text"]
    data[6]["text"] = None
    data[7]["id"] = 2**63
    written, rejects = write(target, data)
    assert [w["id"] for w in written] == [8]
    assert [r.reason for r in rejects] == [
        "not-finite",
        "not-finite",
        "zero-vector",
        "too-long",
        "null-key",
        "missing-column",
        "null-value",
        "out-of-range",
    ]
    assert "102 bytes (34 characters) exceeds maxLength 100" in rejects[3].message


@pytest.mark.slow
def test_text_in_all_scripts_comes_back_as_it_went_in(lite):
    """Unicode, emoji, quotes and control characters survive a round trip."""
    texts = ["déjà vu", "漢字かな", "👩‍👩‍👧‍👦🏳️‍🌈", "نص عربي", "a\x00b\n\t\\\"'", "", "\U0010ffff"]
    target = lite.target()
    data = [{"id": i, "text": t, "vector": vector(i)} for i, t in enumerate(texts)]
    assert write(target, data)[1] == []
    found = {b["id"]: b["text"] for b in target.search(vector(0), 20)}
    assert [found[i] for i in range(len(texts))] == texts


@pytest.mark.slow
def test_updates_replace_and_deletes_remove_in_order(lite):
    """A change log ends as its last changes have it."""
    target = lite.target(batchSize=2)
    log = [
        *rows(4),
        Change({"id": 1, "text": "second", "vector": vector(1)}, kind=UPDATE),
        Change({"id": 2}, kind=DELETE),
        Change({"id": 3}, kind=DELETE),
        Change({"id": 3, "text": "again", "vector": vector(3)}),
    ]
    operator = target.operator()
    written, rejects = write(target, log, operator)
    assert (len(written), rejects) == (8, [])
    found = {b["id"]: b["text"] for b in target.search(vector(1), 10)}
    assert found == {0: "text 0", 1: "second", 3: "again"}
    assert operator.counts.values["rows-deleted"] == 2


@pytest.mark.slow
def test_deletes_by_text_key_stand_any_text(lite):
    """Quotes and backslashes in a key are data, never syntax."""
    key = {"name": "id", "type": "VarChar", "maxLength": 50, "primaryKey": True}
    target = lite.target(column=[key, VECTOR])
    keys = ["plain", "it's", 'say "no"', "back\\slash", "new\nline", "x'] or id like '%", "é字👍"]
    write(target, [{"id": k, "vector": vector(i)} for i, k in enumerate(keys)])
    for n, k in enumerate(keys, 1):
        write(target, [Change({"id": k}, kind=DELETE)])
        assert target.row_count() == len(keys) - n, k


@pytest.mark.slow
def test_an_insert_is_not_repeated_because_a_delete_failed(lite, monkeypatch):
    """Of a request in two calls only the one that failed is sent again."""
    target = lite.target(writeMode="insert")
    write(target, rows(2))
    operator = target.operator()
    handle = handle_of(lite.connection(), target.context.run)
    calls, plain = [], handle.write

    def failing(method, request):
        calls.append(method)
        if calls == ["Insert", "Delete"]:
            raise StatusError(8, 49, "rate limit")
        plain(method, request)

    monkeypatch.setattr(handle, "write", failing)
    log = [*rows(3, first=10), Change({"id": 0}, kind=DELETE)]
    written, rejects = write(target, log, operator)
    assert (len(written), rejects) == (4, [])
    assert calls == ["Insert", "Delete", "Delete"]
    assert target.row_count() == 4


@pytest.mark.slow
def test_a_delete_without_its_key_is_rejected(lite):
    """Without the key nobody can tell which row is meant."""
    target = lite.target()
    _, rejects = write(target, [Change({"text": "x"}, kind=DELETE)])
    assert [r.reason for r in rejects] == ["missing-column"]


@pytest.mark.slow
def test_upsert_with_automatic_ids_drops_the_key_and_inserts(lite, caplog):
    """Nothing is replaced there, and the job says so once."""
    target = lite.target(column=[AUTO, TEXT, VECTOR])
    with caplog.at_level(logging.WARNING):
        data = [{"pk": 5, **row} for row in rows(10)]
        assert write(target, data)[1] == []
        assert write(target, data)[1] == []
    assert target.row_count() == 20
    assert caplog.text.count("a run that is repeated writes its rows twice") == 1
    _, (reject,) = write(target, [Change({"pk": 1}, kind=DELETE)])
    assert reject.reason == "no-key"


@pytest.mark.slow
def test_insert_with_own_keys_warns_of_duplicates(lite):
    """A run that is repeated inserts again; the notes say it before."""
    target = lite.target(writeMode="insert")
    assert "upsert would not" in target.check()[0]
    assert write(target, rows(5))[1] == []
    assert target.row_count() == 5


@pytest.mark.slow
def test_a_collection_made_beforehand_is_used_as_it_is(lite):
    """Automatic id, dynamic fields, `ignore`, `insert`, a mapping: the vendor's example."""
    lite.made_beforehand(dimension=1024)
    target = lite.target(
        schemaCreateMode="ignore",
        writeMode="insert",
        enableDynamicSchema=True,
        column=[
            {"name": "my_vector", "type": "FloatVector", "dimension": "1024",
             "elementType": "None", "maxLength": "65535"},
            {"name": "text", "type": "VarChar", "elementType": "None", "maxLength": "65535"},
        ],
        columnMapping=[
            {"sourceColName": "my_vector", "dstColName": "my_vector"},
            {"sourceColName": "text", "dstColName": "text"},
        ],
    )  # fmt: skip
    target.check()
    data = [{"chunk_text": "{…}", "text": f"t{i}", "my_vector": vector(i, 1024)} for i in range(20)]
    assert write(target, data)[1] == []
    best = target.search(vector(3, 1024), 1)[0]
    assert best["text"] == "t3"
    assert "chunk_text" not in best


@pytest.mark.slow
def test_columns_are_mapped_by_name(lite):
    """`columnMapping` fills a field from a column of another name; also dynamic fields."""
    target = lite.target(
        enableDynamicSchema="true",
        columnMapping=[
            {"sourceColName": "number", "dstColName": "id"},
            {"sourceColName": "body", "dstColName": "text"},
            {"sourceColName": "body_e", "dstColName": "vector"},
            {"sourceColName": "lang", "dstColName": "language"},
        ],
    )
    row = {"number": 1, "body": "b", "body_e": vector(1), "lang": "de", "other": "no"}
    assert write(target, [row])[1] == []
    (found,) = target.search(vector(1), 1, "body_e")
    assert {k: found[k] for k in found if k != "score"} == {
        "id": 1,
        "text": "b",
        "language": "de",
    }


@pytest.mark.slow
def test_rows_go_into_a_partition_that_is_created(lite):
    """A named partition is created where it is missing, and holds the rows."""
    target = lite.target(partition="p1")
    write(target, rows(10))
    other = lite.target()
    write(other, rows(5, first=100))
    assert (target.row_count(), other.row_count()) == (10, 15)


@pytest.mark.slow
def test_a_partition_key_spreads_rows(lite):
    """A collection with a partition key takes rows without a named partition."""
    tenant = {"name": "tenant", "type": "VarChar", "maxLength": 20, "partitionKey": True}
    target = lite.target(column=[KEY, tenant, VECTOR])
    data = [{"id": i, "tenant": f"t{i % 3}", "vector": vector(i)} for i in range(9)]
    assert write(target, data)[1] == []
    assert target.row_count() == 9


@pytest.mark.slow
def test_scalars_arrays_json_and_sparse_vectors_come_back(lite):
    """Every kind that Milvus Lite has, nulls and defaults included."""
    columns = [
        KEY,
        {"name": "b", "type": "bool"},
        {"name": "i8", "type": "INT8"},
        {"name": "i32", "type": "int32", "defaultValue": "7"},
        {"name": "d", "type": "Double", "nullable": True},
        {"name": "s", "type": "String", "nullable": True},
        {"name": "tags", "type": "Array", "elementType": "VarChar", "maxCapacity": "3",
         "maxLength": "10"},
        {"name": "j", "type": "JSON", "nullable": True},
        {"name": "sparse", "type": "SparseFloatVector"},
        VECTOR,
    ]  # fmt: skip
    target = lite.target(column=columns)
    full = {"id": "1", "b": "true", "i8": "-128", "i32": 5, "d": "2.5", "s": "x",
            "tags": '["a", "b"]', "j": {"a": [1, None]}, "sparse": ["3:0.5", "24:0.8"],
            "vector": "[1, 2, 3, 4]"}  # fmt: skip
    spare = {"id": 2, "b": False, "i8": 127, "d": None, "tags": [], "sparse": {7: 1.0},
             "vector": [0.5, 0, 0, 0]}  # fmt: skip
    assert write(target, [full, spare])[1] == []
    found = {row["id"]: row for row in target.search([1, 2, 3, 4], 5, "vector")}
    assert found[1] == found[1] | {
        "b": True, "i8": -128, "i32": 5, "d": 2.5, "s": "x", "tags": ["a", "b"],
        "j": {"a": [1, None]},
    }  # fmt: skip
    assert found[2] == found[2] | {"b": False, "i32": 7, "d": None, "s": None, "tags": []}
    assert target.search({3: 1.0}, 1, "sparse")[0]["id"] == 1


def test_a_preview_shows_the_record_and_creates_nothing(lite, tmp_path):
    """What the server would get, or the reject; no file, no collection."""
    target = lite.target(prepared=False)
    assert target.preview({"id": "3", "text": "é", "vector": [1, 0, 0, 0]})["id"] == 3
    reject = target.preview({"id": 3, "text": "x" * 101, "vector": vector(1)})
    assert isinstance(reject, Reject)
    assert reject.reason == "too-long"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_closing_the_last_handle_frees_the_file(lite):
    """What is written is there when the file is opened again in the same process."""
    target = lite.target()
    write(target, rows(10))
    lite.close()
    assert lite.target(prepared=False).row_count() == 10


@pytest.mark.slow
def test_one_run_opens_a_file_once(lite):
    """Check, prepare, write and search share one client."""
    target = lite.target()
    run = target.context.run
    assert handle_of(lite.connection(), run) is handle_of(lite.connection(), run)


@pytest.mark.slow
def test_recreate_needs_permission_to_drop_rows(lite):
    """Rows are dropped only where the job says that they are its own."""
    write(lite.target(), rows(5))
    with pytest.raises(JobError, match=r"holds 5 rows, which recreate would drop; set ownsTarget"):
        lite.target(prepared=False, schemaCreateMode="recreate").check()
    with pytest.raises(JobError, match="ownsTarget"):
        lite.target(schemaCreateMode="recreate")
    wider = {**VECTOR, "dimension": 8}
    target = lite.target(schemaCreateMode="recreate", ownsTarget="true", column=[KEY, TEXT, wider])
    assert target.row_count() == 0
    assert write(target, [{"id": 1, "text": "t", "vector": vector(1, 8)}])[1] == []
