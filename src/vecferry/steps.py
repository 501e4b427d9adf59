"""One shape for every step, callable without Beam.

A *source* lists splits and reads a split. A *transformer* and a *writer* are operators. Rows go in
one by one; rows and rejects come out, perhaps later; `finish` gives what is still inside. On a
runner, a DoFn of `vecferry.beam` runs each operator. `vecferry preview` runs them in a loop.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from vecferry.errors import JobError
from vecferry.instead import KEEP, OnReject
from vecferry.money import CURRENCY, shown
from vecferry.positions import Position
from vecferry.positions.place import Place
from vecferry.positions.position import Phase
from vecferry.process import RunScope, RunState, run_scope, run_state
from vecferry.rows import CHUNK_COUNT, CHUNK_INDEX, Change, Reject, Row, Substitute
from vecferry.settings import Maker
from vecferry.stored import Reconciled, SourceKeys, Stored

T = TypeVar("T")

Stamp = Any
"""A row's timestamp and window, opaque to operators; None if all rows have the same."""

Vector = npt.NDArray[np.float32]
"""A vector of one dimension."""

Split = Any
"""A part of a source, opaque to everyone but its source; it can be pickled."""

RETRY_SECONDS = 600.0
"""How long a step waits for a server that is away, unless the run says."""

Emitted = tuple[Change | Reject, Stamp]

