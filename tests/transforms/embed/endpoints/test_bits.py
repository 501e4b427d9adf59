"""Bytes of other numbers are not taken for float32, and no vector of a model is refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from tests.effort import LONG
from vecferry.transforms.embed.endpoints.answer import match_vectors, odd_bits
from vecferry.transforms.embed.endpoints.base import BadResponseError

RANDOM = np.random.default_rng(7)


def _answer(data: bytes, dimension: int):
    item = {"index": 0, "embedding": base64.b64encode(data).decode()}
    return match_vectors([item], 1, dimension, model="m")


@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("dimension", [128, 256, 1024])
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_numbers_of_two_bytes_are_refused(kind, dimension, scale):
    """Twice as many of them have the length of float32, and often a plausible norm."""
    for _ in range(10):
        numbers = (RANDOM.standard_normal(2 * dimension) * scale).astype(np.float32)
        pairs = numbers.view(np.uint32) >> 16
        data = numbers.astype("<f2") if kind == "float16" else pairs.astype("<u2")
        with pytest.raises(BadResponseError):
            _answer(data.tobytes(), dimension)


MODELS = {
    "unit": lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
    "long": lambda x: 7 * x,
    "rounded to float16": lambda x: x.astype("f2"),
    "rounded to bfloat16": lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32),
    "eight bits": lambda x: np.round(40 * x).clip(-127, 127) / np.float32(127),
    "without negative numbers": lambda x: np.maximum(x, 0),
    "signs": np.sign,
    "far apart": lambda x: np.exp(2 * x),
}


@pytest.mark.parametrize("dimension", [64, 256])
@pytest.mark.parametrize("kind", MODELS)
def test_no_vector_of_a_model_is_refused(kind, dimension):
    """Not one in many thousands."""
    numbers = RANDOM.standard_normal((50_000 if LONG else 1000, dimension)).astype(np.float32)
    vectors = np.ascontiguousarray(MODELS[kind](numbers), dtype=np.float32)
    assert not any(odd_bits(vector) for vector in vectors)
