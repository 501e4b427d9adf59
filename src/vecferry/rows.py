"""What flows between steps: rows, changes and rejects, and how they are written as JSON.

A *row* is a ``dict[str, value]``; a vector in a row is a 1-D ``numpy.float32`` array. A *change* is
a row with a row kind, a version and an origin. The row kinds are those of Flink and Paimon: ``+I``
insert, ``+U`` update after, ``-D`` delete. A plain dict given to a step is an upsert without a
version.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from vecferry.chunks import CHUNK_COUNT as CHUNK_COUNT
from vecferry.chunks import CHUNK_INDEX as CHUNK_INDEX

Row = dict[str, Any]

INSERT = "+I"
UPDATE = "+U"
DELETE = "-D"

MAX_REJECT_VALUE_BYTES = 1 << 20
"""A larger value of a reject is cut: its length, hash and beginning stay."""


class _ChangeType(type):
    """Lets `Change` be made in two ways: with its keywords, and by `changes` in bulk.

    An `__init__` in Python would run for each row, and cost as much as parsing a short row.
    """

    def __call__(
        cls, row: Any = (), *, kind: str = INSERT, version: int | None = None, origin: str = ""
    ) -> Any:
        change = type.__call__(cls, row)
        change.kind = kind
        change.version = version
        change._origin = origin
        change._place = None
        return change


class Change(dict[str, Any], metaclass=_ChangeType):
    """A row with its row kind, its version (the greater wins) and its origin.

    A change is a dict, so a ``Map`` over rows needs to know nothing of changes. ``dict(change)``
    and ``{**change}`` give the bare row; `with_columns` gives a copy that stays a change.
    """

    __slots__ = ("_origin", "_place", "kind", "version")

    kind: str
    version: int | None
    _origin: str
    _place: int | None

    if TYPE_CHECKING:

        def __init__(
            self, row: Any = (), *, kind: str = INSERT, version: int | None = None, origin: str = ""
        ) -> None: ...

    @property
    def origin(self) -> str:
        """Where the row came from; the text is made on demand."""
        return self._origin if self._place is None else f"{self._origin}{self._place}"

    @origin.setter
    def origin(self, origin: str) -> None:
        self._origin = origin
        self._place = None

    def with_columns(self, columns: Row) -> Change:
        """A copy of this change with `columns` added or replaced; the original stays unchanged."""
        other: Change = unstamped(self)
        other.kind, other.version = self.kind, self.version
        other._origin, other._place = self._origin, self._place
        other.update(columns)
        return other

    def without_columns(self, names: Iterable[str]) -> Change:
        """A copy of this change without the columns `names`; the original stays unchanged."""
        other = self.with_columns({})
        for name in names:
            other.pop(name, None)
        return other

    def __reduce__(self) -> Any:
        return _rebuild, (dict(self), self.kind, self.version, self.origin)


class Substitute(Change):
    """The change that goes on in place of a rejected change.

    The reject has been told. A step that refuses the substitute too rejects nothing anew, but hands
    on what goes in its place (`Reject.quiet`).
    """

    __slots__ = ()

    def with_columns(self, columns: Row) -> Substitute:
        """As `Change.with_columns`; the copy is also a substitute."""
        return substitute({**self, **columns}, self, self.kind)

    def __reduce__(self) -> Any:
        return _rebuild, (dict(self), self.kind, self.version, self.origin, Substitute)


unstamped: Callable[[Row], Change] = type.__call__.__get__(Change)
"""A copy of a row as a change without kind, version and origin; for hot loops."""


def change_at(row: Row, prefix: str, place: int) -> Change:
    """A copy of `row` as an insert, whose origin is `prefix` and a whole number.

    Gives what `Change(row, origin=f"{prefix}{place}")` gives, in a third of the time.
    """
    change = unstamped(row)
    change.kind = INSERT
    change.version = None
    change._origin = prefix
    change._place = place
    return change


def changes(rows: Iterable[Row], prefix: str, places: Iterable[int]) -> list[Change]:
    """Copies of `rows` as inserts, whose origins are `prefix` and a whole number each.

    Gives what `change_at` gives for each row, in less time.
    """
    made = list(map(unstamped, rows))
    for change, place in zip(made, places, strict=False):
        change.kind = INSERT
        change.version = None
        change._origin = prefix
        change._place = place
    return made


Columns = tuple[tuple[str, ...], list[tuple[Any, ...]], list[tuple[Any, ...]]]
"""Names, the values of each row, and what makes each row a change."""


def as_columns(rows: Sequence[Change]) -> Columns | None:
    """Rows that all have the same columns, in the same order; None if they have not.

    It takes a fifth of the time to pickle, as the names and the class stand there once.
    """
    names = tuple(rows[0]) if rows else ()
    if not all(type(row) is Change and tuple(row) == names for row in rows):
        return None
    stamps = [(row.kind, row.version, row._origin, row._place) for row in rows]
    return names, [tuple(row.values()) for row in rows], stamps


def of_columns(
    names: tuple[str, ...], values: Iterable[tuple[Any, ...]], stamps: Iterable[tuple[Any, ...]]
) -> list[Change]:
    """The rows of which `as_columns` has made columns."""
    made = [unstamped(dict(zip(names, row, strict=True))) for row in values]
    for change, stamp in zip(made, stamps, strict=True):
        change.kind, change.version, change._origin, change._place = stamp
    return made


def _rebuild(
    row: Row, kind: str, version: int | None, origin: str, cls: type[Change] = Change
) -> Change:
    return cls(row, kind=kind, version=version, origin=origin)


def substitute(row: Row, change: Change, kind: str) -> Substitute:
    """What goes on in place of `change`: `row`, of that kind, with its version and origin."""
    return Substitute(row, kind=kind, version=change.version, origin=change.origin)


def as_change(row: Row) -> Change:
    """The row itself if it is a change, otherwise an upsert without version or origin."""
    return row if isinstance(row, Change) else Change(row)


def held_bytes(row: Row) -> int:
    """About how many bytes the texts, bytes, vectors and lists of a row take while it waits."""
    held, sizes = 0, _SIZES
    for value in row.values():
        size = sizes.get(type(value))
        if size is not None:
            held += size(value)
    return held


def _held_by_list(values: list[Any] | tuple[Any, ...]) -> int:
    if values and type(values[0]) in (int, float, bool):
        return 32 * len(values)
    return held_bytes(dict(enumerate(values)))  # type: ignore[arg-type]


_SIZES: dict[type, Callable[[Any], int]] = {
    str: len,
    bytes: len,
    bytearray: len,
    memoryview: lambda view: view.nbytes,
    np.ndarray: lambda array: array.nbytes,
    list: _held_by_list,
    tuple: _held_by_list,
    dict: held_bytes,
}


@dataclass(slots=True)
class Reject:
    """A row that a step could not take: a dead letter.

    `reason` is a short stable word such as ``invalid-json``, by which reports group. `message`
    explains the fault to a person. A reader has no row yet and gives `raw`: the record as it stands
    in the source, as bytes if it is not valid text.

    `instead` is the change that goes on in place of the rejected change, as `setting.onReject`
    says: the row without the vector that failed, or a delete. So no old text of that key stays
    searchable. Whoever takes a reject hands `instead` on, and counts one row more (``rows-added``).
    """

    step: str
    step_type: str
    reason: str
    message: str
    row: Change | None = None
    raw: str | bytes | None = None
    origin: str = ""
    key: Any = None
    instead: Substitute | None = None

    @property
    def quiet(self) -> bool:
        """Whether the reject was told before, because its row was a `Substitute` already."""
        return self.instead is not None and type(self.row) is Substitute


def encode_value(value: object) -> Any:
    """`value` as plain JSON types; a type that JSON lacks becomes ``{"$type": text}``.

    Vectors are ``{"$float32": base64 of little-endian float32}``; `decode_value` reverses it.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _encode_text(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else {"$int": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f4").tobytes()
        return {"$float32": base64.b64encode(data).decode()}
    if isinstance(value, np.generic):
        return encode_value(value.item())
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, dict):
        body = {str(k): encode_value(v) for k, v in value.items()}
        looks_encoded = len(body) == 1 and next(iter(body)).startswith("$")
        return {"$dict": body} if looks_encoded else body
    if isinstance(value, list | tuple | set | frozenset):
        return [encode_value(v) for v in value]
    return _encode_scalar(value)


def _encode_text(value: str) -> Any:
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no JSON library writes
        return {"$utf16": base64.b64encode(value.encode("utf-16-le", "surrogatepass")).decode()}
    return value


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, datetime.date):
        return {"$date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"$time": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"$decimal": str(value)}
    return {"$text": str(value)}


_DECODERS: dict[str, Any] = {
    "$int": int,
    "$float": float,
    "$float32": lambda text: np.frombuffer(base64.b64decode(text), dtype="<f4").copy(),
    "$bytes": base64.b64decode,
    "$utf16": lambda text: base64.b64decode(text).decode("utf-16-le", "surrogatepass"),
    "$datetime": datetime.datetime.fromisoformat,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$decimal": decimal.Decimal,
    "$text": str,
}


def decode_value(value: object) -> Any:
    """The value that `encode_value` got; raises ValueError for a cut or hidden value."""
    if isinstance(value, list):
        return [decode_value(v) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (name, body), *_ = value.items()
        if name == "$dict":
            return {k: decode_value(v) for k, v in body.items()}
        if name == "$cut":
            raise ValueError(
                f"a value of {body['bytes']} bytes was cut when it was rejected; "
                "run the job again over its source instead of replaying it"
            )
        if name == "$secret":
            raise ValueError(
                "a value held a secret of the job, which the reject hides; "
                "run the job again over its source instead of replaying it"
            )
        if name in _DECODERS:
            return _DECODERS[name](body)
    return {k: decode_value(v) for k, v in value.items()}


def cut_value(value: object) -> Any:
    """`value`, already encoded; over 1 MiB, its length, sha256 and beginning instead."""
    data = value.encode() if isinstance(value, str) else orjson.dumps(value)
    if len(data) <= MAX_REJECT_VALUE_BYTES:
        return value
    return {
        "$cut": {
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "head": data[:1024].decode("utf-8", "replace"),
        }
    }
