"""The vendors' own shapes: Model Studio's multimodal API, and AI Search Open Platform."""

from __future__ import annotations

import base64
import copy
from typing import Any, Self

from vecferry.errors import TransientError
from vecferry.transforms.embed.endpoints.base import Answer
from vecferry.transforms.embed.endpoints.http import HttpClient, said_in
from vecferry.transforms.embed.endpoints.openai import (
    authorization,
    json_body,
    json_object,
    match_vectors,
    tokens_used,
)
from vecferry.transforms.embed.images.content import Image
from vecferry.transforms.embed.settings import EmbedSettings


class NativeEndpoint:
    """One request shape and one answer shape by `settings.protocol`; texts and images."""

    def __init__(self, settings: EmbedSettings, connections: int) -> None:
        assert settings.url is not None
        self._settings = settings
        self._studio = settings.protocol == "bailian-native"
        self._multimodal = settings.multimodal
        self._input_type = "document"
        self._client = HttpClient(
            settings.url,
            authorization(settings),
            connections=connections,
            timeout=settings.timeout_seconds,
        )

    def embed(self, inputs: list[Any]) -> Answer:
        """The vectors of texts and `Image`s, matched by the server's ``index``."""
        data = self._client.post(json_body(self._request(inputs)))
        content = json_object(self._client.url, data)
        inner = content.get("output" if self._studio else "result")
        items = inner.get("embeddings") if isinstance(inner, dict) else None
        if not isinstance(items, list):
            raise TransientError(
                f"{self._client.url} answers 200 without embeddings: {said_in(content)}"
            )
        model, dimension = self._settings.shown_model, self._settings.dimension
        vectors = match_vectors(items, len(inputs), dimension, model=model)
        return Answer(vectors, tokens_used(content))

    def for_queries(self) -> Self:
        """The same endpoint for texts to search by; AI Search makes other vectors of those."""
        other = copy.copy(self)
        other._input_type = "query"
        return other

    def reach(self) -> None:
        """Connects to the server and leaves."""
        self._client.reach()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()

    def _request(self, inputs: list[Any]) -> dict[str, Any]:
        if not self._studio:
            if self._multimodal:
                return {"input": [self._entry(one) for one in inputs]}
            return {"input": inputs, "input_type": self._input_type}
        request: dict[str, Any] = {
            "model": self._settings.model_name,
            "input": {"contents": [self._entry(one) for one in inputs]},
        }
        if self._settings.asks_dimension:
            request["parameters"] = {"dimension": self._settings.dimension}
        return request

    def _entry(self, one: Any) -> dict[str, str]:
        """An input as the vendor names it: never a text and an image in one."""
        if type(one) is not Image:
            return {"text": one}
        text = base64.b64encode(one.data).decode()
        return {"image": f"data:image/{one.kind};base64,{text}" if self._studio else text}
