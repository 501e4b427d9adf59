"""The write loop over documents: it gathers their chunks, and writes each document whole or not.

All chunks of a document come from one row, so they are in one bundle, and each says how many there
are. Steps before may hand them on in any order, among those of other documents. What comes of one
row is an *edition* of its document. Editions of a document are written in the order in which their
first chunks came. An edition is whole once all its chunks are there. At the end of a bundle, the
chunks that are missing were rejected by a step before.

If a chunk is missing, can't be written or goes as a delete, the edition is not written. Then
`OnReject` says what happens to the document that is there. With ``keep`` it stays. Otherwise it is
deleted. A chunk that the store takes without its vector is written so with ``withoutVector``, and
the edition is whole. The other chunks of an edition that is not written are rejected.

Stands apart from `writer` because that knows rows only.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from vecferry.errors import FatalError, TerminalError, shorten
from vecferry.io.sink.delivery import Entry
from vecferry.io.sink.parents import Chunk, ChunkStore, Document, DocumentStore, Parent, document
from vecferry.io.sink.store import (
    REJECTED_STATE,
    STALE_STATE,
    Outcome,
    Record,
    WriteLimits,
    rejected,
)
from vecferry.io.sink.substitutes import Candidates, Substitutes
from vecferry.io.sink.values import as_int, bad
from vecferry.io.sink.writer import SinkWriter, chain_of
from vecferry.rows import CHUNK_COUNT, CHUNK_INDEX, DELETE, INSERT, UPDATE, Change, Substitute
from vecferry.steps import Emitted, Stamp, StepContext

INCOMPLETE = "incomplete-document"
"""Why a chunk is rejected that has no fault of its own."""


class Edition:
    """What came of one row of a document so far; a delete of the document has no `count`."""

    __slots__ = ("chunks", "count", "origin", "version")

    def __init__(self, count: int, version: int | None, origin: str) -> None:
        self.count, self.version, self.origin = count, version, origin
        self.chunks: dict[int, Chunk] = {}

    @property
    def whole(self) -> bool:
        """Whether all its chunks came, whatever became of them."""
        return len(self.chunks) >= max(1, self.count)

    @property
    def broken(self) -> bool:
        """Whether a chunk is missing or has no form in the store."""
        return len(self.chunks) < self.count or any(
            chunk.record is None for chunk in self.chunks.values()
        )

    @property
    def in_order(self) -> list[Chunk]:
        """The chunks that came, by their numbers."""
        return [self.chunks[index] for index in sorted(self.chunks)]


class _Deletes(Substitutes[Record]):
    """What is sent in place of a document that the store refuses: its delete, or nothing."""

    def __init__(self, store: DocumentStore, context: StepContext) -> None:
        super().__init__(store.encode, context.write.on_reject, ())
        self._store = store

    def of(self, change: Change) -> Candidates:
        """The candidate for a `Document`."""
        assert isinstance(change, Document)
        concerned = any(self._on_reject.concerns(chunk.change) for chunk in change.chunks)
        if change.kind != DELETE and concerned:
            gone: Any = document(DELETE, change.parent, change.version, [])
            yield gone, self._store.encode(gone)


class DocumentWriter(SinkWriter):
    """A `SinkWriter` that writes documents.

    Takes rows that are chunks, each with its number and the number of chunks (`CHUNK_INDEX`,
    `CHUNK_COUNT`), and deletes without such, which name a document. Emits and counts rows as the
    base does. ``write-requests`` counts batches of documents.
    """

    def __init__(self, store: ChunkStore, limits: WriteLimits, context: StepContext) -> None:
        super().__init__(DocumentStore(store, limits), limits, context)
        self._chunks = store
        write = context.write
        self._of_chunk = Substitutes(store.encode, write.on_reject, write.vectors)
        self._open: dict[Parent, list[Edition]] = {}

    def _substitutes(self, store: Any) -> Substitutes[Record]:
        return _Deletes(store, self._context)

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a chunk or a delete; gives rows written or rejected meanwhile. May wait."""
        try:
            parent, version = self._chunks.document_of(change)
            index, count = _place(change)
        except FatalError:
            raise
        except TerminalError as e:
            reject = self._context.reject(e.reason, str(e), row=change)
            return [(reject, stamp), *self._ready()]
        editions = self._open.setdefault(parent, [])
        origin = change.origin.removesuffix(f"#{index}") if count else change.origin
        edition = next(
            (
                e
                for e in editions
                if (e.count, e.version, e.origin) == (count, version, origin)
                and index not in e.chunks
            ),
            None,
        )
        if edition is None:
            edition = Edition(count, version, origin)
            editions.append(edition)
        edition.chunks[index] = self._encoded(change, stamp)
        emitted: list[Emitted] = []
        while editions and editions[0].whole:
            emitted += self._write(parent, editions.pop(0))
        if not editions:
            del self._open[parent]
        return emitted or self._ready()

    def finish(self) -> list[Emitted]:
        """Writes what is whole, gives up what is not, and waits for everything in flight."""
        emitted: list[Emitted] = []
        left, self._open = self._open, {}
        for parent, editions in left.items():
            for edition in editions:
                emitted += self._write(parent, edition)
        return emitted + super().finish()

    def _encoded(self, change: Change, stamp: Stamp) -> Chunk:
        """A row as the store gets it; if it can't be written, what goes in its place."""
        if change.kind == DELETE:
            return Chunk(change, stamp)
        try:
            return Chunk(change, stamp, self._chunks.encode(change))
        except FatalError:
            raise
        except TerminalError as e:
            refused = change, rejected(e.reason, str(e))
        for instead, record in self._of_chunk.of(change):
            if instead.kind != DELETE:
                return Chunk(instead, stamp, record, refused)
            break
        return Chunk(change, stamp, None, refused)

    def _write(self, parent: Parent, edition: Edition) -> list[Emitted]:
        """Hands an edition to the write loop, as a document that is written or deleted."""
        chunks = edition.in_order
        if not edition.count:
            tombstone = self._tombstone(chunks[0])
            gone = document(DELETE, parent, edition.version, chunks, tombstone=tombstone)
            return super().process(gone, chunks[0].stamp)
        if not edition.broken:
            made = document(UPDATE, parent, edition.version, chunks)
            return super().process(made, chunks[0].stamp)
        if not edition.whole and self._context.state.giving_up.begun:
            self.counts.add("rows-unfinished", len(chunks))  # as are the chunks that are missing
            return []
        concerns = self._context.write.on_reject.concerns
        if not any(concerns(chunk.change) for chunk in chunks):
            return self._not_written(chunks, _missing(edition), {})
        gone = document(DELETE, parent, edition.version, chunks, broken=_missing(edition))
        return super().process(gone, chunks[0].stamp)

    def _tombstone(self, chunk: Chunk) -> Record | None:
        """What makes a store remember that a document is deleted, if it keeps versions."""
        if chunk.change.version is None:
            return None
        try:
            return self._chunks.encode(chunk.change)
        except FatalError:
            raise
        except TerminalError:  # the row names the document, and not the id of its first chunk
            return None

    def _not_written(
        self, chunks: list[Chunk], why: str, faults: dict[int, Outcome]
    ) -> list[Emitted]:
        """Rejects of the chunks of a document that is not written, each with its own fault.

        What went on in place of a reject before is not rejected anew.
        """
        emitted: list[Emitted] = []
        for place, chunk in enumerate(chunks):
            row, outcome = chunk.refused or (
                chunk.change,
                faults.get(place) or rejected(INCOMPLETE, why),
            )
            if type(row) is Substitute:
                self.counts.add("rows-deleted")
                emitted.append((row, chunk.stamp))
                continue
            key = None if chunk.record is None else chunk.record.key
            reject = self._context.reject(outcome.reason, outcome.message, row=row, key=key)
            emitted.append((reject, chunk.stamp))
        return emitted

    def _emit(self, done: list[tuple[Entry, Outcome]]) -> list[Emitted]:
        emitted: list[Emitted] = []
        for entry, outcome in done:
            if outcome.state == REJECTED_STATE:
                change, why = entry.refused or (entry.change, outcome)
                emitted += self._refused(change, why)
                continue
            for each in chain_of(entry):
                if each.refused is not None:
                    emitted += self._refused(*each.refused)
                emitted += self._told(each.change, stale=outcome.state == STALE_STATE)
        return emitted

    def _refused(self, change: Change, why: Outcome) -> list[Emitted]:
        """What is told of a document that the store has refused."""
        assert isinstance(change, Document)
        if not change.faults:  # the request was refused as a whole, so any chunk may be at fault
            return self._not_written(
                change.chunks, "", dict.fromkeys(range(len(change.chunks)), why)
            )
        message = (
            f"another chunk of the document was refused ({shorten(why.message, 200)}), so the "
            "document was not written; mend that chunk, and write the document again"
        )
        return self._not_written(change.chunks, message, change.faults)

    def _told(self, change: Change, *, stale: bool) -> list[Emitted]:
        """What is told of a document that went as it should, or that a newer one has outlived."""
        assert isinstance(change, Document)
        if change.broken:
            return self._not_written(change.chunks, change.broken, {})
        emitted: list[Emitted] = []
        keys: list[Hashable] = []
        kind = "rows-deleted" if change.kind == DELETE else "rows-written"
        for chunk in change.chunks:
            if chunk.refused is not None and type(chunk.refused[0]) is not Substitute:
                emitted += self._not_written([chunk], "", {})
                self.counts.add("rows-added")
                self.counts.add("rows-replaced")
            if stale:
                self.counts.add("rows-stale")
                continue
            self.counts.add(kind)
            emitted.append((chunk.change, chunk.stamp))
            row = chunk.change
            if row.kind == INSERT and row.version is None and chunk.record is not None:
                keys.append(chunk.record.key)
        if self._count_keys and keys:
            self.counts.add_keys(keys)
        return emitted


def _place(change: Change) -> tuple[int, int]:
    """The number of a chunk and how many chunks its document has; a delete of a document has none.

    Raises TerminalError for a row that is neither.
    """
    count = change.get(CHUNK_COUNT)
    if change.kind == DELETE and not count:
        return 0, 0
    places = []
    for name, value in ((CHUNK_INDEX, change.get(CHUNK_INDEX)), (CHUNK_COUNT, count)):
        if value is None:
            raise bad(name, "no-chunk", "the row does not say which chunk of a document it is")
        places.append(as_int(name, "number of a chunk", value))
    index, count = places
    if not 0 <= index < count:
        raise bad(CHUNK_INDEX, "no-chunk", f"{index} is not a chunk of {count}")
    return index, count


def _missing(edition: Edition) -> str:
    """Why an edition is not written, for people."""
    lacking = [i for i in range(edition.count) if i not in edition.chunks]
    lacking += [i for i, chunk in edition.chunks.items() if chunk.record is None]
    named = ", ".join(map(str, sorted(lacking)[:5])) + (", …" if len(lacking) > 5 else "")
    return (
        f"chunk {named} of {edition.count} of this document can't be written, so the document was "
        "not written; mend that chunk, and write the document again"
    )
