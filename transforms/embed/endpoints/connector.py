"""The shape of a connector of ml-commons: its own body, word for word, and OpenAI's answer."""

from __future__ import annotations

from typing import Any, Self

import orjson

from vecferry.transforms.embed.endpoints.answer import match_vectors
from vecferry.transforms.embed.endpoints.base import Answer, Content
from vecferry.transforms.embed.endpoints.client import json_body, open_client, tokens_used
from vecferry.transforms.embed.endpoints.refusal import items_of
from vecferry.transforms.embed.endpoints.request_body import around_input
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


class ConnectorEndpoint:
    """``POST {base}/embeddings`` with a list of texts in the body that a connector has."""

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        assert spec.url is not None
        assert spec.request_body is not None
        self._dimension, self._model = spec.dimension, spec.model
        self._before, self._after = around_input(spec.request_body, spec.model)
        self._client = open_client(spec, spec.url, connections)

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of `inputs`, matched by the server's ``index``."""

        def read(content: dict[str, Any]) -> Answer:
            items = items_of(content, ("data",), self._client.url)
            vectors = match_vectors(items, len(inputs), self._dimension, model=self._model)
            return Answer(vectors, tokens_used(content))

        texts = json_body(inputs)
        request = orjson.Fragment(self._before + texts + self._after)
        return self._client.post(request, read, inputs)

    def for_queries(self) -> Self:
        """The endpoint itself: a connector has one body for all texts."""
        return self

    def reach(self) -> None:
        """Connects to the server and leaves."""
        self._client.reach()

    def settle(self) -> None:
        """Raises FatalError if the server sent what nobody asked for."""
        self._client.settle()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()
