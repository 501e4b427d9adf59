"""The embedding engine: each vector on its own row, each text sent once, in full batches."""

from __future__ import annotations

import json
import math
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.support import (
    DIMENSION,
    context,
    embedder,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.errors import JobError
from vecferry.process import end_run
from vecferry.rows import DELETE, UPDATE, Change
from vecferry.transforms.embed import engine as embed_engine
from vecferry.transforms.embed.engine import Embedder

DOCS = Path(__file__).parents[3] / "docs" / "embedding.md"


@pytest.mark.slow
def test_every_vector_stands_on_the_row_of_its_text(server):
    """A thousand rows come out with the vector of their own text and all their columns."""
    out = run(embedder(settings_for(server)), rows_of(1000))
    assert sorted(row["id"] for row in out) == list(range(1000))
    assert all(on_its_own_row(row) for row in out)
    assert all(row["vector"].dtype == np.float32 for row in out)


@pytest.mark.parametrize(("rows", "distinct"), [(95, 95), (500, 250), (7, 1)])
def test_each_distinct_text_is_sent_once_in_full_batches(server, rows, distinct):
    """Requests = ceil(distinct texts / batchSize); no text is sent twice."""
    engine = embedder(settings_for(server))
    out = run(engine, rows_of(rows, distinct))
    assert len(out) == rows
    assert len(server.sent()) == len(set(server.sent())) == distinct
    assert server.number == math.ceil(distinct / 10)
    counts = engine.counts.values
    assert counts["embed-requests"] == server.number
    assert counts["embed-inputs"] == counts["cache-misses"] == distinct
    assert counts.get("cache-hits", 0) == rows - distinct


def test_a_later_bundle_of_the_run_sends_nothing_that_the_cache_holds(server):
    """The cache outlives bundles; another run has one of its own."""
    one_run = context()
    for _ in range(2):
        run(Embedder(settings_for(server), None, one_run), rows_of(50))
    assert server.number == 5
    run(embedder(settings_for(server)), rows_of(50))
    assert server.number == 10


def test_a_forgotten_run_leaves_its_cache_and_connections(server):
    """A run that has ended keeps neither vectors nor connections."""
    one_run = context()
    run(Embedder(settings_for(server), None, one_run), rows_of(5))
    end_run(one_run.run)
    run(Embedder(settings_for(server), None, one_run), rows_of(5))
    assert server.number == 2


def test_the_input_row_is_left_alone(server):
    """What comes out is a copy that is still a change, with its kind, version and origin."""
    row = Change({"text": "x"}, kind=UPDATE, version=7, origin="file:3")
    out = run(embedder(settings_for(server)), [row])
    assert row == {"text": "x"}
    assert (out[0].kind, out[0].version, out[0].origin) == (UPDATE, 7, "file:3")


def test_vectors_that_rows_share_are_read_only(server):
    """Nobody can change another row's vector."""
    first, second = run(embedder(settings_for(server)), rows_of(2, 1))
    assert first["vector"] is second["vector"]
    assert not first["vector"].flags.writeable


def test_the_requests_say_what_the_provider_takes(server):
    """Model, dimension and key go as the protocol has them; text only as often as needed."""
    run(embedder(settings_for(server)), rows_of(1))
    seen = server.requests[0]
    assert seen.request == {
        "model": "text-embedding-v4",
        "dimensions": DIMENSION,
        "encoding_format": "base64",
        "input": ["text 0"],
    }
    assert seen.headers["authorization"] == "Bearer sk-test"


def test_a_row_gets_all_its_vectors_at_once(server):
    """With a list of embeddingColumns a row leaves once, complete; equal texts cost one."""
    columns = [
        {"sourceColumnNames": ["title"], "embeddingColumnName": "title_vector"},
        {"sourceColumnNames": ["title", "body"], "embeddingColumnName": "vector"},
        {"sourceColumnNames": "body", "embeddingColumnName": "body_vector"},
    ]
    engine = embedder(settings_for(server, embeddingColumns=columns))
    out = run(engine, [{"title": f"t{i}", "body": "same"} for i in range(20)])
    assert len(out) == 20
    for row in out:
        assert (row["title_vector"] == vector_of(row["title"], DIMENSION)).all()
        assert (row["vector"] == vector_of(f"{row['title']}\nsame", DIMENSION)).all()
        assert (row["body_vector"] == vector_of("same", DIMENSION)).all()
    assert server.inputs_seen == 41


def test_changes_leave_in_the_order_in_which_they_came(server):
    """A delete, which needs no call, does not overtake the update before it."""
    kinds = [UPDATE, DELETE, "+I"]
    rows = [
        Change({"id": i, "text": f"text {i}"}, kind=kinds[i % 3], version=i) for i in range(400)
    ]
    out = run(embedder(settings_for(server), concurrent=4), rows)
    assert [row["id"] for row in out] == list(range(400))
    assert all(("vector" in row) == (row.kind != DELETE) for row in out)
    assert all(on_its_own_row(row) for row in out if row.kind != DELETE)


def test_a_change_waits_for_the_plain_rows_before_it(server):
    """Rows that came before the first change leave before it."""
    rows = [*rows_of(25), Change({"id": 25}, kind=DELETE)]
    out = run(embedder(settings_for(server)), rows)
    assert out[-1].kind == DELETE
    assert len(out) == 26


def test_a_window_of_changes_never_holds_more_than_it_may(server):
    """Deletes behind an unsent text are held back by a window, not by the end of the bundle."""
    engine = embedder(settings_for(server), concurrent=1)
    engine.process(Change({"id": 0, "text": "alone"}, version=0))
    held = 0
    for i in range(1, 100):
        out = engine.process(Change({"id": i}, kind=DELETE, version=i))
        held = max(held, i)
        if out:
            break
    assert held < 4 * 1 * 10
    assert out[0][0]["id"] == 0
    engine.close()


def test_rows_waiting_for_one_text_are_bounded(server):
    """A stream of one text does not pile up: it is sent before the batch is full."""
    engine = embedder(settings_for(server), concurrent=1)
    came = 0
    for i in range(20_000):
        came += len(engine.process(Change({"id": i, "text": "same"})))
        if came:
            break
    assert 0 < came <= 5000
    engine.close()


@pytest.mark.slow
def test_process_waits_while_the_endpoint_is_behind():
    """No more than twice the requests in flight are packed; and no more than those are sent."""
    with EndpointServer(latency=0.02) as server:
        engine = embedder(settings_for(server), concurrent=3)
        for row in rows_of(300):
            engine.process(Change(row))
            assert engine._outbox._under_way <= 6
        engine.finish()
        engine.close()
        assert server.most_under_way == 3


def test_parallel_streams_share_the_requests_in_flight(server):
    """`concurrent` holds for the whole job: each of two streams has half of it."""
    assert context(concurrent=8, parallelism=2).in_flight() == 4
    engine = embedder(settings_for(server), concurrent=1, parallelism=4)
    assert len(run(engine, rows_of(30))) == 30


def _documented_cases():
    for line in DOCS.read_text().splitlines():
        cells = [c.strip().strip("`") for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 6 and cells[2] in ("true", "false"):
            yield pytest.param(*(c.replace("\\|", "|") for c in cells), id=line.strip("| "))


CASES = list(_documented_cases())


@pytest.mark.parametrize(("a", "b", "null_as_empty", "skip_empty", "named", "gives"), CASES)
def test_null_and_empty_are_as_documented(server, a, b, null_as_empty, skip_empty, named, gives):
    """Each line of the table in the docs holds, and no empty text is ever sent."""
    settings = settings_for(
        server,
        embeddingColumns={"sourceColumnNames": ["a", "b"], "embeddingColumnName": "vector"},
        appendDelimiter="|",
        nullAsEmptyString=null_as_empty,
        skipEmptyValue=skip_empty,
        appendFieldNameEnable=named,
        appendFieldNameDelimiter="=",
    )
    cells = {"a": a, "b": b}
    row = {name: json.loads(cell) for name, cell in cells.items() if cell != "*absent*"}
    (item,) = run(embedder(settings), [row])
    if gives.startswith("rejected: "):
        assert item.reason == gives.removeprefix("rejected: ")
        assert server.number == 0
    elif gives == "null":
        assert item["vector"] is None
        assert server.number == 0
    else:
        assert (item["vector"] == vector_of(gives, DIMENSION)).all()
        assert server.sent() == [gives]


def test_the_table_of_the_docs_was_found():
    """The test above has cases."""
    assert len(CASES) >= 22


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("", None), (" ", " "), (3, "3"), (b"\xc3\xa9", "é"), (1.5, "1.5")],
    ids=["null", "empty", "space", "number", "bytes", "float"],
)
def test_a_single_column_follows_the_same_rules(server, value, text):
    """Null and empty are rows without text; other values become text."""
    (item,) = run(embedder(settings_for(server)), [{"text": value}])
    if text is None:
        assert item.reason == "empty-text"
    else:
        assert (item["vector"] == vector_of(text, DIMENSION)).all()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"body": "x"}, "missing-column"),
        ({"text": b"\xff"}, "bad-text"),
        ({"text": object()}, "bad-text"),
        ({"text": "half \ud83d character"}, "bad-text"),
    ],
    ids=["missing column", "invalid bytes", "no text", "lone surrogate"],
)
def test_a_row_that_gives_no_text_is_rejected_alone(server, row, reason):
    """The reject has the row and its origin; the rows beside it are embedded."""
    bad = Change(row, origin="file:9")
    out = run(embedder(settings_for(server)), [*rows_of(15), bad, *rows_of(5)])
    assert len(good(out)) == 20
    (reject,) = rejects(out)
    assert (reject.reason, reject.origin, reject.row) == (reason, "file:9", bad)
    assert server.number <= 3


