"""Rows on their way into a search store: checked, and written as the lines of a bulk request. Pure.

If one document breaks a rule of the request itself, the server refuses the whole request. Those
rules are therefore checked here: an id that is too long, a version that is not a whole number.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from vecferry.errors import PROGRAMMING_ERRORS, FatalError, TerminalError, shorten
from vecferry.io.search.dialect import Field
from vecferry.io.search.forms import DATES, INTEGERS, Form, date_form, integer_form, nested
from vecferry.io.search.settings import SearchColumn, SearchSettings
from vecferry.io.sink.store import Record
from vecferry.io.sink.values import (
    SMALLEST_NORM2,
    as_int,
    as_vector,
    bad,
    faulty,
    squared_norm,
    without_parent,
)
from vecferry.rows import CHUNK_INDEX, DELETE, Change, Substitute

Accept = Callable[[Any], Any]

JSON_TYPES = frozenset(
    {"object", "nested", "flattened", "flat_object", "geo_shape", "date_range", "integer_range",
     "float_range", "long_range", "double_range"}
)  # fmt: skip
"""Fields whose values are objects; a text for one of them is read as JSON, as DataX does."""
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def acceptor(
    name: str,
    field: Field | None,
    column: SearchColumn | None,
    *,
    splitter: str,
    base64_vectors: bool,
    form: Form | None = None,
) -> Accept:
    """What turns a value that is not null into what is written; it raises TerminalError."""
    if field is not None and field.is_vector and field.metric != "other":
        dimension = field.dimension or (column.dimension if column else None)
        # A mapping without dimensions takes them from the first vector, which must be numbers.
        packed = base64_vectors and field.dimension is not None
        return _vectors(name, dimension, field.metric == "cosine", packed)
    if form is not None:
        inner = acceptor(name, field, column, splitter=splitter, base64_vectors=False)
        as_json = (field is not None and field.type in JSON_TYPES) or (
            column is not None and column.is_json
        )
        return _formed(inner, form, splits=column is not None and column.is_split, as_json=as_json)
    if column is not None and column.is_split:
        return lambda value: plain(name, value.split(splitter) if type(value) is str else value)
    if (field is not None and field.type in JSON_TYPES) or (column is not None and column.is_json):
        return lambda value: _json(value) if type(value) is str else plain(name, value)
    return lambda value: value if type(value) in (str, int) else plain(name, value)


def _formed(inner: Accept, form: Form, *, splits: bool, as_json: bool) -> Accept:
    """Gives a value the form of its field, before or behind what `inner` does with texts."""

    def accept(value: Any) -> Any:
        if type(value) is str and as_json:
            return inner(value)  # it stands as it is
        return form(inner(value)) if splits else inner(form(value))

    return accept


def form_of(name: str, fields: dict[str, Field]) -> Form | None:
    """What brings values into the form of a field, or of fields within it; None: none is needed."""
    field = fields.get(name)
    if field is not None and field.type in DATES:
        return date_form(field.format)
    if field is not None and field.type in INTEGERS:
        return integer_form(name, field.type, lenient=field.lenient)
    below = {n.removeprefix(f"{name}."): n for n in fields if n.startswith(f"{name}.")}
    made = {n: form_of(whole, fields) for n, whole in below.items()}
    forms = {n: form for n, form in made.items() if form is not None and n.count(".") == 0}
    return nested(forms) if forms else None


def plain(name: str, value: object) -> object:
    """The value, where JSON has a way to write it: a float that is not finite it has not."""
    kind = type(value)
    if kind is str or kind is int:
        return value
    try:
        return _plain(name, value)
    except RecursionError:
        raise bad(name, "bad-value", "the value is nested too deeply") from None


def line(value: dict[str, Any]) -> bytes:
    """One line of JSON; raises TerminalError where the value has no form in it."""
    try:
        return orjson.dumps(value, default=_other, option=_OPTIONS | orjson.OPT_APPEND_NEWLINE)
    except TypeError as e:  # orjson's error is a TypeError; what `default` raises is its cause
        if isinstance(e.__cause__, PROGRAMMING_ERRORS):
            raise e.__cause__ from None
        why = str(e.__cause__ or e)
        reason = "invalid-text" if "surrogates" in why or "UTF-8" in why else "bad-value"
        raise TerminalError(f"the row can't be written as JSON: {why}", reason) from e


def _vectors(name: str, dimension: int | None, needs_length: bool, as_base64: bool) -> Accept:
    float32 = np.dtype(np.float32)
    most, least = math.inf, SMALLEST_NORM2

    def accept(value: Any) -> Any:
        if type(value) is np.ndarray and value.dtype == float32 and value.ndim == 1:
            vector = value if value.flags.c_contiguous else np.ascontiguousarray(value)
        else:
            vector = as_vector(name, value)
        if dimension is not None and len(vector) != dimension:
            raise bad(
                name, "wrong-dimension", f"a vector of {len(vector)} dimensions, not {dimension}"
            )
        norm2 = squared_norm(vector)
        if not least < norm2 < most:
            _refuse(name, vector, norm2, needs_length)
        if as_base64:
            return base64.b64encode(vector.astype(">f4").tobytes()).decode()
        return vector

    return accept


def _refuse(name: str, vector: np.ndarray, norm2: float, needs_length: bool) -> None:
    if not len(vector):
        raise bad(name, "wrong-dimension", "the vector is empty")
    if not np.isfinite(vector).all():
        raise bad(name, "not-finite", "the vector holds NaN or an infinite number")
    if norm2 > 1:
        raise bad(name, "out-of-range", "the vector's length is beyond 32 bits")
    if needs_length:
        raise bad(name, "zero-vector", "a vector of length 0 has no direction, which cosine needs")


def _json(text: str) -> Any:
    """A JSON text as it stands, all digits of its numbers kept; another text as a text."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))  # both end a line


