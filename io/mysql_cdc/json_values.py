"""MySQL's binary JSON to the values that reading a SELECT's text gives.

Apart from `vecferry.io.mysql_cdc.rows` because the form is a small language of its own.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson

from vecferry.io.common.unfit import UnfitValue
from vecferry.io.mysql_cdc.fields import DATE, DATETIME, TIME, TIMESTAMP, decimal
from vecferry.nesting import MOST_DEPTH, TOO_DEEP

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_LIST, _LARGE_LIST, _LITERAL = range(5)
_NUMBERS = {
    5: struct.Struct("<h"), 6: struct.Struct("<H"), 7: struct.Struct("<i"), 8: struct.Struct("<I"),
    9: struct.Struct("<q"), 10: struct.Struct("<Q"), 11: struct.Struct("<d"),
}  # fmt: skip
_DOUBLE, _STRING, _OPAQUE = 11, 12, 15
_LONG = 1e15
"""From here on, a server writes a double with an exponent."""
_LITERALS = {0: None, 1: True, 2: False}
_DECIMAL = 246
_LINE = 76
"""The server breaks base64 into lines of this length."""


def json_value(data: bytes, *, short: bool = False) -> object:
    """The value of a document; an `UnfitValue`, given back, if it is nested over the limit.

    Args:
      data: the document.
      short: whether a SELECT of the server writes the double 2.0 as ``2``, as MySQL 5.7 does.

    Raises:
      ValueError, IndexError, struct.error: the bytes do not follow the documented form.
    """
    if not data:
        return None
    try:
        return _value(data, data[0], 1, 0, short)
    except UnfitValue as e:
        return e


def _value(data: bytes, kind: int, at: int, depth: int, short: bool) -> Any:
    if kind == _STRING:
        size, at = _length(data, at)
        return _part(data, at, size).decode()
    if kind in _NUMBERS:
        number = _NUMBERS[kind].unpack_from(data, at)[0]
        shortened = short and kind == _DOUBLE and number.is_integer() and abs(number) < _LONG
        return int(number) if shortened else number
    if kind == _LITERAL:
        return _literal(data[at])
    if kind <= _LARGE_LIST:
        return _nested(data, kind, at, depth + 1, short)
    if kind == _OPAQUE:
        size, start = _length(data, at + 1)
        return _opaque(data[at], _part(data, start, size))
    raise ValueError(f"JSON of the unknown type {kind}")


def _nested(data: bytes, kind: int, at: int, depth: int, short: bool) -> Any:
    if depth > MOST_DEPTH:
        raise UnfitValue(f"JSON whose {TOO_DEEP}", "too-deep")
    wide = 4 if kind in (_LARGE_OBJECT, _LARGE_LIST) else 2
    form = "<I" if wide == 4 else "<H"
    (count,) = struct.unpack_from(form, data, at)
    keyed = kind in (_SMALL_OBJECT, _LARGE_OBJECT)
    keys_at = at + 2 * wide
    entry = keys_at + (count * (wide + 2) if keyed else 0)
    if entry + count * (wide + 1) > len(data):
        raise ValueError("JSON that ends early")
    values = []
    for _ in range(count):
        inner = data[entry]
        if inner in (_LITERAL, 5, 6) or (wide == 4 and inner in (7, 8)):
            values.append(_value(data, inner, entry + 1, depth, short))
        else:
            (offset,) = struct.unpack_from(form, data, entry + 1)
            values.append(_value(data, inner, at + offset, depth, short))
        entry += wide + 1
    if not keyed:
        return values
    return dict(zip(_keys(data, at, keys_at, count, wide), values, strict=True))


def _keys(data: bytes, at: int, keys_at: int, count: int, wide: int) -> list[str]:
    form = struct.Struct("<IH" if wide == 4 else "<HH")
    return [
        _part(data, at + offset, size).decode()
        for offset, size in form.iter_unpack(data[keys_at : keys_at + count * form.size])
    ]


def _length(data: bytes, at: int) -> tuple[int, int]:
    """A length of up to five bytes with seven bits each, and where what it measures begins."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 127) << shift
        if byte < 128:
            return size, at
        shift += 7
        if shift > 28:
            raise ValueError("JSON with a length of more than five bytes")


def _part(data: bytes, at: int, size: int) -> bytes:
    found = data[at : at + size]
    if len(found) != size:
        raise ValueError("JSON that ends early")
    return found


def _literal(number: int) -> bool | None:
    if number not in _LITERALS:
        raise ValueError(f"JSON with the unknown literal {number}")
    return _LITERALS[number]


def _opaque(kind: int, data: bytes) -> Any:
    """A value of SQL within JSON, as the text of a SELECT is read."""
    if kind == _DECIMAL:
        return orjson.loads(f"{decimal(data[0], data[1])(data[2:]):f}")
    if kind in (DATE, DATETIME, TIMESTAMP, TIME):
        (packed,) = struct.unpack("<q", data)
        return _time(packed) if kind == TIME else _moment(packed, kind)
    text = base64.b64encode(data).decode()
    lines = "\n".join(text[i : i + _LINE] for i in range(0, len(text), _LINE))
    return f"base64:type{kind}:{lines}"


def _moment(packed: int, kind: int) -> str:
    whole, micros = packed >> 24, packed & 0xFFFFFF
    day, clock = whole >> 17, whole & 0x1FFFF
    year, month = divmod(day >> 5, 13)
    shown = f"{year:04}-{month:02}-{day & 31:02}"
    if kind == DATE:
        return shown
    return f"{shown} {clock >> 12:02}:{clock >> 6 & 63:02}:{clock & 63:02}.{micros:06}"


def _time(packed: int) -> str:
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    whole, micros = packed >> 24, packed & 0xFFFFFF
    return f"{sign}{whole >> 12 & 0x3FF:02}:{whole >> 6 & 63:02}:{whole & 63:02}.{micros:06}"
