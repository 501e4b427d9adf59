"""What is learned of an endpoint: limits without words, kept for the next bundle."""

from __future__ import annotations

import random

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import (
    context,
    embedder,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.transforms.embed.engine import Embedder
from vecferry.transforms.embed.learned import Bounds, Learned

pytestmark = pytest.mark.usefixtures("virtual_time")

UNKNOWN = {"modelName": "a model nobody knows"}


def _over(kind, most):
    return lambda _, inputs: kind if len(inputs) > most else None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["400", "413", "422", "error-200"])
@pytest.mark.parametrize(("batch", "most"), [(16, 8), (16, 7), (100, 25), (64, 1), (20, 19)])
def test_a_limit_that_nobody_names_is_learned_by_one_batch(kind, batch, most):
    """No row is lost; from the first halves on no request is refused."""
    with EndpointServer(fault=_over(kind, most), max_inputs=1000) as server:
        engine = embedder(settings_for(server, batchSize=batch, **UNKNOWN), concurrent=1)
        out = run(engine, rows_of(400))
        refused = [seen for seen in server.requests if len(seen.inputs) > most]
    assert len(good(out)) == 400
    assert all(on_its_own_row(row) for row in out)
    assert len(refused) <= 2 * batch // most
    assert server.number - len(refused) <= 2.4 * 400 / most + 2


def test_the_next_bundle_of_a_process_knows_it():
    """The first bundle pays for the lesson alone."""
    with EndpointServer(fault=_over("400", 4), max_inputs=1000) as server:
        settings = settings_for(server, batchSize=16, cacheBytes=0, **UNKNOWN)
        shared = context(concurrent=1)
        run(Embedder(settings, None, shared), rows_of(64))
        server.forget()
        run(Embedder(settings, None, shared), rows_of(64))
        assert [seen.status for seen in server.requests] == [200] * 16


def test_a_limit_of_bytes_is_learned():
    """Heavy texts go in smaller requests, light ones in full ones."""
    heavy = lambda _, inputs: "413" if sum(map(len, inputs)) > 5000 else None  # noqa: E731
    rows = [{"id": i, "text": f"{i} " + "x" * (900 if i < 100 else 10)} for i in range(200)]
    with EndpointServer(fault=heavy, max_inputs=1000) as server:
        engine = embedder(settings_for(server, batchSize=20, **UNKNOWN), concurrent=1)
        out = run(engine, rows)
        refused = server.statuses[413]
        most = max(len(seen.inputs) for seen in server.good)
    assert len(good(out)) == 200
    assert refused <= 8
    assert most == 20


def test_a_poison_teaches_no_limit():
    """The other texts still go in full batches."""
    rows = rows_of(200)
    for row in rows[5::50]:
        row["text"] += " POISON"
    with EndpointServer(max_inputs=1000) as server:
        engine = embedder(settings_for(server, batchSize=20, **UNKNOWN), concurrent=1)
        out = run(engine, rows)
        assert len(rejects(out)) == 4
        assert [len(seen.inputs) for seen in server.good].count(20) == 6


def test_what_was_served_is_never_forbidden():
    """A refusal now and then of what passes otherwise makes no limit."""
    bounds = Bounds()
    bounds.serve(10, 1000)
    bounds.exceed(10, 900, too_large=False)
    assert (bounds.most, bounds.weight) == (None, None)
    bounds.exceed(20, 900, too_large=False)
    assert (bounds.most, bounds.weight) == (10, None)
    bounds.exceed(10, 2000, too_large=True)
    assert (bounds.most, bounds.weight) == (10, 1000)


def test_an_input_that_is_too_heavy_goes_alone():
    """Requests keep to both bounds, and every input is in one."""
    learned = Learned()
    learned.texts.most, learned.texts.weight = 3, 10
    texts = ["aaaa", "bbbb", "c" * 50, "d", "e", "f", "g"]
    assert learned.parts(texts) == [["aaaa", "bbbb"], ["c" * 50], ["d", "e", "f"], ["g"]]


