"""Values as the JSON that a Milvus field holds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.io.vectors import bad, parsed


def json_of(name: str) -> Callable[[Any], bytes]:
    """A function that gives a value, or a text that is JSON, as JSON; raises TerminalError."""

    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            value = parsed(value)
        try:
            text = orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
        except (TypeError, ValueError) as e:
            raise bad(name, "invalid-json", f"the value can't be written as JSON: {e}") from None
        if b"null" in text and not _is_finite(value):  # which orjson writes as null
            raise bad(name, "not-finite", "it holds NaN or an infinite number, which JSON has not")
        return text

    return accept


def _is_finite(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))
