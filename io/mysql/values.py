"""From what a MySQL server sends to values of rows, a column at a time.

Statements run with the text protocol, and the client hands on bytes as they come; None is null.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import orjson

from vecferry.io.common.unfit import Convert, UnfitValue
from vecferry.io.tables.database import Refused
from vecferry.nesting import TOO_DEEP, too_deep

BINARY = 63
"""The number of the character set of bytes."""

INTEGERS = frozenset({1, 2, 3, 8, 9, 13})
"""Tiny, short, long, longlong, int24 and year."""
DECIMALS = frozenset({0, 246})
TEXTS = frozenset({15, 247, 248, 249, 250, 251, 252, 253, 254})
JSON, BIT, GEOMETRY = 245, 16, 255

_TIME = re.compile(rb"(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?")


def converter(kind: int, charset: int, column: str) -> Convert:
    """What converts a column of a type's number; `Refused`, in words, where there is none."""
    if kind == GEOMETRY:
        raise Refused(
            f"column {column!r} is spatial, and rows hold no geometries: leave it out, or write "
            f"ST_AsText({column}) AS {column}, ST_AsGeoJSON or ST_X in `column`"
        )
    if kind in TEXTS:
        return _bytes if charset == BINARY else _texts
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    raise Refused(
        f"column {column!r} is of a type that this version does not know (number {kind}): leave "
        "it out, or write CAST(… AS CHAR) AS a name in `column`"
    )


def _each(convert: Callable[[bytes], Any]) -> Convert:
    def column(values: Sequence[Any]) -> Sequence[Any]:
        if None in values:
            return [None if v is None else convert(v) for v in values]
        return list(map(convert, values))

    return column


def _bytes(values: Sequence[Any]) -> Sequence[Any]:
    return values


def _texts(values: Sequence[Any]) -> Sequence[Any]:
    try:
        return _decoded(values)
    except UnicodeDecodeError as e:
        raise UnfitValue(f"bytes that are not valid in utf-8: {e}", "invalid-encoding") from e


_decoded = _each(bytes.decode)


def _guarded(convert: Callable[[bytes], Any]) -> Convert:
    """Gives the value itself in the error, where a converter refuses one."""

    def checked(value: bytes) -> Any:
        try:
            return convert(value)
        except UnfitValue:
            raise
        except (ValueError, ArithmeticError) as e:
            raise UnfitValue(f"{value.decode('utf-8', 'replace')!r}: {e}") from e

    return _each(checked)


def _date(value: bytes) -> datetime.date:
    _nonzero(value)
    return datetime.date.fromisoformat(value.decode())


def _datetime(value: bytes) -> datetime.datetime:
    _nonzero(value)
    return datetime.datetime.fromisoformat(value.decode())


def _timestamp(value: bytes) -> datetime.datetime:
    # The session's time zone is UTC.
    return _datetime(value).replace(tzinfo=datetime.UTC)


def _nonzero(value: bytes) -> None:
    if value[:4] == b"0000" or value[5:7] == b"00" or value[8:10] == b"00":
        raise UnfitValue(
            f"{value.decode()!r}, which is not a day: mend the value, or write "
            "NULLIF(the column, 0) AS a name in `column`",
            "zero-date",
        )


def _time(value: bytes) -> datetime.time:
    match = _TIME.fullmatch(value)
    if match is None or match[1] or int(match[2]) > 23:
        raise UnfitValue(
            f"{value.decode()!r}, which is not a time of day: write CAST(the column AS CHAR) AS a "
            "name in `column`"
        )
    _, hours, minutes, seconds, fraction = match.groups()
    micros = int((fraction or b"").ljust(6, b"0"))
    return datetime.time(int(hours), int(minutes), int(seconds), micros)


def _json(value: bytes) -> Any:
    if too_deep(value):
        raise UnfitValue(f"JSON whose {TOO_DEEP}", "too-deep")
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as e:
        if b"\n" in value:  # MySQL 5.7 breaks the lines of base64 so; each server escapes others
            return _json(value.replace(b"\n", b"\\n"))
        raise UnfitValue(f"JSON that can't be read: {e}", "invalid-json") from e


def _decimal(value: bytes) -> Decimal:
    return Decimal(value.decode())


def _bit(value: bytes) -> int:
    return int.from_bytes(value, "big")


def _nulls(values: Sequence[Any]) -> Sequence[Any]:
    return [None] * len(values)


_BY_KIND: dict[int, Convert] = {
    **dict.fromkeys(INTEGERS, _each(int)),
    **dict.fromkeys(DECIMALS, _guarded(_decimal)),
    4: _each(float),
    5: _each(float),
    6: _nulls,
    7: _guarded(_timestamp),
    10: _guarded(_date),
    14: _guarded(_date),
    11: _guarded(_time),
    12: _guarded(_datetime),
    BIT: _each(_bit),
    JSON: _each(_json),
}
