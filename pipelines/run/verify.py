"""Compares a target with its source, key by key, and mends where they differ.

Both sides go to disk by the digests of their keys, and meet there, so that memory stays flat and no
order is assumed. A value is kept as its digest, a vector as a sketch. A vector that a store rounds
has nearly the same sketch; the vector of another text has another sketch.
"""

from __future__ import annotations

import ast
import functools
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import groupby
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import numpy.typing as npt
import orjson

from vecferry.errors import JobError
from vecferry.pipelines.run.whole import Documents, Pair
from vecferry.rows import DELETE, Change, Reject
from vecferry.spill import Findings, Spill, digest_of
from vecferry.steps import Emitted, Operator, Target, Transformer, goes_on
from vecferry.stored import Reconciled, Stored
from vecferry.versions import MAX_EPOCH, pack, unpack

Kind = Literal["missing", "ghost", "different", "withoutVector", "wrongVector", "raised"]
KINDS: dict[Kind, str] = {
    "missing": "the source has the row, and the target does not",
    "ghost": "the target has the row, and the source does not",
    "different": "a value differs",
    "withoutVector": "the row has no vector, though its text has one",
    "wrongVector": "the vector is not that of the row's text",
    "raised": "the version is greater than the source's, so that the next change would be stale",
}
"""What can be wrong with a row; what stands first is told of a row with several faults."""

EXAMPLES = 10
AT_ONCE = 512
TOLERANCE = 0.005
"""The length by which two sketches of one vector differ at most: 16-bit floats round by 0.002."""
_NUMBERS = 16
_UNKNOWN, _NONE, _KNOWN = 0, 1, 2
ALONE = Documents()
"""Each row is compared for itself."""
_STAYS = b""
"""Stands for a row of the source that is not compared, whatever the target has of its key."""
_HEAD = struct.Struct("<?qBB")
_VALUE_BYTES = 9
_SKETCH_BYTES = 4 * _NUMBERS


