"""A source that a test writes as it goes: a table, and the log of all that happened to it.

`ScriptedTable` is the table as a test sees it: inserts, updates, deletes, changes of keys and
truncations, appended to a file by any process. `ScriptedSource` reads it as the source of a job,
stepType ``scripted`` (`KINDS`), in this process and in workers elsewhere that see the file. The
source can be told to be away, to fail, to read too little, and to be another table from now on.

A full load reads the table as it stands when the split is read, not as it stood when the part was
planned. So a part sees changes that are newer than its low watermark, as the parts of a database
do.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.errors import FatalError, JobError, ReadAnew, TransientError
from vecferry.kinds import Kind
from vecferry.numbers import digits_of
from vecferry.positions import Position
from vecferry.rows import DELETE, INSERT, UPDATE, Change, Reject, Row
from vecferry.settings import StepSettings
from vecferry.steps import Counts, Lag, Plan, Size, Span, StepContext
from vecferry.versions import pack

_HERE = "vecferry.testing.scripted"

Place = dict[str, Any]
"""`Position.at` of a scripted table."""

Word = str | bool | int | float | None
"""What a scripted table can be told."""

KINDS = (
    Kind(
        "scripted",
        "reader",
        settings=f"{_HERE}:ScriptedSettings",
        logic=f"{_HERE}:ScriptedSource",
        transform=f"{_HERE}:ReadScripted",
    ),
)
"""For `vecferry.pipelines.registry.register`."""


class ScriptedTable:
    """A table in a folder: one line of JSON for each thing that happens to it.

    Each call of `insert`, `update`, `delete`, `move`, `truncate` is a transaction of its own;
    `append` makes one of several. A transaction is appended by one `write`, so processes may write
    beside each other.
    """

    def __init__(self, folder: str | Path, key: str = "id") -> None:
        self.folder, self.key = Path(folder), key
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log, self._told = self.folder / "log.jsonl", self.folder / "told.json"
        self._held = self.folder / "held.json"
        self._log.touch()

    def insert(self, row: Row) -> None:
        """A new row."""
        self.append(_put("insert", row))

    def update(self, row: Row) -> None:
        """Other values under the same key."""
        self.append(_put("update", row))

    def delete(self, key: object) -> None:
        """The row is gone."""
        self.append({"op": "delete", "key": key})

    def move(self, key: object, row: Row) -> None:
        """The row of `key` becomes `row`, which has another key."""
        self.append({"op": "move", "key": key, "row": row})

    def truncate(self) -> None:
        """All rows are gone."""
        self.append({"op": "truncate"})

    def append(self, *entries: dict[str, Any]) -> None:
        """One transaction of several entries, as the methods above make them."""
        now = time.time()
        lines = "".join(json.dumps({**entry, "time": now}) + "\n" for entry in entries)
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)

    def end(self) -> int:
        """How many bytes the log has; an unfinished line is left out."""
        end = 0
        for _, end, _ in self.entries(0):  # noqa: B007
            pass
        return end

    def entries(
        self, since: int, until: int | None = None
    ) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """What happened from one place to another: where it begins, where it ends, what it was."""
        with self._log.open("rb") as log:
            log.seek(since)
            place = since
            while until is None or place < until:
                line = log.readline()
                if not line.endswith(b"\n"):
                    return
                begin, place = place, place + len(line)
                yield begin, place, json.loads(line)

    def rows(self, until: int | None = None) -> dict[Any, Row]:
        """The rows by key, now or at a place of the log."""
        rows: dict[Any, Row] = {}
        for _, _, entry in self.entries(0, until):
            if entry["op"] == "truncate":
                rows.clear()
            elif entry["op"] in ("delete", "move"):
                rows.pop(entry["key"], None)
            if "row" in entry:
                rows[entry["row"][self.key]] = entry["row"]
        return rows

    def size(self) -> int:
        """How many bytes the log has, an unfinished line included; costs nothing."""
        return self._log.stat().st_size

    def tell(self, **told: Word) -> None:
        """Tells the source how to behave from now on; None takes a word back.

        - `identity`: what it is called from now on
        - `away`: each call fails with a `TransientError`
        - `fatal`: each call fails with a `FatalError` of this text
        - `breaks_after`: a split fails with a `TransientError` after so many rows
        - `leaves_out`: so many rows at the end of a split are never read
        - `slow`: each row takes so many seconds
        - `forgot`: what happened before this place is known no longer
        - `unnamed`: changes cannot be applied one by one, for this reason
        - `renews`: the next changes go on under a new epoch, for this reason
        - `holds_nothing`: it keeps nothing for anybody, for this reason
        """
        words = {k: v for k, v in {**self.told(), **told}.items() if v is not None}
        part = self._told.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(words))
        part.replace(self._told)

    def told(self) -> dict[str, Any]:
        """What the source was told."""
        try:
            found: dict[str, Any] = json.loads(self._told.read_text())
        except FileNotFoundError:
            return {}
        return found

    def held(self) -> dict[str, Any]:
        """By the name of a job, from which place on the table keeps what happened for it."""
        if not self._held.exists():
            return {}
        found: dict[str, Any] = json.loads(self._held.read_text())
        return found

    def keep(self, held: dict[str, Any]) -> None:
        """What `held` gives from now on."""
        self._held.write_text(json.dumps(held))


def _put(op: str, row: Row) -> dict[str, Any]:
    return {"op": op, "row": row}


class ScriptedSettings(StepSettings):
    """What a job says of a scripted table."""

    path: str = Field(description="the folder of the `ScriptedTable`")
    column: list[str] = Field(default=["id", "text"], description="the columns of the rows")
    key: str = "id"
    mode: Literal["follow", "full"] = Field(
        default="follow", description="whether the table is followed, or read once"
    )
    parts: int = Field(default=1, ge=1, description="the parts of a full load, a round each")
    round_rows: int = Field(default=1000, ge=1, description="the most entries of a round")
    streams: int = Field(default=1, ge=1, description="the splits of a round")

    @property
    def needs_datasource(self) -> bool:
        """The folder is all."""
        return False

    @property
    def follows(self) -> bool:
        """Whether the table is followed."""
        return self.mode == "follow"

    @property
    def poll_seconds(self) -> float:
        """As a log is asked."""
        return 0.1

    def outputs(self) -> dict[str, int | None]:
        """The columns of the table, without vectors."""
        return dict.fromkeys(self.column)


@dataclass(frozen=True, kw_only=True)
class ScriptedSplit:
    """A part of the table, or of what happened to it.

    Attributes:
      full: whether the rows of the table are read, or what happened from `since` to `until`.
      low: the low watermark of the rows.
      part: which part of the keys, and of how many.
      stream: which stream of that part, and of how many.
      epoch: of the versions.
      keys: the first and the last key of the rows; None stands for a side without a bound.
    """

    full: bool
    since: int = 0
    until: int = 0
    low: int = 0
    part: tuple[int, int] = (0, 1)
    stream: tuple[int, int] = (0, 1)
    epoch: int = 0
    keys: tuple[str | None, str | None] | None = None


class ScriptedSource:
    """A `ChangeSource` and `RangeSource` of `vecferry.steps` over a `ScriptedTable`; see there.

    `Position.at` is ``{"offset": bytes}``, and during a full load also which part comes next, of
    how many, and whether changes come before. The ordinal of a version is a place in the log. A row
    of a full load has its low watermark, a change the byte behind its beginning.
    """

    def __init__(self, settings: ScriptedSettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context
        self.table = ScriptedTable(settings.path, settings.key)
        self.counts = Counts()

    def check(self) -> None:
        """Raises JobError where the table is away."""
        try:
            self._ask()
        except (TransientError, FatalError) as e:
            raise JobError(str(e)) from e

    def identity(self) -> str:
        """What the table was told to be."""
        return str(self._ask().get("identity", "scripted"))

    def keys(self) -> tuple[str, ...]:
        """The one key column."""
        return (self.settings.key,)

    def span(self, position: Position | None, until: Place | None = None) -> Span:
        """The next part, or the changes up to `roundRows` entries, alternately in a full load."""
        self._ask()
        if position is None:
            return self._fresh("the table was not read before")
        at: Place = position.at
        if at["offset"] > self.table.size():
            return self._fresh(f"the log ends before the place {at['offset']}")
        if at["offset"] < self.table.told().get("forgot", 0):
            why = f"the log begins behind the place {at['offset']}"
            return replace(self._fresh(why), gap=True)
        part = at.get("part")
        if part is not None and at["turn"] == "part":
            return self._part(at)
        found = self._changes(position, None if until is None else int(until["offset"]))
        renews = self.table.told().get("renews")
        if renews and found.kind == "changes" and at.get("renewed") != renews:
            until = {**found.until, "renewed": renews}
            return replace(found, until=until, renews=True, why=renews)
        return self._part(at) if found.kind == "nothing" and part is not None else found

    def _fresh(self, why: str) -> Span:
        at = {"offset": self.table.end(), "part": 0, "parts": self.settings.parts, "turn": "part"}
        return replace(self._part(at), since=None, fresh=True, why=why)

    def _part(self, at: dict[str, Any]) -> Span:
        part, parts = at["part"], at["parts"]
        last = part + 1 == parts
        after = {} if last else {"part": part + 1, "parts": parts, "turn": "changes"}
        return Span(
            kind="full",
            since=at,
            until={"offset": at["offset"], **after},
            phase="changes" if last else "full",
            part=(part, parts),
        )

    def span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        """The rows whose keys, as texts, lie within."""
        return Span(
            kind="full",
            since=position.at,
            until=position.at,
            phase=position.phase,
            keys=(first, last),
        )

    def _changes(self, position: Position, until: int | None) -> Span:
        at = position.at
        end = at["offset"]
        for n, (_, place, _) in enumerate(self.table.entries(end, until)):
            if n == self.settings.round_rows:
                break
            end = place
        after = {**at, "offset": end} | ({"turn": "part"} if "turn" in at else {})
        kind: Literal["changes", "nothing"] = "changes" if end > at["offset"] else "nothing"
        return Span(kind=kind, since=at, until=after, phase=position.phase)

    def hold(self, name: str, at: Place) -> str | None:
        """See `vecferry.steps.Holds`: seen in `ScriptedTable.held`."""
        refused: str | None = self._ask().get("holds_nothing")
        if refused is None and self.table.held().get(name) != at["offset"]:
            self.table.keep({**self.table.held(), name: at["offset"]})
        return refused

    def release(self, name: str) -> str | None:
        """See `vecferry.steps.Holds`."""
        refused: str | None = self._ask().get("holds_nothing")
        if refused is None:
            self.table.keep({k: v for k, v in self.table.held().items() if k != name})
        return refused

    def end(self) -> Place:
        """The end of the log."""
        self._ask()
        return {"offset": self.table.end()}

    def parse_until(self, text: str) -> Place:
        """A place in the log, or the place where the log stood at a time of ISO 8601."""
        offset = digits_of(text)
        if offset is not None:
            return {"offset": offset}
        try:
            moment = datetime.datetime.fromisoformat(text).timestamp()
        except ValueError:
            raise JobError(
                f"--until {text}: is neither a place in the log nor a time; write a number of "
                "bytes, or 2026-11-29T12:00:00"
            ) from None
        place = 0
        for _, end, entry in self.table.entries(0):
            if entry["time"] > moment:
                break
            place = end
        return {"offset": place}

    def lag(self, position: Position) -> Lag:
        """The entries behind the position, and how old the first of them is."""
        amount, oldest = 0, None
        for _, _, entry in self.table.entries(position.at["offset"]):
            oldest = entry["time"] if oldest is None else oldest
            amount += 1
        seconds = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        return Lag(amount=amount, unit="changes", seconds=seconds)

    def plan(self, span: Span | None = None) -> Plan:
        """As many splits as streams; how many rows there are is known of changes only."""
        self._ask()
        streams = [(n, self.settings.streams) for n in range(self.settings.streams)]
        if span is None or span.kind == "full":
            split = ScriptedSplit(full=True, low=self.table.end())
            if span is not None:
                part = span.part or (0, 1)
                split = replace(split, part=part, epoch=span.epoch, keys=span.keys)
            return Plan(splits=[replace(split, stream=stream) for stream in streams])
        split = ScriptedSplit(
            full=False,
            since=span.since["offset"],
            until=span.until["offset"],
            epoch=span.epoch,
        )
        rows = sum(1 for _ in self._changed(split))
        splits = [replace(split, stream=stream) for stream in streams]
        return Plan(splits=splits, size=Size(rows=rows))

    def read(self, split: ScriptedSplit) -> Iterator[Change | Reject]:
        """The rows of a split; in the order of the log where the split is one of changes."""
        told = self._ask()
        if told.get("unnamed") and not split.full:
            raise ReadAnew(told["unnamed"])
        items = self._rows(split) if split.full else self._changed(split)
        if told.get("leaves_out"):
            items = iter(list(items)[: -told["leaves_out"]])
        for n, item in enumerate(items):
            if n == told.get("breaks_after"):
                raise TransientError("scripted: the connection broke while a split was read")
            if told.get("slow"):
                time.sleep(told["slow"])
            self.counts.add("rows-read")
            yield item

    def _rows(self, split: ScriptedSplit) -> Iterator[Change]:
        version = pack(split.epoch, split.low)
        for key, row in self.table.rows().items():
            if not _within(str(key), split.keys):
                continue
            if _falls(key, *split.part) and _falls(f"s{key}", *split.stream):
                yield Change(row, kind=INSERT, version=version, origin=f"scripted:key={key}")

    def _changed(self, split: ScriptedSplit) -> Iterator[Change]:
        for place, change in self._all_changed(split.since, split.until):
            if _falls(f"s{change[self.settings.key]}", *split.stream):
                change.version = pack(split.epoch, place + 1)
                change.origin = f"scripted:{place}:{change.kind}:{change[self.settings.key]}"
                yield change

    def _all_changed(self, since: int, until: int) -> Iterator[tuple[int, Change]]:
        key = self.settings.key
        for place, _, entry in self.table.entries(since, until):
            if entry["op"] == "truncate":
                for row in self.table.rows(place).values():
                    yield place, Change({key: row[key]}, kind=DELETE)
            if entry["op"] in ("delete", "move"):
                yield place, Change({key: entry["key"]}, kind=DELETE)
            if "row" in entry:
                yield place, Change(entry["row"], kind=_ROW_KINDS[entry["op"]])

    def fetch(self, keys: Iterable[tuple[Any, ...]], position: Position | None) -> Iterator[Change]:
        """The rows of some keys as they stood at the position, or stand now."""
        until = self.table.end() if position is None else position.at["offset"]
        epoch = 0 if position is None else position.epoch
        rows = self.table.rows(until)
        for (key,) in keys:
            if key in rows:
                version = pack(epoch, until)
                yield Change(rows[key], version=version, origin=f"scripted:key={key}")

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """Nothing is ever rejected here."""
        return self.context.reject(
            "cut", "a scripted table rejects nothing", raw=raw, origin=origin
        )

    def _ask(self) -> dict[str, Any]:
        """What the source was told; raises what it was told to fail with."""
        told = self.table.told()
        if told.get("fatal"):
            raise FatalError(f"scripted: {told['fatal']}")
        if told.get("away"):
            raise TransientError("scripted: the table is away")
        return told


_ROW_KINDS = {"insert": INSERT, "update": UPDATE, "move": INSERT}


def _within(key: str, keys: tuple[str | None, str | None] | None) -> bool:
    """Whether a key lies in a range, both ends included."""
    first, last = keys or (None, None)
    return (first is None or first <= key) and (last is None or key <= last)


def _falls(key: object, number: int, of: int) -> bool:
    """Whether a key is of one of so many shares, the same in each process."""
    return of == 1 or zlib.crc32(str(key).encode()) % of == number


@dataclass(kw_only=True, eq=False)
class ReadScripted(ReaderTransform):
    """Reads a scripted table as rows."""

    settings: ScriptedSettings

    step_type = "scripted"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `ScriptedSource`."""
        return functools.partial(ScriptedSource, self.settings, None, context)
