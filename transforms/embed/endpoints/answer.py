"""The vectors in an answer: each on its input, all of the right size, all numbers finite."""

from __future__ import annotations

import binascii
import math
from typing import Any

import numpy as np

from vecferry.errors import shorten
from vecferry.transforms.embed.endpoints.base import BadResponseError, DimensionError, Vector


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


def decode_vector(value: object, model: str) -> Vector:
    """A vector from base64 of little-endian float32, or from a list of numbers; all finite."""
    try:
        if isinstance(value, str):
            vector = np.frombuffer(binascii.a2b_base64(value), dtype="<f4")
        elif isinstance(value, list) and value and type(value[0]) in (float, int):
            vector = np.array(value, dtype=np.float32)
            vector.flags.writeable = False
        else:
            raise TypeError(f"{type(value).__name__} is not a vector")
    except (ValueError, TypeError, OverflowError) as e:
        raise BadResponseError(
            f"{model} gave an embedding that is not a vector: {shorten(e)}"
        ) from e
    if vector.ndim != 1:
        raise BadResponseError(f"{model} gave an embedding of shape {vector.shape}")
    # The square of the norm is finite unless a part is not, or it overflows: then look at each.
    if not math.isfinite(vector.dot(vector)) and not np.isfinite(vector).all():
        raise BadResponseError(f"{model} gave a vector that holds NaN or infinity")
    return vector
