"""What the targets of all stores share: checked, made ready, marked, written to, searched.

A store gives a `Catalog`, which says what stands there, and the hooks of `TargetBase`. The steps
between them, their order, what is told to people and what is waited for are the same for all.
"""

from __future__ import annotations

import abc
import dataclasses
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from vecferry.errors import JobError, TerminalError, TransientError, near
from vecferry.io.sink.document_writer import DocumentWriter
from vecferry.io.sink.mark import Mark, Marking, mark_of
from vecferry.io.sink.reconcile import Holdings, Remover, remove_absent, remove_older
from vecferry.io.sink.store import Store, WriteLimits
from vecferry.io.sink.substitutes import Substitutes
from vecferry.io.sink.values import VectorLike
from vecferry.io.sink.writer import SinkWriter
from vecferry.retry import call_with_retries
from vecferry.rows import DELETE, Change, Reject, Row
from vecferry.steps import OnWords, StepContext
from vecferry.stored import Reconciled, SourceKeys, Stored
from vecferry.versions import MAX_EPOCH, unpack

logger = logging.getLogger(__name__)

QUICK_SECONDS = 5.0
"""How long a job that breaks off waits for a server that is away."""
WRITES_IN_FLIGHT = 4
"""Requests under way at a time from all bundles of a job in one process, unless a store says."""

T = TypeVar("T")


class Described(Protocol):
    """What stands in a store under one name: a collection, an index, a table."""

    @property
    def name(self) -> str:
        """Its own name, also where the job names it by an alias."""

    @property
    def mark(self) -> Mark | None:
        """What made its vectors; None where it does not say."""


I = TypeVar("I", bound=Described)  # noqa: E741


class Catalog(Protocol[I]):
    """What stands in a store under the name that the job writes to.

    Each call raises JobError where the server refuses it or can't be reached. The cause of that
    JobError is a `TransientError` where the same call may pass later; workers then repeat it.
    """

    where: str
    """The server, for messages: ``Milvus at http://host:19530``."""

    def describe(self) -> I | None:
        """What stands there now; None where nothing does. Creates nothing."""

    def absent(self) -> str:
        """That nothing of this name is there, and what is there in its place."""

    def create(self, mark: Mark, replaced: I | None) -> None:
        """Creates it as the job's columns say, with a mark; drops what it replaces first.

        What another worker created meanwhile stays.
        """

    def remember(self, info: I, mark: Mark) -> None:
        """Gives a mark to what stands there."""

    def is_empty(self) -> bool | None:
        """Whether it holds no row; None where it can't be asked, as it is not loaded."""

    def count(self) -> int:
        """How many rows it holds."""


class AliasCatalog(Catalog[I], Protocol[I]):
    """A catalog of a store that knows aliases."""

    def point_alias(self, alias: str, info: I, instead_of: str | None) -> None:
        """Lets an alias name what stands there, and no longer what is called `instead_of`."""


class Encoder(Protocol):
    """Brings rows into the form of a store; see `Store.encode`."""

    def shown(self, change: Change) -> dict[str, Any]:
        """The row as the server would get it, by field; raises TerminalError where it can't be."""


C = TypeVar("C", bound=Catalog[Any])
A = TypeVar("A", bound=AliasCatalog[Any])
S = TypeVar("S", bound=Store)


