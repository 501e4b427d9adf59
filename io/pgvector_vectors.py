"""Vectors on their way into a table: checked, and in the binary form of their type. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vecferry.io.vectors import SMALLEST_NORM2, as_vector, bad

Accept = Callable[[Any], bytes]

FLOAT4_OID = 700
_ARRAY, _FLOAT32, _INF = np.ndarray, np.dtype(np.float32), math.inf
_NUMBER = np.dtype([("length", ">i4"), ("value", ">f4")])
"""An element of ``float4[]``."""
_BLOCK = 64
"""Vectors that are checked and copied together, while they are in the processor's cache."""


def checked(name: str, dimension: int | None, metric: str) -> Callable[[Any], np.ndarray]:
    """A function that gives a value as a 1-D float32 array which `metric` can compare."""
    needs_length, shape = metric == "COSINE", (dimension,)

    def accept(value: Any) -> np.ndarray:
        if type(value) is _ARRAY and value.dtype is _FLOAT32 and value.shape == shape:
            # One product tells both: it is not finite where a component is not, 0 where all are.
            if SMALLEST_NORM2 < float(value.dot(value)) < _INF:
                return value
        else:
            value = as_vector(name, value)
        if len(value) != dimension and dimension is not None:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(value)} dimensions, not {dimension}"
            )
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


def float4_field(vector: np.ndarray) -> bytes:
    """A vector as a field of ``float4[]``: the array's header, each number with its length."""
    n = len(vector)
    cells = np.empty(n, _NUMBER)
    cells["length"], cells["value"] = 4, vector
    head = struct.pack("!iiiiii", 20 + 8 * n, 1, 0, FLOAT4_OID, n, 1)
    return head + cells.tobytes()


def vector_field(vector: np.ndarray) -> bytes:
    """A vector as a field of pgvector's ``vector``: number of dimensions, nothing, the numbers."""
    n = len(vector)
    return struct.pack("!iHH", 4 + 4 * n, n, 0) + vector.astype(">f4").tobytes()


def halfvec(name: str, dimension: int | None, metric: str) -> Accept:
    """A function from a value to its field of pgvector's ``halfvec``."""
    accept_vector = checked(name, dimension, metric)

    def accept(value: Any) -> bytes:
        vector = accept_vector(value)
        with np.errstate(over="ignore"):
            numbers = vector.astype(">f2")
        if not np.isfinite(numbers).all():
            raise bad(name, "out-of-range", "a component is beyond 65504, halfvec's greatest")
        n = len(vector)
        return struct.pack("!iHH", 4 + 2 * n, n, 0) + numbers.tobytes()

    return accept


def vector_elements(count: int, n: int, head: bytes) -> tuple[memoryview, np.ndarray]:
    """`head` and `count` fields of ``vector``, and their numbers, to be filled: (count, n)."""
    cell = np.dtype([("length", ">i4"), ("n", ">u2"), ("unused", ">u2"), ("value", ">f4", (n,))])
    raw, cells = _behind(head, count, cell)
    cells["length"], cells["n"], cells["unused"] = 4 + 4 * n, n, 0
    return raw, cells["value"]


def float4_elements(count: int, n: int, head: bytes) -> tuple[memoryview, np.ndarray]:
    """`head` and elements of ``float4[]``, and their numbers, to be filled: (count, n)."""
    raw, cells = _behind(head, count * n, _NUMBER)
    cells["length"] = 4
    return raw, cells["value"].reshape(-1, n)


def _behind(head: bytes, count: int, cell: np.dtype) -> tuple[memoryview, np.ndarray]:
    """Room for `head`, which is there, and for cells behind it."""
    raw = np.empty(len(head) + count * cell.itemsize, np.uint8)
    raw[: len(head)] = np.frombuffer(head, np.uint8)
    return raw.data, np.ndarray(count, cell, raw, len(head))


def fill(rows: np.ndarray, vectors: Sequence[np.ndarray]) -> None:
    """Copies vectors, one into each row."""
    # One by one, while each is in the processor's cache: a copy of all at once takes twice as long.
    for i, vector in enumerate(vectors):
        rows[i] = vector


def fill_checked(rows: np.ndarray, vectors: list[Any]) -> None:
    """As `fill`, for vectors that every metric can compare; ValueError where one of them is not."""
    count, n = rows.shape
    if (
        list(map(type, vectors)).count(_ARRAY) != count
        or [v.dtype for v in vectors].count(_FLOAT32) != count
        or [v.shape for v in vectors].count((n,)) != count
    ):
        raise ValueError
    for i in range(0, count, _BLOCK):
        some = np.concatenate(vectors[i : i + _BLOCK]).reshape(-1, n)
        norms2 = np.einsum("ij,ij->i", some, some)
        if not (norms2.min() > SMALLEST_NORM2 and norms2.max() < _INF):
            raise ValueError
        rows[i : i + _BLOCK] = some
