"""The OpenAI shape, which Model Studio, PAI, DataWorks and most servers speak."""

from __future__ import annotations

import binascii
import math
from typing import Any

import numpy as np
import orjson

from vecferry.errors import TransientError, VecferryError, shorten
from vecferry.transforms.embed.endpoints.base import (
    AbsentError,
    Answer,
    BadResponseError,
    DimensionError,
    PoisonError,
    Vector,
)
from vecferry.transforms.embed.endpoints.http import HttpClient, said_in
from vecferry.transforms.embed.settings import EmbedSettings


class OpenAiEndpoint:
    """``POST {base}/embeddings`` with a list of texts."""

    def __init__(self, settings: EmbedSettings, connections: int) -> None:
        assert settings.url is not None
        self._dimension = settings.dimension
        self._model = settings.shown_model
        self._request: dict[str, Any] = {"model": settings.model_name}
        if settings.asks_dimension:
            self._request["dimensions"] = settings.dimension
        self._request["encoding_format"] = "base64" if settings.provider.base64 else "float"
        self._client, *others = [
            HttpClient(
                url,
                authorization(settings),
                connections=connections,
                timeout=settings.timeout_seconds,
            )
            for url in (settings.url, settings.other_url)
            if url is not None
        ]
        self._other = others[0] if others else None

    def embed(self, inputs: list[str]) -> Answer:
        """The vectors of `inputs`, matched by the server's ``index``."""
        client = self._client
        try:
            data = client.post(json_body({**self._request, "input": inputs}))
        except AbsentError as e:
            raise self._elsewhere(client, e) from None
        content = json_object(client.url, data)
        items = content.get("data")
        if not isinstance(items, list):
            raise TransientError(f"{client.url} answers 200 without data: {said_in(content)}")
        vectors = match_vectors(items, len(inputs), self._dimension, model=self._model)
        return Answer(vectors, tokens_used(content))

    def _elsewhere(self, client: HttpClient, e: AbsentError) -> VecferryError:
        """What nothing at the address of `client` means; the next try goes to the other, if any.

        Nothing was served, so that nothing is paid twice.
        """
        if self._other is None or client is self._other:
            return e
        self._client = self._other
        client.close()
        return TransientError(f"{e}; the next try goes to {self._other.url}")

    def reach(self) -> None:
        """Connects to the server and leaves."""
        self._client.reach()

    def close(self) -> None:
        """Closes idle connections."""
        self._client.close()


def authorization(settings: EmbedSettings) -> dict[str, str]:
    """The header that carries the key, as the provider wants it; none without a key."""
    if settings.api_key is None:
        return {}
    key = getattr(settings.api_key, "reveal", settings.api_key.__str__)()
    return {"Authorization": key if settings.provider.auth == "raw" else f"Bearer {key}"}


def json_body(request: Any) -> bytes:
    """`request` as JSON; half a character in a text raises `PoisonError` with nothing sent."""
    try:
        return orjson.dumps(request)
    except TypeError as e:
        raise PoisonError(f"the text is not valid Unicode: {e}", "bad-text", sent=False) from e


def json_object(url: str, data: bytes | bytearray) -> dict[str, Any]:
    """The JSON object of an answer with status 200; anything else is a server in trouble."""
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as e:
        begin = shorten(data[:200].decode("utf-8", "replace"), 80)
        raise TransientError(f"{url} answers 200 with what is no JSON: {begin!r}") from e
    if not isinstance(content, dict):
        raise TransientError(f"{url} answers 200 with {type(content).__name__}, not an object")
    return content


def tokens_used(content: dict[str, Any]) -> int:
    """The tokens that a vendor says it will bill; 0 where it says nothing."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        return 0
    for name in ("total_tokens", "prompt_tokens", "input_tokens", "token_count"):
        if isinstance(usage.get(name), int):
            return int(usage[name])
    return 0


def match_vectors(
    items: list[Any], count: int, dimension: int, *, model: str, index: str = "index"
) -> list[Vector]:
    """The vectors of an answer in the order of the request's inputs.

    Each item holds an ``embedding`` and, under the name `index`, the place of its input: a number,
    or one as a string. Items without it are taken as they come, where their count is right.
    Raises `BadResponseError` for everything that might put a vector on another row.
    """
    if len(items) != count:
        raise BadResponseError(f"{model} gave {len(items)} vectors for {count} inputs")
    places = [_place(item, index) for item in items]
    if all(place is None for place in places):
        places = list(range(count))
    found: list[Vector | None] = [None] * count
    with np.errstate(over="ignore", invalid="ignore"):  # decode_vector looks for itself
        for place, item in zip(places, items, strict=True):
            if place is None or not 0 <= place < count or found[place] is not None:
                shown = [item.get(index) for item in items]
                raise BadResponseError(f"{model} gave {index} {shorten(shown)} for {count} inputs")
            found[place] = decode_vector(item.get("embedding"), model)
    vectors: list[Vector] = found  # type: ignore[assignment]
    sizes = {len(v) for v in vectors}
    if sizes != {dimension}:
        _raise_sizes(sizes, dimension, model)
    return vectors


def _place(item: Any, index: str) -> int | None:
    if not isinstance(item, dict):
        raise BadResponseError(f"an item of the answer is {type(item).__name__}, not an object")
    place = item.get(index)
    if type(place) is int or place is None:
        return place
    if isinstance(place, str) and len(place) < 10 and place.isascii() and place.isdigit():
        return int(place)
    raise BadResponseError(f"an item of the answer has the {index} {shorten(place)!r}")


def _raise_sizes(sizes: set[int], dimension: int, model: str) -> None:
    if len(sizes) > 1:
        raise BadResponseError(f"{model} gave vectors of {sorted(sizes)}, not all of {dimension}")
    given = sizes.pop()
    raise DimensionError(
        f"{model} gives vectors of {given} where the step says dimension {dimension}: "
        f"set dimension to {given}, or sendDimension to true if the model lets one choose",
        given,
    )


def decode_vector(value: Any, model: str) -> Vector:
    """A vector from base64 of little-endian float32, or from a list of numbers; all finite."""
    try:
        if isinstance(value, str):
            vector = np.frombuffer(binascii.a2b_base64(value), dtype="<f4")
        elif isinstance(value, list) and value and type(value[0]) in (float, int):
            vector = np.array(value, dtype=np.float32)
            vector.flags.writeable = False
        else:
            raise TypeError(f"{type(value).__name__} is no vector")
    except (ValueError, TypeError, OverflowError) as e:
        raise BadResponseError(f"{model} gave an embedding that is no vector: {shorten(e)}") from e
    if vector.ndim != 1:
        raise BadResponseError(f"{model} gave an embedding of shape {vector.shape}")
    # The square of the norm is finite unless a part is not, or it overflows: then look at each.
    if not math.isfinite(vector.dot(vector)) and not np.isfinite(vector).all():
        raise BadResponseError(f"{model} gave a vector that holds NaN or infinity")
    return vector
