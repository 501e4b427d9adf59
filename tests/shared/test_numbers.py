"""One reading of numbers: the shared parser, and every reader and writer that uses it."""

from __future__ import annotations

import decimal
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vecferry.errors import TerminalError
from vecferry.io.common.arrow import value_converter
from vecferry.io.common.types import json_converter, text_converter
from vecferry.io.milvus import values as milvus
from vecferry.io.milvus.catalog import FieldInfo
from vecferry.io.milvus.settings import MilvusColumn
from vecferry.io.postgresql import encode as pg
from vecferry.io.postgresql.settings import sql_type
from vecferry.io.search.values import _as_version, _checked
from vecferry.io.sink.values import as_vector
from vecferry.numbers import decimal_number, digits_of, real_number, whole_number, whole_of
from vecferry.rows import Change

NOT_WHOLE = ("7_0", "٧٠", "７０", "1.0", "1e3", "0x10", "--7", "+ 7", "", "７", "9" * 5000)
NOT_REAL = ("1_0.5", "infinity", "nan", "-inf", "٣.٥", "1.5f", "0x1p3", "1e", ".", "1e999")


def field(kind: str) -> FieldInfo:
    """A field of a Milvus collection."""
    flags = dict.fromkeys(("primary", "auto_id", "partition_key", "nullable", "has_default"), False)
    others = dict.fromkeys(("max_length", "max_capacity", "element_type", "metric"), None)
    return FieldInfo(name="f", type=kind, dimension=None, computed=False, **flags, **others)


def of_column(make: Any, *given: Any) -> Callable[[Any], Any]:
    """A converter that is there."""
    convert = make(*given)
    assert convert is not None
    return convert  # type: ignore[no-any-return]


def json_extract(kind: str) -> Callable[[Any], Any]:
    """A converter of json-extract, which gives None for what does not fit."""
    convert = importlib.import_module("vecferry.transforms.json_extract.values").CONVERTERS[kind]

    def accept(value: Any) -> Any:
        found = convert(value)
        if found is None:
            raise ValueError("does not fit")
        return found

    return accept


def pg_int(value: Any) -> int:
    """What a bigint would hold."""
    return int.from_bytes(pg._integer("c", sql_type("bigint"))(value), "big", signed=True)


WHOLES: dict[str, Callable[[Any], Any]] = {
    "parser": whole_number,
    "csv": of_column(text_converter, "long"),
    "jsonl": of_column(json_converter, "long"),
    "parquet": of_column(value_converter, "long"),
    "json-extract": json_extract("LONG"),
    "milvus": milvus.acceptor(field("Int64")),
    "milvus sparse": lambda text: milvus.sparse_vector(field("SparseFloatVector"))({text: 1.0}),
    "milvus default": lambda text: MilvusColumn(name="f", type="Int64", default_value=text).default,
    "postgresql": pg_int,
    "search version": lambda value: _checked(_as_version(Change({"v": value}), "v")),
}
REALS: dict[str, Callable[[Any], Any]] = {
    "parser": real_number,
    "csv": of_column(text_converter, "double"),
    "jsonl": of_column(json_converter, "double"),
    "parquet": of_column(value_converter, "double"),
    "json-extract": json_extract("DOUBLE"),
    "milvus": milvus.acceptor(field("Double")),
    "milvus sparse": lambda text: milvus.sparse_vector(field("SparseFloatVector"))({1: text}),
    "postgresql real": pg._real("c", sql_type("real")),
    "postgresql numeric": pg._numeric("c", sql_type("numeric(10,2)")),
    "vector": lambda text: as_vector("v", [text, 1.0]),
}


@pytest.mark.parametrize("text", NOT_WHOLE, ids=lambda t: t[:8])
@pytest.mark.parametrize("place", WHOLES)
def test_what_is_not_a_whole_number_is_one_nowhere(place: str, text: str) -> None:
    """A text that only Python takes for a number is refused, so it can't be another row's key."""
    with pytest.raises((ValueError, TerminalError)):
        WHOLES[place](text)


