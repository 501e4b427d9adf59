"""A place in a server's change log, and how places are ordered."""

from __future__ import annotations

from typing import NamedTuple

from vecferry.numbers import digits_of


class Place(NamedTuple):
    """A byte of a log file: `file` as the server names it, `offset` from the file's beginning.

    Ordered by the number that the file's name ends in, then by the offset. Places of two servers,
    or from before and after RESET MASTER, must not be compared.
    """

    file: str
    offset: int

    @property
    def number(self) -> int:
        """The number that the file's name ends in; 0 for a name without."""
        return digits_of(self.file.rpartition(".")[2]) or 0

    def __lt__(self, other: object) -> bool:
        if isinstance(other, Place) and self[0] == other[0]:
            return self[1] < other[1]
        return self._key() < _key(other)

    def __le__(self, other: object) -> bool:
        if isinstance(other, Place) and self[0] == other[0]:
            return self[1] <= other[1]
        return self._key() <= _key(other)

    def __gt__(self, other: object) -> bool:
        if isinstance(other, Place) and self[0] == other[0]:
            return self[1] > other[1]
        return self._key() > _key(other)

    def __ge__(self, other: object) -> bool:
        if isinstance(other, Place) and self[0] == other[0]:
            return self[1] >= other[1]
        return self._key() >= _key(other)

    def _key(self) -> tuple[int, int]:
        return self.number, self.offset

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"


def _key(other: object) -> tuple[int, int]:
    if not isinstance(other, Place):
        raise TypeError(f"a place is compared with places only, not with {type(other).__name__}")
    return other._key()
