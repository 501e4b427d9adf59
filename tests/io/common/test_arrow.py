"""Arrow arrays to Python values: whatever they hold, wherever a slice of them begins."""

from __future__ import annotations

import contextlib
import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecferry.io.common.arrow import column_values, python_values, require_sound
from vecferry.io.common.unfit import UnfitValue

_FLAT: list[tuple[pa.DataType, Any]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.string(), st.text(max_size=4)),
    (pa.large_string(), st.text(max_size=4)),
    (pa.binary(), st.binary(max_size=4)),
    (pa.binary(2), st.binary(min_size=2, max_size=2)),
    (pa.date32(), st.dates()),
    (pa.time64("us"), st.times()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(datetime.UTC))),
    (pa.decimal128(9, 2), st.decimals(-99, 99, places=2)),
    (pa.null(), st.none()),
]


def _nested(inner: Any) -> Any:
    return inner.flatmap(
        lambda kind: st.sampled_from(
            [
                (pa.list_(kind[0]), st.lists(_or_none(kind), max_size=3)),
                (pa.large_list(kind[0]), st.lists(_or_none(kind), max_size=3)),
                (
                    pa.struct([("a", kind[0]), ("b", pa.int64())]),
                    st.fixed_dictionaries({"a": _or_none(kind), "b": st.integers(0, 9)}),
                ),
                (
                    pa.map_(pa.string(), kind[0]),
                    st.dictionaries(st.text("xyz", max_size=2), _or_none(kind), max_size=3),
                ),
            ]
        )
    )


def _or_none(kind: tuple[pa.DataType, Any]) -> Any:
    return st.none() | kind[1]


def _pairs(value: Any) -> Any:
    """A value as pyarrow takes it, which wants the pairs of a map."""
    if isinstance(value, dict) and set(value) != {"a", "b"}:
        return [(k, _pairs(v)) for k, v in value.items()]
    if isinstance(value, dict):
        return {k: _pairs(v) for k, v in value.items()}
    return [_pairs(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
@given(st.data())
def test_what_went_into_an_array_comes_out_of_any_slice(data: st.DataObject) -> None:
    """Nulls, nested ones too, and the offset of a slice, which each kind of array counts anew."""
    kind = data.draw(st.recursive(st.sampled_from(_FLAT), _nested, max_leaves=3))
    values = data.draw(st.lists(_or_none(kind), min_size=1, max_size=8))
    begin = data.draw(st.integers(0, len(values)))
    end = data.draw(st.integers(begin, len(values)))
    array = pa.array([_pairs(v) for v in values], kind[0])
    found = python_values(array.slice(begin, end - begin))
    assert found == values[begin:end]
    assert [type(v) for v in found] == [type(v) for v in values[begin:end]]


def test_lists_of_a_fixed_size_keep_their_places() -> None:
    """A null takes its room among the items."""
    values = [["a", "b"], None, ["c", None]]
    array = pa.array(values, pa.list_(pa.string(), 2))
    assert python_values(array) == values
    assert python_values(array.slice(1)) == values[1:]


def test_floats_of_16_bits_are_pythons_own() -> None:
    """pyarrow 19 gives numpy's."""
    array = pa.concat_arrays([pa.array(np.array([1.5], np.float16)), pa.nulls(1, pa.float16())])
    assert python_values(array) == [1.5, None]
    assert type(python_values(array)[0]) is float


_OFFSETS = pa.py_buffer(np.array([0, 1, 2], np.int32))


@pytest.mark.parametrize(
    ("column", "good"),
    [
        (pa.array([1, -719163], pa.int32()).cast(pa.date32()), datetime.date(1970, 1, 2)),
        (pa.array([0, 2**62], pa.timestamp("us")), datetime.datetime(1970, 1, 1)),
        (pa.array([[("k", 1)], [("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64())), {"k": 1}),
        (pa.StringArray.from_buffers(2, _OFFSETS, pa.py_buffer(b"a\xff")), "a"),
    ],
)
def test_one_value_that_python_lacks_costs_only_itself(column: pa.Array, good: Any) -> None:
    """A day or time out of the years 1 to 9999, a key that stands twice, a text that is none."""
    (first, second), unfit = column_values(column, None)
    assert (first, unfit) == (good, True)
    assert isinstance(second, UnfitValue)
    assert "can't be read" in second.message


def test_decimals_are_exact() -> None:
    """Of any width."""
    value = decimal.Decimal("12345678901234567890.123456789012345678")
    assert python_values(pa.array([value, None])) == [value, None]


def test_texts_that_are_not_utf_8_are_sound_and_offsets_that_lead_outside_are_not() -> None:
    """Such a text is a reject of its row; such an offset would end the process."""
    within = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    far = pa.array([0, 1 << 30, 2], pa.int32()).buffers()[1]
    data = pa.py_buffer(b"\xff\xfe")
    build = pa.Array.from_buffers
    for offsets, sound in ((within, True), (far, False)):
        texts = build(pa.string(), 2, [None, offsets, data])
        of_one = [None, pa.array([0, 2], pa.int32()).buffers()[1]]
        of_one_large = [None, pa.array([0, 2], pa.int64()).buffers()[1]]
        struct = build(pa.struct([("k", pa.string())]), 2, [None], children=[texts])
        columns = [
            texts,
            build(pa.list_(pa.string()), 1, of_one, children=[texts]),
            build(pa.large_list(pa.string()), 1, of_one_large, children=[texts]),
            struct,
            build(pa.list_(struct.type), 1, of_one, children=[struct]),
        ]
        for column in columns:
            batch = pa.RecordBatch.from_arrays([column], ["c"])
            with contextlib.nullcontext() if sound else pytest.raises(pa.ArrowInvalid):
                require_sound(batch)
