"""Answers that are nested deep are refused in words, whichever field is, at every status."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import orjson
import pytest

from tests.transforms.embed.endpoints.server import EndpointServer, vector_of
from tests.transforms.embed.support import DIMENSION, settings_for
from vecferry.errors import VecferryError
from vecferry.transforms.embed.endpoints.base import Answer, Endpoint, PoisonError
from vecferry.transforms.embed.endpoints.choose import open_endpoint
from vecferry.transforms.embed.endpoints.client import fault_of

DEPTHS = (200, 260, 1000, 5000)
STATUSES = (200, 400, 500)
NESTS = ((b"[", b"]"), (b'{"a":', b"}"))
VECTOR = orjson.dumps(vector_of("text 0", DIMENSION).tolist())


def _with_item(index: bytes, embedding: bytes, usage: bytes = b"{}") -> bytes:
    item = b'{"index":%b,"embedding":%b}' % (index, embedding)
    return b'{"data":[%b],"usage":%b}' % (item, usage)


FIELDS: dict[str, Callable[[bytes], bytes]] = {
    "error": lambda deep: b'{"error":%b}' % deep,
    "error.message": lambda deep: b'{"error":{"message":%b}}' % deep,
    "error.code": lambda deep: b'{"error":{"message":"no","code":%b}}' % deep,
    "error.type": lambda deep: b'{"error":{"message":"no","type":%b}}' % deep,
    "error.status": lambda deep: b'{"error":{"message":"no","status":%b}}' % deep,
    "message": lambda deep: b'{"code":%b,"message":%b}' % (deep, deep),
    "detail": lambda deep: b'{"detail":%b}' % deep,
    "another field": lambda deep: b'{"other":%b}' % deep,
    "the whole": lambda deep: deep,
    "data": lambda deep: b'{"data":%b}' % deep,
    "an item of data": lambda deep: b'{"data":[%b]}' % deep,
    "index": lambda deep: _with_item(deep, VECTOR),
    "embedding": lambda deep: _with_item(b"0", deep),
    "a number of the embedding": lambda deep: _with_item(b"0", b"[0.5,%b]" % deep),
    "usage": lambda deep: _with_item(b"0", VECTOR, deep),
    "usage.total_tokens": lambda deep: _with_item(b"0", VECTOR, b'{"total_tokens":%b}' % deep),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_nested_deep_is_refused_in_few_words(field: str) -> None:
    """At each depth and status; what needs no such field is used, and costs no tokens."""
    used = 0
    with EndpointServer() as server:
        endpoint = open_endpoint(settings_for(server).endpoint_spec, 1)
        for depth, (begin, end), status in itertools.product(DEPTHS, NESTS, STATUSES):
            body = FIELDS[field](begin * depth + b"1" + end * depth)
            server.answer = lambda *_, s=status, b=body: (s, {}, b)  # type: ignore[method-assign]
            found = _asked(endpoint)
            if isinstance(found, Answer):
                used += 1
                assert status == 200
                assert np.array_equal(found.vectors[0], vector_of("text 0", DIMENSION))
                assert found.tokens == 0
            else:
                assert len(str(found)) < 500
                assert status == 200 or isinstance(found, PoisonError) == (status == 400)
        endpoint.close()
    assert used == (len(NESTS) * (len(DEPTHS) - 1) if field.startswith("usage") else 0)


def _asked(endpoint: Endpoint) -> Answer | VecferryError:
    try:
        return endpoint.embed(["text 0"])
    except VecferryError as e:
        return e


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_refusal_keeps_its_message_beside_a_field_that_is_nested_deep(depth: int) -> None:
    """What the server says is told, as far as the answer can be read at all."""
    deep = b"[" * depth + b"]" * depth
    body = b'{"error":{"message":"too rude","code":%b},"more":%b}' % (deep, deep)
    assert "too rude" in str(fault_of("http://h", 400, {}, body))
