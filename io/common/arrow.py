"""Arrow columns to Python values: what parquet and orc files hold, as rows have it.

Numbers, texts, bytes, booleans, decimals, dates and times are Python's own; timestamps and times
have microseconds, and a zone becomes UTC. A list becomes a list, a struct and a map with text keys
a dict. A list of 32-bit or 16-bit floats, and a fixed-size list of any floats, is a vector: a 1-D
float32 array, or a list where an element is null.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from vecferry.io.common.types import ConvertValue, json_converter
from vecferry.io.common.unfit import UnfitValue

_ERRORS = (ValueError, OverflowError, KeyError, TypeError, pa.ArrowException)


def column_values(column: Any, convert: ConvertValue | None) -> tuple[list[Any], bool]:
    """The values of an Arrow array, typed by `convert`, and whether one is an `UnfitValue`."""
    values, unfit = _python_values(column)
    if convert is None:
        return values, unfit
    if not unfit:
        try:
            return [v if v is None else convert(v) for v in values], False
        except ValueError:
            pass
    return [_converted(v, convert) for v in values], True


def _converted(value: Any, convert: ConvertValue) -> Any:
    if value is None or isinstance(value, UnfitValue):
        return value
    try:
        return convert(value)
    except ValueError as e:
        return UnfitValue(str(e), "wrong-type")


def _python_values(column: Any) -> tuple[list[Any], bool]:
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column, kind = column.storage, column.type.storage_type
    if is_vector(kind):
        return _vectors(column), False
    try:
        target = _plain_type(kind)
        if target != kind:
            column = column.cast(target, safe=False)
        return _pylist(column), False
    except _ERRORS:
        return [_cell(column, i) for i in range(len(column))], True


def _pylist(column: Any) -> list[Any]:
    # Asked for dicts, pyarrow goes the long way through scalars.
    flat = pa.types.is_primitive(column.type) or _is_text(column.type)
    return column.to_pylist() if flat else column.to_pylist(maps_as_pydicts="strict")  # type: ignore[no-any-return]


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _cell(column: Any, i: int) -> Any:
    try:
        cell = column.slice(i, 1)
        target = _plain_type(cell.type)
        if target != cell.type:
            cell = cell.cast(target, safe=False)
        return _pylist(cell)[0]
    except _ERRORS as e:
        why = f"a value of the type {column.type} can't be read ({e})"
        return UnfitValue(why, "wrong-type")


def is_vector(kind: Any) -> bool:
    """Whether values of the Arrow type come as float32 arrays."""
    if pa.types.is_fixed_size_list(kind):
        return bool(pa.types.is_floating(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_float32(kind.value_type) or pa.types.is_float16(kind.value_type))
    return False


def _vectors(column: Any) -> list[Any]:
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        first = column.offset * width
        begins = range(first, first + len(column) * width, width) if width else [0] * len(column)
        ends: Sequence[int] = [b + width for b in begins]
    else:
        offsets = column.offsets.tolist()
        begins, ends = offsets[:-1], offsets[1:]
    flat = column.values
    if flat.null_count:
        pairs = zip(column.is_valid().tolist(), begins, ends, strict=True)
        return [_vector(flat.slice(b, e - b)) if valid else None for valid, b, e in pairs]
    numbers = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    found: list[Any] = [numbers[b:e].copy() for b, e in zip(begins, ends, strict=True)]
    if column.null_count:
        found = [v if ok else None for v, ok in zip(found, column.is_valid().tolist(), strict=True)]
    return found


def _vector(numbers: Any) -> Any:
    if numbers.null_count:
        return numbers.to_pylist()
    return np.array(numbers.to_numpy(zero_copy_only=False), dtype=np.float32)


@functools.lru_cache(maxsize=1024)
def _plain_type(kind: Any) -> Any:
    """The type to cast to, so that Python has a value for each value of `kind`."""
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_field(kind.item_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind


def _plain_field(field: Any) -> Any:
    return field.with_type(_plain_type(field.type))


def value_converter(kind: str | None, pattern: str | None = None) -> ConvertValue | None:
    """The converter from a value of `column_values` to `kind`; None leaves values as they are.

    Like `json_converter`, and decimals are numbers, dates and timestamps are dates, bytes are
    texts where they are UTF-8.
    """
    of_json = json_converter(kind, pattern)
    if of_json is None:
        return None

    def convert(value: Any) -> Any:
        simple = _simple(value, kind)
        return simple if isinstance(simple, datetime.datetime) else of_json(simple)

    return convert


def _simple(value: Any, kind: str | None) -> Any:
    """The value as JSON may hold it; a UTC datetime where the column is a date."""
    if isinstance(value, datetime.date):
        return _date(value) if kind == "date" else value.isoformat()
    if isinstance(value, bytes):
        return value.decode()  # UnicodeDecodeError is a ValueError
    if isinstance(value, decimal.Decimal):
        return _number(value, kind)
    if isinstance(value, datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    if kind == "string" and isinstance(value, float):
        return _float_text(value)
    if kind == "string" and not isinstance(value, str | int):
        return _json_text(value)
    return value


def _float_text(value: float) -> str:
    """A number as JSON writes it, else as Java does."""
    if math.isfinite(value):
        return orjson.dumps(value).decode()
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value, default=_json_default, option=_JSON_OPTIONS).decode()
    except TypeError:  # a key of a map is the commonest cause
        pass
    try:
        value = _text_keys(value)
        return orjson.dumps(value, default=_json_default, option=_JSON_OPTIONS).decode()
    except (TypeError, RecursionError) as e:
        raise ValueError(f"it can't be written as JSON ({e.__cause__ or e})") from e


def _text_keys(value: Any) -> Any:
    """The value with the keys of its maps as texts, where JSON knows no such key."""
    if isinstance(value, dict):
        return {_text_key(k): _text_keys(v) for k, v in value.items()}
    return [_text_keys(v) for v in value] if isinstance(value, list) else value


def _text_key(key: Any) -> Any:
    return _json_default(key) if isinstance(key, bytes | decimal.Decimal) else key


_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def _number(value: decimal.Decimal, kind: str | None) -> Any:
    if kind == "double" and math.isfinite(number := float(value)):
        return number
    if kind == "long" and value == value.to_integral_value():
        return int(value)
    return format(value, "f")


def _date(value: datetime.date) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day, tzinfo=datetime.UTC)
    aware = value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value
    return aware.astimezone(datetime.UTC)


def _json_default(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    return str(value)
