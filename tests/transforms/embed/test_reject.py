"""What goes on in place of a change whose text gets no vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.support import DIMENSION, context, good, rejects, run, settings_for
from vecferry.instead import KEEP, OnReject
from vecferry.rows import DELETE, UPDATE, Change, Substitute
from vecferry.transforms.embed.engine import Embedder

WITHOUT, GONE = OnReject(mode="withoutVector"), OnReject(mode="delete")
TWO = {
    "embeddingColumns": [
        {"sourceColumnNames": ["text"], "embeddingColumnName": "vector"},
        {"sourceColumnNames": ["title"], "embeddingColumnName": "second"},
    ]
}


def engine(server: EndpointServer, says: OnReject, **more: Any) -> Embedder:
    """An engine of a run of its own."""
    budget = more.pop("budget", {})
    told = dataclasses.replace(context(**budget), on_reject=says)
    return Embedder(settings_for(server, **TWO, **more), None, told)


def shown(row: Change) -> dict[str, Any]:
    """A row; in place of a vector, whether it is that of its text."""
    out = dict(row)
    for name, source in (("vector", "text"), ("second", "title")):
        if out.get(name) is not None:
            out[name] = bool((out[name] == vector_of(out[source], DIMENSION)).all())
    return out


ROW = {"id": 1, "text": "fine", "title": "good"}

FAULTS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    # what the row says -> the reason of its reject, the vectors that go on
    "one text": ({"text": "POISON"}, "refused-input", {"vector": None, "second": True}),
    "both texts": (
        {"text": "POISON", "title": "more POISON"},
        "refused-input",
        {"vector": None, "second": None},
    ),
    "an empty text": ({"title": ""}, "empty-text", {"vector": True, "second": None}),
    "an empty text and a bad one": (
        {"text": None, "title": "POISON"},
        "empty-text",
        {"vector": None, "second": None},
    ),
    "a value that is not a text": (
        {"text": object()},
        "bad-text",
        {"vector": None, "second": True},
    ),
}


@pytest.mark.parametrize(("given", "reason", "vectors"), FAULTS.values(), ids=FAULTS)
def test_a_change_goes_on_without_the_vector_that_failed(server, given, reason, vectors):
    """With its other vectors; its neighbours keep their places."""
    bad = Change({**ROW, **given}, kind=UPDATE, version=2, origin="log:2")
    before, after = (
        Change({**ROW, "id": n, "text": f"text {n}"}, kind=UPDATE, version=n) for n in (0, 9)
    )
    first, reject, last = run(engine(server, WITHOUT), [before, bad, after])
    assert (first["id"], last["id"]) == (0, 9)
    assert (reject.reason, reject.row) == (reason, bad)
    assert type(reject.instead) is Substitute
    assert shown(reject.instead) == {**bad, **vectors}
    assert (reject.instead.kind, reject.instead.version) == (UPDATE, 2)


@pytest.mark.parametrize(("says", "kind"), [(GONE, DELETE), (KEEP, None)])
def test_a_change_is_deleted_or_kept_where_the_job_says_so(server, says, kind):
    """At once: no other vector is waited for."""
    (reject,) = run(engine(server, says), [Change({**ROW, "text": "POISON"}, version=2)])
    assert (reject.instead and reject.instead.kind) == kind


def test_pieces_of_one_text_fail_once(server):
    """A text that is embedded in pieces, of which several are refused."""
    text = " ".join(["word POISON"] * 4000)
    out = run(
        engine(server, WITHOUT, overLimit="split", maxTokens=1000),
        [Change({**ROW, "text": text}, version=2), Change(ROW, version=3)],
    )
    (reject,), (row,) = rejects(out), good(out)
    assert shown(reject.instead)["second"] is True
    assert reject.instead["vector"] is None
    assert shown(row)["vector"] is True


def test_a_row_beyond_the_budget_stays_as_it_is(server):
    """The run fails, and the row comes again: nothing of it is at fault."""
    rows = [Change({**ROW, "text": f"text {n}"}, version=n) for n in range(40)]
    out = run(engine(server, WITHOUT, budget={"requests": 1}, batchSize=10), rows)
    beyond = rejects(out)
    assert {(r.reason, r.instead) for r in beyond} == {("over-budget", None)}
    assert len(out) == 40


def test_a_substitute_that_fails_again_is_not_told_again(server):
    """A step before has rejected it; this step takes its own vector away as well."""
    row = Change({**ROW, "text": "POISON", "before": None}, version=2)
    given = WITHOUT.of(row, ["before"])
    (reject,) = run(engine(server, WITHOUT), [given])
    assert reject.quiet
    assert shown(reject.instead) == {**row, "vector": None, "second": True}


def test_plain_rows_are_rejected_without_waiting_for_their_other_vectors(server):
    """As before: no change, nothing in place of it."""
    out = run(engine(server, WITHOUT), [{**ROW, "text": "POISON"}, ROW])
    (reject,), (row,) = rejects(out), good(out)
    assert reject.instead is None
    assert isinstance(row["vector"], np.ndarray)
