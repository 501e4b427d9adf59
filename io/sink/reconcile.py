"""Deletes the rows of a target that its source no longer has.

With versions, rows of an older epoch go. Without, keys of the target are compared with keys of the
source. Both are sets: no order of keys is the same in a store and in a source. The target is read
first. A row that is written from then on is not among the rows that may go.

Stands apart from `target` because it knows rows and their keys, and neither marks nor checks.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Protocol

from vecferry.errors import JobError, TerminalError, shorten
from vecferry.instead import KEEP
from vecferry.io.sink.delivery import Courier, Delivery, Entry
from vecferry.io.sink.room import Room
from vecferry.io.sink.store import REJECTED_STATE, STALE_STATE, Record, Store
from vecferry.io.sink.substitutes import Substitutes
from vecferry.rows import DELETE, Change, Reject
from vecferry.spill import Spill
from vecferry.steps import StepContext
from vecferry.stored import Reconciled, SourceKeys, Stored
from vecferry.versions import first_of

DELETED_AT_ONCE = 1000
_UNREADABLE = ("missing-column", "no-key")
"""Why a row has no key though its source gives it: the key was not read."""


class Holdings(Protocol):
    """The rows of one target. A store gives one for each task."""

    keeps_versions: bool
    """Whether the store keeps the version of each row, and refuses an older change."""

    @property
    def uncompared(self) -> Sequence[str]:
        """The fields that the job fills and that `pages` does not give."""

    def pages(self, fields: Sequence[str] | None) -> Iterator[list[Stored]]:
        """All rows, some at a time; see `vecferry.steps.Target.scan`."""

    def stored(self, change: Change) -> Stored:
        """How `pages` would give the row of a change; TerminalError where it can't be written."""

    def key(self, change: Change) -> Hashable:
        """The key of a change; raises TerminalError where it has none."""

    def removal(self, row: Stored, epoch: int) -> Record:
        """What deletes a row unless it is, by now, of `epoch` or a later one."""

    def sweep(self, epoch: int) -> Reconciled | None:
        """Deletes the rows of older epochs by the server's own means; None where it has none."""


class Remover:
    """Deletes rows by the records that a store makes of them, and counts what became of them."""

    def __init__(self, holdings: Holdings, store: Store, context: StepContext, epoch: int) -> None:
        self._holdings, self._epoch = holdings, epoch
        what = f"step {context.step!r}"
        none = Substitutes(store.encode, KEEP, ())  # a delete has no other change in its place
        room = context.once("room", Room)
        self._courier = Courier(store, what, context.retry_deadline, threading.Event(), none, room)
        self.deleted = self.newer = self.refused = 0
        self._why = ""

    def remove(self, rows: Iterable[Stored]) -> None:
        """Deletes rows; one that was written anew meanwhile stays. Raises as `send` does."""
        for some in in_parts(rows, DELETED_AT_ONCE):
            self._remove(some)

    def _remove(self, rows: list[Stored]) -> None:
        records = [self._holdings.removal(row, self._epoch) for row in rows]
        entries = [Entry(Change(kind=DELETE), None, record) for record in records]
        batch = Delivery(entries, {record.key for record in records})
        self._courier.deliver(batch)
        if batch.error is not None:
            raise batch.error
        for _, outcome in batch.done:
            if outcome.state == STALE_STATE:
                self.newer += 1
            elif outcome.state == REJECTED_STATE:
                self.refused += 1
                self._why = self._why or outcome.message
            else:
                self.deleted += 1

    def told(self, kept: int) -> Reconciled:
        """What was done; `kept` rows were not asked to be deleted."""
        note = ""
        if self.refused:
            note = f"{self.refused} rows could not be deleted: {shorten(self._why, 300)}"
        kept += self.newer + self.refused
        return Reconciled(deleted=self.deleted, kept=kept, note=note)


def remove_older(holdings: Holdings, remover: Remover, epoch: int) -> Reconciled:
    """Deletes the rows whose version is less than all of `epoch`, page by page."""
    first, kept = first_of(epoch), 0
    for page in holdings.pages(()):
        old = [row for row in page if row.version is None or row.version < first]
        kept += len(page) - len(old)
        remover.remove(old)
    return remover.told(kept)


def remove_absent(
    holdings: Holdings, remover: Remover, keys: SourceKeys, stopped: Callable[[], bool]
) -> Reconciled:
    """Deletes the rows whose keys the source does not give; none before it has given all.

    Raises:
      JobError: the keys can't be read whole, or `stopped` says that they were not.
    """
    with Spill() as spill:
        for page in holdings.pages(()):
            for row in page:
                spill.left(row.key, repr(row.key).encode("utf-8", "surrogatepass"))
        for item in keys():
            if isinstance(item, Reject):
                return Reconciled(note=_unread(item))
            key = _key(holdings, item)
            if key is not None:
                spill.right(key)
        if stopped():
            raise JobError(
                "the keys of the source were not read to the end, as the run was told to stop: "
                "nothing was deleted; run it again, which reads them anew"
            )
        kept = 0

        def ghosts() -> Iterator[Stored]:
            nonlocal kept
            for met in spill.meet():
                if met.left and not met.right:
                    yield Stored(key=ast.literal_eval(met.left[0].decode("utf-8", "surrogatepass")))
                else:
                    kept += bool(met.left)

        remover.remove(ghosts())
        return remover.told(kept)


def _unread(item: Reject) -> str:
    """Why nothing may be deleted: the key of a record that can't be read may be any."""
    return (
        "rows that the source no longer has stay, as its keys can't be read whole: "
        f"{shorten(item.message, 300)}"
    )


def _key(holdings: Holdings, item: Change) -> Hashable:
    """The key of a source's row; None for a row that the target can't hold."""
    try:
        return holdings.key(item)
    except TerminalError as e:
        if e.reason in _UNREADABLE:
            raise JobError(
                f"the source does not give the key of the target, so nothing was deleted: {e}; "
                "have the reader give the columns of the key"
            ) from e
        return None


def in_parts(rows: Iterable[Stored], most: int) -> Iterator[list[Stored]]:
    """Rows in lists of at most `most`."""
    part: list[Stored] = []
    for row in rows:
        part.append(row)
        if len(part) >= most:
            yield part
            part = []
    if part:
        yield part
