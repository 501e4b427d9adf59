"""Conditions mean what they mean in SQL, and what is not taken is refused by name."""

from __future__ import annotations

import datetime
import decimal
import itertools
import sqlite3
from typing import Any

import pytest

from tests.io.paimon.support import WHY

pytest.importorskip("pypaimon", reason=WHY)
pytest.importorskip("sqlglot", reason=WHY)

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from vecferry.errors import JobError
from vecferry.io.paimon.condition import Condition, columns_of, parse

SCHEMA = pa.schema(
    [
        ("id", pa.int64()), ("small", pa.int8()), ("title", pa.string()), ("price", pa.float64()),
        ("weight", pa.float32()), ("cost", pa.decimal128(10, 2)), ("sold", pa.bool_()),
        ("day", pa.date32()), ("seen", pa.timestamp("us")), ("zoned", pa.timestamp("ms", "UTC")),
        ("clock", pa.time32("ms")), ("tags", pa.list_(pa.string())), ("picture", pa.binary()),
        ("two words", pa.int64()),
    ]
)  # fmt: skip


def row(i: int) -> dict[str, Any]:
    """Row number i; each column is null in some rows."""
    whole = {
        "id": i,
        "small": i,
        "title": f"t{i}",
        "price": i / 2,
        "weight": i / 4,
        "cost": decimal.Decimal(i) / 4,
        "sold": i % 2 == 0,
        "day": datetime.date(2026, 1, 1 + i),
        "seen": datetime.datetime(2026, 1, 1, i),
        "zoned": datetime.datetime(2026, 1, 1, i, tzinfo=datetime.UTC),
        "clock": datetime.time(i),
        "tags": [str(i)],
        "picture": b"x",
        "two words": i,
    }
    return {name: None if (i + n) % 9 == 8 else v for n, (name, v) in enumerate(whole.items())}


ROWS = [row(i) for i in range(20)]
BATCH = pa.RecordBatch.from_pylist(ROWS, SCHEMA)