@dataclass(kw_only=True)
class Verified:
    """How a target compares with its source.

    Attributes:
      source: how many rows the source has.
      target: how many rows the target has.
      equal: how many rows are on both sides and have no fault.
      found: by kind of fault, how many rows have it; a row counts once.
      examples: by kind of fault, some keys, with the fields at fault.
      unknown: how many vectors could not be compared, as no cache holds those of their texts.
      refused: how many rows of the source a step or the target can't take. They should not be in
        it, unless `setting.onReject` is ``keep``: then they are not compared.
      unread: how many records of the source have no key, as they can't be read.
      moving: how many rows differ and changed at the source meanwhile, so that they are not judged.
      uncompared: the fields that are filled, and that nobody compares.
      newest: the greatest version in the target; None if it keeps none.
    """

    source: int = 0
    target: int = 0
    equal: int = 0
    found: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    examples: dict[Kind, list[dict[str, Any]]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS}
    )
    unknown: int = 0
    refused: int = 0
    unread: int = 0
    moving: int = 0
    uncompared: list[str] = field(default_factory=list)
    newest: int | None = None

    @property
    def same(self) -> bool:
        """Whether nothing is at fault."""
        return not any(self.found.values())

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types; examples only of kinds that were found."""
        out: dict[str, Any] = {name: getattr(self, name) for name in _SHOWN}
        out["found"] = dict(self.found)
        out["examples"] = {kind: some for kind, some in self.examples.items() if some}
        return out


_SHOWN = (
    "same",
    "source",
    "target",
    "equal",
    "unknown",
    "refused",
    "unread",
    "moving",
    "uncompared",
)


class Comparison:
    """One comparison: its result, and on disk the rows that are at fault. To be closed.

    Attributes:
      moved: the rows at fault that changed at the source meanwhile; see `forgive`.

    Args:
      target: what is compared.
      examples: how many keys are told of each kind of fault.
      among: compares these rows only; None for all rows.
      documents: how rows belong together.
    """

    def __init__(
        self,
        target: Target,
        examples: int = EXAMPLES,
        among: Findings | None = None,
        documents: Documents = ALONE,
    ) -> None:
        self.result = Verified()
        self._documents, self._staying = documents, set[bytes]()
        self._target, self._examples, self._among = target, examples, among
        self._spill, self._findings, self.moved = Spill(), Findings(), Findings()
        self._names: list[str] = []
        self._places: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Removes what is on disk."""
        self._spill.close()
        self._findings.close()
        self.moved.close()

    def take_source(self, rows: Iterable[Change | Reject]) -> None:
        """Takes the rows of the source, as they come to the writer; all of them, in any order."""
        result = self.result
        for item in rows:
            change = item.instead if isinstance(item, Reject) else item
            if change is None:
                self._take_refused(item)
                continue
            row = None if change.kind == DELETE else self._target.as_stored(change)
            if isinstance(row, Stored):
                if not self._is_wanted(row):
                    continue
                result.source += 1
                self._spill.left(row.key, self._packed(row))
            elif row is not None and row.key is None:
                result.unread += 1
            else:
                result.refused += 1

    def _take_refused(self, item: Change | Reject) -> None:
        """A reject in whose place nothing goes on: what the target has of its key stays there."""
        row = item.row if isinstance(item, Reject) else None
        document = self._documents.of(item) if self._documents.columns else None
        if document is not None:
            self.result.refused += 1
            self._staying.add(_document(map(_digest, document)))
            return
        if (
            row is None and self._documents.columns and self._documents.of_reader
        ):  # a record of a file, whose others are known
            self.result.refused += 1
            return
        key = None if row is None else self._target.key_of(row)
        if key is None:
            self.result.unread += 1
            return
        self.result.refused += 1
        self._spill.left(key, _STAYS)

    def take_target(self) -> None:
        """Takes all rows of the target."""
        result = self.result
        result.uncompared = self._target.uncompared()
        for row in self._target.scan():
            if not self._is_wanted(row):
                continue
            result.target += 1
            if row.version is not None:
                result.newest = max(row.version, result.newest or 0)
            self._spill.right(row.key, self._packed(row))

    def compare(self) -> Verified:
        """Lets both sides meet; once, after both were taken."""
        result = self.result
        for met in self._spill.meet():
            if _STAYS in met.left:
                continue
            # Of a key that comes twice in the source, the greatest version holds, or the last.
            left = max(map(self._unpacked, met.left), key=lambda u: u.order, default=None)
            right = self._unpacked(met.right[-1]) if met.right else None
            side = right if left is None else left
            assert side is not None
            if self._staying and self._document_of(side) in self._staying:
                continue
            kind, names = self._fault(left, right)
            if kind is None:
                result.equal += 1
                continue
            told, document = "\n".join(names), self._document_of(side)
            self._findings.add(met.digest, kind, side.key, told, document)
            result.found[kind] += 1
        self._show()
        return result

    def forgive(self, changes: Iterable[Change | Reject]) -> None:
        """Takes back what was found of rows that changed at the source meanwhile.

        The sync is yet to write them, or wrote them after they were read. With a chunk, all chunks
        of its document changed.
        """
        for change in changes:
            document = self._documents.of(change) if self._documents.columns else None
            if document is not None:
                taken = self._findings.take_family(_document(map(_digest, document)))
            elif isinstance(change, Change):
                taken = self._findings.take(digest_of(self._target.key_of(change)))
            else:
                continue
            for digest, kind, text in taken:
                self.result.found[cast("Kind", kind)] -= 1
                self.result.moving += 1
                self.moved.add(digest, kind, text)
        self._show()

    def _show(self) -> None:
        for kind in KINDS:
            self.result.examples[kind] = [
                {"key": shown_key(ast.literal_eval(key))}
                | ({"fields": told.split("\n")} if told else {})
                for key, told in self._findings.some(kind, self._examples)
            ]

    def _document_of(self, row: _Unpacked) -> bytes:
        """The document of a row; empty if rows are alone."""
        places = [self._places.get(name) for name in self._documents.fields]
        if not places or any(place not in row.values for place in places):
            return b""
        return _document(row.values[place] for place in places if place is not None)

    def _is_wanted(self, row: Stored) -> bool:
        return self._among is None or self._among.kind_of(digest_of(row.key)) is not None

    def groups(self, pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
        """Pairs, as `recalled` gives them, that are written together."""
        return (
            [pair for _, pair in some]
            for _, some in groupby(
                ((self._documents.of(item, row) or id(item), (row, item)) for row, item in pairs)
                if self._documents.columns
                else ((at, pair) for at, pair in enumerate(pairs)),
                key=lambda one: one[0],
            )
        )

    def kind_of(self, row: Stored) -> str | None:
        """What was found of a row; None if nothing."""
        return self._findings.kind_of(digest_of(row.key))

    def ghosts(self) -> Iterator[Stored]:
        """The rows that the source does not have."""
        for key in self._findings.keys("ghost"):
            yield Stored(key=ast.literal_eval(key))

    def _fault(
        self, left: _Unpacked | None, right: _Unpacked | None
    ) -> tuple[Kind | None, list[str]]:
        if right is None:
            return "missing", []
        if left is None:
            return "ghost", []
        there = right.values
        names = [self._names[i] for i, v in left.values.items() if i in there and there[i] != v]
        if names:
            return "different", names
        faults: dict[Kind, list[str]] = {"withoutVector": [], "wrongVector": []}
        for place, here in right.vectors.items():
            fault = self._vector_fault(left.vectors.get(place, _Vector(_UNKNOWN)), here)
            if fault is not None:
                faults[fault].append(self._names[place])
        for kind, names in faults.items():
            if names:
                return kind, names
        if left.version is not None and right.version is not None and right.version > left.version:
            return "raised", []
        return None, []

    def _vector_fault(
        self, due: _Vector, here: _Vector
    ) -> Literal["withoutVector", "wrongVector"] | None:
        if here.state == _NONE:
            return None if due.state == _NONE else "withoutVector"
        if due.state == _UNKNOWN:
            self.result.unknown += 1
            return None
        if due.state == _NONE or not _near(due.sketch, here.sketch):
            return "wrongVector"
        return None

    def _packed(self, row: Stored) -> bytes:
        version = row.version
        parts = [
            _HEAD.pack(version is not None, version or 0, len(row.values), len(row.vectors)),
        ]
        for name, value in row.values.items():
            parts.append(bytes([self._place(name)]) + _digest(value))
        for name, vector in row.vectors.items():
            state = _NONE if vector is None else _KNOWN
            parts.append(bytes([self._place(name), state]))
            parts.append(bytes(_SKETCH_BYTES) if vector is None else sketch(vector).tobytes())
        parts.append(repr(row.key).encode("utf-8", "surrogatepass"))
        return b"".join(parts)

    def _place(self, name: str) -> int:
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self._names)
            self._names.append(name)
            if place > 255:
                raise JobError(
                    "a target of more than 256 fields can't be compared; name a job that fills "
                    "fewer of its fields"
                )
        return place

    def _unpacked(self, data: bytes) -> _Unpacked:
        versioned, version, values, vectors = _HEAD.unpack_from(data)
        out = _Unpacked(version if versioned else None)
        at = _HEAD.size
        for _ in range(values):
            out.values[data[at]] = data[at + 1 : at + _VALUE_BYTES]
            at += _VALUE_BYTES
        for _ in range(vectors):
            numbers = np.frombuffer(data, np.float32, _NUMBERS, at + 2)
            out.vectors[data[at]] = _Vector(data[at + 1], numbers)
            at += 2 + _SKETCH_BYTES
        out.key = data[at:].decode("utf-8", "surrogatepass")
        return out


