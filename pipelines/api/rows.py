"""Rows as a program wants them: Arrow, dicts, HTML.

Stands apart from `vecferry.pipelines.api.job` because it knows Arrow, and no job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import orjson
import pyarrow as pa

from vecferry.pipelines.api import html
from vecferry.rows import encode_value


class Rows(Sequence[dict[str, Any]]):
    """Rows, each a dict of column to value.

    Whatever reads Arrow's C stream takes them as they are: ``polars.DataFrame(rows)``,
    ``duckdb.sql("from rows")``, ``pyarrow.table(rows)``. In a notebook they are a table.
    """

    def __init__(self, rows: list[dict[str, Any]], columns: Sequence[str] = ()) -> None:
        self._rows = rows
        self.columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Rows:
        if isinstance(index, slice):
            return Rows(self._rows[index], self.columns)
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<{len(self):,} rows of {', '.join(self.columns) or 'no columns'}>"

    def _repr_html_(self) -> str:
        return html.table(list(self._rows), self.columns)

    def to_arrow(self) -> pa.Table:
        """The rows as a table of Arrow; vectors are lists of 32-bit floats.

        A column whose values have no common type in Arrow is a column of JSON texts.
        """
        arrays = [_array([row.get(name) for row in self._rows]) for name in self.columns]
        return pa.table(dict(zip(self.columns, arrays, strict=True)))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def _array(values: list[Any]) -> pa.Array:
    if any(isinstance(value, np.ndarray) for value in values):
        plain = [v.tolist() if isinstance(v, np.ndarray) else v for v in values]
        return pa.array(plain, pa.list_(pa.float32()))
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError):
        return pa.array([None if v is None else _json(v) for v in values], pa.string())


def _json(value: Any) -> str:
    return orjson.dumps(encode_value(value)).decode()
