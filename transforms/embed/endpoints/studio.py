"""The multimodal API of Model Studio."""

from __future__ import annotations

from typing import Any, Self

from vecferry.transforms.embed.endpoints.answer import match_vectors
from vecferry.transforms.embed.endpoints.base import Answer, Content, Image
from vecferry.transforms.embed.endpoints.client import base64_json, open_client, tokens_used
from vecferry.transforms.embed.endpoints.refusal import items_of
from vecferry.transforms.embed.endpoints.spec import EndpointSpec


class StudioEndpoint:
    """Texts and images as ``contents``, vectors in ``output``."""

    def __init__(self, spec: EndpointSpec, connections: int) -> None:
        assert spec.url is not None
        self._dimension, self._model = spec.dimension, spec.model
        self._request: dict[str, Any] = {"model": spec.model}
        if spec.asks_dimension:
            self._request["parameters"] = {"dimension": spec.dimension}
        self._client = open_client(spec, spec.url, connections)

    def embed(self, inputs: list[Content]) -> Answer:
        """The vectors of texts and `Image`s, matched by the server's ``index``."""

        def read(content: dict[str, Any]) -> Answer:
            items = items_of(content, ("output", "embeddings"), self._client.url)
            vectors = match_vectors(items, len(inputs), self._dimension, model=self._model)
            return Answer(vectors, tokens_used(content))

        contents = [_entry(one) for one in inputs]
        request = {**self._request, "input": {"contents": contents}}
        return self._client.post(request, read, inputs)

    def for_queries(self) -> Self:
        """The endpoint itself: texts to search by are embedded as all texts are."""
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


def _entry(one: Content) -> dict[str, Any]:
    """An input as the vendor names it: never a text and an image in one."""
    if isinstance(one, Image):
        return {"image": base64_json(one.data, f"data:image/{one.kind};base64,")}
    return {"text": one}
