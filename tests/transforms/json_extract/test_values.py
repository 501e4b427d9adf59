"""What becomes of each JSON value under each type of json-extracting."""

from __future__ import annotations

import datetime
import math
from datetime import UTC
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecferry.transforms.json_extract.values import CONVERTERS


def day(*parts: int) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("STRING", "a", "a"),
        ("STRING", "", ""),
        ("STRING", 12, "12"),
        ("STRING", -1.5, "-1.5"),
        ("STRING", True, "true"),
        ("STRING", False, "false"),
        ("STRING", {"a": [1, "é"]}, '{"a":[1,"é"]}'),
        ("STRING", [], "[]"),
        ("STRING", 2**64 - 1, "18446744073709551615"),
        ("LONG", 12, 12),
        ("LONG", "12", 12),
        ("LONG", " -7 ", -7),
        ("LONG", 12.0, 12),
        ("LONG", 2**63 - 1, 2**63 - 1),
        ("LONG", str(-(2**63)), -(2**63)),
        ("DOUBLE", 1.5, 1.5),
        ("DOUBLE", 3, 3.0),
        ("DOUBLE", "1e-3", 0.001),
        ("DOUBLE", ".5", 0.5),
        ("BOOLEAN", True, True),
        ("BOOLEAN", "FALSE", False),
        ("BOOLEAN", 0, False),
        ("BOOLEAN", 1, True),
        ("DATE", "2024-02-29", day(2024, 2, 29)),
        ("DATE", "20240229", day(2024, 2, 29)),
        ("DATE", "2024-02-29T13:14:15.5Z", day(2024, 2, 29, 13, 14, 15, 500000)),
        ("DATE", "2024-02-29 13:14:15", day(2024, 2, 29, 13, 14, 15)),
        ("DATE", "2024-03-01T01:00:00+08:00", day(2024, 2, 29, 17)),
        ("DATE", 1_709_211_600_000, day(2024, 2, 29, 13)),
        ("DATE", -1, day(1969, 12, 31, 23, 59, 59, 999000)),
        ("DATE", datetime.datetime(2024, 2, 29, 13), day(2024, 2, 29, 13)),
        ("DATE", datetime.date(2024, 2, 29), day(2024, 2, 29)),
        ("JSON", {"a": 1}, {"a": 1}),
        ("JSON", 0, 0),
    ],
)
def test_a_value_that_fits(kind: str, value: Any, result: Any) -> None:
    """What fits a type becomes that type."""
    converted = CONVERTERS[kind](value)
    assert converted == result
    assert type(converted) is type(result)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("STRING", 1.2345678901234568e29),
        ("STRING", math.nan),
        ("STRING", math.inf),
        ("STRING", {"a": 10**30}),
        ("STRING", ["\ud800"]),
        ("STRING", b"raw"),
        ("LONG", 1.5),
        ("LONG", "1.5"),
        ("LONG", "1_000"),
        ("LONG", "١٢"),
        ("LONG", ""),
        ("LONG", True),
        ("LONG", 2**63),
        ("LONG", "9223372036854775808"),
        ("LONG", -9.223372036854776e18),
        ("LONG", [1]),
        ("DOUBLE", "nan"),
        ("DOUBLE", math.inf),
        ("DOUBLE", "1e999"),
        ("DOUBLE", 10**400),
        ("DOUBLE", False),
        ("DOUBLE", {}),
        ("BOOLEAN", "yes"),
        ("BOOLEAN", 2),
        ("BOOLEAN", []),
        ("DATE", "yesterday"),
        ("DATE", "2024-02-30"),
        ("DATE", "2024-02-29x13:00"),
        ("DATE", "12"),
        ("DATE", 1e15 + 0.5),
        ("DATE", 10**18),
        ("DATE", "0001-01-01T00:00:00+14:00"),
        ("DATE", True),
        ("DATE", Decimal(1)),
    ],
)
def test_a_value_that_does_not_fit(kind: str, value: Any) -> None:
    """What does not fit gives None, and never an exception or an altered value."""
    assert CONVERTERS[kind](value) is None


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=8,
    )
)
def test_an_object_as_text_is_the_same_object(value: Any) -> None:
    """The text of an object or array parses into that object or array."""
    if isinstance(value, dict | list):
        assert orjson.loads(CONVERTERS["STRING"](value)) == value


@given(st.integers(-(2**70), 2**70))
def test_a_long_is_exact_or_refused(number: int) -> None:
    """As a number or as a text, a LONG is the number itself, or nothing beyond 64 bits."""
    exact = number if -(2**63) <= number < 2**63 else None
    assert CONVERTERS["LONG"](number) == exact
    assert CONVERTERS["LONG"](str(number)) == exact
