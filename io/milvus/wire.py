"""Rows as Milvus's protocol has them: one message per field, made at once for a whole batch.

Stands apart from `target` because it knows the messages of the protocol, and no connection.

pymilvus packs row by row and number by number. A batch of vectors as one run of bytes is about ten
times cheaper. That saves a quarter of the time of a write into Milvus Lite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

from vecferry.io.milvus.catalog import CODES, DYNAMIC, FieldInfo
from vecferry.io.milvus.client import Message

Values = Sequence[Any]
Pack = Callable[[Values], Message]

_SCALAR_SLOTS = {
    "Bool": "bool_data", "Int8": "int_data", "Int16": "int_data", "Int32": "int_data",
    "Int64": "long_data", "Float": "float_data", "Double": "double_data",
    "String": "string_data", "VarChar": "string_data", "JSON": "json_data",
}  # fmt: skip
_BYTE_VECTOR_SLOTS = {
    "BinaryVector": "binary_vector",
    "Float16Vector": "float16_vector",
    "BFloat16Vector": "bfloat16_vector",
}


def packer(field: FieldInfo) -> Pack:
    """A function from the values of a field, as `RowEncoder` gives them, to a ``FieldData``."""
    if field.type == "FloatVector":
        fill = _float_vectors(field)
    elif field.type in _BYTE_VECTOR_SLOTS:
        fill = _byte_vectors(field)
    elif field.type == "SparseFloatVector":
        fill = _sparse_vectors
    elif field.type == "Array":
        fill = _arrays(field)
    else:
        fill = _scalars(_SCALAR_SLOTS[field.type])
    code, marks_nulls = CODES[field.type], field.nullable or field.has_default

    def pack(values: Values) -> Message:
        data = schema_pb2.FieldData(field_name=field.name, type=code)
        if marks_nulls:
            data.valid_data.extend([v is not None for v in values])
            values = [v for v in values if v is not None]
        fill(data, values)
        return data

    return pack


def _scalars(slot: str) -> Callable[[Message, Values], None]:
    def fill(data: Message, values: Values) -> None:
        array = getattr(data.scalars, slot)
        array.SetInParent()  # names the kind also where every value is null
        array.data.extend(values)

    return fill


def _float_vectors(field: FieldInfo) -> Callable[[Message, Values], None]:
    dimension = field.dimension

    def fill(data: Message, values: Values) -> None:
        data.vectors.dim = dimension
        data.vectors.float_vector.SetInParent()
        if values:
            raw = np.concatenate(values).astype("<f4", copy=False).tobytes()
            # Field 1 of FloatArray: packed 32-bit floats, their length in bytes first.
            data.vectors.float_vector.MergeFromString(b"\x0a" + _varint(len(raw)) + raw)

    return fill


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _byte_vectors(field: FieldInfo) -> Callable[[Message, Values], None]:
    slot, dimension = _BYTE_VECTOR_SLOTS[field.type], field.dimension

    def fill(data: Message, values: Values) -> None:
        data.vectors.dim = dimension
        setattr(data.vectors, slot, b"".join(values))

    return fill


def _sparse_vectors(data: Message, values: Values) -> None:
    data.vectors.sparse_float_vector.SetInParent()
    data.vectors.sparse_float_vector.contents.extend(values)


def _arrays(field: FieldInfo) -> Callable[[Message, Values], None]:
    element = field.element_type or "VarChar"
    slot, code = _SCALAR_SLOTS[element], CODES[element]

    def fill(data: Message, values: Values) -> None:
        array = data.scalars.array_data
        array.SetInParent()
        array.element_type = code
        for value in values:
            row = array.data.add()
            getattr(row, slot).SetInParent()
            getattr(row, slot).data.extend(value)

    return fill


def _pack_dynamic(values: Values) -> Message:
    data = schema_pb2.FieldData(field_name=DYNAMIC, type=CODES["JSON"], is_dynamic=True)
    data.scalars.json_data.data.extend(values)
    return data


class RequestMaker:
    """Makes the requests that write to one partition of one collection."""

    def __init__(
        self, *, database: str, collection: str, partition: str | None,
        fields: Sequence[FieldInfo], dynamic: bool, key: FieldInfo,
    ) -> None:  # fmt: skip
        self._where = {
            "db_name": database,
            "collection_name": collection,
            "partition_name": partition or "",
        }
        self._pack = [packer(f) for f in fields] + ([_pack_dynamic] if dynamic else [])
        self._key = key.name

    def insert(self, bodies: Sequence[Values]) -> Message:
        """An ``InsertRequest`` of these rows."""
        return self._fill(milvus_pb2.InsertRequest(num_rows=len(bodies), **self._where), bodies)

    def upsert(self, bodies: Sequence[Values]) -> Message:
        """An ``UpsertRequest`` of these rows."""
        return self._fill(milvus_pb2.UpsertRequest(num_rows=len(bodies), **self._where), bodies)

    def delete(self, keys: Values) -> Message:
        """A ``DeleteRequest`` of the rows with these keys."""
        expression = f"{self._key} in {orjson.dumps(list(keys)).decode()}"
        return self.delete_where(expression)

    def delete_where(self, expression: str) -> Message:
        """A ``DeleteRequest`` of the rows for which an expression is true."""
        return milvus_pb2.DeleteRequest(expr=expression, **self._where)

    def _fill(self, request: Message, bodies: Sequence[Values]) -> Message:
        columns = zip(*bodies, strict=True)
        request.fields_data.extend(
            [pack(values) for pack, values in zip(self._pack, columns, strict=True)]
        )
        return request
