"""Compares the target of a sync with its source as it stands at the sync's position.

The source is read as it is now. A row that changed since the position may rightly differ: the sync
is yet to write it, or wrote it after it was read. So the changes since the position are read as
well, and what they name is not judged. Beside a running sync, such rows get a further look once the
position has moved past them.

Apart from `vecferry.pipelines.run.verify` because a comparison knows neither rounds nor positions.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from vecferry.errors import JobError, TransientError
from vecferry.pipelines.job.resolve import ResolvedJob
from vecferry.pipelines.run.logic import JobLogic
from vecferry.pipelines.run.verify import KINDS, Comparison, Verified, recalled, verify
from vecferry.pipelines.run.whole import Documents, Pair
from vecferry.positions import Position
from vecferry.positions.entries import Stored
from vecferry.positions.store import Positions
from vecferry.rows import Change, Reject
from vecferry.spill import Findings
from vecferry.steps import ChangeSource, RangeSource, Span, Transformer

LOOKS = 3
"""So often a row is looked at that changes all the time."""
PATIENCE_SECONDS = 300.0
"""How long the position of a running sync may stand still before nobody waits for it any more."""
POLL_SECONDS = 0.2

Guard = Callable[[], None]
"""Called for each row; raises where the work must end."""


def no_guard() -> None:
    """Lets everything go on."""


class SourceRows:
    """What a comparison reads of a job: the rows of its source, and what changed in it.

    Args:
      resolved: the job.
      logic: its steps.
      guard: is called for each row that is read.
    """

    def __init__(self, resolved: ResolvedJob, logic: JobLogic, guard: Guard = no_guard) -> None:
        self.logic, self._guard = logic, guard
        writer = resolved.writer.settings
        self.documents = Documents(
            columns=writer.document_key(),
            fields=writer.document_fields(),
            of_reader=resolved.reader.settings.document_key(),
        )
        self.transformers: list[Transformer] = [logic.transformer(s) for s in resolved.transformers]

    @property
    def source(self) -> ChangeSource:
        """The job's source."""
        return self.logic.change_source

    def now(self, epoch: int, stored: Position) -> Iterator[Change | Reject]:
        """All rows of the source as they stand, as a full load of this epoch gives them.

        What changes between two parts of the load is left out. Of documents, those that changed
        since the position are left out.
        """
        source = self.source
        if self.documents.of_reader and isinstance(source, RangeSource):
            # Their versions are numbers of rounds: a full load would give each the first.
            span = source.span_of_keys(stored, None, None)
            yield from self._read(dataclasses.replace(span, epoch=epoch))
            return
        position: Position | None = None
        identity = source.identity()
        while True:
            span = dataclasses.replace(source.span(position), epoch=epoch)
            if span.fresh and position is not None:
                raise TransientError(f"the source began anew while it was read: {span.why}")
            if span.kind == "full":
                yield from self._read(span)
                if span.phase == "changes":
                    return
            position = Position(epoch=epoch, identity=identity, phase=span.phase, at=span.until)

    def _read(self, span: Span) -> Iterator[Change | Reject]:
        for split in self.source.plan(span).splits:
            for item in self.source.read(split):
                self._guard()
                yield item

    def recalled(self, epoch: int, stored: Position) -> Iterator[Pair]:
        """The same, with the rows that come to the writer."""
        now, target = self.now(epoch, stored), self.logic.target
        return recalled(now, self.transformers, target, self.documents)

    def changed(self, position: Position, until: object) -> Iterator[Change | Reject]:
        """What changed from a position to a place, but for its vectors.

        Raises JobError where the source can't be read from there.
        """
        return self.logic.without_vectors(self._changes(position, until))

    def _changes(self, position: Position, until: object) -> Iterator[Change | Reject]:
        while True:
            span = self.source.span(position, until)
            if span.kind == "nothing":
                return
            if span.kind != "changes" or span.fresh:
                why = span.why or "a full load is due"
                raise JobError(
                    f"the source can't be read from the position: {why}; run the job, which reads "
                    "everything anew"
                )
            yield from self._read(dataclasses.replace(span, epoch=position.epoch))
            position = dataclasses.replace(position, at=span.until, phase=span.phase)


