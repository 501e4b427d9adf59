"""Single values on their way into a table: checked, and in the binary form of their type. Pure."""

from __future__ import annotations

import datetime
import decimal
import math
import struct
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.errors import shorten
from vecferry.io.pgvector_columns import SqlType
from vecferry.io.vectors import bad, parsed, wrong_type

Accept = Callable[[Any], bytes]

INT_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}
TEXTS = ("text", "character varying", "character")


def _integer(name: str, kind: SqlType) -> Accept:
    size = INT_BYTES[kind.name]
    most = 1 << (8 * size - 1)

    def accept(value: Any) -> bytes:
        if type(value) is not int:
            value = _whole(name, kind, value)
        if -most <= value < most:
            return value.to_bytes(size, "big", signed=True)  # type: ignore[no-any-return]
        raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")

    return accept


def _whole(name: str, kind: SqlType, value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        pass
    elif isinstance(value, int | np.integer):
        return int(value)
    elif isinstance(value, float | np.floating | decimal.Decimal):
        if value == value // 1 and math.isfinite(value):
            return int(value)
    elif isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            pass
    raise wrong_type(name, str(kind), value)


def _real(name: str, kind: SqlType) -> Accept:
    form = struct.Struct("!f" if kind.name == "real" else "!d")

    def accept(value: Any) -> bytes:
        if type(value) is not float:
            value = _number(name, kind, value)
        try:
            return form.pack(value)
        except OverflowError:
            raise bad(name, "out-of-range", f"{value} does not fit into {kind}") from None

    return accept


def _number(name: str, kind: SqlType, value: Any) -> float:
    if not isinstance(value, bool | np.bool_ | bytes):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise wrong_type(name, str(kind), value)


def _boolean(name: str, kind: SqlType) -> Accept:
    known = {"true": b"\1", "t": b"\1", "1": b"\1", "false": b"\0", "f": b"\0", "0": b"\0"}

    def accept(value: Any) -> bytes:
        if isinstance(value, bool | np.bool_):
            return b"\1" if value else b"\0"
        word = str(value).strip().casefold()
        if isinstance(value, int | str) and word in known:
            return known[word]
        raise wrong_type(name, "boolean", value)

    return accept


def text(name: str, kind: SqlType) -> Accept:
    """A function from a value to the UTF-8 of its text; what is no text is written as one."""
    most = kind.limit

    def accept(value: Any) -> bytes:
        if type(value) is not str:
            value = _as_text(name, value)
        if "\0" in value:
            raise bad(name, "invalid-text", "the text has a NUL character, which SQL can't store")
        if most is not None and len(value) > most and len(value.rstrip(" ")) > most:
            raise bad(
                name,
                "too-long",
                f"a text of {len(value)} characters exceeds {kind}: {shorten(value, 60)!r}",
            )
        try:
            return value.encode()  # type: ignore[no-any-return]
        except UnicodeEncodeError:
            raise bad(name, "invalid-text", "the text has half a surrogate pair") from None

    return accept


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, dict | list | tuple):
        return _json_bytes(name, value).decode()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise bad(name, "invalid-text", "the bytes are no UTF-8") from None
    if isinstance(value, np.ndarray):
        raise wrong_type(name, "text", value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _json(name: str, kind: SqlType) -> Accept:
    version = b"\1" if kind.name == "jsonb" else b""

    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            value = parsed(value)
        data = _json_bytes(name, value)
        if version and b"\\u0000" in data:
            raise bad(name, "invalid-text", "the JSON has a NUL character, which jsonb can't store")
        return version + data

    return accept


def _json_bytes(name: str, value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, ValueError) as e:
        raise bad(name, "invalid-json", f"the value can't be written as JSON: {e}") from None


def _bytes(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise bad(name, "invalid-text", "the text has half a surrogate pair") from None
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value)
        raise wrong_type(name, "bytea", value)

    return accept


def _uuid(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        try:
            return (value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))).bytes
        except ValueError:
            raise wrong_type(name, "uuid", value) from None

    return accept


_EPOCH = datetime.datetime(2000, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=datetime.UTC)


def _date(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        day = _moment(name, kind, value).date()
        return (day - _EPOCH.date()).days.to_bytes(4, "big", signed=True)

    return accept


def _timestamp(name: str, kind: SqlType) -> Accept:
    zoned = kind.name == "timestamp with time zone"

    def accept(value: Any) -> bytes:
        moment = _moment(name, kind, value)
        if zoned:  # without a zone of its own it is taken for UTC, on every machine
            aware = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            since = aware - _EPOCH_UTC
        else:
            since = moment.replace(tzinfo=None) - _EPOCH
        micros = (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds
        return micros.to_bytes(8, "big", signed=True)

    return accept


def _moment(name: str, kind: SqlType, value: Any) -> datetime.datetime:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise wrong_type(name, str(kind), value)


def _numeric(name: str, kind: SqlType) -> Accept:
    def accept(value: Any) -> bytes:
        from psycopg.types.numeric import DecimalBinaryDumper

        if isinstance(value, bool | np.bool_ | bytes):
            raise wrong_type(name, str(kind), value)
        try:
            number = decimal.Decimal(str(value).strip())
        except decimal.InvalidOperation:
            raise wrong_type(name, str(kind), value) from None
        whole = (kind.limit or 0) - (kind.scale or 0)
        if kind.limit and number.is_finite() and abs(number) >= decimal.Decimal(10) ** whole:
            raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")
        return bytes(DecimalBinaryDumper(decimal.Decimal).dump(number) or b"")

    return accept


MAKERS: dict[str, Callable[[str, SqlType], Accept]] = {
    **dict.fromkeys(INT_BYTES, _integer),
    **dict.fromkeys(("real", "double precision"), _real),
    **dict.fromkeys(TEXTS, text),
    **dict.fromkeys(("json", "jsonb"), _json),
    **dict.fromkeys(("timestamp without time zone", "timestamp with time zone"), _timestamp),
    "boolean": _boolean,
    "bytea": _bytes,
    "uuid": _uuid,
    "date": _date,
    "numeric": _numeric,
}
"""Name of a type -> what makes the function that takes its values, of its name and type."""
