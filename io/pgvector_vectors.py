"""Vectors on their way into a table: checked, and in the binary form of their type. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from vecferry.io.vectors import SMALLEST_NORM2, as_vector, bad

Accept = Callable[[Any], bytes]

FLOAT4_OID = 700
_BITS, _FLOAT32 = np.dtype(np.uint32), np.dtype(np.float32)


def checked(name: str, dimension: int | None, metric: str) -> Callable[[Any], np.ndarray]:
    """A function that gives a value as a 1-D float32 array which `metric` can compare."""
    needs_length = metric == "COSINE"

    def accept(value: Any) -> np.ndarray:
        if type(value) is not np.ndarray or value.dtype is not _FLOAT32 or value.ndim != 1:
            value = as_vector(name, value)
        if len(value) != dimension and dimension is not None:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(value)} dimensions, not {dimension}"
            )
        # One product tells both: it is not finite where a component is not, 0 where all are.
        norm2 = float(value.dot(value))
        if SMALLEST_NORM2 < norm2 < math.inf:
            return value  # type: ignore[no-any-return]
        if not np.isfinite(value).all():
            raise bad(name, "not-finite", "the vector holds NaN or an infinite number")
        if needs_length and norm2 <= SMALLEST_NORM2:
            what = "a vector of length 0 has no direction, which metric COSINE needs"
            raise bad(name, "zero-vector", what)
        if needs_length:
            raise bad(name, "out-of-range", "the vector's length does not fit into 32 bits")
        return value  # type: ignore[no-any-return]

    return accept


def float4_array(name: str, dimension: int | None, metric: str) -> Accept:
    """For ``float4[]``: the array's header, then each number with its length."""
    accept_vector = checked(name, dimension, metric)

    def template(length: int) -> np.ndarray:
        words = np.full(6 + 2 * length, 4, ">u4")
        words[:6] = 20 + 8 * length, 1, 0, FLOAT4_OID, length, 1
        return words

    known, shape = template(dimension or 0), (dimension,)

    def accept(value: Any) -> bytes:
        good = type(value) is np.ndarray and value.dtype is _FLOAT32 and value.shape == shape
        vector = value
        if not good or not SMALLEST_NORM2 < float(value.dot(value)) < math.inf:
            vector = accept_vector(value)
        words = known.copy() if dimension is not None else template(len(vector))
        words[7::2] = vector.view(_BITS)
        return words.tobytes()

    return accept


def pgvector_vector(name: str, dimension: int | None, metric: str, *, half: bool = False) -> Accept:
    """For pgvector's ``vector`` and ``halfvec``: number of dimensions, nothing, the numbers."""
    accept_vector = checked(name, dimension, metric)

    def head(length: int) -> bytes:
        return struct.pack("!iHH", 4 + 4 * length, length, 0)

    known, shape = head(dimension or 0), (dimension,)

    def accept(value: Any) -> bytes:
        good = type(value) is np.ndarray and value.dtype is _FLOAT32 and value.shape == shape
        vector = value
        if not good or not SMALLEST_NORM2 < float(value.dot(value)) < math.inf:
            vector = accept_vector(value)
        before = known if dimension is not None else head(len(vector))
        return before + vector.astype(">f4").tobytes()  # type: ignore[no-any-return]

    def accept_half(value: Any) -> bytes:
        vector = accept_vector(value)
        with np.errstate(over="ignore"):
            numbers = vector.astype(">f2")
        if not np.isfinite(numbers).all():
            raise bad(name, "out-of-range", "a component is beyond 65504, halfvec's greatest")
        n = len(vector)
        return struct.pack("!iHH", 4 + 2 * n, n, 0) + numbers.tobytes()

    return accept_half if half else accept
