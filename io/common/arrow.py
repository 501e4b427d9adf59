"""Arrow columns to Python values: what parquet and orc files hold, as rows have it.

Numbers, texts, bytes, booleans, decimals, dates and times are Python's own; timestamps and times
have microseconds, and a zone becomes UTC. A list becomes a list, a struct and a map with text keys
a dict. A list of 32-bit or 16-bit floats is a vector, and so is a fixed-size list of any floats. A
vector is a 1-D float32 array, or a list if an element is null.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from vecferry.errors import PROGRAMMING_ERRORS
from vecferry.io.common.types import ConvertValue, json_converter
from vecferry.io.common.unfit import UnfitValue
from vecferry.numbers import whole_of

_ERRORS = (ValueError, OverflowError, pa.ArrowException)


def column_values(column: object, convert: ConvertValue | None) -> tuple[list[Any], bool]:
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


def require_sound(batch: pa.RecordBatch) -> None:
    """Raises pyarrow's ArrowInvalid where a record batch of others leads out of its own bytes.

    Reading such a batch ends the process. Texts that are not UTF-8 are let pass.
    """
    for column in batch.columns:
        column.view(_in_bytes(column.type)).validate(full=True)


@functools.lru_cache(maxsize=1024)
def _in_bytes(kind: Any) -> Any:
    """A type with bytes in place of its texts, which are not looked at for UTF-8."""
    is_a = pa.types
    if is_a.is_string(kind):
        return pa.binary()
    if is_a.is_large_string(kind):
        return pa.large_binary()
    if is_a.is_map(kind):
        return pa.map_(_in_bytes(kind.key_type), _in_bytes(kind.item_type))
    if is_a.is_struct(kind):
        return pa.struct([field.with_type(_in_bytes(field.type)) for field in kind])
    if is_a.is_list(kind):
        return pa.list_(kind.value_field.with_type(_in_bytes(kind.value_type)))
    if is_a.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_in_bytes(kind.value_type)))
    return kind


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
        return python_values(column), False
    except _ERRORS:
        return [_cell(column, i) for i in range(len(column))], True


def python_values(column: Any) -> list[Any]:
    """The values of an Arrow array of any type as Python's own, None for null.

    numpy's `tolist` makes them. pyarrow's `to_pylist` takes 3 to 10 times as long, since it makes a
    scalar of each value. Before pyarrow 20 it is slowest. Raises ValueError, OverflowError
    or an error of pyarrow if Python has no such value.
    """
    make = _PYTHON.get(column.type.id)
    return column.to_pylist() if make is None else make(column)  # type: ignore[no-any-return]


def numbers(column: Any) -> list[Any]:
    """The values of an array of numbers or booleans."""
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())  # pyarrow 19 knows no zero of 16 bits
    filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return with_nulls(column, filled.to_numpy(zero_copy_only=False).tolist())


def objects(column: Any) -> list[Any]:
    """The values of an array of texts or bytes, or of dates, of which numpy knows null."""
    return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]


def dates(column: object) -> list[Any]:
    """The values of an array of days; OverflowError for a day outside the years 1 to 9999."""
    values = objects(column)
    outside = next((v for v in values if type(v) is int), None)  # numpy can make no date of it
    if outside is not None:
        raise OverflowError(f"day {outside} is outside the years 1 to 9999")
    return values


def moments(since: Any, zone: datetime.tzinfo | None) -> list[Any]:
    """Times of numpy's timedelta64[us] since 1970, in `zone`; None: without a zone.

    Raises OverflowError for a time outside the years 1 to 9999.
    """
    # A difference to 1970 added to it is 20 times faster than giving each time its zone.
    start = datetime.datetime(1970, 1, 1, tzinfo=None if zone is None else datetime.UTC)
    gaps = since.tolist()
    try:
        values = [start + passed for passed in gaps]
    except TypeError:
        far = next((g for g in gaps if type(g) is int), None)  # numpy can make no timedelta of it
        if far is None:
            raise
        raise OverflowError(f"time {far} is outside the years 1 to 9999") from None
    if zone is None or zone is datetime.UTC:
        return values
    return [v.astimezone(zone) for v in values]


def with_nulls(column: Any, values: list[Any]) -> list[Any]:
    """The values, with None in place of those that are null in the array."""
    if column.null_count:
        for i in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            values[i] = None
    return values


def bounds(lists: object) -> list[tuple[int, int]]:
    """Where the items of each list of an array begin and end in what its `flatten` gives."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths, dtype=np.int64)
    return list(zip((ends - lengths).tolist(), ends.tolist(), strict=True))


