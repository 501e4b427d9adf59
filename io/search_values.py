"""Values of a row as the values of a JSON document: checked, vectors in the form sent. Pure."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.errors import TerminalError
from vecferry.io.search_columns import SearchColumn
from vecferry.io.search_dialect import Field
from vecferry.io.vectors import SMALLEST_NORM2, as_vector, bad

Accept = Callable[[Any], Any]

JSON_TYPES = frozenset(
    {"object", "nested", "flattened", "flat_object", "geo_shape", "date_range", "integer_range",
     "float_range", "long_range", "double_range"}
)  # fmt: skip
"""Fields whose values are objects; a text for one of them is read as JSON, as DataX does."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def acceptor(
    name: str,
    field: Field | None,
    column: SearchColumn | None,
    *,
    splitter: str,
    base64_vectors: bool,
) -> Accept:
    """What turns a value that is not null into what is written; it raises TerminalError."""
    if field is not None and field.is_vector and field.metric != "other":
        dimension = field.dimension or (column.dimension if column else None)
        # A mapping without dimensions takes them from the first vector, which must be numbers.
        packed = base64_vectors and field.dimension is not None
        return _vectors(name, dimension, field.metric == "cosine", packed)
    if column is not None and column.is_split:
        return lambda value: plain(name, value.split(splitter) if type(value) is str else value)
    if (field is not None and field.type in JSON_TYPES) or (column is not None and column.is_json):
        return lambda value: _json(value) if type(value) is str else plain(name, value)
    return lambda value: value if type(value) in (str, int) else plain(name, value)


def plain(name: str, value: Any) -> Any:
    """The value, where JSON has a way to write it: a float that is not finite it has not."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    try:
        return _plain(name, value)
    except RecursionError:
        raise bad(name, "bad-value", "the value is nested too deeply") from None


def line(value: dict[str, Any]) -> bytes:
    """One line of JSON; raises TerminalError where the value has no form in it."""
    try:
        return orjson.dumps(value, default=_other, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
    except TypeError as e:
        why = str(e.__cause__ or e)
        reason = "invalid-text" if "surrogates" in why or "UTF-8" in why else "bad-value"
        raise TerminalError(f"the row can't be written as JSON: {why}", reason) from e


def _vectors(name: str, dimension: int | None, needs_length: bool, as_base64: bool) -> Accept:
    float32 = np.dtype(np.float32)
    most, least = math.inf, SMALLEST_NORM2

    def accept(value: Any) -> Any:
        if type(value) is np.ndarray and value.dtype == float32 and value.ndim == 1:
            vector = value if value.flags.c_contiguous else np.ascontiguousarray(value)
        else:
            vector = as_vector(name, value)
        if dimension is not None and len(vector) != dimension:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(vector)} dimensions, not {dimension}"
            )
        with np.errstate(over="ignore"):
            norm2 = float(vector.dot(vector))
        if not least < norm2 < most:
            _refuse(name, vector, norm2, needs_length)
        if as_base64:
            return base64.b64encode(vector.astype(">f4").tobytes()).decode()
        return vector

    return accept


def _refuse(name: str, vector: np.ndarray, norm2: float, needs_length: bool) -> None:
    if not len(vector):
        raise bad(name, "wrong-dimension", "the vector is empty")
    if not np.isfinite(vector).all():
        raise bad(name, "not-finite", "the vector holds NaN or an infinite number")
    if norm2 > 1:
        raise bad(name, "out-of-range", "the vector's length is beyond 32 bits")
    if needs_length:
        raise bad(name, "zero-vector", "a vector of length 0 has no direction, which cosine needs")


def _json(text: str) -> Any:
    """A JSON text as it stands, all digits of its numbers kept; another text as a text."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))  # both end a line


def _plain(name: str, value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise bad(name, "not-finite", f"{value} is no finite number")
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise bad(name, "not-finite", "the array holds NaN or an infinite number")
        if value.dtype.kind in "fiub" and value.dtype.isnative and value.ndim:
            return np.ascontiguousarray(value)
        return _plain(name, value.tolist())
    elif isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise bad(name, "not-finite", f"{value} is no finite number")
    elif isinstance(value, dict):
        return {k: v if v is None else _plain(name, v) for k, v in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        return [v if v is None else _plain(name, v) for v in value]
    return value


def _other(value: Any) -> Any:
    """What orjson has no form for."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):  # a subclass, such as of pandas
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