@pytest.mark.parametrize("text", NOT_REAL)
@pytest.mark.parametrize("place", REALS)
def test_what_is_not_a_finite_number_is_one_nowhere(place: str, text: str) -> None:
    """Underscores, other scripts and names of numbers are refused in every place."""
    with pytest.raises((ValueError, TerminalError)):
        REALS[place](text)


@pytest.mark.parametrize("text", ["70", "+70", "0070", " 70 ", "\t70\n"])
@pytest.mark.parametrize("place", [p for p in WHOLES if p != "milvus sparse"])
def test_a_whole_number_is_the_same_everywhere(place: str, text: str) -> None:
    """A sign, zeros before it and blanks around it change nothing."""
    assert WHOLES[place](text) == 70


@pytest.mark.parametrize(
    "value",
    [70.0, decimal.Decimal(70), decimal.Decimal("70.00"), decimal.Decimal("7E+1"), np.float32(70)],
    ids=repr,
)
@pytest.mark.parametrize("place", ["milvus", "postgresql", "search version"])
def test_a_whole_decimal_or_float_is_a_whole_number_in_each_writer(place: str, value: Any) -> None:
    """Databases give whole numbers as Decimals, and pandas gives them as floats."""
    assert WHOLES[place](value) == 70


@pytest.mark.parametrize(
    "value",
    [70.5, decimal.Decimal("70.5"), float("nan"), float("inf"), decimal.Decimal("sNaN"),
     decimal.Decimal("NaN"), decimal.Decimal("1E+1000000"), decimal.Decimal("1E+50"), True],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("place", ["milvus", "postgresql", "search version"])
def test_no_other_decimal_or_float_is_a_whole_number(place: str, value: Any) -> None:
    """A fraction, what has no end and what no type holds are refused, and end no run."""
    with pytest.raises(TerminalError):
        WHOLES[place](value)


def test_two_spellings_of_one_index_are_not_one_weight() -> None:
    """A sparse vector that names an index twice would lose a weight."""
    accept = milvus.sparse_vector(field("SparseFloatVector"))
    for value in ({"1": 0.5, 1: 0.25}, [[1, 0.5], [1.0, 0.25]], ["1:0.5", "01:0.25"]):
        with pytest.raises(TerminalError) as caught:
            accept(value)
        assert caught.value.reason == "duplicate-index"
    with pytest.raises(TerminalError):
        accept({1.5: 0.5})


@pytest.mark.parametrize("kind", ["Int8", "Int32", "Float", "Double"])
def test_a_default_that_is_not_a_number_is_told_by_check(kind: str) -> None:
    """Not by the server, once the collection is made."""
    with pytest.raises(ValueError, match="defaultValue"):
        MilvusColumn(name="f", type=kind, default_value="7_0")


def test_decimals_and_floats_that_are_whole() -> None:
    """The value is kept to the last digit."""
    assert whole_of(decimal.Decimal("123456789012345678901234567890.0")) == (
        123456789012345678901234567890
    )
    assert decimal_number(" -0.10 ") == decimal.Decimal("-0.10")
    assert str(decimal_number("-0.10")) == "-0.10"


@pytest.mark.parametrize("text", ["1e400000", "1e-20000", "-1e131072"])
def test_a_number_that_numeric_does_not_hold_is_a_reject(text: str) -> None:
    """The digits of such a number alone would take all memory."""
    with pytest.raises(TerminalError) as caught:
        pg._numeric("c", sql_type("numeric"))(decimal.Decimal(text))
    assert caught.value.reason == "out-of-range"


@pytest.mark.parametrize("text", [*NOT_WHOLE, "²", "+7", "-7", " 7", "7 ", "7\n"])
def test_digits_are_of_ascii_alone_and_nothing_else(text: str) -> None:
    """What is not a number there may be a name or a time."""
    assert digits_of(text) is None
    assert (digits_of("7"), digits_of("007"), digits_of("0")) == (7, 7, 0)
