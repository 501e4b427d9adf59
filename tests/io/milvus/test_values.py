"""Values on their way into Milvus: what is taken, what is refused, and the form they get."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymilvus import DataType
from pymilvus.client.prepare import Prepare

from vecferry.errors import TerminalError
from vecferry.io.milvus import MilvusSettings
from vecferry.io.milvus.catalog import CollectionInfo, FieldInfo
from vecferry.io.milvus.values import RowEncoder, acceptor
from vecferry.io.milvus.wire import RequestMaker
from vecferry.rows import Change


def field(kind, **more):
    return FieldInfo(name="f", type=kind, **more)


TAKEN = [
    (field("Int8"), "-128", -128),
    (field("Int64"), 2**63 - 1, 2**63 - 1),
    (field("Int32"), 5.0, 5),
    (field("Int16"), np.int64(7), 7),
    (field("Double"), "2.5", 2.5),
    (field("Float"), 3, 3.0),
    (field("Bool"), "True", True),
    (field("Bool"), 0, False),
    (field("VarChar", max_length=3), "字", "字"),
    (field("VarChar", max_length=9), 12, "12"),
    (field("VarChar", max_length=9), {"a": 1}, '{"a":1}'),
    (field("JSON"), '{"a": [1]}', b'{"a":[1]}'),
    (field("JSON"), "no json", b'"no json"'),
    (field("JSON"), {"a": [None, np.arange(2.0)]}, b'{"a":[null,[0.0,1.0]]}'),
    (field("Array", element_type="Int64", max_capacity=2), "[1, 2]", [1, 2]),
    (field("BinaryVector", dimension=8), [1, 0, 0, 0, 0, 0, 0, 1], b"\x81"),
    (field("BinaryVector", dimension=16), b"ab", b"ab"),
    (field("BinaryVector", dimension=16), "YWI=", b"ab"),
    (field("Float16Vector", dimension=2), [1, -2], np.array([1, -2], "<f2").tobytes()),
    (field("BFloat16Vector", dimension=2), [1, -2], b"\x80\x3f\x00\xc0"),
    (field("SparseFloatVector"), ["24:0.5", "3:1"], struct.pack("<IfIf", 3, 1, 24, 0.5)),
]


@pytest.mark.parametrize(
    ("info", "value", "expected"), TAKEN, ids=[f"{f.type} {v!r}"[:40] for f, v, _ in TAKEN]
)
def test_a_value_gets_the_form_of_its_field(info, value, expected):
    """Numbers written as text are taken where they can mean one thing only."""
    accepted = acceptor(info)(value)
    assert accepted == expected
    assert type(accepted) is type(expected)


REFUSED = [
    (field("Int8"), 128, "out-of-range"),
    (field("Int64"), "12x", "wrong-type"),
    (field("Int64"), 1.5, "wrong-type"),
    (field("Int64"), True, "wrong-type"),
    (field("Float"), 1e39, "out-of-range"),
    (field("Double"), "nan", "not-finite"),
    (field("Double"), "x", "wrong-type"),
    (field("Bool"), "maybe", "wrong-type"),
    (field("Bool"), 2, "wrong-type"),
    (field("VarChar", max_length=2), "字", "too-long"),
    (field("VarChar", max_length=9), "\ud800", "invalid-text"),
    (field("VarChar", max_length=9), b"\xff", "invalid-text"),
    (field("VarChar", max_length=9), {"a": float("inf")}, "not-finite"),
    (field("JSON"), float("nan"), "not-finite"),
    (field("JSON"), {"a": [{"b": float("-inf")}]}, "not-finite"),
    (field("JSON"), [np.array([1, np.nan])], "not-finite"),
    (field("JSON"), {"a": 2**70}, "invalid-json"),
    (field("Array", element_type="Int64", max_capacity=2), [1, 2, 3], "too-long"),
    (field("Array", element_type="Int64", max_capacity=2), [1, None], "null-value"),
    (field("Array", element_type="Int64", max_capacity=2), 5, "wrong-type"),
    (field("FloatVector", dimension=2), [1, 2, 3], "wrong-dimension"),
    (field("FloatVector", dimension=2), [1, float("nan")], "not-finite"),
    (field("FloatVector", dimension=2), [1e39, 0], "not-finite"),
    (field("FloatVector", dimension=2, metric="COSINE"), [0, 0], "zero-vector"),
    (field("FloatVector", dimension=2, metric="COSINE"), [1e-30, 0], "zero-vector"),
    (field("FloatVector", dimension=2), "no vector", "wrong-type"),
    (field("FloatVector", dimension=2), [[1, 2]], "wrong-type"),
    (field("Float16Vector", dimension=1), [70000], "out-of-range"),
    (field("BinaryVector", dimension=16), b"a", "wrong-dimension"),
    (field("SparseFloatVector"), {}, "zero-vector"),
    (field("SparseFloatVector"), {1: -1.0}, "not-finite"),
    (field("SparseFloatVector"), {-1: 1.0}, "out-of-range"),
    (field("SparseFloatVector"), ["x"], "wrong-type"),
]


@pytest.mark.parametrize(
    ("info", "value", "reason"), REFUSED, ids=[f"{f.type} {v!r}"[:40] for f, v, _ in REFUSED]
)
def test_a_value_that_does_not_fit_is_refused_with_a_reason(info, value, reason):
    """The reason is a stable word; the message names the field."""
    with pytest.raises(TerminalError, match="field 'f': ") as caught:
        acceptor(info)(value)
    assert caught.value.reason == reason


def test_a_vector_of_length_zero_is_taken_where_the_metric_can():
    """L2 and IP have no trouble with it."""
    for metric in ("L2", "IP", None):
        vector = acceptor(field("FloatVector", dimension=2, metric=metric))(np.zeros(2, "f4"))
        assert vector.tolist() == [0, 0]


def test_a_float32_vector_is_not_copied():
    """It flows from the embedding to the request as it is."""
    vector = np.ones(3, dtype=np.float32)
    assert acceptor(field("FloatVector", dimension=3))(vector) is vector


@pytest.mark.slow
@given(st.text(max_size=12))
def test_a_text_is_taken_exactly_where_its_bytes_fit(text):
    """maxLength counts bytes of UTF-8, as a server does."""
    accept = acceptor(field("VarChar", max_length=10))
    if len(text.encode("utf-8", "surrogatepass")) <= 10 and text.isprintable():
        assert accept(text) == text
    elif len(text.encode("utf-8", "surrogatepass")) > 10:
        with pytest.raises(TerminalError):
            accept(text)


FIELDS = [
    FieldInfo(name="id", type="Int64", primary=True),
    FieldInfo(name="b", type="Bool"),
    FieldInfo(name="i", type="Int16", nullable=True),
    FieldInfo(name="x", type="Float"),
    FieldInfo(name="d", type="Double", nullable=True),
    FieldInfo(name="t", type="VarChar", max_length=99),
    FieldInfo(name="j", type="JSON"),
    FieldInfo(name="a", type="Array", element_type="VarChar", max_capacity=9, max_length=9),
    FieldInfo(name="v", type="FloatVector", dimension=3),
    FieldInfo(name="n", type="FloatVector", dimension=2, nullable=True),
    FieldInfo(name="s", type="SparseFloatVector"),
    FieldInfo(name="h", type="Float16Vector", dimension=2),
    FieldInfo(name="c", type="BFloat16Vector", dimension=2),
    FieldInfo(name="y", type="BinaryVector", dimension=16),
]


def as_pymilvus_knows_them():
    from vecferry.io.milvus.catalog import CODES

    known = []
    for f in FIELDS:
        params = {"dim": f.dimension, "max_length": f.max_length, "max_capacity": f.max_capacity}
        info = {
            "name": f.name,
            "type": DataType(CODES[f.type]),
            "params": {k: v for k, v in params.items() if v is not None},
            "nullable": f.nullable,
            "is_primary": f.primary,
        }
        if f.element_type:
            info["element_type"] = DataType(CODES[f.element_type])
        known.append(info)
    return known


def test_requests_are_those_that_pymilvus_would_make():
    """Field by field and byte by byte, for every type, nulls and dynamic fields included."""
    settings = MilvusSettings.model_validate(
        {
            "collection": "c",
            "partition": "p",
            "columnMapping": [
                *({"sourceColName": f.name, "dstColName": f.name} for f in FIELDS),
                {"sourceColName": "extra", "dstColName": "extra"},
            ],
        }
    )
    info = CollectionInfo(name="c", fields=tuple(FIELDS), dynamic=True)
    half = np.array([1.5, -2], dtype="<f2")
    bf = b"\x80\x3f\x00\xc0"
    data = [
        {"id": 1, "b": True, "i": None, "x": 0.5, "d": 2.25, "t": "é", "j": {"k": [1]},
         "a": ["x", "y"], "v": np.array([1, 2, 3], "f4"), "n": None, "s": {3: 0.5, 9: 1.0},
         "h": half, "c": bf, "y": b"ab", "extra": "e"},
        {"id": 2, "b": False, "i": -7, "x": 1.0, "d": None, "t": "", "j": [1],
         "a": [], "v": np.array([4, 5, 6], "f4"), "n": np.array([7, 8], "f4"), "s": {1: 2.0},
         "h": half, "c": bf, "y": b"cd", "extra": 5},
    ]  # fmt: skip
    encoder = RowEncoder(settings, info)
    maker = RequestMaker(
        database="", collection="c", partition="p", fields=encoder.fields, dynamic=True,
        key=info.key,
    )  # fmt: skip
    bodies = [encoder.encode(Change(row)).body for row in data]
    theirs = Prepare.row_upsert_param(
        "c", data, "p", as_pymilvus_knows_them(), enable_dynamic=True, schema_timestamp=0
    )
    ours = maker.upsert(bodies)
    assert ours.num_rows == theirs.num_rows
    for mine, other in zip(ours.fields_data, theirs.fields_data, strict=True):
        if mine.type == DataType.ARRAY:
            other.scalars.array_data.element_type = mine.scalars.array_data.element_type
        assert mine == other, mine.field_name
    assert (ours.collection_name, ours.partition_name) == ("c", "p")


def test_a_delete_names_its_keys_as_data():
    """Keys are quoted as JSON, which Milvus's expressions share."""
    maker = RequestMaker(
        database="", collection="c", partition=None, fields=[], dynamic=False, key=FIELDS[0]
    )
    assert maker.delete([1, 2]).expr == "id in [1,2]"
    assert maker.delete(['a"b', "é"]).expr == 'id in ["a\\"b","é"]'