def _as_text(value: object) -> object:
    """An object or a list as a text of JSON, with the blanks that MySQL writes."""
    return json.dumps(value, ensure_ascii=False) if type(value) in (dict, list) else value


def _plain(name: str, value: object) -> object:
    if type(value) is str:
        return value
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            raise bad(name, "not-finite", f"{value} is not a finite number")
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise bad(name, "not-finite", "the array holds NaN or an infinite number")
        if value.dtype.kind in "fiub" and value.dtype.isnative and value.ndim:
            return np.ascontiguousarray(value)
        return _plain(name, value.tolist())
    elif isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise bad(name, "not-finite", f"{value} is not a finite number")
    elif isinstance(value, dict):
        return {k: v if v is None else _plain(name, v) for k, v in value.items()}
    elif isinstance(value, list | tuple | set | frozenset):
        return [v if v is None else _plain(name, v) for v in value]
    return value


def _other(value: Any) -> Any:
    """What orjson has no form for."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):  # a subclass, such as of pandas
        return value.isoformat()
    raise ValueError(f"a {type(value).__name__} has no form in JSON")


MOST_ID_BYTES = 512
_AS_TEXT = str | int | float | decimal.Decimal | uuid.UUID
_MISSING: Any = object()


class RowEncoder:
    """Makes a `Record` of each change: the two lines that stand for it in a bulk request."""

    def __init__(
        self, settings: SearchSettings, fields: dict[str, Field], *, base64_vectors: bool = False
    ) -> None:
        self._action = settings.action_type
        self._keys, self._delimiter = settings.keys, settings.key_delimiter
        self._routing, self._version = settings.routing, settings.version
        self._null = settings.enable_write_null
        needed = set(settings.inputs())
        columns = {c.name: c for c in settings.column}
        meta = {name for name, column in columns.items() if column.is_meta}
        sources = settings.sources() or {n: n for n, f in fields.items() if f.type != "alias"}
        self._as_text = settings.json_as_text

        def accept(name: str) -> Accept:
            field, column = fields.get(name), columns.get(name)
            made = acceptor(
                name,
                field,
                column,
                splitter=settings.splitter,
                base64_vectors=base64_vectors,
                form=form_of(name, fields),
            )
            holds = field is not None and (field.type in JSON_TYPES or field.is_vector)
            if not settings.json_as_text or holds or (column is not None and column.is_json):
                return made
            return lambda value: made(_as_text(value))

        self._plan = [
            (name, source, accept(name), source in needed)
            for name, source in sources.items()
            if name not in meta
        ]
        into = {source: name for name, source in sources.items()}
        self._parents = [(into[n], n, accept(into[n])) for n in settings.parent_key if n in into]
        self.parent_fields = [name for name, _, _ in self._parents]
        """The fields that name the document of a chunk."""
        self.number_field = into.get(CHUNK_INDEX, CHUNK_INDEX)
        """The field with the number of a chunk."""
        self._taken = set(sources.values()) | meta
        # Of an update, what is not written stays: without the vector of a row, its old vector.
        updates = settings.action_type == "update"
        self._stays = {n for n, f in fields.items() if f.is_vector} if updates else set()
        self._open = settings.dynamic

    def encode(self, change: Change) -> Record:
        """The change as the server gets it; raises TerminalError for a row that it can't take."""
        version = change.version
        action = "delete" if change.kind == DELETE else self._action
        if version is not None and self._action in ("create", "update"):
            raise FatalError(
                f"actionType {self._action} can't carry versions, so changes would overtake each "
                "other: use actionType index",
                "no-versions",
            )
        key = self._key(change, action == "delete")
        meta: dict[str, Any] = {} if key is None else {"_id": key}
        if self._routing:
            meta["routing"] = "".join([_as_key(change, c, "routing") for c in self._routing])
        told = version is None and self._version is not None  # by the row, not by its change
        if told and (action != "delete" or self._version in change):
            version = _as_version(change, self._version or "")
        if version is not None:
            meta["version"], meta["version_type"] = _checked(version), "external_gte"
        body = line({action: meta})
        order = None if key is None else (key, meta.get("routing"))
        if action == "delete":
            return Record(action, order, body, len(body), not told)
        document: Any = self.document(change)
        if action == "update":
            document = {"doc": document, "doc_as_upsert": True}
        body += line(document)
        # A `create` gives way to what is there, an `update` adds to it: neither replaces the change
        # before it. Which of two rows is the newer by a column of theirs, the server says.
        return Record(action, order, body, len(body), action == "index" and not told)

    def document_of(self, change: Change) -> tuple[tuple[Any, ...], int | None]:
        """See `vecferry.io.sink.parents.ChunkStore`."""
        parent = []
        for name, source, accept in self._parents:
            value = change.get(source)
            if value is None:
                raise without_parent(name, source, change)
            parent.append(orjson.loads(line({name: accept(value)}))[name])
        version = change.version
        if version is None and self._version is not None and self._version in change:
            version = _checked(_as_version(change, self._version))
        return tuple(parent), version

    def shown(self, change: Change) -> dict[str, Any]:
        """What the server would get, for people to read; raises TerminalError."""
        record = self.encode(change)
        action, *document = [orjson.loads(text) for text in record.body.splitlines()]
        if not document:
            return dict(action)
        vectors = {k: v for k, v in self.document(change).items() if isinstance(v, np.ndarray)}
        (body,) = document
        return dict(body.get("doc", body) if record.op == "update" else body) | vectors

    def document(self, change: Change) -> dict[str, Any]:
        """The document of a row; raises TerminalError."""
        try:
            return self._document(change)
        except PROGRAMMING_ERRORS as e:
            columns = [(s, f"field {name!r}", accept) for name, s, accept, _ in self._plan]
            raise faulty(columns, change, e) from e

    def _document(self, change: Change) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for name, source, accept, needed in self._plan:
            value = change.get(source, _MISSING)
            if value is None:
                if self._null:
                    document[name] = None
                elif name in self._stays and type(change) is Substitute:
                    raise bad(name, "null-value", "the old vector would stay in the document")
            elif value is not _MISSING:
                document[name] = accept(value)
            elif needed:
                raise bad(name, "missing-column", f"the row has no column {source!r}")
        if self._open:
            for name, value in change.items():
                if name not in self._taken and (value is not None or self._null):
                    value = _as_text(value) if self._as_text else value
                    document[name] = value if value is None else plain(name, value)
        return document

    def _key(self, change: Change, deleting: bool) -> str | None:
        columns = self._keys
        if not columns:
            if deleting:
                raise TerminalError(
                    "a delete needs the id of its document: set primaryKey: true on a column",
                    "no-key",
                )
            return None
        key = _as_key(change, columns[0], "id") if len(columns) == 1 else self._joined(change)
        if not key:
            raise TerminalError("the document's id is an empty text", "empty-key")
        if len(key) <= MOST_ID_BYTES and key.isascii():
            return key
        try:
            size = len(key.encode())
        except UnicodeEncodeError as e:
            raise TerminalError(f"the document's id is not valid Unicode: {e}", "bad-key") from e
        if size > MOST_ID_BYTES:
            raise TerminalError(
                f"the document's id {shorten(key, 40)!r} has {size} bytes, {MOST_ID_BYTES} at most",
                "key-too-long",
            )
        return key

    def _joined(self, change: Change) -> str:
        """An id of several columns, which no other row may have."""
        delimiter = self._delimiter
        parts = [_as_key(change, name, "id") for name in self._keys]
        key = delimiter.join(parts)
        texts = [p for p, n in zip(parts, self._keys, strict=True) if isinstance(change[n], str)]
        if len(texts) > 1 and any(delimiter in text for text in texts):
            raise TerminalError(
                f"the id {shorten(key, 60)!r} could be that of another row, as a column of it "
                f"holds {delimiter!r}: choose another fieldDelimiter in primaryKeyInfo",
                "ambiguous-key",
            )
        return key


