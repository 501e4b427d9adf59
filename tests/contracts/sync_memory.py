"""A target in memory for syncs, stepType ``held``: with versions, or without, as stores are.

With `parentKey` it keeps documents whole. What is held outlives runs, so that a sync can be broken
off and gone on with in one process.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.errors import JobError, TransientError
from vecferry.io.sink import STALE, WRITTEN, Outcome, Record, SinkWriter, WriteLimits
from vecferry.io.sink.document_writer import DocumentWriter
from vecferry.io.sink.parents import Trim
from vecferry.io.sink.settings import parent_inputs
from vecferry.kinds import Kind
from vecferry.rows import CHUNK_INDEX, DELETE, Change, Reject
from vecferry.settings import StepSettings
from vecferry.steps import StepContext, Target
from vecferry.stored import Reconciled, SourceKeys, Stored
from vecferry.versions import MAX_EPOCH, first_of


@dataclass
class Held:
    """What one target holds.

    Attributes:
      rows: by key, the row; None where only the version of a delete is left.
      versions: by key, the version of the last change.
      epoch: the mark's; None without one.
      made: whether the target exists.
      prepared: how often it was prepared.
      concluded: how often its last step was done.
      away: whether each call fails with a TransientError.
      called: is told of each call: ``check``, ``prepare``, ``send``, ``reconcile``, ``conclude``.
    """

    rows: dict[Any, dict[str, Any] | None] = field(default_factory=dict)
    versions: dict[Any, int] = field(default_factory=dict)
    epoch: int | None = None
    made: bool = False
    prepared: int = 0
    dropped: int = 0
    concluded: int = 0
    away: bool = False
    called: Callable[[str], None] = lambda call: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def there(self) -> dict[Any, dict[str, Any]]:
        """The rows that a search would find."""
        return {key: row for key, row in self.rows.items() if row is not None}


HELD: dict[str, Held] = {}


def held(name: str) -> Held:
    """What the target of this name holds."""
    return HELD.setdefault(name, Held())


class HeldSettings(StepSettings):
    """What a job says of such a target."""

    name: str
    column: list[str]
    key: str = "id"
    versions: bool = True
    owns_target: bool = True
    recreate: bool = False
    parent_key: tuple[str, ...] = ()

    @property
    def keeps_versions(self) -> bool:
        """As the job says."""
        return self.versions

    def document_key(self) -> list[str]:
        """The columns that name a document."""
        return list(self.parent_key)

    @property
    def needs_datasource(self) -> bool:
        """Memory is always there."""
        return False

    def inputs(self) -> list[str]:
        """The columns that each row must have."""
        return list(dict.fromkeys([*self.column, *parent_inputs(self.parent_key)]))

    def key_columns(self) -> list[str]:
        """The key."""
        return [self.key]

    def outputs(self) -> dict[str, int | None]:
        """No dimension is expected."""
        return {}


class HeldStore:
    """The `vecferry.io.sink.Store` of a target."""

    def __init__(self, settings: HeldSettings) -> None:
        self._settings, self._held = settings, held(settings.name)

    def encode(self, change: Change) -> Record:
        """The change itself."""
        op = "delete" if change.kind == DELETE else "upsert"
        return Record(op, change[self._settings.key], change, 100)

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Puts each record, unless a newer version of its key is there."""
        there = self._held
        there.called("send")
        if there.away:
            raise TransientError("the memory is away")
        with there.lock:
            return [self._put(there, record) for record in records]

    def _put(self, there: Held, record: Record) -> Outcome:
        version = record.body.version
        if self._settings.versions and version is not None:
            if version < there.versions.get(record.key, 0):
                return STALE
            there.versions[record.key] = version
        there.rows[record.key] = None if record.op == "delete" else dict(record.body)
        return WRITTEN

    def document_of(self, change: Change) -> tuple[tuple[Any, ...], int | None]:
        """By the columns of `parentKey`."""
        version = change.version if self._settings.versions else None
        return tuple(change[name] for name in self._settings.parent_key), version

    def trim(self, trims: Sequence[Trim]) -> None:
        """Deletes surplus chunks that are not newer."""
        there = self._held
        there.called("trim")
        with there.lock:
            for trim in trims:
                for key, row in there.there().items():
                    named = tuple(row[name] for name in self._settings.parent_key)
                    newest = trim.version is None or there.versions.get(key, 0) <= trim.version
                    if named == trim.parent and row[CHUNK_INDEX] >= trim.keep and newest:
                        there.rows[key] = None
                        there.versions[key] = trim.version or 0

    def classify(self, error: Exception) -> Exception:
        """They are ours already."""
        return error


