"""Rows inside the embedding engine, and texts that are embedded in pieces."""

from __future__ import annotations

from typing import Any

from vecferry.rows import Change
from vecferry.steps import Stamp
from vecferry.transforms.endpoints.base import Vector


class Row:
    """A row inside the engine; `item` is what will leave for it, once that is known."""

    __slots__ = ("change", "item", "missing", "stamp", "vectors")

    def __init__(self, change: Change, stamp: Stamp) -> None:
        self.change, self.stamp = change, stamp
        self.item: Any = None
        self.vectors: dict[str, Vector | None] = {}
        self.missing = 0


class Split:
    """A text in pieces: what column `name` of `row` gets when all of them have vectors."""

    __slots__ = ("missing", "name", "row", "vectors", "weights")

    def __init__(self, row: Row, name: str, pieces: list[str]) -> None:
        self.row, self.name = row, name
        self.weights = [len(piece) for piece in pieces]
        self.vectors: list[Any] = [None] * len(pieces)
        self.missing = len(pieces)
