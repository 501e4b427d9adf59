"""Reads a table of Paimon into rows, without Beam: plans splits of a snapshot, reads one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vecferry.errors import FatalError, JobError, VecferryError, shorten
from vecferry.io.paimon.batches import Batches, DataSplit, read_builder, schema_of
from vecferry.io.paimon.checks import columns_of, notes_of, problems_of
from vecferry.io.paimon.client import PaimonClient, Stopped, Table, classify
from vecferry.io.paimon.condition import Condition
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.values import RowMaker, slices
from vecferry.rows import Change, Reject
from vecferry.settings import Settings
from vecferry.steps import Counts, Plan, Size, StepContext

CHECK_SECONDS = 10.0
"""How long a check waits for a catalog that does not answer."""
SPLIT_BYTES = 64 << 20
"""So many bytes of files make a split, unless one file or one merge has more."""

_PIECES = {"source.split.target-size": "1b", "source.split.open-file-cost": "1b"}
"""Options by which pypaimon cuts as finely as it can: a file, or files to merge, at a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Files that are read together.

    Attributes:
      split: pypaimon's split.
      prefix: how the origins of its rows begin: ``partition/snapshot:bucket:``.
      first: the number of its first row in the bucket.
    """

    split: DataSplit
    prefix: str
    first: int

    @property
    def bytes(self) -> int:
        """How large its files are."""
        return int(self.split.file_size)


@dataclass(frozen=True, kw_only=True)
class PaimonSplit:
    """A part of a snapshot.

    Attributes:
      snapshot: the snapshot's id.
      fields: the columns that are read, with the ids that the table gives them.
      pieces: what is read, in this order.
      version: of the rows; None without versions.
      where: which rows are wanted; None for all.
    """

    snapshot: int
    fields: tuple[tuple[str, int], ...]
    pieces: tuple[Piece, ...]
    version: int | None = None
    where: str | None = None


class PaimonSource:
    """The reader of the stepType paimon; see `vecferry.steps.Source`.

    The origin of a row is ``snapshot:bucket:n``, behind ``key=value/`` for each partition column.
    The number n grows within a bucket. A snapshot that is read again gives each row its origin.
    """

    def __init__(
        self,
        settings: PaimonSettings,
        connection: Settings | None,
        context: StepContext,
        *,
        split_bytes: int = SPLIT_BYTES,
    ) -> None:
        if not isinstance(connection, PaimonConnection):
            raise JobError(
                f"step {context.step!r} needs a data source of the type paimon; name one as "
                "`datasource`"
            )
        self.settings, self.connection = settings, connection
        self.context, self.counts = context, Counts()
        self._split_bytes = split_bytes
        self._planned: Plan | None = None
        self._opened: tuple[tuple[object, ...], Batches] | None = None

    def check(self) -> None:
        """Raises JobError where the table can't be read as the job says. Reads no row."""
        try:
            client = PaimonClient(self.settings, self.connection, self.context, CHECK_SECONDS)
            self._planned = self._plan(client)
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (VecferryError, Stopped) as e:
            raise JobError(self._told(e)) from e

    def plan(self) -> Plan:
        """The splits of the snapshot, and their size; what `check` has planned is used once.

        Raises JobError where the table can't be read as the job says.
        """
        planned, self._planned = self._planned, None
        if planned is not None:
            return planned
        try:
            return self._plan(self.client())
        except JobError as e:
            raise JobError([self._told(p) for p in e.problems]) from e
        except (FatalError, Stopped) as e:
            raise FatalError(self._told(e)) from e

    def client(self) -> PaimonClient:
        """What opens the table, for as long as the step waits."""
        return PaimonClient(self.settings, self.connection, self.context)

    def _plan(self, client: PaimonClient) -> Plan:
        table = client.table(travel(self.settings))
        client.call(f"the state of {self.settings.full_name}", lambda: self._require_state(table))
        self.require_readable(table)
        return client.call(f"planning {self.settings.full_name}", lambda: self.plan_of(table, None))

    def _require_state(self, table: Table) -> None:
        """Raises JobError if the table has no such state as the job names."""
        from pypaimon.snapshot.time_travel_util import TimeTravelUtil

        try:
            TimeTravelUtil.resolve_snapshot(table)
        except ValueError as e:
            manager = table.snapshot_manager()
            first = manager.try_get_earliest_snapshot()
            last = manager.get_latest_snapshot()
            tags = ", ".join(table.list_tags()) or "none"
            kept = f"{first.id} to {last.id}" if first and last else "none"
            raise JobError(
                f"{self.settings.full_name}: {shorten(e)}; it has the snapshots {kept} and the "
                f"tags {tags}"
            ) from e

    def require_readable(self, table: Table) -> None:
        """Raises JobError with everything that the job asks for and the table lacks."""
        schema = schema_of(table)
        problems = problems_of(self.settings, schema)
        try:
            condition_of(table, self.settings.where)
        except JobError as e:
            problems += e.problems
        if problems:
            raise JobError(problems)
        for note in notes_of(table.table_schema.options, table.primary_keys):
            _log.warning("step %r: %s: %s", self.context.step, self.settings.full_name, note)

    def plan_of(self, table: Table, version: int | None, where: str | None = None) -> Plan:
        """The splits of the snapshot that the table's options name, else of its newest one.

        `version` is that of all rows; `where` stands in place of the job's. Raises what pypaimon
        does.
        """
        where = where or self.settings.where
        condition = condition_of(table, where)
        columns = columns_of(self.settings, schema_of(table))
        scan = read_builder(table.copy_without_time_travel(_PIECES), columns, condition).new_scan()
        planned = scan.plan()
        splits = planned.splits()
        ids = {field.name: int(field.id) for field in table.fields}
        whole = PaimonSplit(
            snapshot=int(planned.snapshot_id or 0),
            fields=tuple((name, ids[name]) for name in columns),
            pieces=pieces_of(table, int(planned.snapshot_id or 0), splits),
            version=version,
            where=where,
        )
        rows = [split.merged_row_count() for split in splits]
        told = condition is None and None not in rows
        size = Size(rows=sum(rows) if told else None, bytes=sum(p.bytes for p in whole.pieces))
        return Plan(splits=self._grouped(whole), size=size)

    def _grouped(self, whole: PaimonSplit) -> list[PaimonSplit]:
        groups: list[list[Piece]] = []
        room = 0
        for piece in whole.pieces:
            if not groups or room < piece.bytes:
                groups.append([])
                room = self._split_bytes
            groups[-1].append(piece)
            room -= piece.bytes
        return [replace(whole, pieces=tuple(group)) for group in groups]

    def read(self, split: PaimonSplit) -> Iterator[Change | Reject]:
        """The rows of one split, in order.

        Raises FatalError where the snapshot has expired, or the server refuses.
        """
        try:
            batches = self._batches(split)
            names = [name for name, _ in split.fields]
            maker = RowMaker(names, self.context, self.settings.key)
            for piece in split.pieces:
                yield from self._of(piece, batches, maker, split.version)
        except Stopped:
            return
        except Exception as e:
            error = classify(e, self.connection, self.settings.full_name)
            if error is e:
                raise
            if isinstance(error, FatalError):
                raise FatalError(self._told(error), error.reason) from e
            raise error from e

    def _of(
        self, piece: Piece, batches: Batches, maker: RowMaker, version: int | None
    ) -> Iterator[Change | Reject]:
        at = piece.first
        for batch in batches.of(piece.split):
            for begin, part in slices(batch):
                n = 0
                try:
                    items = maker.of(part, piece.prefix, at + begin, version)
                    for n, item in enumerate(items, 1):  # noqa: B007
                        yield item
                finally:
                    # Also where the consumer has had enough: what it took is counted.
                    self.counts.add("rows-read", n)
                    self.counts.add("bytes-read", part.nbytes)
            at += batch.num_rows

    def reread(self, raw: str | bytes, origin: str) -> Change | Reject:
        """A reject again: what is wrong with a value can be mended in the table only."""
        message = (
            "a reject of a table is not read again; mend the value in the table, or leave the "
            "column out, and run the job again"
        )
        return self.context.reject("not-replayed", message, raw=raw, origin=origin)

    def _batches(self, split: PaimonSplit) -> Batches:
        """The reader of the table as the splits of this snapshot know it."""
        known = (split.snapshot, split.fields, split.where)
        if self._opened is None or self._opened[0] != known:
            table = self.client().table(travel(self.settings))
            now = {field.name: int(field.id) for field in table.fields}
            gone = [name for name, number in split.fields if now.get(name) != number]
            if gone:
                raise FatalError(
                    f"{self.settings.full_name}: column {gone[0]!r} was renamed or dropped while "
                    "the table was read; correct the job, and run it again"
                )
            names = [name for name, _ in split.fields]
            condition = condition_of(table, split.where)
            self._opened = (known, Batches(table, names, condition, self.context))
        return self._opened[1]

    def _told(self, error: object) -> str:
        mark, text = f"step {self.context.step!r}", str(error)
        return text if mark in text else f"{mark}: {text}"


