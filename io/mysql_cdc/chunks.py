"""Cuts a full load into chunks: ranges of a table's key, each read by one SELECT.

A round of a full load reads a few chunks. The number of chunks follows how long rounds take, so
that the changes which a round leaves waiting stay fresh.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from vecferry.errors import JobError
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql.settings import MySqlSettings
from vecferry.io.tables.database import Table
from vecferry.io.tables.plan import TablePlanner, TableSplit, behind, up_to

AIM_SECONDS = 2.5
"""A round of a full load is to take about so long."""
MOST_CHUNKS = 32

Key = tuple[str, ...]
"""A key as SQL literals."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one round of a full load reads.

    Attributes:
      chunks: the ranges.
      after: the last key of the last range; None if the table has no more rows.
    """

    chunks: tuple[TableSplit, ...]
    after: Key | None


def whole_of(database: MySqlDatabase, settings: MySqlSettings, table: Table) -> TableSplit:
    """The statement that reads all of a table in the order of its key.

    Raises JobError for a table without a key by which rows can be asked for in ranges.
    """
    if not table.key:
        raise JobError(
            f"{table.title} has no primary key, and no unique key without nulls, so nobody can "
            "tell which row a change is of; add one"
        )
    whole = TablePlanner(database, settings, 0, table).whole()
    if len(whole.order) != len(table.key):
        kinds = ", ".join(f"{c.name} ({c.type})" for c in table.key)
        raise JobError(
            f"{table.title} has the key {kinds}, by which rows can't be cut into ranges; add a "
            "unique key of whole numbers, decimals, texts, dates or binary values"
        )
    return whole


def part_of(
    database: MySqlDatabase,
    whole: TableSplit,
    table: Table,
    after: Key | None,
    rows: int,
    most: int,
) -> Part:
    """The next chunks of a table behind the key `after`, up to `most`, of `rows` rows each."""
    chunks: list[TableSplit] = []
    names = ", ".join(whole.order)
    while len(chunks) < most:
        where = f" WHERE {behind(whole.order, after)}" if after else ""
        sql = f"SELECT {names} FROM {table.sql}{where} ORDER BY {names} LIMIT 1 OFFSET {rows - 1}"
        found = database.literals(sql)
        border: Key | None = tuple(str(value) for value in found[0]) if found else None
        chunks.append(ranged(whole, after, border))
        after = border
        if border is None:
            break
    return Part(chunks=tuple(chunks), after=after)


def ranged(whole: TableSplit, after: Key | None, last: Key | None) -> TableSplit:
    """The rows behind one key up to another, that one included; None is a side without an end."""
    conditions = [f"(\n{whole.where}\n)"] if whole.where else []
    if after is not None:
        conditions.append(behind(whole.order, after))
    if last is not None:
        conditions.append(up_to(whole.order, last))
    return replace(whole, where=" AND ".join(conditions))


class Pace:
    """How many chunks a round reads, by how long the last round took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._chunks, self._began = clock, 1, 0.0
        self._last: Any = None

    def begins(self, place: object) -> int:
        """How many chunks the part at this place may have; fewer if it is planned again."""
        now, again = self._clock(), place == self._last
        if self._last is not None:
            if again or now - self._began > 2 * AIM_SECONDS:
                self._chunks = max(1, self._chunks // 2)
            elif now - self._began < AIM_SECONDS / 2:
                self._chunks = min(MOST_CHUNKS, self._chunks * 2)
        self._last, self._began = place, now
        return self._chunks
