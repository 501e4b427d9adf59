"""Documents as a whole: what a store sees of one, and what it sends for one.

A document is one record of the write loop, whose key is what names the document. So what the loop
promises for rows holds for documents. Requests with the same document are never in flight together.
An older document does not replace a newer one. A batch at fault is bisected by documents.

A document is written in two steps: its chunks are upserted, then the document is trimmed. To trim
is to delete the chunks from number `Trim.keep` on. All documents of a batch are trimmed together.
If a run breaks between the two steps, surplus chunks stay until the document is read again. Runners
and syncs read again what was not surely written. A document that is deleted is trimmed to nothing.

Who can't see half of a document:

- A request that a store refuses as a whole (PostgreSQL, Milvus) leaves the old document.
- If a store refuses single chunks (Elasticsearch, OpenSearch), others have replaced old ones by
  then. So has the first request of a document that needs several. Then all chunks are deleted.
- If a newer document of that name is there, some chunks are stale. Those that are not stale came in
  beside the newer document. They are deleted again, with their own version.

Stands apart from `document_writer` because it runs in threads, and knows no order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from vecferry.errors import FatalError, TerminalError, TransientError
from vecferry.io.sink.store import (
    REJECTED_STATE,
    RETRY_STATE,
    STALE,
    STALE_STATE,
    WRITTEN,
    WRITTEN_STATE,
    Outcome,
    Record,
    Store,
    TooLargeError,
    WriteLimits,
)
from vecferry.rows import DELETE, Change, held_bytes
from vecferry.steps import Stamp

Parent = tuple[Any, ...]
"""The values that name a document, as its store compares them."""

DOCUMENT = "document"
"""The `op` of a record that is a document."""


class Trim(NamedTuple):
    """Of a document, the chunks from number `keep` on go, unless they are newer than `version`."""

    parent: Parent
    keep: int
    version: int | None


def grouped(trims: Sequence[Trim]) -> dict[tuple[Any, ...], list[Any]]:
    """The last values of the names of documents, by `keep` and the values before the last.

    Nearly always one group for each `keep`, so that a request names many documents shortly.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for trim in trims:
        groups.setdefault((trim.keep, *trim.parent[:-1]), []).append(trim.parent[-1])
    return groups


class ChunkStore(Store, Protocol):
    """A store that also knows which rows are chunks of one document."""

    def document_of(self, change: Change) -> tuple[Parent, int | None]:
        """Which document a row belongs to, and the version of the row; raises TerminalError."""

    def trim(self, trims: Sequence[Trim]) -> None:
        """Deletes surplus chunks of several documents, no two of one name; raises as `send` does.

        Sees all that `send` has written.
        """


class Chunk:
    """A row of a document, and how the store gets it.

    `record` is None if the row is not written: it is a delete, or was refused. `refused` is the row
    that was refused, and why. Then `change` is what is written in its place, if anything is.
    """

    __slots__ = ("change", "record", "refused", "stamp")

    def __init__(
        self,
        change: Change,
        stamp: Stamp,
        record: Record | None = None,
        refused: tuple[Change, Outcome] | None = None,
    ) -> None:
        self.change, self.stamp, self.record, self.refused = change, stamp, record, refused

    @property
    def size(self) -> int:
        """About how many bytes the chunk takes, here or in a request."""
        return max(self.record.size if self.record is not None else 0, held_bytes(self.change))


class Document(Change):
    """A document in the place of a row: its kind says whether it is written or deleted.

    `chunks` are the rows that it was made of, `keep` is how many of them stay. `tombstone` is a
    record that makes a store with versions remember a delete. `faults` has by place in `chunks` why
    the store refused some of them in the last request. `broken` says why a document is deleted that
    was to be written.
    """

    __slots__ = ("broken", "chunks", "faults", "keep", "parent", "tombstone")

    broken: str
    chunks: list[Chunk]
    faults: dict[int, Outcome]
    keep: int
    parent: Parent
    tombstone: Record | None

    @property
    def trim(self) -> Trim:
        """What the document leaves of chunks that it no longer has."""
        return Trim(self.parent, self.keep, self.version)

    @property
    def records(self) -> list[Record]:
        """What is sent before the document is trimmed."""
        if self.kind == DELETE:
            return [] if self.tombstone is None else [self.tombstone]
        return [chunk.record for chunk in self.chunks if chunk.record is not None]


def document(
    kind: str,
    parent: Parent,
    version: int | None,
    chunks: list[Chunk],
    *,
    tombstone: Record | None = None,
    broken: str = "",
) -> Document:
    """A document of these chunks, to be written, or to be deleted whatever its chunks are."""
    made: Document = Document(kind=kind, version=version)
    made.parent, made.chunks, made.tombstone, made.faults = parent, chunks, tombstone, {}
    made.broken = broken
    made.keep = 0 if kind == DELETE else len(chunks)
    return made


