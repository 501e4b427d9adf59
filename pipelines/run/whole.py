"""Documents in a comparison of source and target: a document is there whole, or not at all.

If a step or the target refuses a chunk, the writer does not write the document. Then no chunk of it
should be there, or nobody knows which are there, as `setting.onReject` says. So chunks are compared
by documents. Apart from `vecferry.pipelines.run.verify` because that compares row by row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vecferry.rows import DELETE, Change, Reject, Substitute
from vecferry.steps import Target

Pair = tuple[Change | None, Change | Reject]
"""A row of the reader, and what comes of it to the writer."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """How rows belong together.

    Attributes:
      columns: name the document of a row that comes to the writer; none where rows are alone.
      fields: the fields of the target that hold these columns.
      of_reader: name the document of a row of the reader, whose rows then come one after the other.
    """

    columns: Sequence[str] = ()
    fields: Sequence[str] = ()
    of_reader: Sequence[str] = ()

    def ends(self, before: Change, after: Change) -> bool:
        """Whether two rows of the reader in a row are of two documents."""
        return any(before.get(n) != after.get(n) for n in self.of_reader) or not self.of_reader

    def of(self, item: Change | Reject, row: Change | None = None) -> tuple[Hashable, ...] | None:
        """The document of a row, of a reject, or of the reader's row; None if it is not known."""
        rows = [item.row, item.instead] if isinstance(item, Reject) else [item]
        for known in (*rows, row):
            if known is not None and all(known.get(n) is not None for n in self.columns):
                return tuple(known[n] for n in self.columns)
        key = item.key if isinstance(item, Reject) else None
        if isinstance(key, list | tuple) and len(key) == len(self.columns):
            return tuple(key)
        return None

    def groups(self, pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
        """The pairs of each document together; a pair of which no document is known is alone."""
        found: dict[Hashable, list[Pair]] = {}
        for at, (row, item) in enumerate(pairs):
            document = self.of(item, row) if self.columns else None
            found.setdefault(at if document is None else document, []).append((row, item))
        yield from found.values()

    def whole(self, pairs: Iterable[Pair], target: Target) -> Iterator[Pair]:
        """The pairs by documents. If a chunk is refused, all chunks of its document are."""
        if not self.columns:
            yield from pairs
            return
        for group in self.groups(pairs):
            faults = [fault for _, item in group if (fault := _fault(item, target)) is not None]
            if not faults:
                yield from group
                continue
            stays = next((fault for fault in faults if fault.instead is None), None)
            for row, item in group:
                yield row, _refused(item, stays or faults[0])


def _fault(item: Change | Reject, target: Target) -> Reject | None:
    """Why the document of a chunk is not written; None where the chunk is not to blame."""
    due = item.instead if isinstance(item, Reject) else item
    if due is not None and due.kind != DELETE:
        known = target.as_stored(due)
        return known if isinstance(known, Reject) else None
    return item if isinstance(item, Reject) else None


def _refused(item: Change | Reject, fault: Reject) -> Reject:
    """A chunk whose document is not written."""
    row = item.row if isinstance(item, Reject) else item
    gone = None
    if fault.instead is not None:
        gone = Substitute(row or fault.instead, kind=DELETE)
    return dataclasses.replace(fault, row=row, instead=gone)
