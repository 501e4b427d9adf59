"""What goes on in place of a rejected change, and what of it is counted."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from vecferry.instead import KEEP, OnReject
from vecferry.rows import DELETE, INSERT, UPDATE, Change, Substitute
from vecferry.steps import Counts, StepContext, goes_on

ROW = {"id": 1, "text": "new", "vector": "bad"}
WITHOUT = (UPDATE, {"id": 1, "text": "new", "vector": None})
GONE = (DELETE, ROW)

WANTED: dict[str, tuple[OnReject, dict[str, Any], tuple[str, ...], Any]] = {
    # what the job says, the change, the vectors that failed, what goes on
    "a vector failed": (OnReject(mode="withoutVector"), {"version": 5}, ("vector",), WITHOUT),
    "something else failed": (OnReject(mode="withoutVector"), {"version": 5}, (), GONE),
    "a vector failed, to be deleted": (OnReject(mode="delete"), {"version": 5}, ("vector",), GONE),
    "the old row is kept": (OnReject(mode="keep"), {"version": 5}, ("vector",), None),
    "nobody says anything": (KEEP, {"version": 5}, ("vector",), None),
    "an update without a version": (
        OnReject(mode="withoutVector"),
        {"kind": UPDATE},
        ("vector",),
        WITHOUT,
    ),
    "a plain row": (OnReject(mode="withoutVector"), {}, ("vector",), None),
    "a plain row of a job that says so": (
        OnReject(mode="withoutVector", plain=True),
        {},
        ("vector",),
        WITHOUT,
    ),
    "a delete": (OnReject(mode="withoutVector"), {"kind": DELETE}, ("vector",), GONE),
    "the key is known": (OnReject(mode="delete", key=("id",)), {"version": 5}, (), GONE),
    "the key is not known": (OnReject(mode="delete", key=("id", "shop")), {"version": 5}, (), None),
    "rows have no key": (OnReject(mode="delete", key=()), {"version": 5}, (), None),
}


@pytest.mark.parametrize(("says", "told", "without", "expected"), WANTED.values(), ids=WANTED)
def test_what_goes_on_is_what_the_job_says(
    says: OnReject, told: dict[str, Any], without: tuple[str, ...], expected: Any
) -> None:
    """With the version and the origin of the rejected change."""
    change = Change(ROW, origin="log:1", **told)
    found = says.of(change, without)
    assert (found and (found.kind, dict(found))) == expected
    if found is not None:
        assert (found.version, found.origin) == (change.version, "log:1")
    assert dict(change) == ROW


def test_a_substitute_stays_one_wherever_it_goes() -> None:
    """Copied by a step, or sent to another worker."""
    one = OnReject(mode="withoutVector").of(Change(ROW, version=2, origin="log:1"), ["vector"])
    assert one is not None
    for other in (pickle.loads(pickle.dumps(one)), one.with_columns({"more": 1})):
        assert type(other) is Substitute
        assert (other.kind, other.version, other.origin) == (UPDATE, 2, "log:1")


def test_a_row_is_told_and_counted_once_however_many_steps_refuse_it() -> None:
    """The second step hands on a delete, and rejects nothing anew."""
    counts = Counts()
    asked = StepContext(step="Step", step_type="own", on_reject=OnReject(mode="withoutVector"))
    first = asked.reject("poison", "bad", row=Change(ROW, version=1), without=["vector"])
    assert not first.quiet
    second = asked.reject("null", "no null here", row=goes_on(first, counts))
    assert second.quiet
    last = goes_on(second, counts)
    assert last is not None
    assert last.kind == DELETE
    assert counts.values == {"rows-added": 1, "rows-replaced": 1}


@pytest.mark.parametrize("kind", [INSERT, UPDATE])
def test_a_reader_hands_on_a_delete_of_a_record_whose_key_is_known(kind: str) -> None:
    """The record itself is not a row, and stands in the reject as it is."""
    known = Change({"id": 7}, kind=kind, version=3, origin="log:9")
    reject = StepContext(
        step="Step", step_type="own", on_reject=OnReject(mode="withoutVector", key=("id",))
    ).reject("unreadable", "column 'text' can't be read", raw=b"\xff", key=[7], known=known)
    assert (reject.row, reject.raw, reject.key, reject.origin) == (None, b"\xff", [7], "log:9")
    assert reject.instead is not None
    assert (reject.instead.kind, dict(reject.instead)) == (DELETE, {"id": 7})
