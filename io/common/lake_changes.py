"""Changes of a table in a lake: keys that a commit may have touched, read again as they are now.

The files of a commit do not tell what a row has become. A table that merges keeps a part of a row
in each file, and a late row may lose against an older one. So only keys are taken from files.
A key in a file that was added or removed may have changed. It is looked up in the last snapshot: a
row that is there is an upsert, a row that is not is a delete. Each key becomes one change, however
many commits touched it.

This module knows neither Paimon nor another format. A `Lake` lists and reads files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from vecferry.io.common.arrow import column_values
from vecferry.io.common.unfit import UnfitValue

Part = Any
"""Some files of a table, opaque to everyone but its `Lake`; it can be pickled."""

LOOKED_UP = 4
"""Keys are looked up if they are fewer than the rows by this factor; else all rows are read."""

TOLD = 3
"""So many keys that several rows have are told."""

Key = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are looked up together, because they share files.

    Attributes:
      name: what origins begin with, unique among the groups of a round.
      touched: where the keys stand that may have changed; nothing if each row of `present` has
        changed, and no other row.
      present: where these keys stand now, if they are there.
      rows: how many rows `present` has, about.
    """

    name: str
    touched: tuple[Part, ...]
    present: tuple[Part, ...]
    rows: int


class Lake(Protocol):
    """A table whose files can be read, in any process."""

    def keys_in(self, part: Part) -> Iterator[pa.RecordBatch]:
        """The key columns of each row of a part that may have changed."""

    def rows_in(self, parts: Sequence[Part], keys: TouchedKeys | None) -> Iterator[pa.RecordBatch]:
        """The rows of some parts that a job wants, with the key columns among theirs.

        With `keys`, rows of other keys may be left out, or be among them. Merged, if the table
        merges: each key has one row at most.
        """


class TouchedKeys:
    """The keys that may have changed, and which of them were found.

    Args:
      names: the key columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._places: dict[Any, int] = {}
        self._found = bytearray()
        self.twice: list[Key] = []
        """Keys that more than one row has; the first few."""

    def __len__(self) -> int:
        return len(self._places)

    def add(self, batch: pa.RecordBatch) -> None:
        """Adds the keys of some rows; a key with a value that Python can't hold is left out."""
        places = self._places
        for key in self._keys(batch):
            if key is not None:
                places.setdefault(key, len(places))
        self._found.extend(bytes(len(places) - len(self._found)))

    def add_keys(self, keys: Iterable[Key]) -> None:
        """Adds keys as tuples of values."""
        single = len(self.names) == 1
        for key in keys:
            self._places.setdefault(key[0] if single else tuple(key), len(self._places))
        self._found.extend(bytes(len(self._places) - len(self._found)))

    def values(self, name: str) -> list[Any]:
        """The values of one key column, each once, null left out."""
        if len(self.names) == 1:
            return [value for value in self._places if value is not None]
        at = self.names.index(name)
        return [v for v in dict.fromkeys(key[at] for key in self._places) if v is not None]

    def found(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch whose keys are among these, which are found from now on."""
        get, found = self._places.get, self._found
        taken = np.zeros(batch.num_rows, dtype=bool)
        for n, key in enumerate(self._keys(batch)):
            place = None if key is None else get(key)
            if place is not None:
                taken[n] = True
                if found[place]:
                    self._meet_again(key)
                found[place] = 1
        return batch if taken.all() else batch.filter(pa.array(taken))

    def gone(self) -> Iterator[dict[str, Any]]:
        """The columns of each key that was not found; a key with a null names no row."""
        single = len(self.names) == 1
        for key, place in self._places.items():
            values = (key,) if single else key
            if not self._found[place] and None not in values:
                yield dict(zip(self.names, values, strict=True))

    def _keys(self, batch: pa.RecordBatch) -> list[Any]:
        """One key for each row: a value, or a tuple of several; None if it is not a value."""
        columns, unfit = [], False
        for name in self.names:
            values, some = column_values(batch.column(name), None)
            columns.append(values)
            unfit = unfit or some
        if unfit:
            columns = [[None if isinstance(v, UnfitValue) else v for v in c] for c in columns]
        return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))

    def _meet_again(self, key: Any) -> None:
        if len(self.twice) < TOLD:
            self.twice.append((key,) if len(self.names) == 1 else key)


def read_group(lake: Lake, group: Group, keys: TouchedKeys) -> Iterator[pa.RecordBatch]:
    """The rows of a group that may have changed, as they are now.

    Afterwards `keys.gone` gives the keys of rows that are not there any more. Memory holds the keys
    of the group, about 150 bytes each, and a batch.
    """
    if not group.touched:
        for batch in lake.rows_in(group.present, None):
            keys.add(batch)
            yield keys.found(batch)
        return
    for part in group.touched:
        for batch in lake.keys_in(part):
            keys.add(batch)
    if not len(keys) or not group.present:
        return
    few = len(keys) * LOOKED_UP < group.rows
    for batch in lake.rows_in(group.present, keys if few else None):
        rows = keys.found(batch)
        if rows.num_rows:
            yield rows


def bounded(costs: Iterable[tuple[int, int]], most: int) -> int | None:
    """Where a round ends: the first place up to where `most` rows were touched.

    Args:
      costs: for each commit in order, its place, and how many rows it touched.
      most: how many rows a round touches, about; a commit is never cut.

    Returns:
      None without a commit.
    """
    last, rows = None, 0
    for place, cost in costs:
        last, rows = place, rows + cost
        if rows >= most:
            break
    return last
