"""Cuts a full load into chunks: ranges of a table's key, each read by one SELECT.

A round of a full load reads a few chunks. How many rows they have follows how long rounds take,
with embedding and writing, so that the changes which a round leaves waiting stay fresh.
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
"""Reading, embedding and writing the rows of a round is to take about so long."""
FIRST_ROWS = 1000
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
    """The next `most` rows of a table behind the key `after`, in chunks of up to `rows` rows."""
    chunks: list[TableSplit] = []
    names, left = ", ".join(whole.order), most
    while left:
        rows = min(rows, left)
        where = f" WHERE {behind(whole.order, after)}" if after else ""
        sql = f"SELECT {names} FROM {table.sql}{where} ORDER BY {names} LIMIT 1 OFFSET {rows - 1}"
        found = database.literals(sql)
        border: Key | None = tuple(str(value) for value in found[0]) if found else None
        chunks.append(ranged(whole, after, border))
        after, left = border, left - rows
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
    """How many rows a round of a full load reads, by how long the rounds before took.

    A round also takes time that does not depend on its rows. That time is told apart by two rounds
    of different size, and left out: fewer rows would not make it less.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._rows, self._fixed = clock, FIRST_ROWS, 0.0
        self._place: Any = None  # of the part under way
        self._began: float | None = None  # None once it was seen to end
        self._read = 0
        self._before: tuple[int, float] | None = None  # rows and seconds of another round

    def begins(self, place: object, most: int) -> int:
        """How many rows the part at this place may have; fewer if it is planned again."""
        if place == self._place:
            self._rows = max(1, self._read // 2)
        self._place, self._began = place, self._clock()
        self._read = self._rows = min(self._rows, most)
        return self._rows

    def ends(self) -> None:
        """The part under way was read, embedded and written."""
        if self._began is None:
            return
        rows, seconds = self._read, self._clock() - self._began
        self._began = self._place = None
        former, took = self._before or (0, 0.0)
        if abs(rows - former) >= max(rows, former) / 4:
            if former:
                each = max(0.0, (seconds - took) / (rows - former))
                self._fixed = max(0.0, seconds - each * rows)
            self._before = rows, seconds
        wished = AIM_SECONDS * rows / max(seconds - self._fixed, 1e-6)
        self._rows = max(1, round(min(2.0 * rows, max(rows / 4, wished))))
