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
from vecferry.budget import Charge, Ledger, OverBudgetError, ledger_of
from vecferry.errors import TransientError
from vecferry.money import Price, shown
from vecferry.process import RunState, end_run, run_state
from vecferry.steps import Budget
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


def test_workers_share_a_budget_to_its_last_request():
    """They get small parts of it, and what none of them needs is left to the others."""
    launcher = Ledger(RunState(), Budget(requests=1000, nano=5000))
    budget = Budget(requests=1000, nano=5000)
    workers = [Ledger(RunState(), budget, more=launcher.grant) for _ in range(2)]
    asked = [0, 0]
    for n in range(900):
        with workers[n % 3 // 2].book(7, price=lambda tokens: 1):
            asked[n % 3 // 2] += 1
    assert asked == [600, 300] == [w.requests for w in workers]
    assert launcher.verdict() is None

    def spend_all():
        while True:
            with workers[0].book(7):
                pass

    with pytest.raises(OverBudgetError, match="allows 1,000 requests and"):
        spend_all()
    assert 0 <= 1000 - sum(w.requests for w in workers) <= 1000 // 64
    launcher.take_over([(w.requests, w.tokens, w.nano) for w in workers])
    assert f"{sum(w.requests for w in workers):,} requests" in launcher.verdict()


def test_workers_ask_for_nothing_of_a_budget_without_bounds():
    """What it is not bound by, tokens here, is not asked for either."""
    calls = []

    def grant(short):
        calls.append(short)
        return 10, 0, 0

    ledger = Ledger(RunState(), Budget(requests=30), more=grant)
    for _ in range(25):
        with ledger.book(1000):
            pass
    free = Ledger(RunState(), Budget(), more=grant)
    with free.book(1000):
        pass
    assert calls == [(1, 0, 0)] * 3


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
    return Ledger(RunState(), Budget(**bounds))


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


# --- money --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "tokens", "images", "nano"),
    [
        ({"perMillionTokens": 0.07}, 1_000_000, 0, 70_000_000),
        ({"perMillionTokens": "0.07"}, 10, 3, 700),
        ({"perImage": 0.0001}, 500, 2, 200_000),
        ({"perImage": 0.0001, "perMillionTokens": 1}, 10, 1, 110_000),
        ({"perMillionTokens": 0}, 10, 0, 0),
    ],
)
def test_a_price_makes_money_of_tokens_and_images(price, tokens, images, nano):
    """In whole billionths, which add up."""
    assert Price.model_validate(price).nano(tokens, images) == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (1_204_500_000_000, "1,204.50 USD"),
        (20_000_000, "0.02 USD"),
        (123_456_789, "0.123 USD"),
        (3500, "0.0000035 USD"),
        (0, "0 USD"),
    ],
)
def test_money_is_shown_without_an_exponent(nano, text):
    """A small amount with three digits."""
    assert shown(nano, "USD") == text


def test_a_budget_of_money_is_kept_to_and_corrected_by_what_is_billed():
    """An estimate stands until the service tells; a request that is not billed costs nothing."""
    ledger = _ledger(nano=1000)

    def price(tokens):
        return 10 * tokens

    with ledger.book(60, price=price) as booking:
        booking.billed = 30
    assert (booking.spent, ledger.nano) == (300, 300)
    free = ledger.book(50, lambda e: Charge(sent=True, billed=False), price)
    with pytest.raises(TransientError), free:
        raise TransientError("answers 429")
    assert (free.spent, ledger.nano) == (0, 300)
    with ledger.book(70, price=price):
        pass
    with pytest.raises(OverBudgetError, match="the next request would exceed that"):
        ledger.book(1, price=price)
    assert "0.000001 USD are spent" in str(ledger.verdict())


def _with_price(bench, server, **price):
    _with_budget(bench, server, requests=1000)
    del bench.job["setting"]["budget"]
    bench.job["setting"]["prices"] = {"text-embedding-v4": price}


