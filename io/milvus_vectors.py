"""Vectors on their way into Milvus: checked and brought into the form of their field. Pure."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from vecferry.io.milvus_schema import FieldInfo
from vecferry.io.vectors import SMALLEST_NORM2, as_vector, bad, parsed, wrong_type

Accept = Callable[[Any], Any]


def float_vector(field: FieldInfo) -> Accept:
    """For a FloatVector: gives a 1-D float32 array of its dimension, finite."""
    name, shape, float32 = field.name, (field.dimension,), np.dtype(np.float32)
    needs_length = field.metric == "COSINE"

    def accept(value: Any) -> np.ndarray:
        if type(value) is not np.ndarray or value.dtype is not float32 or value.ndim != 1:
            value = as_vector(name, value)
        if value.shape != shape:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(value)} dimensions, not {shape[0]}"
            )
        # One product tells both: it is not finite where a component is not, 0 where all are.
        norm2 = float(value.dot(value))
        if SMALLEST_NORM2 < norm2 < math.inf:
            return value  # type: ignore[no-any-return]
        if not np.isfinite(value).all():
            raise bad(name, "not-finite", "the vector holds NaN or an infinite number")
        if needs_length and norm2 <= SMALLEST_NORM2:
            raise bad(
                name, "zero-vector", "a vector of length 0 has no direction, which COSINE needs"
            )
        if needs_length:
            raise bad(name, "out-of-range", "the vector's length does not fit into 32 bits")
        return value  # type: ignore[no-any-return]

    return accept


def half_vector(field: FieldInfo) -> Accept:
    """For a Float16Vector or BFloat16Vector: gives its bytes, little-endian."""
    inner = float_vector(field)
    size = 2 * (field.dimension or 0)
    brain = field.type == "BFloat16Vector"

    def accept(value: Any) -> bytes:
        if isinstance(value, bytes):
            if len(value) == size:
                return value
            raise bad(field.name, "wrong-dimension", f"{len(value)} bytes, not {size}")
        vector = inner(value)
        if brain:  # the upper half of a float32, rounded to nearest even
            bits = vector.astype("<f4").view("<u4")
            return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"))
        with np.errstate(over="ignore"):
            half = vector.astype("<f2")
        if not np.isfinite(half).all():
            raise bad(field.name, "out-of-range", "a component is beyond 65504, Float16's greatest")
        return bytes(half)

    return accept


def binary_vector(field: FieldInfo) -> Accept:
    """For a BinaryVector, of bytes, base64, bits or numbers of 8 bits: gives its bytes."""
    dimension = field.dimension or 0

    def accept(value: Any) -> bytes:
        data = value
        if isinstance(value, str):
            data = parsed(value)
            if isinstance(data, str):
                try:
                    data = base64.b64decode(data, validate=True)
                except ValueError:
                    raise wrong_type(field.name, "BinaryVector", value) from None
        if isinstance(data, list | tuple | np.ndarray):
            data = _packed(field.name, data, dimension)
        if not isinstance(data, bytes):
            raise wrong_type(field.name, "BinaryVector", value)
        if len(data) * 8 != dimension:
            raise bad(field.name, "wrong-dimension", f"{len(data) * 8} bits, not {dimension}")
        return data

    return accept


def _packed(name: str, value: Any, dimension: int) -> bytes:
    """Bits (0 or 1 each), or bytes as numbers, as bytes."""
    try:
        numbers = np.asarray(value)
        if len(numbers) == dimension and np.isin(numbers, (0, 1)).all():
            return np.packbits(numbers.astype(np.uint8)).tobytes()
        return bytes(numbers.tolist())
    except (TypeError, ValueError):
        raise wrong_type(name, "BinaryVector", value) from None


def sparse_vector(field: FieldInfo) -> Accept:
    """For a SparseFloatVector: gives its pairs of index and weight as bytes, in order."""
    name = field.name

    def accept(value: Any) -> bytes:
        """``{index: weight}``, ``[[index, weight]]`` or ``["3:0.5", "24:0.8"]``."""
        if isinstance(value, str):
            value = parsed(value)
        try:
            pairs = value.items() if isinstance(value, dict) else value
            split = (p.split(":", 1) if isinstance(p, str) else p for p in pairs)
            weights = {int(i): float(w) for i, w in split}
        except (TypeError, ValueError, AttributeError):
            raise wrong_type(name, "SparseFloatVector", value) from None
        if not weights:
            raise bad(name, "zero-vector", "a sparse vector needs at least one weight")
        if not all(0 <= i < 2**32 - 1 for i in weights):
            raise bad(name, "out-of-range", "an index is not within 0 to 4294967294")
        if not all(0 <= w < 3.5e38 for w in weights.values()):
            raise bad(name, "not-finite", "a weight is negative, NaN or infinite")
        return b"".join(struct.pack("<If", i, w) for i, w in sorted(weights.items()))

    return accept
