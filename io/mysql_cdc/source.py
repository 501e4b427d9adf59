"""Follows tables of MySQL: chunks of a full load take turns with what the binary log tells.

A position is a place in the log: a file and an offset, with what tells this log from another. In a
full load the position also says which rows were loaded. A chunk is read as its table stands; its
rows have the version of the place up to which the log was read before. What the log brings from
there on is newer, so a chunk never hides a change.
"""

from __future__ import annotations

import datetime
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from vecferry.errors import FatalError, JobError, TransientError, VecferryError
from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql.source import MySqlSource
from vecferry.io.mysql_cdc.checks import notes_of, problems_of
from vecferry.io.mysql_cdc.chunks import MOST_CHUNKS, Key, Pace, part_of, ranged, whole_of
from vecferry.io.mysql_cdc.following import LOCK, Following, LogSplit, file_time
from vecferry.io.mysql_cdc.history import columns_of, told
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.rereading import by_keys
from vecferry.io.mysql_cdc.server import LogEnd, LogServer
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.tables.database import ConnectionLost, Database, Table
from vecferry.io.tables.plan import TableSplit
from vecferry.numbers import digits_of
from vecferry.positions import Position
from vecferry.retry import call_with_retries
from vecferry.rows import Change, Reject
from vecferry.settings import Settings
from vecferry.steps import Lag, Plan, Span, StepContext
from vecferry.versions import pack

T = TypeVar("T")

log = logging.getLogger(__name__)

At = dict[str, Any]
"""`Position.at`: ``server, file, offset, began, gtids, columns, keys``; in a full load ``load``.

``asked`` is there if the catalog told the columns when the log had gone on: by table, where it
ended.
"""

ROUND_BYTES = 256 << 20
"""A round reads about so much of the log at most."""


ASKED_SECONDS = 60.0
"""The launcher connects anew so often: an address may lead to another server by then."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A range of a table, the version of its rows, and the server whose log the version is of."""

    rows: TableSplit
    version: int
    server: str


class _Rows(MySqlSource):
    """Reads chunks from the server whose log is followed, and from no other one."""

    server = ""

    def admit(self, database: Database) -> None:
        """Raises ConnectionLost on another server: its rows may be older than the version says."""
        if not self.server:
            return
        name = LogServer(cast(MySqlDatabase, database)).name
        if name != self.server:
            raise ConnectionLost(
                f"the data source leads to the server {name}, and its log is read at {self.server};"
                " give it an address that leads to one server"
            )


