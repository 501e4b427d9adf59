"""From a value found in a JSON document to a value of a declared type.

Each function gives None for what does not fit, so that a row of good data pays for no exception.
JSON's own null never reaches a function.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from datetime import UTC
from decimal import Decimal
from typing import Any

import orjson

from vecferry.numbers import real_number, whole_number, whole_of

_ISO = re.compile(r"[0-9]{4}-?(?:[0-9]{2}-?[0-9]{2}|W[0-9]{2}-?[0-9])(?:[Tt ]\S*)?")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
_NUMERIC = (int, float)
_WRITABLE = (int, float, dict, list, tuple)
_DUMP = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS

EXACT = 2**53
"""Below it a float that is a whole number is that number; above, the parser may have rounded."""


def to_string(value: object) -> str | None:
    """Text as it is, all else as compact JSON text.

    A number that 64 bits don't hold is refused, because the parser has rounded it. A long id would
    come out as ``1.2345678901234568e+29``.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not abs(value) < 2.0**63:
        return None
    if isinstance(value, _WRITABLE):
        try:
            return orjson.dumps(value, default=str, option=_DUMP).decode()
        except TypeError:  # a lone surrogate, an endless nesting, a number over 64 bits
            return None
    return None


def to_long(value: object) -> int | None:
    """A whole number of 64 bits, signed, or a text of one; ``12.0`` is 12, ``1.5`` is refused."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            value = whole_number(value)
        except ValueError:
            return None
    elif isinstance(value, float | Decimal):
        whole = whole_of(value)
        if whole is None or (isinstance(value, float) and abs(value) >= EXACT):
            return None
        value = whole
    elif not isinstance(value, int):
        return None
    return value if -(2**63) <= value < 2**63 else None


def to_double(value: object) -> float | None:
    """A number, or a text of one; neither infinity nor NaN, which JSON lacks."""
    if isinstance(value, bool):
        return None
    if not isinstance(value, str | int | float | Decimal):
        return None
    try:
        number = real_number(value) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def to_boolean(value: object) -> bool | None:
    """``true`` or ``false``, their texts in any case, or the numbers 1 and 0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    if isinstance(value, _NUMERIC) and value in (0, 1):
        return bool(value)
    return None


def to_date(value: object) -> datetime.datetime | None:
    """An ISO 8601 date or date and time, or milliseconds since 1970, as a datetime in UTC.

    A text without an offset is taken as UTC.
    """
    if isinstance(value, bool | Decimal):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not _ISO.fullmatch(text):
            return None
        try:
            value = datetime.datetime.fromisoformat(text)
        except ValueError:
            return None
    if isinstance(value, datetime.datetime):
        return _in_utc(value)
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=UTC)
    millis = to_long(value)
    try:
        return None if millis is None else _EPOCH + datetime.timedelta(milliseconds=millis)
    except OverflowError:
        return None


def _in_utc(value: datetime.datetime) -> datetime.datetime | None:
    if value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    try:
        return value.astimezone(UTC)
    except OverflowError:  # an offset at either end of the calendar
        return None


def to_json(value: object) -> Any:
    """The value as it was parsed."""
    return value


CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "STRING": to_string,
    "LONG": to_long,
    "DOUBLE": to_double,
    "BOOLEAN": to_boolean,
    "DATE": to_date,
    "JSON": to_json,
}