def test_long_texts_are_found_in_the_cache_too(server):
    """A text that the cache knows by its digest is sent once as well."""
    one_run = context()
    rows = [{"text": f"{i} " + "long " * 1000} for i in range(3)]
    run(Embedder(settings_for(server), None, one_run), rows)
    out = run(Embedder(settings_for(server), None, one_run), rows)
    assert server.number == 1
    assert all(on_its_own_row(row) for row in out)


def test_counters_are_those_of_the_bundles_thread(server):
    """Counting happens in the thread that calls, never in one that carries a batch."""
    engine = embedder(settings_for(server))
    threads = set()
    add = engine.counts.add
    engine.counts.add = lambda *a: (threads.add(threading.get_ident()), add(*a))[1]
    run(engine, rows_of(100))
    assert threads == {threading.get_ident()}
    assert len(engine.counts.samples["embed-msec"]) == 10


def test_check_makes_one_call_and_verifies_the_dimension(server):
    """A model that gives another size is found before the run, with the right number."""
    embedder(settings_for(server)).check()
    assert server.number == 1
    server.fault = lambda n, _: "wrong-dimension"
    try:
        with pytest.raises(JobError, match=r"vectors of 32 .* set dimension to 32"):
            embedder(settings_for(server)).check()
    finally:
        server.fault = None


