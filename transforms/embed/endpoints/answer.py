"""The vectors in an answer: each on its input, all of the right size, all numbers finite."""

from __future__ import annotations

import array
import binascii
import math
from typing import Any

import numpy as np

from vecferry.errors import shorten
from vecferry.transforms.embed.endpoints.base import (
    BadResponseError,
    DimensionError,
    ShapeError,
    Vector,
)

LEAST_NORM, LARGEST_NORM = 1e-6, 1e6
"""No model gives vectors that are shorter or longer; bytes of another type or order do."""
LEAST_BITS = 64
"""Numbers that a vector has at least, if its bits are looked at."""
MOST_SPREAD, LEAST_SPREAD = 9, 6
"""Powers of two between the quarters of a vector's numbers, at most; between random bits, at least.
"""
_NUMBERS = frozenset({float, int})


def match_vectors(
    items: list[Any], count: int, dimension: int, *, model: str, index: str = "index"
) -> list[Vector]:
    """The vectors of an answer in the order of the request's inputs.

    Each item holds an ``embedding`` and, under the name `index`, the place of its input. Raises
    `BadResponseError` for everything that might put a vector on another row.
    """
    if len(items) != count:
        raise ShapeError(f"{model} gave {len(items)} vectors for {count} inputs")
    places = _places(items, model, index)
    found: list[Vector | None] = [None] * count
    with np.errstate(over="ignore", invalid="ignore"):  # decode_vector looks for itself
        for place, item in zip(places, items, strict=True):
            found[place] = decode_vector(item.get("embedding"), model)
    vectors: list[Vector] = found  # type: ignore[assignment]
    sizes = {len(v) for v in vectors}
    if sizes != {dimension}:
        _raise_sizes(sizes, dimension, model)
    if isinstance(items[0].get("embedding"), str) and (odd := odd_bits(vectors[0])):
        raise BadResponseError(f"{model} gave base64 that does not seem to be float32: {odd}")
    return vectors


def _places(items: list[Any], model: str, index: str) -> list[int]:
    """The place of each item's input, if there is one reading of them.

    Items come in the order of the inputs if none has a place, or if each has the place 0. If one
    item has none, as protobuf leaves out a 0, the place that is left is its own.
    """
    count = len(items)
    given = [_place(item, index) for item in items]
    if given.count(None) == count or given.count(0) == count:
        return list(range(count))
    left = set(range(count)).difference(given)
    places = [(left.pop() if place is None and len(left) == 1 else place) for place in given]
    if len(set(places)) != count or any(p is None or not 0 <= p < count for p in places):
        shown = [item.get(index) for item in items]
        raise ShapeError(f"{model} gave {index} {shorten(shown)} for {count} inputs")
    return places  # type: ignore[return-value]


def _place(item: Any, index: str) -> int | None:
    """A place as a number, as a whole number with a fraction of 0, or as one in digits."""
    if not isinstance(item, dict):
        raise ShapeError(f"an item of the answer is {type(item).__name__}, not an object")
    place = item.get(index)
    if type(place) is int or place is None:
        return place
    if type(place) is float and place.is_integer():
        return int(place)
    if isinstance(place, str) and len(place) < 10 and place.isascii() and place.isdigit():
        return int(place)
    raise ShapeError(f"an item of the answer has the {index} {shorten(place)!r}")


def _raise_sizes(sizes: set[int], dimension: int, model: str) -> None:
    if len(sizes) > 1:
        raise ShapeError(f"{model} gave vectors of {sorted(sizes)}, not all of {dimension}")
    given = sizes.pop()
    raise DimensionError(
        f"{model} gives vectors of {given} where the step says dimension {dimension}: "
        f"set dimension to {given}, or sendDimension to true if the model lets one choose",
        given,
    )


def decode_vector(value: object, model: str) -> Vector:
    """A vector from base64 of little-endian float32, or from a list of numbers."""
    try:
        if isinstance(value, str):
            vector = np.frombuffer(binascii.a2b_base64(value, strict_mode=True), dtype="<f4")
            _require_float32(vector)
        elif isinstance(value, list) and value:
            vector = np.frombuffer(array.array("f", value), dtype=np.float32)
            vector.flags.writeable = False
            _require_numbers(value, vector)
        else:
            raise TypeError(f"{type(value).__name__} is not a vector")
    except (ValueError, TypeError, OverflowError) as e:
        raise BadResponseError(
            f"{model} gave an embedding that is not a vector: {shorten(e)}"
        ) from e
    square = float(vector.dot(vector))
    if not math.isfinite(square):  # unless a part is not, it overflows
        if not np.isfinite(vector).all():
            raise BadResponseError(f"{model} gave a vector that holds NaN or infinity")
        square = LARGEST_NORM**2 * 2
    if not LEAST_NORM**2 <= square <= LARGEST_NORM**2:
        raise BadResponseError(
            f"{model} gave a vector whose length is "
            f"{float(np.linalg.norm(vector.astype(np.float64))):.3g}, which no model gives: "
            "are its numbers float32, the low byte first?"
        )
    return vector


def _require_float32(vector: Vector) -> None:
    """Raises ValueError for float64 of few digits: each second of its halves is 0, no other is."""
    if len(vector) < 8 or (vector[0] and vector[1]):
        return
    for zeros, others in ((vector[::2], vector[1::2]), (vector[1::2], vector[::2])):
        if not zeros.any() and others.all():
            raise ValueError("each second number is 0, as in float64 that is read as float32")


def odd_bits(vector: Vector) -> str | None:
    """Why the bytes of a vector seem to be other numbers than float32; None if they do not.

    Pairs of float16 in place of a float32 have exponents eight times as far apart as any model's
    numbers. Pairs of bfloat16 have the exponent of a number where a float32 has random bits. It is
    told by the middle half of the numbers, and not at all of few.
    """
    count = len(vector)
    if count < LEAST_BITS:
        return None
    bits = vector.view(np.uint32)
    low, high = count // 4, count * 3 // 4
    exponents = np.partition(bits >> 23 & 0xFF, (low, high))
    if exponents[high] - int(exponents[low]) > MOST_SPREAD and exponents[low]:
        return "they lie too far apart, as those of float16 do"
    inner = np.partition(bits >> 7 & 0xFF, (low, high))
    if int(inner[high]) - int(inner[low]) <= LEAST_SPREAD and 64 < inner[low] < 192:
        return "each holds a second one, as pairs of bfloat16 do"
    return None


def _require_numbers(value: list[Any], vector: Vector) -> None:
    """Raises TypeError for true and false, which are 1 and 0 to `array`."""
    if vector.all() and not (vector == 1).any():
        return
    odd = {*map(type, value)} - _NUMBERS
    if odd:
        raise TypeError(f"{odd.pop().__name__} among numbers")
