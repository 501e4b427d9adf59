"""Plans how tables and queries are read: the statements, their ranges, and the number of rows.

Apart from `vecferry.io.tables.source` because a plan is made once, and the source reads splits.
"""

from __future__ import annotations

import heapq
import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vecferry.errors import JobError, near, shorten
from vecferry.io.tables.database import Column, Database, Refused, Table
from vecferry.io.tables.settings import TableSettings

SPLIT_BYTES = 64 << 20
SPLIT_ROWS = 500_000
LEAST_ROWS = 10_000
"""A table is not cut into splits smaller than this."""
MOST_SPLITS = 1000
COUNT_SECONDS = 10.0
"""How long a server may count the rows of a table, for the progress line."""
FEW_ROWS = 100_000
"""A table up to this size is counted; for a larger one the server's estimate is enough."""

_WORD = re.compile(r"[^\W\d][\w$]*")
_CONSTANTS = {"null", "true", "false", "default", "user", "session_user", "localtime"}


@dataclass(frozen=True)
class Range:
    """A range of a key: from `low` on, below `high`, both SQL literals, or the rows without one."""

    low: str = ""
    high: str = ""
    null: bool = False


@dataclass(frozen=True)
class TableSplit:
    """A statement of one table or query, or a range of it; no secrets, any worker can read it.

    The columns from `visible` on are keys that the job didn't ask for; `width` counts all, None of
    a query. `origin` begins the origin
    of each row; `origin_at` are the places of the columns that end it, none where the row's
    number does. `counted`: those columns are not unique, and rows that share them are numbered.
    `order` are the columns by which rows come, `order_at` their places. A split that has them and
    isn't `counted` can be taken up again behind any row. `narrow`: whether no value is long; None
    if nobody knows, as of a query. `lock` ends the statement,
    for a SELECT that waits for writers.
    """

    group: int
    title: str
    statement: str
    names: tuple[str, ...] = ()
    visible: int | None = None
    width: int | None = None
    where: str = ""
    key: str = ""
    range: Range = Range()
    order: tuple[str, ...] = ()
    order_at: tuple[int, ...] = ()
    origin: str = ""
    origin_at: tuple[int, ...] = ()
    counted: bool = False
    narrow: bool | None = False
    lock: str = ""

    @property
    def is_query(self) -> bool:
        """Whether the job wrote the statement itself."""
        return self.visible is None

    @property
    def resumable(self) -> bool:
        """Whether it can be taken up again behind a row that was read."""
        return bool(self.order) and not self.counted

    def sql(self, after: tuple[str, ...] = (), limit: int | None = None) -> str:
        """The statement to run: for the rows behind the key `after`, at most `limit`."""
        if self.is_query:
            return self.statement
        conditions = [f"(\n{self.where}\n)"] if self.where else []
        if self.range.null:
            conditions.append(f"{self.key} IS NULL")
        if self.range.low:
            conditions.append(f"{self.key} >= {self.range.low}")
        if self.range.high:
            conditions.append(f"{self.key} < {self.range.high}")
        if after:
            conditions.append(behind(self.order, after))
        text = self.statement
        text += f" WHERE {' AND '.join(conditions)}" if conditions else ""
        text += f" ORDER BY {', '.join(self.order)}" if self.order else ""
        text += f" LIMIT {limit}" if limit is not None else ""
        return f"{text} {self.lock}" if self.lock else text