def entries(maps: Any) -> Any:
    """An array of maps as one of lists of structs of a key and a value."""
    kind = maps.type
    fields = [pa.field("key", kind.key_type), pa.field("value", kind.item_type)]
    return maps.cast(pa.list_(pa.struct(fields)))


def _moments(column: Any) -> list[Any]:
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    zone = datetime.UTC if column.type.tz else None
    return with_nulls(column, moments(ticks.astype("timedelta64[us]"), zone))


def _lists(column: Any) -> list[Any]:
    items = python_values(column.flatten())
    return with_nulls(column, [items[a:b] for a, b in bounds(column)])


def _maps(column: Any) -> list[Any]:
    pairs = entries(column)
    keys, values = map(python_values, pairs.flatten().flatten())
    if not all(isinstance(key, Hashable) for key in keys):
        raise ValueError("a key of a map is a list or a struct")
    made = [dict(zip(keys[a:b], values[a:b], strict=True)) for a, b in bounds(pairs)]
    if sum(map(len, made)) < len(keys):
        raise ValueError("a key stands twice in a map")
    return with_nulls(column, made)


def _structs(column: Any) -> list[Any]:
    names = [field.name for field in column.type]
    if len(set(names)) < len(names):
        raise ValueError(f"a struct has two fields of one name ({', '.join(names)})")
    fields = [python_values(field) for field in column.flatten()]
    if not fields:
        return with_nulls(column, [{} for _ in range(len(column))])
    made = [dict(zip(names, values, strict=True)) for values in zip(*fields, strict=True)]
    return with_nulls(column, made)


_EXAMPLES: list[tuple[Any, list[Any]]] = [
    (
        numbers,
        [
            pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(),
            pa.uint32(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(),
        ],
    ),
    (objects, [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(1)]),
    (dates, [pa.date32()]),
    (_moments, [pa.timestamp("us")]),
    (_lists, [pa.list_(pa.null()), pa.large_list(pa.null()), pa.list_(pa.null(), 1)]),
    (_maps, [pa.map_(pa.string(), pa.null())]),
    (_structs, [pa.struct([])]),
]  # fmt: skip
_PYTHON: dict[int, Callable[[Any], list[Any]]] = {
    kind.id: make for make, kinds in _EXAMPLES for kind in kinds
}
"""By the number of an Arrow type what makes Python values of it; `to_pylist` makes the others."""


def _cell(column: Any, i: int) -> Any:
    try:
        cell = column.slice(i, 1)
        target = _plain_type(cell.type)
        if target != cell.type:
            cell = cell.cast(target, safe=False)
        return python_values(cell)[0]
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
        return python_values(numbers)
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
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
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
    except TypeError as e:  # a key of a map is the commonest cause
        _raise_fault(e)
    try:
        value = _text_keys(value)
        return orjson.dumps(value, default=_json_default, option=_JSON_OPTIONS).decode()
    except (TypeError, RecursionError) as e:
        _raise_fault(e)
        raise ValueError(f"it can't be written as JSON ({e.__cause__ or e})") from e


def _raise_fault(error: BaseException) -> None:
    """Raises what our own code did wrong while orjson called it; orjson's own error passes."""
    if isinstance(error.__cause__, PROGRAMMING_ERRORS):
        raise error.__cause__


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
    if kind == "long" and (whole := whole_of(value)) is not None:
        return whole
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
