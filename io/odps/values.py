"""From Arrow columns of MaxCompute to Python values, a column at a time.

| MaxCompute | Python |
|---|---|
| TINYINT, SMALLINT, INT, BIGINT | int |
| FLOAT, DOUBLE | float |
| DECIMAL | decimal.Decimal |
| STRING, VARCHAR, CHAR | str |
| JSON | what the JSON text holds |
| BINARY | bytes |
| BOOLEAN | bool |
| DATE | datetime.date |
| DATETIME, TIMESTAMP | datetime.datetime in the step's time zone |
| TIMESTAMP_NTZ | datetime.datetime without a time zone |
| ARRAY | list |
| MAP | dict |
| STRUCT | dict of field to value |

NULL is None. What is finer than a microsecond is cut off, as Python's datetime ends there.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, tzinfo
from typing import Any

import orjson
import pyarrow as pa

from vecferry.io.common.arrow import (
    bounds,
    dates,
    entries,
    moments,
    numbers,
    objects,
    python_values,
    with_nulls,
)
from vecferry.io.common.unfit import Convert, UnfitValue
from vecferry.nesting import TOO_DEEP, too_deep
from vecferry.numbers import whole_number

UNREADABLE = ("interval_day_time", "interval_year_month", "vector")

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_WHOLE = ("tinyint", "smallint", "int", "bigint")
_NUMBERS = (*_WHOLE, "float", "double")
_TEXTS = ("string", "varchar", "char")


def base_of(kind: object) -> str:
    """The name of a MaxCompute type without what it is made of: ``decimal``, ``array``."""
    return str(kind).lower().replace("`", "").split("(")[0].split("<")[0].strip()


def parts_of(kind: Any) -> list[Any]:
    """The types that an ARRAY, MAP or STRUCT is made of."""
    base = base_of(kind)
    if base == "array":
        return [kind.value_type]
    if base == "map":
        return [kind.key_type, kind.value_type]
    return list(kind.field_types.values()) if base == "struct" else []


def holds(kind: object, *bases: str) -> str:
    """The first of `bases` that the type is or holds, else an empty text."""
    base = base_of(kind)
    return (
        base
        if base in bases
        else next(filter(None, (holds(p, *bases) for p in parts_of(kind))), "")
    )


def converter(kind: Any, zone: str = "UTC") -> Convert:
    """What turns an Arrow array of the type `kind` (pyodps') into Python values."""
    base = base_of(kind)
    if base in _NUMBERS or base == "boolean":
        return numbers
    if base in _TEXTS:
        return _texts
    if base == "json":
        return _json
    if base == "date":
        return _dates
    if base in ("datetime", "timestamp"):
        where = UTC if zone == "UTC" else zoneinfo.ZoneInfo(zone)
        return lambda column: _moments(column, where)
    if base == "timestamp_ntz":
        return lambda column: _moments(column, None)
    if base == "array":
        return _array(converter(kind.value_type, zone))
    if base == "map":
        return _map(converter(kind.key_type, zone), converter(kind.value_type, zone))
    if base == "struct":
        return _struct({k: converter(v, zone) for k, v in kind.field_types.items()})
    return python_values  # decimal, binary


def is_null_partition(kind: object, text: str) -> bool:
    """Whether this value of a partition key of the type `kind` stands for NULL."""
    return text == NULL_PARTITION and base_of(kind) not in _TEXTS


def partition_value(kind: object, text: str) -> Any:
    """A partition's value as the type of its key says.

    The partition of nulls has None, unless the key is a text.
    """
    base = base_of(kind)
    if is_null_partition(kind, text):
        return None
    if base in _WHOLE:
        return whole_number(text)
    if base == "date":
        return date.fromisoformat(text)
    return text


def _texts(column: Any) -> list[Any]:
    try:
        return objects(column)
    except (UnicodeDecodeError, pa.ArrowException) as e:
        raise UnfitValue("a text that is not valid UTF-8", "invalid-encoding") from e


def _json(column: Any) -> list[Any]:
    values = []
    for text in _texts(column):
        if text is not None and too_deep(text):
            raise UnfitValue(f"a JSON value whose {TOO_DEEP}", "too-deep")
        try:
            values.append(None if text is None else orjson.loads(text))
        except orjson.JSONDecodeError as e:
            raise UnfitValue(f"a JSON value that can't be read: {e}", "invalid-json") from e
    return values


def _dates(column: Any) -> list[Any]:
    try:
        return dates(column.cast(pa.date32()))
    except OverflowError as e:
        raise UnfitValue(f"a DATE outside the years 1 to 9999 ({e})", "out-of-range") from e


def _moments(column: Any, zone: tzinfo | None) -> list[Any]:
    try:
        return with_nulls(column, moments(_microseconds(column), zone))
    except OverflowError as e:
        raise UnfitValue("a time outside the years 1 to 9999", "out-of-range") from e


def _microseconds(column: Any) -> Any:
    """Times since 1970 as numpy's timedelta64[us]; nulls become 0."""
    if pa.types.is_struct(column.type):  # seconds and nanoseconds, as the instance tunnel sends
        seconds, nanos = (c.fill_null(0).to_numpy(zero_copy_only=False) for c in column.flatten())
        return (seconds * 1_000_000 + nanos // 1000).astype("timedelta64[us]")
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    unit = column.type.unit
    scaled = ticks // 1000 if unit == "ns" else ticks * {"us": 1, "ms": 1000, "s": 1_000_000}[unit]
    return scaled.astype("timedelta64[us]")


def _array(convert: Convert) -> Convert:
    def arrays(column: Any) -> list[Any]:
        items = convert(column.flatten())
        return with_nulls(column, [items[a:b] for a, b in bounds(column)])

    return arrays


def _map(convert_key: Convert, convert_value: Convert) -> Convert:
    def maps(column: Any) -> list[Any]:
        lists = entries(column)
        keys, values = lists.flatten().flatten()
        pairs = list(zip(convert_key(keys), convert_value(values), strict=True))
        return with_nulls(column, [dict(pairs[a:b]) for a, b in bounds(lists)])

    return maps


def _struct(converters: dict[str, Convert]) -> Convert:
    names = list(converters)

    def structs(column: Any) -> list[Any]:
        fields = [
            convert(field)
            for convert, field in zip(converters.values(), column.flatten(), strict=True)
        ]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*fields, strict=True)]
        return with_nulls(column, rows)

    return structs
