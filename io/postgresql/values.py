"""From what a PostgreSQL server sends to values of rows.

psycopg converts. Where it would raise or lose something, a loader of ours gives an `Unfit` in place
of the value. A `converter` raises it, and the row becomes a reject.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from vecferry.io.common.unfit import Convert, UnfitValue
from vecferry.io.tables.database import Refused
from vecferry.nesting import TOO_DEEP, too_deep

if TYPE_CHECKING:
    from vecferry.io.postgresql.client import Connection

FLOAT4_ARRAY = 1021
TEXTS = (18, 19, 25, 705, 1042, 1043)
"""char, name, text, unknown, bpchar and varchar."""

_SAFE = frozenset({16, 17, 20, 21, 23, 700, 701, 1700, 2950})
"""Booleans, bytea, numbers and uuid: whatever the server sends can be loaded."""
_ALIEN = {
    "geometry", "geography", "sparsevec", "interval", "timetz", "point", "line", "lseg", "box",
    "path", "polygon", "circle",
}  # fmt: skip
_KINDS = {"r": "a range", "m": "a multirange", "c": "a composite type", "p": "a pseudo-type"}


@dataclass(frozen=True)
class PgType:
    """A row of pg_type: `kind` is typtype, `element` the type of an array's elements."""

    name: str
    kind: str
    element: int


class Unfit(UnfitValue):
    """Stands in place of a value that a row can't hold; `raw` is the server's text."""

    def __init__(self, raw: bytes, why: str, reason: str = "unfit-value") -> None:
        super().__init__(f"{shown(raw)!r}: {why}", reason)
        self.raw = raw


def converter(oid: int, types: dict[int, PgType], column: str) -> Convert | None:
    """What checks a column of a type; `Refused`, in words, where rows hold no such values."""
    known = types.get(oid)
    inner = types.get(known.element, known) if known and known.name.startswith("_") else known
    if inner is not None and (inner.name in _ALIEN or inner.kind in _KINDS):
        what = _KINDS.get(inner.kind, f"of type {inner.name}")
        raise Refused(
            f"column {column!r} is {what}, which rows can't hold: leave it out, or write "
            f"{column}::text AS {column} in `column`"
        )
    if oid in _SAFE:
        return None
    return _nested if known is not inner and oid != FLOAT4_ARRAY else _checked


def _checked(values: Sequence[Any]) -> Sequence[Any]:
    if Unfit in set(map(type, values)):
        for value in values:
            _require_fit(value)
    return values


def _nested(values: Sequence[Any]) -> Sequence[Any]:
    for value in values:
        _require_fit(value)
    return values


def _require_fit(value: Any) -> None:
    if type(value) is Unfit:
        raise value
    if type(value) is list:
        for one in value:
            _require_fit(one)


def shown(raw: bytes) -> str:
    """Bytes as a short text."""
    return raw[:80].decode("utf-8", "backslashreplace")


def register(connection: Connection, types: dict[int, PgType]) -> None:
    """Lets a connection load values as rows hold them."""
    from psycopg.pq import Format
    from psycopg.types import TypeInfo
    from psycopg.types.json import set_json_loads
    from psycopg.types.string import TextLoader

    adapters = connection.adapters
    oids = {t.name: oid for oid, t in types.items()}
    for name in ("date", "timestamp", "timestamptz", "time"):
        adapters.register_loader(name, _guarded(adapters.get_loader(oids[name], Format.TEXT)))
    for name in ("uuid", "inet", "cidr"):
        adapters.register_loader(name, TextLoader)
    adapters.register_loader(FLOAT4_ARRAY, _loader(_floats))
    set_json_loads(_json, connection)
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        for oid in (0, *TEXTS):
            adapters.register_loader(oid, _loader(bytes.decode, "invalid-encoding"))
    arrays = {t.element: oid for oid, t in types.items() if t.name.startswith("_")}
    for oid, known in types.items():
        if known.name in ("vector", "halfvec"):
            adapters.register_loader(oid, _loader(_floats))
        elif known.kind == "e":
            TypeInfo(known.name, oid, arrays.get(oid, 0)).register(connection)


def _loader(convert: Callable[[bytes], Any], reason: str = "unfit-value") -> Any:
    from psycopg.adapt import Loader

    class _Own(Loader):
        def load(self, data: Any) -> Any:
            raw = bytes(data)
            try:
                return convert(raw)
            except ValueError as e:
                return Unfit(raw, str(e), reason)

    return _Own


def _guarded(client: Any) -> Any:
    """A loader of the client's own, which gives an `Unfit` where that one raises."""
    from psycopg import DataError
    from psycopg.adapt import Loader

    class _Own(Loader):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load = client(oid, context).load

        def load(self, data: Any) -> Any:
            try:
                return self._load(data)
            except (DataError, ValueError) as e:
                return Unfit(bytes(data), str(e))

    return _Own


def _floats(raw: bytes) -> Any:
    """``{1,2}`` or ``[1,2]`` as float32 of shape (n,)."""
    body = raw[1:-1]
    if b"{" in body or (raw[:1] == b"[" and b"=" in body):
        raise ValueError("an array of more dimensions is not a vector")
    if b"NULL" in body:
        raise ValueError("an array with nulls is not a vector")
    return np.array(body.split(b",") if body else [], dtype="S").astype(np.float32)


def _json(raw: Any) -> Any:
    data = raw.encode() if isinstance(raw, str) else bytes(raw)
    if too_deep(data):
        return Unfit(data, f"JSON whose {TOO_DEEP}", "too-deep")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as e:
        return Unfit(data, f"JSON that can't be read: {e}", "invalid-json")