@pytest.mark.slow
def test_a_run_and_an_estimate_tell_what_embedding_costs(bench):
    """By what the service bills; the estimate less what the vector cache holds."""
    bench.write_lines(list(rows(100)))
    bench.job["setting"]["vectorCache"] = {"uri": f"sqlite:///{bench.folder}/vectors.sqlite"}
    with EndpointServer() as server:
        _with_price(bench, server, perMillionTokens=1000, currency="EUR")
        before = bench.call("check", "--estimate", "--json").json["estimate"]
        report = bench.run()
        embed = report["embed"]
        assert (embed["cost"], embed["currency"]) == (pytest.approx(embed["tokens"] / 1000), "EUR")
        bench.write_lines(list(rows(120)))
        after = bench.call("check", "--estimate", "--json").json["estimate"]
        again = bench.call("run")
    assert (before["cached_texts"], before["requests"]) == (0, 10)
    assert before["cost"] == pytest.approx(before["tokens"] / 1000)
    assert (after["cached_texts"], after["requests"], after["distinct_texts"]) == (100, 2, 120)
    assert after["cost"] == pytest.approx(after["tokens"] / 1000)
    assert after["cost"] < before["cost"] / 3
    assert " EUR\n" in again.out


@pytest.mark.slow
def test_a_budget_of_money_ends_a_run_and_an_estimate_warns_of_it(bench):
    """No more is spent than the budget allows, though several requests are under way."""
    bench.write_lines(list(rows(200)))
    with EndpointServer() as server:
        _with_price(bench, server, perMillionTokens=1000)
        bench.job["setting"]["budget"] = {"money": "0.5"}
        estimate = bench.call("check", "--estimate")
        assert "warning: setting.budget.money is 0.5, and the run seems to take" in estimate.err
        report = bench.run()
    assert report["state"] == "FAILED"
    assert "setting.budget allows 0.5 USD, and the next request would" in report["error"]
    assert 0 < report["embed"]["cost"] <= 0.6
    assert counts_add_up(report)


@pytest.mark.parametrize(
    ("price", "setting", "words"),
    [
        ({"perMillionToken": 1}, {}, "did you mean 'perMillionTokens'?"),
        ({"perMillionTokens": -1}, {}, "or more"),
        ({"perImage": 1, "currency": "dollars"}, {}, "must match"),
        (None, {"budget": {"money": 1}}, "no embedding step has a price"),
        (None, {"prices": {"text-embedding-v5": {"perImage": 1}}}, "'text-embedding-v4'?"),
    ],
)  # fmt: skip
def test_prices_of_nonsense_are_told(bench, price, setting, words):
    """Before a run; a price of a model that no step has is only warned of."""
    bench.step("Embed").update(
        modelProvider="openai", modelName="text-embedding-v4", endpoint="http://127.0.0.1:9/v1"
    )
    bench.job["setting"] = setting
    if price is not None:
        bench.step("Embed")["price"] = price
    told = bench.call("check")
    assert words in told.err
    assert told.status == (0 if "prices" in setting else 2)


def test_a_sample_tells_of_the_whole_source(bench):
    """By the share of its bytes; from files all over it."""
    for number in range(8):
        bench.write_lines(list(rows(500)), f"part{number}.jsonl")
    bench.step("Reader")["object"] = ["part*.jsonl"]
    whole = bench.call("check", "--estimate", "--json").json["estimate"]
    assert (whole["rows"], whole["sample"]) == (4000, None)
    found = bench.call("check", "--sample", "400", "--json").json["estimate"]
    assert found["sample"]["rows"] == 400
    assert found["sample"]["share"] == pytest.approx(0.1, rel=0.05)
    assert found["rows"] == pytest.approx(4000, rel=0.05)
    assert found["keys"] == 50, "the keys of the sample"
    told = bench.call("check", "--sample", "400").out
    assert "sample: 400 rows of the source were read, about 0.1 of it" in told
    assert "rows: about " in told
    all_of_it = bench.call("check", "--sample", "5000", "--json").json["estimate"]
    assert all_of_it == whole