def test_reach_connects_and_asks_for_nothing(server):
    """`reach` costs nothing; where nobody listens it says so."""
    embedder(settings_for(server)).reach()
    assert server.number == 0
    with pytest.raises(JobError, match=r"127\.0\.0\.1:1/.* check endpoint"):
        embedder(settings_for(None)).reach()


def test_a_query_gets_the_vector_of_its_text(server):
    """What a user verifies a run with."""
    vector = embedder(settings_for(server)).embed_query("where is it?")
    assert (vector == vector_of("where is it?", DIMENSION)).all()


def test_an_engine_may_be_closed_with_rows_inside(server):
    """A bundle that failed leaves no thread that goes on."""
    engine = embedder(settings_for(server))
    for row in rows_of(35):
        engine.process(Change(row))
    engine.close()
    assert engine._outbox._pool._threads == 0


def test_rows_that_wait_for_texts_are_bounded_by_all_their_bytes(server, monkeypatch):
    """Also by those of columns that the step does not embed, such as an image for a later step."""
    monkeypatch.setattr(embed_engine, "MOST_HELD", 4 << 20)
    engine = embedder(settings_for(server))
    held, out = [], []
    for row in rows_of(100):
        out += engine.process(Change({**row, "image": bytes(1 << 20)}))
        held.append(engine._held)
    out += engine.finish()
    engine.close()
    assert len(good(item for item, _ in out)) == 100
    assert max(held) < (4 << 20) + (2 << 20)
    assert engine._held == 0
