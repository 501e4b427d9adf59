"""The rows of a table of Paimon as they are at one snapshot, and the keys in its files.

Stands apart from `changes` because it knows neither positions nor spans: it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vecferry.io.common.lake_changes import TouchedKeys
from vecferry.io.paimon.batches import Batches
from vecferry.io.paimon.client import Table
from vecferry.io.paimon.condition import Condition
from vecferry.io.paimon.planning import KeyPart, keys_predicate
from vecferry.steps import StepContext

KEY_ROWS = 1 << 16
"""Keys that are read at a time."""


class PaimonLake:
    """A `vecferry.io.common.lake_changes.Lake` over a handle of a table.

    Args:
      table: the table, with its newest schema.
      names: the columns that a job wants.
      keys: the columns that tell rows apart.
      condition: which rows a job wants; None for all.
      context: the step.
    """

    def __init__(
        self,
        table: Table,
        names: Sequence[str],
        keys: Sequence[str],
        condition: Condition | None,
        context: StepContext,
    ) -> None:
        self._table, self._keys, self._condition = table, tuple(keys), condition
        self._columns, self._context = list(dict.fromkeys([*names, *keys])), context

    def keys_in(self, part: KeyPart) -> Iterator[pa.RecordBatch]:
        """The key columns of a part; of files as they stand, rows that mark deletes included."""
        options = {"read.batch-size": str(KEY_ROWS), "read.native.enabled": "false"}
        table = self._table.copy_without_time_travel(options)
        builder = table.new_read_builder().with_projection(list(self._keys))
        places = None if part.positions is None else np.array(part.positions, dtype=np.int64)
        first = 0
        for batch in builder.new_read().to_arrow_batch_reader([part.split]):
            if places is None:
                yield batch
                continue
            begin, end = np.searchsorted(places, [first, first + batch.num_rows])
            yield batch.take(pa.array(places[begin:end] - first))
            first += batch.num_rows

    def rows_in(self, parts: Sequence[Any], keys: TouchedKeys | None) -> Iterator[pa.RecordBatch]:
        """The rows of splits that meet the condition, of some keys or of all."""
        only = None
        if keys is not None:
            columns = {n: keys.values(n) for n in keys.names if self._is_plain(n)}
            only = keys_predicate(self._table, columns) if columns else None
        batches = Batches(self._table, self._columns, self._condition, self._context, only)
        for part in parts:
            for batch in batches.of(part):
                if batch.num_rows:
                    yield batch

    def _is_plain(self, name: str) -> bool:
        """Whether files and both readers of pypaimon compare a column's values as Python does."""
        kind = str(self._table.field_dict[name].type)
        return kind.upper().split("(")[0].split()[0] in _PLAIN


_PLAIN = {"TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "STRING", "VARCHAR", "CHAR", "DATE"}
"""Types by whose values rows are looked up; of other types all rows of the bucket are read."""
