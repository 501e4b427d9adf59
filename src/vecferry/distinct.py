"""How many distinct keys there are, in bounded memory: exact while they fit, then an estimate.

A sketch keeps a hash of each key, and beyond its size only the least of them. Sketches of several
processes merge, and a key that is added twice counts once, so repeated work changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from datasketches import compact_theta_sketch, theta_union, update_theta_sketch

LOG_SIZE = 20
"""2 ** 20 keys, in at most 16 MB."""
_DEVIATIONS = 3


@dataclass(frozen=True)
class KeyCount:
    """How many distinct keys there are; `least` and `most` bound an estimate with 99.7 %."""

    distinct: int
    exact: bool
    least: int
    most: int


class DistinctKeys:
    """Counts the distinct keys that are added; not safe for several threads at once."""

    def __init__(self, log_size: int = LOG_SIZE) -> None:
        self._sketch = update_theta_sketch(log_size)
        self.added = 0

    def add(self, keys: Iterable[Any]) -> None:
        """Adds keys: texts and whole numbers as they are, others by how Python shows them."""
        update = self._sketch.update
        for key in keys:
            self.added += 1
            kind = type(key)
            if kind is str and not key.isascii():
                key = key.encode("utf-8", "surrogatepass").hex()
            elif kind is not str and kind is not int:
                key = repr(key)
            update(key)

    def count(self) -> KeyCount:
        """How many there are."""
        return _count(self._sketch)

    def to_bytes(self) -> bytes:
        """What `count_all` takes."""
        return bytes(self._sketch.compact().serialize())


def count_all(parts: Iterable[bytes]) -> KeyCount:
    """How many distinct keys the sketches of several processes have together.

    Raises ValueError for bytes that are not a sketch.
    """
    union = theta_union(LOG_SIZE)
    for part in parts:
        try:
            union.update(compact_theta_sketch.deserialize(part))
        except (RuntimeError, ValueError) as e:
            raise ValueError(f"not a sketch of keys: {e}") from e
    return _count(union.get_result())


def _count(sketch: Any) -> KeyCount:
    return KeyCount(
        distinct=round(sketch.get_estimate()),
        exact=not sketch.is_estimation_mode(),
        least=int(sketch.get_lower_bound(_DEVIATIONS)),
        most=round(sketch.get_upper_bound(_DEVIATIONS)),
    )