def taken(text: str) -> list[int]:
    """The numbers of the rows that meet a condition."""
    mask = Condition(text, SCHEMA).mask(BATCH).to_pylist()
    return [i for i, met in enumerate(mask) if met]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("id > 15", lambda r: r["id"] is not None and r["id"] > 15),
        ("15 < id", lambda r: r["id"] is not None and r["id"] > 15),
        ("small = 1000", lambda r: False),
        ("id = -1", lambda r: False),
        ("price = 1.5", lambda r: r["price"] == 1.5),
        ("weight <= 1", lambda r: r["weight"] is not None and r["weight"] <= 1),
        ("cost = 0.5", lambda r: r["cost"] == decimal.Decimal("0.5")),
        ("cost BETWEEN 0.5 AND 1", lambda r: r["cost"] is not None and 0.5 <= r["cost"] <= 1),
        (
            "NOT cost BETWEEN 0.5 AND 1",
            lambda r: r["cost"] is not None and not 0.5 <= r["cost"] <= 1,
        ),
        ("sold", lambda r: r["sold"] is True),
        ("NOT sold", lambda r: r["sold"] is False),
        ("sold <> TRUE", lambda r: r["sold"] is False),
        ("day >= DATE '2026-01-15'", lambda r: r["day"] and r["day"].day >= 15),
        ("day = '2026-01-03'", lambda r: r["day"] and r["day"].day == 3),
        ("seen < TIMESTAMP '2026-01-01 05:00:00'", lambda r: r["seen"] and r["seen"].hour < 5),
        ("zoned = '2026-01-01T05:00:00+01:00'", lambda r: r["zoned"] and r["zoned"].hour == 4),
        ("zoned = '2026-01-01 05:00:00'", lambda r: r["zoned"] and r["zoned"].hour == 5),
        ("clock = TIME '05:00:00'", lambda r: r["clock"] and r["clock"].hour == 5),
        ("title LIKE 't1%'", lambda r: (r["title"] or "").startswith("t1")),
        ("title NOT LIKE 't1%'", lambda r: r["title"] and not r["title"].startswith("t1")),
        ("title LIKE 't_'", lambda r: r["title"] and len(r["title"]) == 2),
        ("title IN ('t1', 't''2')", lambda r: r["title"] == "t1"),
        ("title NOT IN ('t1')", lambda r: r["title"] and r["title"] != "t1"),
        ("id NOT IN (1, 2)", lambda r: r["id"] is not None and r["id"] not in (1, 2)),
        ("tags IS NULL", lambda r: r["tags"] is None),
        ("picture IS NOT NULL", lambda r: r["picture"] is not None),
        ('`two words` = 3 OR "two words" = 4', lambda r: r["two words"] in (3, 4)),
        ("id = 1 -- a comment", lambda r: r["id"] == 1),
        (
            "NOT (id > 3 OR title IS NULL)",
            lambda r: r["id"] is not None and r["id"] <= 3 and r["title"] is not None,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_condition_takes_the_rows_that_sql_takes(text: str, meant: Any) -> None:
    """Null makes a comparison unknown, and its opposite as well."""
    assert taken(text) == [i for i, r in enumerate(ROWS) if meant(r)]


LEAVES = [
    "a = 1", "a <> 1", "a < 2", "b >= 'm'", "b LIKE 'm%'", "b NOT LIKE 'm%'", "a IN (0, 2)",
    "a NOT IN (0, 2)", "a BETWEEN 1 AND 2", "a IS NULL", "b IS NOT NULL",
]  # fmt: skip
PAIRS = list(itertools.product([None, 0, 1, 2, 3], [None, "a", "m", "mn", "z"]))


def conditions() -> st.SearchStrategy[str]:
    """Conditions over `a` and `b`, however they are put together."""
    return st.recursive(
        st.sampled_from(LEAVES),
        lambda inner: st.one_of(
            inner.map(lambda c: f"NOT ({c})"),
            st.tuples(inner, inner).map(lambda c: f"({c[0]}) AND ({c[1]})"),
            st.tuples(inner, inner).map(lambda c: f"({c[0]}) OR ({c[1]})"),
        ),
        max_leaves=5,
    )


@settings(max_examples=150, deadline=None)
@given(conditions())
def test_conditions_agree_with_a_database(text: str) -> None:
    """SQLite takes the same rows; what pypaimon is given takes no row less."""
    from pypaimon.common.predicate_builder import PredicateBuilder
    from pypaimon.schema.data_types import PyarrowFieldParser
    from pypaimon.table.row.offset_row import OffsetRow

    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    condition = Condition(text, schema)
    batch = pa.RecordBatch.from_pylist([{"a": a, "b": b} for a, b in PAIRS], schema)
    met = [bool(one) for one in condition.mask(batch).to_pylist()]
    with sqlite3.connect(":memory:") as db:
        db.execute("PRAGMA case_sensitive_like = ON")
        db.execute("CREATE TABLE t (a INTEGER, b TEXT)")
        db.executemany("INSERT INTO t VALUES (?, ?)", PAIRS)
        found = [bool(one) for (one,) in db.execute(f"SELECT ({text}) IS 1 FROM t ORDER BY rowid")]
    assert met == found
    predicate = condition.predicate(PredicateBuilder(PyarrowFieldParser.to_paimon_schema(schema)))
    for pair, one in zip(PAIRS, met, strict=True):
        assert not one or predicate is None or predicate.test(OffsetRow(pair, 0, 2))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("idd = 5", "no column 'idd'; did you mean 'id'?"),
        ('title = "x"', "write texts in single quotes"),
        ("title = price", "column 'price' stands where a value must"),
        ("title = 5", "'title' is compared with 5, which must be a text in single quotes"),
        ("id = 'many'", "'id' is compared with 'many', which must be a whole number"),
        ("id > 1.5", "which must be a whole number"),
        ("id = 99999999999999999999", "which must be a whole number of 64 bits"),
        ("sold > TRUE", "compare it by = or <>"),
        ("day = 'today'", "must be a date such as '2026-11-29'"),
        ("seen = '2026-01-01T00:00:00Z'", "must be a time such as"),
        ("tags = 'x'", "only IS [NOT] NULL can be asked"),
        ("picture = 'x'", "only IS [NOT] NULL can be asked"),
        ("id LIKE '1%'", "LIKE needs a text"),
        ("id = NULL", "write IS NULL"),
        ("id NOT IN (1, NULL)", "write IS NULL"),
        ("lower(title) = 'x'", "\"LOWER(title) = 'x'\" is not supported here; use comparisons"),
        ("title ILIKE 'x'", "\"title ILIKE 'x'\" is not supported here"),
        ("title LIKE 'x!%' ESCAPE '!'", "is not supported here"),
        ("id + 1 > 2", "is not supported here"),
        ("t.id = 1", "'t.id' is not supported here"),
        ("id IN (SELECT 1)", "is not supported here"),
        ("id IS TRUE", "is not supported here"),
        ("day = CAST('29.11.26' AS DATE FORMAT 'DD.MM.YY')", "is not supported here"),
        ("day = CAST('x' AS INT)", "is not supported here"),
        ("id <=> 1", "is not supported here"),
        ("CASE WHEN sold THEN id END = 1", "is not supported here"),
        ("id = 1 AND", "can't be read"),
        ("id = 1)", "can't be read"),
        ("id = 1; DROP TABLE x", "it must be one condition"),
        ("title = 'x", "can't be read"),
    ],
)
def test_what_is_not_taken_is_named(text: str, problem: str) -> None:
    """With what to write in its place."""
    with pytest.raises(JobError) as caught:
        Condition(text, SCHEMA)
    assert problem in str(caught.value)
    assert "where is" in str(caught.value)


def test_a_condition_tells_its_columns() -> None:
    """Each once, also those that the job does not read."""
    assert columns_of(parse("b = 1 AND (a IS NULL OR NOT b = 2)")) == ("b", "a")
