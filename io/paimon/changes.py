"""Follows a table of Paimon: a full load in parts, then the keys that each commit has touched.

No changelog is needed, and none is trusted: see `vecferry.io.common.lake_changes`. A position is a
snapshot. Its number comes again after a rollback, so the name of its manifest list stands with it.
The numbers of the columns do as well: they tell a renamed column from a new one. Stands apart from
`transform` because it is used without Beam.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vecferry.errors import FatalError, JobError, TransientError, near, shorten
from vecferry.io.common.lake_changes import TOLD, Group, TouchedKeys, bounded, read_group
from vecferry.io.paimon.batches import schema_of
from vecferry.io.paimon.checks import columns_of
from vecferry.io.paimon.client import Stopped, Table, causes_of, classify, told
from vecferry.io.paimon.condition import Condition, parse, within
from vecferry.io.paimon.condition import columns_of as named_by
from vecferry.io.paimon.consumer import Consumer
from vecferry.io.paimon.groups import groups_of
from vecferry.io.paimon.lake import PaimonLake
from vecferry.io.paimon.planning import (
    History,
    Snapshot,
    former_number,
    has_changelog,
    made_at,
    nature_of,
    numbers_of,
    renamed_to,
)
from vecferry.io.paimon.settings import PaimonSettings
from vecferry.io.paimon.source import (
    SPLIT_BYTES,
    PaimonSource,
    PaimonSplit,
    Piece,
    condition_of,
)
from vecferry.io.paimon.values import RowMaker, slices
from vecferry.numbers import digits_of
from vecferry.positions import Position
from vecferry.rows import DELETE, UPDATE, Change, Reject
from vecferry.settings import Settings
from vecferry.steps import Lag, Plan, Span, StepContext
from vecferry.versions import pack

T = TypeVar("T")

log = logging.getLogger(__name__)

Place = dict[str, Any]
"""`Position.at`: ``snapshot``, ``list``, ``columns``; in a full load ``part, parts, schema``."""

PART_BYTES = 1 << 30
"""A part of a full load has about so many bytes of files at most."""


@dataclass(frozen=True, kw_only=True)
class ChangedSplit:
    """Keys to look up.

    Attributes:
      snapshot: whose rows are read.
      since: the snapshot behind which changes are read.
      fields: the columns that are read, with their numbers.
      version: of an upsert; a delete has the version before.
      group: where the keys are.
    """

    snapshot: int
    since: int
    fields: tuple[tuple[str, int], ...]
    version: int
    group: Group


class PaimonChanges(PaimonSource):
    """The `vecferry.steps.ChangeSource` of the stepType paimon; see there.

    It also is a `vecferry.steps.RangeSource`, and a `vecferry.steps.Holds`: a consumer of the
    table, called as the job, keeps snapshots from expiry. The ordinal of a version is twice a
    snapshot's number, and one more of an upsert.
    """

    _history: History | None = None
    _cut: tuple[int, list[list[PaimonSplit]]] | None = None
    _of_round: tuple[object, Table] | None = None

    def __init__(
        self,
        settings: PaimonSettings,
        connection: Settings | None,
        context: StepContext,
        *,
        split_bytes: int = SPLIT_BYTES,
    ) -> None:
        super().__init__(settings, connection, context, split_bytes=split_bytes)
        self._held: dict[str, tuple[int, float]] = {}

    def identity(self) -> str:
        """The catalog's uuid of the table, or the time of its first schema. Loads it anew."""
        self._history = None
        return self._ask("reading the table", lambda: made_at(self._now().table))

    def keys(self) -> tuple[str, ...]:
        """The primary key, or the columns that the job names as `key`."""
        return self._ask("reading the key", lambda: self._keys_of(self._now().table))

    # Spans

    def span(self, position: Position | None, until: Place | None = None) -> Span:
        """The next part of a full load, or the changes up to the end of some commit.

        Raises JobError where a column that the job needs is gone or has another name, and for a
        table whose changes can't be known.
        """
        return self._ask("looking for changes", lambda: self._span(position, until))

    def _span(self, position: Position | None, until: Place | None) -> Span:
        history = self._now()
        self._require_followable(history.table)
        at: Place | None = None if position is None else position.at
        anew = self._compare_columns(history.table, {} if at is None else at.get("columns", {}))
        latest = history.latest()
        if at is None:
            return self._fresh(history, latest, "the table was not read before")
        lost = self._why_lost(history, at, latest)
        if lost or anew:
            return replace(self._fresh(history, latest, lost or anew), gap=bool(lost))
        if "part" in at:
            return self._part(at)
        return self._changes(history, at, latest, until)

    def _fresh(self, history: History, latest: Snapshot, why: str) -> Span:
        if self.settings.scan_mode == "incremental":
            raise JobError(
                f"scanMode is 'incremental', and a place to go on from is missing: {why}; give one "
                "with `vecferry position set JOB PLACE`, a snapshot or a time, or choose "
                "full-then-incremental"
            )
        at = self._place(history, latest)
        parts = 1 if latest is None else len(self._parts(history, latest.id))
        at = {**at, "part": 0, "parts": parts, "schema": history.table.table_schema.id}
        return replace(self._part(at), since=None, fresh=True, why=why)

    def _part(self, at: Place) -> Span:
        part, parts = at["part"], at["parts"]
        last = part + 1 == parts
        place = {k: v for k, v in at.items() if k not in ("part", "parts", "schema")}
        return Span(
            kind="full",
            since=at,
            until=place if last else {**at, "part": part + 1},
            phase="changes" if last else "full",
            part=(part, parts),
        )

    def span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        """The rows of a range of keys, as they are at the position; see `RangeSource`.

        Raises JobError for a key of several columns, which has no order.
        """
        return self._ask("reading the key", lambda: self._span_of_keys(position, first, last))

    def _span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        table = self._now().table
        keys = self._keys_of(table)
        if len(keys) != 1:
            raise JobError(
                f"--from, --to: {self.settings.full_name} has the key {', '.join(keys) or 'none'}, "
                "and only a key of one column has ranges; leave out --from and --to, and the "
                "whole table is read again"
            )
        for option, value in (("--from", first), ("--to", last)):
            if value is None:
                continue
            try:
                Condition(within(keys[0], value, None), schema_of(table))
            except JobError as e:
                kind = table.field_dict[keys[0]].type
                raise JobError(
                    f"{option} {shorten(value, 60)!r}: is not a value of the key {keys[0]!r}, "
                    f"which is of the type {kind}; write one as the table has it"
                ) from e
        at, phase = position.at, position.phase
        return Span(kind="full", since=at, until=at, phase=phase, keys=(first, last))

    def _range(self, history: History, span: Span, number: int, version: int) -> Plan:
        """The splits of a snapshot that may hold keys of a range."""
        (key,) = self._keys_of(history.table)
        first, last = span.keys or (None, None)
        where = within(key, first, last, self.settings.where)
        return self.plan_of(history.at(number), version, where)

    def _changes(self, history: History, at: Place, latest: Snapshot, until: Place | None) -> Span:
        since = int(at["snapshot"])
        end = 0 if latest is None else int(latest.id)
        if until is not None:
            end = min(end, int(until["snapshot"]))
        costs = ((c.snapshot, c.rows) for c in history.commits(since, end))
        last = bounded(costs, self.settings.round_rows) if end > since else None
        if last is None:
            return Span(kind="nothing", since=at, until=at)
        place = self._place(history, history.snapshot(last))
        return Span(kind="changes", since=at, until=place)

    def _place(self, history: History, snapshot: Snapshot) -> Place:
        numbers = numbers_of(history.table)
        needed = self._needed(history.table)
        return {
            "snapshot": 0 if snapshot is None else int(snapshot.id),
            "list": "" if snapshot is None else history.name_of(snapshot),
            "columns": {name: numbers[name] for name in needed if name in numbers},
        }

    def _why_lost(self, history: History, at: Place, latest: Snapshot) -> str:
        """Why the changes behind a place are not known any more; empty where they are."""
        number, newest = int(at["snapshot"]), 0 if latest is None else int(latest.id)
        if newest < number:
            return (
                f"the table was rolled back: its last snapshot is {newest}, and {number} was read"
            )
        found = history.snapshot(number)
        if number and found is not None and history.name_of(found) != at["list"]:
            return f"the table was rolled back and written on: snapshot {number} is another one"
        if "schema" in at and at["schema"] != history.table.table_schema.id:
            return "the schema of the table changed during the full load"
        gone = found is None if number else newest > 0 and history.snapshot(1) is None
        if not gone:
            return ""
        return (
            f"snapshot {number or 1} has expired, and with it what happened since; give the table "
            "more time (snapshot.time-retained), or let the job write its consumer"
        )

    # Columns

    def _needed(self, table: Table, before: Iterable[str] = ()) -> list[str]:
        """The columns that the job needs: read, in the condition, in the key."""
        wanted = list(self.settings.column)
        if self.settings.takes_all:
            known = {*before, *(field.name for field in table.fields)}
            wanted = [n for n in self.context.read.mapped_columns or () if n in known]
        keys = table.primary_keys or self.settings.key
        return list(dict.fromkeys([*wanted, *self._condition_columns(table), *keys]))

    def _condition_columns(self, table: Table) -> tuple[str, ...]:
        where = self.settings.where
        return () if where is None else named_by(parse(where))

    def _compare_columns(self, table: Table, before: dict[str, int]) -> str:
        """Why all is to be read anew; empty where nothing is. Raises JobError for a lost column."""
        anew, now = "", numbers_of(table)
        problems = []
        for name in self._needed(table, before):
            known = before.get(name)
            if name in now:
                if known is not None and now[name] != known:
                    anew = f"the column {name!r} was dropped, and another one has its name"
                continue
            known = former_number(table, name) if known is None else known
            other = None if known is None else renamed_to(table, known)
            if other is not None:
                problems.append(f"column {name!r} is called {other!r} now; write {other!r}")
            elif known is not None:
                problems.append(f"column {name!r} was dropped; leave it out")
            else:
                problems.append(f"the table has no column {name!r}{near(name, list(now))}")
        if problems:
            raise JobError([f"{self.settings.full_name}: {problem}" for problem in problems])
        return anew

    def require_readable(self, table: Table) -> None:
        """As `PaimonSource`; of a column that was renamed, the new name is told."""
        self._compare_columns(table, {})
        super().require_readable(table)

    def check(self) -> None:
        """Raises JobError where the table can't be read, or followed, as the job says."""
        super().check()
        if self.settings.follows:
            self._planned = None  # the plan of all rows, which each span makes for its own part
            self._ask("looking", lambda: self._require_followable(self._now().table))

    def _require_followable(self, table: Table) -> None:
        where = self.settings.full_name
        if not self._keys_of(table):
            raise JobError(
                f"{where} has no primary key; name the columns that tell its rows apart in `key`"
            )
        if nature_of(table) == "compacted" and not has_changelog(table):
            raise JobError(
                f"{where} shows rows by compaction only (merge-engine first-row, or bucket -2), "
                "and keeps no changelog that tells which; set changelog-producer to lookup on the "
                "table, or choose scanMode full"
            )

    def _keys_of(self, table: Table) -> tuple[str, ...]:
        return tuple(table.primary_keys or self.settings.key)

    # Places

    def end(self) -> Place:
        """The newest snapshot."""
        return self._ask("asking for snapshots", lambda: self._end())

    def _end(self) -> Place:
        history = self._now()
        return self._place(history, history.latest())

    def parse_until(self, text: str) -> Place:
        """The number of a snapshot, or a time of ISO 8601: the last snapshot until then."""
        number = digits_of(text)
        if number is not None:
            return self._ask("asking for snapshots", lambda: self._snapshot_place(number))
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise JobError(
                f"{text!r} is neither a snapshot nor a time; write a snapshot's number, or "
                "2026-11-29T12:00:00Z"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        at = round(moment.timestamp() * 1000)
        return self._ask("asking for snapshots", lambda: self._time_place(at, text))

    def _snapshot_place(self, number: int) -> Place:
        history = self._now()
        found = history.snapshot(number)
        if found is None and number:
            latest = history.latest()
            last = 0 if latest is None else latest.id
            raise JobError(
                f"{self.settings.full_name} has no snapshot {number}: its last one is {last}, and "
                "old ones expire; name one that it has, or a time"
            )
        return self._place(history, found)

    def _time_place(self, milliseconds: int, text: str) -> Place:
        history = self._now()
        found = history.at_time(milliseconds)
        if found is None:
            raise JobError(
                f"{self.settings.full_name} keeps no snapshot from before {text}; write a later "
                "time"
            )
        return self._place(history, found)

    def lag(self, position: Position) -> Lag:
        """The snapshots behind the position, and how old the first of them is."""
        return self._ask("asking for snapshots", lambda: self._lag(position.at))

    def _lag(self, at: Place) -> Lag:
        history = self._now()
        latest = history.latest()
        behind = 0 if latest is None else max(0, int(latest.id) - int(at["snapshot"]))
        first = history.snapshot(int(at["snapshot"]) + 1) if behind else None
        seconds = 0.0 if first is None else max(0.0, time.time() - first.time_millis / 1000)
        unknown = bool(behind) and first is None
        return Lag(amount=behind, unit="snapshots", seconds=None if unknown else seconds)

    # Plans

    def plan(self, span: Span | None = None) -> Plan:
        """The splits of a span; without one those of the whole table, with versions of epoch 0."""
        if span is None:
            plan = super().plan()
            if not self.settings.follows:
                return plan
            splits = [replace(s, version=_version(0, s.snapshot)) for s in plan.splits]
            return replace(plan, splits=splits)
        return self._ask("planning", lambda: self._planned_span(span))

    def _planned_span(self, span: Span) -> Plan:
        history = self._now()
        if span.kind == "full":
            at = span.since or span.until
            part, _ = span.part or (0, 1)
            if not at["snapshot"]:
                return Plan(splits=[])
            version = _version(span.epoch, int(at["snapshot"]))
            if span.keys is not None:
                return self._range(history, span, int(at["snapshot"]), version)
            parts = self._parts(history, int(at["snapshot"]))
            return Plan(splits=[replace(split, version=version) for split in parts[part]])
        since, until = int(span.since["snapshot"]), int(span.until["snapshot"])
        commits = list(history.commits(since, until))
        numbers = numbers_of(history.table)
        names = columns_of(self.settings, schema_of(history.table))
        splits = [
            ChangedSplit(
                snapshot=until,
                since=since,
                fields=tuple((name, numbers[name]) for name in names),
                version=_version(span.epoch, until),
                group=group,
            )
            for group in groups_of(history, since, until, commits)
        ]
        return Plan(splits=splits)

    def _parts(self, history: History, number: int) -> list[list[PaimonSplit]]:
        """The splits of a snapshot, cut into the parts of a full load, the same each time."""
        if self._cut is None or self._cut[0] != number:
            parts: list[list[PaimonSplit]] = [[]]
            rows = size = 0
            for split in self.plan_of(history.at(number), None).splits:
                taken: list[Piece] = []
                for piece in split.pieces:
                    if rows >= self.settings.round_rows or size >= PART_BYTES:
                        parts[-1] += [replace(split, pieces=tuple(taken))] if taken else []
                        parts.append([])
                        taken, rows, size = [], 0, 0
                    taken.append(piece)
                    rows += int(piece.split.row_count)
                    size += piece.bytes
                parts[-1].append(replace(split, pieces=tuple(taken)))
            self._cut = (number, parts)
        return self._cut[1]

    # Reading

    def read(self, split: ChangedSplit | PaimonSplit) -> Iterator[Change | Reject]:
        """The rows of a split: upserts, then the deletes of keys that are gone.

        Raises TransientError where files are gone, as their snapshot has expired meanwhile.
        """
        if not isinstance(split, ChangedSplit):
            rows = super().read(split)
            yield from self._told_twice(rows) if self.settings.key else rows
            return
        try:
            yield from self._read(split)
        except Stopped:
            return
        except Exception as e:
            raise self._fault(e, split) from e

    def _read(self, split: ChangedSplit) -> Iterator[Change | Reject]:
        table = self._table_of(split)
        keys = TouchedKeys(self._keys_of(table))
        names = [name for name, _ in split.fields]
        lake = self._lake(table, names, keys)
        maker = RowMaker(names, self.context, keys.names)
        prefix, first = f"{split.snapshot}:{split.group.name}:", 0
        for batch in read_group(lake, split.group, keys):
            for at, part in slices(batch):
                yield from self._counted(maker.of(part, prefix, first + at, split.version), part)
            first += batch.num_rows
        for n, gone in enumerate(keys.gone()):
            self.counts.add("rows-read")
            version, origin = split.version - 1, f"{prefix}-{n}"
            yield Change(gone, kind=DELETE, version=version, origin=origin)
        if keys.twice:
            self._tell_twice(keys.names, keys.twice)

    def _lake(self, table: Table, names: Sequence[str], keys: TouchedKeys) -> PaimonLake:
        condition = condition_of(table, self.settings.where)
        return PaimonLake(table, names, keys.names, condition, self.context)

    def _counted(self, items: list[Change | Reject], batch: Any) -> Iterator[Change | Reject]:
        """The rows as updates, since nobody knows whether they were there before."""
        n = 0
        try:
            for n, item in enumerate(items, 1):  # noqa: B007
                if isinstance(item, Change):
                    item.kind = UPDATE
                yield item
        finally:
            # Also where the consumer has had enough: what it took is counted.
            self.counts.add("rows-read", n)
            self.counts.add("bytes-read", batch.nbytes)

    def _fault(self, error: Exception, split: ChangedSplit) -> Exception:
        """What to do about an error of reading; where a snapshot has expired, begin again."""
        if any(isinstance(cause, FileNotFoundError) for cause in causes_of(error)):
            kept = History(self.client().table())
            gone = [n for n in (split.since, split.snapshot) if n and kept.snapshot(n) is None]
            if gone:
                return TransientError(
                    f"step {self.context.step!r}: snapshot {gone[0]} expired while it was read: "
                    f"{told(error)}"
                )
        return self._own(classify(error, self.connection, self.settings.full_name))

    def _told_twice(self, rows: Iterator[Change | Reject]) -> Iterator[Change | Reject]:
        """The rows of a table without a primary key; tells of those with the same key."""
        names, twice = self.settings.key, list[tuple[Any, ...]]()
        seen: set[int] = set()
        for item in rows:
            if isinstance(item, Change) and all(name in item for name in names):
                key = tuple(item[name] for name in names)
                place = hash(key)  # a text of its own would take ten times as much memory
                if place in seen and len(twice) < TOLD:
                    twice.append(key)
                seen.add(place)
            yield item
        if twice:
            self._tell_twice(names, twice)

    def _tell_twice(self, names: Sequence[str], twice: Sequence[tuple[Any, ...]]) -> None:
        """Tells of keys that several rows have; the row that is written last stays."""
        shown = ", ".join(shorten(str(key), 60) for key in twice)
        log.warning(
            "step %r: %s: several rows have the same %s (%s): one of them stays in the target; "
            "name columns in `key` that tell all rows apart",
            self.context.step,
            self.settings.full_name,
            ", ".join(names),
            shown,
        )

    def fetch(
        self, keys: Iterable[tuple[Any, ...]], position: Position | None
    ) -> Iterator[Change | Reject]:
        """The rows of some keys as they are at a position, if it is kept still, or now."""
        yield from self._ask("reading rows by key", lambda: list(self._fetched(keys, position)))

    def _fetched(
        self, keys: Iterable[tuple[Any, ...]], position: Position | None
    ) -> Iterator[Change | Reject]:
        history = self._now()
        number = 0 if position is None else int(position.at["snapshot"])
        kept = history.snapshot(number) or history.latest()
        if kept is None:
            return
        table = history.table
        wanted = TouchedKeys(self._keys_of(table))
        wanted.add_keys(keys)
        names = columns_of(self.settings, schema_of(table))
        lake = self._lake(table, names, wanted)
        maker = RowMaker(names, self.context, wanted.names)
        version = _version(0 if position is None else position.epoch, kept.id)
        first = 0
        for batch in lake.rows_in(history.splits(kept.id), wanted):
            rows = wanted.found(batch)
            yield from maker.of(rows, f"{kept.id}:key:", first, version)
            first += rows.num_rows

    # What is kept from expiry

    def hold(self, name: str, at: Place) -> str | None:
        """Writes the job's consumer: the snapshot of the position and all behind it are kept."""
        return self._ask("writing the consumer", lambda: self._consumer(name).hold(at["snapshot"]))

    def release(self, name: str) -> str | None:
        """Removes the job's consumer."""
        return self._ask("removing the consumer", lambda: self._consumer(name).release())

    def _consumer(self, name: str) -> Consumer:
        return Consumer(self._now().table, name, self._held)

    # Handles

    def _now(self) -> History:
        """The table as it was loaded for this round; loads it where it was not."""
        if self._history is None:
            self._history, self._cut = History(self.client().table()), None
        return self._history

    def _table_of(self, split: ChangedSplit) -> Table:
        """The table for a worker: loaded once for the splits of a round that one stream reads."""
        known = (split.version, split.fields)
        if self._of_round is None or self._of_round[0] != known:
            self._of_round = (known, self.client().table())
        table = self._of_round[1]
        now = numbers_of(table)
        gone = [name for name, number in split.fields if now.get(name) != number]
        if gone:
            raise TransientError(
                f"{self.settings.full_name}: column {gone[0]!r} was renamed or dropped while the "
                "table was read"
            )
        return table

    def _ask(self, what: str, ask: Callable[[], T]) -> T:
        """What the table tells the launcher."""
        try:
            return self.client().call(f"{what} of {self.settings.full_name}", ask)
        except Stopped as e:
            raise TransientError(f"step {self.context.step!r}: {e}") from e
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (FatalError, TransientError) as e:
            raise self._own(e) from e

    def _own(self, error: Exception) -> Exception:
        """An error with the step's name; one that is not of the table is given as it is."""
        if isinstance(error, FatalError):
            return FatalError(self._told(error), error.reason)
        return TransientError(self._told(error)) if isinstance(error, TransientError) else error


class PaimonChangesBetween(PaimonChanges):
    """A source of the changes between two snapshots, once; versions are of epoch 0.

    Args:
      since: the snapshot whose rows are known; 0 is before the first one.
      until: the last snapshot to read; None for the newest one.
    """

    def __init__(
        self,
        settings: PaimonSettings,
        connection: Settings | None,
        context: StepContext,
        *,
        since: int,
        until: int | None = None,
    ) -> None:
        super().__init__(settings, connection, context)
        self._since, self._until = since, until

    def check(self) -> None:
        """Raises JobError where the changes can't be read."""
        self.plan()

    def plan(self, span: Span | None = None) -> Plan:
        """The splits of all changes between the snapshots."""
        return super().plan(span or self._ask("looking for changes", self._between))

    def _between(self) -> Span:
        history = self._now()
        self.require_readable(history.table)
        self._require_followable(history.table)
        until = self._end() if self._until is None else self._snapshot_place(self._until)
        return Span(kind="changes", since=self._snapshot_place(self._since), until=until)


def _version(epoch: int, snapshot: int) -> int:
    """The version of an upsert; the delete of the same snapshot has the version before."""
    return pack(epoch, snapshot << 1 | 1)
