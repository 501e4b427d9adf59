"""How an entry of `column` is cut, without a server."""

from __future__ import annotations

import pytest

from vecferry.io.tables.plan import entries

ONE = [
    "coalesce(a, b) AS c",
    "'a,b' AS c",
    '"id, text"',
    "`id, text`",
    "ARRAY[1, 2] AS a",
    "'it''s, so' AS c",
    "decimal(a, 2) * (b + f(c, d))",
    r"'a\\', b, '",
    "id",
    "(1, 2) IN (SELECT a, b FROM t)",
    "id,",
]
SEVERAL = {
    "id,text": ["id", "text"],
    " id , text,lang": ["id", "text", "lang"],
    "f(a, b) AS x, c": ["f(a, b) AS x", "c"],
    "'a,b' AS x, c": ["'a,b' AS x", "c"],
    '"a,b",c': ['"a,b"', "c"],
}


@pytest.mark.parametrize("text", ONE)
def test_a_comma_within_an_expression_is_part_of_it(text: str) -> None:
    """A good job is never refused."""
    assert entries(text) == [text]


@pytest.mark.parametrize("text", SEVERAL)
def test_an_entry_of_several_columns_is_cut(text: str) -> None:
    """The error shows how to write the columns."""
    assert entries(text) == SEVERAL[text]
