"""Cuts the document of a row into chunks, and makes a row of each.

Apart from `transform` because it knows nothing of Beam, and runs without it.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from vecferry.errors import is_own_fault, near, own_fault, shorten
from vecferry.rows import (
    CHUNK_COUNT,
    CHUNK_INDEX,
    DELETE,
    INSERT,
    Change,
    Reject,
    Row,
    Substitute,
    changes,
)
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.text_split.cuts import cutter
from vecferry.transforms.text_split.headings import Headings
from vecferry.transforms.text_split.settings import TextSplitSettings

_NAMING = (str, int, datetime.date, Decimal, UUID)
"""What can name a document: values that have one text only."""


class Splitter(Transformer):
    """The operator of ``text-splitting``: a row for each chunk of a row's document.

    A chunk's row keeps the kind, the version and all columns of the document but its text. Its
    origin is that of the document and the number of the chunk. Counts ``rows-split``, and
    ``rows-added`` for each chunk behind the first, so that what is read and added is what goes on.

    If the writer keeps documents whole (`StepContext.whole_documents`), a document that is gone
    goes on as a delete, and so does a document without a text. The delete has the id of the first
    chunk, and 0 as the number of chunks. With another writer, a document that changed or is
    gone is rejected, because its old chunks would stay.
    """

    def __init__(self, settings: TextSplitSettings, connection: None, context: StepContext) -> None:
        self.counts = Counts()
        self.context, self.settings = context, settings
        self._cut = cutter(settings)
        self._left_out = settings.takes_away()

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The rows of the document's chunks in order, or its reject."""
        whole = self.context.whole_documents
        if change.kind != INSERT and not whole:
            return self._not_split(change, stamp)
        if change.kind == DELETE:
            wrong = self._unnamed(change)
            return [(wrong or self._gone(change), stamp)]
        text = change.get(self.settings.source_column_name)
        wrong = self._wrong(change, text)
        if wrong is not None:
            return [(wrong, stamp)]
        try:
            chunks = self._cut(text)  # type: ignore[arg-type]  # `_wrong` has looked
        except UnicodeEncodeError as e:
            why = f"column {self.settings.source_column_name!r} is not valid Unicode: {e.reason}"
            return [(self._refused(change, "bad-text", why), stamp)]
        except BaseException as e:
            return [(self._failed(change, e), stamp)]
        if not chunks:
            return [(self._gone(change) if whole else self._empty(change), stamp)]
        self.counts.add("rows-split")
        if len(chunks) > 1:
            self.counts.add("rows-added", len(chunks) - 1)
        return [(row, stamp) for row in self._rows(change, str(text), chunks)]

    def finish(self) -> list[Emitted]:
        """Nothing: no row waits here."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def _rows(self, change: Change, text: str, chunks: list[tuple[int, str]]) -> list[Change]:
        column, count = self.settings.chunk_column_name, len(chunks)
        document = change.without_columns(self._left_out)
        name = _name([change[column] for column in self.settings.parent_columns])
        made: list[Row] = [
            {
                **document,
                column: chunk,
                "chunk_id": f"{name}#{index}",
                "chunk_index": index,
                "chunk_count": count,
                "chunk_start": start,
                "chunk_end": start + len(chunk),
            }
            for index, (start, chunk) in enumerate(chunks)
        ]
        if self.settings.by == "markdown":
            headings = Headings(text)
            for row in made:
                row["headings"] = above = headings.at(row["chunk_start"])
                if self.settings.prepend_headings and above:
                    row[column] = f"{above}\n\n{row[column]}"
        origin = change.origin
        rows = changes(made, f"{origin}#", range(count))
        if change.version is not None or change.kind != INSERT or not origin:
            for row in rows:
                row.kind, row.version = change.kind, change.version
                row.origin = row.origin if origin else ""
        return rows

    def _gone(self, change: Change) -> Change:
        """The delete of a document, which the writer carries out for all its chunks."""
        gone = self._without_chunks(change)
        gone.kind = DELETE
        return gone

    def _without_chunks(self, change: Change) -> Change:
        """A document as a row behind the step, with 0 chunks."""
        name = _name([change[column] for column in self.settings.parent_columns])
        places = {"chunk_id": f"{name}#0", CHUNK_INDEX: 0, CHUNK_COUNT: 0}
        return change.without_columns(self._left_out).with_columns(places)

    def _not_split(self, change: Change, stamp: Stamp) -> list[Emitted]:
        """A change of a document, or what goes on in place of a row that was rejected before."""
        if type(change) is Substitute:  # told already, and its chunks are not known
            self.counts.add("rows-dropped")
            return []
        message = (
            "a document that changed or is gone can't take its old chunks with it; read all "
            "documents anew, into a new target"
        )
        return [(self._refused(change, "change-of-document", message), stamp)]

    def _wrong(self, change: Change, text: Any) -> Reject | None:
        source = self.settings.source_column_name
        if text is None:
            return self._absent(change, source)
        if not isinstance(text, str):
            why = f"column {source!r} is of type {type(text).__name__}"
            return self._refused(change, "wrong-type", f"{why}; only texts are split")
        return self._unnamed(change)

    def _absent(self, change: Change, name: str) -> Reject:
        missing = name not in change
        why = f"the row has no column {name!r}{near(name, change)}"
        why = why if missing else f"column {name!r} is null; a document needs a value there"
        return self._refused(change, "missing-column" if missing else "null-value", why)

    def _unnamed(self, change: Change) -> Reject | None:
        """The reject of a row that does not name its document."""
        for name in self.settings.parent_columns:
            value = change.get(name)
            if value is None:
                return self._absent(change, name)
            if not _names(value):
                why = f"column {name!r} is of type {type(value).__name__}"
                return self._refused(
                    change, "wrong-type", f"{why}, which can't name a document; name another column"
                )
        return None

    def _empty(self, change: Change) -> Reject:
        why = f"column {self.settings.source_column_name!r} holds no text"
        return self._refused(change, "empty-text", f"{why}, so there is nothing to split")

    def _failed(self, change: Change, error: BaseException) -> Reject:
        """A document that the library fails on; its panics are not an `Exception`."""
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise error
        if is_own_fault(error):
            raise own_fault(f"column {self.settings.source_column_name!r}", error) from error
        return self._refused(change, "split-failed", f"can't be split: {shorten(error, 200)}")

    def _refused(self, change: Change, reason: str, message: str) -> Reject:
        named = all(_names(change.get(column)) for column in self.settings.parent_columns)
        # What may go on in its place deletes the document, so that no old text stays.
        known = self._without_chunks(change) if named and self.context.whole_documents else None
        return self.context.reject(reason, message, row=change, known=known)


def _names(value: object) -> bool:
    """Whether a value can name a document."""
    return isinstance(value, _NAMING) and not isinstance(value, bool)


def _name(values: list[Any]) -> str:
    """The name of a document; several values are joined so that two names are never one."""
    texts = [str(value) for value in values]
    if len(texts) == 1:
        return texts[0]
    return "#".join(text.replace("%", "%25").replace("#", "%23") for text in texts)
