"""The API of AI Search Open Platform, for texts and for texts and images."""

from __future__ import annotations

import copy
from typing import Any, Self

from vecferry.transforms.embed.endpoints.answer import match_vectors
from vecferry.transforms.embed.endpoints.base import Answer, Content, Image
from vecferry.transforms.embed.endpoints.client import base64_json, open_client, tokens_used
from vecferry.transforms.embed.endpoints.refusal import items_of
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


class AiSearchEndpoint:
    """Inputs as ``input``, vectors in ``result``; the model stands in the URL."""

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        assert spec.url is not None
        self._dimension, self._model = spec.dimension, spec.model
        self._multimodal, self._input_type = spec.multimodal, "document"
        self._client = open_client(spec, spec.url, connections)

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of texts and `Image`s, matched by the server's ``index``."""

        def read(content: dict[str, Any]) -> Answer:
            items = items_of(content, ("result", "embeddings"), self._client.url)
            vectors = match_vectors(items, len(inputs), self._dimension, model=self._model)
            return Answer(vectors, tokens_used(content))

        return self._client.post(self._request(inputs), read, inputs)

    def for_queries(self) -> Self:
        """The same endpoint for texts to search by, of which it makes other vectors."""
        other = copy.copy(self)
        other._input_type = "query"
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

    def _request(self, inputs: list[Content]) -> dict[str, Any]:
        if self._multimodal:
            return {"input": [_entry(one) for one in inputs]}
        return {"input": inputs, "input_type": self._input_type}


def _entry(one: Content) -> dict[str, Any]:
    """An input as the vendor names it: never a text and an image in one."""
    if isinstance(one, Image):
        return {"image": base64_json(one.data)}
    return {"text": one}
