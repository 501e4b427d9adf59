"""Hostile answers: no vector goes to another text, and each request ends in time and memory."""

from __future__ import annotations

import ssl
import time
import tracemalloc

import pytest

from tests.contracts.http import authority
from tests.transforms.embed.endpoints.hostile import CASES, DIMENSION, HostileServer, bomb
from tests.transforms.embed.endpoints.server import vector_of
from tests.transforms.embed.support import settings_for
from vecferry.errors import FatalError, VecferryError
from vecferry.transforms.embed.endpoints.choose import open_endpoint
from vecferry.transforms.embed.endpoints.client import LARGEST_DIMENSION, LEAST_BOUND, NUMBER_BYTES

__all__ = ["authority"]  # a fixture

TIMEOUT = 0.5
LONG = pytest.mark.long
REQUESTS = 7
BAD = frozenset({1, 4})
GOOD_ANSWER = LEAST_BOUND + LARGEST_DIMENSION * NUMBER_BYTES
ALWAYS = list(CASES)[::6]
"""The cases of each run; a long run has all."""
SOME = ALWAYS[::5]
"""Those of each run for a shape whose connection is that of the other one."""
SHAPES = {
    "openai": {},
    "connector": {"modelProvider": "connector", "requestBody": '{"input": ${parameters.input}}'},
}
"""By the shape of requests, what the step's settings say of it."""


def cases() -> list[object]:
    """Each case over TCP and TLS, for each shape of requests."""
    often = {"openai": [(name, kind) for name in ALWAYS for kind in ("tcp", "tls")]}
    often["connector"] = [(name, "tcp") for name in SOME]
    return [
        pytest.param(shape, name, kind, marks=[] if (name, kind) in often[shape] else LONG)
        for shape in SHAPES
        for name in CASES
        for kind in ("tcp", "tls")
    ]


def test_there_are_enough_cases() -> None:
    """A hundred and more, and a part of them in each run."""
    assert len(CASES) >= 100
    assert len(ALWAYS) >= 15
    assert len(SOME) >= 3


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "name", "kind"), cases())
def test_a_hostile_answer_costs_no_right_vector(
    shape: str,
    name: str,
    kind: str,
    authority: tuple[str, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A vector is that of its text, or there is an error; good answers behind it are taken."""
    path, tls = authority
    if "bomb" in name:
        bomb()  # takes seconds to make, more than an answer may
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with HostileServer(CASES[name], BAD, tls if kind == "tls" else None) as server:
        given = {"endpoint": server.url, "timeoutSeconds": TIMEOUT, **SHAPES[shape]}
        settings = settings_for(None, **given)
        endpoint = open_endpoint(settings.endpoint_spec, 1)
        tracemalloc.start()
        wrong, errors = [], []
        for i in range(REQUESTS):
            text = f"text {i}"
            began = time.monotonic()
            try:
                (vector,) = endpoint.embed([text]).vectors
                if not (vector == vector_of(text, DIMENSION)).all():
                    wrong.append(i)
            except VecferryError as e:
                errors.append(e)
            assert time.monotonic() - began < 60
        try:
            endpoint.close()
        except FatalError as e:
            errors.append(e)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert wrong == []
    assert peak < GOOD_ANSWER + (64 << 20)
    assert len(errors) <= 4, errors
