"""Answers that nobody asked for: none is used, and where one may have been, the run fails."""

from __future__ import annotations

import select
import ssl
import time
from typing import Any

import pytest

from tests.contracts.http import OK, Scripted, authority, send, target_of
from tests.transforms.embed.endpoints.hostile import (
    CASES,
    DIMENSION,
    LATE,
    Case,
    Good,
    HostileServer,
    answer_to,
)
from tests.transforms.embed.endpoints.server import vector_of
from tests.transforms.embed.support import embedder, on_its_own_row, rows_of, run, settings_for
from vecferry.errors import FatalError, TransientError
from vecferry.transforms.embed.endpoints.base import Endpoint
from vecferry.transforms.embed.endpoints.choose import open_endpoint
from vecferry.transforms.embed.endpoints.http import HttpError, StrayError
from vecferry.transforms.embed.endpoints.pool import MOST_ANSWERS, Pool

__all__ = ["authority"]  # a fixture


class Every:
    """Each nth request but the first."""

    def __init__(self, nth: int) -> None:
        self.nth = nth

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number > 0 and number % self.nth == 0


def open_at(server: HostileServer) -> Endpoint:
    """An endpoint with one connection."""
    settings = settings_for(None, endpoint=server.url, timeoutSeconds=5)
    return open_endpoint(settings.endpoint_spec, 1)


def embedded(endpoint: Endpoint, text: str) -> bool:
    """Whether the vector of a text is its own; asked again after errors that pass."""
    for _ in range(5):
        try:
            (vector,) = endpoint.embed([text]).vectors
            return bool((vector == vector_of(text, DIMENSION)).all())
        except TransientError:
            pass
    raise AssertionError("no answer in five tries")


