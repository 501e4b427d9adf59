"""A run spends no more than its budget, tells what it spent, and loses no row over it."""

from __future__ import annotations

import json
import threading

import pytest

from tests.pipelines.support import Bench, counts_add_up, rejects_of, rows
from tests.transforms.embed.endpoints.server import EndpointServer, Quota, every, first, tokens_of
from tests.transforms.embed.support import (
    context,
    embedder,
    good,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.budget import Ledger, OverBudgetError, ledger_of
from vecferry.errors import TransientError
from vecferry.process import RunState, end_run, run_state
from vecferry.transforms.embed.endpoints.base import (
    BadResponseError,
    PoisonError,
    ThrottledError,
    charge_of,
)
from vecferry.transforms.embed.engine import Embedder


@pytest.fixture
def bench(tmp_path, capsys):
    return Bench(tmp_path, capsys)


def _with_budget(bench, server, **budget):
    bench.step("Embed").update(
        modelProvider="openai",
        modelName="text-embedding-v4",
        apiKey="sk-test",
        endpoint=server.url,
        batchSize=10,
    )
    bench.job["setting"]["budget"] = budget


@pytest.mark.slow
def test_a_run_over_its_budget_fails_loses_nothing_and_is_completed_by_the_next(bench):
    """Requests stop at the budget; each row leaves or is rejected; what is paid is kept."""
    bench.write_lines(list(rows(400)))
    bench.job["setting"]["vectorCache"] = {"uri": f"sqlite:///{bench.folder}/vectors.sqlite"}
    with EndpointServer() as server:
        _with_budget(bench, server, requests=25)
        report = bench.run()
        assert (report["state"], server.number, report["embed"]["requests"]) == ("FAILED", 25, 25)
        assert "setting.budget allows 25 requests" in report["error"]
        assert "25 requests and" in report["error"]
        assert "setting.vectorCache" in report["error"]
        assert report["rows_written"] == 250
        assert counts_add_up(report)
        assert {r["reason"] for r in rejects_of(report)} == {"over-budget"}
        report = bench.run()
        assert (report["state"], report["rows_written"], server.number) == ("DONE", 400, 40)


@pytest.mark.slow
def test_a_budget_that_is_enough_is_not_noticed(bench):
    """As many requests as it allows; exit status 0."""
    bench.write_lines(list(rows(100)))
    with EndpointServer() as server:
        _with_budget(bench, server, requests=10, tokens=100_000)
        report = bench.run()
    assert (report["state"], report["rows_written"]) == ("DONE", 100)
    assert report["embed"]["requests"] == 10


@pytest.mark.slow
def test_a_budget_of_tokens_is_kept_to_by_what_the_vendor_bills(bench):
    """Estimated before a request, corrected by its answer: never more, and nearly all of it."""
    bench.write_lines(list(rows(400)))
    with EndpointServer() as server:
        _with_budget(bench, server, tokens=1000)
        report = bench.run()
        billed = sum(tokens_of(text) for text in server.sent())
    assert report["state"] == "FAILED"
    assert report["embed"]["tokens"] == billed
    assert 600 < billed <= 1000
    assert f"{billed:,} tokens are spent" in report["error"]
    assert counts_add_up(report)


def test_all_steps_of_a_run_spend_from_one_budget():
    """Two steps with other settings and other models share the run's ledger."""
    one_run = context(requests=12)
    with EndpointServer() as server:
        out = run(Embedder(settings_for(server), None, one_run), rows_of(100))
        other = settings_for(server, dimension=128)
        out += run(Embedder(other, None, one_run), rows_of(100))
        assert server.number == 12
    assert (len(good(out)), len(rejects(out))) == (120, 80)
    assert run_state(one_run.run).stopped_by == "budget"
    end_run(one_run.run)


@pytest.mark.usefixtures("either_time")
def test_tries_count_and_none_goes_beyond_the_budget():
    """503 and 429 cost requests as good answers do."""
    for options in ({"fault": every(2, "503")}, {"quota": Quota(rate=50, burst=2, wish="exact")}):
        with EndpointServer(**options) as server:
            engine = embedder(settings_for(server), requests=7)
            out = run(engine, rows_of(200))
            assert server.number == engine.counts.values["embed-requests"] == 7
        assert len(good(out)) == 10 * server.statuses[200]
        assert len(good(out)) + len(rejects(out)) == 200


def test_a_worker_process_spends_its_share():
    """Of four streams each process may spend a quarter."""
    ledger = ledger_of(context(requests=10, tokens=100, parallelism=4))
    for _ in range(2):
        with ledger.book(10):
            pass
    with pytest.raises(OverBudgetError, match="2 requests and 25 tokens"):
        ledger.book(1)


def _ledger(**bounds):
    return Ledger(RunState(), bounds.get("requests"), bounds.get("tokens"))


@pytest.mark.parametrize(
    ("error", "tokens"),
    [
        (PoisonError("400"), 0),
        (ThrottledError("429"), 0),
        (TransientError("503"), 0),
        (BadResponseError("short"), 40),
        (TransientError("timed out"), 40),
        (TransientError("refused"), 0),
    ],
    ids=str,
)
def test_a_request_that_failed_costs_tokens_only_where_it_may_be_billed(error, tokens):
    """A status other than 200 is not billed; an answer that was lost may be."""
    ledger = _ledger(tokens=100)
    causes = {"timed out": TimeoutError(), "refused": ConnectionRefusedError()}
    error.__cause__ = causes.get(str(error))
    with pytest.raises(type(error)), ledger.book(40, charge_of):
        raise error
    assert (ledger.requests, ledger.tokens, ledger.under_way) == (1, tokens, 0)


def test_a_text_that_cannot_be_sent_costs_nothing():
    """Half a character is refused before the request."""
    ledger = _ledger(requests=1)
    with pytest.raises(PoisonError), ledger.book(1, charge_of):
        raise PoisonError("x", "bad-text", sent=False) from TypeError()
    assert (ledger.requests, ledger.tokens) == (0, 0)


def test_threads_together_book_no_more_than_there_is():
    """No race lets one more through."""
    ledger, refused = _ledger(requests=100), []

    def work():
        try:
            for _ in range(50):
                with ledger.book(1):
                    pass
        except OverBudgetError as e:
            refused.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.requests == 100
    assert len(refused) >= 6


def test_an_estimate_is_compared_with_the_budget(bench):
    """`check --estimate` warns before anything is spent."""
    bench.write_lines(list(rows(100)))
    with EndpointServer() as server:
        _with_budget(bench, server, requests=9, tokens=100_000)
        outcome = bench.call("check", "--estimate")
        assert server.number == 0
    assert outcome.status == 0
    assert "warning: setting.budget.requests is 9, and the run seems to take 10" in outcome.err
    assert "tokens is" not in outcome.err


@pytest.mark.parametrize(
    "budget",
    [{"requests": 0}, {"tokens": "-1"}, {"requests": 1.5}, {"tokens": "many"}, {}],
    ids=str,
)
def test_a_budget_of_nonsense_is_refused(bench, budget):
    """With its path and the rule, before anything runs."""
    bench.write_lines(list(rows(1)))
    bench.job["setting"]["budget"] = budget
    outcome = bench.call("run")
    assert outcome.status == 2
    assert "job.setting.budget" in outcome.err


@pytest.mark.slow
def test_the_report_tells_what_embedding_cost_and_how_long_it_took(bench):
    """Retries, the most requests in flight, the spread of latencies; also on a terminal."""
    bench.write_lines(list(rows(200)))
    with EndpointServer(latency=0.1, fault=first(1, "503")) as server:
        _with_budget(bench, server, requests=100)
        bench.job["setting"]["speed"] = {"concurrent": 4}
        outcome = bench.call("run", "--report", str(bench.folder / "report.json"))
        report = (bench.folder / "report.json").read_text()
    embed = json.loads(report)["embed"]
    assert (embed["requests"], embed["retries"], embed["cache_misses"]) == (21, 1, 200)
    assert embed["most_in_flight"] == server.most_under_way == 4
    ms = embed["latency_ms"]
    assert 100 <= ms["min"] <= ms["p50"] <= ms["p95"] <= ms["max"] < 3000
    assert ms["min"] <= ms["mean"] <= ms["max"]
    assert "at most 4 in flight; milliseconds a request: least " in outcome.out
    assert "1 retries, 0 answers of 429, 0 batches halved" in outcome.out


@pytest.mark.parametrize("told", [-5, -(10**12), 10**12, 2**70, 10**400])
def test_tokens_that_a_request_cannot_have_cost_are_not_booked(told):
    """A bill below nothing does not void a budget; a huge one does not end the run."""
    with EndpointServer() as server:
        engine = embedder(settings_for(server))
        embed = engine._shared.endpoint.embed

        def lie(inputs):
            answer = embed(inputs)
            answer.tokens = told
            return answer

        engine._shared.endpoint.embed = lie
        out = run(engine, rows_of(30))
    assert len(good(out)) == 30
    assert 0 <= engine.counts.values.get("embed-tokens", 0) <= 30 * 100
