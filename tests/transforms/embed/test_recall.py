"""Vectors that are known already, given without a request."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transforms.embed.support import embedder, good, on_its_own_row, run, settings_for
from vecferry.process import end_run
from vecferry.rows import DELETE, Change, Reject

LONG = "A sentence of some words. " * 2000  # 13,000 tokens, of which 8,192 are allowed


def cached(tmp_path):
    return {"vectorCache": {"uri": f"sqlite:///{tmp_path}/vectors.db"}}


def other_run(settings):
    """An engine of a run that has embedded nothing yet."""
    return embedder(settings)


def embed(settings, texts):
    """The rows of these texts, embedded by a run that ended; by text."""
    engine = embedder(settings)
    out = good(run(engine, [{"id": i, "text": text} for i, text in enumerate(texts)]))
    end_run(engine._context.run)
    return {change["text"]: change["vector"] for change in out}


def test_what_a_vector_cache_holds_comes_without_a_request(server, tmp_path):
    """What it does not hold is left out; a row stays in its place, as the change that it is."""
    settings = settings_for(server, **cached(tmp_path))
    embed(settings, ["one", "two"])
    before = len(server.requests)
    engine = other_run(settings)
    rows = [Change({"text": text}, version=n) for n, text in enumerate(["two", "new", "one"])]
    rows.append(Change({"id": 1}, kind=DELETE, version=9))
    out = engine.recall(rows)
    assert [row.version for row in out] == [0, 1, 2, 9]
    assert on_its_own_row(out[0])
    assert on_its_own_row(out[2])
    assert ["vector" in row for row in out] == [True, False, True, False]
    assert len(server.requests) == before


def test_without_a_vector_cache_only_this_run_is_known(server):
    """From its memory."""
    engine = embedder(settings_for(server))
    known, unknown = Change({"text": "here"}), Change({"text": "elsewhere"})
    for _ in engine.process(known):
        pass
    engine.finish()
    first, second = engine.recall([known, unknown])
    assert on_its_own_row(first)
    assert "vector" not in second


@pytest.mark.parametrize("over", ["truncate", "split", "reject"])
def test_a_long_text_is_known_as_it_was_sent(server, tmp_path, over):
    """Cut, in pieces, or not at all."""
    settings = settings_for(server, overLimit=over, **cached(tmp_path))
    sent = embed(settings, [LONG, "short"])
    (row,) = other_run(settings).recall([Change({"text": LONG})])
    assert ("vector" in row) == (over != "reject")
    if over != "reject":
        assert np.array_equal(row["vector"], sent[LONG])


@pytest.mark.parametrize("text", ["", None])
def test_a_row_without_a_text_is_what_the_step_makes_of_it(server, text):
    """A reject, or a row whose vector is null; a row without the column is a reject as well."""
    (reject,) = embedder(settings_for(server)).recall([Change({"text": text})])
    assert isinstance(reject, Reject)
    assert reject.reason == "empty-text"
    (row,) = embedder(settings_for(server, skipEmptyValue=True)).recall([Change({"text": text})])
    assert row["vector"] is None
    (reject,) = embedder(settings_for(server)).recall([Change({"id": 1})])
    assert reject.reason == "missing-column"
    assert server.requests == []