class MySqlChanges:
    """The `vecferry.steps.ChangeSource` and `RangeSource` of the stepType mysql-cdc; see there."""

    def __init__(
        self, settings: MySqlCdcSettings, connection: Settings | None, context: StepContext
    ) -> None:
        if not isinstance(connection, MySqlConnection):
            raise JobError(
                f"step {context.step!r} needs a data source of the type mysql; name one as "
                "`datasource`"
            )
        self.settings, self.connection, self.context = settings, connection, context
        self._rows = _Rows(settings.tables, connection, context)
        self.counts = self._rows.counts
        self._open: LogServer | None = None
        self._opened = 0.0
        self._tables: dict[str, Table] = {}
        self._began: dict[tuple[str, str], int] = {}
        self._cut: tuple[At, tuple[TableSplit, ...]] | None = None
        self._pace = Pace()
        self._part_end: At | None = None  # the position behind the part that was told last
        self._spanned = False  # whether a span was told
        self._seen: list[tuple[float, Place]] = []

    # What is there

    def check(self) -> None:
        """Raises JobError with every reason why the tables can't be followed. Reads no row."""
        mark = f"step {self.context.step!r}"
        found: list[str] = []
        try:
            self._rows.check()
        except JobError as e:
            found += e.problems
        try:
            server = LogServer(self._connect(quick=True))
            try:
                tables = self._described(server).values()
                more = problems_of(server, self.settings, self.connection, tables)
                found += [f"{mark}: {text}" for text in more]
                for text in notes_of(server, tables):
                    log.warning("%s: %s", mark, text)
            finally:
                server.close()
        except JobError as e:
            found += [p if mark in p else f"{mark}: {p}" for p in e.problems]
        except VecferryError as e:
            found.append(f"{mark}: {e}")
        if found:
            raise JobError(list(dict.fromkeys(found)))

    def identity(self) -> str:
        """Always the same: `span` tells one server and one table from another."""
        return "mysql-cdc"

    def keys(self) -> tuple[str, ...]:
        """The columns of the tables' key."""
        return self._ask("the key", lambda server: self._key_of(self._described(server)))

    def _key_of(self, tables: dict[str, Table]) -> tuple[str, ...]:
        keys = {title: tuple(c.name for c in table.key) for title, table in tables.items()}
        first = next(iter(keys.values()))
        other = next((title for title, key in keys.items() if key != first), None)
        if other is not None:
            raise JobError(
                f"{other} has the key {', '.join(keys[other]) or 'none'}, and "
                f"{next(iter(keys))} has {', '.join(first) or 'none'}; tables of one job must "
                "have the same key: write a job for each"
            )
        return first

    def _described(self, server: LogServer, *, anew: bool = False) -> dict[str, Table]:
        if anew or not self._tables:
            found = [server.database.table(name) for name in self.settings.table]
            self._tables = {table.title: table for table in found}
        return self._tables

    # Spans

    def span(self, position: Position | None, until: At | None = None) -> Span:
        """The next part of a full load, or the log up to a place; alternately in a full load."""
        if position is not None and position.at == self._part_end:
            self._pace.ends()
        found = self._ask("the log", lambda server: self._span(server, position, until))
        self._spanned = True
        self._part_end = found.until if found.kind == "full" else None
        return found

    def _span(self, server: LogServer, position: Position | None, until: At | None) -> Span:
        if position is None:
            return self._first(server)
        at: At = position.at
        end = server.end()
        self._see(end.place)
        load = at.get("load")
        idle = load is None and at["server"] == server.name and end.place == _place(at)
        if idle and set(self._described(server)) == set(at["columns"]):
            return Span(kind="nothing", since=at, until=at)
        end, columns = self._now(server)
        tables = self._described(server)
        gone = set(at["columns"]) - set(tables)
        if gone:
            why = f"table {min(gone)} is not one of the job's any more"
            return self._fresh(server, why)
        other = _other_key(at, tables)
        if other:
            return self._keyed_anew(server, other)
        if at["server"] != server.name:
            return self._elsewhere(server, at, end, columns)
        lost = self._why_lost(server, at, end)
        if lost:
            return self._lost(server, lost)
        added = [title for title in tables if title not in at["columns"]]
        if added and load is None:
            # The log is read on first: what it tells of the new tables is older than their rows.
            load = {"tables": added, "index": 0, "after": None, "part": 0, "turn": "changes"}
            at = {**at, "load": load}
        if load is not None and load["turn"] == "part":
            return self._part(server, at)
        found = self._changes(server, at, end, until, columns)
        return self._part(server, at) if load is not None and found.kind == "nothing" else found

    def _first(self, server: LogServer) -> Span:
        mode, why = self.settings.scan_mode, "the tables were not read before"
        if mode == "position":
            raise JobError(
                "scanMode is 'position', and there is none; give one with `vecferry position set "
                "JOB FILE:OFFSET`, or choose initial"
            )
        if mode == "initial":
            return self._fresh(server, why)
        at = self._at(server, *self._now(server))
        if mode == "latest":
            return Span(kind="changes", since=at, until=at, fresh=True, why=why)
        first = Place(next(iter(server.files())), 4)
        since = {**_asked(at), **self._placed(server, first), "gtids": ""}
        span = self._changes(server, since, server.end(), None, at["columns"])
        return replace(span, kind="changes", fresh=True, why=why)

    def _now(self, server: LogServer) -> tuple[LogEnd, dict[str, Any]]:
        """Where the log ends, and what the columns are there, however the tables change."""
        self._described(server, anew=True)
        columns = self._columns(server)
        while True:
            end, before = server.end(), columns
            columns = self._columns(server)
            if before == columns:
                return end, columns

    def _fresh(self, server: LogServer, why: str) -> Span:
        end, columns = self._now(server)
        load = {"tables": list(columns), "index": 0, "after": None, "part": 0, "turn": "part"}
        at = {**self._at(server, end, columns), "load": load}
        return replace(self._part(server, at), since=None, fresh=True, why=why)

    def _lost(self, server: LogServer, why: str) -> Span:
        if self.settings.on_purged == "fail":
            raise JobError(
                f"{why}; set onPurged: resync on the reader, and all is read anew. Or forget the "
                "position with `vecferry position reset JOB`"
            )
        return replace(self._fresh(server, why), gap=True)

    def _keyed_anew(self, server: LogServer, why: str) -> Span:
        """All anew, as rows are told apart by other columns, and ids in the target may be too."""
        if self._spanned:  # whether the ids fit is looked at when a sync begins
            raise JobError(f"{why}; start the sync anew, and all is read anew")
        if self.settings.on_table_change == "stop":
            raise JobError(
                f"{why}, and onTableChange is 'stop'; read all anew with `vecferry resync JOB`"
            )
        return replace(self._fresh(server, why), gap=True)

    def _elsewhere(self, server: LogServer, at: At, end: LogEnd, columns: At) -> Span:
        """The span on another server than that of the position: its log has other places."""
        why = f"the server is {server.name} now, and the position is of {at['server']}"
        gtids = at["gtids"]
        if not gtids or not server.has_gtids:
            return self._lost(server, f"{why}, and without GTIDs nobody can compare the two")
        if not server.holds(gtids):
            return self._lost(server, f"{why}, which has not all of its transactions")
        if not server.keeps_behind(gtids):
            return self._lost(server, f"{why}, whose log does not reach back to it")
        load = {"load": at["load"]} if "load" in at else {}
        there = {title: columns[title] for title in at["columns"]}
        until = {**self._at(server, end, there), **load}
        return Span(
            kind="changes", since=at, until=until, phase=_phase(until), renews=True, why=why
        )

    def _why_lost(self, server: LogServer, at: At, end: LogEnd) -> str:
        """Why the log behind a position of this server is gone; empty where it is there."""
        place = _place(at)
        known = f"the position {place}"
        if end.place < place:
            return f"the log ends at {end.place}, before {known}: it was begun anew (RESET MASTER)"
        if place.file != end.place.file and place.file not in server.files():
            return f"the log no longer holds {known}: the file was purged"
        began = self._begins(server, place.file)
        if began != at["began"]:
            return f"the file {place.file} is another one than that of {known} (RESET MASTER)"
        if at["gtids"] and server.has_gtids and not server.holds(at["gtids"]):
            return f"the server has not executed all transactions of {known}: it was set back"
        return ""

    def _changes(
        self, server: LogServer, at: At, end: LogEnd, until: At | None, columns: At
    ) -> Span:
        since = _place(at)
        last = end.place
        if until is not None and until["server"] == server.name:
            last = min(last, _place(until))
        if last <= since:
            return Span(kind="nothing", since=at, until=at, phase=_phase(at))
        last = server.cut(since, last, ROUND_BYTES)
        after = {**at, **self._placed(server, last)}
        if last == end.place:
            after["gtids"] = end.gtids
        elif server.maria:
            after["gtids"] = server.gtids_at(last)
        after["columns"] = {title: columns[title] for title in at["columns"]}
        after.pop("asked", None)
        if last != end.place and (after["columns"] != at["columns"] or "asked" in at):
            after = _asked(after, end.place)
        if "load" in at:
            after["load"] = {**at["load"], "turn": "part"}
        after.pop("read", None)
        return Span(kind="changes", since=at, until=after, phase=_phase(after))

    def _at(self, server: LogServer, end: LogEnd, columns: dict[str, Any]) -> At:
        return {
            "server": server.name,
            **self._placed(server, end.place),
            "gtids": end.gtids,
            "columns": columns,
            "keys": {title: _names(table) for title, table in self._described(server).items()},
        }

    def _placed(self, server: LogServer, place: Place) -> At:
        began = self._begins(server, place.file)
        return {"file": place.file, "offset": place.offset, "began": began}

    def _columns(self, server: LogServer) -> dict[str, Any]:
        """What the columns of each table are now, as values of JSON."""
        tables = self._described(server)
        return {title: told(columns_of(server.database, t)) for title, t in tables.items()}

    def _begins(self, server: LogServer, file: str) -> int:
        """When a file of the log began, which tells it from another of the same name."""
        known = self._began.get((server.name, file))
        if known is None:
            known = self._began[server.name, file] = file_time(self.connection, file)
        return known

    # Parts of a full load

    def _part(self, server: LogServer, at: At) -> Span:
        """The next chunks; the position behind them stays where the log was read to."""
        load = at["load"]
        tables: list[str] = load["tables"]
        title, after = tables[load["index"]], load["after"]
        table = self._described(server)[title]
        whole = whole_of(server.database, self.settings.tables, table)
        chunk_rows = self.settings.chunk_rows
        rows = self._pace.begins((load["index"], after), chunk_rows * MOST_CHUNKS)
        begin: Key | None = None if after is None else tuple(after)
        part = part_of(server.database, whole, table, begin, chunk_rows, rows)
        until = {k: v for k, v in at.items() if k not in ("load", "read")}
        number = load["part"] + 1
        before = load.get("rows", 0)
        of = max(before, sum(self._described(server)[name].rows or 0 for name in tables))
        read = {"table": title, "after": after, "to": part.after and list(part.after)}
        until["read"] = read
        index = load["index"] if part.after is not None else load["index"] + 1
        if index < len(tables):
            to = read["to"]
            again = {"index": index, "after": to, "part": number, "turn": "changes"}
            until["load"] = {**load, **again, "rows": before + rows}
        if title not in at["columns"]:  # the log is read on from before
            until["columns"] = {**at["columns"], title: told(columns_of(server.database, table))}
            until["keys"] = {**at.get("keys", {}), title: _names(table)}
            place = server.end().place
            until["asked"] = {**at.get("asked", {}), title: [place.file, place.offset]}
        self._cut = (read, part.chunks)
        return Span(
            kind="full",
            since=at,
            until=until,
            phase=_phase(until),
            part=(load["part"], max(number + ("load" in until), number + (of - before) // rows)),
            rows=(before, of),
        )

    def span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        """The rows of a range of keys; see `RangeSource`. Raises JobError for a composite key."""
        keys = self.keys()
        if len(keys) != 1:
            raise JobError(
                f"--from, --to: the key is {', '.join(keys)}, and only a key of one column has "
                "ranges; leave out --from and --to, and all is read again"
            )
        at = position.at
        return Span(kind="full", since=at, until=at, phase=position.phase, keys=(first, last))

    # Plans

    def plan(self, span: Span | None = None) -> Plan:
        """The chunks of a part, or one split of the log; without a span all rows, once."""
        if span is None:
            return self._rows.plan()
        return self._ask("the plan", lambda server: self._plan(server, span))

    def _plan(self, server: LogServer, span: Span) -> Plan:
        if span.kind != "full":
            return Plan(splits=[self._log_split(server, span)])
        place, name = _place(span.until), span.until["server"]
        if name != server.name:
            raise TransientError(f"the server is {server.name} now, and the span is of {name}")
        chunks = self._range(server, span) if span.keys is not None else self._chunks(server, span)
        if not server.await_visible(place, self.context.state.stop.wait):
            chunks = [replace(chunk, lock=LOCK) for chunk in chunks]
        version = pack(span.epoch, ordinal(place))
        return Plan(splits=[Chunk(rows=chunk, version=version, server=name) for chunk in chunks])

    def _chunks(self, server: LogServer, span: Span) -> list[TableSplit]:
        read = span.until["read"]
        if self._cut is not None and self._cut[0] == read:
            return list(self._cut[1])
        # Another process made the span: the same rows, as one range.
        table = self._described(server, anew=True)[read["table"]]
        whole = whole_of(server.database, self.settings.tables, table)
        return [
            ranged(whole, read["after"] and tuple(read["after"]), read["to"] and tuple(read["to"]))
        ]

    def _range(self, server: LogServer, span: Span) -> list[TableSplit]:
        first, last = span.keys or (None, None)
        found = []
        for table in self._described(server, anew=True).values():
            whole = whole_of(server.database, self.settings.tables, table)
            conditions = [f"(\n{whole.where}\n)"] if whole.where else []
            for sign, value in ((">=", first), ("<=", last)):
                if value is not None:
                    literal = server.database.text_literal(value)
                    conditions.append(f"{whole.order[0]} {sign} {literal}")
            found.append(replace(whole, where=" AND ".join(conditions)))
        return found

    def _log_split(self, server: LogServer, span: Span) -> LogSplit:
        since, until = span.since, span.until
        return LogSplit(
            server=until["server"],
            since=None if span.renews else _place(since),
            gtids=since["gtids"] if span.renews else "",
            until=_place(until),
            began={since["file"]: since["began"], until["file"]: until["began"]},
            epoch=span.epoch,
            columns=since["columns"],
            # Places of another server say nothing here: then it is the end of what is read.
            asked_at={
                title: _place(until) if span.renews else Place(*at)
                for title, at in since.get("asked", {}).items()
            },
        )

    # Reading

    def read(self, split: Chunk | LogSplit | TableSplit) -> Iterator[Change | Reject]:
        """The rows of a chunk as inserts, or the changes of a piece of the log, in its order.

        Raises ReadAnew where the log tells of something that names no rows.
        """
        if isinstance(split, LogSplit):
            yield from self._following().read(split)
            return
        if isinstance(split, TableSplit):
            self._rows.server = ""
            yield from self._rows.read(split)
            return
        self._rows.server = split.server
        for item in self._rows.read(split.rows):
            if isinstance(item, Change):
                item.version = split.version
            elif item.instead is not None:
                item.instead.version = split.version
            yield item

    def _following(self) -> Following:
        """What reads the log; its connection stays open from round to round."""
        made = self.context.once(
            "binlog", lambda: Following(self.settings, self.connection, self.context)
        )
        return made.counted_by(self.counts)

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """A reject again: see the reader of tables."""
        return self._rows.reread(raw, origin)

    def fetch(
        self, keys: list[tuple[Any, ...]], position: Position | None
    ) -> Iterator[Change | Reject]:
        """The rows of some keys as they stand now, under the version of the position."""
        version = 0 if position is None else pack(position.epoch, ordinal(_place(position.at)))

        def fetched(server: LogServer) -> list[Change | Reject]:
            found: list[Change | Reject] = []
            selects = self.settings.tables
            for table in self._described(server).values():
                rows = by_keys(server.database, selects, table, keys, self.context)
                found += [row for _, row in rows]
            for item in found:
                if isinstance(item, Change):
                    item.version = version
            return found

        yield from self._ask("rows by key", fetched)

    # Places

    def end(self) -> At:
        """Where the log ends now."""
        return self._ask("the log", lambda server: self._at(server, *self._now(server)))

    def parse_until(self, text: str) -> At:
        """``file:offset``, or a time of ISO 8601: where the last transaction until then ends.

        A place in the middle of a transaction means the beginning of the transaction.
        """
        file, _, end = text.rpartition(":")
        offset = digits_of(end)
        if offset is not None and "." in file and digits_of(file[:4]) is None:
            return self._ask("the log", lambda server: self._named(server, Place(file, offset)))
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise JobError(
                f"{text!r} is neither a place nor a time; write binlog.000012:4711, or "
                "2026-11-29T12:00:00Z"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return self._ask("the log", lambda server: self._until(server, moment.timestamp()))

    def _named(self, server: LogServer, place: Place) -> At:
        files = server.files()
        if place.file not in files:
            raise JobError(
                f"the server keeps no log {place.file}; it has {', '.join(files)}: name one of them"
            )
        if place.offset > files[place.file]:
            raise JobError(
                f"{place} lies behind the end of the file, which has {files[place.file]:,} bytes; "
                "name a place within it"
            )
        at = self._at(server, *self._now(server))
        return {**_asked(at), **self._placed(server, server.border(place)), "gtids": ""}

    def _until(self, server: LogServer, moment: float) -> At:
        end, columns = self._now(server)
        files = [f for f in server.files() if self._begins(server, f) <= moment]
        if not files:
            raise JobError("the log begins behind this time; name a later one")
        place = self._following().place_at(Place(files[-1], 4), end.place, moment)
        at = _asked(self._at(server, end, columns))
        return {**at, **self._placed(server, place), "gtids": ""}

    def lag(self, position: Position) -> Lag:
        """The bytes of the log behind the position, and for how long there have been any."""
        return self._ask("the log", lambda server: self._lag(server, position))

    def _lag(self, server: LogServer, position: Position) -> Lag:
        at, end = position.at, server.end().place
        self._see(end)
        place = _place(at)
        if at["server"] != server.name:
            return Lag(unit="bytes")
        if end <= place:
            return Lag(amount=0, unit="bytes", seconds=0.0)
        behind = end.offset - place.offset
        if end.file != place.file:
            files = server.files()
            names = list(files)
            if place.file not in files:
                return Lag(unit="bytes")
            between = names[names.index(place.file) : names.index(end.file)]
            behind = sum(files[name] for name in between) - place.offset + end.offset
        first = next((moment for moment, seen in self._seen if seen > place), time.time())
        return Lag(amount=behind, unit="bytes", seconds=max(0.0, time.time() - first))

    def _see(self, end: Place) -> None:
        """Remembers when the log was seen to end where, for the lag in seconds."""
        if not self._seen or self._seen[-1][1] < end:
            self._seen.append((time.time(), end))
            if len(self._seen) > 1000:  # the oldest half, thinned
                self._seen = self._seen[:500:2] + self._seen[500:]

    # The connection

    def _connect(self, *, quick: bool = False) -> MySqlDatabase:
        return MySqlDatabase(self.connection, quick=quick)

    def _ask(self, what: str, ask: Callable[[LogServer], T]) -> T:
        """What the server tells the launcher, over a connection that stays open."""
        mark = f"step {self.context.step!r}"
        try:
            return call_with_retries(
                functools.partial(self._asked, ask),
                deadline=self.context.retry_deadline,
                what=f"{mark}: {what}",
                sleep=self.context.state.stop.wait,
            )
        except JobError as e:
            raise JobError([p if mark in p else f"{mark}: {p}" for p in e.problems]) from e
        except FatalError as e:
            raise FatalError(f"{mark}: {e}" if mark not in str(e) else str(e), e.reason) from e

    def _asked(self, ask: Callable[[LogServer], T]) -> T:
        if self._open is not None and time.monotonic() > self._opened + ASKED_SECONDS:
            self._open.close()
            self._open = None
        if self._open is None:
            self._opened = time.monotonic()
            self._open = LogServer(self._connect(quick=True))
            self._began.clear()  # the server may have begun its log anew
            self._tables = {}
        try:
            return ask(self._open)
        except (ConnectionLost, TransientError):
            self._open.close()
            self._open = None
            raise


def ordinal(place: Place) -> int:
    """The ordinal of a version: the file's number and the offset in the file."""
    if place.offset >> 32:
        raise FatalError(
            f"version: {place} lies behind 4 GiB of a file, which versions have no room for; "
            "split large transactions, and read all anew with `vecferry resync JOB`"
        )
    return place.number << 32 | place.offset


def _names(table: Table) -> list[str]:
    """The columns of a table's key."""
    return [column.name for column in table.key]


def _other_key(at: At, tables: Mapping[str, Table]) -> str:
    """Which table has another key than at the position, in words; empty if none has."""
    for title, before in at.get("keys", {}).items():
        now = _names(tables[title])
        if now != before:
            shown = ", ".join(now) or "none"
            return f"the key of {title} was {', '.join(before)}, and is {shown} now"
    return ""


def _place(at: At) -> Place:
    return Place(at["file"], at["offset"])


def _asked(at: At, end: Place | None = None) -> At:
    """The same, with the note that its columns were asked for where the log ended at `end`.

    `end` is the place of `at` itself if it is left out.
    """
    file, offset = end or _place(at)
    return {**at, "asked": {title: [file, offset] for title in at["columns"]}}


def _phase(at: At) -> Any:
    return "full" if "load" in at else "changes"
