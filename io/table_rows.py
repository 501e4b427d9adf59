"""Makes rows of what a database gives: values converted, origins given, misfits rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

import orjson

from vecferry.errors import shorten
from vecferry.io.table_database import Refused, Result, UnfitValue
from vecferry.io.table_plan import TableSplit
from vecferry.rows import Change, Reject, changes, encode_value
from vecferry.steps import StepContext

MOST_SPELLINGS = 256
"""Keys that a server may mix as equal, as a collation does with a and A, and that we tell apart."""


class RowMaker:
    """Makes the rows of one split, in the order in which the server gives them."""

    def __init__(self, split: TableSplit, context: StepContext) -> None:
        self._split, self._context = split, context
        self._number = count()
        self._numbers: dict[tuple[str, ...], Iterator[int]] = {}

    def begin(self, result: Result) -> None:
        """From now on rows are those of `result`: a first one, or one that takes its place."""
        split = self._split
        self._result = result
        self._visible = len(result.names) if split.visible is None else split.visible
        self._names = result.names[: self._visible]
        if len(set(self._names)) < len(self._names):
            twice = next(n for n in self._names if self._names.count(n) > 1)
            raise Refused(
                f"{split.title}: two columns are called {twice!r}; give one of them an alias "
                "(AS other)"
            )
        self._converters = result.converters[: self._visible]
        at = split.origin_at
        # A key of one whole number becomes a text only where its origin is asked for.
        self._plain_key = len(at) == 1 and at[0] in result.int_at and not split.counted

    def of(self, rows: list[Sequence[Any]]) -> list[Change | Reject]:
        """The rows, and a reject in place of each that has a value that a row can't hold."""
        try:
            return self._made(rows)
        except UnfitValue as e:
            if len(rows) == 1:
                return [self._reject(rows[0], e)]
        return [item for row in rows for item in self.of([row])]

    def _made(self, rows: list[Sequence[Any]]) -> list[Any]:
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        values = [
            convert(column) if convert else column
            for convert, column in zip(self._converters, columns, strict=False)
        ]
        bodies: Iterator[Any] = map(partial(zip, self._names), zip(*values, strict=True))
        split = self._split
        places: Any
        if self._plain_key:
            places = map(int, columns[split.origin_at[0]])
        elif split.origin_at:
            places = [self._place(row) for row in rows]
        else:
            places = self._number
        return changes(bodies, split.origin, places)

    def _place(self, row: Sequence[Any]) -> str:
        """How the origin of a row ends: its key, and where others share it, its number."""
        split, text = self._split, self._result.text
        key = tuple("NULL" if row[i] is None else text(i, row[i]) for i in split.origin_at)
        if split.counted:
            number = self._numbers.get(key)
            if number is None:
                if len(self._numbers) >= MOST_SPELLINGS:
                    del self._numbers[next(iter(self._numbers))]
                number = self._numbers[key] = count()
            return f"{key[0]}:{next(number)}"
        if len(key) == 1:
            return key[0]
        return ",".join(
            f"{name}={value.replace('%', '%25').replace(',', '%2C')}"
            for name, value in zip(split.names, key, strict=True)
        )

    def _reject(self, row: Sequence[Any], error: UnfitValue) -> Reject:
        raw: dict[str, Any] = {}
        at_fault = ""
        for i, (name, convert) in enumerate(zip(self._names, self._converters, strict=True)):
            try:
                raw[name] = encode_value(convert([row[i]])[0] if convert else row[i])
            except UnfitValue:
                at_fault = at_fault or name
                raw[name] = encode_value(self._result.raw(i, row[i]))
        split = self._split
        place = self._place(row) if split.origin_at else str(next(self._number))
        origin = f"{split.origin}{place}"
        return self._context.reject(
            error.reason,
            f"{shorten(origin)}: column {at_fault!r} holds {error}",
            raw=orjson.dumps(raw).decode(),
            origin=origin,
            key=place if split.origin_at else None,
        )