OnWords = Callable[[str], None]
"""Takes how far a long piece of work is, in words for a person."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the embedding steps of a run may spend together; None is without bound.

    `nano` are billionths of `currency`.
    """

    requests: int | None = None
    tokens: int | None = None
    nano: int | None = None
    currency: str = CURRENCY

    def named(self, requests: int | None, tokens: int | None, nano: int | None) -> str:
        """Amounts in words; what is None is left out."""
        bounds = {"requests": requests, "tokens": tokens}
        named = [f"{n:,} {name}" for name, n in bounds.items() if n is not None]
        return " and ".join(named + ([] if nano is None else [shown(nano, self.currency)]))

    def spent(self, requests: int, tokens: int, nano: int) -> str:
        """What was spent, in words; money only where the budget bounds it."""
        return f"{self.named(requests, tokens, None if self.nano is None else nano)} are spent"


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What all steps of a run are told alike.

    Attributes:
      id: the name of the run in reports and rejects.
      concurrent: `setting.speed.concurrent`; None if the job says nothing.
      parallelism: the number of streams that the runner works with.
      streams: the most bundles that may read at a time on a cluster; None in one process.
      reports: the folder through which workers and launcher speak; None in one process.
      reject_limit: the most rejects that the job allows; None without a limit.
      budget: what requests may cost.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    concurrent: int | None = None
    parallelism: int = 1
    streams: int | None = None
    reports: str | None = None
    reject_limit: int | None = None
    budget: Budget = Budget()


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a reader is told of the run and of the job behind it.

    Attributes:
      row_limit: how many rows the reader reads in all; None for all rows.
      rows_per_second: the most rows a second in all streams.
      bytes_per_second: the most bytes a second in all streams.
      id_columns: the columns that make the writer's id and routing; None if they are not known.
      mapped_columns: the columns of which something is written; None if any may be.
      readers: how many processes wait for splits, for a source that can cut itself smaller.
    """

    row_limit: int | None = None
    rows_per_second: float | None = None
    bytes_per_second: float | None = None
    id_columns: tuple[str, ...] | None = None
    mapped_columns: tuple[str, ...] | None = None
    readers: int = 1

    @property
    def least_splits(self) -> int:
        """How many splits a source should have, if it can: 16 a reader, who then end together."""
        return 1 if self.readers == 1 else 16 * self.readers


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What a writer must know of the job around it.

    Attributes:
      makers: by column, what the job's own steps make its vectors with.
      made: by column, the dimension of each vector that the job's own steps make.
      force: whether a target may be written to whose vectors another model made.
      instead_of: the job's own target, if the command line named a new one.
      on_reject: what the writer itself sends in place of a change that it rejects.
      vectors: the columns with vectors, as far as the job tells.
      count_keys: whether the distinct keys of the plain rows that are written are counted.
      resumed: whether the target holds what the sync wrote up to its position: nothing is dropped.
      load_ends: whether `EndsLoad.end_load` is called later, so that an index may be built then.
    """

    makers: Mapping[str, Maker] = field(default_factory=dict)
    made: Mapping[str, int] = field(default_factory=dict)
    force: bool = False
    instead_of: str | None = None
    on_reject: OnReject = KEEP
    vectors: tuple[str, ...] = ()
    count_keys: bool = False
    resumed: bool = False
    load_ends: bool = False


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step knows of its run; small, without secrets, pickled with the step.

    Attributes:
      step: the step's name, which its rejects and errors carry.
      step_type: the step's stepType.
      shared: what all steps of the run are told alike.
      read: what a reader is told.
      write: what a writer is told.
      retry_deadline: seconds for the retries of a call; None never gives up.
      on_reject: what `reject` hands on in place of a change. A writer is told by `write`.
      drop: columns that a graph leaves out of the rows behind the step: no later step takes them.
      whole_documents: whether the writer replaces and deletes documents with all their chunks.
      stamped: False if all rows have one timestamp in the global window, which saves 4 µs a row.
    """

    step: str
    step_type: str
    shared: RunContext = field(default_factory=RunContext)
    read: ReadOptions = ReadOptions()
    write: WriteOptions = WriteOptions()
    on_reject: OnReject = KEEP
    retry_deadline: float | None = RETRY_SECONDS
    drop: tuple[str, ...] = ()
    whole_documents: bool = False
    stamped: bool = True

    @property
    def run(self) -> str:
        """The name of the run."""
        return self.shared.id

    @property
    def state(self) -> RunState:
        """What this process knows of the run."""
        return run_state(self.run, self.shared.reject_limit)

    @property
    def scope(self) -> RunScope:
        """What this run has made in this process."""
        return run_scope(self.run)

    def once(self, what: str, make: Callable[[], T]) -> T:
        """The object that all bundles of this step share in this process, called `what`."""
        return self.scope.get((what, self.step), make)

    def in_flight(self, default: int = 16) -> int:
        """How many calls one bundle may have under way (``max(1, concurrent // parallelism)``)."""
        return max(1, (self.shared.concurrent or default) // self.shared.parallelism)

    def share(self) -> float:
        """This process's share of a quota of the whole run, from 0 (excluded) to 1."""
        streams = self.shared.parallelism
        return 1 / streams if self.shared.streams is None else self.state.share(self.step, streams)

    def reject(
        self,
        reason: str,
        message: str,
        *,
        row: Change | None = None,
        raw: str | bytes | None = None,
        origin: str = "",
        key: object = None,
        known: Change | None = None,
        without: Iterable[str] = (),
    ) -> Reject:
        """A reject of this step, with what goes on in its place as `on_reject` says.

        Args:
          reason: a short stable word.
          message: what is wrong and the way out, for a person.
          row: the row as the step got it; None of a reader.
          raw: the record of a reader, as it stands in the source.
          origin: where the row came from; by default what `known` or `row` says.
          key: the row's key: of a writer in its target, of a reader in its source.
          known: what is known of the change behind this step, its key among it; by default `row`.
            A reader gives it where the key of a record that is not a row is known.
          without: the vector columns of this step that failed, if all else is as it should be.
        """
        change = row if known is None else known
        return Reject(
            step=self.step,
            step_type=self.step_type,
            reason=reason,
            message=message,
            row=row,
            raw=raw,
            origin=origin or ("" if change is None else change.origin),
            key=key,
            instead=None if change is None else self.on_reject.of(change, without),
        )


class Counts:
    """Counters of one operator, collected on the bundle's thread and handed on at times.

    Beam ignores counters that another thread increments: call `add` and `observe` on the thread
    that calls the operator.
    """

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.samples: dict[str, list[int]] = {}
        self.keys: list[Hashable] = []

    def add(self, name: str, n: int = 1) -> None:
        """Adds to a counter; the name says the unit, such as ``rows-read``."""
        self.values[name] = self.values.get(name, 0) + n

    def observe(self, name: str, value: float) -> None:
        """Adds a sample to a distribution of whole numbers, such as ``embed-msec``."""
        self.samples.setdefault(name, []).append(round(value))

    def add_keys(self, keys: Collection[Hashable]) -> None:
        """Adds the keys of rows that were written, so that rows which replace others are seen."""
        self.keys += keys
        self.add("rows-keyed", len(keys))

    def take_keys(self) -> list[Hashable]:
        """The keys since the last call."""
        taken, self.keys = self.keys, []
        return taken

    def take(self) -> tuple[dict[str, int], dict[str, list[int]]]:
        """The counters and samples since the last call."""
        taken = self.values, self.samples
        self.values, self.samples = {}, {}
        return taken


def goes_on(reject: Reject, counts: Counts) -> Substitute | None:
    """What goes on in place of a rejected change, counted as a row more; None if nothing does.

    Whoever takes a reject from a step calls this once.
    """
    if reject.instead is not None and not reject.quiet:
        counts.add("rows-added")
        counts.add("rows-replaced")
    return reject.instead


class Operator(Protocol):
    """A transformer or a writer at work in one bundle; used by one thread.

    Each `Emitted` carries the stamp of its own row. A delete (``-D``) passes through transformers.
    `TransientError` and `FatalError` raised here fail the bundle. Every other fault of a row is a
    `Reject`.
    """

    counts: Counts

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a row; gives rows that are ready, this row or earlier rows. May wait."""

    def finish(self) -> list[Emitted]:
        """Gives everything still inside; the operator is ready for the next bundle."""

    def close(self) -> None:
        """Releases what belongs to this operator alone."""


class Transformer(Operator):
    """An operator between the two ends of a job; the defaults here suit a plain step."""

    def check(self) -> None:
        """Tries the service behind the step with one real call; raises JobError."""
        return

    def reach(self) -> None:
        """Connects to the service behind the step without a call, at no cost; raises JobError."""
        return

    def recall(self, changes: list[Change]) -> list[Change | Reject | None]:
        """The rows as the step would give them, one for each, as far as that costs nothing.

        Columns that a service would be asked for, and that no cache holds, are left out. A row that
        the step drops is None.
        """
        out: list[Change | Reject | None] = []
        for change in changes:
            emitted = [*self.process(change), *self.finish()]
            out.append(emitted[0][0] if emitted else None)
        return out

    def recall_all(self, changes: list[Change]) -> list[list[Change | Reject]]:
        """As `recall`, with all rows that the step makes of each."""
        if type(self).recall is not Transformer.recall:
            return [[] if item is None else [item] for item in self.recall(changes)]
        return [[item for item, _ in (*self.process(change), *self.finish())] for change in changes]

    def embed_query(self, query: str | bytes) -> Vector:
        """The vector of a text, or of the bytes of an image, made as for the step's columns."""
        raise JobError("this step makes no vectors, so it can't embed what is searched for")

    @classmethod
    def estimator(cls, settings: Any) -> Estimator | None:
        """Replaces the step in an estimate; None if the step itself runs."""
        return None


class Estimator(Protocol):
    """Replaces a step that calls a service, and counts what the step would send."""

    def process(self, change: Change) -> Change | Reject | None:
        """The row as the step would give it, without the service's part; None if dropped."""

    def estimate(self) -> dict[str, int]:
        """What the rows so far would cost, by name, such as ``requests``."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a source knows of its size beforehand; None means unknown."""

    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a source will give: its splits, and their size together."""

    splits: list[Split]
    size: Size = Size()


class Source(Protocol):
    """A source of rows, cut into splits that can be pickled and read anywhere.

    `read` counts ``rows-read`` for each record, also for a record that becomes a reject. `read`
    counts ``bytes-read`` if the source knows them.
    """

    counts: Counts

    def check(self) -> None:
        """Checks that the source can be reached and read; raises JobError with every fault."""

    def plan(self) -> Plan:
        """The splits to read in parallel, listed once, and their size.

        What `check` has listed is not listed again. Raises JobError if the source is empty.
        """

    def read(self, split: Split) -> Iterator[Change | Reject]:
        """The rows of one split, in order; memory does not grow with the split."""

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """The row of an earlier rejected record `raw`, for a replay."""


@runtime_checkable
class RereadsMany(Protocol):
    """A `Source` of which one rejected record may be several rows, such as the pages of a file."""

    def reread_all(self, raw: str | bytes, origin: str) -> Iterator[Change | Reject]:
        """The rows of an earlier rejected record `raw`, for a replay."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """What one round of a sync reads: fixed before the round begins.

    Attributes:
      kind: a full load or a part of one, changes, or nothing new.
      until: the `Position.at` that holds once the round is DONE.
      since: the `Position.at` from which the round reads; None from the beginning.
      phase: the `Position.phase` that holds once the round is DONE.
      part: which part of a full load, from 0, and of how many; None outside a full load.
      rows: how many rows of a full load lie before the part, and about how many the load has; None
        where the source does not know.
      fresh: whether the round begins a new full load, which begins a new epoch.
      why: why a new full load or a new epoch is needed, in words: no position, another table.
      renews: whether the changes go on under a new epoch, as another server counts its places anew.
      gap: whether changes behind the position are lost, so that nobody knows what was deleted.
        Such a full load needs a target whose rows may be reconciled (`Target.owns_target`).
      epoch: the epoch of the round's versions; the sync sets it before it calls `plan`.
      keys: the first and the last key of the rows that are read once more, as a user wrote them. A
        side without an end is None. `keys` is None where the round does not read a range.
    """

    kind: Literal["full", "changes", "nothing"]
    until: Any
    since: Any = None
    phase: Phase = "changes"
    part: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    fresh: bool = False
    why: str = ""
    gap: bool = False
    renews: bool = False
    epoch: int = 0
    keys: tuple[str | None, str | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far a position is behind its source, in the source's own unit and in seconds."""

    amount: int | None = None
    unit: str = ""
    seconds: float | None = None


class ChangeSource(Source, Protocol):
    """A source that can be followed: a table and what changes in it.

    The launcher asks for a span and its plan; workers only `read`. Nothing is stored here. `check`
    and `plan()` without a span serve a bounded full load. Each change carries a version
    (`vecferry.versions.pack`) of the span's epoch. Rows of a full load carry the version of the
    place up to which everything was surely visible to their reading.
    """

    def identity(self) -> str:
        """Which table or server this is; another text means that positions can't be compared."""

    def keys(self) -> tuple[str, ...]:
        """The columns that tell one row from another, as the rows name them."""

    def span(self, position: Position | None, until: Any = None) -> Span:
        """What to read next, from `position` on, None at first, and not beyond `until`.

        A span is bounded (a million rows or 256 MiB). Raises JobError where the source can't be
        read from there, with what to do; a source that must begin anew gives a fresh span.
        """

    def end(self) -> Any:
        """Where the source ends now, as `Position.at` has it; for ``--until now``."""

    def parse_until(self, text: str) -> Any:
        """A time or a place that a user wrote, as `end` has it; raises JobError."""

    def lag(self, position: Position) -> Lag:
        """How far `position` is behind the source now."""

    def plan(self, span: Span | None = None) -> Plan:
        """The splits of a span, and their size; each split carries the span's epoch."""

    def fetch(self, keys: list[tuple[Any, ...]], position: Position | None) -> Iterator[Change]:
        """The rows of `keys` as they stand at `position`, or now; absent rows are left out."""


@runtime_checkable
class Holds(Protocol):
    """What a `ChangeSource` also does if its source forgets old changes, unless asked to keep them.

    `name` is the job's. What is held stays until `release`, so others must know who holds it.
    """

    def hold(self, name: str, at: Any) -> str | None:
        """Asks the source to keep all that is behind the place `at`, and what is held no longer.

        Called before each round with what is surely stored as the position, so a call may find
        nothing new to do. Gives a note for people where the source does not allow this. Raises
        TransientError.
        """

    def release(self, name: str) -> str | None:
        """Asks for nothing to be kept any more; gives a note as `hold` does."""


@runtime_checkable
class Keeps(Protocol):
    """What a `ChangeSource` also does if a position of its source is too large for one.

    Such a position refers to what is kept beside it, under names that begin as none of the
    positions' own.
    """

    def keep_in(self, place: Callable[[], Place]) -> None:
        """Gives the place of the positions, opened once something is to be kept or read there."""


@runtime_checkable
class RangeSource(Protocol):
    """A `ChangeSource` that can read the rows of a range of keys once more."""

    def span_of_keys(self, position: Position, first: str | None, last: str | None) -> Span:
        """A full span of the rows whose keys lie within `first` and `last`, both included.

        The span leaves the position where it is, and has `Span.keys`. `plan` and `read` take it as
        any span. None is a side without an end. Raises JobError for a text that is not a key.
        """


class Target(Protocol):
    """What a job writes to, as the launcher sees it; `operator` is for the workers.

    A target that inherits from here has no last step unless it says so.
    """

    def check(self) -> list[str]:
        """Checks that the job can write there; changes nothing, and gives notes for people.

        Raises JobError with every reason why the job cannot.
        """

    def prepare(self) -> None:
        """Creates and marks the target, once in a job; raises JobError."""

    @property
    def concludes(self) -> bool:
        """Whether `conclude` has something to do."""
        return False

    def conclude(self) -> list[str]:
        """The last act of a job that is done, such as moving an alias; says what was done."""
        return []

    def unfinished(self) -> str | None:
        """What would have been done once all rows were in, in words; for a job that is not DONE."""
        return None

    def operator(self) -> Operator:
        """A writer for one bundle; retries if a server is away."""

    def preview(self, change: Change | Row) -> dict[str, Any] | Reject:
        """The row as the store would get it, or the reject that the row would become."""

    def search(
        self, vector: Vector, k: int, vector_column: str | None = None
    ) -> list[dict[str, Any]]:
        """The `k` rows nearest to `vector`, nearest first, with their `score`."""

    def row_count(self) -> int:
        """How many rows the target holds now."""

    @property
    def owns_target(self) -> bool:
        """Whether the job may delete rows that it did not write, as `reconcile` does."""
        return False

    def epoch(self) -> int | None:
        """The greatest epoch that was written there; None if the target can't tell.

        Changes of a lesser epoch are stale there. Raises JobError.
        """
        return None

    def remember_epoch(self, epoch: int) -> list[str]:
        """Keeps an epoch with the target, before its first row is written; never a lesser one.

        Gives notes for people where the target can't keep it. Raises JobError for an epoch that
        versions have no room for.
        """
        return []

    def unversioned(self) -> str | None:
        """What a sync loses as the target keeps no versions, in words; None if it keeps them."""
        return None

    def reconcile(self, epoch: int, keys: SourceKeys | None = None) -> Reconciled:
        """Deletes the rows that the source no longer has, after a full load of `epoch`.

        With versions, these are the rows of older epochs. Without, the rows whose keys are not
        among `keys`. Not to run beside a round. Nothing is deleted where `keys` raises.

        Raises:
          JobError: the job does not own the target, or the target can't be reconciled.
          TransientError: the server is still away after `StepContext.retry_deadline`.
        """
        return Reconciled(note="rows that the source no longer has stay in this target")

    def scan(self, fields: Sequence[str] | None = None) -> Iterator[Stored]:
        """Each row that the target holds, in any order, with these fields, in constant memory.

        None stands for all fields that the job fills. Rows written meanwhile may be among them.
        Raises JobError or TransientError as `reconcile` does.
        """
        raise JobError("this target can't be read; its writer must define `scan` for that")

    def as_stored(self, change: Change) -> Stored | Reject:
        """How `scan` would give the row of a change, or the reject that it would become.

        A vector that the change has no column for is left out.
        """
        raise JobError("this target can't be read; its writer must define `as_stored` for that")

    def key_of(self, change: Change) -> Hashable:
        """How `scan` would give the key of a change, a delete as well; None where it has none."""
        raise JobError("this target can't be read; its writer must define `key_of` for that")

    def uncompared(self) -> list[str]:
        """The fields that the job fills, and that `scan` does not give, so nobody compares them."""
        return []

    def remove(self, rows: Iterable[Stored], epoch: int) -> Reconciled:
        """Deletes these rows where they are of an epoch before `epoch`; raises as `reconcile`."""
        raise JobError("this target can't be reconciled; its writer must define `remove` for that")


@runtime_checkable
class EndsLoad(Protocol):
    """What a `Target` also does if it goes without something while it is loaded, as an index."""

    def end_load(self, on_progress: OnWords, *, whole: bool = True) -> list[str]:
        """Makes up for what the target went without, and tells what was done.

        Called once all rows of a job or of a sync's full load are in, before `conclude`. Where they
        are not all in (`whole` False), does only what costs little. `on_progress` is called a few
        times a second; what it raises breaks the work off, and the next run does it. Raises
        JobError or TransientError.
        """


def end_load(target: Target, on_progress: OnWords, *, whole: bool = True) -> list[str]:
    """What `EndsLoad.end_load` tells; nothing of a target that has all from its first row on."""
    return target.end_load(on_progress, whole=whole) if isinstance(target, EndsLoad) else []


class TokenBucket:
    """Paces rows or bytes to a rate; makes up for at most a second."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._due = time.monotonic()

    def wait(self, amount: float, stop: threading.Event | None = None) -> None:
        """Waits until `amount` may pass; a set `stop` event ends the wait."""
        now = time.monotonic()
        self._due = max(self._due, now - 1.0) + amount / self.rate
        if self._due - now < 0.01:
            return
        if stop is None:
            time.sleep(self._due - now)
        else:
            stop.wait(self._due - now)


def paced(
    reader: Source, split: Split, context: StepContext, throttle: tuple[TokenBucket | None, ...]
) -> Iterator[Change | Reject]:
    """The rows of a split within the run's throttle and limit, until the run must stop.

    `throttle` is a bucket for rows and a bucket for bytes; each counts for the whole process.
    """
    state, limit = context.state, context.read.row_limit
    stop = state.stop
    rows, byte_bucket = throttle
    values, seen = reader.counts.values, 0
    for item in reader.read(split):
        if rows is not None:
            rows.wait(1, stop)
        if byte_bucket is not None:
            if values is not reader.counts.values:  # they were taken meanwhile
                values, seen = reader.counts.values, 0
            total = values.get("bytes-read", 0)
            byte_bucket.wait(total - seen, stop)
            seen = total
        if limit is not None and not state.hand_out(limit):
            state.end("limit")
        yield item
        if stop.is_set() or (state.over_limit and not state.goes_on()):
            if context.whole_documents and _is_within(item):
                continue  # a document that is cut off would not be written
            return


def _is_within(item: Change | Reject) -> bool:
    """Whether more rows of one document follow a row of a reader."""
    count = None if isinstance(item, Reject) else item.get(CHUNK_COUNT)
    return bool(count) and item[CHUNK_INDEX] + 1 < count  # type: ignore[index]
