"""Rows inside the engine, and what of them waits for vectors."""

from __future__ import annotations

from vecferry.errors import GivenUp
from vecferry.rows import Change, Reject, held_bytes
from vecferry.steps import Stamp
from vecferry.transforms.embed.endpoints.base import Vector


class Row:
    """A row inside the engine; `item` is what will leave for it, once that is known.

    `fault` is the reject of a row that goes on without a vector, and waits for its other vectors.
    `held` are the bytes that the row takes meanwhile, whatever its columns are for.
    """

    __slots__ = ("change", "fault", "held", "item", "missing", "stamp", "vectors")

    def __init__(self, change: Change, stamp: Stamp) -> None:
        self.change, self.stamp = change, stamp
        self.item: Change | Reject | GivenUp | None = None
        self.fault: Reject | None = None
        self.vectors: dict[str, Vector | None] = {}
        self.missing = 0
        self.held = held_bytes(change)


class Split:
    """A text in pieces: what column `name` of `row` gets when all of them have vectors.

    With `first`, that is the vector of the first piece. If the text was refused as a whole,
    `refused` is its length in tokens, and the pieces tell whether the length was the reason. A
    piece may be split itself.
    """

    __slots__ = ("first", "missing", "name", "refused", "row", "vectors", "weights")

    def __init__(
        self,
        row: Row | Split,
        name: str,
        pieces: list[str],
        *,
        first: bool = False,
        refused: int | None = None,
    ) -> None:
        self.row, self.name, self.first, self.refused = row, name, first, refused
        self.weights = [len(piece) for piece in pieces]
        self.vectors: list[Vector | None] = [None] * len(pieces)
        self.missing = len(pieces)


Waiter = Row | Split
"""What gets the vector of an input: a row, or a text of a row that was split."""

Waiting = list[tuple[Waiter, str]]
"""What waits for one input, each with the name of its vector column or the number of its piece."""