def behind(columns: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The condition for rows that come after the key `values` in the order of `columns`."""
    return _beyond(columns, values, ">", ">")


def up_to(columns: tuple[str, ...], values: tuple[str, ...]) -> str:
    """The condition for rows up to the key `values`, the row of that key among them."""
    return _beyond(columns, values, "<", "<=")


def _beyond(columns: tuple[str, ...], values: tuple[str, ...], sign: str, last: str) -> str:
    column, value = columns[0], values[0]
    if len(columns) == 1:
        return f"{column} {last} {value}"
    rest = _beyond(columns[1:], values[1:], sign, last)
    # The first part repeats what the second says, in a form for which servers use the index.
    return f"({column} {sign}= {value} AND ({column} {sign} {value} OR {rest}))"


class Cut(Protocol):
    """Finds the borders of ranges."""

    def __call__(self, database: Database, table: Table, key: Column, count: int) -> list[str]:
        """At most ``count - 1`` SQL literals in ascending order."""


class TablePlanner:
    """Plans the statements of one table, as the catalog describes the table."""

    def __init__(
        self, database: Database, settings: TableSettings, group: int, table: Table
    ) -> None:
        self._database, self._settings, self._group = database, settings, group
        self.table = table
        self._split_column = self._split_key()

    def whole(self) -> TableSplit:
        """The split that reads all of the table."""
        table, quote = self.table, self._database.quote
        select = self._selected()
        visible = len(select)
        unique = [c for c in table.key if c.exact]
        unique = unique if len(unique) == len(table.key) else []
        split = self._split_column
        # Rows in the order of the table's key cost no sorting, where splitPk has no index.
        leads = split is not None and (split.name in table.indexed or not unique)
        order = [*([split] if split and leads else []), *(c for c in unique if c != split)]
        if split in unique and not leads:
            order = unique
        if not all(c.ordered for c in order) or not (unique or split):
            order = []
        origin = unique or ([split] if split else [])
        at: dict[str, int] = {c: i for i, (_, c) in enumerate(select) if c}
        for column in [*(order if unique else []), *origin]:
            if column.name not in at:
                at[column.name] = len(select)
                select.append((quote(column.name), column.name))
        counted = not unique and split is not None
        if counted:  # so that rows that share their key are numbered alike each time
            order += [c for c in table.columns if c.ordered and c != split]
        several = f"{self._group + 1}." if len(self._settings.groups) > 1 else ""
        begin = f"{several}{table.title}:"
        if len(origin) == 1:
            begin += f"{origin[0].name}="
        return TableSplit(
            group=self._group,
            title=table.title,
            statement=f"SELECT {', '.join(sql for sql, _ in select)} FROM {table.sql}",
            names=tuple(c.name for c in origin),
            visible=visible,
            width=len(select),
            where=self._settings.where or "",
            key=quote(split.name) if split else "",
            order=tuple(quote(c.name) for c in order),
            order_at=() if counted else tuple(at[c.name] for c in order),
            origin=begin,
            origin_at=tuple(at[c.name] for c in origin),
            counted=counted,
            narrow=table.narrow and all(name for _, name in select),
        )

    def splits(self, cut: Cut, count: int | None, concurrent: int | None) -> list[TableSplit]:
        """The ranges of the table; `count` of them, or as many as its size asks for."""
        whole, split = self.whole(), self._split_column
        if split is None:
            return [whole]
        if count is None:
            count = wanted(self.table, concurrent)
        borders = cut(self._database, self.table, split, count) if count > 1 else []
        if not borders and not split.nullable:
            return [whole]
        ends = [*borders, ""]
        ranges = [Range(low, high) for low, high in zip(["", *borders], ends, strict=True)]
        if split.nullable:
            if not borders:  # else no condition would keep the rows without a key out
                whole = replace(whole, where=self._with_key(whole))
            ranges.append(Range(null=True))
        return [self._ranged(whole, r) for r in ranges]

    def _with_key(self, whole: TableSplit) -> str:
        known = f"{whole.key} IS NOT NULL"
        return f"(\n{whole.where}\n) AND {known}" if whole.where else known

    def _ranged(self, whole: TableSplit, part: Range) -> TableSplit:
        if not part.null:
            return replace(whole, range=part)
        where = self._settings.where or ""
        order, at = whole.order, whole.order_at
        if order[:1] == (whole.key,):  # null in all rows of this range
            order, at = order[1:], at[1:]
        return replace(whole, range=part, where=where, order=order, order_at=at)

    def _selected(self) -> list[tuple[str, str]]:
        """SQL and, of plain columns, the name for each column that the job asks for."""
        known = {c.name: c for c in self.table.columns}
        folded = {c.name.casefold(): c.name for c in self.table.columns}
        found: list[tuple[str, str]] = []
        problems: list[str] = []
        for given in self._settings.column:
            text = given.strip()
            name = text if text in known else self._database.unquoted(text)
            name = name if name in known else folded.get(name.casefold(), "")
            if text == "*":
                found += [(self._database.quote(n), n) for n in known]
            elif name:
                found.append((self._database.quote(name), name))
            elif _WORD.fullmatch(text) and not _is_constant(text):
                problems.append(
                    f"{self.table.title} has no column {text!r}{near(text, known)}; it has "
                    + ", ".join(known)
                )
            elif len(parts := entries(text)) > 1:
                problems.append(
                    f"column {shorten(text, 80)!r} holds {len(parts)} columns; write each as an "
                    f"entry of its own: {json.dumps(parts, ensure_ascii=False)}"
                )
            else:
                found.append((text, ""))
        names = [n for _, n in found if n]
        problems += [
            f"column {n!r} of {self.table.title} comes twice; give one of them an alias (AS other)"
            for n in sorted({n for n in names if names.count(n) > 1})
        ]
        if problems:
            raise JobError(problems)
        return found

    def _split_key(self) -> Column | None:
        table, given = self.table, self._settings.split_pk
        if given is None:
            first = table.key[0] if len(table.key) == 1 else None
            return first if first and first.integer else None
        wanted_name = self._database.unquoted(given).casefold()
        for column in table.columns:
            if column.name.casefold() == wanted_name:
                if column.ordered:
                    return column
                raise JobError(
                    f"splitPk {given!r} of {table.title} is of type {column.type}, by which rows "
                    "can't be cut into ranges. Name a column of whole numbers, decimals, texts, "
                    "dates or binary values, or leave splitPk out"
                )
        hint = near(given, (c.name for c in table.columns))
        raise JobError(
            f"splitPk {given!r}: {table.title} has no such column"
            f"{hint or '; name a column of the table, or leave splitPk out'}"
        )


def entries(text: str) -> list[str]:
    """The columns that a text lists, cut at commas outside quotes and brackets.

    Not every text is told: what a quote holds differs between servers. So a text with a backslash,
    a dollar sign or a comment is one entry here, and `require_width` tells it from the result.
    """
    if any(sign in text for sign in ("\\", "$", "--", "/*", "#")):
        return [text]
    parts, depth, begin, quote = [], 0, 0, ""
    for at, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"`":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    parts.append(text[begin:].strip())
    return [text] if quote or depth or not all(parts) else parts


def require_width(split: TableSplit, names: Sequence[str]) -> None:
    """Raises Refused if the server gives more or fewer columns than the statement asks for."""
    if split.width is not None and len(names) != split.width:
        raise Refused(
            f"{split.title}: an entry of `column` such as t.* or (record).* holds several columns "
            f"(the server gives {shorten(', '.join(names))}); write each column as an entry of its "
            'own, or "*" for all'
        )


def query_splits(settings: TableSettings, group: int, queries: Sequence[str]) -> list[TableSplit]:
    """A split for each query of one group."""
    groups = len(settings.groups) > 1
    found = []
    for n, sql in enumerate(queries, 1):
        title = f"query {n}" if len(queries) > 1 or groups else "query"
        place = f"{group + 1}." if groups else ""
        origin = f"query{place}{n}:" if len(queries) > 1 or groups else "query:"
        found.append(TableSplit(group, title, sql, origin=origin, narrow=None))
    return found


def count_rows(database: Database, table: Table, where: str | None) -> int | None:
    """The rows of a table that meet `where`; None if the server needs too long to count them.

    The server's estimate is taken for a large table without `where`.
    """
    if not where and table.rows is not None and table.rows > FEW_ROWS:
        return table.rows
    condition = f" WHERE (\n{where}\n)" if where else ""
    return database.count(f"SELECT COUNT(*) FROM {table.sql}{condition}", COUNT_SECONDS)


def _is_constant(word: str) -> bool:
    return word.casefold() in _CONSTANTS or word.casefold().startswith("current_")


def wanted(table: Table, concurrent: int | None) -> int:
    """How many splits a table's size asks for: 64 MiB or 500,000 rows each, `concurrent` at least.

    A table is not cut finer than into 10,000 rows a split.
    """
    rows = table.rows or 0
    by_size = max(math.ceil((table.bytes or 0) / SPLIT_BYTES), math.ceil(rows / SPLIT_ROWS))
    return max(1, min(max(by_size, concurrent or 1), rows // LEAST_ROWS, MOST_SPLITS))


log = logging.getLogger(__name__)


def borders(database: Database, table: Table, key: Column, count: int) -> list[str]:
    """At most ``count - 1`` SQL literals in ascending order, between keys of the table.

    Whole numbers are cut where the server's statistics say that most rows are, so that gaps and
    clusters make no range long. Other keys are cut by walking their index. Without an index, whole
    numbers are cut into ranges of equal width and others not at all.
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
        rest = f" AND {column} >= {at}" if at else ""
        rows = database.literals(f"{base}{rest} ORDER BY {column} LIMIT 1 OFFSET {step}")
        if rows and rows[0][0] == at:  # many rows with one key: the next key begins a range
            rows = database.literals(f"{base} AND {column} > {at} ORDER BY {column} LIMIT 1")
        if not rows or rows[0][0] is None:
            break
        at = rows[0][0]
        found.append(at)
    return found
