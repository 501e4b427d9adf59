"""Values on their way into Milvus: checked and brought into the form of their field. Pure.

Every value is checked here first: a server refuses the whole batch for one bad row, and Milvus Lite
takes what a server would not. What is made per field is a function that is called per row.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.errors import PROGRAMMING_ERRORS, TerminalError, shorten
from vecferry.io.milvus.catalog import CollectionInfo, FieldInfo, filled
from vecferry.io.milvus.settings import MilvusSettings
from vecferry.io.sink.store import Record
from vecferry.io.sink.values import (
    as_bool,
    as_float,
    as_half,
    as_int,
    as_json,
    bad,
    checked,
    decoded,
    encoded,
    faulty,
    parsed,
    without_parent,
    wrong_type,
)
from vecferry.rows import CHUNK_INDEX, DELETE, INSERT, Change

MOST_JSON = 65536
"""How many bytes of JSON a server takes in a field, and in all dynamic fields together."""


def json_of(name: str) -> Callable[[Any], bytes]:
    """A function that gives a value, or a text that is JSON, as JSON; raises TerminalError."""

    def accept(value: Any) -> bytes:
        if isinstance(value, str):
            value = parsed(value)
        text = as_json(name, value)
        if b"null" in text and not _is_finite(value):  # which orjson writes as null
            raise bad(name, "not-finite", "it holds NaN or an infinite number, which JSON has not")
        return text

    return accept


def lite_json_of(name: str) -> Callable[[Any], bytes]:
    """As `json_of`, for Milvus Lite: what it fails on, or takes though a server would not."""
    inner = json_of(name)

    def accept(value: Any) -> bytes:
        text = inner(value)
        if text[:1] not in (b"{", b"[", b'"'):
            what = f"{shorten(value, 60)!r} is JSON that Milvus Lite can't hold"
            raise bad(name, "wrong-type", f"{what}; write an object or a list, or use a server")
        if len(text) > MOST_JSON:
            what = f"{len(text):,} bytes of JSON exceed {MOST_JSON:,}, the most that Milvus takes"
            raise bad(name, "too-long", what)
        return text

    return accept


def _is_finite(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(_is_finite, value))


Accept = Callable[[Any], Any]


def half_vector(field: FieldInfo) -> Accept:
    """For a Float16Vector or BFloat16Vector: gives its bytes, little-endian."""
    inner = checked(field.name, field.dimension, field.metric)
    size = 2 * (field.dimension or 0)
    brain = field.type == "BFloat16Vector"

    def accept(value: Any) -> bytes:
        if isinstance(value, bytes):
            if len(value) == size:
                return value
            raise bad(field.name, "wrong-dimension", f"{len(value)} bytes, not {size}")
        vector = inner(value)
        if brain:  # the upper half of a float32, rounded to nearest even
            bits = vector.astype("<f4").view("<u4")
            return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2"))
        return bytes(as_half(field.name, vector, "Float16", "<f2"))

    return accept


def binary_vector(field: FieldInfo) -> Accept:
    """For a BinaryVector, of bytes, base64, bits or numbers of 8 bits: gives its bytes."""
    dimension = field.dimension or 0

    def accept(value: Any) -> bytes:
        data = value
        if isinstance(value, str):
            data = parsed(value)
            if isinstance(data, str):
                try:
                    data = base64.b64decode(data, validate=True)
                except ValueError:
                    raise wrong_type(field.name, "BinaryVector", value) from None
        if isinstance(data, list | tuple | np.ndarray):
            data = _packed(field.name, data, dimension)
        if not isinstance(data, bytes):
            raise wrong_type(field.name, "BinaryVector", value)
        if len(data) * 8 != dimension:
            raise bad(field.name, "wrong-dimension", f"{len(data) * 8} bits, not {dimension}")
        return data

    return accept


def _packed(name: str, value: Any, dimension: int) -> bytes:
    """Bits (0 or 1 each), or bytes as numbers, as bytes."""
    try:
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "fiub" or numbers.ndim != 1:
            raise ValueError
        if len(numbers) == dimension and np.isin(numbers, (0, 1)).all():
            return np.packbits(numbers.astype(np.uint8)).tobytes()
        if numbers.dtype.kind == "f":
            raise ValueError
        return bytes(numbers.tolist())
    except ValueError:
        raise wrong_type(name, "BinaryVector", value) from None


def sparse_vector(field: FieldInfo) -> Accept:
    """For a SparseFloatVector: gives its pairs of index and weight as bytes, in order."""
    name, kind = field.name, "SparseFloatVector"

    def accept(value: Any) -> bytes:
        """``{index: weight}``, ``[[index, weight]]`` or ``["3:0.5", "24:0.8"]``."""
        if isinstance(value, str):
            value = parsed(value)
        try:
            pairs = [(as_int(name, kind, i), as_float(name, kind, w)) for i, w in _pairs(value)]
        except (TerminalError, ValueError) as e:
            if isinstance(e, TerminalError) and e.reason == "not-finite":
                raise
            raise wrong_type(name, kind, value) from None
        weights = dict(pairs)
        if not weights:
            raise bad(name, "zero-vector", "a sparse vector needs at least one weight")
        if len(weights) < len(pairs):
            raise bad(name, "duplicate-index", "an index stands twice in the sparse vector")
        if not all(0 <= i < 2**32 - 1 for i in weights):
            raise bad(name, "out-of-range", "an index is not within 0 to 4294967294")
        if not all(0 <= w < 3.5e38 for w in weights.values()):
            raise bad(name, "not-finite", "a weight is negative, NaN or infinite")
        return b"".join(struct.pack("<If", i, w) for i, w in sorted(weights.items()))

    return accept


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    """The indexes and weights of a sparse vector; ValueError for what is not one."""
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list | tuple | np.ndarray):
        raise ValueError
    pairs = [p.split(":", 1) if isinstance(p, str) else p for p in value]
    if not all(isinstance(p, list | tuple | np.ndarray) and len(p) == 2 for p in pairs):
        raise ValueError
    return [(i, w) for i, w in pairs]


INT_BITS = {"Int8": 8, "Int16": 16, "Int32": 32, "Int64": 64}


def acceptor(field: FieldInfo) -> Accept:
    """A function that gives a value (not None) as the field takes it, or raises TerminalError."""
    if field.type == "FloatVector":
        return checked(field.name, field.dimension, field.metric)
    if field.type in ("Float16Vector", "BFloat16Vector"):
        return half_vector(field)
    if field.type == "BinaryVector":
        return binary_vector(field)
    if field.type == "SparseFloatVector":
        return sparse_vector(field)
    if field.type == "Array":
        return _array(field)
    return _scalar(field.name, field.type, field.max_length)


def absent(field: FieldInfo, source: str) -> Callable[[bool], None]:
    """A function for a row whose value is None (False) or missing (True)."""

    def accept(missing: bool) -> None:
        if field.optional:
            return
        if missing:
            raise bad(field.name, "missing-column", f"the row has no column {source!r}")
        if field.primary:
            raise bad(field.name, "null-key", f"the primary key, column {source!r}, is null")
        raise bad(field.name, "null-value", f"column {source!r} is null and the field not nullable")

    return accept


def _scalar(name: str, kind: str, max_length: int | None) -> Accept:
    if kind in INT_BITS:
        return _integer(name, kind)
    if kind in ("Float", "Double"):
        return _real(name, kind)
    if kind == "Bool":
        return lambda value: value if type(value) is bool else as_bool(name, kind, value)
    if kind in ("VarChar", "String"):
        return _text(name, max_length)
    if kind == "JSON":
        return json_of(name)
    raise TerminalError(f"field {name!r}: Milvus's {kind} is not supported", "unsupported-type")


def _integer(name: str, kind: str) -> Accept:
    most = 2 ** (INT_BITS[kind] - 1)

    def accept(value: Any) -> int:
        if type(value) is not int:
            value = as_int(name, kind, value)
        if -most <= value < most:
            return value  # type: ignore[no-any-return]
        raise bad(name, "out-of-range", f"{shorten(value, 60)} does not fit into {kind}")

    return accept


def _real(name: str, kind: str) -> Accept:
    most = float(np.finfo(np.float32).max) if kind == "Float" else math.inf

    def accept(value: Any) -> float:
        if type(value) is not float:
            value = as_float(name, kind, value)
        if -most <= value <= most and math.isfinite(value):
            return value  # type: ignore[no-any-return]
        if not math.isfinite(value):
            raise bad(name, "not-finite", f"{value} is not a finite number")
        raise bad(name, "out-of-range", f"{value} does not fit into {kind}")

    return accept


def _text(name: str, max_length: int | None) -> Accept:
    most = max_length or 65535

    def accept(value: Any) -> str:
        if type(value) is not str:
            value = _as_text(name, value)
        if value.isascii():
            if len(value) <= most:
                return value  # type: ignore[no-any-return]
            size = len(value)
        else:
            size = len(encoded(name, value))
            if size <= most:
                return value  # type: ignore[no-any-return]
        raise bad(
            name,
            "too-long",
            f"a text of {size} bytes ({len(value)} characters) exceeds maxLength {most}, which "
            f"counts bytes of UTF-8: {shorten(value, 60)!r}; shorten the text, or widen the field",
        )

    return accept


def _as_text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict | list):
        return str(json_of(name)(value), "utf-8")
    if isinstance(value, bytes):
        return decoded(name, value)
    if isinstance(value, np.ndarray):
        raise wrong_type(name, "VarChar", value)
    return str(value)


def _array(field: FieldInfo) -> Accept:
    kind, most = field.element_type or "VarChar", field.max_capacity or 4096
    element = _scalar(field.name, kind, field.max_length)

    def accept(value: Any) -> list[Any]:
        if isinstance(value, str):
            value = parsed(value)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise wrong_type(field.name, "Array", value)
        if len(value) > most:
            raise bad(field.name, "too-long", f"{len(value)} elements exceed maxCapacity {most}")
        if None in value:
            raise bad(field.name, "null-value", "an element of the Array is null")
        return [element(v) for v in value]

    return accept


INSERTING, UPSERTING, DELETING = "insert", "upsert", "delete"
BYTES_OF = {"Bool": 1, "Int8": 4, "Int16": 4, "Int32": 4, "Int64": 8, "Float": 4, "Double": 8}
"""About how many bytes a value takes in a request; int8 and int16 travel as 32 bits."""


class RowEncoder:
    """Brings changes into the form of one collection: a list of values, in the order of `fields`.

    Where the collection has dynamic fields the list ends in their JSON.
    """

    def __init__(
        self, settings: MilvusSettings, info: CollectionInfo, *, lite: bool = False
    ) -> None:
        into = filled(settings, info)
        # Milvus Lite does not tell how long the elements of an Array may be.
        told = {c.name: c.max_length for c in settings.column if c.type == "Array"}
        fields = [
            dataclasses.replace(f, max_length=f.max_length or told.get(f.name)) for f in info.fields
        ]
        known = [(f, into[f.name]) for f in fields if f.name in into]
        self._meta_json = lite_json_of("$meta") if lite else json_of("$meta")
        self.fields = [f for f, _ in known]
        self.dynamic = info.dynamic
        self._extra = [(d, s) for d, s in into.items() if info.field(d) is None]
        self._plan = [
            (
                source,
                lite_json_of(f.name) if lite and f.type == "JSON" else acceptor(f),
                absent(f, source),
            )
            for f, source in known
        ]
        made = {
            source: (f, accept)
            for (f, source), (_, accept, _) in zip(known, self._plan, strict=True)
        }
        self._parents = [(*made[n], n) for n in settings.parent_key if n in made]
        self.parent_fields = [f.name for f, _, _ in self._parents]
        """The fields that name the document of a chunk."""
        self.number_field = made[CHUNK_INDEX][0].name if CHUNK_INDEX in made else CHUNK_INDEX
        """The field with the number of a chunk."""
        self._size = 8 + sum(_fixed_size(f) for f in self.fields)
        self._sized = [i for i, f in enumerate(self.fields) if _varies(f)]
        self._key_at = next((i for i, f in enumerate(self.fields) if f.primary), None)
        self._upserts = settings.write_mode == "upsert"

    def encode(self, change: Change) -> Record:
        """The record of a change; raises TerminalError for a value that its field can't take."""
        if change.kind == DELETE:
            return self._delete(change)
        body: list[Any] = []
        try:
            for source, accept, accept_none in self._plan:
                value = change.get(source)
                body.append(accept_none(source not in change) if value is None else accept(value))
        except PROGRAMMING_ERRORS as e:
            kinds = [f.type for f in self.fields]
            columns = [(p[0], kind, p[1]) for p, kind in zip(self._plan, kinds, strict=True)]
            raise faulty(columns, change, e) from e
        size = self._size
        for i in self._sized:
            size += len(body[i] or ())
        if self.dynamic:
            body.append(self._meta(change) if self._extra else b"{}")
        if self._key_at is None:
            return Record(INSERTING, None, body, size)
        inserts = not self._upserts and change.kind == INSERT
        return Record(INSERTING if inserts else UPSERTING, body[self._key_at], body, size)

    def document_of(self, change: Change) -> tuple[tuple[Any, ...], int | None]:
        """See `vecferry.io.sink.parents.ChunkStore`."""
        parent = []
        for field, accept, source in self._parents:
            value = change.get(source)
            if value is None:
                raise without_parent(field.name, source, change)
            parent.append(accept(value))
        return tuple(parent), change.version

    def _meta(self, change: Change) -> bytes:
        values = {d: change[s] for d, s in self._extra if s in change}
        return self._meta_json(values)

    def _delete(self, change: Change) -> Record:
        if self._key_at is None:
            raise TerminalError(
                "a delete needs the primary key, which this job does not fill", "no-key"
            )
        source, accept, accept_none = self._plan[self._key_at]
        value = change.get(source)
        key = accept_none(source not in change) if value is None else accept(value)
        return Record(DELETING, key, None, 16)

    def shown(self, change: Change) -> dict[str, Any]:
        """What the server would get, by name; vectors as they are."""
        record = self.encode(change)
        if record.body is None:
            return {f.name: record.key for f in self.fields if f.primary}
        values = record.body[: len(self.fields)]  # behind them come the dynamic fields
        shown = {f.name: v for f, v in zip(self.fields, values, strict=True)}
        for f in self.fields:
            if f.type == "JSON" and shown[f.name] is not None:
                shown[f.name] = orjson.loads(shown[f.name])
        return shown | (orjson.loads(record.body[-1]) if self.dynamic else {})


def _fixed_size(field: FieldInfo) -> int:
    if field.type == "FloatVector":
        return 4 * (field.dimension or 0)
    return BYTES_OF.get(field.type, 8)


def _varies(field: FieldInfo) -> bool:
    return field.type not in BYTES_OF and field.type != "FloatVector"