class HeldTarget(Target):
    """A target in memory."""

    def __init__(self, settings: HeldSettings, connection: None, context: StepContext) -> None:
        self.settings, self.context = settings, context
        self._held = held(settings.name)

    @property
    def owns_target(self) -> bool:
        """As the job says."""
        return self.settings.owns_target

    def check(self) -> list[str]:
        """Whether the memory is there."""
        self._held.called("check")
        if self._held.away:
            raise JobError("the memory is away")
        return []

    def prepare(self) -> None:
        """Makes the target, or drops what it holds where the job says so."""
        self._held.called("prepare")
        self._held.prepared += 1
        if self.settings.recreate and not self.context.write.resumed:
            self._held.rows.clear()
            self._held.versions.clear()
            self._held.epoch = None
            self._held.dropped += 1
        self._held.made = True

    @property
    def concludes(self) -> bool:
        """As a target with an alias."""
        return True

    def conclude(self) -> list[str]:
        """Counts it."""
        self._held.called("conclude")
        self._held.concluded += 1
        return ["concluded"]

    def unfinished(self) -> str | None:
        """That it was not concluded."""
        return "not concluded"

    def row_count(self) -> int:
        """The rows that a search would find."""
        return len(self._held.there())

    def epoch(self) -> int | None:
        """The mark's."""
        return self._held.epoch

    def remember_epoch(self, epoch: int) -> list[str]:
        """In the mark."""
        if epoch > MAX_EPOCH:
            raise JobError(f"epoch {epoch} is beyond {MAX_EPOCH}")
        self._held.epoch = max(epoch, self._held.epoch or 0)
        return []

    def unversioned(self) -> str | None:
        """That no versions are kept."""
        return None if self.settings.versions else "it keeps no versions"

    def reconcile(self, epoch: int, keys: SourceKeys | None = None) -> Reconciled:
        """By version, or by key."""
        self._held.called("reconcile")
        if self._held.away:
            raise JobError("the memory is away") from TransientError("away")
        if not self.settings.owns_target:
            return Reconciled(note="rows that the source no longer has stay there")
        with self._held.lock:
            there = self._held.there()
        if self.settings.versions:
            first = first_of(epoch)
            gone = [key for key in there if self._held.versions[key] < first]
        else:
            assert keys is not None
            kept = set(self._keys(keys()))
            gone = [key for key in there if key not in kept]
        with self._held.lock:
            for key in gone:
                self._held.rows.pop(key)
        return Reconciled(deleted=len(gone), kept=len(there) - len(gone))

    def scan(self, fields: Sequence[str] | None = None) -> Iterator[Stored]:
        """Each row, as it stands when it comes to it."""
        if self._held.away:
            raise TransientError("the memory is away")
        with self._held.lock:
            there = self._held.there()
        for key, row in there.items():
            wanted = self.settings.column if fields is None else list(fields)
            yield self._stored(key, self._held.versions.get(key), row, wanted)

    def as_stored(self, change: Change) -> Stored | Reject:
        """With all columns that the change has."""
        names = [name for name in self.settings.column if name in change]
        return self._stored(change[self.settings.key], change.version, change, names)

    def key_of(self, change: Change) -> Any:
        """The key column."""
        return change.get(self.settings.key)

    def remove(self, rows: Iterable[Stored], epoch: int) -> Reconciled:
        """Rows of an older epoch."""
        if not self.settings.owns_target:
            return Reconciled(note="rows that the source no longer has stay there")
        deleted = 0
        for row in rows:
            with self._held.lock:
                if self._held.versions.get(row.key, 0) < first_of(epoch):
                    deleted += self._held.rows.pop(row.key, None) is not None
        return Reconciled(deleted=deleted)

    def _stored(
        self, key: Any, version: int | None, row: Mapping[str, Any], names: list[str]
    ) -> Stored:
        version = version if self.settings.versions else None
        values = {n: row[n] for n in names if n != "vector"}
        vectors = {n: row[n] for n in names if n == "vector"}
        return Stored(key=key, version=version, values=values, vectors=vectors)

    def _keys(self, found: Iterator[Change | Reject]) -> Iterator[Any]:
        for change in found:
            assert isinstance(change, Change)
            yield change[self.settings.key]

    def operator(self) -> SinkWriter:
        """The write loop of all stores."""
        store = self.context.once("store", lambda: HeldStore(self.settings))
        kind = DocumentWriter if self.settings.parent_key else SinkWriter
        return kind(store, WriteLimits(rows=20, in_flight=2), self.context)


@dataclass(kw_only=True, eq=False)
class WriteHeld(OperatorTransform):
    """Writes into memory; gives what was written on `written`."""

    settings: HeldSettings
    prepared: bool = False

    main = "written"
    verb = "Write"
    step_type = "held"

    def operator(self, context: StepContext) -> MakeOperator:
        """Makes the writer."""
        return functools.partial(_writer, self.settings, context)


def _writer(settings: HeldSettings, context: StepContext) -> SinkWriter:
    return HeldTarget(settings, None, context).operator()


HERE = "tests.contracts.sync_memory"
KINDS = (Kind("held", "writer", f"{HERE}:HeldSettings", f"{HERE}:HeldTarget", f"{HERE}:WriteHeld"),)