def condition_of(table: Table, where: str | None) -> Condition | None:
    """A condition over the columns of a table; raises JobError for one that is not."""
    return None if where is None else Condition(where, schema_of(table))


def travel(settings: PaimonSettings) -> dict[str, str]:
    """Options by which the table is read as it once was; it has the columns of that time."""
    if settings.snapshot_id is not None:
        return {"scan.snapshot-id": str(settings.snapshot_id)}
    if settings.tag is not None:
        return {"scan.tag-name": settings.tag}
    moment = settings.milliseconds
    return {} if moment is None else {"scan.timestamp-millis": str(moment)}


def pieces_of(table: Table, snapshot: int, splits: Iterable[DataSplit]) -> tuple[Piece, ...]:
    """Splits of pypaimon as pieces, whose rows are numbered within each bucket.

    A piece has at least as many numbers as it can have rows, so how the pieces are grouped does not
    change an origin.
    """
    taken: dict[str, int] = {}
    pieces = []
    keys = list(table.partition_keys)
    for split in splits:
        values = zip(keys, split.partition.values, strict=True) if keys else ()
        partition = "".join(f"{key}={value}/" for key, value in values)
        prefix = f"{partition}{snapshot}:{split.bucket}:"
        first = taken.get(prefix, 0)
        pieces.append(Piece(split=split, prefix=prefix, first=first))
        taken[prefix] = first + int(split.row_count)
    return tuple(pieces)