@pytest.mark.parametrize(
    "fault",
    [
        lambda n, inputs: "500" if "text 33" in inputs else None,
        lambda n, inputs: "502" if "text 33" in inputs else None,
        lambda n, inputs: "503" if "text 33" in inputs else None,
        lambda n, inputs: "418" if "text 33" in inputs else None,
        lambda n, inputs: "451" if "text 33" in inputs else None,
        lambda n, inputs: "reset" if "text 33" in inputs else None,
        lambda n, inputs: "html" if "text 33" in inputs else None,
        lambda n, inputs: "truncated" if "text 33" in inputs else None,
        lambda n, inputs: "nan" if "text 33" in inputs else None,
    ],
    ids=["500", "502", "503", "418", "451", "reset", "html", "truncated", "nan"],
)
def test_a_text_that_a_server_fails_on_is_found_and_rejected(fault):
    """Whatever the failure: the rows beside it are embedded, and the run ends well."""
    with EndpointServer(fault=fault, base64_allowed=False) as server:
        out = run(embedder(settings_for(server), concurrent=2), rows_of(60))
        assert [reject.row["id"] for reject in rejects(out)] == [33]
        assert len(good(out)) == 59
        assert all(on_its_own_row(row) for row in good(out))
        assert server.number <= 6 + 50


@pytest.mark.slow
@pytest.mark.parametrize("percent", [30, 60, 80])
def test_an_overloaded_server_costs_no_row(percent):
    """However many answers are 503, by chance and not by text."""
    chance = random.Random(percent)
    fault = lambda n, _: "503" if chance.random() < percent / 100 else None  # noqa: E731
    with EndpointServer(fault=fault) as server:
        out = run(embedder(settings_for(server), concurrent=4), rows_of(200))
        assert len(good(out)) == 200
        assert server.inputs_seen <= 200 + 30


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["short", "extra", "short-without-index"])
@pytest.mark.parametrize(("percent", "singles"), [(1, 0), (5, 0), (20, 200)])
def test_short_answers_by_chance_do_not_end_batches(kind, percent, singles):
    """A batch whose two answers were short goes one by one, and others go on as batches."""
    several_batches = 60  # 0.5 batches are expected at 5 percent, and chance may make more of them
    chance = random.Random(percent)
    fault = lambda _, inputs: (  # noqa: E731
        kind if len(inputs) > 1 and chance.random() < percent / 100 else None
    )
    with EndpointServer(fault=fault) as server:
        engine = embedder(settings_for(server), concurrent=4)
        out = run(engine, rows_of(2000))
        assert len(good(out)) == 2000
        assert all(on_its_own_row(row) for row in out)
        assert sum(len(seen.inputs) == 1 for seen in server.requests) <= singles + several_batches
        assert not engine._shared.learned.singly


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["short", "extra", "same"])
def test_a_server_that_answers_batches_well_again_gets_batches_again(kind):
    """A whole batch is tried now and then, ever more seldom."""
    fault = lambda n, inputs: kind if len(inputs) > 1 and n < 300 else None  # noqa: E731
    with EndpointServer(fault=fault) as server:
        engine = embedder(settings_for(server), concurrent=1)
        out = run(engine, rows_of(1500))
        assert len(good(out)) == 1500
        assert all(on_its_own_row(row) for row in out)
        assert len(server.requests[-1].inputs) == 10
        assert server.number <= 330 + 64 * 10 + 100


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["short", "extra"])
def test_a_server_that_never_answers_batches_well_is_found_soon(kind):
    """Little is paid twice: a few batches, and the batches that are tried again."""
    fault = lambda _, inputs: kind if len(inputs) > 1 else None  # noqa: E731
    with EndpointServer(fault=fault) as server:
        out = run(embedder(settings_for(server), concurrent=1), rows_of(1500))
        assert len(good(out)) == 1500
        assert server.inputs_seen <= 1500 + 2 * 10 * (3 + 2)