class TargetBase(abc.ABC, Generic[C, I, S]):
    """A `vecferry.steps.Target` but for what a store must say: its catalog, its store, its encoder.

    `C` is the store's `Catalog`, `I` what that describes, `S` its `Store`. The hooks stand first;
    those with a body may stay as they are.
    """

    noun: ClassVar[str] = "target"
    """What a job writes to, in the store's own word: ``collection``."""
    has_aliases: ClassVar[bool] = False

    ends_load_quickly: ClassVar[bool] = False
    """Whether `build` costs so little that it is also done where a job breaks off."""

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self._undone: str | None = None  # what the load's end makes up for

    @abc.abstractmethod
    def catalog(self) -> AbstractContextManager[C]:
        """The catalog, for one task of the launcher or of a worker; JobError as in `Catalog`."""

    @abc.abstractmethod
    def store(self, catalog: C, info: I) -> S:
        """What writes there; made once in a process, and closed if it has a `close`."""

    @abc.abstractmethod
    def encoder(self, info: I | None) -> Encoder:
        """What shows rows as the server would get them; without `info` it is yet to be created."""

    @property
    def recreates(self) -> bool:
        """Whether the job drops what stands there, and creates it anew."""
        return False

    @property
    def drops(self) -> bool:
        """Whether this run does so: a sync that goes on from a position drops nothing."""
        return self.recreates and not self.context.write.resumed

    def unrepeatable(self) -> str | None:
        """What the settings ask for that is done once in a job, and what to do instead.

        The bundles of a pipeline without a launcher are repeated, so that the pipeline refuses.
        """
        if not self.recreates:
            return None
        return (
            f"schemaCreateMode 'recreate' (or cleanup) would drop the {self.noun} again with each "
            "bundle that is repeated; drop it before the pipeline and use 'createIfNotExist'"
        )

    def sources(self) -> Mapping[str, str]:
        """Field of the target -> column of the row, for what the job lists."""
        return {}

    def filled(self, info: I) -> Mapping[str, str]:
        """Field -> column, for all that the job sends; more than `sources` if it lists nothing."""
        return self.sources()

    @property
    def takes_others(self) -> bool:
        """Whether columns are also written that no field of the target has the name of."""
        return False

    def dimensions(self, info: I) -> Mapping[str, int]:
        """Field -> dimension of its vectors, of all fields of vectors that there are."""
        return {}

    def planned(self, catalog: C) -> I | None:
        """What the job would create, where it says so otherwise than by its columns."""
        return None

    def missing(self, catalog: C) -> list[str]:
        """Why the job can't do without the target, which is not there: it can't be created."""
        return []

    def mismatches(self, catalog: C, info: I) -> list[str]:
        """Why the job's rows do not fit what stands there; workers also ask."""
        return []

    def irreplaceable(self, catalog: C, info: I) -> list[str]:
        """Why a job that `recreates` can't drop what stands there, or not create it anew."""
        return []

    def obstacles(self, catalog: C, info: I | None) -> list[str]:
        """What else keeps the job out: a version, a right, a name; asked by the launcher only."""
        return []

    def notes(self, catalog: C, info: I | None) -> list[str]:
        """What is not a fault, but may surprise people."""
        return []

    def make_ready(self, catalog: C, info: I) -> None:
        """What is done once before rows come, created just now or not: an index, a partition."""

    @property
    def index_when(self) -> str:
        """What the job says of `indexWhen`."""
        return "before"

    def deferred(self, catalog: C) -> Mapping[str, Any] | None:
        """What a target that is created goes without until its load has ended, as a mark keeps it.

        None if there is nothing to be spared. `Catalog.create` is given it in the mark.
        """
        return None

    def build(
        self, catalog: C, info: I, deferred: Mapping[str, Any], on_progress: OnWords
    ) -> list[str]:
        """Makes up for what was deferred, and takes it out of the mark; see `end_load`.

        May be called again for what was broken off, or for what somebody did by hand.
        """
        return []

    def undone(self, catalog: C, info: I, deferred: Mapping[str, Any]) -> str:
        """That this is not made up for yet, and how that is done, in words."""
        return ""

    def limits(self, store: S) -> WriteLimits:
        """How much one request may hold, and how many may be under way from one bundle."""
        return WriteLimits(in_flight=self.in_flight)

    @property
    def in_flight(self) -> int:
        """How many requests one bundle may have under way, that all together have few."""
        return max(1, WRITES_IN_FLIGHT // self.context.shared.parallelism)

    def writer(self, store: S) -> SinkWriter:
        """The writer of one bundle."""
        return SinkWriter(store, self.limits(store), self.context)

    @property
    def document_key(self) -> Sequence[str]:
        """The columns that name the document of a row; the store is then a `ChunkStore`."""
        return ()

    def nearest(
        self, catalog: C, info: I, vector: VectorLike, k: int, vector_column: str | None
    ) -> list[dict[str, Any]]:
        """See `search`."""
        raise JobError(f"{catalog.where} can't be searched; its writer must define `nearest`")

    @property
    def owns_target(self) -> bool:
        """Whether the job may delete rows that it did not write."""
        return False

    def holdings(self, catalog: C, info: I) -> Holdings | None:
        """The rows there, for a sync to compare and to delete; None if the store does not tell."""
        return None

    def check(self) -> list[str]:
        """Whether this job can write there; changes nothing. Gives notes for people, also logged.

        Raises:
          JobError: with every reason why it can't.
        """
        with self.catalog() as catalog:
            info: I | None = catalog.describe()
            self.refuse(self._unready(catalog, info))
            notes = self.note(self.notes(catalog, info))
            if info is None or self.drops:
                return notes
            return [*notes, *self.note(self._marking(catalog, info, unknown=True).remarks())]

    def prepare(self) -> None:
        """Creates what is missing, or drops it and creates it anew, as the job says.

        Once in a job. What holds no row is marked with what makes its vectors.

        Raises:
          JobError: with every reason why it can't be done.
        """
        with self.catalog() as catalog:
            info: I | None = catalog.describe()
            self.refuse(self._unready(catalog, info))
            if info is not None and not self.drops:
                self.make_ready(catalog, info)
                self._remember(catalog, info)
                self._take_up(catalog, info)
                return
            planned = self.planned(catalog)
            filled = self.sources() if planned is None else self.filled(planned)
            mark = mark_of(self.context, filled)
            if self._defers:
                mark = dataclasses.replace(mark, deferred=self.deferred(catalog))
            catalog.create(mark, info)
            created = self._existing(catalog)  # another worker may have been faster, and otherwise
            self.refuse(self.mismatches(catalog, created))
            self.make_ready(catalog, created)
            if mark.deferred is None:
                return
            if created.mark is None:  # nobody would know of it later
                self.build(catalog, created, mark.deferred, _say_nothing)
            else:
                self._take_up(catalog, self._existing(catalog))

    @property
    def _defers(self) -> bool:
        """Whether a target that this run creates is made whole after its load only."""
        write = self.context.write
        return self.index_when == "after" and write.load_ends and not write.resumed

    def _take_up(self, catalog: C, info: I) -> None:
        """Takes over what a load left for later, this run's own or one that was broken off."""
        deferred = None if info.mark is None else info.mark.deferred
        if deferred is None:
            return
        if self.index_when == "before":
            self.note(self.build(catalog, info, deferred, _say_nothing))
            return
        self._undone = self.undone(catalog, info, deferred)
        if self._undone and not self.context.write.load_ends:
            self.note([self._undone])

    def end_load(self, on_progress: OnWords, *, whole: bool = True) -> list[str]:
        """See `vecferry.steps.EndsLoad`; waits for a server that is away."""
        if self._undone is None or not (whole or self.ends_load_quickly):
            return []
        told = call_with_retries(
            lambda: passing(lambda: self._made_up(on_progress)),
            deadline=self.context.retry_deadline if whole else QUICK_SECONDS,
            what=f"step {self.context.step!r}",
        )
        self._undone = None
        return told

    def _made_up(self, on_progress: OnWords) -> list[str]:
        with self.catalog() as catalog:
            info: I | None = catalog.describe()
            if info is None or info.mark is None or info.mark.deferred is None:
                return []  # another run was faster
            return self.build(catalog, info, info.mark.deferred, on_progress)

    @property
    def concludes(self) -> bool:
        """Whether something is left to do once the job is done."""
        return False

    def conclude(self) -> list[str]:
        """The last step of a job that is done; tells what it did. Raises JobError."""
        return []

    def unfinished(self) -> str | None:
        """What `end_load` and `conclude` would have done, in words, for a job that is not done."""
        return self._undone or None

    def operator(self) -> SinkWriter:
        """A writer for one bundle; waits for a server that is away."""
        store: Any = self.patiently("store", self._store)
        if self.document_key:
            return DocumentWriter(store, self.limits(store), self.context)
        return self.writer(store)

    def search(
        self, vector: VectorLike, k: int, vector_column: str | None = None
    ) -> list[dict[str, Any]]:
        """The `k` rows nearest to `vector`, nearest first: `score` and every field but vectors.

        `vector_column` is the field, or the job's column that goes into it; by default the first.
        """
        with self.catalog() as catalog:
            info = self._existing(catalog)
            self.note(self._marking(catalog, info, unknown=True).strangers())
            return self.nearest(catalog, info, vector, k, vector_column)

    def row_count(self) -> int:
        """How many rows the target, or the job's part of it, holds now."""
        with self.catalog() as catalog:
            self._existing(catalog)
            return catalog.count()

    def preview(self, change: Change | Row) -> dict[str, Any] | Reject:
        """The record as the server would get it, or the reject it would become. Writes nothing."""
        change = change if isinstance(change, Change) else Change(change)
        encoder = self.context.once("preview", self._previewer)
        try:
            return encoder.shown(change)
        except TerminalError as e:
            return self.context.reject(e.reason, str(e), row=change)

    def epoch(self) -> int | None:
        """See `vecferry.steps.Target`.

        A target without an epoch in its mark, though the store keeps versions, is read whole.
        """
        with self.catalog() as catalog:
            info: I | None = catalog.describe()
            if info is None:
                return None
            if info.mark is not None and info.mark.epoch is not None:
                return info.mark.epoch
            holdings = self.holdings(catalog, info)
            if holdings is None or not holdings.keeps_versions:
                return None
            pages = holdings.pages(())
            versions = (row.version for page in pages for row in page if row.version is not None)
            newest = max(versions, default=None)
            return None if newest is None else unpack(newest)[0]

    def remember_epoch(self, epoch: int) -> list[str]:
        """See `vecferry.steps.Target`."""
        what = f"step {self.context.step!r}: epoch {epoch}"
        if not 0 <= epoch <= MAX_EPOCH:
            raise JobError(
                f"{what} is beyond {MAX_EPOCH}, the last that versions have room for; fill a new "
                "target (--into NEW), and remove the positions of the old one"
            )
        with self.catalog() as catalog:
            info = self._existing(catalog)
            mark = info.mark or Mark()
            if mark.epoch is not None and mark.epoch >= epoch:
                return []
            why = "the server does not say why"
            try:
                catalog.remember(info, dataclasses.replace(mark, epoch=epoch))
            except JobError as e:
                if isinstance(e.__cause__, TransientError):
                    raise
                why = str(e)
            kept = self._existing(catalog).mark
        if kept is not None and kept.epoch == epoch:
            return []
        return self.note(
            [
                f"{what} was not kept with the {self.noun}: {why}. Keep this sync's positions: "
                "without them the target is read whole for its versions, or filled anew where the "
                "store keeps none"
            ]
        )

    def unversioned(self) -> str | None:
        """See `vecferry.steps.Target`."""
        with self.catalog() as catalog:
            info = self._existing(catalog)
            holdings = self.holdings(catalog, info)
            if holdings is not None and holdings.keeps_versions:
                return None
            return (
                f"{self.noun} {info.name!r} keeps no versions. A change that comes late replaces a "
                "newer one until that one is repeated. After a full load all keys of the source "
                f"are read once more{self.way_to_versions}"
            )

    way_to_versions: ClassVar[str] = ""
    """What a job may say for the store to keep versions: ``; set versionColumn``."""

    def reconcile(self, epoch: int, keys: SourceKeys | None = None) -> Reconciled:
        """See `vecferry.steps.Target`. Without `ownsTarget` nothing is deleted, and told so."""
        with self.catalog() as catalog:
            info = self._existing(catalog)
            what = f"{self.noun} {info.name!r}"
            if not self.owns_target:
                return self._left_alone(catalog, what)
            holdings = self.holdings(catalog, info)
            if holdings is None:
                note = f"{what}: rows that the source no longer has stay, as it can't tell its rows"
                return Reconciled(kept=catalog.count(), note=note)
            if holdings.keeps_versions:
                swept = holdings.sweep(epoch)
                if swept is not None:
                    return swept
                return remove_older(holdings, self._remover(holdings, epoch), epoch)
            if keys is None:
                raise JobError(
                    f"{what} keeps no versions: its source must tell all its keys; set ownsTarget: "
                    "false to keep the rows that the source no longer has"
                )
            remover = self._remover(holdings, epoch)
            return remove_absent(holdings, remover, keys, self.context.state.stop.is_set)

    def remove(self, rows: Iterable[Stored], epoch: int) -> Reconciled:
        """See `vecferry.steps.Target`. Without `ownsTarget` nothing is deleted, and told so."""
        with self.catalog() as catalog:
            info = self._existing(catalog)
            if not self.owns_target:
                return self._left_alone(catalog, f"{self.noun} {info.name!r}")
            remover = self._remover(self._known_holdings(catalog, info), epoch)
            remover.remove(rows)
            return remover.told(0)

    def scan(self, fields: Sequence[str] | None = None) -> Iterator[Stored]:
        """See `vecferry.steps.Target`."""
        with self.catalog() as catalog:
            info = self._existing(catalog)
            for page in self._known_holdings(catalog, info).pages(fields):
                yield from page

    def as_stored(self, change: Change) -> Stored | Reject:
        """See `vecferry.steps.Target`."""
        holdings: Holdings = self.context.once("holdings", self._holdings)
        try:
            return holdings.stored(change)
        except TerminalError as e:
            write = self.context.write
            for instead, stored in Substitutes(holdings.stored, write.on_reject, write.vectors).of(
                change
            ):
                if instead.kind != DELETE:
                    return stored
                break
            try:
                key = holdings.key(change)
            except TerminalError:
                key = None
            return self.context.reject(e.reason, str(e), row=change, key=key)

    def key_of(self, change: Change) -> Hashable:
        """See `vecferry.steps.Target`."""
        try:
            return self.context.once("holdings", self._holdings).key(change)
        except TerminalError:
            return None

    def uncompared(self) -> list[str]:
        """See `vecferry.steps.Target`."""
        return sorted(self.context.once("holdings", self._holdings).uncompared)

    def patiently(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives, made once in a run and process; waits for a server that is away.

        Raises:
          TransientError: the server is still away after `StepContext.retry_deadline`.
          JobError: waiting does not help.
        """
        context = self.context
        return call_with_retries(
            lambda: context.once(what, lambda: passing(make)),
            deadline=context.retry_deadline,
            what=f"step {context.step!r}",
        )

    def refuse(self, problems: list[str]) -> None:
        """Raises a JobError that holds the problems, where there are any."""
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])

    def note(self, notes: list[str]) -> list[str]:
        """Logs notes for people, each once in a run and process; gives them."""
        for text in notes:
            self.context.scope.note_once(logger, self.context.step, text)
        return notes

    def _store(self) -> S:
        with self.catalog() as catalog:
            info = self._existing(catalog)
            self.refuse(self.mismatches(catalog, info))
            self.note(self.notes(catalog, info))
            return self.store(catalog, info)

    def _holdings(self) -> Holdings:
        with self.catalog() as catalog:
            return self._known_holdings(catalog, self._existing(catalog))

    def _known_holdings(self, catalog: C, info: I) -> Holdings:
        holdings = self.holdings(catalog, info)
        if holdings is None:
            raise JobError(
                f"{catalog.where} can't be compared with a source; its writer must define "
                "`holdings`"
            )
        return holdings

    def _remover(self, holdings: Holdings, epoch: int) -> Remover:
        return Remover(holdings, self.patiently("store", self._store), self.context, epoch)

    def _left_alone(self, catalog: C, what: str) -> Reconciled:
        note = (
            f"{what} may hold rows of others, so rows that the source no longer has stay there: "
            "set ownsTarget: true if the job may delete them"
        )
        return Reconciled(kept=catalog.count(), note=note)

    def _previewer(self) -> Encoder:
        with self.catalog() as catalog:
            return self.encoder(catalog.describe())

    def _existing(self, catalog: C) -> I:
        info: I | None = catalog.describe()
        if info is None:
            raise JobError(
                f"{catalog.where}: {catalog.absent()}; correct the name, or run the job first"
            )
        return info

    def _unready(self, catalog: C, info: I | None) -> list[str]:
        """Why the job can't write there."""
        if info is None:
            problems = [*self.missing(catalog), *self._ill_planned(catalog)]
        elif self.drops:
            problems = [*self.irreplaceable(catalog, info), *self._ill_planned(catalog)]
        else:
            marks = self._marking(catalog, info, unknown=True).refusals()
            wasted = self._wasted(f"{self.noun} {info.name!r}", info)
            problems = [*self.mismatches(catalog, info), *marks, *wasted]
        return [*problems, *self.obstacles(catalog, info)]

    def _ill_planned(self, catalog: C) -> list[str]:
        """Why the job's rows would not fit what it would create."""
        info = self.planned(catalog)
        if info is None:
            return []
        what = f"{self.noun} {info.name!r}, which the job would create,"
        return [*self.mismatches(catalog, info), *self._wasted(what, info)]

    def _wasted(self, what: str, info: I) -> list[str]:
        """A problem for each vector that a step makes, which may cost money, and none can store."""
        into = {column: field for field, column in self.filled(info).items()}
        sizes = self.dimensions(info)
        problems = []
        for column, dimension in self.context.write.made.items():
            field = into.get(column)
            if field is not None:
                found = sizes.get(field, dimension)
                if found != dimension:
                    problems.append(
                        f"field {field!r} of {what} takes vectors of {found} dimensions, and the "
                        f"step that makes column {column!r} gives {dimension}; make both the same"
                    )
            elif not self.takes_others:
                known = ", ".join(sizes) or "none"
                problems.append(
                    f"no field of {what} takes the vectors of column {column!r}"
                    f"{near(column, sizes)}; its fields of vectors: {known}. Name one of them as "
                    "embeddingColumnName, map the column, or leave the step out that makes it"
                )
        return problems

    def _marking(self, catalog: C, info: I, *, unknown: bool) -> Marking:
        """The job beside the target's mark; `unknown` stands for rows that can't be asked for."""

        def is_empty() -> bool:
            found = catalog.is_empty()
            return unknown if found is None else found

        what = f"{self.noun} {info.name!r}"
        filled = self.filled(info)
        return Marking(self.context, what, info.mark, filled, is_empty, self.has_aliases)

    def _remember(self, catalog: C, info: I) -> None:
        """Marks what is there, where that is due; where it can't be marked, that is told."""
        marking = self._marking(catalog, info, unknown=False)  # it is loaded now
        self.refuse(marking.refusals())
        self.note(marking.remarks())
        mark = marking.to_write()
        if mark is None:
            return
        try:
            catalog.remember(info, mark)
        except JobError as e:
            self.note([f"what makes the vectors was not kept: {e}"])


class AliasTarget(TargetBase[A, I, S]):
    """A target that an alias may name once the job is done."""

    has_aliases = True

    @property
    @abc.abstractmethod
    def alias(self) -> str | None:
        """The alias that the job gives to the target; None where it gives none."""

    @property
    @abc.abstractmethod
    def target_name(self) -> str:
        """What the job calls the target."""

    @property
    def concludes(self) -> bool:
        """Whether an alias is left to be moved once the job is done."""
        return self.alias is not None

    def conclude(self) -> list[str]:
        """Moves the step's alias to the target; once in a job, after it is done. Tells so.

        Raises:
          JobError: it can't be moved, or the target that the command line named is empty.
        """
        alias = self.alias
        if alias is None:
            return []
        with self.catalog() as catalog:
            info = self._existing(catalog)
            what = f"{self.noun} {info.name!r}"
            if self.context.write.instead_of and catalog.is_empty():
                raise JobError(
                    f"{what} holds no row, so alias {alias!r} was not moved; see why the source "
                    "gave no row, then run again"
                )
            catalog.point_alias(alias, info, self.context.write.instead_of)
        return [f"alias {alias!r} names {what} now"]

    def unfinished(self) -> str | None:
        """See `TargetBase`; also that the alias was not moved."""
        alias, undone = self.alias, super().unfinished()
        unmoved = alias and f"alias {alias!r} was not moved to {self.target_name!r}"
        return "; ".join(filter(None, (undone, unmoved))) or None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


F = TypeVar("F", bound=_Named)


def vector_field(
    what: str, vectors: Sequence[F], sources: Mapping[str, str], name: str | None
) -> F:
    """The one of `vectors` that `name` names, or the column of that name fills; else the first.

    `what` names the target in messages, `sources` is field -> column. Raises JobError.
    """
    into = {column: field for field, column in sources.items()}
    for field in vectors:
        if name is None or field.name in (name, into.get(name)):
            return field
    names = [f.name for f in vectors]
    called = "" if name is None else f" {name!r}"
    way = "name one of these" if names else "search a target that has one"
    raise JobError(
        f"{what} has no vector field{called}{near(name or '', names)} "
        f"(it has {', '.join(names) or 'none'}); {way}"
    )


def _say_nothing(words: str) -> None:
    """For work whose progress nobody follows."""


def passing(call: Callable[[], T]) -> T:
    """What `call` gives; what may pass is a `TransientError`, whatever a person was to be told."""
    try:
        return call()
    except JobError as e:
        if isinstance(e.__cause__, TransientError):
            raise e.__cause__ from None
        raise


def make_writer(
    make_target: Callable[[StepContext], TargetBase[Any, Any, Any]],
    prepared: bool,
    context: StepContext,
) -> SinkWriter:
    """The writer of one bundle; the first one in a process makes the target ready if need be."""
    target = make_target(context)
    if not prepared:
        target.patiently("prepared", lambda: _prepare(target))
    return target.operator()


def _prepare(target: TargetBase[Any, Any, Any]) -> bool:
    target.prepare()
    return True
