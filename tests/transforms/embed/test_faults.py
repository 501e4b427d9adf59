"""An endpoint that misbehaves: no wrong vector stored, no good row lost, no needless request."""

from __future__ import annotations

import threading
import time

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, Quota, every, first, share
from tests.transforms.embed.support import (
    embedder,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.errors import FatalError, TransientError
from vecferry.rows import Change

pytestmark = pytest.mark.usefixtures("virtual_time")


def _outcome(rows, server_options, **settings):
    """(what came out, the counters, the server) of rows run against a server of its own."""
    with EndpointServer(**server_options) as server:
        engine = embedder(settings_for(server, **settings))
        out = run(engine, rows)
        return out, engine.counts.values, server


MENDED = {
    "short": 1,
    "repeat-index": 1,
    "foreign-index": 1,
    "extra": 1,
    "nan": 1,
    "null-vector": 1,
    "one-short-vector": 1,
    "short-without-index": 1,
    "html": 1,
    "truncated": 1,
    "reset": 1,
    "503": 1,
    "reorder": 0,
    "string-index": 0,
    "without-index": 0,
}


@pytest.mark.parametrize("as_base64", [True, False], ids=["base64", "json floats"])
@pytest.mark.parametrize("kind", MENDED)
def test_a_fault_that_passes_costs_one_request_more(kind, as_base64):
    """Once asked again the answer is good; an answer in another order needs no second."""
    out, counts, server = _outcome(
        rows_of(40), {"fault": first(1, kind), "base64_allowed": as_base64}
    )
    assert len(out) == 40
    assert all(on_its_own_row(row) for row in out)
    assert server.number == 4 + MENDED[kind]
    assert counts["embed-requests"] == server.number
    assert counts.get("embed-retries", 0) == MENDED[kind]


@pytest.mark.parametrize("kind", ["short", "repeat-index", "extra", "nan", "null-vector"])
def test_an_answer_of_bad_shape_now_and_then_loses_no_row(kind):
    """With every third answer unusable all rows still get their own vectors."""
    # One request at a time: of several, chance may let all answers of one batch be unusable.
    with EndpointServer(fault=every(3, kind)) as server:
        out = run(embedder(settings_for(server), concurrent=1), rows_of(200))
    assert len(good(out)) == 200
    assert all(on_its_own_row(row) for row in out)
    assert server.number <= 2 * 20 + 5


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("null-vector", {}),
        ("nan", {}),
        ("zeros", {}),
        ("same", {}),
        ("same", {"batchSize": 1}),
        ("big-endian", {}),
        ("booleans", {}),
        ("texts", {}),
        ("extra", {}),
    ],
    ids=str,
)
def test_an_endpoint_that_never_answers_right_is_told_of_after_a_batch(kind, more):
    """The job fails before anything is stored, and little is paid."""
    with EndpointServer(
        fault=every(1, kind), base64_allowed=kind in ("big-endian", "nan")
    ) as server:
        engine = embedder(settings_for(server, **more), concurrent=1)
        with pytest.raises(FatalError, match="no answer of the endpoint can be used"):
            run(engine, rows_of(60))
        assert server.inputs_seen <= 2 * 10 + 2 * 10
        assert len(engine._shared.cache) <= 10


def test_vectors_of_another_size_fail_the_job_soon():
    """One batch is asked for twice and none beside it; the message says what the model gives."""
    with EndpointServer(fault=every(1, "wrong-dimension")) as server:
        engine = embedder(settings_for(server), concurrent=1)
        with pytest.raises(FatalError, match="set dimension to 32"):
            run(engine, rows_of(10))
        engine.close()
        assert server.number == 2


@pytest.mark.parametrize("nth", [0, 3])
def test_a_wrong_size_now_and_then_is_a_bad_answer_not_a_wrong_model(nth):
    """A batch of another size is asked for again, even if it is the first one that is answered."""
    fault = lambda n, _: "wrong-dimension" if n == nth else None  # noqa: E731
    out, _, _ = _outcome(rows_of(100), {"fault": fault})
    assert all(on_its_own_row(row) for row in good(out))
    assert len(good(out)) == 100


def test_a_model_that_is_changed_in_mid_run_fails_the_job():
    """A batch whose vectors are all of another size, twice, is not taken apart for nothing."""
    fault = lambda n, _: "wrong-dimension" if n >= 3 else None  # noqa: E731
    with EndpointServer(fault=fault) as server:
        engine = embedder(settings_for(server), concurrent=1)
        with pytest.raises(FatalError, match=r"vectors of 32 where .* before, it gave others"):
            run(engine, rows_of(100))
        assert server.number == 3 + 2


def test_a_request_that_is_refused_whatever_the_text_fails_the_job():
    """A parameter that the server does not take costs one batch, not two requests for each row."""
    with EndpointServer(dimensions=(128,)) as server:
        engine = embedder(settings_for(server), concurrent=1)
        with pytest.raises(FatalError, match=r"harmless 'vecferry'.*dimensions 64 is not one of"):
            run(engine, rows_of(100))
        assert server.number == 19 + 1


def test_a_batch_of_nothing_but_poison_is_rejected():
    """A harmless text tells once that the endpoint is well, and the rows are at fault."""
    rows = [{"id": i, "text": f"POISON {i}"} for i in range(30)]
    out, _, server = _outcome(rows, {}, batchSize=10)
    assert {reject.reason for reject in rejects(out)} == {"refused-input"}
    assert len(rejects(out)) == 30
    assert server.sent().count("vecferry") == len(server.sent()) <= 3


