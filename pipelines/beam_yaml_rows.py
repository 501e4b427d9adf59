"""Rows of Beam YAML, which have a schema, to the dicts of our steps and back.

Stands apart from `beam_yaml` because it converts rows without a pipeline.

A schema is a list of fields, each a name and a type of Python, as Beam's `RowTypeConstraint` has
them. A type that nobody knows is `Any`, which Beam carries between Python steps only.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Optional

import apache_beam as beam
import numpy as np
import orjson
from apache_beam.portability.api import schema_pb2
from apache_beam.typehints import schemas
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.utils.timestamp import Timestamp

from vecferry.errors import JobError, shorten
from vecferry.rows import Reject, encode_value

Fields = list[tuple[str, Any]]
Convert = Callable[[Any], Any]

VECTOR = Optional[Sequence[float]]  # noqa: UP045, as below: Beam has no word for list | None
TYPES: dict[str, Any] = {
    "string": Optional[str],  # noqa: UP045
    "long": Optional[np.int64],  # noqa: UP045
    "double": Optional[float],  # noqa: UP045
    "boolean": Optional[bool],  # noqa: UP045
    "date": Optional[Timestamp],  # noqa: UP045
    "vector": VECTOR,
}
"""What the types of columns in a job are in Beam; `json`, and what is not here, is `Any`."""
REJECT_FIELDS: Fields = [
    ("element", str), ("msg", str), ("reason", str), ("step", str), ("origin", str)
]  # fmt: skip

_WHOLE = {
    schema_pb2.BYTE: 8, schema_pb2.INT16: 16, schema_pb2.INT32: 32, schema_pb2.INT64: 64
}  # fmt: skip
_REAL = (schema_pb2.FLOAT, schema_pb2.DOUBLE)


def row_type(fields: Fields) -> Any:
    """The type hint of rows that have `fields`."""
    return RowTypeConstraint.from_fields(fields)


def fields_of(element_type: Any) -> Fields:
    """The fields of rows of a type; JobError where they have none."""
    try:
        return list(schemas.named_fields_from_element_type(element_type))
    except (TypeError, ValueError) as e:
        raise JobError(
            f"takes rows with named fields, and gets {element_type}: put a MapToFields before it"
        ) from e


def fields_of_schema(schema: Any) -> Fields:
    """The fields that a JSON Schema of an object names, as Beam YAML reads it; else JobError."""
    from apache_beam.yaml import json_utils

    try:
        return list(schemas.named_fields_from_schema(json_utils.json_schema_to_beam_schema(schema)))
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise JobError(
            f"schema: is not a JSON Schema of an object ({e}); write it as in "
            "{type: object, properties: {id: {type: integer}, text: {type: string}}}"
        ) from e


def plain(value: Any) -> Any:
    """A value of a Beam row as our steps take it: rows as dicts, timestamps as datetimes."""
    if value is None or isinstance(value, str | int | float | bytes | np.ndarray):
        return value
    if isinstance(value, Timestamp):
        return value.to_utc_datetime(has_tz=True)
    named = getattr(value, "_asdict", None)
    if named is not None:
        return {name: plain(child) for name, child in named().items()}
    if isinstance(value, Mapping):
        return {name: plain(child) for name, child in value.items()}
    if isinstance(value, Sequence):
        return [plain(child) for child in value]
    return value


class ToRow:
    """Makes Beam rows of dicts: with just these fields, each checked. Picklable.

    A value that its field can't hold, or a field without a value that needs one, is a ValueError.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = fields
        self._made: list[tuple[str, Convert]] | None = None

    def __reduce__(self) -> Any:
        return ToRow, (self.fields,)

    def __call__(self, row: Mapping[str, Any]) -> Any:
        if self._made is None:
            self._made = [(n, _converter(schemas.typing_to_runner_api(t))) for n, t in self.fields]
        return beam.Row(**{name: _named(name, convert, row) for name, convert in self._made})


def _named(name: str, convert: Convert, row: Mapping[str, Any]) -> Any:
    try:
        return convert(row.get(name))
    except ValueError as e:
        raise ValueError(f"column {name!r}: {e}") from None


def reject_row(reject: Reject) -> Any:
    """A reject as a row of `REJECT_FIELDS`; `element` is the row, or the raw record, as JSON."""
    element = reject.raw if reject.row is None else dict(reject.row)
    return beam.Row(
        element=orjson.dumps(encode_value(element)).decode(),
        msg=reject.message,
        reason=reject.reason,
        step=reject.step,
        origin=reject.origin,
    )


def _converter(kind: schema_pb2.FieldType) -> Convert:
    inner = _of_kind(kind)
    if kind.nullable:
        return lambda value: None if value is None else inner(value)
    return inner


def _of_kind(kind: schema_pb2.FieldType) -> Convert:
    which = kind.WhichOneof("type_info")
    if which == "atomic_type":
        return _atomic(kind.atomic_type)
    if which in ("array_type", "iterable_type"):
        return _list(_converter(getattr(kind, which).element_type))
    if which == "row_type":
        fields = [(f.name, _converter(f.type)) for f in kind.row_type.schema.fields]
        return lambda value: beam.Row(
            **{n: _named(n, convert, _mapping(value)) for n, convert in fields}
        )
    if which == "map_type":
        convert = _converter(kind.map_type.value_type)
        return lambda value: {k: convert(v) for k, v in _mapping(value).items()}
    return _logical


def _atomic(kind: int) -> Convert:
    if kind in _WHOLE:
        return lambda value: _integer(value, _WHOLE[kind])
    if kind in _REAL:
        return _number
    wanted = {schema_pb2.STRING: str, schema_pb2.BOOLEAN: bool, schema_pb2.BYTES: bytes}.get(kind)

    def same(value: Any) -> Any:
        if isinstance(value, np.bool_):
            value = bool(value)
        if wanted is None or isinstance(value, wanted):
            return value
        raise _wrong(value, wanted.__name__)

    return same


def _integer(value: Any, bits: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise _wrong(value, "int")
    if not -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1):
        raise ValueError(f"{shorten(value, 60)} does not fit into {bits} bits")
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise _wrong(value, "float")
    return float(value)


def _list(convert: Convert) -> Convert:
    def converted(value: Any) -> list[Any]:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            raise _wrong(value, "list")
        return [convert(one) for one in value]

    return converted


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(value, "mapping")
    return value


def _logical(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
        return Timestamp.from_utc_datetime(aware.astimezone(datetime.UTC))
    return value


def _wrong(value: Any, wanted: str) -> ValueError:
    if value is None:
        return ValueError(f"has no value, and the schema wants a {wanted}")
    return ValueError(f"{shorten(value, 60, repr)} is not of type {wanted}, as the schema has it")
