"""Reads tables of a database into rows, without Beam: a split is read, and resumed if need be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any, ClassVar

import orjson

from vecferry.errors import (
    PROGRAMMING_ERRORS,
    FatalError,
    JobError,
    TransientError,
    VecferryError,
    own_fault,
    shorten,
)
from vecferry.io.common.unfit import UnfitValue
from vecferry.io.tables.checks import problems
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import ConnectionLost, Database, Pool, Refused, Result, Table
from vecferry.io.tables.plan import (
    TablePlanner,
    TableSplit,
    borders,
    count_rows,
    query_splits,
    require_width,
)
from vecferry.io.tables.settings import TableSettings
from vecferry.retry import Backoff, call_with_retries
from vecferry.rows import Change, Reject, changes, encode_value
from vecferry.settings import Settings
from vecferry.steps import Counts, Plan, Size, StepContext

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
        require_width(split, result.names)
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
        values: list[Sequence[Any]] = []
        try:
            for convert, column in zip(self._converters, columns[: self._visible], strict=True):
                values.append(convert(column) if convert else column)
        except PROGRAMMING_ERRORS as e:
            name, title = self._names[len(values)], self._split.title
            kinds = ", ".join(sorted({type(v).__name__ for v in columns[len(values)]}))
            raise own_fault(f"{title}: column {name!r} of type {kinds}", e) from e
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
        known = Change()
        at_fault = ""
        for i, (name, convert) in enumerate(zip(self._names, self._converters, strict=True)):
            try:
                known[name] = convert([row[i]])[0] if convert else row[i]
                raw[name] = encode_value(known[name])
            except UnfitValue:
                at_fault = at_fault or name
                raw[name] = encode_value(self._result.raw(i, row[i]))
        split = self._split
        place = self._place(row) if split.origin_at else str(next(self._number))
        origin = f"{split.origin}{place}"
        known.origin = origin
        return self._context.reject(
            error.reason,
            f"{shorten(origin)}: column {at_fault!r} holds {error}",
            raw=orjson.dumps(raw).decode(),
            origin=origin,
            key=place if split.origin_at else None,
            known=known,
        )


class TableSource:
    """The `vecferry.steps.Source` of the stepTypes mysql and postgresql.

    The origin of a row is ``schema.table:column=key`` by the table's primary key, or what takes
    its place; of a row of a query ``query:n``. What a source has asked a server of a table, the
    source does not ask again.
    """

    kind: ClassVar[str]
    backoff: Callable[..., Backoff] = Backoff
    """Makes the pauses between the tries of a split."""

    def __init__(
        self,
        settings: TableSettings,
        connection: Settings | None,
        context: StepContext,
        *,
        splits: int | None = None,
    ) -> None:
        absent = connection is None and settings.needs_datasource
        known = connection is None or isinstance(connection, settings.connection_class)
        if absent or not known:
            raise JobError(
                f"step {context.step!r} needs a data source of the type {self.kind}; name one as "
                "`datasource`"
            )
        self.settings, self.connection, self.context = settings, connection, context
        self.counts = Counts()
        self._splits = splits
        self._tables: dict[tuple[int, str], Table] = {}

    def connect(self, connection: TableConnection, *, quick: bool = False) -> Database:
        """Opens a connection; `quick` gives up after some seconds without an answer."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises JobError if a table or query can't be read as the job says. Reads no row."""
        found = problems(self.settings, partial(self.open_group, quick=True), self._described)
        if found:
            raise JobError([f"step {self.context.step!r}: {text}" for text in found])

    def plan(self) -> Plan:
        """The ranges of all tables, and all queries, with the number of their rows.

        The number is the server's estimate; a small table, and one with `where`, is counted. The
        number is None for queries, where fewer rows are read than there are, and if counting takes
        longer than 10 seconds.
        """
        groups = self.settings.groups
        queried = any(queries for _, _, queries in groups)
        rows = None if queried or self.context.read.row_limit is not None else 0
        found: list[TableSplit] = []
        for group, tables, queries in groups:
            found += query_splits(self.settings, group, queries)
            if tables:
                plan = self._patiently(partial(self._plan_group, group, tables, rows is not None))
                found += plan.splits
                rows = None if rows is None or plan.size.rows is None else rows + plan.size.rows
        return Plan(splits=found, size=Size(rows=rows))

    def read(self, split: TableSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        A connection that breaks is opened again, and the split taken up behind the last row.
        Raises FatalError where that can't be done, or the server refuses; TransientError where it
        does not come back within the deadline.
        """
        state = self.context.state
        maker = RowMaker(split, self.context)
        place = _Place(self.context.read.row_limit)
        backoff: Backoff | None = None
        while True:
            began = place.rows
            try:
                yield from self._stream(split, maker, place)
                return
            except TransientError as e:
                if place.rows and not split.resumable:
                    raise FatalError(self._unresumable(split, place, e)) from e
                if backoff is None or place.rows > began:
                    backoff = self.backoff(deadline=self.context.retry_deadline)
                wait = backoff.next_wait()
                if wait is None:
                    mark = f"step {self.context.step!r}: {split.title}"
                    text = f"{mark}: gave up after {backoff.tries} tries: {e}"
                    raise TransientError(text) from e
                self.counts.add("source-retries")
                if state.stop.wait(wait):
                    return
            except FatalError as e:
                raise FatalError(f"step {self.context.step!r}: {e}", e.reason) from e

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """A reject again: what is wrong with a value can be mended in the table only."""
        message = (
            "a row of a table is not read again from its reject; mend the value in the table, or "
            "cast the column in `column`. Then run the job again"
        )
        return self.context.reject("not-replayed", message, raw=raw, origin=origin)

    def _stream(
        self, split: TableSplit, maker: RowMaker, place: _Place
    ) -> Iterator[Change | Reject]:
        limit = place.left()
        if limit == 0:
            return
        connections = self._connections()
        database = connections.take(split.group) or self.open_group(split.group)
        whole = False
        try:
            self.admit(database)
            result = database.stream(split.sql(place.after, limit), narrow=split.narrow)
            maker.begin(result)
            for rows in result.batches():
                yield from self._counted(maker.of(rows), rows)
                place.rows += len(rows)
                if split.resumable:
                    last = rows[-1]
                    place.after = tuple(result.literal(i, last[i]) for i in split.order_at)
                if place.left() == 0:
                    return
            whole = True
        except ConnectionLost:
            connections.drop()
            raise
        finally:
            if whole:
                database.rest()
                connections.give(database, split.group)
            else:
                database.close()

    def _counted(self, items: list[Change | Reject], rows: Any) -> Iterator[Change | Reject]:
        n = 0
        try:
            for n, item in enumerate(items, 1):  # noqa: B007
                yield item
        finally:
            # Also where the consumer has had enough: what it took is counted.
            self.counts.add("rows-read", n)
            if self.context.read.bytes_per_second is not None:
                size = sum(len(v) for r in rows for v in r if isinstance(v, str | bytes))
                self.counts.add("bytes-read", size)

    def admit(self, database: Database) -> None:
        """Raises ConnectionLost for a connection that must not be read from."""

    def open_group(self, group: int, *, quick: bool = False) -> Database:
        """The first connection of a group that answers."""
        if isinstance(self.connection, TableConnection):
            return self.connect(self.connection, quick=quick)
        problem: VecferryError | None = None
        for connection in self.settings.candidates(group):
            try:
                return self.connect(connection, quick=quick)
            except VecferryError as e:
                problem = problem or e
        assert problem is not None
        raise problem

    def _connections(self) -> Pool[Database]:
        at = self.connection
        where = (at.where, at.username) if isinstance(at, TableConnection) else ()
        key = ("table-connections", self.context.step, where, self.settings.urls)
        made: Pool[Database] = self.context.scope.get(key, Pool)
        return made

    def _plan_group(self, group: int, names: tuple[str, ...], count: bool) -> Plan:
        """The splits of the tables of one database, and how many rows they have."""
        few = 1 if self.context.read.row_limit is not None else self._splits
        splits: list[TableSplit] = []
        database = self.open_group(group)
        try:
            tables = [self._described(database, group, name) for name in names]
            for table in tables:
                planner = TablePlanner(database, self.settings, group, table)
                least = max(self.context.shared.concurrent or 1, self.context.read.least_splits)
                splits += planner.splits(borders, few, least)
            rows = self._counted_rows(database, tables) if count else None
            return Plan(splits=splits, size=Size(rows=rows))
        finally:
            database.close()

    def _counted_rows(self, database: Database, tables: list[Table]) -> int | None:
        rows = 0
        for table in tables:
            try:
                counted = count_rows(database, table, self.settings.where)
            except ConnectionLost:  # the run goes on without the number
                return None
            if counted is None:
                return None
            rows += counted
        return rows

    def _described(self, database: Database, group: int, name: str) -> Table:
        """What the catalog says of a table, asked for once."""
        known = self._tables.get((group, name))
        if known is None:
            known = self._tables[group, name] = database.table(name)
        return known

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Calls until the server is there, within the run's deadline."""
        mark = f"step {self.context.step!r}"
        try:
            return call_with_retries(
                call,
                deadline=self.context.retry_deadline,
                what=mark,
                sleep=self.context.state.stop.wait,
            )
        except JobError as e:
            raise JobError([f"{mark}: {p}" for p in e.problems]) from e
        except FatalError as e:
            raise FatalError(f"{mark}: {e}", e.reason) from e

    def _unresumable(self, split: TableSplit, place: _Place, error: Exception) -> str:
        if split.is_query:
            why = (
                "a querySql can't be taken up again, because its rows have no known order; run the "
                "job again, or read a table"
            )
        else:
            why = (
                "the table has no primary key by which its rows can be ordered. Run the job again, "
                "or give the table such a key"
            )
        rows = f"after {place.rows:,} rows"
        return f"step {self.context.step!r}: {split.title}: {error} {rows}; {why}"


class _Place:
    """How far a split has been read."""

    def __init__(self, limit: int | None) -> None:
        self.rows = 0
        self.after: tuple[str, ...] = ()
        self._limit = limit

    def left(self) -> int | None:
        """How many rows may still be read; None for all."""
        return None if self._limit is None else max(0, self._limit - self.rows)
