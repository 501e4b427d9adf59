"""Rows on their way into a search store: checked, and written as the lines of a bulk request. Pure.

One document that breaks a rule of the request itself (an id that is too long, a version that is no
version) would have the server refuse the whole of it, so those rules are checked here.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.errors import FatalError, TerminalError, shorten
from vecferry.io.search_dialect import Field
from vecferry.io.search_settings import SearchSettings
from vecferry.io.sink_store import Record
from vecferry.io.vectors import SMALLEST_NORM2, as_vector, bad
from vecferry.rows import DELETE, Change

Accept = Callable[[Any], Any]

MOST_ID_BYTES = 512
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_AS_TEXT = str | int | float | decimal.Decimal | uuid.UUID
_MISSING: Any = object()


class RowEncoder:
    """Makes a `Record` of each change: the two lines that stand for it in a bulk request."""

    def __init__(
        self, settings: SearchSettings, fields: dict[str, Field], *, base64_vectors: bool = False
    ) -> None:
        self._action = settings.action_type
        self._keys, self._delimiter = settings.keys, settings.key_delimiter
        self._routing = settings.es_partition_column
        self._null = settings.enable_write_null
        needed = set(settings.inputs())
        sources = settings.sources() or {name: name for name in fields}
        ids = {c.name for c in settings.column if c.type == "id"}
        self._plan = [
            (name, source, _acceptor(fields.get(name), base64_vectors), source in needed)
            for name, source in sources.items()
            if name not in ids
        ]
        self._taken = set(sources.values()) | ids
        self._open = settings.dynamic

    def encode(self, change: Change) -> Record:
        """The change as the server gets it; raises TerminalError for a row that it can't take."""
        versioned = change.version is not None
        deleting = change.kind == DELETE or self._action == "delete"
        if versioned and self._action in ("create", "update"):
            raise FatalError(
                f"actionType {self._action} can't carry versions, so changes would overtake each "
                "other: use actionType index",
                "no-versions",
            )
        key = self._key(change, deleting)
        meta: dict[str, Any] = {} if key is None else {"_id": key}
        if self._routing:
            meta["routing"] = self._joined(change, self._routing, "routing")
        if versioned:
            meta["version"], meta["version_type"] = _version(change), "external_gte"
        if deleting:
            body = _line({"delete": meta})
            return Record("delete", (key, meta.get("routing")), body, len(body))
        document: Any = self.document(change)
        if self._action == "update":
            document = {"doc": document, "doc_as_upsert": True}
        body = _line({self._action: meta}) + _line(document)
        order = None if key is None else (key, meta.get("routing"))
        return Record(self._action, order, body, len(body))

    def document(self, change: Change) -> dict[str, Any]:
        """The document of a row; raises TerminalError."""
        document: dict[str, Any] = {}
        for name, source, accept, needed in self._plan:
            value = change.get(source, _MISSING)
            if value is _MISSING:
                if needed:
                    raise bad(name, "missing-column", f"the row has no column {source!r}")
                continue
            if value is None:
                if self._null:
                    document[name] = None
                continue
            document[name] = accept(value) if accept else _plain(name, value)
        if self._open:
            for name, value in change.items():
                if name not in self._taken and (value is not None or self._null):
                    document[name] = value if value is None else _plain(name, value)
        return document

    def _key(self, change: Change, deleting: bool) -> str | None:
        if not self._keys:
            if deleting:
                raise TerminalError(
                    "a delete needs the id of its document: set primaryKey: true on a column",
                    "no-key",
                )
            return None
        key = self._joined(change, self._keys, "id")
        if not key:
            raise TerminalError("the document's id is an empty text", "empty-key")
        try:
            size = len(key) if key.isascii() else len(key.encode())
        except UnicodeEncodeError as e:
            raise TerminalError(f"the document's id is not valid Unicode: {e}", "bad-key") from e
        if size > MOST_ID_BYTES:
            raise TerminalError(
                f"the document's id {shorten(key, 40)!r} has {size} bytes, {MOST_ID_BYTES} at most",
                "key-too-long",
            )
        return key

    def _joined(self, change: Change, columns: Any, what: str) -> str:
        return self._delimiter.join(_as_key(change, name, what) for name in columns)


def _as_key(change: Change, name: str, what: str) -> str:
    value = change.get(name, _MISSING)
    if type(value) is str:
        return value
    if value is _MISSING:
        raise TerminalError(f"the row has no column {name!r} for its {what}", "missing-column")
    if value is None:
        raise TerminalError(f"column {name!r}, the document's {what}, is null", "null-key")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TerminalError(
        f"column {name!r} is a {type(value).__name__}, which is no {what}", "bad-key"
    )


def _version(change: Change) -> int:
    version = change.version
    if not isinstance(version, int) or not 0 <= version < 2**63:
        raise TerminalError(f"version {version!r} is not within 0 to 2^63-1", "bad-version")
    return version


def _acceptor(field: Field | None, as_base64: bool) -> Accept | None:
    if field is None or not field.is_vector or field.metric == "other":
        return None
    name, dimension = field.name, field.dimension
    needs_length = field.metric == "cosine"

    def accept(value: Any) -> Any:
        vector = as_vector(name, value)
        if dimension is not None and len(vector) != dimension:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(vector)} dimensions, not {dimension}"
            )
        with np.errstate(over="ignore"):
            norm2 = float(vector.dot(vector))
        if not SMALLEST_NORM2 < norm2 < math.inf:
            _refuse(name, vector, norm2, needs_length)
        if as_base64:
            return base64.b64encode(vector.astype(">f4").tobytes()).decode()
        return vector

    return accept


def _refuse(name: str, vector: np.ndarray, norm2: float, needs_length: bool) -> None:
    if not np.isfinite(vector).all():
        raise bad(name, "not-finite", "the vector holds NaN or an infinite number")
    if norm2 > 1:
        raise bad(name, "out-of-range", "the vector's length is beyond 32 bits")
    if needs_length:
        raise bad(name, "zero-vector", "a vector of length 0 has no direction, which cosine needs")


def _plain(name: str, value: Any) -> Any:
    """The value, where JSON has a way to write it: a float that is not finite it has not."""
    if type(value) is str:
        return value
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise bad(name, "not-finite", f"{value} is no finite number")
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise bad(name, "not-finite", "the array holds NaN or an infinite number")
        return np.ascontiguousarray(value)
    elif isinstance(value, dict):
        return {k: v if v is None else _plain(name, v) for k, v in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        return [v if v is None else _plain(name, v) for v in value]
    return value


def _other(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")


def _line(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, default=_other, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
    except TypeError as e:
        cause = e.__cause__ or e
        raise TerminalError(f"the row can't be written as JSON: {cause}", "bad-value") from e
