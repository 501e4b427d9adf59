"""Vectors as float32 arrays, and the errors of values that a store can't take. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vecferry.errors import TerminalError, shorten

Vector = npt.NDArray[np.float32]
"""A vector as rows have it: 1-D."""
VectorLike = np.ndarray | Sequence[float] | Mapping[Any, float] | str | bytes
"""A vector in any form that people write it in: numbers, a sparse one, its JSON text, its bytes."""

SMALLEST_NORM2 = 1.2e-38
"""A vector whose squared length is below this has no direction in 32 bits."""


def bad(field: str, reason: str, what: str) -> TerminalError:
    """The error of a value that `field` can't take."""
    return TerminalError(f"field {field!r}: {what}", reason)


def wrong_type(name: str, kind: str, value: Any) -> TerminalError:
    """The error of a value of another type than the field's."""
    what = f"a {type(value).__name__}"
    if not isinstance(value, np.ndarray | bytes):
        what += f", {shorten(value, 60)!r},"
    return bad(name, "wrong-type", f"{what} is no {kind}")


def parsed(text: str) -> Any:
    """A JSON text as its value, another text as it is."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def as_vector(name: str, value: object) -> Vector:
    """A vector, a list of numbers or its JSON text as a 1-D float32 array."""
    if isinstance(value, str):
        value = parsed(value)
    if isinstance(value, np.ndarray | list | tuple):
        try:
            with np.errstate(over="ignore"):  # too great for 32 bits: infinite, told as such
                vector = np.ascontiguousarray(value, dtype=np.float32)
        except (TypeError, ValueError):
            pass
        else:
            if vector.ndim == 1:
                return vector
    raise wrong_type(name, "FloatVector", value)
