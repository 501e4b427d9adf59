"""Values of every type on their way into a table of PostgreSQL, and what is refused before."""

from __future__ import annotations

import datetime
import decimal
import uuid

import numpy as np
import pytest

from tests.io.postgresql.support import Tables
from vecferry.errors import TerminalError
from vecferry.io.postgresql.catalog import ColumnInfo
from vecferry.io.postgresql.encode import acceptor
from vecferry.io.postgresql.settings import sql_type
from vecferry.testing.sinks import write

UTC = datetime.UTC
MOMENT = datetime.datetime(1969, 7, 20, 20, 17, 40, 123456)
NUMBERS = np.array([1.5, -2.25, 3.5], dtype=np.float32)


@pytest.fixture
def tables():
    tables = Tables("postgresql")
    yield tables
    tables.close()


@pytest.mark.service
@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        ("boolean", True, True),
        ("boolean", "false", False),
        ("smallint", "-32768", -32768),
        ("integer", 5.0, 5),
        ("bigint", 2**63 - 1, 2**63 - 1),
        ("real", 1.5, 1.5),
        ("double precision", "1e300", 1e300),
        ("numeric(10,2)", decimal.Decimal("12345678.91"), decimal.Decimal("12345678.91")),
        ("numeric", "-0.000000000000000000001", decimal.Decimal("-0.000000000000000000001")),
        ("text", "🏔 \\N {}", "🏔 \\N {}"),
        ("text", 12, "12"),
        ("text", {"a": ["b"]}, '{"a":["b"]}'),
        ("varchar(4)", "🏔🏔🏔🏔", "🏔🏔🏔🏔"),
        ("varchar(4)", "abcd  ", "abcd"),
        ("bytea", b"\0\xff", b"\0\xff"),
        ("date", "2024-02-29", datetime.date(2024, 2, 29)),
        ("date", datetime.date(1, 1, 1), datetime.date(1, 1, 1)),
        ("timestamp", MOMENT, MOMENT),
        ("timestamptz", MOMENT, MOMENT.replace(tzinfo=UTC)),
        ("timestamptz", "2024-01-01T00:00:00+05:30",
         datetime.datetime(2023, 12, 31, 18, 30, tzinfo=UTC)),
        ("uuid", "12345678-1234-5678-1234-567812345678",
         uuid.UUID("12345678-1234-5678-1234-567812345678")),
        ("json", {"a": None}, {"a": None}),
        ("jsonb", '{"b": [1, 2.5, "é"]}', {"b": [1, 2.5, "é"]}),
        ("jsonb", "plain words", "plain words"),
        ("text[]", ["a", None, "b,{}"], ["a", None, "b,{}"]),
        ("int8[]", "[1, 2]", [1, 2]),
        ("int8[]", [], []),
        ("float8[]", NUMBERS, NUMBERS.tolist()),
        ("float4[]", NUMBERS, NUMBERS.tolist()),
        ("boolean[]", [True, "f"], [True, False]),
        ("interval", "1 day 2 hours", datetime.timedelta(days=1, hours=2)),
        ("inet", "10.0.0.0/8", None),
        ("time", datetime.time(12, 30), datetime.time(12, 30)),
    ],
)  # fmt: skip
def test_a_value_of_each_type_comes_back_as_it_went_in(tables, kind, given, kept):
    """In its binary form, or as a text that the server casts."""
    tables.execute(f"CREATE TABLE @t (id int PRIMARY KEY, v {kind})")
    target = tables.target(column=["id", "v"], schemaCreateMode="ignore")
    data = [{"id": 1, "v": given}, {"id": 2, "v": None}]
    written, rejects = write(target, data)
    assert (len(written), rejects) == (2, [])
    with tables.server.client(options="-c timezone=UTC") as connection:
        found = connection.execute(f'SELECT v FROM "{tables.table}" ORDER BY id').fetchall()
    assert found[1] == (None,)
    assert found[0] == (kept,) or (kept is None and str(found[0][0]) == given)


