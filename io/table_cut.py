"""Finds where to cut a table into ranges of a key that hold about as many rows each."""

from __future__ import annotations

import heapq
import logging

from vecferry.io.table_database import Column, Database, Table

log = logging.getLogger(__name__)


def borders(database: Database, table: Table, key: Column, count: int) -> list[str]:
    """At most ``count - 1`` SQL literals in ascending order, between keys of the table.

    Whole numbers are cut where the server's statistics say that most rows are, so gaps and clusters
    make no range long; other keys by walking their index. Without an index, whole numbers are cut
    into ranges of equal width and others not at all.
    """
    if key.integer:
        return [str(n) for n in _between_numbers(database, table, key, count)]
    if key.name not in table.indexed:
        log.warning("%s is read as one split: its splitPk %r has no index", table.title, key.name)
        return []
    return _by_walking(database, table, key, count)


def _between_numbers(database: Database, table: Table, key: Column, count: int) -> list[int]:
    column = database.quote(key.name)

    def one(what: str, where: str = "") -> int | None:
        sql = f"SELECT {what}({column}) AS k FROM {table.sql}{where}"
        found = database.texts(sql)[0]["k"]
        return None if found is None else int(found)

    low, high = one("MIN"), one("MAX")
    if low is None or high is None or low == high:
        return []
    if key.name not in table.indexed:
        step = (high - low + 1) / count
        return sorted({low + round(step * i) for i in range(1, count)} - {low})

    def weighed(lo: int, hi: int) -> tuple[float, int, int, int]:
        rows = database.estimate(table, f"{column} >= {lo} AND {column} <= {hi}")
        return -rows, lo - hi, lo, hi  # equal estimates: the widest range is cut first

    heap, found = [weighed(low, high)], list[int]()
    while heap and len(found) < count - 1:
        _, width, lo, hi = heapq.heappop(heap)
        if width == 0:
            continue
        middle = (lo + hi + 1) // 2
        below = one("MAX", f" WHERE {column} < {middle} AND {column} >= {lo}")
        above = one("MIN", f" WHERE {column} >= {middle} AND {column} <= {hi}")
        if below is None or above is None:  # rows were deleted meanwhile
            continue
        found.append(above)
        heapq.heappush(heap, weighed(lo, below))
        heapq.heappush(heap, weighed(above, hi))
    return sorted(found)


def _by_walking(database: Database, table: Table, key: Column, count: int) -> list[str]:
    column = database.quote(key.name)
    step = max(1, (table.rows or 0) // count)
    base = f"SELECT {column} FROM {table.sql} WHERE {column} IS NOT NULL"
    found: list[str] = []
    at = ""
    while len(found) < count - 1:
        behind = f" AND {column} >= {at}" if at else ""
        rows = database.literals(f"{base}{behind} ORDER BY {column} LIMIT 1 OFFSET {step}")
        if rows and rows[0][0] == at:  # many rows with one key: the next key begins a range
            rows = database.literals(f"{base} AND {column} > {at} ORDER BY {column} LIMIT 1")
        if not rows or rows[0][0] is None:
            break
        at = rows[0][0]
        found.append(at)
    return found
