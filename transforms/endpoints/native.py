"""The vendors' own shapes: Model Studio's multimodal API, and AI Search Open Platform."""

from __future__ import annotations

from typing import Any

from vecferry.errors import TransientError, shorten
from vecferry.transforms.embed_settings import EmbedSettings
from vecferry.transforms.endpoints.base import Answer
from vecferry.transforms.endpoints.http import HttpClient
from vecferry.transforms.endpoints.openai import (
    authorization,
    json_body,
    json_object,
    match_vectors,
    tokens_used,
)


class NativeEndpoint:
    """One request shape and one answer shape by `settings.protocol`; texts only."""

    def __init__(self, settings: EmbedSettings, connections: int) -> None:
        assert settings.url is not None
        self._settings = settings
        self._studio = settings.protocol == "bailian-native"
        self._multimodal = settings.model is not None and settings.model.multimodal
        self._client = HttpClient(
            settings.url,
            authorization(settings),
            connections=connections,
            timeout=settings.timeout_seconds,
        )

    def embed(self, inputs: list[str]) -> Answer:
        """The vectors of `inputs`, matched by the server's ``index``."""
        data = self._client.post(json_body(self._request(inputs)))
        content = json_object(self._client.url, data)
        inner = content.get("output" if self._studio else "result")
        items = inner.get("embeddings") if isinstance(inner, dict) else None
        if not isinstance(items, list):
            raise TransientError(
                f"{self._client.url} answers 200 without embeddings: {shorten(sorted(content))}"
            )
        model, dimension = self._settings.shown_model, self._settings.dimension
        vectors = match_vectors(items, len(inputs), dimension, model=model)
        return Answer(vectors, tokens_used(content))

    def reach(self) -> None:
        """Connects to the server and leaves."""
        self._client.reach()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()

    def _request(self, inputs: list[str]) -> dict[str, Any]:
        if not self._studio:
            if self._multimodal:
                return {"input": [{"text": text} for text in inputs]}
            return {"input": inputs, "input_type": "document"}
        request: dict[str, Any] = {
            "model": self._settings.model_name,
            "input": {"contents": [{"text": text} for text in inputs]},
        }
        if self._settings.asks_dimension:
            request["parameters"] = {"dimension": self._settings.dimension}
        return request