class DocumentStore:
    """A `Store` whose records are documents, in front of the store of their chunks."""

    def __init__(self, store: ChunkStore, limits: WriteLimits) -> None:
        self._store, self._limits = store, limits
        self.classify = store.classify

    def encode(self, change: Change) -> Record:
        """The record of a `Document`."""
        assert isinstance(change, Document)
        size = sum([chunk.size for chunk in change.chunks]) + 64
        return Record(DOCUMENT, change.parent, change, size)

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes chunks in as many requests as they need, then trims all documents in one."""
        documents: list[Document] = [record.body for record in records]
        fates = self._write(documents)
        outcomes, trims = [], []
        for one, fate in zip(documents, fates, strict=True):
            outcome, trim = self._judged(one, fate)
            outcomes.append(outcome)
            trims += [] if trim is None else [trim]
        if trims:
            self._store.trim(trims)
        return outcomes if any(outcome is not WRITTEN for outcome in outcomes) else None

    def _write(self, documents: list[Document]) -> list[list[Outcome]]:
        """Sends all chunks; gives for each document what became of its records."""
        fates: list[list[Outcome]] = [[] for _ in documents]
        todo = self._requests(documents)[::-1]
        while todo:
            request = todo.pop()
            try:
                found = self._store.send([record for _, record in request])
            except Exception as e:
                if len(documents) > 1:
                    raise  # documents are sent one by one then
                error = self.classify(e)
                if isinstance(error, TooLargeError) and len(request) > 1:
                    half = len(request) // 2
                    todo += [request[half:], request[:half]]
                    continue
                if _is_refusal(error) and any(o.state == WRITTEN_STATE for o in fates[0]):
                    self._store.trim([documents[0].trim._replace(keep=0)])
                raise
            if found is None:
                found = [WRITTEN] * len(request)
            elif len(found) != len(request):
                raise FatalError(f"the store answered for {len(found)} of {len(request)} rows")
            for (at, _), outcome in zip(request, found, strict=True):
                fates[at].append(outcome)
        return fates

    def _requests(self, documents: list[Document]) -> list[list[tuple[int, Record]]]:
        """Records with the places of their documents, in requests that divide few documents."""
        requests: list[list[tuple[int, Record]]] = []
        part: list[tuple[int, Record]] = []
        size = 0
        for at, one in enumerate(documents):
            records = one.records
            whole = sum([record.size for record in records])
            if part and not self._holds(len(part) + len(records), size + whole):
                requests.append(part)
                part, size = [], 0
            for record in records:
                if part and not self._holds(len(part) + 1, size + record.size):
                    requests.append(part)
                    part, size = [], 0
                part.append((at, record))
                size += record.size
        return [*requests, part] if part else requests

    def _holds(self, rows: int, size: int) -> bool:
        return rows <= self._limits.rows and size <= self._limits.bytes

    def _judged(self, one: Document, fate: list[Outcome]) -> tuple[Outcome, Trim | None]:
        """What became of a document as a whole, and how it is trimmed."""
        one.faults = {}
        by_state: dict[str, list[int]] = {}
        for i, outcome in enumerate(fate):
            by_state.setdefault(outcome.state, []).append(i)
        if RETRY_STATE in by_state:
            return fate[by_state[RETRY_STATE][0]], None
        if REJECTED_STATE in by_state:
            one.faults = {i: fate[i] for i in by_state[REJECTED_STATE]}
            torn = WRITTEN_STATE in by_state
            return fate[by_state[REJECTED_STATE][0]], one.trim._replace(keep=0) if torn else None
        if STALE_STATE in by_state:
            self._take_back(one, by_state.get(WRITTEN_STATE, []))
            return STALE, None
        return WRITTEN, one.trim

    def _take_back(self, one: Document, places: list[int]) -> None:
        """Deletes chunks that came in beside a newer document, unless they are of the newer."""
        chunks = [] if one.kind == DELETE else [one.chunks[i].change for i in places]
        if chunks:
            gone = [Change(c, kind=DELETE, version=c.version, origin=c.origin) for c in chunks]
            self._store.send([self._store.encode(change) for change in gone])


def _is_refusal(error: Exception) -> bool:
    """Whether an error says that a row is at fault, so that it is not sent again."""
    fatal = isinstance(error, FatalError | TransientError)
    passing = isinstance(error, TooLargeError) and error.passing
    return isinstance(error, TerminalError) and not fatal and not passing
