"""What a writer sends in place of a change that it can't write, or that its store refuses.

Stands apart from `delivery` because the writer asks it as well, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from vecferry.errors import FatalError, TerminalError
from vecferry.instead import OnReject
from vecferry.io.sink.store import Record
from vecferry.rows import DELETE, Change, Substitute

Candidates = Iterator[tuple[Substitute, Record]]
"""What may be sent in place of a change, the best first, each as the store gets it."""


T = TypeVar("T")


class Substitutes(Generic[T]):
    """Finds what a store takes in place of a refused change, as `on_reject` says.

    The fault is the vector's if the store takes the row without the vector. If the store takes no
    such row, a delete remains. `encode` gives a change as the store gets it, or as it is compared.
    """

    def __init__(
        self, encode: Callable[[Change], T], on_reject: OnReject, vectors: tuple[str, ...]
    ) -> None:
        self._encode, self._on_reject, self._vectors = encode, on_reject, vectors

    def of(self, change: Change) -> Iterator[tuple[Substitute, T]]:
        """The candidates for a change; none for a delete, or where the older row is to stay."""
        if change.kind == DELETE:
            return
        for names in [*self._faulty(change), ()]:
            substitute = self._on_reject.of(change, names)
            if substitute is None:
                return
            try:
                record = self._encode(substitute)
            except FatalError:
                raise
            except TerminalError:  # the store holds no null vectors, or the key is at fault
                continue
            yield substitute, record

    def _faulty(self, change: Change) -> list[tuple[str, ...]]:
        """The vector columns that may be at fault: each alone, then all of them."""
        if self._on_reject.mode != "withoutVector":
            return []
        arrays = [name for name, value in change.items() if isinstance(value, np.ndarray)]
        known = [name for name in self._vectors if change.get(name) is not None]
        names = list(dict.fromkeys([*known, *arrays]))
        return [(name,) for name in names] + ([tuple(names)] if len(names) > 1 else [])
