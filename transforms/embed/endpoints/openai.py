"""The OpenAI shape, which Model Studio, PAI, DataWorks and most servers speak."""

from __future__ import annotations

import copy
from typing import Any, Self

import orjson

from vecferry.errors import TransientError, VecferryError
from vecferry.transforms.embed.endpoints.answer import match_vectors
from vecferry.transforms.embed.endpoints.base import AbsentError, Answer, Content
from vecferry.transforms.embed.endpoints.client import (
    JsonClient,
    open_client,
    tokens_used,
)
from vecferry.transforms.embed.endpoints.refusal import items_of
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


class OpenAiEndpoint:
    """``POST {base}/embeddings`` with a list of texts."""

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        assert spec.url is not None
        self._dimension, self._model = spec.dimension, spec.model
        self._request: dict[str, Any] = {"model": spec.model}
        if spec.asks_dimension:
            self._request["dimensions"] = spec.dimension
        self._request["encoding_format"] = "base64" if spec.base64 else "float"
        self._queries = {**self._request, **orjson.loads(spec.query_body)}
        self._request |= orjson.loads(spec.body)
        self._client = open_client(spec, spec.url, connections)
        other = spec.other_url
        self._other = None if other is None else open_client(spec, other, connections)

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of `inputs`, matched by the server's ``index``."""
        client = self._client

        def read(content: dict[str, Any]) -> Answer:
            items = items_of(content, ("data",), client.url)
            vectors = match_vectors(items, len(inputs), self._dimension, model=self._model)
            return Answer(vectors, tokens_used(content))

        try:
            return client.post({**self._request, "input": inputs}, read, inputs)
        except AbsentError as e:
            raise self._elsewhere(client, e) from None

    def _elsewhere(self, client: JsonClient, e: AbsentError) -> VecferryError:
        """What nothing at the address of `client` means; the next try goes to the other, if any.

        Nothing was served, so that nothing is paid twice.
        """
        if self._other is None or client is self._other:
            return e
        self._client = self._other
        client.close()
        return TransientError(f"{e}; the next try goes to {self._other.url}")

    def for_queries(self) -> Self:
        """The endpoint with the fields that requests have for texts to search by."""
        if self._queries == self._request:
            return self
        other = copy.copy(self)
        other._request = self._queries
        return other

    def reach(self) -> None:
        """Connects to the server and leaves."""
        self._client.reach()

    def settle(self) -> None:
        """Raises FatalError if the server sent what nobody asked for."""
        self._client.settle()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()