@dataclass(slots=True)
class _Vector:
    state: int
    sketch: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(_NUMBERS, np.float32))


@dataclass(slots=True)
class _Unpacked:
    version: int | None
    values: dict[int, bytes] = field(default_factory=dict)
    vectors: dict[int, _Vector] = field(default_factory=dict)
    key: str = ""

    @property
    def order(self) -> int:
        return -1 if self.version is None else self.version


def _document(digests: Iterable[bytes]) -> bytes:
    """What a document is called among findings, of the digests of what names it."""
    return b"".join(digests)


def shown_key(key: object) -> str:
    """The key of a stored row as people read it: the parts that there are."""
    parts = key if isinstance(key, tuple) else (key,)
    return ", ".join(str(part) for part in parts if part is not None)


def _digest(value: Any) -> bytes:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of numbers
    if isinstance(value, dict | list):
        options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
        text = orjson.dumps(_plain(value), default=str, option=options)
    else:
        text = repr(value).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_VALUE_BYTES - 1).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@functools.cache
def _directions(dimension: int) -> npt.NDArray[np.float32]:
    chance = np.random.default_rng(dimension)
    scale = np.sqrt(_NUMBERS)
    out: npt.NDArray[np.float64] = chance.standard_normal((_NUMBERS, dimension)) / scale
    return out.astype(np.float32)


