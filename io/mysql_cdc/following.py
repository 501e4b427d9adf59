"""Reads a piece of the log into changes, in the order of the log.

What the log tells whole becomes a change as it stands. The rest is read again by its key: where the
job has a condition or an expression, and where the log left columns out. A row that was read again
is at least as new as the change that named it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import orjson

from vecferry.errors import FatalError, JobError, ReadAnew, TransientError, shorten
from vecferry.io.common.updates import Updates
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.alters import other_values
from vecferry.io.mysql_cdc.columns import Columns, ColumnsDiffer
from vecferry.io.mysql_cdc.gtid import GtidSet
from vecferry.io.mysql_cdc.history import columns_from, columns_of
from vecferry.io.mysql_cdc.log import (
    Alive,
    Begun,
    Committed,
    FileBegan,
    LogReader,
    Prepared,
    RolledBack,
    Rotated,
    Rows,
    Statement,
)
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.rereading import Key, Touched, by_keys
from vecferry.io.mysql_cdc.server import LogServer
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.shape import SPECIAL, Shape, shape_of, taker
from vecferry.io.mysql_cdc.statements import Effect, effects_of
from vecferry.io.mysql_cdc.stream import (
    USUAL_HEARTBEAT_SECONDS,
    BeyondEnd,
    BinlogStream,
    Diverged,
    Purged,
    Truncated,
)
from vecferry.io.mysql_cdc.xa import STARTS, Distributed, as_committed, verb_of
from vecferry.io.tables.database import ConnectionLost, Refused, Table
from vecferry.retry import call_with_retries
from vecferry.rows import DELETE, INSERT, UPDATE, Change, Reject, change_at, encode_value
from vecferry.steps import Counts, StepContext
from vecferry.versions import pack

T = TypeVar("T")

LOCK = "LOCK IN SHARE MODE"
"""Lets a SELECT wait for transactions that are in the log, and whose rows are not visible yet."""
MOST_TOUCHED = 1000
MOST_WAITING = 20_000
"""So many rows wait at most for those before them that are read again."""
MOST_IDLE = 2
"""So often a server may say that it has nothing new before its log ends where it was seen to."""
MOST_SHAPES = 1024
_TAKEN_BACK = re.compile(r"(?is)\s*ROLLBACK\s+(?:WORK\s+)?TO\b.*")
HEARTBEAT_SECONDS = 1.0
"""Of a log that is read for ever: so often it tells that nothing has happened."""
Mark = FileBegan | Begun | Committed | Prepared | RolledBack | Rotated | Alive
"""What tells where transactions begin and end."""


@dataclass(frozen=True, kw_only=True)
class LogSplit:
    """A piece of the log, from the end of a transaction to the end of another.

    Attributes:
      server: whose log.
      since: where it begins; None if `gtids` say it.
      gtids: what was read already, of a log with other places.
      until: where it ends; None for ever.
      began: when files began, by name, which tells them from others of the same name.
      epoch: of the versions.
      columns: what the columns of each table were at `since`, as `columns_of` tells it.
      asked_at: by table, where the log ended when the catalog told these columns, if that lies
        behind `since`.
      xa: where the oldest transaction of XA began that was prepared before `since` and not
        finished; None without one.
    """

    server: str
    since: Place | None
    gtids: str
    until: Place | None
    began: Mapping[str, int]
    epoch: int
    columns: Mapping[str, Any]
    asked_at: Mapping[str, Place] = field(default_factory=dict)
    xa: Place | None = None


@dataclass
class _Waiting:
    """Changes in order, some of which are yet to be read again."""

    items: list[Change | Reject | Touched] = field(default_factory=list)
    touched: int = 0

    @property
    def full(self) -> bool:
        return self.touched >= MOST_TOUCHED or len(self.items) >= MOST_WAITING


class Following:
    """Reads the log of one server, piece by piece, over one connection. Used by one thread."""

    def __init__(
        self, settings: MySqlCdcSettings, connection: MySqlConnection, context: StepContext
    ) -> None:
        self._settings, self._connection, self._context = settings, connection, context
        self._selects = settings.tables
        self._stream: BinlogStream | None = None
        self._items: Iterator[Any] = iter(())
        self._place = Place("", 0)
        self._server = ""
        self._epoch = self._idle = 0
        self._went_on = False  # whether the piece is read over the connection of the one before
        self._columns: dict[str, Columns] = {}
        self._tables: dict[str, Table] = {}
        self._histories: set[str] = set()  # tables that hold their former rows
        self._shapes: dict[int, tuple[object, Shape]] = {}
        self._begun = Place("", 0)
        self._xa = Distributed(connection, context, self._wanted, self._rows)
        self._told_rows = False  # whether rows of the transaction under way were handed on
        self._asked: LogServer | None = None
        self._waiting = _Waiting()
        self.counts = Counts()
        self._updates: Updates | None = None
        self._updates_of: Shape | None = None
        self._ids = self._mapped = taker(())
        self._named = False  # whether the log names columns
        self._folds = False  # whether table names differ in more than the size of letters
        self._asked_at: dict[str, Place] = {}  # where the log ended when columns were asked for
        self._guessed: set[str] = set()  # tables with rows whose columns the log did not name

    def counted_by(self, counts: Counts) -> Following:
        """Lets the counters of a reader count what is read from now on."""
        self.counts, self._updates = counts, None
        return self

    def read(self, split: LogSplit) -> Iterator[Change | Reject]:
        """The changes of a piece of the log.

        Raises:
          ReadAnew: a statement changed rows that no event names, or the log is another one.
          FatalError: the log tells what this reader can't apply.
          TransientError: the connection broke; the piece is to be read again.
        """
        if split.since is not None and split.until is not None and split.since >= split.until:
            return
        yield from self.follow(split)  # type: ignore[misc]  # marks come only without an end

    def follow(self, split: LogSplit) -> Iterator[Change | Reject | Mark]:
        """As `read`; where the piece has no end, what tells of transactions comes as well.

        A mark is given once its rows were, but for rows that `flush` gives. Whoever stops between
        two marks and goes on later keeps the iterator. To close it closes the connection. Without
        an end, a stop of the run is left to the caller.
        """
        whole = False
        try:
            yield from self._read(split)
            whole = not self._context.state.stop.is_set()
        except (Purged, BeyondEnd, Truncated, Diverged) as e:
            if self._went_on:
                raise TransientError(self._told(e)) from e
            raise self._lost(e) from e
        except ColumnsDiffer as e:
            raise self._changed(self._told(e)) from e
        except Refused as e:
            if not self._went_on:
                raise type(e)(self._told(e), e.reason) from e
            # The log of an open connection was removed. A new one is told what there is.
            raise TransientError(self._told(e)) from e
        except FatalError as e:
            raise type(e)(self._told(e), e.reason) from e
        finally:
            if not whole:
                self._drop()

    def _read(self, split: LogSplit) -> Iterator[Change | Reject | Mark]:
        self._open(split)
        self._epoch, self._idle = split.epoch, 0
        stop, until = self._context.state.stop, split.until
        while until is None or self._place < until:
            item = next(self._items, None)
            if until is not None and stop.is_set():
                return
            if item is None:
                raise ConnectionLost("the log ended, as its connection was closed")
            if type(item) is Rows:
                before = split.since is not None and item.place < split.since
                if not before or self._xa.inside:
                    self._told_rows = not self._xa.inside
                    yield from self._ready(self._rows(item))
                continue
            if type(item) is FileBegan:
                self._require_same(item, split)
                if until is None:
                    yield item
                continue
            if type(item) is Begun:
                self._xa.inside, self._told_rows, self._begun = item.prepares, False, item.place
                if until is None:
                    yield item
                continue
            if type(item) is Statement:
                before = split.since is not None and item.place < split.since
                yield from self._ready(self._statement(item, before))
                continue
            if type(item) is Prepared:
                self._xa.prepare(item.xid, self._begun)
            elif type(item) is Committed and self._xa.inside:  # in one phase
                yield from self._ready(self._committed(self._xa.taken(), item.place))
            elif type(item) is RolledBack and self._told_rows:
                raise self._changed(f"{item.place}: a transaction was rolled back that is logged")
            self._xa.inside = self._told_rows = False
            if until is not None and type(item) is Alive and item.place == self._place < until:
                self._require_patience(until)
            self._place = item.place
            if until is None:
                yield item
        yield from self.flush()

    def flush(self) -> Iterator[Change | Reject]:
        """What waits to be read again, and what came behind that."""
        return self._flush()

    def waits(self, seconds: float) -> bool:
        """Waits until the server has sent something; False if it has not within `seconds`."""
        return self._stream is None or self._stream.ready(seconds)

    def asks(self, ask: Callable[[LogServer], T]) -> T:
        """What the server tells, over a connection beside that of the log."""
        return self._asking(ask)

    @property
    def columns(self) -> Mapping[str, Columns]:
        """What the columns of each table are at the place that was read to."""
        return self._columns

    @property
    def oldest_xa(self) -> Place | None:
        """Where the oldest transaction of XA begins that is prepared; None without one."""
        return self._xa.oldest

    # The stream

    def _open(self, split: LogSplit) -> None:
        """Goes on where the last piece ended, or opens a connection."""
        goes_on = self._stream is not None and split.server == self._server
        if split.server != self._server and self._asked is not None:
            self._asked.close()
            self._asked = None
        self._server = split.server
        if goes_on and split.since is not None and self._place == split.since:
            if set(split.columns) != set(self._columns):  # a table was loaded meanwhile
                self._tables = self._asking(self._described)
                for title, told in split.columns.items():
                    if title not in self._columns:
                        self._columns[title] = columns_from(told)
                        if title in split.asked_at:
                            self._asked_at[title] = split.asked_at[title]
            self._went_on = True
            return
        self._went_on = False
        self._drop()
        since: Place | GtidSet
        if split.since is None:
            since = GtidSet.parse(
                split.gtids, maria="-" in split.gtids[:20] and ":" not in split.gtids
            )
            self._place = Place("", 0)
        else:
            since = self._place = split.xa or split.since
        self._tables = self._asking(self._described)
        self._columns = {title: columns_from(told) for title, told in split.columns.items()}
        self._asked_at = dict(split.asked_at)
        self._guessed.clear()
        pace = HEARTBEAT_SECONDS if split.until is None else USUAL_HEARTBEAT_SECONDS
        self._stream = BinlogStream(self._connection, since=since, heartbeat_seconds=pace)
        self._require_server(self._stream.server)
        self._items = iter(LogReader(self._stream, self._wanted))

    def _require_server(self, name: str) -> None:
        """Raises TransientError on another server than that of the piece: places differ there."""
        if self._server and name != self._server:
            raise TransientError(
                f"the data source leads to the server {name}, and the places are of {self._server};"
                " give it an address that leads to one server"
            )

    def _lost(self, error: object) -> FatalError:
        """What is to be done where the log behind the position is gone."""
        if self._settings.on_purged == "resync":
            return ReadAnew(self._told(error), "purged")
        return FatalError(
            f"{self._told(error)}. With onPurged: resync on the reader, all is read anew", "purged"
        )

    def _changed(self, text: str) -> FatalError:
        """What is to be done where the log does not tell how a table changed."""
        if self._settings.on_table_change == "resync":
            return ReadAnew(text, "table-change")
        return FatalError(
            f"{text}, and onTableChange is 'stop'; read all anew with `vecferry resync JOB`",
            "table-change",
        )

    def _described(self, server: LogServer) -> dict[str, Table]:
        self._folds = server.variables.get("lower_case_table_names", "0") != "0"
        self._named = server.names_columns
        found = [server.database.table(name) for name in self._settings.table]
        self._histories = {table.title for table in found if server.keeps_history(table)}
        return {table.title: table for table in found}

    def _wanted(self, schema: str, table: str) -> Columns | None:
        return self._columns.get(f"{schema}.{table}")

    def _require_same(self, item: FileBegan, split: LogSplit) -> None:
        known = split.began.get(item.file)
        if known is not None and known != item.time:
            raise self._lost(
                f"the file {item.file} of the log is another one than that of the position (RESET "
                "MASTER)"
            )

    def _require_patience(self, until: Place) -> None:
        """Raises TransientError where the server has nothing more, and its log was longer.

        So it is after RESET MASTER: the server goes on with a file that was removed.
        """
        self._idle += 1
        if self._idle >= MOST_IDLE:
            raise TransientError(
                f"step {self._context.step!r}: the server has nothing behind {self._place}, and "
                f"its log was seen to end at {until}"
            )

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._items, self._place = None, iter(()), Place("", 0)
        self._shapes = {}
        self._xa.forget()
        self._waiting = _Waiting()

    def close(self) -> None:
        """Closes the connections."""
        self._drop()
        self._server = ""
        if self._asked is not None:
            self._asked.close()
            self._asked = None

    # Rows

    def _rows(self, item: Rows) -> Iterator[Change | Reject | Touched]:
        title = f"{item.schema}.{item.table}"
        shape = self._shape(title, item)
        prefix, base = f"{item.place.file}:", pack(self._epoch, item.place.number << 32)
        kind, counts = item.kind, self.counts
        updates = self._updates
        if updates is None or shape is not self._updates_of:
            read = self._context.read
            if read.mapped_columns is None:  # the row has no other columns
                read = replace(read, mapped_columns=shape.names)
            updates = self._updates = Updates(read, shape.keys, counts)
            self._updates_of = shape
            ids, mapped = updates.places(shape.names)
            self._ids, self._mapped = taker(ids), taker(mapped)
        id_of, mapped_of, exact = self._ids, self._mapped, shape.exact
        in_xa = self._xa.inside
        names, take, reread = shape.names, shape.take, shape.rereads or in_xa
        whole = SPECIAL.isdisjoint
        for offset, before, after in item.rows():
            if offset >> 32:
                raise FatalError(_too_far(item.place.file, offset))
            if not in_xa:  # such rows count once they are committed, perhaps in another round
                counts.add("rows-read")
            version = base | offset
            if (
                reread
                or (before is not None and not whole(map(type, before)))
                or (after is not None and not whole(map(type, after)))
            ):
                origin = f"{prefix}{offset}"
                yield from self._in_part(shape, title, kind, before, after, version, origin)
                continue
            if kind == DELETE:
                assert before is not None
                change = change_at(dict(zip(names, take(before), strict=True)), prefix, offset)
                change.kind, change.version = DELETE, version
                yield change
                continue
            assert after is not None
            values = take(after)
            if kind == INSERT:
                change = change_at(dict(zip(names, values, strict=True)), prefix, offset)
                change.version = version
                yield change
                continue
            assert before is not None
            former = take(before)
            stays = exact and id_of(former) == id_of(values)
            if stays and mapped_of(former) == mapped_of(values):
                counts.add("rows-dropped")
                continue
            change = change_at(dict(zip(names, values, strict=True)), prefix, offset)
            change.version = version
            if stays:
                change.kind = UPDATE
                yield change
                continue
            old = change_at(dict(zip(names, former, strict=True)), prefix, offset)
            old.version = version
            yield from updates.of(old, change)

    def _in_part(
        self,
        shape: Shape,
        title: str,
        kind: str,
        before: tuple[Any, ...] | None,
        after: tuple[Any, ...] | None,
        version: int,
        origin: str,
    ) -> Iterator[Change | Reject | Touched]:
        """A row that is to be read again, or has a value that a row can't hold."""
        old = None if before is None else shape.known(before)
        new = None if after is None else shape.known(after)
        again = shape.rereads or self._xa.inside or shape.lacks(after or before or ())
        old_key = None if before is None else shape.key(before)
        new_key = old_key if after is None else shape.key(after, before)
        if again:
            if old is not None and (after is None or old_key != new_key):
                yield from self._touch(title, old_key, DELETE, old, version, origin)
            if after is not None:
                known = {**(old or {}), **(new or {})}
                if old_key is not None and old_key != new_key:
                    if not self._xa.inside:
                        self.counts.add("rows-added")
                    known, origin = new or {}, f"{origin}:new"
                yield from self._touch(title, new_key, kind, known, version, origin)
            return
        if kind == DELETE:
            yield self._delete(old or {}, version, origin)
            return
        assert after is not None
        assert new is not None
        unfit = shape.unfit(after)
        change = Change(new, kind=kind, version=version, origin=origin)
        if unfit is None:  # the old image alone has such a value, so it counts as changed
            assert self._updates is not None
            former = Change(old or {}, version=version, origin=origin)
            yield from [change] if kind == INSERT else self._updates.of(former, change)
            return
        if old_key is not None and old_key != new_key and None not in old_key:
            self.counts.add("rows-added")
            yield self._delete(old or {}, version, f"{origin}:old")
        name, error = unfit
        raw = {n: encode_value(v) for n, v in new.items()}
        raw[name] = str(error.message)
        yield self._context.reject(
            error.reason,
            f"{shorten(origin)}: column {name!r} holds {error}",
            raw=orjson.dumps(raw, default=str).decode(),
            origin=origin,
            key=new_key,
            known=change,
        )

    def _touch(
        self,
        title: str,
        key: Key | None,
        kind: str,
        known: dict[str, Any],
        version: int,
        origin: str,
    ) -> Iterator[Touched]:
        if key is None or any(type(value) in SPECIAL for value in key):
            raise FatalError(
                f"{origin}: the log leaves out the key of a row of {title}: set binlog_row_image "
                "to FULL"
            )
        change = Change(known, kind=DELETE, version=version, origin=origin)
        touched = Touched(
            table=title, key=key, kind=kind, known=change, version=version, origin=origin
        )
        if self._xa.inside:
            self._xa.keep(touched)
        else:
            yield touched

    def _delete(self, known: dict[str, Any], version: int, origin: str) -> Change:
        wanted = self._context.read.id_columns or ()
        lacking = [name for name in wanted if name not in known]
        if lacking:
            raise FatalError(
                f"{origin}: column {lacking[0]!r} makes the id of the target's rows, and the log "
                "does not tell its old value; let the server log whole rows (binlog_row_image = "
                "FULL), and make the id of plain columns",
                "partial-row",
            )
        return Change(known, kind=DELETE, version=version, origin=origin)

    def _shape(self, title: str, item: Rows) -> Shape:
        known = self._shapes.get(id(item.columns))
        if known is not None and known[0] is item.columns:
            return known[1]
        history = title in self._histories
        shape = shape_of(self._selects, self._tables[title], item.columns, history=history)
        if not self._named:
            self._guessed.add(title)
        if len(self._shapes) >= MOST_SHAPES:  # a table that is opened again has other maps
            self._shapes.clear()
        self._shapes[id(item.columns)] = (item.columns, shape)
        return shape

    # Rows that are read again

    def _ready(self, items: Iterator[Change | Reject | Touched]) -> Iterator[Change | Reject]:
        """What can go on now; the rest waits for rows that are read again."""
        waiting = self._waiting
        for item in items:
            if type(item) is Touched:
                waiting.items.append(item)
                waiting.touched += 1
            elif waiting.touched:
                waiting.items.append(item)
            else:
                yield item  # type: ignore[misc]  # mypy does not narrow by `type(…) is`
                continue
            if waiting.full:
                yield from self._flush()

    def _flush(self) -> Iterator[Change | Reject]:
        waiting, self._waiting = self._waiting, _Waiting()
        if not waiting.items:
            return
        last: dict[tuple[str, Key], Touched] = {}
        for item in waiting.items:
            if isinstance(item, Touched):
                former = last.get((item.table, item.key))
                if former is not None and former.kind != INSERT and item.kind == INSERT:
                    item.kind = UPDATE  # the key was there before, so no row now means a delete
                last[item.table, item.key] = item
        found = self._asking(lambda server: self._found(server, last)) if last else {}
        for item in waiting.items:
            if not isinstance(item, Touched):
                yield item
            elif last[item.table, item.key] is not item:
                self.counts.add("rows-dropped")  # a later change of the same row gives it
            else:
                yield from self._as_found(item, found.get((item.table, item.key)))

    def _as_found(self, item: Touched, row: Change | Reject | None) -> Iterator[Change | Reject]:
        if row is None:
            if item.kind == INSERT:
                self.counts.add("rows-dropped")
            else:
                yield self._delete(item.known, item.version, item.origin)
            return
        if isinstance(row, Reject):
            if row.instead is not None:
                row.instead.version = item.version
            yield row
            return
        kind = INSERT if item.kind == INSERT else UPDATE
        yield Change(row, kind=kind, version=item.version, origin=item.origin)

    def _found(
        self, server: LogServer, wanted: Mapping[tuple[str, Key], Touched]
    ) -> dict[tuple[str, Key], Change | Reject]:
        lock = "" if server.await_visible(self._place, self._context.state.stop.wait) else LOCK
        by_table: dict[str, list[Key]] = {}
        for title, key in wanted:
            by_table.setdefault(title, []).append(key)
        found: dict[tuple[str, Key], Change | Reject] = {}
        for title, keys in by_table.items():
            table = self._tables[title]
            rows = by_keys(server.database, self._selects, table, keys, self._context, lock=lock)
            for key, row in rows:
                found[title, key] = row
        return found

    def _asking(self, ask: Callable[[LogServer], T]) -> T:
        """Asks over a connection of its own, which is opened again where it broke."""

        def asked() -> T:
            if self._asked is None:
                self._asked = LogServer(MySqlDatabase(self._connection))
            try:
                self._require_server(self._asked.name)
                return ask(self._asked)
            except (TransientError, FatalError):
                self._asked.close()
                self._asked = None
                raise

        return call_with_retries(
            asked,
            deadline=self._context.retry_deadline,
            what=f"step {self._context.step!r}",
            sleep=self._context.state.stop.wait,
        )

    # Statements

    def _statement(self, item: Statement, before: bool) -> Iterator[Change | Reject | Touched]:
        """What a statement comes to; one before the piece was heeded already, unless it is XA's."""
        xa = verb_of(item.sql)
        if xa is not None:
            yield from self._distributed(*xa, item)
            return
        if _TAKEN_BACK.fullmatch(item.sql) and (self._told_rows or self._xa.has_rows):
            raise self._changed(
                f"{item.place}: a transaction took back some of its rows, which the log has, to a "
                "savepoint"
            )
        if before:
            return
        followed = {}
        for title in self._columns:
            schema, name = map(self._fold, self._tables[title].path)
            followed[schema, name] = title
        for effect in effects_of(self._fold(item.sql), self._fold(item.schema), [*followed]):
            title = followed[effect.table]
            if effect.kind == "rows":
                raise self._changed(
                    f"{item.place}: {effect.words} of {title} changed rows that no event names"
                )
            if effect.reshapes:
                self._require_named(title, item.place)
            self._learn(title, effect, item.place)

    def _fold(self, text: str) -> str:
        """Where a server does not tell large letters of tables from small ones: small ones."""
        return text.lower() if self._folds else text

    def _require_named(self, title: str, place: Place) -> None:
        """Raises if rows were named by a catalog that had this change of the table already."""
        asked = self._asked_at.get(title)
        if asked is not None and place < asked and title in self._guessed:
            raise self._changed(
                f"{place}: the columns of {title} were changed more than once before the log was "
                "read, and the log does not name them; set binlog_row_metadata to FULL"
            )

    def _learn(self, title: str, effect: Effect, place: Place) -> None:
        """Asks anew what the columns of a table are, since a statement may have changed them."""

        def ask(server: LogServer) -> tuple[Columns, Place]:
            try:
                table = server.database.table(self._tables[title].sql)
            except JobError as e:
                raise self._changed("; ".join(e.problems)) from e
            self._tables[title] = table
            self._histories.discard(title)
            if server.keeps_history(table):
                self._histories.add(title)
            return columns_of(server.database, table), server.end().place

        now, asked_at = self._asking(ask)
        self._shapes = {}
        if not effect.reshapes:
            return
        mapped = self._context.read.mapped_columns
        other = other_values(effect, self._columns[title], now, self._selects, mapped)
        if other is not None:
            raise self._changed(
                f"{place}: {effect.words} of {title} gave column {other!r} values that no event "
                "names"
            )
        self._columns[title], self._asked_at[title] = now, asked_at
        self._guessed.discard(title)

    def _distributed(
        self, verb: str, xid: str, item: Statement
    ) -> Iterator[Change | Reject | Touched]:
        """A statement of XA: rows that were prepared count once they are committed."""
        if verb in STARTS:
            self._xa.inside = True
        elif verb == "ROLLBACK":
            self._xa.end(xid)
        elif verb == "COMMIT":
            if xid not in self._xa:
                self._recall(xid, item.place)
            yield from self._committed(self._xa.end(xid), item.place)

    def _recall(self, xid: str, place: Place) -> None:
        """Reads the log back for a transaction of XA that was prepared before the position.

        Raises ReadAnew, or FatalError, where the log does not reach back to it.
        """
        files = [f for f in self._asking(lambda server: [*server.files()]) if Place(f, 4) < place]
        if not self._xa.recall(xid, place, files):
            raise self._changed(
                f"{place}: the transaction of XA {shorten(xid, 60)} was prepared before the log "
                "begins that the server keeps, and its rows are not known"
            )

    def _committed(self, rows: list[Touched], place: Place) -> Iterator[Touched]:
        """The rows of a transaction of XA, which count now."""
        self.counts.add("rows-read", len(rows))
        yield from as_committed(rows, place, self._epoch)

    # Times

    def place_at(self, since: Place, end: Place, moment: float) -> Place:
        """Where the last transaction before a time ends, between two places of the log."""
        stream = BinlogStream(self._connection, since=since)
        try:
            place = since
            for item in LogReader(stream, lambda schema, table: None):
                if type(item) is Begun and item.time > moment:
                    return item.place
                if isinstance(item, Committed | RolledBack | Prepared | Rotated | Alive):
                    place = item.place
                if place >= end:
                    return end
            return place
        finally:
            stream.close()

    def _told(self, error: object) -> str:
        mark, text = f"step {self._context.step!r}", str(error)
        return text if mark in text else f"{mark}: {text}"


def _too_far(file: str, offset: int) -> str:
    return (
        f"version: {file}:{offset} lies behind 4 GiB of a file, which versions have no room for; "
        "write smaller transactions, and read all anew with `vecferry resync JOB`"
    )


def file_time(connection: MySqlConnection, file: str) -> int:
    """When a file of the log began, in seconds since 1970; raises as `BinlogStream`."""
    stream = BinlogStream(connection, since=Place(file, 4))
    try:
        for item in LogReader(stream, lambda schema, table: None):
            if type(item) is FileBegan:
                return item.time
        raise ConnectionLost(f"the server ended the log before the file {file} began")
    finally:
        stream.close()
