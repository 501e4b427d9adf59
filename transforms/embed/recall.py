"""The vectors of rows that are known already: for comparing a target with its source.

Stands apart from `engine` because nothing is sent, and no row waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vecferry.errors import TerminalError
from vecferry.rows import DELETE, Change, Reject
from vecferry.steps import StepContext
from vecferry.transforms.embed.endpoints.base import Vector
from vecferry.transforms.embed.images.content import ImageSource
from vecferry.transforms.embed.long import is_long, mean_vector, pieces_of
from vecferry.transforms.embed.settings import EmbedSettings
from vecferry.transforms.embed.shared import Shared, text_key

Maker = Callable[[dict[str, Any]], Any]
"""A function from a row to its text or image; see `vecferry.transforms.embed.text.input_maker`."""


class _Pieces(dict[str, list[str] | None]):
    """By column, the texts whose vectors make up its own; None where the row has no text."""


class Recall:
    """Gives rows the vectors that memory or the vector cache holds.

    A column whose vector is not known is left out, an image's always: what it shows is known only
    once it was fetched.
    """

    def __init__(
        self,
        columns: Sequence[tuple[str, Maker]],
        settings: EmbedSettings,
        shared: Shared,
        context: StepContext,
    ) -> None:
        self._columns, self._settings, self._shared = columns, settings, shared
        self._context = context

    def rows(self, changes: Sequence[Change]) -> list[Change | Reject | None]:
        """The rows with what is known of their vectors, or the rejects that they would become."""
        made = [self._pieces(change) for change in changes]
        wanted = {
            piece
            for found in made
            if isinstance(found, _Pieces)
            for pieces in found.values()
            for piece in pieces or ()
        }
        known = self._known(wanted)
        return [
            self._row(change, found, known) if isinstance(found, _Pieces) else found
            for change, found in zip(changes, made, strict=True)
        ]

    def _pieces(self, change: Change) -> _Pieces | Change | Reject:
        """What is to be looked up for a row, or what the row becomes without that."""
        if change.kind == DELETE:
            return change
        found = _Pieces()
        for name, make in self._columns:
            try:
                text = make(change)
            except TerminalError as e:
                return self._context.reject(e.reason, str(e), row=change, without=(name,))
            if isinstance(text, ImageSource):
                continue
            if text:
                found[name] = self._parts(text)
            elif self._settings.skip_empty_value:
                found[name] = None
            else:
                what = f"empty-{self._settings.input_type_of(name)}"
                return self._context.reject(what, f"{name!r}", row=change, without=(name,))
        return found

    def _parts(self, text: str) -> list[str]:
        limit = self._settings.most_tokens
        if limit is None or len(text) <= limit or not is_long(text, limit):
            return [text]
        over = self._settings.over_limit
        if over == "reject":
            return [text]
        pieces = pieces_of(text, limit)
        return pieces[:1] if over == "truncate" else pieces

    def _known(self, texts: set[str]) -> dict[str, Vector]:
        shared = self._shared
        known: dict[str, Vector] = {}
        names: dict[bytes, str] = {}
        for text in texts:
            vector = shared.cache.peek(text_key(text))
            if vector is None:
                names[shared.store_key(text)] = text
            else:
                known[text] = vector
        if names and shared.store is not None:
            found = shared.store.get_many(list(names), shared.dimension)
            known |= {names[key]: vector for key, vector in found.items()}
        return known

    def _row(self, change: Change, found: _Pieces, known: dict[str, Vector]) -> Change:
        vectors: dict[str, Vector | None] = {}
        for name, pieces in found.items():
            if pieces is None:
                vectors[name] = None
            elif all(piece in known for piece in pieces):
                parts = [known[piece] for piece in pieces]
                lengths = [len(piece) for piece in pieces]
                vectors[name] = parts[0] if len(parts) == 1 else mean_vector(parts, lengths)
        return change.with_columns(vectors)