def sketch(vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A vector along 16 directions that chance has drawn, the same for each dimension.

    The distance of two sketches is about the distance of their vectors (Johnson, Lindenstrauss).
    """
    out: npt.NDArray[np.float32] = _directions(len(vector)) @ vector
    return out


def _near(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    length = max(np.linalg.norm(one), np.linalg.norm(other))
    return bool(np.linalg.norm(one - other) <= TOLERANCE * length)


def recalled(
    rows: Iterable[Change | Reject],
    transformers: Sequence[Transformer],
    target: Target,
    documents: Documents = ALONE,
) -> Iterator[Pair]:
    """Rows of a reader, with each row that comes to the writer, as far as that costs nothing.

    Vectors that no cache holds are left out. Rows that a step drops are left out as well. A record
    that the reader rejects has no row. The chunks of a document come together.
    """
    part: list[Change] = []
    for item in rows:
        if isinstance(item, Reject):
            yield None, item
            continue
        if item.kind == DELETE:
            raise JobError("a source that is compared gives rows, and gave a delete")
        if len(part) >= AT_ONCE and documents.ends(part[-1], item):
            yield from documents.whole(_recalled(part, transformers), target)
            part = []
        part.append(item)
    yield from documents.whole(_recalled(part, transformers), target)


def _recalled(rows: list[Change], transformers: Sequence[Transformer]) -> Iterator[Pair]:
    pairs: list[tuple[Change, Change | Reject]] = [(row, row) for row in rows]
    for transformer in transformers:
        going = [(row, item) for row, item in pairs if isinstance(item, Change)]
        ended = [(row, item) for row, item in pairs if isinstance(item, Reject)]
        came = transformer.recall_all([item for _, item in going])
        after = zip([row for row, _ in going], came, strict=True)
        pairs = [*ended, *((row, item) for row, items in after for item in items)]
    yield from pairs


def through(
    rows: Iterable[Change | Reject], operators: Sequence[Operator]
) -> Iterator[Change | Reject]:
    """What comes out of steps one after the other; with a writer at the end, what it wrote."""
    out: Iterable[Change | Reject] = rows
    for operator in operators:
        out = _through(out, operator)
    yield from out


def _through(rows: Iterable[Change | Reject], operator: Operator) -> Iterator[Change | Reject]:
    for item in rows:
        if isinstance(item, Reject):
            yield item
        else:
            yield from _gone_on(operator.process(item), operator)
    yield from _gone_on(operator.finish(), operator)


def _gone_on(emitted: Iterable[Emitted], operator: Operator) -> Iterator[Change | Reject]:
    """What a step emits; behind a reject comes what goes on in its place."""
    for item, _ in emitted:
        if not isinstance(item, Reject):
            yield item
            continue
        if not item.quiet:
            yield item
        if (instead := goes_on(item, operator.counts)) is not None:
            yield instead


def verify(
    target: Target,
    rows: Iterable[Change | Reject],
    *,
    examples: int = EXAMPLES,
    among: Findings | None = None,
    documents: Documents = ALONE,
) -> Comparison:
    """Compares a target with the rows of its source, as they come to the writer.

    The target is read first: a row that is written and then read at the source is not a ghost.

    Args:
      target: the job's.
      rows: all rows of the source, such as `recalled` gives. A vector column that a row lacks is
        not compared; one that is null says that the row has no vector.
      examples: how many keys are told of each kind of fault.
      among: compares these rows only; None for all rows.
      documents: how rows belong together.

    Returns:
      The comparison, to be closed.

    Raises:
      JobError, TransientError: as `Target.scan`; or what `rows` raises.
    """
    comparison = Comparison(target, examples, among, documents)
    try:
        comparison.take_target()
        comparison.take_source(rows)
        comparison.compare()
    except BaseException:
        comparison.close()
        raise
    return comparison


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair did.

    Attributes:
      epoch: the epoch of what was written; the position takes it, so that later changes have it.
      written: how many rows were written anew.
      removed: how many rows went, and how many of those stayed.
      rejected: how many rows a step could not take.
      note: what a person should know; empty if there is nothing.
    """

    epoch: int
    written: int
    removed: Reconciled
    rejected: int
    note: str = ""


def next_epoch(current: int, newest: int | None) -> int:
    """An epoch greater than the sync's and than that of each row in the target; raises JobError.

    `newest` is the greatest version in the target, None if none is known.
    """
    epoch = max(current, unpack(newest)[0] if newest is not None else 0) + 1
    if epoch > MAX_EPOCH:
        raise JobError(
            f"an epoch greater than {epoch - 1} is needed, and versions have room for "
            f"{MAX_EPOCH}: fill a new target. Or, if somebody's own write raised the version of a "
            "row so far, delete that row, and wait until the store has forgotten its delete"
        )
    return epoch


def repair(
    target: Target,
    comparison: Comparison,
    pairs: Iterable[Pair],
    write: Callable[[Iterator[Change]], Iterable[Change | Reject]],
    *,
    epoch: int,
) -> Repaired:
    """Mends what a comparison found, and nothing else, under a new epoch.

    Not beside a round. Rows whose version somebody raised need nothing but the epoch.

    Args:
      target: the one that was compared.
      comparison: what was found.
      pairs: the rows of the source once more, as `recalled` gives them.
      write: takes rows of the reader through all steps, such as `through` with a writer at the end.
      epoch: from `next_epoch`.

    Raises:
      JobError, TransientError: the work can be repeated, under the same epoch.
    """
    notes = target.remember_epoch(epoch)
    result = comparison.result
    removed = Reconciled()
    if result.found["ghost"]:
        if result.unread:
            notes.append(
                f"{result.unread} records of the source can't be read, so rows that it seems not "
                "to have stay"
            )
        else:
            removed = target.remove(comparison.ghosts(), epoch)
    written = rejected = 0
    for item in write(_to_mend(target, comparison, pairs, epoch)):
        if isinstance(item, Reject):
            rejected += 1
        else:
            written += 1
    if removed.note:
        notes.append(removed.note)
    return Repaired(
        epoch=epoch, written=written, removed=removed, rejected=rejected, note="; ".join(notes)
    )


def _to_mend(
    target: Target,
    comparison: Comparison,
    pairs: Iterable[Pair],
    epoch: int,
) -> Iterator[Change]:
    for group in comparison.groups(pairs):
        if not any(_is_to_mend(target, comparison, item) for _, item in group):
            continue
        # A document is written whole, from all its rows.
        for row in {id(row): row for row, _ in group if row is not None}.values():
            place = 0 if row.version is None else unpack(row.version)[1]
            mended = row.with_columns({})
            mended.version = pack(epoch, place)
            yield mended


def _is_to_mend(target: Target, comparison: Comparison, item: Change | Reject) -> bool:
    due = item.instead if isinstance(item, Reject) else item
    if due is None or due.kind == DELETE:
        return False
    known = target.as_stored(due)
    if isinstance(known, Reject):
        return False
    return comparison.kind_of(known) not in (None, "raised", "ghost")