@pytest.mark.service
@pytest.mark.parametrize("dimension", ["", "(3)"])
def test_the_rows_of_a_batch_keep_their_own_arrays_and_vectors(tables, dimension):
    """Also where some are null, empty, or longer than others: none gets a neighbour's elements."""
    tables.execute(
        "CREATE TABLE @t (id int PRIMARY KEY, tags varchar(9)[], counts int[], "
        f"v vector{dimension}, h halfvec(2), f float4[], plain float4[])"
    )
    columns = ["id", "tags", "counts", "v", "h", {"name": "f", "dimension": 2}, "plain"]
    target = tables.target(column=columns, schemaCreateMode="ignore", batchSize=4)
    data = [
        {
            "id": n,
            "tags": (None, [], ["a", None, "é,{}"], [f"tag {n}"] * n)[n % 4],
            "counts": (list(range(n)), None, [n], [])[n % 4],
            "v": None if n in (5, 6) else [n, 1, 2],
            "h": None if n == 5 else [n, 1],
            "f": None if n in (5, 9) else [n, -n - 1],
            "plain": [0.5] * (n % 3),
        }
        for n in range(24)
    ]
    for _ in range(2):
        written, rejects = write(target, data)
        assert (len(written), rejects) == (24, [])
    found = tables.ask(
        "SELECT id, tags, counts, v::float4[], h::float4[], f, plain FROM @t ORDER BY 1"
    )
    assert found == [tuple(row.values()) for row in data]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("smallint", 32768, "out-of-range"),
        ("bigint", -(2**63) - 1, "out-of-range"),
        ("bigint", 2.5, "wrong-type"),
        ("bigint", True, "wrong-type"),
        ("bigint", "1.0", "wrong-type"),
        ("integer", float("nan"), "wrong-type"),
        ("real", 1e39, "out-of-range"),
        ("double precision", "many", "wrong-type"),
        ("boolean", "perhaps", "wrong-type"),
        ("text", "a\0b", "invalid-text"),
        ("text", "\udc00", "invalid-text"),
        ("text", b"\xff", "invalid-text"),
        ("text", np.zeros(2, np.float32), "wrong-type"),
        ("varchar(3)", "字字字字", "too-long"),
        ("jsonb", {"a": "\0"}, "invalid-text"),
        ("json", {1, 2}, None),
        ("bytea", 5, "wrong-type"),
        ("date", "yesterday", "wrong-type"),
        ("timestamp", 5, "wrong-type"),
        ("numeric(4,2)", 100, "out-of-range"),
        ("numeric", "1,5", "wrong-type"),
        ("uuid", "no", "wrong-type"),
        ("int4[]", [1, "x"], "wrong-type"),
        ("int4[]", 5, "wrong-type"),
        ("text[]", "no list", "wrong-type"),
        ("halfvec(2)", [1e6, 1], "out-of-range"),
        ("vector(2)", [1, 2, 3], "wrong-dimension"),
        ("vector(2)", [1, float("inf")], "not-finite"),
        ("vector(2)", [0, 0], "zero-vector"),
        ("vector(2)", [1e-30, 0], "zero-vector"),
        ("vector(2)", [3e38, 3e38], "out-of-range"),
        ("vector(2)", "far away", "wrong-type"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:overflow encountered in dot")
def test_a_value_that_does_not_fit_is_refused_before_it_is_sent(kind, value, reason):
    """With its column, and a reason that a report can group by."""
    type_ = sql_type(kind)
    dimension = type_.limit if type_.name in ("vector", "halfvec") else None
    accept = acceptor(ColumnInfo(name="v", type=type_, dimension=dimension), "COSINE")
    if reason is None:
        assert accept(value)
        return
    with pytest.raises(TerminalError, match="field 'v'") as caught:
        accept(value)
    assert caught.value.reason == reason


def test_a_vector_without_length_is_taken_where_the_metric_can_take_it():
    """IP and L2 need no direction."""
    column = ColumnInfo(name="v", type=sql_type("vector(2)"), dimension=2)
    for metric in ("IP", "L2"):
        assert acceptor(column, metric)([0, 0])[8:] == bytes(8)


@pytest.mark.service
def test_what_only_the_server_can_judge_costs_its_own_row(tables):
    """A text that is cast there: the batch is halved until the bad ones are alone."""
    tables.execute("CREATE TABLE @t (id int PRIMARY KEY, address inet)")
    target = tables.target(column=["id", "address"], schemaCreateMode="ignore", batchSize=100)
    data = [{"id": i, "address": f"10.0.{i % 256}.1"} for i in range(500)]
    for i in (3, 77, 499):
        data[i]["address"] = "10.0.0.1/99"
    written, rejects = write(target, data)
    assert len(written) == tables.count(target) == 497
    assert sorted(r.row["id"] for r in rejects) == [3, 77, 499]
    assert {r.reason for r in rejects} == {"wrong-type"}
    assert "invalid input syntax for type inet" in rejects[0].message


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("INT8", "bigint"),
        ("float4[]", "real[]"),
        ("VarChar( 64 )", "character varying(64)"),
        ("timestamp", "timestamp without time zone"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("public.vector(3)", "vector(3)"),
        ("decimal(10, 2)", "numeric(10,2)"),
    ],
)
def test_types_are_known_by_their_other_names(text, same):
    """What a job writes and what the server tells are one."""
    assert str(sql_type(text)) == same
