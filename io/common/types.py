"""Column types of files: from text or JSON to the value in the row.

The types are DataWorks': string, long, double, boolean and date. A converter takes one value that
is not null and gives the typed one, or raises ValueError with a text for the reject. Dates are in
UTC, and one without an offset is taken as UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from vecferry.errors import shorten
from vecferry.numbers import real_number, whole_number, whole_of

TYPES = ("string", "long", "double", "boolean", "date")

ConvertValue = Callable[[Any], Any]
"""Turns one value that is not null into the typed one; raises ValueError."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = 2**53  # from here on the parser may have rounded a float that is a whole number
_JAVA_RUN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)
_DIRECTIVES = {
    "y": "%Y", "yy": "%y", "yyyy": "%Y", "M": "%m", "MM": "%m", "MMM": "%b", "MMMM": "%B",
    "d": "%d", "dd": "%d", "H": "%H", "HH": "%H", "h": "%I", "hh": "%I", "m": "%M", "mm": "%M",
    "s": "%S", "ss": "%S", "S": "%f", "SS": "%f", "SSS": "%f", "SSSSSS": "%f", "a": "%p",
    "Z": "%z", "X": "%z", "XX": "%z", "XXX": "%z", "E": "%a", "EEE": "%a", "EEEE": "%A",
}  # fmt: skip


def strptime_format(pattern: str) -> str:
    """A Java date pattern such as ``yyyy-MM-dd HH:mm:ss`` as one for `datetime.strptime`.

    Raises ValueError for a letter that has no counterpart.
    """
    parts: list[str] = []
    for run in _JAVA_RUN.finditer(pattern):
        text, letter = run.group(), run.group(2)
        if letter and text not in _DIRECTIVES:
            known = " ".join(_DIRECTIVES)
            raise ValueError(
                f"date format {pattern!r}: {text!r} has no meaning here; known are {known}, "
                "and other letters in single quotes"
            )
        if letter:
            parts.append(_DIRECTIVES[text])
        else:
            literal = text if run.group(1) is None else run.group(1).replace("''", "'") or "'"
            parts.append(literal.replace("%", "%%"))
    return "".join(parts)


def text_converter(kind: str | None, pattern: str | None = None) -> ConvertValue | None:
    """The converter from text to `kind`, one of `TYPES`; None where text stays as it is."""
    if kind is None or kind == "string":
        return None
    if kind == "date":
        return _date_converter(pattern)
    return {"long": _long, "double": _double, "boolean": _boolean}[kind]


def json_converter(kind: str | None, pattern: str | None = None) -> ConvertValue | None:
    """The converter from a JSON value to `kind`; text in it is read as in a CSV field.

    A string column takes any value; what is not a text comes as its JSON. None leaves values as
    they are.
    """
    if kind is None:
        return None
    if kind == "string":
        return _json_string
    from_text = text_converter(kind, pattern)
    assert from_text is not None
    keep_by_kind: dict[str, ConvertValue] = {
        "long": _json_long,
        "double": _json_double,
        "boolean": _json_boolean,
        "date": _json_date,
    }
    keeps = keep_by_kind[kind]

    def convert(value: Any) -> Any:
        return from_text(value) if type(value) is str else keeps(value)

    return convert


def _long(text: str) -> int:
    return _in_range(whole_number(text))


def _in_range(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError(
            f"{shorten(value, 60)} does not fit into 64 bits; take the column as a string"
        )
    return value


def _double(text: str) -> float:
    return real_number(text)


def _boolean(text: str) -> bool:
    folded = text.strip().lower()
    if folded not in ("true", "false"):
        raise ValueError(f"{_quoted(text)} is neither true nor false")
    return folded == "true"


def _date_converter(pattern: str | None) -> ConvertValue:
    if pattern is None:
        return _iso_date
    directive = strptime_format(pattern)

    def convert(text: str) -> datetime:
        try:
            return _in_utc(datetime.strptime(text.strip(), directive))
        except (ValueError, OverflowError) as e:
            raise ValueError(f"{_quoted(text)} is not a date of the format {pattern!r}") from e

    return convert


def _iso_date(text: str) -> datetime:
    try:
        return _in_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError) as e:
        raise ValueError(
            f"{_quoted(text)} is not an ISO 8601 date; give the column a `format`"
        ) from e


def _in_utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _json_string(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float and not abs(value) < 2.0**63:
        raise ValueError(
            f"{value!r} is a number that 64 bits don't hold: its digits are lost; "
            "write it as a text in the file"
        )
    try:
        return orjson.dumps(value).decode()
    except TypeError as e:  # nested deeper than it may be written
        raise ValueError(f"it can't be written as JSON ({e})") from e


def _json_long(value: Any) -> int:
    if type(value) is int:
        return _in_range(value)
    if type(value) is float and abs(value) < _EXACT:
        found = whole_of(value)
        if found is not None:
            return found
    raise ValueError(f"{_quoted(value)} is not a whole number")


def _json_double(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    raise ValueError(f"{_quoted(value)} is not a number")


def _json_boolean(value: Any) -> bool:
    if type(value) is bool or (type(value) in (int, float) and value in (0, 1)):
        return bool(value)
    raise ValueError(f"{_quoted(value)} is neither true nor false")


def _json_date(value: Any) -> datetime:
    if type(value) is int:
        try:
            return _EPOCH + timedelta(milliseconds=value)
        except OverflowError:
            pass
    raise ValueError(f"{_quoted(value)} is neither a date as text nor milliseconds since 1970")


def _quoted(value: Any) -> str:
    return repr(shorten(value, 60))
