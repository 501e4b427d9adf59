"""Bundles of one process that want the same texts at the same time, and bundles that fail."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any

import pytest

from tests.transforms.embed.endpoints.server import EndpointServer
from tests.transforms.embed.support import context, good, on_its_own_row, rows_of, run, settings_for
from vecferry.rows import Change
from vecferry.transforms.embed.engine import Embedder

LONG = "A sentence of some words. " * 2000  # more tokens than the model's table allows


@pytest.fixture
def server() -> Iterator[EndpointServer]:
    """An endpoint that takes long texts, and 0.2 s for each request."""
    with EndpointServer(latency=0.2, max_tokens=20_000) as endpoint:
        yield endpoint


def engines(server: EndpointServer, count: int, **more: Any) -> list[Embedder]:
    """Engines of one run, which share what a process shares."""
    same = context(**more)
    return [Embedder(settings_for(server), None, same) for _ in range(count)]


def aside(work: Callable[[], Any]) -> Future[Any]:
    """What `work` gives, in a daemon thread: a hang fails the test instead of stopping it."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(work())
        except BaseException as e:
            future.set_exception(e)

    threading.Thread(target=call, daemon=True).start()
    return future


@pytest.mark.slow
def test_bundles_that_run_at_once_send_each_text_once(server: EndpointServer) -> None:
    """Also one that goes alone since it may be too long; every row gets its own vector."""
    rows = [*rows_of(25), {"id": 25, "text": LONG}]
    bundles = [aside(lambda e=engine: run(e, rows)) for engine in engines(server, 4)]
    for bundle in bundles:
        out = good(bundle.result(20))
        assert len(out) == 26
        assert all(map(on_its_own_row, out))
    assert set(Counter(server.sent()).values()) == {1}


@pytest.mark.slow
def test_a_bundle_that_is_closed_leaves_its_texts_to_those_who_wait(
    server: EndpointServer,
) -> None:
    """What it had not sent yet is sent by another bundle, which would else wait for ever."""
    first, second = engines(server, 2, concurrent=1)
    for row in rows_of(20):
        first.process(Change(row))
    waiting = aside(lambda: run(second, rows_of(20)))
    wait([waiting], 0.1)
    first.close()
    assert len(good(waiting.result(20))) == 20


class Panic(BaseException):
    """What a library in Rust raises when it has a defect: no Exception."""


@pytest.mark.slow
def test_a_thread_that_dies_fails_its_bundle_and_no_other(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle raises, and those who wait for its texts send them."""
    first, second = engines(server, 2)
    endpoint = first._shared.endpoint
    embed, begun, go = endpoint.embed, threading.Event(), threading.Event()

    def panic(inputs: list[str]) -> Any:
        monkeypatch.setattr(endpoint, "embed", embed)
        begun.set()
        go.wait(60)
        raise Panic("index out of range")

    monkeypatch.setattr(endpoint, "embed", panic)
    failing = aside(lambda: run(first, rows_of(10)))
    assert begun.wait(60)
    waiting = aside(lambda: run(second, rows_of(10)))
    wait([waiting], 0.1)
    go.set()
    with pytest.raises(RuntimeError, match="index out of range"):
        failing.result(20)
    assert len(good(waiting.result(20))) == 10


@pytest.mark.slow
def test_a_process_that_has_no_thread_left_fails_the_bundle_and_no_other(
    server: EndpointServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What such a bundle would have sent is free for others at once."""
    first, second = engines(server, 2)

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            run(first, rows_of(10))
    waiting = aside(lambda: run(second, rows_of(10)))
    assert len(good(waiting.result(20))) == 10
