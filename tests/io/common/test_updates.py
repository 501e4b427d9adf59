"""What becomes of an update, by the columns that make the writer's id and that are written."""

from __future__ import annotations

import decimal
import math
from typing import Any

import numpy as np
import pytest

from vecferry.errors import FatalError
from vecferry.io.common.updates import Updates
from vecferry.rows import DELETE, UPDATE, Change
from vecferry.steps import Counts, ReadOptions

GONE, NEW = ("-D", 3), ("+U", 4)

ROW = {"id": 1, "shop": "a", "text": "old", "note": "x"}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[tuple[str, int]], dict[str, int]]] = {
    # what changes, options, what comes out, what is counted
    "the text": ({"text": "new"}, {}, [NEW], {}),
    "a column that makes the id": ({"id": 2}, {}, [GONE, NEW], {"rows-added": 1}),
    "a column that routes": ({"shop": "b"}, {}, [GONE, NEW], {"rows-added": 1}),
    "a column that is not written": ({"note": "y"}, {}, [], {"rows-dropped": 1}),
    "nothing": ({}, {}, [], {"rows-dropped": 1}),
    "a column, and any may be written": ({"note": "y"}, {"mapped_columns": None}, [NEW], {}),
    "nothing, and any may be written": ({}, {"mapped_columns": None}, [NEW], {}),
    "the source's key, and the id is not known": (
        {"id": 2},
        {"id_columns": None},
        [GONE, NEW],
        {"rows-added": 1},
    ),
    "what routes, and the id is not known": ({"shop": "b"}, {"id_columns": None}, [NEW], {}),
    "the source's key, and rows have no id": ({"id": 2}, {"id_columns": ()}, [NEW], {}),
}


@pytest.mark.parametrize(("changed", "told", "expected", "counted"), CASES.values(), ids=CASES)
def test_an_update_becomes_what_a_sink_can_carry_out(
    changed: dict[str, Any],
    told: dict[str, Any],
    expected: list[tuple[str, int]],
    counted: dict[str, int],
) -> None:
    """A delete of the old row, with its values and version, comes before the new row."""
    options = ReadOptions(
        **{"id_columns": ("id", "shop"), "mapped_columns": ("id", "shop", "text"), **told}
    )
    counts = Counts()
    old, new = Change(ROW, version=3, origin="log:7"), Change(ROW, version=4, origin="log:7")
    new.update(changed)
    out = Updates(options, ["id"], counts).of(old, new)
    assert [(change.kind, change.version) for change in out] == expected
    assert counts.values == counted
    by_kind = {change.kind: dict(change) for change in out}
    assert by_kind.get(DELETE, ROW) == ROW
    assert by_kind.get(UPDATE, new) == new
    assert len({change.origin for change in out}) == len(out)


VALUES: list[tuple[Any, Any, bool]] = [
    ("a", "a", True),
    ("a", b"a", False),
    (1, True, False),
    (1, 1.0, False),
    (None, None, True),
    (None, "", False),
    (math.nan, math.nan, True),
    (decimal.Decimal("1.0"), decimal.Decimal("1.00"), False),
    ({"a": [1, 2]}, {"a": [1, 2]}, True),
    ({"a": [1, 2]}, {"a": [2, 1]}, False),
    (np.float32([1, 2]), np.float32([1, 2]), True),
    (np.float32([1, 2]), np.float32([1, 3]), False),
]


@pytest.mark.parametrize(("one", "other", "same"), VALUES)
def test_a_value_that_may_be_written_otherwise_is_another_value(
    one: Any, other: Any, same: bool
) -> None:
    """An update is dropped only where the target would get the same."""
    updates = Updates(ReadOptions(id_columns=(), mapped_columns=("v",)), [], Counts())
    assert (updates.of(Change({"v": one}), Change({"v": other})) == []) == same


def test_an_old_row_without_its_id_is_told() -> None:
    """Else the old row would stay in the target for ever."""
    updates = Updates(ReadOptions(id_columns=("id",), mapped_columns=("id",)), [], Counts())
    with pytest.raises(FatalError, match=r"column 'id' makes the id .*log:7.*log whole rows"):
        updates.of(Change({"text": "a"}), Change({"id": 1, "text": "b"}, origin="log:7"))


def test_what_an_old_row_lacks_counts_as_changed() -> None:
    """A log may tell only the columns that identify the old row."""
    updates = Updates(ReadOptions(id_columns=("id",), mapped_columns=("id", "v")), [], Counts())
    (change,) = updates.of(Change({"id": 1}), Change({"id": 1, "v": 2}))
    assert change.kind == UPDATE