def twice(delay: float) -> Case:
    """An answer that comes again."""
    return lambda g, _: [g.whole(), delay, g.whole()] if delay else [g.whole() * 2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize("pause", [0.0, 0.03], ids=["at once", "after a pause"])
@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.002, 0.01, LATE], ids="{:g} s late".format)
def test_an_answer_that_comes_twice_is_used_once(
    delay: float,
    pause: float,
    kind: str,
    authority: tuple[str, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However late, over TLS as well, and whether the next request is there already or not."""
    path, tls = authority
    monkeypatch.setenv("SSL_CERT_FILE", path)
    right, told = 0, False
    with HostileServer(twice(delay), Every(5), tls if kind == "tls" else None) as server:
        endpoint = open_at(server)
        try:
            for i in range(40):
                assert embedded(endpoint, f"text {i}")
                right += 1
                if i % 5 == 0:
                    time.sleep(pause)
            endpoint.close()
        except FatalError as e:
            told = "nobody asked for" in str(e)
    assert right == 40 or told


def other(g: Good, _: Good) -> list[Any]:
    """The answer to a text that was not asked for, then, late, the right one."""
    return [answer_to(b'{"input": ["another text"]}').whole(), LATE, g.whole()]


def wait_for_more(client: Pool) -> None:
    """Returns as soon as something has come over an idle connection."""
    (line,) = client._idle
    assert select.select([line.connection.sock], [], [], 60)[0]


def test_a_run_fails_if_answers_may_have_shifted() -> None:
    """The error names the answers of the connection: how many, from when, and to which texts."""
    with HostileServer(other, {2}, None) as server:
        endpoint = open_at(server)
        for i in range(3):
            endpoint.embed([f"text {i}", "more"][: 1 if i else 2])
        wait_for_more(endpoint._client._http)  # type: ignore[attr-defined]
        with pytest.raises(FatalError) as failure:
            endpoint.embed(["text 3"])
        said = str(failure.value)
        assert "3 answers from" in said
        assert "the last ones to 2 inputs from 'text 0'; 'text 1'; 'text 2'; any" in said
        assert "embed the rows of that time again" in said
        assert embedded(endpoint, "text 4")  # on a new connection
        endpoint.close()  # it was told


@pytest.mark.parametrize("ends", ["settle", "close"])
def test_what_came_late_is_told_at_the_end(ends: str) -> None:
    """A bundle that ends asks all its connections, and so does a run."""
    with HostileServer(other, {0}, None) as server:
        endpoint = open_at(server)
        endpoint.embed(["text"])
        wait_for_more(endpoint._client._http)  # type: ignore[attr-defined]
        with pytest.raises(FatalError, match=r"1 answers from .*the last ones to 'text'"):
            getattr(endpoint, ends)()
        endpoint.settle()
        endpoint.close()


def test_a_bundle_fails_with_its_stray_answer(virtual_time: None) -> None:
    """The engine asks before its rows leave."""

    def case(g: Good, _: Good) -> list[Any]:
        return [g.whole(), LATE, g.whole()]

    with HostileServer(case, {3}, None) as server:
        engine = embedder(settings_for(None, endpoint=server.url, batchSize=2), concurrent=1)
        client = engine._shared.endpoint._client._http  # type: ignore[attr-defined]
        settle = client.settle

        def later() -> None:
            wait_for_more(client)
            settle()

        client.settle = later
        with pytest.raises(FatalError, match="nobody asked for"):
            run(engine, rows_of(8))


@pytest.mark.parametrize(
    "name",
    [
        "twice in one piece",
        "twice in chunks",
        "three times in one piece",
        "a byte more",
        "the answer before, this one late",
        "a refusal before, this one late",
    ],
)
def test_a_job_goes_on_over_a_new_connection(name: str, virtual_time: None) -> None:
    """An answer that was refused is asked for again; every row gets its own vector."""
    with HostileServer(CASES[name], {1, 5, 9}, None) as server:
        settings = settings_for(None, endpoint=server.url, batchSize=2)
        out = run(embedder(settings, concurrent=1), rows_of(20))
    assert len(out) == 20
    assert all(on_its_own_row(row) for row in out)  # type: ignore[arg-type]


def test_the_same_request_may_have_the_same_answer() -> None:
    """Asked for again, a text has the vector it had; another text must have another answer."""
    with Scripted([OK, OK, OK], [OK]) as server:
        client = Pool(target_of(server.url))
        for _ in range(2):
            send(client, b'{"input": "a"}')
        with pytest.raises(HttpError, match="an answer came twice"):
            send(client, b'{"input": "b"}')
        send(client, b'{"input": "b"}')
        client.close()
    assert server.accepted == 2


def test_a_farewell_is_not_an_answer() -> None:
    """Some servers send a status 408 to a connection that is idle, and leave."""
    late = OK + b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"
    with HostileServer(
        lambda g, _: [g.whole(), LATE, late[len(OK) :], "close"], {0}, None
    ) as server:
        endpoint = open_at(server)
        assert embedded(endpoint, "text")
        wait_for_more(endpoint._client._http)  # type: ignore[attr-defined]
        assert embedded(endpoint, "text 2")
        endpoint.close()


@pytest.mark.slow
def test_a_connection_gives_so_many_answers_at_most() -> None:
    """Each is remembered, and each would be doubtful with the last."""
    with HostileServer(lambda g, _: [], (), None) as server:
        endpoint = open_at(server)
        for i in range(MOST_ANSWERS + 1):
            assert embedded(endpoint, f"text {i}")
        (line,) = endpoint._client._http._idle  # type: ignore[attr-defined]
        assert len(line.answers) == 1


def test_a_connection_is_closed_with_what_could_not_be_used() -> None:
    """If an answer is refused by who reads it, the next request has another connection."""
    with Scripted([OK, OK], [OK]) as server:
        client = Pool(target_of(server.url))

        def refuse(_: object) -> None:
            raise ValueError("no vector")

        with pytest.raises(ValueError, match="no vector"):
            client.send(b"{}", refuse)
        send(client)
        assert server.accepted == 2


def test_a_stray_answer_is_told_by_the_pool() -> None:
    """Bytes on an idle connection: which, and after how many answers."""
    with Scripted([OK], unasked=b"HTTP/1.1 200") as server:
        client = Pool(target_of(server.url))
        send(client)
        server.strays.set()
        wait_for_more(client)
        with pytest.raises(StrayError, match=r"asked for \(b'HTTP.* gave 1 answers"):
            send(client)
