"""Values as stores take them: vectors as float32 arrays, numbers, truth, texts, JSON. Pure.

What a store can't take is a TerminalError that names the field. Stores bring the values that come
out of here into their own form.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from vecferry.errors import PROGRAMMING_ERRORS, FatalError, TerminalError, own_fault, shorten
from vecferry.numbers import names_no_finite, real_number, whole_number, whole_of

Vector = npt.NDArray[np.float32]
"""A vector as rows have it: 1-D."""
VectorLike = np.ndarray | Sequence[float] | Mapping[Any, float] | str | bytes
"""A vector in any form that people write it in: numbers, a sparse one, its JSON text, its bytes."""

SMALLEST_NORM2 = 1.2e-38
"""A vector whose squared length is below this has no direction in 32 bits."""


def bad(field: str, reason: str, what: str) -> TerminalError:
    """The error of a value that `field` can't take."""
    return TerminalError(f"field {field!r}: {what}", reason)


def wrong_type(name: str, kind: str, value: object) -> TerminalError:
    """The error of a value of another type than the field's."""
    what = f"a {type(value).__name__}"
    if not isinstance(value, np.ndarray | bytes):
        what += f", {shorten(value, 60)!r},"
    return bad(name, "wrong-type", f"{what} is not a valid {kind}")


def without_parent(field: str, column: str, row: Mapping[str, Any]) -> TerminalError:
    """The error of a row that does not say to which document it belongs."""
    if column not in row:
        return bad(field, "missing-column", f"the row has no column {column!r}")
    return bad(field, "null-value", f"column {column!r} is null, and names the document")


def faulty(
    columns: Iterable[tuple[str, str, Callable[[Any], Any]]],
    change: Mapping[str, Any],
    error: Exception,
) -> FatalError:
    """The error of a change that our own code failed on: names the column and both its types.

    Args:
      columns: source, type in the store and acceptor of each column.
      change: the row.
      error: what was raised.
    """
    for source, kind, accept in columns:
        value = change.get(source)
        if value is None:
            continue
        try:
            accept(value)
        except TerminalError:
            continue
        except PROGRAMMING_ERRORS:
            return own_fault(f"column {source!r}, a {type(value).__name__} for {kind}", error)
    return own_fault("a row", error)


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
        numbers = _numbers(value)
        if numbers is not None and numbers.ndim == 1:
            with np.errstate(over="ignore"):  # too great for 32 bits: infinite, told as such
                return np.ascontiguousarray(numbers, dtype=np.float32)
    raise wrong_type(name, "FloatVector", value)


def _numbers(value: np.ndarray | Sequence[Any]) -> np.ndarray | None:
    """The numbers of a list, of which some may be texts or Decimals; None for another list."""
    try:
        found = np.asarray(value)
    except ValueError:  # lists of several lengths
        return None
    if found.dtype.kind in "fiub":
        return found
    if found.ndim != 1:
        return None
    try:
        return np.array([_component(one) for one in value], np.float64)
    except (ValueError, OverflowError):
        return None


def _component(value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str):
        return real_number(value)
    if isinstance(value, int | float | np.integer | np.floating | decimal.Decimal):
        return float(value)
    raise ValueError


def squared_norm(vector: Vector) -> float:
    """The square of a vector's length; infinite where that does not fit into 32 bits.

    `numpy.vdot` warns of no overflow, so it needs no context that silences warnings.
    """
    return float(np.vdot(vector, vector))


_ARRAY, _FLOAT32, _INF = np.ndarray, np.dtype(np.float32), math.inf


def checked(name: str, dimension: int | None, metric: str | None) -> Callable[[Any], Vector]:
    """A function that gives a value as a finite 1-D float32 array that `metric` can compare.

    Without a `dimension` each is right. A vector without a direction is wrong for COSINE only.
    """
    needs_length, shape = metric == "COSINE", (dimension,)

    def accept(value: Any) -> Vector:
        if type(value) is _ARRAY and value.dtype is _FLOAT32 and value.shape == shape:
            # One product tells both: it is not finite where a component is not, 0 where all are.
            if SMALLEST_NORM2 < squared_norm(value) < _INF:
                return value
        else:
            value = as_vector(name, value)
        if len(value) != dimension and dimension is not None:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(value)} dimensions, not {dimension}"
            )
        norm2 = squared_norm(value)
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


def as_half(name: str, vector: Vector, kind: str, dtype: str) -> np.ndarray:
    """A vector as 16-bit floats of `dtype` (``<f2`` or ``>f2``); `kind` is the field's type."""
    with np.errstate(over="ignore"):  # beyond 16 bits: infinite, told as such
        half = vector.astype(dtype)
    if not np.isfinite(half).all():
        raise bad(name, "out-of-range", f"a component is beyond 65504, {kind}'s greatest")
    return half


def as_int(name: str, kind: str, value: object) -> int:
    """A number without a fraction, or its text, as an int."""
    if isinstance(value, bool | np.bool_):
        pass
    elif isinstance(value, int | np.integer):
        return int(value)
    elif isinstance(value, float | np.floating | decimal.Decimal):
        found = whole_of(value if isinstance(value, decimal.Decimal) else float(value))
        if found is not None:
            return found
    elif isinstance(value, str):
        try:
            return whole_number(value)
        except ValueError:
            pass
    raise wrong_type(name, kind, value)


def as_float(name: str, kind: str, value: object) -> float:
    """A number, or its text, as a float."""
    if isinstance(value, bool | np.bool_):
        pass
    elif isinstance(value, int | float | np.integer | np.floating | decimal.Decimal | str):
        try:
            return real_number(value) if isinstance(value, str) else float(value)
        except (ValueError, OverflowError):  # a text, a signalling NaN, beyond 64 bits
            if isinstance(value, str) and names_no_finite(value):
                what = f"{shorten(value, 60)!r} is not a finite number"
                raise bad(name, "not-finite", what) from None
    raise wrong_type(name, kind, value)


def as_bool(name: str, kind: str, value: object, *, letters: bool = False) -> bool:
    """A truth value, 0 or 1, or the text of one; with `letters` also ``t`` and ``f``."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    word = str(value).strip().casefold()
    if isinstance(value, int | str):
        if word in ("true", "1") or (letters and word == "t"):
            return True
        if word in ("false", "0") or (letters and word == "f"):
            return False
    raise wrong_type(name, kind, value)


def as_json(name: str, value: object) -> bytes:
    """A value as JSON in UTF-8; NaN and infinity become null."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as e:  # orjson's error is a TypeError; what `default` raises is its cause
        raise bad(name, "invalid-json", f"the value can't be written as JSON: {e}") from None


def decoded(name: str, value: bytes) -> str:
    """Bytes of UTF-8 as a text."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise bad(name, "invalid-text", "the bytes are not UTF-8") from None


def encoded(name: str, text: str) -> bytes:
    """A text as UTF-8."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise bad(name, "invalid-text", "the text has half a surrogate pair") from None