def _as_key(change: Change, name: str, what: str) -> str:
    value = change.get(name, _MISSING)
    if type(value) is str:
        return value
    if value is _MISSING:
        raise TerminalError(f"the row has no column {name!r} for its {what}", "missing-column")
    if value is None:
        raise TerminalError(f"column {name!r}, the document's {what}, is null", "null-key")
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        raise TerminalError(f"column {name!r}, the document's {what}, is {value}", "bad-key")
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TerminalError(
        f"column {name!r} is a {type(value).__name__}, which can't be the document's {what}",
        "bad-key",
    )


def _as_version(change: Change, name: str) -> Any:
    """A row's own version: a whole number, also as a text."""
    value = change.get(name, _MISSING)
    if value is _MISSING:
        raise TerminalError(f"the row has no column {name!r} for its version", "missing-column")
    if value is None:
        raise TerminalError(f"column {name!r}, the document's version, is null", "bad-version")
    try:
        return as_int(name, "version", value)
    except TerminalError:
        raise TerminalError(
            f"version {shorten(value, 60)!r} is not a whole number", "bad-version"
        ) from None


def _checked(version: Any) -> int:
    if type(version) is not int or not 0 <= version < 2**63:
        raise TerminalError(
            f"version {shorten(version, 60)} is not within 0 to 2^63-1", "bad-version"
        )
    return version