@pytest.mark.parametrize("status", [429, 503])
def test_an_endpoint_that_asks_for_a_longer_wait_than_the_deadline_is_not_waited_for(status):
    """The job fails at once and says why, instead of asking in vain for ten minutes."""
    with EndpointServer() as server:
        wish = {"Retry-After": "3600"}
        server.answer = lambda *_: (status, wish, b"{}")  # type: ignore[method-assign]
        engine = embedder(settings_for(server), concurrent=1)
        with pytest.raises(TransientError, match=r"left alone for 3,600 s.*retryDeadlineSeconds"):
            run(engine, rows_of(10))


@pytest.mark.parametrize("place", range(10))
def test_one_poison_costs_its_row_and_few_requests(place):
    """At most 2 x ceil(log2(batch)) extra requests, wherever in the batch the poison stands."""
    rows = rows_of(10)
    rows[place]["text"] = "POISON"
    out, counts, server = _outcome(rows, {})
    (reject,) = rejects(out)
    assert (reject.reason, reject.row["id"]) == ("refused-input", place)
    assert "inappropriate content" in reject.message
    assert len(good(out)) == 9
    assert all(on_its_own_row(row) for row in good(out))
    assert server.number <= 1 + 2 * 4
    assert counts["embed-requests"] == server.number
    assert len(server.sent()) == len(set(server.sent())) == 9


@pytest.mark.slow
def test_many_poisons_cost_their_rows_only():
    """One row in twenty is refused; each of the others is stored, once."""
    rows = rows_of(400)
    for row in rows[::20]:
        row["text"] += " POISON"
    out, _, server = _outcome(rows, {})
    assert len(rejects(out)) == 20
    assert len(good(out)) == 380
    assert all(on_its_own_row(row) for row in good(out))
    assert server.number <= 40 + 20 * 8


def test_a_batch_larger_than_the_server_takes_is_split_by_the_limit_it_names():
    """The limit is learnt from the message, and kept to from then on."""
    out, _, server = _outcome(
        rows_of(200), {"max_inputs": 4}, modelName="a model nobody knows", batchSize=20
    )
    assert len(good(out)) == 200
    refused = [seen for seen in server.requests if seen.status == 400]
    assert len(refused) <= 10
    assert all(len(seen.inputs) <= 4 for seen in server.good)


@pytest.mark.parametrize("status", ["401", "403", "404", "redirect"])
def test_what_no_retry_can_mend_fails_the_job_at_once(status):
    """One request, no reject, and no key in the message."""
    with EndpointServer(fault=every(1, status)) as server:
        engine = embedder(settings_for(server, apiKey="sk-test"), concurrent=1)
        with pytest.raises(FatalError) as failure:
            run(engine, rows_of(10))
        assert server.number == 1
        assert "sk-test" not in str(failure.value)


def test_a_wrong_key_is_not_shown():
    """The server repeats the key; the message does not."""
    with EndpointServer() as server:
        engine = embedder(settings_for(server, apiKey="sk-very-secret-key"))
        with pytest.raises(FatalError, match="Incorrect API key") as failure:
            run(engine, rows_of(1))
        assert "very-secret" not in str(failure.value)


def test_a_third_of_answers_503_lose_nothing():
    """Every row arrives; the number of requests is that of the failures more."""
    out, counts, server = _outcome(rows_of(300), {"fault": share(30, "503")})
    assert len(good(out)) == 300
    assert all(on_its_own_row(row) for row in out)
    assert server.number == 30 + server.statuses[503] == counts["embed-requests"]


def test_a_server_that_is_away_for_good_fails_the_job_and_rejects_nobody():
    """Past the deadline the job fails with the way out; no row is rejected."""
    engine = embedder(settings_for(None, retryDeadlineSeconds=60))
    with pytest.raises(TransientError, match=r"gave up after \d+ tries .* run the job again"):
        run(engine, rows_of(10))
    engine.close()


@pytest.mark.slow
def test_an_endpoint_that_is_down_for_a_while_delays_and_no_more():
    """Connections refused and broken for a minute: all rows arrive."""
    with EndpointServer() as server:
        server.go_down(60.0)
        while server.transports:
            time.sleep(0.01)
        out = run(embedder(settings_for(server)), rows_of(100))
    assert len(good(out)) == 100
    assert all(on_its_own_row(row) for row in out)


@pytest.mark.parametrize("wish", ["seconds", "exact", "date", None])
def test_a_quota_is_waited_for(wish):
    """429 with and without Retry-After, in each of its forms: all rows arrive."""
    quota = Quota(rate=20, burst=5, wish=wish)
    out, counts, server = _outcome(rows_of(150), {"quota": quota})
    assert len(good(out)) == 150
    assert all(on_its_own_row(row) for row in out)
    assert counts["embed-throttled"] == server.statuses[429]


def test_a_bundle_that_is_given_up_lets_go_of_its_waiting_threads():
    """Closing ends the waits of its threads at once."""
    before = set(threading.enumerate())
    with EndpointServer(fault=every(1, "503")) as server:
        engine = embedder(settings_for(server), concurrent=2)
        for row in rows_of(20):
            engine.process(Change(row))
        threads = {t for t in set(threading.enumerate()) - before if t.name == "vecferry-embed"}
        assert len(threads) == 2
        engine.close()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
