"""Rows that meet a condition go on; the others are dropped, and their keys deleted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from vecferry.instead import OnReject
from vecferry.rows import DELETE, INSERT, UPDATE, Change, Reject, Substitute
from vecferry.steps import StepContext
from vecferry.transforms.shape.filtering import Filter
from vecferry.transforms.shape.settings import FilterSettings


def filtered(where: str, change: Change, on_reject: OnReject | None = None) -> tuple[Any, Any]:
    """What comes out, if anything, and the counts."""
    context = StepContext(step="F", step_type="filter", on_reject=on_reject or OnReject())
    operator = Filter(FilterSettings(where=where), None, context)
    out = operator.process(change)
    return (out[0][0] if out else None), operator.counts.values


def test_a_row_that_does_not_meet_the_condition_is_dropped():
    """It is not a reject."""
    assert filtered("km > 5", Change({"km": 6}))[0] == {"km": 6}
    assert filtered("km > 5", Change({"km": 5})) == (None, {"rows-dropped": 1})


@pytest.mark.parametrize("mode", ["keep", "delete", "withoutVector"])
def test_an_update_that_is_left_out_becomes_a_delete(mode: Any):
    """Whatever onReject says, for an older row of the key may have passed."""
    update = Change({"id": 1, "km": 2}, kind=UPDATE, version=7, origin="t:1")
    out, counts = filtered("km > 5", update, OnReject(mode=mode, key=("id",)))
    assert (type(out), out.kind, out.version, out["id"]) == (Substitute, DELETE, 7, 1)
    assert counts == {"rows-dropped": 1, "rows-added": 1, "rows-replaced": 1}


def test_a_plain_row_that_is_left_out_deletes_nothing():
    """Unless the job says onReject, as with each row that is dropped."""
    row = Change({"id": 1, "km": 2})
    assert filtered("km > 5", row, OnReject(mode="withoutVector", key=("id",)))[0] is None
    assert filtered("km > 5", row, OnReject(mode="keep", plain=True, key=("id",)))[0] is None
    out, _ = filtered("km > 5", row, OnReject(mode="delete", plain=True, key=("id",)))
    assert out.kind == DELETE


def test_a_delete_passes_without_its_columns():
    """It has its key only."""
    assert filtered("km > 5", Change({"id": 1}, kind=DELETE))[0] == {"id": 1}


def test_a_condition_that_is_not_true_or_false_is_rejected():
    """With the type that it gives."""
    out, _ = filtered("km", Change({"km": 6}, kind=INSERT))
    assert isinstance(out, Reject)
    assert (out.reason, out.message) == (
        "wrong-type",
        "where: gives int, and not true or false; compare it with a value",
    )


def test_the_columns_of_the_condition_are_needed():
    """A condition that can't be read is refused when settings are made."""
    settings = FilterSettings(where="km > 5 && title != ''")
    assert settings.inputs() == settings.decides_by() == ["km", "title"]
    with pytest.raises(ValidationError, match="is not CEL"):
        FilterSettings(where="km >")
