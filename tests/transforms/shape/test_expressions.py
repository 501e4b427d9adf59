"""Expressions in CEL: what they take, what bounds them, how they tell of a fault."""

from __future__ import annotations

import datetime
import resource
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from vecferry.transforms.shape.expressions import (
    MOST_CHARACTERS,
    MOST_LOOPED,
    Expression,
    ExpressionError,
)

NOON = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("text", "row", "value"),
    [
        ("km > 5 && title != ''", {"km": 7, "title": "x"}, True),
        ("km > 5.5", {"km": 5}, False),
        ("km > 5", {"km": Decimal("5.01")}, True),
        ("km > 5", {"km": np.float32(5.5)}, True),
        ("size(t) == 3 && t.size() == 3", {"t": "äöü"}, True),
        ("t == 'a'", {"t": "a\0b"}, False),
        ("b == b'xy'", {"b": bytearray(b"xy")}, True),
        ("day < timestamp('2026-05-05T00:00:00Z')", {"day": NOON}, True),
        ("day == timestamp('2026-05-04T00:00:00Z')", {"day": datetime.date(2026, 5, 4)}, True),
        ("day == timestamp('2026-05-04T12:00:00Z')", {"day": NOON.replace(tzinfo=None)}, True),
        ("at == '10:30:00'", {"at": datetime.time(10, 30)}, True),
        ("u.startsWith('0000')", {"u": UUID(int=1)}, True),
        ("'x' in tags && tags.exists(t, t == 'y')", {"tags": ("x", "y")}, True),
        ("has(a.b) && a.b.c == 2", {"a": {"b": {"c": 2}}}, True),
        ("has(a.b)", {"a": {}}, False),
        ("big == 9223372036854775807", {"big": 2**63 - 1}, True),
        ("s == 'size(x) // \\'no\\''", {"s": "size(x) // 'no'"}, True),
        ("s == r'\\d' // the rest", {"s": "\\d"}, True),
    ],
)
def test_values_of_rows_are_taken_as_cel_has_them(text: str, row: dict[str, Any], value: Any):
    """Dates are moments in UTC, decimals are floats, texts count characters."""
    assert Expression(text)(row) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("km == null", True),
        ("km != null && km > 5", False),
        ("km == null || km > 5", True),
        ("km > 5 && title == 'no'", False),
        ("km > 5 || title == 'yes'", True),
        ("title == 'yes' ? true : km > 5", True),
    ],
)
def test_a_null_that_decides_nothing_is_no_fault(text: str, value: bool):
    """`&&` and `||` have a value if one side decides, in either order."""
    assert Expression(text)({"km": None, "title": "yes"}) is value


@pytest.mark.parametrize("text", ["km > 5", "!(km > 5)", "km + 1 == 2", "km > 5 || false"])
def test_a_null_that_decides_is_a_fault(text: str):
    """A null is not less or greater than anything: the row is rejected, with the way out."""
    with pytest.raises(ExpressionError, match=r"column 'km' is null, .* km != null &&") as e:
        Expression(text)({"km": None})
    assert e.value.reason == "null-value"


@pytest.mark.parametrize(
    ("text", "row", "reason", "message"),
    [
        ("km > 5", {"kms": 1}, "missing-column", "no column 'km'; did you mean 'kms'"),
        ("km > 5", {"km": "7"}, "expression-failed", "'km' is of type str"),
        ("km > 5", {"km": 2**63}, "wrong-type", "column 'km' is a whole number of more than 64"),
        ("km > 5", {"km": [-(2**63) - 1]}, "wrong-type", "column 'km' is a whole number of more"),
        ("km > 5", {"km": object()}, "wrong-type", "column 'km' is of type object"),
        ("km > 5", {"km": float("nan")}, "expression-failed", "'km' is of type float"),
        ("t == ''", {"t": "\ud800"}, "expression-failed", "'t' is of type str"),
        ("1 / km > 5", {"km": 0}, "expression-failed", "division by zero"),
        ("km + 1 > 5", {"km": 2**63 - 1}, "expression-failed", "overflow"),
        ("t.matches(p)", {"t": "a", "p": "("}, "expression-failed", "not a valid regex"),
        ("t.all(x, x > 0)", {"t": [1] * (MOST_LOOPED + 1)}, "wrong-type", "a loop takes 10000"),
    ],
)
def test_a_row_that_does_not_suit_is_told_by_column(
    text: str, row: dict[str, Any], reason: str, message: str
):
    """Its reject has a reason and names the column."""
    with pytest.raises(ExpressionError, match=message.replace("(", r"\(")) as e:
        Expression(text)(row)
    assert e.value.reason == reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("km >", "'km >' is not CEL: mismatched input its end at character 5"),
        ("", "is not CEL"),
        ("km > 5 && upper(t) == 'A'", "'upper' is not a function"),
        ("(" * 2000 + "1" + ")" * 2000, "is not CEL"),
        ("-" * 5000 + "1", "has 5001 characters; write at most 4096"),
        ("l.map(x, l.map(y, x))", r"has a loop \(map\) within a loop"),
        ("l.all(x, l . exists(y, x == y))", r"has a loop \(exists\) within a loop"),
    ],
)
def test_a_wrong_or_boundless_expression_is_refused(text: str, message: str):
    """Before it runs, with the place of the fault."""
    with pytest.raises(ValueError, match=message):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "1" + "+1" * 2000,
        "!" * 4000 + "true",
        "a" + ".b" * 2000,
        "a" + "[0]" * 1300,
        "[" * 90 + "]" * 90,
        "true?1:" * 90 + "1",
        "t.matches('^(a+)+$')",
        "t.matches('(a{1000}){1000}')",
        "[" + "1," * 2000 + "1].all(x, x == 1)",
    ],
)
def test_a_hostile_expression_ends(text: str):
    """With a value or a fault; the process lives, whatever the expression nests or repeats."""
    assert len(text) <= MOST_CHARACTERS
    try:
        value = Expression(text)({"t": "a" * 100_000 + "b", "a": {}})
    except (ValueError, ExpressionError) as e:
        value = str(e)
    assert value is not None


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("km > 5 && title != '' && km < 9", ("km", "title")),
        ("tags.exists(t, t == u) && a.b.c == 1", ("tags", "u", "a")),
        ("tags.exists(t, t == 'x') && t == 'y'", ("tags", "t")),
        ("size(a) == 1 && 'b' in [c, null, true]", ("a", "c")),
        ("l.map(x, x + 1).filter(y, y > z) == []", ("l", "z")),
        ("x == 'a.b(c)' // d", ("x",)),
    ],
)
def test_the_columns_of_an_expression_are_known(text: str, columns: tuple[str, ...]):
    """So `check` follows them, and readers read them."""
    assert Expression(text).columns == columns


@pytest.mark.slow
def test_memory_stays_over_many_evaluations():
    """Of good rows and of bad ones."""
    expression = Expression("km > 5 && title != ''")

    def work(n: int) -> int:
        for i in range(n):
            assert expression({"km": i, "title": str(i)}) is (i > 5)
            with pytest.raises(ExpressionError):
                expression({"km": None, "title": "x"})
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = work(2000)
    assert work(20_000) - before < 8_000
