"""Rows of a table by their keys, as they stand now: for what the log does not tell whole."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql.settings import MySqlSettings
from vecferry.io.mysql_cdc.chunks import whole_of
from vecferry.io.tables.database import Table
from vecferry.io.tables.plan import TableSplit
from vecferry.io.tables.source import RowMaker
from vecferry.rows import Change, Reject
from vecferry.steps import StepContext

KEYS = 1000
"""So many keys are asked for in one statement."""

Key = tuple[Any, ...]


@dataclass(kw_only=True)
class Touched:
    """A row to be read again.

    `known` is what the log tells of it, enough for a delete.
    """

    table: str
    key: Key
    kind: str
    known: Change
    version: int
    origin: str


def by_keys(
    database: MySqlDatabase,
    settings: MySqlSettings,
    table: Table,
    keys: Sequence[Key],
    context: StepContext,
    *,
    lock: str = "",
) -> Iterator[tuple[Key, Change | Reject]]:
    """Each row of the keys that is there and meets `where`, with its key; others are left out.

    Args:
      database: a connection without an open result.
      settings: the columns and the condition.
      table: the table, which has a key.
      keys: values of the key's columns, in the order of `table.key`.
      context: the step, for rejects.
      lock: ends the statement; see `TableSplit.lock`.
    """
    whole = whole_of(database, settings, table)
    # The order of a split by one column is the key's; that of a composite key as well.
    for begin in range(0, len(keys), KEYS):
        some = keys[begin : begin + KEYS]
        split = replace(whole, where=_where(database, whole, table, some), lock=lock)
        yield from _read(database, split, table, context)


def _where(database: MySqlDatabase, whole: TableSplit, table: Table, keys: Sequence[Key]) -> str:
    names = [database.quote(c.name) for c in table.key]
    if len(names) == 1:
        listed = ", ".join(literal(database, key[0]) for key in keys)
        condition = f"{names[0]} IN ({listed})"
    else:
        tuples = (", ".join(literal(database, value) for value in key) for key in keys)
        condition = f"({', '.join(names)}) IN ({', '.join(f'({t})' for t in tuples)})"
    return f"(\n{whole.where}\n) AND {condition}" if whole.where else condition


def _read(
    database: MySqlDatabase, split: TableSplit, table: Table, context: StepContext
) -> Iterator[tuple[Key, Change | Reject]]:
    result = database.stream(split.sql(), narrow=split.narrow)
    maker = RowMaker(split, context)
    maker.begin(result)
    at = split.origin_at
    for rows in result.batches():
        columns: list[Sequence[Any]] = []
        for i in at:
            values = [row[i] for row in rows]
            convert = result.converters[i]
            columns.append(convert(values) if convert else values)
        yield from zip(zip(*columns, strict=True), maker.of(rows), strict=True)
    database.rest()


def literal(database: MySqlDatabase, value: object) -> str:
    """A value of a row as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | Decimal):
        return str(int(value) if isinstance(value, bool) else value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, datetime.datetime):
        bare = value.replace(tzinfo=None)
        return f"'{bare.isoformat(sep=' ')}'"
    if isinstance(value, datetime.date | datetime.time):
        return f"'{value.isoformat()}'"
    return database.text_literal(str(value))
