"""Rows for a table encoded column by column are what they are one by one, or are left to that."""

from __future__ import annotations

import datetime
import uuid

import numpy as np
import pytest

from vecferry.io.postgresql import PostgresWriterSettings
from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo
from vecferry.io.postgresql.rows import BlockEncoder, RowEncoder
from vecferry.io.postgresql.settings import sql_type
from vecferry.io.postgresql.statements import Statements
from vecferry.rows import DELETE, Change

N = 130  # more than two of the pieces in which vectors are checked
DAY = datetime.date(2024, 2, 29)
NUMBERS = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
VALUES = {
    "text": lambda i: "é🏔" * (i % 5),
    "character varying(4)": lambda i: "abcd"[: i % 5],
    "smallint": lambda i: i - 60,
    "bigint": lambda i: -(2**63) + i,
    "boolean": lambda i: i % 2 == 0,
    "real": lambda i: i / 2,
    "date": lambda i: DAY + datetime.timedelta(i),
    "jsonb": lambda i: {"i": i},
    "integer[]": lambda i: list(range(i % 3)),
    "vector(3)": lambda i: NUMBERS[i],
    "halfvec(3)": lambda i: NUMBERS[i],
    "float4[]": lambda i: NUMBERS[i],
}


def encoders(kind="text", keys=("text",), version=None, **more):
    """Both encoders, and the statements, for a table with a column `v`."""
    named = [ColumnInfo(name=f"k{i}", type=sql_type(k), primary=True, not_null=True, oid=9)
             for i, k in enumerate(keys)]  # fmt: skip
    dimension = 3 if kind in ("vector(3)", "halfvec(3)", "float4[]") else None
    of = ColumnInfo(name="v", type=sql_type(kind), dimension=dimension, oid=5, array_oid=6, **more)
    info = TableInfo(name="t", schema="public", relation="t", columns=(*named, of))
    settings = PostgresWriterSettings(table="t", versionColumn=version)
    rows = RowEncoder(settings, info)
    sql = Statements(info, rows.columns, write_mode="update", version=version)
    return rows, BlockEncoder(rows, sql.sent), sql


def of_rows(rows, sql, changes):
    """The parameters that come of rows one by one, as plain values."""
    bodies = [rows.encode(c).body for c in changes]
    return plain(sql.parameters([fields for fields, _ in bodies], [v for _, v in bodies]))


def plain(parameters):
    return {name: (p.oid, bytes(p.data)) for name, p in parameters.items()}


def changes_of(value, n=N, **more):
    return [Change({"k0": f"key {i}", "v": value(i)}, **more) for i in range(n)]


@pytest.mark.parametrize("kind", VALUES)
def test_a_block_is_what_its_rows_are_one_by_one(kind):
    """The same parameters to the byte, the same keys, for every kind of column."""
    rows, blocks, sql = encoders(kind)
    changes = changes_of(VALUES[kind])
    block = blocks.encode(changes)
    assert plain(block.body) == of_rows(rows, sql, changes)
    assert block.keys == {rows.encode(c).key for c in changes}
    assert block.size == sum(len(p.data) for p in block.body.values())


@pytest.mark.parametrize("kind", VALUES)
def test_a_column_with_nulls_goes_in_a_block_too(kind):
    """NULL where the value is None and the column may be null."""
    rows, blocks, sql = encoders(kind)
    changes = changes_of(lambda i: None if i % 7 == 0 else VALUES[kind](i))
    assert plain(blocks.encode(changes).body) == of_rows(rows, sql, changes)


def test_versions_and_keys_of_several_columns_go_in_a_block():
    """A key is a tuple of what people read, as of a row by itself."""
    rows, blocks, sql = encoders(keys=("integer", "uuid"), version="ver")
    changes = [
        Change({"k0": i // 2, "k1": str(uuid.UUID(int=i % 2)), "v": "x"}, version=7 + i)
        for i in range(20)
    ]
    block = blocks.encode(changes)
    assert plain(block.body) == of_rows(rows, sql, changes)
    assert block.keys == {rows.encode(c).key for c in changes}
    assert len(block.keys) == 20


def nan(i):
    return np.array([1, 2, np.nan if i == 99 else 3], dtype=np.float32)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", lambda i: "\0" if i == 99 else "x"),
        ("text", lambda i: "\ud83d" if i == 99 else "x"),
        ("character varying(4)", lambda i: "abcde" if i == 99 else "x"),
        ("smallint", lambda i: 2**15 if i == 99 else i),
        ("bigint", lambda i: 2**63 if i == 99 else i),
        ("integer", lambda i: True if i == 99 else i),
        ("integer", lambda i: "x" if i == 99 else i),
        ("date", lambda i: "soon" if i == 99 else DAY),
        ("vector(3)", nan),
        ("float4[]", nan),
        ("vector(3)", lambda i: NUMBERS[i] * (i != 99)),
        ("vector(3)", lambda i: NUMBERS[i][: 2 if i == 99 else 3]),
        ("vector(3)", lambda i: NUMBERS[i].reshape(1, 3) if i == 99 else NUMBERS[i]),
        ("vector(3)", lambda i: "x" if i == 99 else NUMBERS[i]),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_leaves_all_to_the_rows(kind, value):
    """Row by row it is found and refused; the others are written."""
    _, blocks, _ = encoders(kind)
    assert blocks.encode(changes_of(value, 99)) is not None
    assert blocks.encode(changes_of(value)) is None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", lambda i: 5 if i == 99 else "x"),
        ("text", lambda i: {"a": i}),
        ("character varying(4)", lambda i: "abcd  " if i == 99 else "x"),
        ("integer", lambda i: "7" if i == 99 else i),
        ("bigint", lambda i: np.int64(i)),
        ("vector(3)", lambda i: NUMBERS[i].tolist() if i == 99 else NUMBERS[i]),
        ("vector(3)", lambda i: NUMBERS[i].astype(np.float64) if i == 99 else NUMBERS[i]),
        ("vector(3)", lambda i: "[1, 2, 3]"),
        ("float4[]", lambda i: NUMBERS[i].tolist()),
    ],
)
def test_a_value_of_another_type_is_converted_as_in_a_row_by_itself(kind, value):
    """What fits does not give up the block."""
    rows, blocks, sql = encoders(kind)
    changes = changes_of(value)
    assert plain(blocks.encode(changes).body) == of_rows(rows, sql, changes)


def test_keys_of_another_type_are_the_texts_that_are_written():
    """As of a row by itself, so that two spellings of one key are one."""
    rows, blocks, _ = encoders()
    changes = [Change({"k0": k, "v": "x"}) for k in (1, "2", 3)]
    assert blocks.encode(changes).keys == {"1", "2", "3"} == {rows.encode(c).key for c in changes}
    assert blocks.encode([*changes, Change({"k0": "3", "v": "y"})]) is None


def test_null_where_it_may_not_be_a_missing_column_a_delete_and_a_repeated_key_make_no_block():
    """Their rules are those of single rows."""
    _, blocks, _ = encoders(not_null=True)
    good = changes_of(VALUES["text"])
    for bad in (
        Change({"k0": "x", "v": None}),
        Change({"k0": None, "v": "x"}),
        Change({"k0": "x"}),
        Change({"v": "x"}),
        Change({"k0": "x", "v": "x"}, kind=DELETE),
        Change({"k0": "key 1", "v": "x"}),
    ):
        assert blocks.encode([*good, bad]) is None
