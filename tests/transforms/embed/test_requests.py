"""How many requests a job may send: what its texts fill, and one more for each bundle."""

from __future__ import annotations

import math
import random

import pytest

from tests.effort import some
from tests.io.sink import memory as memory_sink
from tests.pipelines.support import Bench, rows
from tests.transforms.embed.endpoints.server import EndpointServer, Quota
from tests.transforms.embed.support import context, on_its_own_row, rows_of, run, settings_for
from vecferry.transforms.embed.engine import Embedder


@pytest.fixture
def bench(tmp_path, capsys):
    bench = Bench(tmp_path, capsys)
    bench.job["steps"][-1] = memory_sink.step()
    bench.job["setting"] = {}
    memory_sink.KEPT.clear()
    return bench


def _ask(bench, server, **more):
    bench.step("Embed").update(
        modelProvider="openai",
        modelName="text-embedding-v4",
        apiKey="sk-test",
        endpoint=server.url,
        **more,
    )


@pytest.mark.slow
def test_rows_of_equal_texts_are_paid_once(bench):
    """5,000 rows of 2,500 texts send 2,500 inputs, each once, in 250 full batches."""
    lines = rows(5000)
    for i, line in enumerate(lines):
        line["text"] = f"text {i % 2500}"
    bench.write_lines(list(lines))
    with EndpointServer() as server:
        _ask(bench, server)
        report = bench.run()
        sent = server.sent()
        assert server.number <= 251
    assert len(sent) == len(set(sent)) == 2500
    assert report["rows_written"] == len(memory_sink.KEPT) == 5000
    assert report["embed"]["requests"] <= 251
    assert report["embed"]["cache_hits"] + report["embed"]["cache_misses"] == 5000
    assert all(on_its_own_row(row) for row in memory_sink.KEPT)


@pytest.mark.parametrize("seed", some(range(100), 5))
def test_a_bundle_costs_one_request_more_at_most(seed):
    """ceil(distinct / batchSize) and one for each bundle, however the rows fall into bundles."""
    chance = random.Random(seed)
    lines = [{"text": f"text {chance.randrange(300)}"} for _ in range(1000)]
    borders = sorted(chance.sample(range(1, 1000), chance.randrange(1, 40)))
    one_run = context()
    with EndpointServer() as server:
        settings = settings_for(server)
        for begin, end in zip([0, *borders], [*borders, 1000], strict=True):
            out = run(Embedder(settings, None, one_run), lines[begin:end])
            assert all(on_its_own_row(row) for row in out)
        distinct = len({line["text"] for line in lines})
        assert server.inputs_seen == distinct
        assert server.number <= math.ceil(distinct / 10) + len(borders) + 1


@pytest.mark.slow
@pytest.mark.usefixtures("either_time")
def test_a_quota_that_nobody_named_is_found_with_few_refusals():
    """Of 150 batches no more are refused than were under way at first, and a twentieth."""
    with EndpointServer(quota=Quota(rate=50, burst=5, wish="exact")) as server:
        engine = Embedder(settings_for(server), None, context(concurrent=16))
        out = run(engine, rows_of(1500))
        assert all(on_its_own_row(row) for row in out)
        assert server.inputs_seen == len(out) == 1500
        assert server.statuses[429] <= 16 + 150 / 20
        assert server.number == 150 + server.statuses[429]
        assert engine.counts.values["embed-throttled"] == server.statuses[429]


@pytest.mark.slow
@pytest.mark.usefixtures("either_time")
def test_a_quota_that_the_job_names_is_kept_to():
    """With `requestsPerMinute` at most one answer is 429."""
    with EndpointServer(quota=Quota(rate=50, burst=5, wish="exact")) as server:
        settings = settings_for(server, requestsPerMinute=50 * 60)
        out = run(Embedder(settings, None, context(concurrent=16)), rows_of(1000))
        assert len(out) == 1000
        assert server.statuses[429] <= 1
        assert server.number == 100 + server.statuses[429]