def require_loaded(stored: Stored | None, source: ChangeSource, where: str) -> Position:
    """The position of a sync whose full load is in; raises JobError for another one."""
    if stored is None or stored.position is None:
        raise JobError(f"positions {where}: nothing was loaded yet; run the job first")
    position, begun = stored.position, stored.begun
    if position.phase == "full" or (begun is not None and begun.load is not None):
        raise JobError(
            f"positions {where}: a full load is under way, or was broken off; let it come to its "
            "end, and try again"
        )
    identity = source.identity()
    if identity != position.identity:
        raise JobError(
            f"positions {where}: the source is {identity!r} now, and the position is of "
            f"{position.identity!r}; run the job, which reads everything anew"
        )
    return position


def look(
    rows: SourceRows, position: Position, epoch: Callable[[], int], among: Findings | None = None
) -> tuple[Comparison, object]:
    """Compares once; gives the comparison, to be closed, and where the source ended then.

    Args:
      rows: the job's.
      position: the target has all up to there, or more.
      epoch: the greatest epoch that the target may have, asked once the target was read.
      among: compares these rows only; None for all rows.

    Raises:
      JobError, TransientError: as `vecferry.pipelines.run.verify.verify`.
    """
    target = rows.logic.target

    def of_source() -> Iterator[Change | Reject]:
        for _, item in rows.recalled(epoch(), position):
            yield item

    comparison = verify(target, of_source(), among=among, documents=rows.documents)
    try:
        until = rows.source.end()
        if not comparison.result.same:
            changed = rows.changed(position, until)
            comparison.forgive(changed)
    except BaseException:
        comparison.close()
        raise
    return comparison, until


def verify_sync(
    rows: SourceRows, positions: Positions, tell: Callable[[str], None], looks: int = LOOKS
) -> Verified:
    """Compares the target of a sync with its source, whether the sync runs or not; no lease.

    `tell` is called with what a person who waits should know.

    Raises:
      JobError: the two can't be compared now.
    """
    with ExitStack() as stack:
        position = require_loaded(positions.load(), rows.source, positions.where)
        epoch = _epochs(rows, positions, position)
        comparison, until = look(rows, position, epoch)
        stack.callback(comparison.close)
        result = comparison.result
        while result.moving and looks > 1:
            looks -= 1
            tell(f"{result.moving:,} rows changed meanwhile; they are looked at once more")
            moved = _moved_past(rows.source, positions, until)
            if moved is None:
                break
            again, until = look(rows, moved, epoch, comparison.moved)
            stack.callback(again.close)
            comparison = again
            _add(result, again.result)
        return result


def _epochs(rows: SourceRows, positions: Positions, position: Position) -> Callable[[], int]:
    def greatest() -> int:
        stored = positions.load()
        known = [position.epoch, rows.logic.target.epoch() or 0]
        return max([*known, stored.epoch] if stored is not None else known)

    return greatest


def _moved_past(source: ChangeSource, positions: Positions, until: object) -> Position | None:
    """The position of a running sync once it has come to a place; None if it does not come."""
    last: Position | None = None
    patience = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < patience:
        standing = positions.standing()
        position = None if standing.stored is None else standing.stored.position
        if position is None or position.phase == "full":
            return None
        if source.span(position, until).kind == "nothing":
            return position
        if standing.state != "Running":
            return None
        if position != last:
            last, patience = position, time.monotonic() + PATIENCE_SECONDS
        time.sleep(POLL_SECONDS)
    return None


def _add(result: Verified, again: Verified) -> None:
    """Adds what a further look showed of the rows that were not judged."""
    result.equal += again.equal
    result.unknown += again.unknown
    result.moving = again.moving
    for kind in KINDS:
        result.found[kind] += again.found[kind]
        result.examples[kind] += again.examples[kind]
