"""From record batches of pypaimon to rows.

| Paimon | Python |
|---|---|
| TINYINT, SMALLINT, INT, BIGINT | int |
| FLOAT, DOUBLE | float |
| DECIMAL | decimal.Decimal |
| CHAR, VARCHAR, STRING | str |
| BINARY, VARBINARY, BYTES, BLOB | bytes |
| BOOLEAN | bool |
| DATE, TIME | datetime.date, datetime.time |
| TIMESTAMP | datetime.datetime without a time zone |
| TIMESTAMP WITH LOCAL TIME ZONE | datetime.datetime in UTC |
| ARRAY, MULTISET | list |
| MAP, ROW | dict |
| ARRAY<FLOAT>, VECTOR | a vector: a 1-D float32 array |

NULL is None. What is finer than a microsecond is cut off, as Python's datetime ends there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import Any

import orjson

from vecferry.errors import PROGRAMMING_ERRORS, own_fault
from vecferry.io.common.arrow import column_values
from vecferry.io.common.unfit import UnfitValue
from vecferry.rows import Change, Reject, changes, encode_value
from vecferry.steps import StepContext

RecordBatch = Any

SLICE_ROWS = 1024
"""So many rows of a batch become Python objects at a time."""
SLICE_BYTES = 8 << 20
"""And at most so many bytes, unless one row alone has more."""


def slices(batch: RecordBatch) -> Iterator[tuple[int, RecordBatch]]:
    """Parts of a record batch to make rows of, and where each begins; bounded by rows and bytes."""
    rows = batch.num_rows
    if not rows:
        return
    step = max(1, min(SLICE_ROWS, SLICE_BYTES * rows // max(1, batch.nbytes)))
    for at in range(0, rows, step):
        yield at, batch.slice(at, step)


class RowMaker:
    """Makes changes of record batches.

    Args:
      names: the columns of the rows, all of them in each batch.
      context: the step, which the rejects name.
      keys: the columns that tell rows apart; a reject says their values.
    """

    def __init__(
        self, names: Sequence[str], context: StepContext, keys: Sequence[str] = ()
    ) -> None:
        self.names, self._context, self._keys = tuple(names), context, tuple(keys)

    def of(
        self, batch: RecordBatch, prefix: str, first: int, version: int | None = None
    ) -> list[Change | Reject]:
        """The rows of a batch as inserts; row n has the origin `prefix` and ``first + n``.

        A row with a value that Python can't hold is a reject.
        """
        columns, unfit = self._columns(batch)
        if unfit:
            return self._some_unfit(columns, batch.num_rows, prefix, first, version)
        rows: Any = map(zip, repeat(self.names), zip(*columns, strict=True))
        made = changes(rows, prefix, count(first))
        if version is not None:
            for change in made:
                change.version = version
        return made  # type: ignore[return-value]

    def _columns(self, batch: Any) -> tuple[list[list[Any]], bool]:
        columns, unfit = [], False
        for name in self.names:
            column = batch.column(name)
            try:
                values, some = column_values(column, None)
            except PROGRAMMING_ERRORS as e:
                raise own_fault(f"column {name!r} of type {column.type}", e) from e
            columns.append(values)
            unfit = unfit or some
        return columns, unfit

    def _some_unfit(
        self,
        columns: list[list[Any]],
        rows: int,
        prefix: str,
        first: int,
        version: int | None,
    ) -> list[Change | Reject]:
        made: list[Change | Reject] = []
        for n in range(rows):
            row = {name: values[n] for name, values in zip(self.names, columns, strict=True)}
            origin = f"{prefix}{first + n}"
            bad = next((name for name, v in row.items() if isinstance(v, UnfitValue)), None)
            if bad is None:
                made.append(Change(row, version=version, origin=origin))
            else:
                made.append(self._reject(row, bad, origin, version))
        return made

    def _reject(self, row: dict[str, Any], bad: str, origin: str, version: int | None) -> Reject:
        fault: UnfitValue = row[bad]
        raw = {
            name: str(v.message) if isinstance(v, UnfitValue) else encode_value(v)
            for name, v in row.items()
        }
        key = {name: row[name] for name in self._keys if name in row}
        known = None
        if key and not any(isinstance(v, UnfitValue) for v in key.values()):
            known = Change(key, version=version, origin=origin)
        return self._context.reject(
            fault.reason,
            f"{origin}: column {bad!r}: {fault.message}; leave the column out, or mend the value",
            raw=orjson.dumps(raw).decode(),
            origin=origin,
            known=known,
            key=None if known is None else dict(known),
        )
