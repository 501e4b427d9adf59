"""Vectors paid for once between the bundles of a process, which share what they send."""

from __future__ import annotations

import threading

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, every
from tests.transforms.embed.support import (
    context,
    good,
    on_its_own_row,
    rejects,
    rows_of,
    run,
    settings_for,
)
from vecferry.errors import TransientError
from vecferry.transforms.embed.engine import Embedder


def _in_threads(makers):
    results = [None] * len(makers)

    def work(i):
        results[i] = makers[i]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(makers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def test_bundles_at_work_at_once_send_each_text_once():
    """What one bundle is sending another waits for, in the same process."""
    with EndpointServer(latency=0.02) as server:
        one_run = context(concurrent=8, parallelism=4)
        settings = settings_for(server)
        outs = _in_threads([lambda: run(Embedder(settings, None, one_run), rows_of(300))] * 4)
        assert all(len(out) == 300 for out in outs)
        assert all(on_its_own_row(row) for out in outs for row in out)
        assert len(server.sent()) == 300


def test_a_bundle_whose_text_another_could_not_get_tries_itself():
    """A refusal is not shared: each bundle asks, and rejects its own rows."""
    with EndpointServer(latency=0.02) as server:
        one_run = context(concurrent=8, parallelism=2)
        rows = rows_of(40)
        rows[7]["text"] = "POISON"
        settings = settings_for(server)
        outs = _in_threads([lambda: run(Embedder(settings, None, one_run), rows)] * 2)
        assert [len(rejects(out)) for out in outs] == [1, 1]
        assert [len(good(out)) for out in outs] == [39, 39]


@pytest.mark.slow
def test_a_bundle_that_fails_or_is_closed_leaves_nobody_waiting():
    """Its texts are sent by those who waited for them."""
    with EndpointServer(latency=0.01, fault=every(1, "503")) as server:
        one_run = context(concurrent=4, parallelism=2)
        settings = settings_for(server, retryDeadlineSeconds=0.3)

        def fails():
            engine = Embedder(settings, None, one_run)
            with pytest.raises(TransientError):
                run(engine, rows_of(60))
            engine.close()
            return True

        assert _in_threads([fails] * 3) == [True] * 3
